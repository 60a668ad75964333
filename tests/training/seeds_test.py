"""However seeds share the hardware, each does what its run alone does; run as a program, this file trains them in every
way on forced host devices."""

import sys
from pathlib import Path
from types import SimpleNamespace

import jax
import numpy as np
import pytest

from ariigcn_jax import parallel
from ariigcn_jax.data import prepare
from ariigcn_jax.runs import session
from ariigcn_jax.training import seeds
from ariigcn_jax.types import PADDING, UserError
from tests.parallel_test import DEVICES, config_for
from tests.support.runs import on_devices

SEEDS = 3  # which the devices cannot share evenly
EPOCHS = 2
CHANGES = {  # way → the way in which it goes on after an epoch, where that is another one
    "threads": "threads",
    "vmap": "vmap",
    "devices": "devices",
    "vmap, devices": "devices",
    "devices, threads": "threads",
}


# --- Members ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("split", ["valid", "test"])
def test_a_validation_answer_is_the_one_member_s_that_left_the_utterance_out(split):
    """Two seeds of three members, two rows of two slots, the last of them empty, and the row that pads."""
    utterance = np.array([[2, 0], [1, PADDING], [PADDING, PADDING]])
    answers = np.arange(2 * 3 * 2 * 2, dtype=np.float32).reshape(6, 2, 2, 1)
    experiment = SimpleNamespace(
        index={name: SimpleNamespace(utterance=utterance) for name in ("valid", "test")},
        count=lambda split, mine: mine.sum(axis=(0, 1)),
    )
    inner = SimpleNamespace(
        way="", numbers=range(6), experiment=experiment, evaluate=lambda split, params: {"probabilities": answers}
    )
    fold = np.array([1, 2, 0, -1])  # of each utterance, the member that leaves it out
    found = seeds.Members(inner, range(2), fold).evaluate(split, None)
    apart = answers.reshape(2, 3, 2, 2, 1)
    expected = apart.mean(axis=1)
    if split == "valid":
        expected = np.stack([np.stack([[of[0, 0, 0], of[1, 0, 1]], [of[2, 1, 0], of[0, 1, 1]]]) for of in apart])
    np.testing.assert_array_equal(found["probabilities"], expected)
    np.testing.assert_array_equal(found["confusion"], expected.sum(axis=(1, 2)))


# --- The other process ------------------------------------------------------------------------------------------------


def make(way, first=0, count=SEEDS):
    """Dropout, contrast and a moving average; what takes long to compile is left out."""
    config = config_for(DEVICES if way == "devices" else 1).copy_and_resolve_references()
    config.update(seed=first, num_seeds=count, seeds_by=way, num_epochs=EPOCHS)
    config.optimizer.average = 0.5
    config.model.graph.layers = 0
    config.data.generate.update(dialogues=14, widths={"text": 5})
    for slot in ("unimodal", "adversarial", "imcl"):
        config.losses[slot].weight = 0.0
    return seeds.make(config, prepare.standardise(session.load(config))[0])


def story(begun, ended):
    """What seeds log and end with, name → [S, ...]; all but seed 1 find their best parameters in the first epoch."""
    states, found = begun.init(), {}
    states, found["logs 1"] = begun.train(states)
    weights = begun.weights(states)
    zeros = begun.place(jax.tree.map(np.zeros_like, begun.host(weights)))
    best = begun.keep(np.array(begun.numbers) != 1, weights, zeros)
    if ended is not begun:
        last = begun.host(states)
        states = ended.place(last.replace(key=jax.random.wrap_key_data(last.key)))
        best = ended.place(begun.host(best))
    found["signatures"] = ended.diagnose(states)
    states, found["logs 2"] = ended.train(states)
    found |= ended.evaluate("valid", ended.weights(states))
    found["best"], found["last"] = ended.host(best), ended.host(states)
    leaves = jax.tree.leaves_with_path(found)
    return {jax.tree_util.keystr(path): leaf for path, leaf in leaves}


def main(folder):
    """Writes the story of seed 1 alone, and those of all seeds in every way."""
    alone = make("sequence", 1, 1)
    np.savez(folder / "alone.npz", **story(alone, alone))
    ways = {way: make(way) for way in ("sequence", "vmap", "devices")}
    one_by_one = ways["sequence"]
    ways["threads"] = seeds.Separate("threads", one_by_one.numbers, one_by_one.experiment, threads=2)
    for name, ended in {"sequence": "sequence", **CHANGES}.items():
        np.savez(folder / f"{name}.npz", **story(ways[name.partition(",")[0]], ways[ended]))


