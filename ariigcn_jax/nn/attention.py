"""Graph attention over conversations: α_ij from node and relation (paper: attention as edge weights), messages along
edges.

    e_ij = LeakyReLU(a_r · [W h_i ‖ W h_j])     α_ij = softmax_{j ∈ N(i)} e_ij     h_i' = h_i + σ(Σ_j α_ij W_r h_j)

Two kernels compute it from the GraphsTuple and are tested equal edge by edge. "edges" follows the edge list and is the
reference. "band" cuts each packed row into blocks and attends from a block to itself and to the neighbouring blocks
that the window reaches: time and memory grow linearly with a conversation, without gather or scatter.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from ariigcn_jax.nn.graph import (
    RELATIONS,
    RELATIONS_FUTURE,
    RELATIONS_PAST,
    SELF,
    GraphsTuple,
    segment_softmax,
    segment_sum,
)
from ariigcn_jax.nn.layers import NORM_FLOOR, Dropout
from ariigcn_jax.rules import at_least, one_of
from ariigcn_jax.types import Array

SCORES = ("additive", "dot", "uniform")
KERNELS = ("band", "edges")
RULES = {"heads": at_least(1), "score": one_of(*SCORES), "kernel": one_of(*KERNELS), "block": at_least(0)}
MASKED = -1e9  # finite: a softmax over -inf alone would be NaN
LEAK = 0.2


class Projected(NamedTuple):
    """Projections of the nodes; slots come last, so that the kernels' inner loops are contiguous."""

    # [K, H, R, L] additive score of the receiver under each relation; for dot scores queries [H, R, L, D/H]
    receiver: Array
    sender: Array  # the same of the sender; for dot scores keys
    value: tuple[Array, ...]  # for each relation [H, R, L, D/H], W_r h_j; one where relations share W
    bias: Array  # [K, H], added to a relation's scores (dot)

    def valued(self, relation: int) -> Array:
        """Return W_r h_j of one relation."""
        return self.value[relation % len(self.value)]


class Attended(NamedTuple):
    """The result of a kernel; under jit unused fields cost nothing."""

    message: Array  # [R, L, H, D/H]
    weights: Array  # [N, W, H]
    entropy: Array  # [R, L], of the weights, over that of uniform ones


def attend_edges(graph: GraphsTuple, projected: Projected, kind: str) -> Attended:
    """Compute attention of a modality's graph along the edge list: the reference; `kind` is one of SCORES."""
    heads, rows, length, width = projected.value[0].shape
    nodes = rows * length
    slots = graph.globals.slots
    relation, mask = graph.edges["relation"], graph.edges["mask"]
    if kind == "additive":
        receiver, sender = (x.reshape(-1, heads, nodes) for x in (projected.receiver, projected.sender))
        e = nn.leaky_relu(receiver[relation, :, graph.receivers] + sender[relation, :, graph.senders], LEAK)
    else:
        e = projected.bias[relation]
    if kind == "dot":
        queries, keys = (x.reshape(heads, nodes, width) for x in (projected.receiver, projected.sender))
        e = e + jnp.sum(queries[:, graph.receivers] * keys[:, graph.senders], axis=-1).T / math.sqrt(width)
    e = jnp.where(mask[:, None], e, MASKED)
    weights = segment_softmax(e, graph.receivers, nodes) * mask[:, None]
    value = jnp.stack(projected.value).reshape(-1, heads, nodes, width)
    value = value[relation % len(projected.value), :, graph.senders]
    message = segment_sum(weights[..., None] * value, graph.receivers, nodes)
    grid = weights.reshape(nodes, slots, heads)
    degree = mask.reshape(nodes, slots).sum(axis=1)
    return Attended(
        message.reshape(rows, length, heads, width), grid, _entropy(grid, degree, axis=1).reshape(rows, length)
    )


def _entropy(weights: Array, degree: Array, axis: int) -> Array:
    """Return the entropy of α along `axis`, averaged over the last axis (heads), over log(degree); 1 for one edge."""
    entropy = -jnp.sum(weights * jnp.log(jnp.maximum(weights, 1e-12)), axis=axis).mean(axis=-1)
    return jnp.where(degree > 1, entropy / jnp.log(jnp.maximum(degree, 2)), 1.0)


