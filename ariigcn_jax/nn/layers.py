"""Linen layers that several modules share: dropout that is cheap and independent of the device count, and an MLP."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from ariigcn_jax.rules import RATE, one_of
from ariigcn_jax.types import Array

NORM_FLOOR = 1e-6
RULES = {"dropout": RATE, "precision": one_of("float32", "bfloat16")}  # of options that several modules take


def options_of(module: type[nn.Module], options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options that a module has attributes for: a new option needs an attribute and a default in base.py."""
    return {field.name: options[field.name] for field in dataclasses.fields(module) if field.name in options}


def dropout_mask(key: Array, rows: Array, shape: tuple[int, ...], rate: float) -> tuple[Array, float]:
    """Compare random bytes with a threshold; each row draws them by its number, the same on any device.

    Each random word gives four bytes, which is cheap; so the rate of dropping, in [0, 1), is rounded to a multiple of
    1/256. `rows` [R] int32 are numbers of rows, each of the given shape.

    Returns:
      [R, *shape] bool, True where kept, and the scale 1 / (1 - rate) of the rounded rate.
    """
    size = math.prod(shape)
    threshold = min(round(rate * 256), 255)
    keys = jax.vmap(lambda row: jax.random.fold_in(key, row))(rows)
    words = jax.vmap(lambda k: jax.random.bits(k, (-(-size // 4),), jnp.uint32))(keys)
    octets = jax.lax.bitcast_convert_type(words, jnp.uint8).reshape(len(rows), -1)[:, :size]
    return (octets >= threshold).reshape(len(rows), *shape), 256 / (256 - threshold)


class Dropout(nn.Module):
    """Dropout whose mask depends on the step's key and the row's number (see `dropout_mask`)."""

    rate: float

    @nn.compact
    def __call__(self, x: Array, rows: Array, train: bool) -> Array:
        """Drop entries of x [R, ...], whose rows have the numbers `rows` [R]."""
        if not train or self.rate < 1 / 512:
            return x
        kept, scale = dropout_mask(self.make_rng("dropout"), rows, x.shape[1:], self.rate)
        return jnp.where(kept, x * jnp.asarray(scale, x.dtype), jnp.zeros((), x.dtype))


class Dense(nn.Dense):
    """nn.Dense over merged leading axes: with two of them the compiler copies the input of the weight gradient."""

    def __call__(self, inputs: Array) -> Array:
        """Map inputs [..., d] to [..., features]."""
        flat: Array = super().__call__(inputs.reshape(-1, inputs.shape[-1]))
        return flat.reshape(*inputs.shape[:-1], self.features)


class MLP(nn.Module):
    """Linear – norm – nonlinearity – dropout – linear (paper: an MLP; its layers: choice)."""

    hidden: int  # width of the middle
    out: int  # width of the output
    dropout: float = 0.0  # rate in [0, 1)
    precision: str = "float32"  # dtype of the products; the norm is float32
    precision_out: str = "float32"  # dtype of the last product and of the output

    @nn.compact
    def __call__(self, x: Array, rows: Array, train: bool) -> Array:
        """Map x [R, L, d], whose rows have the numbers `rows` [R], to [R, L, out]."""
        x = Dense(self.hidden, dtype=self.precision)(x)
        x = nn.gelu(nn.LayerNorm(epsilon=NORM_FLOOR)(x))
        x = Dropout(self.dropout)(x, rows, train)
        return Dense(self.out, dtype=self.precision_out)(x)


def unit(x: Array) -> Array:
    """Return x [..., d] over its Euclidean norm; the norm's floor keeps value and gradient finite at zero."""
    return x * jax.lax.rsqrt(jnp.maximum(jnp.sum(jnp.square(x), axis=-1, keepdims=True), NORM_FLOOR**2))
