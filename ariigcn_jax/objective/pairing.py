"""The contrastive terms' wiring: which nodes are compared with which, and in how large pieces.

The mathematics of comparing anchors with candidates is in losses.py.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp

from ariigcn_jax.parallel import all_gather, axis_size, device_index
from ariigcn_jax.types import Array, Batch, ContrastSet, Modality, Outputs

MOST_SIMILARITIES = 2**24  # anchors x candidates held at once: 64 MiB in float32

Weighted = tuple[Array, Array]


def contrast_set(
    outputs: Outputs, batch: Batch, axis: str | None, limit: int = 0, offset: Array | int = 0
) -> ContrastSet:
    """Return the candidates: all nodes of the global batch, gathered along `axis`, or an even sample (choice).

    For a sample of at most `limit` (0: all) each device gives every k-th of its nodes, beginning at `offset`, an
    integer >= 0 that is uniform over the steps.
    """
    width = batch.classes or outputs.logits.shape[-1]
    classes = jax.nn.one_hot(batch.label.reshape(-1), width)  # zeros where there is no label
    present = {m: batch.present[m].reshape(-1, 1) for m in outputs.contrast}
    local = ContrastSet(
        vectors={m: z.reshape(-1, z.shape[-1]) for m, z in outputs.contrast.items()},
        classes={m: jnp.where(there, classes, 0) for m, there in present.items()},
        own=jnp.arange(len(classes)),
    )
    stride = max(1, -(-len(classes) * axis_size(axis) // limit)) if limit else 1
    kept = max(1, len(classes) // stride)
    if stride > 1:
        distance = (local.own - offset) % len(classes)
        chosen = (offset + stride * jnp.arange(kept)) % len(classes)
        local = jax.tree.map(lambda x: x[chosen], local)
        local = local.replace(
            own=jnp.where((distance % stride == 0) & (distance < stride * kept), distance // stride, -1)
        )
    own = jnp.where(local.own >= 0, device_index(axis) * kept + local.own, -1)
    return all_gather(local.replace(own=None), axis).replace(own=own)


def other_candidates(
    outputs: Outputs, batch: Batch, axis: str | None, limit: int, offset: Array | int
) -> ContrastSet | None:
    """Return `contrast_set`, or None where that is the anchors themselves: one device and no sample."""
    if axis is None and not 0 < limit < batch.label.size:
        return None
    return contrast_set(outputs, batch, axis, limit, offset)


def _contrast(
    function: Callable[..., Weighted], outputs: Outputs, batch: Batch, pairs: Sequence[tuple[Modality, Modality]]
) -> Weighted:
    """Compare anchors of the first modality of each pair with candidates of the second: [pairs, R * L]."""
    mine = contrast_set(outputs, batch, None)
    candidates = outputs.candidates or mine
    nowhere = jnp.full_like(candidates.own, -1)
    results = []
    for a, b in pairs:
        own = candidates.own if a == b else nowhere
        arrays = mine.vectors[a], candidates.vectors[b], mine.classes[a], candidates.classes[b], own
        results.append(_in_chunks(function, *arrays))
    return stacked(results)


def stacked(results: Sequence[Weighted]) -> Weighted:
    """Stack values and weights; of none, as of a term about several modalities with one, both are [0]."""
    if not results:
        return jnp.zeros(0), jnp.zeros(0)
    value, weight = zip(*results, strict=True)
    return jnp.stack(value), jnp.stack(weight)


def _in_chunks(
    function: Callable[..., Weighted], anchors: Array, candidates: Array, classes: Array, others: Array, own: Array
) -> Weighted:
    """Apply a contrast to pieces of the anchors, so that at most MOST_SIMILARITIES are in memory, backward too."""
    count = len(anchors)
    chunks = -(-count * len(candidates) // MOST_SIMILARITIES)
    if chunks <= 1:
        return function(anchors, candidates, classes, others, own)
    size = -(-count // chunks)

    def cut(x: Array) -> Array:  # padding of the last chunk has no class, and so counts nowhere
        return jnp.pad(x, [(0, size * chunks - count), *[(0, 0)] * (x.ndim - 1)]).reshape(chunks, size, *x.shape[1:])

    @jax.checkpoint
    def chunk(now: tuple[Array, Array, Array]) -> Weighted:
        return function(now[0], candidates, now[1], others, now[2])

    value, weight = jax.lax.map(chunk, (cut(anchors), cut(classes), cut(own)))
    return value.reshape(-1)[:count], weight.reshape(-1)[:count]


def intra_modal(function: Callable[..., Weighted], outputs: Outputs, batch: Batch) -> Weighted:
    """Return ICCL, intra-/inter-class contrast inside each modality (paper): [M, R * L]."""
    return _contrast(function, outputs, batch, [(m, m) for m in outputs.contrast])


def cross_modal(function: Callable[..., Weighted], outputs: Outputs, batch: Batch) -> Weighted:
    """Return IMCL, contrast across modalities, the utterance's other nodes among the positives (paper): [P, R * L]."""
    return _contrast(function, outputs, batch, [(a, b) for a in outputs.contrast for b in outputs.contrast if a != b])


def cross_modal_both_ways(
    mutual: Callable[..., tuple[Weighted, Weighted]], function: Callable[..., Weighted], outputs: Outputs, batch: Batch
) -> Weighted:
    """Return IMCL by `mutual`, which compares two modalities both ways at once.

    `function` compares one way; it is used where candidates are not the anchors themselves, or too many.
    """
    if outputs.candidates is not None or batch.label.size**2 > MOST_SIMILARITIES or len(outputs.contrast) < 2:
        return cross_modal(function, outputs, batch)
    mine = contrast_set(outputs, batch, None)
    both = [
        mutual(mine.vectors[a], mine.vectors[b], mine.classes[a], mine.classes[b])
        for a, b in itertools.combinations(outputs.contrast, 2)
    ]
    return stacked([way for ways in both for way in ways])
