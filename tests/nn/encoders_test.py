"""Encoders and context: dialogues that share a row know nothing of each other."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ariigcn_jax.nn import encoders
from tests.support import builders

D = 4


def codes_of(batch, seed=0):
    return jnp.asarray(np.random.default_rng(seed).normal(size=(*batch.dialogue.shape, D)), jnp.float32)


@functools.partial(builders.jit, static_argnums=0)
def apply(module, params, *args):
    return module.apply({"params": params}, *args)


@functools.partial(builders.jit, static_argnums=0)
def in_context(module, params, codes, batch):
    return module.apply({"params": params}, codes, batch.present["text"], batch, False)


def rows():
    """Two rows of 6 slots: dialogues of 2 and 3 and padding; one of 6."""
    return builders.batch([[2, 3], [6]], length=6)


# --- F_m --------------------------------------------------------------------------------------------------------------


def encoded(x, present):
    module = encoders.Encoder(D, dropout=0.0)
    rows = jnp.arange(len(x))
    _, params = builders.init(module, x, present, rows, False)

    def run(params, x):
        return module.apply({"params": params}, x, present, rows, False)

    return run, builders.scattered(params)


def test_one_vector_stands_for_every_missing_utterance():
    batch = builders.batch([[4, 3], [5]], length=7, missing=0.4, seed=1)
    x, present = batch.features["text"], np.asarray(batch.present["text"])
    run, params = encoded(x, batch.present["text"])
    codes = np.asarray(run(params, x))
    real = np.asarray(batch.real)
    assert 0 < (~present & real).sum() < real.sum()
    np.testing.assert_array_equal(codes[~present], np.broadcast_to(params["missing"], codes[~present].shape))
    assert not np.isclose(codes[present], params["missing"]).all(axis=-1).any()
    other = run(params, jnp.where(present[..., None], x, 9.0))
    np.testing.assert_array_equal(other, codes)


def test_only_missing_utterances_teach_the_missing_vector():
    batch = builders.batch([[4]], missing=0.5, seed=2)
    x, present = batch.features["text"], np.asarray(batch.present["text"])
    run, params = encoded(x, batch.present["text"])
    assert 0 < present.sum() < 4
    gradients = builders.jit(jax.jacrev(lambda p: run(p, x)[0].sum(axis=-1)))(params)  # of each utterance's code
    np.testing.assert_array_equal(gradients["missing"].any(axis=-1), ~present[0])
    np.testing.assert_array_equal(gradients["MLP_0"]["Dense_1"]["bias"].any(axis=-1), present[0])


def test_codes_of_an_utterance_depend_on_it_alone():
    batch = builders.batch([[4]])
    x = batch.features["text"]
    run, params = encoded(x, batch.present["text"])
    before, after = run(params, x), run(params, x.at[0, 1].add(1.0))
    changed = np.abs(np.asarray(after - before)).max(axis=-1)[0] > 1e-6
    np.testing.assert_array_equal(changed, [False, True, False, False])


# --- GRU --------------------------------------------------------------------------------------------------------------


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def loop_gru(params, x, reverse):
    """One dialogue x [T, d] -> [T, D], Cho et al.'s equations with the reset gate behind the recurrent product."""
    dense = {k: np.float64(v) for k, v in params["Dense_0"].items()}
    W, bias = np.float64(params["recurrent"]), np.float64(params["recurrent_bias"])
    state, states = np.zeros(D), [None] * len(x)
    for t in reversed(range(len(x))) if reverse else range(len(x)):
        (r, z, n), (R, Z, N) = (np.split(v, 3) for v in (x[t] @ dense["kernel"] + dense["bias"], state @ W))
        r, z = sigmoid(r + R), sigmoid(z + Z)
        state = (1 - z) * np.tanh(n + r * (N + bias)) + z * state
        states[t] = state
    return np.stack(states)


