"""What is streamed gives the numbers of what lies on the device, and pieces of long dialogues those of whole ones."""

import dataclasses
import threading

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ariigcn_jax import data as corpora
from ariigcn_jax.data import packing
from ariigcn_jax.nn import graph
from ariigcn_jax.options import base
from ariigcn_jax.training import build
from ariigcn_jax.training.feed import Feed, steps_of_part
from tests.support import builders

TINY = {
    "num_epochs": 4,
    "batch_size": 3,
    "model.hidden": 8,
    "model.contrast_width": 4,
    "model.graph.layers": 2,
    "model.graph.heads": 2,
    "model.graph.past": 1,
    "model.graph.future": 1,
    "model.graph.block": 4,
    "model.gan.generator_hidden": 8,
    "model.gan.discriminator_hidden": 8,
    "optimizer.lr": 1e-2,
}


pytestmark = pytest.mark.usefixtures("quick_compilation")
LIGHT = {"model.graph.layers": 1, "losses.imcl.weight": 0.0, "losses.adversarial.weight": 0.0}


def make(corpus, **changes):
    config = base.get_config()
    config.update_from_flattened_dict(TINY | changes)
    return build.make(config.lock(), corpora.normalisation.apply(corpus, corpora.normalisation.fit(corpus)))


def run(experiment, state, epochs):
    (epoch, _), logs = experiment.training(state), []
    for _ in range(epochs):
        state, row = epoch(state, experiment.data["train"])
        logs.append({name: float(value) for name, value in row.items()})
    outcome = experiment.evaluation("train", state.params)(state.params, experiment.data["train"])
    return state, logs, jax.tree.map(np.asarray, outcome)


def assert_close(one, two, **tolerance):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, **tolerance), one, two)


def test_streamed_equals_on_the_device_and_resumes(tmp_path):
    corpus = corpora.generate(dialogues=20, utterances=(2, 7), classes=3, widths={"text": 5, "audio": 3}, missing=0.1)
    whole = make(corpus, **LIGHT)
    features = {}
    for m, x in corpus.features.items():
        np.save(tmp_path / f"{m}.npy", x)
        features[m] = np.load(tmp_path / f"{m}.npy", mmap_mode="r")
    streamed = make(dataclasses.replace(corpus, features=features), **LIGHT, **{"data.device_megabytes": 0.006})
    data = streamed.data["train"]
    assert data.streamed and not whole.streamed and 1 < data.steps < streamed.steps and streamed.steps % data.steps
    state, logs, outcome = run(whole, whole.init(0), 3)
    other, others, _ = run(streamed, streamed.init(0), 1)
    stored = jax.tree.map(np.array, other.replace(key=jax.random.key_data(other.key)))
    restored = jax.tree.map(jnp.array, stored)
    other, rest, again = run(streamed, restored.replace(key=jax.random.wrap_key_data(restored.key)), 2)
    assert_close(logs, others + rest, rtol=1e-5)
    assert_close(state.params, other.params, rtol=1e-4, atol=1e-5)
    assert_close(outcome, again, atol=1e-5)
    assert outcome["probabilities"].shape == again["probabilities"].shape


def test_the_next_part_is_read_while_one_is_used():
    corpus = builders.corpus([3, 2, 4, 1])
    layout, where = packing.index(corpus, "train", 1)
    read, both = [], threading.Event()

    class Noted(Feed):
        def _read(self, order):
            read.append(order.tolist())
            if len(read) == 2:
                both.set()
            return super()._read(order)

    parts = Noted(corpus, where, layout, 1, 1).parts(lambda: np.arange(layout.steps)[:, None])
    first = next(parts)
    assert both.wait(10) and len(read) == 2
    np.testing.assert_array_equal(first.row, [0])
    assert [part.row.tolist() for part in parts] == [[k] for k in range(1, layout.steps)]
    assert read == [[[k]] for k in range(layout.steps)]


def test_steps_of_a_part_keep_two_of_them_within_the_limit():
    corpus = builders.corpus([6] * 10, {"text": 3})
    layout, where = packing.index(corpus, "train", 2)
    assert layout == (5, 2, 6)
    part = packing.collect(corpus, where, np.arange(2))
    step = sum(np.asarray(x).nbytes for x in jax.tree.leaves(part.replace(n_node=None, row=None, features={})))
    step += part.features["text"].size * 4
    for steps in (1, 2, 4):
        assert steps_of_part(2 * steps * step * 1.1, corpus, layout, where) == steps
    assert steps_of_part(1, corpus, layout, where) == 1
    assert steps_of_part(0, corpus, layout, where) == steps_of_part(1e9, corpus, layout, where) == 5


def test_pieces_of_long_dialogues_give_what_whole_ones_give():
    """One step, nothing random but the order of rows: loss terms, the update and every probability."""
    corpus = corpora.generate(dialogues=6, utterances=(30, 70), classes=3, widths={"text": 5, "audio": 3}, missing=0.1)
    one_step = {"batch_size": 1000, "model.dropout": 0.0, "optimizer.warmup_epochs": 0.0, "losses.imcl.weight": 0.0}
    results = []
    for longest in (0, 25):
        experiment = make(corpus, **one_step, **{"data.longest_row": longest})
        where = experiment.index["train"]
        assert (where.source != where.utterance).any() == (longest > 0)
        state, logs, outcome = run(experiment, experiment.init(0), 1)
        utterance = where.utterance[:-1]
        probabilities = outcome["probabilities"][utterance >= 0][np.argsort(utterance[utterance >= 0])]
        results.append((logs, state.params, probabilities, outcome["confusion"]))
    assert_close(results[0][0], results[1][0], rtol=1e-4)
    assert_close(results[0][2:], results[1][2:], atol=2e-3)


@pytest.mark.parametrize("changes", [{"model.graph.past": -1}, {"model.context": "gru"}, {"model.context": "speaker"}])
def test_dialogues_that_are_heard_as_a_whole_stay_whole(changes):
    config = base.get_config()
    config.update_from_flattened_dict(changes)
    assert graph.reach(config.model) is None
    assert graph.reach(base.get_config().model) == (20, 20)
