"""Several devices give what one device gives; run as a program, this file compares the two on forced host devices."""

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import orbax.checkpoint as ocp
import pytest

from ariigcn_jax import parallel
from ariigcn_jax.data import generate, packing
from ariigcn_jax.options import base
from ariigcn_jax.types import UserError
from tests.support.runs import on_devices

DEVICES = 2
EPOCHS = 2


# --- The other process ------------------------------------------------------------------------------------------------


def config_for(devices):
    """All terms with dropout, on ragged dialogues."""
    config = base.get_config()
    options = {
        "num_epochs": EPOCHS,
        "num_devices": devices,
        "batch_size": 8,
        "model.hidden": 8,
        "model.contrast_width": 4,
        "model.speakers": 2,
        "model.graph.layers": 1,
        "model.graph.heads": 2,
        "model.graph.past": 2,
        "model.graph.future": 2,
        "model.graph.block": 0,
        "model.gan.generator_hidden": 8,
        "model.gan.discriminator_hidden": 8,
        "optimizer.warmup_epochs": 0.0,
        "losses.emotion.fn": "weighted_cross_entropy",
        "checkpoint.every_seconds": 0.0,
    }
    config.update_from_flattened_dict(options)
    widths = {"text": 5, "audio": 3}
    config.data.generate = dict(dialogues=34, utterances=(2, 9), classes=3, widths=widths, missing=0.1)
    return config.lock()


def main(folder):
    """Runs on one device and on several, and on several once more from the last checkpoint, without its results."""
    from ariigcn_jax.runs import session

    for devices in (1, DEVICES):
        session.execute(config_for(devices), str(folder / str(devices)))
    shutil.copytree(folder / str(DEVICES), folder / "resumed")
    (folder / "resumed" / "results.json").unlink()
    session.execute(config_for(DEVICES), str(folder / "resumed"))


# --- The tests --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Work directories of one device, of several, and resumed."""
    folder = tmp_path_factory.mktemp("parallel")
    on_devices(__file__, folder, DEVICES)
    return [folder / name for name in ("1", str(DEVICES), "resumed")]


def read(folder):
    return json.loads((folder / "results.json").read_text())


def arrays(tree):
    """Leaves of nested dictionaries, by path."""
    if isinstance(tree, dict):
        return {f"{key}/{path}": leaf for key, value in tree.items() for path, leaf in arrays(value).items()}
    return {"": np.asarray(tree)}


def assert_close(one, two, **tolerance):
    one, two = arrays(one), arrays(two)
    assert one.keys() == two.keys()
    for path, value in one.items():
        np.testing.assert_allclose(two[path], value, err_msg=path, **tolerance)


def test_rows_of_a_step_leave_a_device_with_an_empty_one():
    """Else the runs below would not show what they are there for."""
    config = config_for(1)
    layout, _ = packing.pack(generate(**config.data.generate.to_dict()), "train", config.batch_size)
    assert layout.rows % DEVICES
    assert layout.rows > DEVICES
    assert layout.steps > 1


def test_losses_equal_those_of_one_device(folders):
    logs = [[json.loads(line) for line in (f / "metrics.jsonl").read_text().splitlines()] for f in folders[:2]]
    assert len(logs[0]) == EPOCHS
    for one, two in zip(*logs, strict=True):
        losses = {"total", "emotion", "unimodal", "adversarial", "iccl", "imcl", "discriminator"}
        assert one["train"].keys() == losses | {"gradient_norm", "discriminator_gradient_norm"}
        assert_close(one["train"], two["train"], rtol=1e-5)


def test_parameters_equal_those_of_one_device(folders):
    with ocp.StandardCheckpointer() as reader:
        one, two = (reader.restore(f / "checkpoints" / str(EPOCHS) / "last") for f in folders[:2])
    np.testing.assert_array_equal(one["key"], two["key"])
    for player in ("params", "discriminators"):
        assert_close(one[player], two[player], rtol=1e-3, atol=2e-5)


def test_scores_equal_those_of_one_device(folders):
    one, two, resumed = map(read, folders)
    for split in ("valid", "test"):
        assert one[split]["confusion"] == two[split]["confusion"]
        assert resumed[split] == two[split]


def test_probabilities_equal_those_of_one_device(folders):
    predictions = [(f / "predictions" / "seed_0.csv").read_text() for f in folders]
    assert predictions[1] == predictions[2]
    one, two = ([line.split(",") for line in text.splitlines()] for text in predictions[:2])
    assert [line[:5] for line in one] == [line[:5] for line in two]
    one, two = (np.array([line[6:] for line in lines[1:]], float) for lines in (one, two))
    np.testing.assert_allclose(one, two, atol=1e-4)


def test_device_count():
    there = parallel.device_count(0)
    assert there >= 1
    assert parallel.device_count(there) == there
    for asked in (-1, there + 1):
        with pytest.raises(UserError, match=rf"num_devices={asked}, .* offers {there} device\(s\)"):
            parallel.device_count(asked)


def test_one_device_needs_no_axis():
    assert parallel.axis_name(1) is None
    assert parallel.axis_name(2) == parallel.AXIS
    x = np.arange(3)
    assert parallel.psum(x, None) is parallel.all_gather(x, None) is parallel.own_share(x, None, 1) is x
    np.testing.assert_array_equal(parallel.unreplicate(parallel.replicate(x, 1), 1), x)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