@pytest.mark.parametrize("reverse", [False, True])
def test_gru_runs_each_dialogue_as_if_alone(reverse):
    batch, module = rows(), encoders.GRU(D, reverse=reverse)
    x = codes_of(batch)
    params = builders.scattered(builders.init(module, x, batch.dialogue)[1])
    packed = np.asarray(apply(module, params, x, batch.dialogue))
    for row, first, size in ((0, 0, 2), (0, 2, 3), (1, 0, 6)):
        own = slice(first, first + size)
        alone = apply(module, params, x[row : row + 1, own], batch.dialogue[row : row + 1, own])
        np.testing.assert_allclose(packed[row, own], alone[0], atol=1e-6)
        np.testing.assert_allclose(packed[row, own], loop_gru(params, np.asarray(x[row, own]), reverse), atol=1e-5)


# --- Context ----------------------------------------------------------------------------------------------------------


def context(kind, batch):
    module = encoders.Context(kind, D, heads=2, dropout=0.0)
    _, params = builders.init(module, codes_of(batch), batch.present["text"], batch, False)
    return functools.partial(in_context, module, builders.scattered(params))


def test_no_context_changes_nothing():
    batch = rows()
    codes = codes_of(batch)
    module = encoders.Context("none", D, heads=2, dropout=0.0)
    np.testing.assert_array_equal(module.apply({}, codes, batch.real, batch, False), codes)


@pytest.mark.parametrize("kind", ["gru", "attention", "speaker"])
def test_context_ignores_other_dialogues_and_padding(kind):
    batch = rows()
    run, codes = context(kind, batch), codes_of(batch)
    own = np.zeros((2, 6), bool)
    own[0, 2:5] = True  # the second dialogue, with another before and padding behind
    before = np.asarray(run(codes, batch))
    after = np.asarray(run(jnp.where(own[..., None], codes, 4 - codes), batch))
    np.testing.assert_allclose(after[own], before[own], atol=1e-6)
    assert np.isfinite(after).all()


@pytest.mark.parametrize("kind", ["gru", "attention"])
def test_context_reaches_a_whole_dialogue(kind):
    batch = rows()
    run, codes = context(kind, batch), codes_of(batch)
    before = np.asarray(run(codes, batch))
    for changed in (0, 5):  # the first and the last utterance are heard by all of their dialogue
        after = np.asarray(run(codes.at[1, changed].set(2 - codes[1, changed]), batch))
        assert (np.abs(after - before)[1].max(axis=-1) > 1e-7).all()
        np.testing.assert_allclose(after[0], before[0], atol=1e-6)


@pytest.mark.parametrize("kind", ["gru", "attention", "speaker"])
def test_context_is_residual(kind):
    batch = rows()
    codes = codes_of(batch)
    module = encoders.Context(kind, D, heads=2, dropout=0.0)
    zero = jax.tree.map(jnp.zeros_like, builders.init(module, codes, batch.present["text"], batch, False)[1])
    np.testing.assert_allclose(in_context(module, zero, codes, batch), codes, atol=1e-6)


def test_speaker_mean_is_of_one_speaker_in_one_dialogue():
    # three speakers each; numbers of speakers begin anew in every dialogue, and some have nothing of the modality
    batch = builders.batch([[9, 1, 7], [4, 12]], length=20, speakers=3, missing=0.5, seed=3)
    codes, present = codes_of(batch), np.asarray(batch.present["text"])
    mean = np.asarray(builders.jit(encoders.speaker_mean)(codes, batch.present["text"], batch))
    silent = 0
    for row, slot in np.argwhere(np.asarray(batch.real)):
        same = (batch.dialogue[row] == batch.dialogue[row, slot]) & (batch.speaker[row] == batch.speaker[row, slot])
        heard = np.asarray(codes)[row][np.asarray(same) & present[row]]
        silent += not len(heard)
        np.testing.assert_allclose(mean[row, slot], heard.mean(axis=0) if len(heard) else np.zeros(D), atol=1e-6)
    assert 0 < silent < 10
