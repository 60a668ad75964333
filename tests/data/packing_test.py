"""What is packed by hand elsewhere is compared in the graph's and the models' tests; here: who makes a Batch."""

import ast
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import ariigcn_jax
from ariigcn_jax.data import packing
from ariigcn_jax.types import PADDING, UNLABELED
from tests.support.builders import corpus

PACKAGE = Path(ariigcn_jax.__file__).parent


def makes_a_batch(node):
    called = node.func if isinstance(node, ast.Call) else None
    return (getattr(called, "id", None) or getattr(called, "attr", None)) == "Batch"


def test_packing_alone_makes_batches():
    trees = {file.relative_to(PACKAGE).as_posix(): ast.parse(file.read_text()) for file in PACKAGE.rglob("*.py")}
    assert {name for name, tree in trees.items() if any(map(makes_a_batch, ast.walk(tree)))} == {"data/packing.py"}


def test_batches_hold_each_utterance_once():
    made = corpus([4, 20, 3, 5], missing=0.3)
    batches = list(packing.batches(made, lambda length: 1))
    assert [b.dialogue.shape for b in batches] == [(1, 24)] * len(batches) and len(batches) == 2
    seen = np.concatenate([b.utterance[b.utterance != PADDING] for b in batches])
    assert sorted(seen.tolist()) == list(range(32))
    for b in batches:
        real = b.utterance != PADDING
        assert (b.n_node.sum(axis=1) == 24).all()
        np.testing.assert_array_equal(b.label[real], made.label[b.utterance[real]])
        assert (b.label[~real] == UNLABELED).all()
        for m, x in b.features.items():
            np.testing.assert_array_equal(b.present[m][real], made.present[m][b.utterance[real]])
            np.testing.assert_array_equal(x[real], made.features[m][b.utterance[real]])
            assert not x[~b.present[m]].any()


def test_one_a_row_is_the_same_in_numpy_and_traced():
    real = np.array([[False, True, True], [True, False, False]])
    arrays = dict(
        features={"text": np.ones((2, 3, 4), np.float32)},
        present={"text": real},
        speaker=np.array([[7, 1, 0], [0, 7, 7]], np.int32),
        real=real,
    )
    plain = packing.one_a_row(**arrays)
    assert plain.n_node.tolist() == [[2, 1], [1, 2]] and plain.speaker.tolist() == [[0, 1, 0], [0, 0, 0]]
    assert plain.utterance.tolist() == plain.dialogue.tolist() == [[-1, 0, 0], [0, -1, -1]]
    traced = jax.jit(lambda given: packing.one_a_row(**given, xp=jnp))(arrays)
    jax.tree.map(np.testing.assert_array_equal, plain, traced)
    assert [x.dtype for x in jax.tree.leaves(plain)] == [x.dtype for x in jax.tree.leaves(traced)]


def test_an_empty_batch_has_the_widths():
    batch = packing.empty({"text": 3, "audio": 2})
    assert {m: x.shape for m, x in batch.features.items()} == {"text": (1, 1, 3), "audio": (1, 1, 2)}
    assert not batch.real.any() and batch.n_node.tolist() == [[0, 1]]


# Lengths of `n` dialogues, drawn by `r`.
MIXTURES = {
    "geometric": lambda r, n: r.geometric(1 / r.uniform(1.5, 40), n),
    "uniform": lambda r, n: r.integers(1, r.integers(3, 200), n),
    "equal": lambda r, n: np.full(n, r.integers(1, 100)),
    "two lengths": lambda r, n: r.choice(r.integers(1, 100, 2), n),
    "three lengths above a half": lambda r, n: r.choice(r.integers(51, 100, 3), n),
    "long and short": lambda r, n: np.where(r.random(n) < r.random(), r.integers(50, 200), r.integers(1, 10, n)),
    "one long among short": lambda r, n: np.append(r.integers(1, 10, n), r.integers(50, 2000)),
    "heavy tail": lambda r, n: np.minimum(1 + 2 * r.pareto(r.uniform(0.6, 2), n), 3000).astype(int),
    "one above many of two thirds": lambda r, n: np.append(r.integers(60, 75, n), 100),
}


@pytest.mark.parametrize("mixture", MIXTURES)
@pytest.mark.parametrize("batch_size", [1, 4, 16, 64])
def test_slots_are_filled_for_any_mixture_of_lengths(mixture, batch_size):
    random = np.random.default_rng(batch_size)
    for count in (1, 2, 3, 5, 13, 31, 60, 100, 400):
        lengths = MIXTURES[mixture](random, count).tolist()
        layout, rows = packing.plan(lengths, batch_size)
        assert sorted(index for row in rows for index in row) == list(range(len(lengths)))
        assert max(sum(lengths[index] for index in row) for row in rows) <= layout.length
        assert len(rows) <= layout.steps * layout.rows
        assert sum(lengths) / layout.slots >= 0.85
        assert layout.steps <= max(1, round(len(lengths) / batch_size))


def short_dialogues():
    """A thousand dialogues of 1 to 10 turns and a few long ones: a step of 16 is little more than the longest."""
    return [77, 76, 70, 64, *(1 + np.random.default_rng(0).geometric(0.2, 988).clip(1, 9)).tolist()]


def test_steps_of_short_dialogues_keep_their_number_and_have_as_many_utterances():
    lengths = short_dialogues()
    layout, rows = packing.plan(lengths, 16)
    assert layout.steps == 62 and layout.rows == 1
    loads = [sum(lengths[index] for index in row) for row in rows]
    assert max(loads) - min(loads) <= min(lengths)
    assert sum(lengths) / layout.slots >= 0.98


def test_steps_grow_where_the_longest_dialogue_is_longer_than_a_step():
    lengths = [1000, *[3] * 3000]
    layout, rows = packing.plan(lengths, 16)
    assert layout.length == 1000 and layout.rows == 1
    assert layout.steps == 11  # 11.8 rows of 1,000 slots would be 85 % full
    assert min(sum(lengths[index] for index in row) for row in rows) >= 850


def test_what_best_fit_fills_stays_as_it_is():
    """A layout decides what a step holds: runs that are repeated need the same."""
    lengths = np.random.default_rng(0).integers(8, 111, 120).tolist()
    assert [tuple(packing.plan(lengths, size)[0]) for size in (8, 16, 32)] == [(15, 3, 165), (8, 6, 151), (4, 12, 151)]
    assert packing.plan(lengths, 16)[1][3] == [58, 70]
