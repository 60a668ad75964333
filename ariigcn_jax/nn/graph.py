"""Packed batches → jraph.GraphsTuples with static shapes. The only module that builds graphs, and that imports jraph.

Every node has W = past + 1 + future incoming edge slots, one for each place of its window; slots that leave the
dialogue are masked, so shapes never depend on the data. The graph carries its window, and each slot its relation and
mask, for both kernels of `attention.py`. jraph is no longer developed; graph_test.py tests the used functions.
"""

from __future__ import annotations

from typing import Any

import flax.struct
import jax.numpy as jnp
import numpy as np
from jraph import GraphsTuple as GraphsTuple  # what other modules use of it, they take from here
from jraph import segment_softmax as segment_softmax
from jraph import segment_sum as segment_sum

from ariigcn_jax.types import Array, Batch

# Relations of an edge sender -> receiver: {same, other speaker} x {past, self, future} (choice).
RELATIONS = ("same speaker, past", "other speaker, past", "self", "same speaker, future", "other speaker, future")
RELATIONS_PAST, SELF, RELATIONS_FUTURE = (0, 1), 2, (3, 4)  # indices into RELATIONS, the same speaker first
WHOLE_DIALOGUE = -1


class Window(flax.struct.PyTreeNode):
    """The edge slots of each node before and after its self-loop; static. A graph has it as `globals`."""

    past: int = flax.struct.field(pytree_node=False)
    future: int = flax.struct.field(pytree_node=False)

    @property
    def slots(self) -> int:
        """Return W."""
        return self.past + 1 + self.future

    @property
    def offsets(self) -> np.ndarray:
        """Return the place of each slot's sender minus that of the receiver [W]."""
        return np.arange(-self.past, self.future + 1)


def window(past: int, future: int, length: int) -> Window:
    """Return the window in slots: WHOLE_DIALOGUE (complete graph) and anything longer than a row become length - 1."""
    limit = max(length - 1, 0)
    return Window(*(limit if n == WHOLE_DIALOGUE else min(n, limit) for n in (past, future)))


def attended(options: Any) -> tuple[int, int]:
    """Return past and future that the options `model.graph` let an utterance attend to: (0, 0) without layers."""
    return (options.past, options.future) if options.layers else (0, 0)


def reach(options: Any) -> tuple[int, int] | None:
    """Return the numbers of utterances before and after one on which its result depends; None for the whole dialogue.

    Args:
      options: `model` of a config. A layer reaches one window further; a context encoder reads the whole dialogue.
    """
    past, future = attended(options.graph)
    if options.context != "none" or WHOLE_DIALOGUE in (past, future):
        return None
    return options.graph.layers * past, options.graph.layers * future


def conversation_graph(batch: Batch, past: int, future: int) -> GraphsTuple:
    """Build the graph of utterances that all modalities share (paper: speaker relations; window, relations: choice).

    Edge j -> i for every j within `past` utterances before and `future` after i (or WHOLE_DIALOGUE) in the same
    dialogue, self included. Edge slot i * W + w has receiver i and sender i + w - past; slots without such a sender
    are masked self-loops, so that receivers are sorted and every index is valid.

    Returns:
      A GraphsTuple with nodes {"dialogue", "speaker" [N] int32, "real" [N] bool}, edges {"relation" [E] int32,
      "mask" [E] bool}, E = N * W, the `Window` as globals, and one graph for each entry of batch.n_node (sizes 0 occur;
      padding is the last graph of its row).
    """
    rows, length = batch.dialogue.shape
    around = window(past, future, length)
    place = jnp.arange(length)[:, None] + around.offsets  # [L, W] in the row; jnp: an export's length is a symbol
    inside = (place >= 0) & (place < length)
    place = jnp.clip(place, 0, length - 1)
    mask = inside & (batch.dialogue[:, place] == batch.dialogue[:, :, None])
    senders = jnp.where(mask, place, jnp.arange(length)[:, None])
    senders = senders + (jnp.arange(rows) * length)[:, None, None]
    nodes, edges = rows * length, rows * length * around.slots
    relation = relations(batch.speaker[:, place] == batch.speaker[:, :, None], around.offsets)
    return GraphsTuple(
        nodes={name: getattr(batch, name).reshape(nodes) for name in ("dialogue", "speaker", "real")},
        edges={"relation": relation.reshape(edges), "mask": mask.reshape(edges)},
        senders=senders.reshape(edges).astype(jnp.int32),
        receivers=jnp.repeat(jnp.arange(nodes, dtype=jnp.int32), around.slots, total_repeat_length=edges),
        globals=around,
        n_node=batch.n_node.reshape(-1),
        n_edge=batch.n_node.reshape(-1) * around.slots,
    )


def relations(same_speaker: Array, offset: np.ndarray) -> Array:
    """Return indices into RELATIONS [...] int32, from same_speaker [...] bool and `Window.offsets`, broadcast."""
    past, future = (jnp.where(same_speaker, *kinds) for kinds in (RELATIONS_PAST, RELATIONS_FUTURE))
    return jnp.where(offset == 0, SELF, jnp.where(offset < 0, past, future)).astype(jnp.int32)


def modality_graph(graph: GraphsTuple, hidden: Array, present: Array) -> GraphsTuple:
    """Return one modality's graph (paper: one graph per modality), with nodes "hidden" [N, D] and "present" [N] bool.

    A missing utterance receives messages, but sends none except to itself.
    """
    sent = present[graph.senders] | (graph.senders == graph.receivers)
    return graph._replace(
        nodes={**graph.nodes, "hidden": hidden, "present": present},
        edges={**graph.edges, "mask": graph.edges["mask"] & sent},
    )
