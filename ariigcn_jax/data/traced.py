"""Standardise one conversation in traced JAX, float32, as `normalisation` does: inside an exported model."""

from __future__ import annotations

from collections.abc import Sequence

import jax
import jax.numpy as jnp

from ariigcn_jax.data.normalisation import CLIP, FLOOR
from ariigcn_jax.types import Array


def standardise(
    raw: Array,
    present: Array,
    speaker: Array,
    copies: Sequence[str],
    mean: Array,
    scale: Array,
    quantiles: Array | None = None,
) -> Array:
    """Return a modality's features as the model takes them, [T, d_m]; zero where missing.

    Features `raw` [T, n] are as extracted, `present` is [T] bool, `speaker` [T] int32, and `copies` are those of
    `normalisation.copies`. Statistics are mean and scale [d_m], and the quantiles [K, n] of ranks; None for no ranks.
    """
    within = [_within(raw, speaker if name == "speaker" else jnp.zeros_like(speaker), present) for name in copies]
    x = jnp.concatenate([raw if quantiles is None else _rank(raw, quantiles), *within], axis=-1)
    return jnp.where(present[:, None], jnp.clip((x - mean) / scale, -CLIP, CLIP), 0)


def _rank(x: Array, quantiles: Array) -> Array:
    """Do as `normalisation.rank`: x [T, n] between quantiles [K, n]."""
    last = len(quantiles) - 1

    def one(x: Array, known: Array) -> Array:
        low, high = (jnp.searchsorted(known, x, side) for side in ("left", "right"))
        after = jnp.clip(low, 1, last)
        start, end = known[after - 1], known[after]
        between = after - 1 + (x - start) / jnp.maximum(end - start, jnp.finfo(x.dtype).tiny)
        share = jnp.where(high > low, (low + high - 1) / 2, jnp.clip(between, 0, last)) / last
        return jnp.where(known[0] == known[-1], 0.5, share)

    return jax.vmap(one, in_axes=1, out_axes=1)(x, quantiles)


def _within(x: Array, group: Array, present: Array) -> Array:
    """Do as a copy of `normalisation.with_copies`: x [T, n] standardised over each group's present rows."""
    same = ((group[:, None] == group[None, :]) & present[:, None] & present[None, :]).astype(x.dtype)
    share = same / jnp.maximum(same.sum(axis=1, keepdims=True), 1)
    mean = jnp.matmul(share, x, precision="highest")
    centred = x - mean
    # A deviation is that of each row's own group, so squares of rows are averaged as they stand.
    deviation = jnp.sqrt(jnp.matmul(share, jnp.square(centred), precision="highest"))
    constant = deviation < FLOOR * (1 + jnp.abs(mean))  # relative too: float32 leaves a rest where float64 leaves none
    return jnp.where(present[:, None], jnp.clip(centred / jnp.where(constant, 1, deviation), -CLIP, CLIP), 0)