class _Blocks(NamedTuple):
    """Rows cut into `blocks` blocks of `size` slots; the past reaches `before` blocks back, the future `after` ahead.

    Its functions take arrays [..., L, ...] whose axis of slots is `axis`, counted from the end.
    """

    size: int
    blocks: int
    before: int
    after: int

    def own(self, x: Array, axis: int = -1) -> Array:
        """Cut [..., L, ...] into [..., blocks, size, ...]."""
        x = _pad(x, axis, 0, self.blocks * self.size - x.shape[axis])
        at = x.ndim + axis
        return x.reshape(*x.shape[:at], self.blocks, self.size, *x.shape[at + 1 :])

    def around(self, x: Array, before: int, after: int, axis: int = -1) -> Array:
        """Join each block with the blocks before and after it: [..., blocks, (before + 1 + after) * size, ...]."""
        x = _pad(self.own(x, axis), axis - 1, before, after)
        at = x.ndim + axis - 1
        shifted = [jax.lax.slice_in_dim(x, s, s + self.blocks, axis=at) for s in range(before + 1 + after)]
        return jnp.concatenate(shifted, axis=axis)


def _pad(x: Array, axis: int, before: int, after: int) -> Array:
    widths = [(0, 0)] * x.ndim
    widths[axis] = (before, after)
    return jnp.pad(x, widths)


class _Side(NamedTuple):
    """The past or the future of every block's utterances: candidates k for each query q."""

    mask: Array  # [R, c, q, k] bool, whether there is an edge
    same: Array  # [R, c, q, k] bool, whether sender and receiver are one speaker
    kinds: tuple[int, int]  # the relations of the same and of the other speaker
    place: np.ndarray  # [q, W_side] int, candidate at each slot of the window; outside [0, k) where there is none
    take: Callable[..., Array]  # cuts [..., R, L, ...] into candidates [..., R, c, k, ...]


def _sides(graph: GraphsTuple, blocks: _Blocks, rows: int) -> list[_Side]:
    """Read past and future from the graph's edge slots; a side without any slot is left out."""
    past, slots = graph.globals.past, graph.globals.slots
    mask, relation = (graph.edges[k].reshape(rows, -1, slots) for k in ("mask", "relation"))
    query = np.arange(blocks.size)[:, None]
    sides = []
    for chosen, reach, first, kinds in (
        (slice(0, past), (blocks.before, 0), blocks.before * blocks.size - past, RELATIONS_PAST),
        (slice(past + 1, slots), (0, blocks.after), 1, RELATIONS_FUTURE),
    ):
        if chosen.stop > chosen.start:
            spread = functools.partial(_spread, first=first, width=(sum(reach) + 1) * blocks.size)
            sides.append(
                _Side(
                    mask=spread(blocks.own(mask[..., chosen], axis=-2)),
                    same=spread(blocks.own(relation[..., chosen] == kinds[0], axis=-2)),
                    kinds=kinds,
                    place=query + np.arange(chosen.stop - chosen.start) + first,
                    take=functools.partial(blocks.around, before=reach[0], after=reach[1]),
                )
            )
    return sides


def _spread(x: Array, first: int, width: int) -> Array:
    """Bring slots to their candidates: [..., q, w] bool -> [..., q, k] with w at k = q + w + first, else False.

    Rows of `width` + 1 that are read as rows of `width` move one place further with each query, without a gather.
    A slot beyond the candidates, which is masked, moves to a neighbouring query's row, where no slot is.
    """
    size, slots = x.shape[-2:]
    rows = _pad(x, -1, 0, width + 1 - slots).reshape(*x.shape[:-2], size * (width + 1))
    keep = [(0, 0, 0)] * (rows.ndim - 1)
    moved = jax.lax.pad(rows, jnp.zeros((), x.dtype), [*keep, (first, -size - first, 0)])
    return moved.reshape(*x.shape[:-2], size, width)


