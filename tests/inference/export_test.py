"""The exported folder answers as the model does, in a process that cannot import this package."""

import dataclasses
import datetime
import importlib.metadata
import json
import shutil
import subprocess
import sys

import jax
import numpy as np
import pytest

from ariigcn_jax import cli
from ariigcn_jax.data import normalisation, traced
from ariigcn_jax.inference import export, model_card, standalone
from ariigcn_jax.objective import tasks
from ariigcn_jax.types import UserError
from tests.support import runs

safetensors = pytest.importorskip("safetensors.numpy", reason="safetensors is not installed (extra: export)")
pytestmark = pytest.mark.usefixtures("quick_compilation")

# Run in the artefact's folder by an isolated interpreter, whose path holds neither this project nor the folder itself.
ANSWER = """
import json, sys
sys.path.insert(0, ".")
sys.modules.update({name: None for name in ("ariigcn_jax", "flax", "jraph", "optax", "orbax")})
try:
    import ariigcn_jax
except ImportError:
    from emotions import load
    answer = load(".")
    print(json.dumps([answer(conversation) for conversation in json.load(sys.stdin)]))
"""


def answers(folder, conversations):
    done = subprocess.run(
        [sys.executable, "-I", "-c", ANSWER],
        cwd=folder,
        input=json.dumps(conversations),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize(
    "changes",
    [
        {"members": 2, "data.ranked": ("audio",), "data.dialogue_normalised": ("a",)},
        pytest.param({}, marks=pytest.mark.slow),
        pytest.param(
            {"model.context": "gru", "data.speaker_normalised": ("audio",), "data.ranked": ("t",)},
            marks=pytest.mark.slow,
        ),
        pytest.param(
            {"model.context": "attention", "model.graph.past": -1, "model.graph.kernel": "edges"},
            marks=pytest.mark.slow,
        ),
        pytest.param({"model.context": "speaker"}, marks=pytest.mark.slow),
        pytest.param({"model.graph.layers": 0}, marks=pytest.mark.slow),
    ],
)
def test_answers_as_the_model_does(tmp_path, changes):
    model = runs.load(tmp_path / "run", changes, temperature=1.5)
    folder = export.write(model, tmp_path / "out", longest=64)
    about = json.loads((folder / "model.json").read_text())
    assert about["modalities"] == [{"name": m, "width": width} for m, width in runs.WIDTHS.items()]
    conversations = [runs.conversation(length, seed=length) for length in (1, 40)]
    for given, got in zip(conversations, answers(folder, conversations), strict=True):
        expected = model([{k: v for k, v in u.items() if k != "dialogue_id"} for u in given])
        probabilities = [list(one["probabilities"].values()) for one in got]
        np.testing.assert_allclose(probabilities, expected.probabilities, atol=1e-5)
        assert [one["emotion"] for one in got] == expected.emotions


def test_artefact_is_for_all_platforms_any_size_and_holds_its_numbers(tmp_path):
    import jax

    model = runs.load(tmp_path / "run", temperature=1.5)
    folder = export.write(model, tmp_path / "out")
    names = {"model.stablehlo", "parameters.safetensors", "model.json", "emotions.py", "README.md"}
    assert {file.name for file in folder.iterdir()} == names
    exported = jax.export.deserialize(bytearray((folder / "model.stablehlo").read_bytes()))
    assert exported.platforms == ("cpu", "cuda", "tpu")
    assert [str(size) for size in exported.out_avals[0].shape] == ["b", "t", "3"]
    weights = safetensors.load_file(folder / "parameters.safetensors")
    assert weights["temperature"] == np.float32(1.5)
    np.testing.assert_array_equal(weights["normalisation/audio/mean"], model.normalisation.mean["audio"])
    kernel = "params/classifier/Dense_1/kernel"
    np.testing.assert_array_equal(weights[kernel], model.params["classifier"]["Dense_1"]["kernel"])
    heads = {name.split("/")[1] for name in weights if name.startswith("params/")}
    layers = {f"graph_{m}_{k}" for m in runs.WIDTHS for k in range(2)}
    entrance = {f"{part}_{m}" for m in runs.WIDTHS for part in ("encoder", "speaker")}
    assert heads == {*layers, *entrance, "LayerNorm_0", "classifier"} < set(model.params)


RICH = {"members": 2, "data.ranked": ("audio",), "data.dialogue_normalised": ("a",), "model.graph.past": -1}


def test_refreshed_folder_answers_as_before_without_the_run(tmp_path, monkeypatch):
    model = runs.load(tmp_path / "run", RICH, temperature=1.5)
    folder = export.write(model, tmp_path / "out", longest=64, platforms=("cpu",))
    shutil.rmtree(tmp_path / "run")
    conversations = [runs.conversation(5, seed=5)]
    given = [standalone.load(folder)(conversation) for conversation in conversations]
    before = {file.name: file.read_bytes() for file in folder.iterdir()}
    (folder / "model.stablehlo").write_bytes(b"of an older JAX")
    (folder / "emotions.py").unlink()
    with pytest.raises(ValueError, match=r"cannot read model\.stablehlo"):
        standalone.load(folder)
    monkeypatch.setattr(export, "__version__", "9.9")
    assert cli.main(["export", "--refresh", str(folder)]) == 0
    assert [standalone.load(folder)(conversation) for conversation in conversations] == given
    after = {file.name: file.read_bytes() for file in folder.iterdir()}
    assert {name for name in before if before[name] != after[name]} <= {"model.json", "model.stablehlo"}
    assert json.loads(after["model.json"])["made"]["ariigcn-jax"] == "9.9"


def test_folder_carries_its_date_and_versions(tmp_path):
    folder = export.write(runs.load(tmp_path / "run"), tmp_path / "out", platforms=("cpu",))
    made = json.loads((folder / "model.json").read_text())["made"]
    assert datetime.date.fromisoformat(made["date"]) <= datetime.date.today()
    assert (made["jax"], made["jaxlib"]) == (jax.__version__, importlib.metadata.version("jaxlib"))
    assert made["calling_convention"] == jax.export.maximum_supported_calling_convention_version
    assert "six months" in (folder / "README.md").read_text()


def test_program_that_jax_refuses_says_what_to_do(tmp_path):
    made = {"date": "2026-01-31", "jax": "0.10.2"}
    (tmp_path / "model.json").write_text(json.dumps({"made": made}))
    (tmp_path / "model.stablehlo").write_bytes(b"of another version")
    safetensors.save_file({"x": np.ones(2, np.float32)}, tmp_path / "parameters.safetensors")
    words = r"which JAX 0\.10\.2 made on 2026-01-31 .* six months\. Install jax==0\.10\.2, .* --refresh FOLDER"
    with pytest.raises(ValueError, match=f"(?s)JAX {jax.__version__} cannot read model.stablehlo, {words}"):
        standalone.load(tmp_path)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda about: about.pop("network"), "does not describe the network, as older versions wrote it"),
        (
            lambda about: about["network"]["options"].update(hidden=8),
            r"LayerNorm_0/bias for one is \(8,\), and the network takes \(16,\)",
        ),
        (lambda about: about["network"]["options"].pop("hidden"), "by version 0.0.1 "),
        (lambda about: about["network"].update(members=3), "the network takes"),
        (lambda about: about["network"]["options"]["graph"].update(layers=1), "the network takes not there"),
    ],
)
def test_folder_that_this_version_cannot_build_stays_as_it_is(tmp_path, change, words):
    folder = export.write(runs.load(tmp_path / "run"), tmp_path / "out", platforms=("cpu",))
    about = json.loads((folder / "model.json").read_text())
    about["made"]["ariigcn-jax"] = "0.0.1"
    change(about)
    (folder / "model.json").write_text(json.dumps(about))
    before = {file.name: file.read_bytes() for file in folder.iterdir()}
    with pytest.raises(UserError, match=words):
        export.refresh(folder)
    assert {file.name: file.read_bytes() for file in folder.iterdir()} == before


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--refresh", "nowhere"], "nowhere/model.json: cannot be read"),
        (["--run", "run"], "--run needs --out"),
    ],
)
def test_wrong_arguments_of_the_tool(capsys, arguments, words):
    assert cli.main(["export", *arguments]) == 1
    assert words in capsys.readouterr().err