# --- The tests --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def stories(tmp_path_factory):
    """Name → what the other process wrote."""
    folder = tmp_path_factory.mktemp("seeds")
    said = on_devices(__file__, folder, DEVICES)
    assert "Warning" not in said
    return {file.stem: dict(np.load(file)) for file in folder.glob("*.npz")}


@pytest.mark.slow
def test_seed_of_a_sequence_does_what_it_does_alone(stories):
    assert stories["sequence"].keys() == stories["alone"].keys()
    for path, value in stories["alone"].items():
        np.testing.assert_array_equal(stories["sequence"][path][1], value[0], err_msg=path)


@pytest.mark.slow
@pytest.mark.parametrize("name", CHANGES)
def test_seeds_do_what_they_do_in_a_sequence(stories, name):
    assert stories[name].keys() == stories["sequence"].keys()
    for path, value in stories["sequence"].items():
        mine, exact = stories[name][path], name == "threads" or value.dtype != np.float32
        assert len(mine) == SEEDS and mine.dtype == value.dtype, path
        np.testing.assert_allclose(mine, value, rtol=0 if exact else 1e-4, atol=0 if exact else 1e-5, err_msg=path)


@pytest.mark.slow
@pytest.mark.parametrize("name", CHANGES)
def test_the_best_is_kept_for_each_seed(stories, name):
    best = [x for path, x in stories[name].items() if path.startswith("['best']")]
    assert not any(x[1].any() for x in best)
    assert any(np.abs(x[0] - x[2]).max() > 1e-3 for x in best)


@pytest.mark.parametrize(
    "num_seeds, num_devices, streamed, backend, way",
    [
        (1, 1, False, "cpu", "sequence"),
        (10, 1, False, "cpu", "threads"),
        (10, 1, False, "gpu", "vmap"),
        (10, 1, True, "gpu", "sequence"),
        (10, 1, True, "cpu", "sequence"),
        (10, 4, False, "gpu", "devices"),
        (4, 4, False, "cpu", "devices"),
        (3, 4, False, "gpu", "sequence"),
        (10, 4, True, "gpu", "sequence"),
    ],
)
def test_the_way_that_is_chosen(monkeypatch, num_seeds, num_devices, streamed, backend, way):
    monkeypatch.setattr(jax, "default_backend", lambda: backend)
    assert seeds.choose("auto", num_seeds, num_devices, streamed=streamed) == way


def test_processes_take_seed_after_seed(monkeypatch):
    monkeypatch.setattr(parallel, "processes", lambda: 2)
    assert seeds.choose("auto", 10, 4) == seeds.choose("sequence", 10, 4) == "sequence"
    with pytest.raises(UserError, match="seeds_by=devices is not possible here: several processes"):
        seeds.choose("devices", 10, 4)


@pytest.mark.parametrize(
    "way, devices, streamed, words",
    [
        ("vmap", 2, False, "uses one device, and num_devices=2; set num_devices=1"),
        ("threads", 2, False, "uses one device"),
        ("devices", 1, False, "num_devices=1; set num_devices=0 for all"),
        ("vmap", 1, True, r"data\.device_megabytes"),
        ("devices", 2, True, r"data\.device_megabytes"),
    ],
)
def test_what_is_not_possible_is_refused_in_words(way, devices, streamed, words):
    with pytest.raises(UserError, match=rf"seeds_by={way} is not possible here: .*{words}"):
        seeds.choose(way, 10, devices, streamed=streamed)


def test_streamed_data_are_read_seed_after_seed():
    config = config_for(1).copy_and_resolve_references()
    config.update(num_seeds=2)
    config.data.device_megabytes = 1e-3
    corpus = prepare.standardise(session.load(config))[0]
    assert seeds.make(config, corpus).way == "sequence"
    config.seeds_by = "vmap"
    with pytest.raises(UserError, match=r"seeds_by=vmap is not possible here: data\.device_megabytes"):
        seeds.make(config, corpus)


def test_unknown_way_is_refused_before_a_folder_is_made(tmp_path):
    config = config_for(1).copy_and_resolve_references()
    config.seeds_by = "vmaps"
    with pytest.raises(UserError, match="seeds_by='vmaps' must be one of auto, threads, vmap"):
        session.execute(config, str(tmp_path / "run"))
    assert not (tmp_path / "run").exists()


def test_ways_that_there_are():
    assert seeds.possible(1) == ["threads", "vmap", "sequence"]
    assert seeds.possible(4) == ["devices", "sequence"]


if __name__ == "__main__":
    main(Path(sys.argv[1]))
