"""What is packed by hand elsewhere is compared in the graph's and the models' tests; here: who makes a Batch."""

import ast
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

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