def test_task_whose_answers_the_folder_cannot_write_is_refused(tmp_path, monkeypatch):
    assert set(standalone.TASKS) == set(tasks.TASKS)
    monkeypatch.setitem(tasks.TASKS, "high", tasks.get("classification"))
    model = dataclasses.replace(runs.load(tmp_path / "run"), task="high")
    with pytest.raises(UserError, match=r"task=high cannot be exported, only classification, regression, multilabel"):
        export.write(model, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_exported_ranks_are_those_of_training():
    random = np.random.default_rng(0)
    x = np.round(random.normal(size=(40, 5)), 1).astype(np.float32)
    x[:, 1], x[:, 2], x[:, 3] = 7, x[:, 2] > 1, x[:, 3] * 1e4
    asked = np.concatenate([x, x + 0.01, [[-np.inf] * 5, [np.inf] * 5, [0] * 5]]).astype(np.float32)
    for count in (2, 9, 40):
        known = np.quantile(x, np.linspace(0, 1, count), axis=0).astype(np.float32)
        np.testing.assert_allclose(traced._rank(asked, known), normalisation.rank(asked, known), atol=1e-5)


def test_card_says_what_the_run_recorded(tmp_path):
    options = {"data.speaker_normalised": ("audio",), "data.dialogue_normalised": ("a", "t"), "data.ranked": ("text",)}
    options |= {"model.context": "speaker", "experiment": "a|b <i>"}
    model = runs.load(tmp_path / "run", options)
    text = model_card.text(model, None)
    assert "# a\\|b &lt;i>: emotions in conversations" in text
    assert '"features": {"text": [0.0] * 3, "audio": [0.0] * 2}' in text
    assert "| text | 3 | yes | dialogue |" in text
    assert "| audio | 2 | no | speaker, dialogue |" in text
    assert "| train | 3 | 15 | 15 |" in text
    assert "The run was not finished: this is epoch 7" in text
    assert "not calibrated" in text
    assert "Each graph layer attends to 1 later utterance(s)" in text
    assert "Its context encoder reads the whole conversation" in text
    assert "Copies of features are standardised over the whole conversation" in text


def test_a_program_that_calls_outside_of_itself_is_not_loaded(tmp_path):
    """Such a call may be one back into Python."""
    call = jax.ffi.ffi_call("xla_python_cpu_callback_or_so", jax.ShapeDtypeStruct((2,), np.float32))
    check = jax.export.DisabledSafetyCheck.custom_call("xla_python_cpu_callback_or_so")
    hostile = jax.export.export(jax.jit(call), disabled_checks=[check])(np.ones(2, np.float32))
    (tmp_path / "model.stablehlo").write_bytes(hostile.serialize())
    (tmp_path / "model.json").write_text("{}")
    safetensors.save_file({"x": np.ones(2, np.float32)}, tmp_path / "parameters.safetensors")
    with pytest.raises(ValueError, match="calls xla_python_cpu_callback_or_so outside of itself"):
        standalone.load(tmp_path)
