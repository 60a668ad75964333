"""What is packed by hand elsewhere is compared in the graph's and the models' tests; here: who makes a Batch."""

import ast
import dataclasses
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import ariigcn_jax
from ariigcn_jax.data import packing
from ariigcn_jax.types import PADDING, UNLABELED, WORDS, Words
from tests.support.builders import WIDTHS, corpus

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


# --- Tokens -----------------------------------------------------------------------------------------------------------


def spoken(dialogues, tokens, seed=0, widths=WIDTHS, **fields):
    """Conversations of which each utterance has so many tokens, drawn by `tokens`; token n has the id n % 50 + 4."""
    made = corpus(dialogues, widths, seed=seed)
    lengths = tokens(np.random.default_rng(seed), len(made))
    start = np.concatenate([[0], np.cumsum(lengths)])
    ids = (np.arange(start[-1]) % 50 + 4).astype(np.int32)
    pooled = np.random.default_rng(1).random(len(ids)) < 0.6
    words = Words(ids, start, pooled, **{"first_position": 0, "width": 16, **fields})
    return dataclasses.replace(
        made,
        features={WORDS: np.zeros((len(made), 0), np.float32), **made.features},
        present={WORDS: lengths > 0, **made.present},
        words=words,
    )


def some(random, count):
    """Up to 12 tokens, and now and then none."""
    return random.integers(0, 13, count)


def test_token_rows_hold_each_token_once_and_an_utterance_s_together():
    made = spoken([4, 9, 3, 5, 7], some)
    _, where = packing.index(made, "train", 2)
    held = where.token[where.token != PADDING]
    assert sorted(held.tolist()) == list(range(len(made.words.ids)))
    for row, (token, slot) in enumerate(zip(where.token, where.token_slot, strict=True)):
        assert ((token == PADDING) == (slot == PADDING)).all()
        for own, places in zip(token, slot, strict=True):
            for place in np.unique(places[places != PADDING]):
                u = where.source[row, place]
                np.testing.assert_array_equal(own[places == place], np.arange(*made.words.start[[u, u + 1]]))
                assert np.ptp(np.flatnonzero(places == place)) == made.words.lengths[u] - 1


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("batch_size", [4, 16, 32])
def test_what_is_computed_are_tokens_for_the_most_part(batch_size, seed):
    """A thousand utterances about as long as MELD's, in dialogues as long as its own."""
    dialogues = np.random.default_rng(seed).integers(2, 18, 105).tolist()
    made = spoken(dialogues, lambda r, n: r.integers(3, 41, n), seed)
    layout, where = packing.index(made, "train", batch_size)
    assert packing.token_fill(where) == np.mean(where.token[:-1] != PADDING) >= 0.85
    assert layout.steps == round(105 / batch_size)


def test_positions_begin_anew_with_each_utterance():
    made = spoken([4, 6, 3], some, first_position=2)
    _, batch = packing.pack(made, "train", 8)
    slot, position = (np.asarray(x) for x in (batch.tokens.slot, batch.tokens.position))
    for r, q in np.ndindex(slot.shape[:2]):
        for place in np.unique(slot[r, q][slot[r, q] != PADDING]):
            own = position[r, q][slot[r, q] == place]
            assert own.tolist() == list(range(2, 2 + len(own)))
    assert not position[slot == PADDING].any()


@pytest.mark.parametrize("given", ["ids", "states"])
def test_padding_is_empty_and_in_no_vector(given):
    made = spoken([4, 6, 3], some)
    states = None
    if given == "states":
        states = np.random.default_rng(0).normal(size=(len(made.words.ids), 4)).astype(np.float32)
        states[0] = 9  # padding is not the first token
    made = dataclasses.replace(made, words=dataclasses.replace(made.words, states=states))
    _, where = packing.index(made, "train", 8)
    tokens = packing.tokens(made.words, where.token, where.token_slot)
    real = where.token != PADDING
    held = getattr(tokens, given)
    assert (tokens.ids is None) != (tokens.states is None)
    np.testing.assert_array_equal(held[real], getattr(made.words, given)[where.token[real]])
    np.testing.assert_array_equal(tokens.pooled[real], made.words.pooled[where.token[real]])
    assert not real.all() and not held[~real].any() and not tokens.pooled[~real].any()


def test_context_of_a_piece_has_its_tokens_too():
    made = spoken([40, 3], lambda r, n: r.integers(1, 6, n))
    _, where = packing.index(made, "train", 8, longest=12, reach=(1, 1))
    assert (where.source != where.utterance).any()
    for row in range(len(where.source)):
        slots = where.token_slot[row]
        expected = np.flatnonzero(where.source[row] != PADDING).tolist()
        assert np.unique(slots[slots != PADDING]).tolist() == expected


@pytest.mark.parametrize("given", ["ids", "states"])
@pytest.mark.parametrize("silent", [[0], [2], [0, 1, 2]])
def test_dialogues_without_any_words_are_packed(silent, given):
    made = spoken([4, 6, 3], lambda r, n: np.where(np.isin(np.repeat([0, 1, 2], [4, 6, 3]), silent), 0, 5))
    if given == "states":
        states = np.ones((len(made.words.ids), 4), np.float32)
        made = dataclasses.replace(made, words=dataclasses.replace(made.words, states=states))
    _, batch = packing.pack(made, "train", 2)
    assert sorted(batch.utterance[batch.utterance != PADDING].tolist()) == list(range(13))
    assert (np.asarray(batch.tokens.slot) != PADDING).sum() == len(made.words.ids)
    assert packing.index(made, "test", 2)[0].steps == 1  # without any dialogue


def test_corpora_without_words_have_no_tokens():
    made = corpus([4, 6, 3], missing=0.2)
    _, where = packing.index(made, "train", 2)
    assert where.token is where.token_slot is None
    assert packing.pack(made, "train", 2)[1].tokens is None
    assert packing.empty({"text": 3}).tokens is None


def test_tokens_of_chosen_utterances():
    words = spoken([4, 6, 3], some).words
    words = dataclasses.replace(words, states=words.ids[:, None].astype(np.float32))
    chosen = np.array([11, 2, 5])
    taken = words.take(chosen)
    for n, u in enumerate(chosen):
        mine, own = slice(*taken.start[[n, n + 1]]), slice(*words.start[[u, u + 1]])
        for field in ("ids", "pooled", "states"):
            np.testing.assert_array_equal(getattr(taken, field)[mine], getattr(words, field)[own])
