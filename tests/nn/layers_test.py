"""Dropout that follows the row's number, the MLP, and unit vectors."""

import functools
import math

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ariigcn_jax.nn import layers
from tests.support import builders

KEY = jax.random.key(3)
SHAPE = (7, 5)  # 35 entries: not a multiple of the four bytes of a word


@functools.partial(builders.jit, static_argnums=(0, 4))
def dropped(module, key, x, rows, train=True):
    return module.apply({}, x, rows, train, rngs={"dropout": key})


def ones(count):
    return jnp.ones((count, *SHAPE))


@pytest.mark.parametrize("rate", [0.1, 0.3, 0.5, 0.9])
def test_rate_and_scale(rate):
    count = 400
    y = np.asarray(dropped(layers.Dropout(rate), KEY, ones(count), jnp.arange(count)))
    share = np.mean(y == 0)
    assert abs(share - rate) < 1 / 512 + 4 * math.sqrt(rate * (1 - rate) / y.size)
    kept = y[y != 0]
    assert (kept == kept[0]).all()
    rounded = round(rate * 256) / 256
    np.testing.assert_allclose(kept[0], 1 / (1 - rounded), rtol=1e-6)  # what keeps the expectation


def test_every_entry_is_dropped_equally_often():
    count = 2000
    y = np.asarray(dropped(layers.Dropout(0.5), KEY, ones(count), jnp.arange(count)))
    assert np.abs((y == 0).mean(axis=0) - 0.5).max() < 5 * 0.5 / math.sqrt(count)


def test_mask_follows_key_and_row_number_alone():
    y = dropped(layers.Dropout(0.5), KEY, ones(6), jnp.arange(6))
    order = jnp.array([4, 1, 5])
    np.testing.assert_array_equal(dropped(layers.Dropout(0.5), KEY, ones(3), order), y[order])
    for k in range(6):
        np.testing.assert_array_equal(dropped(layers.Dropout(0.5), KEY, ones(1), jnp.array([k]))[0], y[k])


def test_mask_differs_between_rows_and_keys():
    y = dropped(layers.Dropout(0.5), KEY, ones(6), jnp.arange(6))
    assert len({np.asarray(row).tobytes() for row in y}) == 6
    other = dropped(layers.Dropout(0.5), jax.random.fold_in(KEY, 1), ones(6), jnp.arange(6))
    assert not np.array_equal(y, other)


def test_mask_does_not_depend_on_values():
    x = jax.random.normal(KEY, (6, *SHAPE))
    y, mask = (dropped(layers.Dropout(0.25), KEY, v, jnp.arange(6)) for v in (x, ones(6)))
    np.testing.assert_allclose(y, x * mask, rtol=1e-6)


@pytest.mark.parametrize("rate, train", [(0.5, False), (0.0, True)])
def test_off(rate, train):
    x = jax.random.normal(KEY, (2, *SHAPE))
    np.testing.assert_array_equal(layers.Dropout(rate).apply({}, x, jnp.arange(2), train), x)


def test_the_highest_rate_is_finite():
    y = np.asarray(dropped(layers.Dropout(0.9999), KEY, ones(50), jnp.arange(50)))
    assert np.isfinite(y).all() and np.mean(y == 0) > 0.9


class Two(nn.Module):
    @nn.compact
    def __call__(self, x, rows, train):
        return tuple(layers.Dropout(0.5)(x, rows, train) for _ in range(2))


def test_dropout_layers_of_a_module_draw_apart():
    first, second = dropped(Two(), KEY, ones(2), jnp.arange(2))
    assert not np.array_equal(first, second)


def test_mlp_against_loops():
    mlp = layers.MLP(4, 2)
    x = jnp.asarray(np.random.default_rng(0).normal(size=(1, 2, 3)), jnp.float32)
    params = builders.scattered(builders.init(mlp, x, jnp.arange(1), False)[1], scale=1.0)
    y = mlp.apply({"params": params}, x, jnp.arange(1), False)
    first, norm, last = (jax.device_get(params[k]) for k in ("Dense_0", "LayerNorm_0", "Dense_1"))
    for k in range(2):
        v = [sum(x[0, k, i] * first["kernel"][i, j] for i in range(3)) + first["bias"][j] for j in range(4)]
        mean = sum(v) / 4
        deviation = math.sqrt(sum((a - mean) ** 2 for a in v) / 4 + 1e-6)
        v = [(a - mean) / deviation * s + b for a, s, b in zip(v, norm["scale"], norm["bias"], strict=True)]
        v = [0.5 * a * (1 + math.tanh(math.sqrt(2 / math.pi) * (a + 0.044715 * a**3))) for a in v]
        expected = [sum(v[i] * last["kernel"][i, j] for i in range(4)) + last["bias"][j] for j in range(2)]
        np.testing.assert_allclose(y[0, k], expected, atol=1e-5)


def test_unit_by_hand():
    np.testing.assert_allclose(layers.unit(jnp.array([[3.0, -4.0], [0.0, 1e-3]])), [[0.6, -0.8], [0, 1]], rtol=1e-6)


@pytest.mark.parametrize("size", [0.0, 1e-30, 1e-8, 1e10])
def test_unit_is_finite_in_value_and_gradient(size):
    x = jnp.full((2, 3), size)
    value, gradient = jax.value_and_grad(lambda x: layers.unit(x).sum())(x)
    assert np.isfinite(value) and np.isfinite(gradient).all()
    assert (np.linalg.norm(layers.unit(x), axis=-1) <= 1 + 1e-6).all()


def test_unit_of_zero_is_zero():
    np.testing.assert_array_equal(layers.unit(jnp.zeros((2, 3))), 0)
