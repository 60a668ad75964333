"""Graph attention over conversations: α_ij from node and relation (paper: attention as edge weights), messages along edges.

    e_ij = LeakyReLU(a_r · [W h_i ‖ W h_j])     α_ij = softmax_{j ∈ N(i)} e_ij     h_i' = h_i + σ(Σ_j α_ij W_r h_j)

Two kernels compute it and are tested equal edge by edge. "edges" follows the GraphsTuple's edge list and is the reference.
"band" uses that the graph is a band of packed rows: it cuts a row into blocks and lets each block see itself and as many
neighbouring blocks as the window reaches, so time and memory grow linearly with a conversation and nothing is scattered.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import jraph
import numpy as np

from ariigcn_jax.graph import RELATIONS, relations, window
from ariigcn_jax.layers import NORM_FLOOR, Dropout
from ariigcn_jax.types import Array

SCORES = ("additive", "dot", "uniform")
KERNELS = ("band", "edges")
MASKED = -1e9  # finite: a softmax over -inf alone would be NaN
LEAK = 0.2


class Projected(NamedTuple):
    """What the nodes contribute to their edges.

    Attributes:
      receiver: [R, L, K, H] additive score of the receiver under each relation; for dot scores queries [R, L, H, D/H].
      sender: the same of the sender; for dot scores keys.
      value: [R, L, K, H, D/H], W_r h_j; K = 1 where relations share W.
      bias: [K, H], added to a relation's scores (dot).
    """

    receiver: Array
    sender: Array
    value: Array
    bias: Array


class Attended(NamedTuple):
    """What a kernel returns: messages [R, L, H, D/H], weights [N, W, H] and their entropy over that of uniform ones [R, L].

    Weights and entropy cost nothing where a jitted caller does not use them.
    """

    message: Array
    weights: Array
    entropy: Array


def _score(receiver: Array, sender: Array, bias: Array, relation: Array, kind: str) -> Array:
    """Scores of edges: additive [..., K, H] terms broadcast and chosen by relation [...], or given dot products [..., H]."""
    if kind == "additive":
        e = receiver[..., 0, :] + sender[..., 0, :]
        for r in range(1, len(RELATIONS)):
            e = jnp.where((relation == r)[..., None], receiver[..., r, :] + sender[..., r, :], e)
        return nn.leaky_relu(e, LEAK)
    return bias[relation]


def attend_edges(graph: jraph.GraphsTuple, projected: Projected, kind: str) -> Attended:
    """The reference: gathers along the edge list, jraph's segment softmax, segment sums.

    Args:
      graph: a modality's graph.
      projected: per node.
      kind: one of SCORES.
    """
    rows, length, _, heads, width = projected.value.shape
    nodes = rows * length
    slots = len(graph.senders) // nodes
    relation, mask = graph.edges["relation"], graph.edges["mask"]
    flat = jax.tree.map(lambda x: x.reshape(nodes, *x.shape[2:]), projected._replace(bias=None))
    receiver, sender = flat.receiver[graph.receivers], flat.sender[graph.senders]
    e = _score(receiver, sender, projected.bias, relation, kind)
    if kind == "dot":
        e = e + jnp.sum(receiver * sender, axis=-1) / math.sqrt(width)
    e = jnp.where(mask[:, None], e, MASKED)
    weights = jraph.segment_softmax(e, graph.receivers, nodes) * mask[:, None]
    value = flat.value[graph.senders, relation if flat.value.shape[1] > 1 else 0]
    message = jraph.segment_sum(weights[..., None] * value, graph.receivers, nodes)
    grid = weights.reshape(nodes, slots, heads)
    degree = mask.reshape(nodes, slots).sum(axis=1)
    return Attended(
        message.reshape(rows, length, heads, width), grid, _entropy(grid, degree, axis=1).reshape(rows, length)
    )


def _entropy(weights: Array, degree: Array, axis: int) -> Array:
    """Entropy of α along `axis`, averaged over the last axis (heads), over log(degree); 1 where only one edge enters."""
    entropy = -jnp.sum(weights * jnp.log(jnp.maximum(weights, 1e-12)), axis=axis).mean(axis=-1)
    return jnp.where(degree > 1, entropy / jnp.log(jnp.maximum(degree, 2)), 1.0)


class _Band(NamedTuple):
    """How rows are cut: `block` slots a block, `before` and `after` neighbouring blocks, `count` blocks."""

    block: int
    before: int
    after: int
    count: int

    def queries(self, x: Array, fill: float = 0) -> Array:
        """[R, L, ...] -> [R, count, block, ...]."""
        padding = [(0, 0), (0, self.count * self.block - x.shape[1])] + [(0, 0)] * (x.ndim - 2)
        x = jnp.pad(x, padding, constant_values=fill)
        return x.reshape(x.shape[0], self.count, self.block, *x.shape[2:])

    def keys(self, x: Array, fill: float = 0) -> Array:
        """[R, L, ...] -> [R, count, (before + 1 + after) * block, ...]: each block with its neighbours."""
        x = self.queries(x, fill)
        padding = [(0, 0), (self.before, self.after)] + [(0, 0)] * (x.ndim - 2)
        x = jnp.pad(x, padding, constant_values=fill)
        shifts = range(self.before + 1 + self.after)
        return jnp.concatenate([x[:, s : s + self.count] for s in shifts], axis=2)

    def offsets(self) -> np.ndarray:
        """[block, keys] place of the key minus place of the query."""
        keys = np.arange(-self.before * self.block, (1 + self.after) * self.block)
        return keys[None, :] - np.arange(self.block)[:, None]


def _cut(length: int, past: int, future: int, block: int) -> _Band:
    if block <= 0 or length <= block + past + future:
        return _Band(length, 0, 0, 1)
    return _Band(block, -(-past // block), -(-future // block), -(-length // block))


def attend_band(
    graph: jraph.GraphsTuple, projected: Projected, kind: str, past: int, future: int, block: int
) -> Attended:
    """The same as `attend_edges`, computed on blocks of rows without touching the edge list.

    Args:
      graph: a modality's graph; its nodes "dialogue", "speaker" and "present" are read.
      projected: per node.
      kind: one of SCORES.
      past: utterances before, or WHOLE_DIALOGUE.
      future: utterances after, or WHOLE_DIALOGUE.
      block: slots of a block; 0 makes a row one block.
    """
    rows, length, _, heads, width = projected.value.shape
    past, future = window(past, future, length)
    band = _cut(length, past, future, block)
    nodes = {k: graph.nodes[k].reshape(rows, length) for k in ("dialogue", "speaker", "present")}
    offset = band.offsets()
    dialogue = band.queries(nodes["dialogue"], -2)[..., None] == band.keys(nodes["dialogue"], -3)[..., None, :]
    heard = band.keys(nodes["present"], False)[..., None, :] | (offset == 0)
    mask = dialogue & heard & ((offset >= -past) & (offset <= future))
    mask = mask | jnp.asarray(offset == 0)  # slots that only fill a block up hear themselves: no empty softmax
    same = band.queries(nodes["speaker"])[..., None] == band.keys(nodes["speaker"])[..., None, :]
    relation = relations(same, offset)
    if kind == "additive":  # heads lead the score's [block, keys] so that the products below are plain batched ones
        receiver, sender = jnp.moveaxis(band.queries(projected.receiver), -1, 2), jnp.moveaxis(band.keys(projected.sender), -1, 2)
        e = _band_score(receiver, sender, relation)
    else:
        e = jnp.moveaxis(projected.bias[relation], -1, 2)
    if kind == "dot":
        queries, keys = band.queries(projected.receiver), band.keys(projected.sender)
        e = e + jnp.einsum("rcqhd,rckhd->rchqk", queries, keys) / math.sqrt(width)
    e = jnp.where(mask[:, :, None], e, MASKED)
    weights = jnp.where(mask[:, :, None], jax.nn.softmax(e, axis=-1), 0)
    message = _band_message(weights, relation, band.keys(projected.value))
    message = message.reshape(rows, -1, heads, width)[:, :length]
    entropy = _entropy(jnp.moveaxis(weights, 2, -1), mask.sum(axis=-1), axis=3).reshape(rows, -1)[:, :length]
    return Attended(message, _grid(weights, band, length, past, future), entropy)


def _band_score(receiver: Array, sender: Array, relation: Array) -> Array:
    """receiver [R, c, H, q, K], sender [R, c, H, k, K], relation [R, c, q, k] -> [R, c, H, q, k]."""
    e = receiver[..., :, None, 0] + sender[..., None, :, 0]
    for r in range(1, len(RELATIONS)):
        e = jnp.where((relation == r)[:, :, None], receiver[..., :, None, r] + sender[..., None, :, r], e)
    return nn.leaky_relu(e, LEAK)


def _band_message(weights: Array, relation: Array, value: Array) -> Array:
    """weights [R, c, H, q, k], relation [R, c, q, k], value [R, c, k, K, H, D/H] -> [R, c, q, H, D/H]."""
    if value.shape[3] == 1:
        return jnp.einsum("rchqk,rckhd->rcqhd", weights, value[:, :, :, 0])
    chosen = [jnp.where((relation == r)[:, :, None], weights, 0) for r in range(value.shape[3])]
    return sum(jnp.einsum("rchqk,rckhd->rcqhd", w, value[:, :, :, r]) for r, w in enumerate(chosen))


def _grid(weights: Array, band: _Band, length: int, past: int, future: int) -> Array:
    """Weights [R, c, H, q, k] over a block's keys -> [N, W, H] over the window's slots."""
    place = np.arange(band.block)[:, None] + band.before * band.block + np.arange(-past, future + 1)[None, :]
    inside = (place >= 0) & (place < weights.shape[-1])
    place = np.clip(place, 0, weights.shape[-1] - 1)
    grid = jnp.take_along_axis(weights, jnp.asarray(place)[None, None, None], axis=-1) * inside
    grid = jnp.moveaxis(grid, 2, -1)  # [R, c, q, W, H]
    rows, heads = grid.shape[0], grid.shape[-1]
    return grid.reshape(rows, -1, past + 1 + future, heads)[:, :length].reshape(rows * length, -1, heads)


class GraphAttention(nn.Module):
    """One layer of relation-aware graph attention, residual and normed before (choice).

    Attributes:
      heads: H, a divisor of D.
      score: "additive" (paper's equation), "dot" (scaled dot product), "uniform" (every edge alike).
      relation_values: W_r for each relation, or one W for all.
      kernel: "band" or "edges".
      block: slots of a block of the band kernel; 0 for whole rows.
      past: window, utterances before.
      future: window, utterances after.
      dropout: rate on the messages, in [0, 1).
    """

    heads: int
    score: str
    relation_values: bool
    kernel: str
    block: int
    past: int
    future: int
    dropout: float

    @nn.compact
    def __call__(self, graph: jraph.GraphsTuple, rows: Array, train: bool) -> jraph.GraphsTuple:
        """Updates nodes "hidden" [N, D]; adds edges "attention" [E, H] and nodes "attention_entropy" [N].

        Args:
          graph: a modality's graph.
          rows: [R] numbers of the rows, N = R * L.
          train: whether dropout is on.
        """
        hidden = graph.nodes["hidden"]
        x = hidden.reshape(len(rows), -1, hidden.shape[-1])
        projected = self._project(nn.LayerNorm(epsilon=NORM_FLOOR)(x))
        if self.kernel == "edges":
            attended = attend_edges(graph, projected, self.score)
        else:
            attended = attend_band(graph, projected, self.score, self.past, self.future, self.block)
        message = nn.gelu(attended.message.reshape(x.shape))
        x = x + Dropout(self.dropout)(message, rows, train)
        return graph._replace(
            nodes={
                **graph.nodes,
                "hidden": x.reshape(hidden.shape),
                "attention_entropy": attended.entropy.reshape(-1),
            },
            edges={**graph.edges, "attention": attended.weights.reshape(-1, self.heads)},
        )

    def _project(self, x: Array) -> Projected:
        """x [R, L, D] -> what each node contributes to its edges."""
        width = x.shape[-1] // self.heads
        count = len(RELATIONS)
        kinds = count if self.relation_values else 1
        value = nn.DenseGeneral((kinds, self.heads, width), use_bias=False, name="value")(x)
        bias = jnp.zeros((count, self.heads))
        receiver = sender = jnp.zeros((*x.shape[:2], count, self.heads))
        if self.score == "additive":
            # a_r · W h is linear in h, so its product with W is learned directly: [D, K * H] instead of D x D and then H
            receiver = nn.DenseGeneral((count, self.heads), use_bias=True, name="receiver")(x)
            sender = nn.DenseGeneral((count, self.heads), use_bias=False, name="sender")(x)
        elif self.score == "dot":
            receiver = nn.DenseGeneral((self.heads, width), name="query")(x)
            sender = nn.DenseGeneral((self.heads, width), name="key")(x)
            bias = self.param("relation_bias", nn.initializers.zeros, (count, self.heads))
        return Projected(receiver, sender, value, bias)