def attend_band(graph: GraphsTuple, projected: Projected, kind: str, block: int) -> Attended:
    """Compute `attend_edges` on blocks of `block` slots (0: a row is one block), without the edge list.

    An utterance's neighbours are its past, itself and its future. Each side is dense over the few blocks that the
    window reaches and has two relations only; the softmax runs over both sides and the self-loop.
    """
    heads, rows, length, width = projected.value[0].shape
    window, slots = graph.globals, graph.globals.slots
    if block <= 0 or length <= block:
        blocks = _Blocks(length, 1, 0, 0)
    else:
        blocks = _Blocks(block, -(-length // block), -(-window.past // block), -(-window.future // block))
    sides = _sides(graph, blocks, rows)
    scores = [_side_scores(side, blocks, projected, kind) for side in sides]
    own = blocks.own(_self_scores(projected, kind))  # [H, R, c, q]
    peak = jax.lax.stop_gradient(functools.reduce(jnp.maximum, [e.max(axis=-1) for e in scores], own))
    parts = [jnp.exp(e - peak[..., None]) for e in scores]
    own = jnp.exp(own - peak)
    scale = 1 / sum([p.sum(axis=-1) for p in parts], start=own)
    message = own[..., None] * blocks.own(projected.valued(SELF), axis=-2)
    for side, part in zip(sides, parts, strict=True):
        message = message + _side_message(side, part, projected)
    message = (message * scale[..., None]).reshape(heads, rows, -1, width)[:, :, :length]
    grid = _grid(sides, [p * scale[..., None] for p in parts], own * scale, window.past)
    grid = grid.reshape(rows, -1, slots, heads)[:, :length]
    degree = 1 + sum(side.mask.sum(axis=-1) for side in sides)
    degree = jnp.broadcast_to(degree, own.shape[1:]).reshape(rows, -1)[:, :length]
    entropy = _entropy(grid, degree, axis=2)
    return Attended(jnp.transpose(message, (1, 2, 0, 3)), grid.reshape(rows * length, slots, heads), entropy)


def _side_scores(side: _Side, blocks: _Blocks, projected: Projected, kind: str) -> Array:
    """Return a side's scores [H, R, c, q, k], MASKED where there is no edge."""
    if kind == "additive":
        same, other = (
            blocks.own(projected.receiver[r])[..., :, None] + side.take(projected.sender[r])[..., None, :]
            for r in side.kinds
        )
        e = nn.leaky_relu(jnp.where(side.same, same, other), LEAK)
    else:
        bias = [projected.bias[r][:, None, None, None, None] for r in side.kinds]
        e = jnp.where(side.same, bias[0], bias[1])
    if kind == "dot":
        queries, keys = blocks.own(projected.receiver, axis=-2), side.take(projected.sender, axis=-2)
        e = e + jnp.einsum("hrcqd,hrckd->hrcqk", queries, keys) / math.sqrt(queries.shape[-1])
    return jnp.where(side.mask, e, MASKED)


def _self_scores(projected: Projected, kind: str) -> Array:
    """Return the scores of the self-loops [H, R, L]."""
    if kind == "additive":
        return nn.leaky_relu(projected.receiver[SELF] + projected.sender[SELF], LEAK)
    e = jnp.broadcast_to(projected.bias[SELF][:, None, None], projected.value[0].shape[:3])
    if kind == "dot":
        e = e + jnp.sum(projected.receiver * projected.sender, axis=-1) / math.sqrt(projected.receiver.shape[-1])
    return e


def _side_message(side: _Side, part: Array, projected: Projected) -> Array:
    """Return messages of unnormalised weights [H, R, c, q, k] -> [H, R, c, q, D/H]."""
    if len(projected.value) == 1:
        return jnp.einsum("hrcqk,hrckd->hrcqd", part, side.take(projected.value[0], axis=-2))
    chosen = (jnp.where(side.same, part, 0), jnp.where(side.same, 0, part))
    taken = [side.take(projected.valued(r), axis=-2) for r in side.kinds]
    messages = [jnp.einsum("hrcqk,hrckd->hrcqd", w, v) for w, v in zip(chosen, taken, strict=True)]
    return messages[0] + messages[1]


def _grid(sides: Sequence[_Side], weights: Sequence[Array], own: Array, past: int) -> Array:
    """Bring weights of the sides [H, R, c, q, k] and the self-loop [H, R, c, q] to the window's slots
    [R, c, q, W, H]."""
    grids = []
    for side, weight in zip(sides, weights, strict=True):
        last = weight.shape[-1] - 1
        place = jnp.asarray(np.clip(side.place, 0, last))[None, None, None]
        inside = (side.place >= 0) & (side.place <= last)
        grids.append(jnp.take_along_axis(weight, place, axis=-1) * inside)
    grids.insert(1 if past else 0, own[..., None])
    return jnp.moveaxis(jnp.concatenate(grids, axis=-1), 0, -1)


class Contribution(nn.Module):
    """Linear map x [..., D] -> [..., a, b], features = (a, b), with the parameters of nn.DenseGeneral.

    It is one product of two matrices: its gradient then needs no transposed copy (see `layers.Dense`).
    """

    features: tuple[int, int]
    use_bias: bool = True
    precision: str = "float32"

    @nn.compact
    def __call__(self, x: Array) -> Array:
        inner, outer = x.shape[-1], math.prod(self.features)

        def init(key: Array, shape: tuple[int, ...]) -> Array:
            return nn.initializers.lecun_normal()(key, (inner, outer)).reshape(shape)

        kernel = self.param("kernel", init, (inner, *self.features)).reshape(inner, outer)
        made = x.reshape(-1, inner).astype(self.precision) @ kernel.astype(self.precision)
        if self.use_bias:
            bias = self.param("bias", nn.initializers.zeros, self.features).reshape(outer)
            made = made + bias.astype(self.precision)
        return made.reshape(*x.shape[:-1], *self.features)


class GraphAttention(nn.Module):
    """One layer of relation-aware graph attention, residual and normed before (choice)."""

    heads: int  # H, a divisor of D
    score: str  # "additive" (paper's equation), "dot" (scaled dot product), "uniform" (every edge alike)
    relation_values: bool  # W_r for each relation, or one W for all
    kernel: str  # "band" or "edges"
    block: int  # slots of a block of the band kernel; 0 for whole rows
    dropout: float  # rate on the messages, in [0, 1)
    # dtype of the projections; softmax, sums of messages and residual connection are float32
    precision: str = "float32"

    @nn.compact
    def __call__(self, graph: GraphsTuple, rows: Array, train: bool) -> GraphsTuple:
        """Update nodes "hidden" [N, D] of a modality's graph, whose rows have the numbers `rows` [R], N = R * L.

        It adds edges "attention" [E, H] and nodes "attention_entropy" [N].
        """
        hidden = graph.nodes["hidden"]
        x = hidden.reshape(len(rows), -1, hidden.shape[-1])
        projected = self._project(nn.LayerNorm(epsilon=NORM_FLOOR)(x))
        if self.kernel == "edges":
            attended = attend_edges(graph, projected, self.score)
        else:
            attended = attend_band(graph, projected, self.score, self.block)
        message = nn.gelu(attended.message.reshape(x.shape))
        x = x + Dropout(self.dropout)(message, rows, train)
        nodes = {"hidden": x.reshape(hidden.shape), "attention_entropy": attended.entropy.reshape(-1)}
        edges = {"attention": attended.weights.reshape(-1, self.heads)}
        return graph._replace(nodes={**graph.nodes, **nodes}, edges={**graph.edges, **edges})

    def _project(self, x: Array) -> Projected:
        """Project nodes x [R, L, D]."""
        width = x.shape[-1] // self.heads
        count = len(RELATIONS)
        made = functools.partial(Contribution, precision=self.precision)
        value = tuple(
            _slots_inside(made((self.heads, width), False, name=f"value_{r}")(x))
            for r in range(count if self.relation_values else 1)
        )
        bias = jnp.zeros((count, self.heads))
        receiver = sender = jnp.zeros((count, self.heads, *x.shape[:2]))
        if self.score == "additive":
            # a_r · W h is linear in h: the product of a_r and W is learned directly
            receiver = jnp.transpose(made((count, self.heads), name="receiver")(x), (2, 3, 0, 1))
            sender = jnp.transpose(made((count, self.heads), False, name="sender")(x), (2, 3, 0, 1))
            receiver, sender = receiver.astype(jnp.float32), sender.astype(jnp.float32)
        elif self.score == "dot":
            receiver = _slots_inside(made((self.heads, width), name="query")(x)).astype(jnp.float32)
            sender = _slots_inside(made((self.heads, width), name="key")(x)).astype(jnp.float32)
            bias = self.param("relation_bias", nn.initializers.zeros, (count, self.heads))
        return Projected(receiver, sender, value, bias)


def _slots_inside(x: Array) -> Array:
    """Transpose [R, L, H, D/H] to [H, R, L, D/H]."""
    return jnp.transpose(x, (2, 0, 1, 3))
