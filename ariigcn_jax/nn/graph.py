"""Dialogues → packed batches and jraph.GraphsTuples with static shapes. The only module that builds graphs.

It is also the only one that imports jraph, which is no longer developed; what is used of it is tested in graph_test.py.

Packing (host, numpy): several dialogues share a row of L slots, so that little is computed on padding. The graph of a
batch (device, traced) follows from the packed rows alone: every node has W = past + 1 + future incoming edge slots, one
for each place of its window; slots that leave the dialogue are masked. Shapes therefore never depend on the data, and a
kernel is free to compute the same graph without an edge list (`attention.py`).
"""

from __future__ import annotations

import jax.numpy as jnp
from jraph import GraphsTuple as GraphsTuple  # what other modules use of it, they take from here
from jraph import segment_softmax as segment_softmax
from jraph import segment_sum as segment_sum

from ariigcn_jax.types import Array, Batch

# Relations of an edge sender -> receiver: {same, other speaker} x {past, self, future} (choice). An utterance is its
# own speaker's, so five of the six combinations occur.
RELATIONS = ("same speaker, past", "other speaker, past", "self", "same speaker, future", "other speaker, future")
WHOLE_DIALOGUE = -1


def window(past: int, future: int, length: int) -> tuple[int, int]:
    """The window in slots: WHOLE_DIALOGUE (complete graph) and anything longer than a row become length - 1."""
    limit = max(length - 1, 0)
    return (
        limit if past == WHOLE_DIALOGUE else min(past, limit),
        limit if future == WHOLE_DIALOGUE else min(future, limit),
    )


def conversation_graph(batch: Batch, past: int, future: int) -> GraphsTuple:
    """The graph over a batch's utterances that all modalities share (paper: speaker relations; window and relations:
    choice).

    Edge j -> i for every j within `past` utterances before and `future` after i in the same dialogue, self included.
    Edge slot i * W + w has receiver i and sender i + w - past; slots without such a sender are masked self-loops, so
    that receivers are sorted and every index is valid.

    Args:
      batch: packed rows.
      past: utterances before, or WHOLE_DIALOGUE.
      future: utterances after, or WHOLE_DIALOGUE.

    Returns:
      A GraphsTuple with nodes {"dialogue", "speaker" [N] int32, "real" [N] bool}, edges {"relation" [E] int32,
      "mask" [E] bool}, E = N * W, and one graph for each entry of batch.n_node (sizes 0 occur; padding is the last
      graph of its row).
    """
    rows, length = batch.dialogue.shape
    past, future = window(past, future, length)
    slots = past + 1 + future
    slot = jnp.arange(length)[:, None] + jnp.arange(-past, future + 1)[None, :]  # [L, W], the sender's place in its row
    inside = (slot >= 0) & (slot < length)
    slot = jnp.clip(slot, 0, length - 1)
    mask = inside[None] & (batch.dialogue[:, slot] == batch.dialogue[:, :, None])
    senders = jnp.where(mask, slot[None], jnp.arange(length)[None, :, None])
    senders = senders + (jnp.arange(rows) * length)[:, None, None]
    nodes = rows * length
    same = batch.speaker[:, slot] == batch.speaker[:, :, None]
    relation = relations(same, jnp.arange(-past, future + 1))
    return GraphsTuple(
        nodes={
            "dialogue": batch.dialogue.reshape(nodes),
            "speaker": batch.speaker.reshape(nodes),
            "real": batch.real.reshape(nodes),
        },
        edges={"relation": relation.reshape(nodes * slots), "mask": mask.reshape(nodes * slots)},
        senders=senders.reshape(nodes * slots).astype(jnp.int32),
        receivers=jnp.repeat(jnp.arange(nodes, dtype=jnp.int32), slots, total_repeat_length=nodes * slots),
        globals=None,
        n_node=batch.n_node.reshape(-1),
        n_edge=batch.n_node.reshape(-1) * slots,
    )


def relations(same_speaker: Array, offset: Array) -> Array:
    """Index into RELATIONS (choice).

    Args:
      same_speaker: [...] bool, sender and receiver are one speaker.
      offset: [...] int, place of the sender minus place of the receiver; broadcast against same_speaker.

    Returns:
      [...] int32.
    """
    other = jnp.where(same_speaker, 0, 1)
    return jnp.where(offset == 0, 2, jnp.where(offset < 0, 0, 3) + other).astype(jnp.int32)


def modality_graph(graph: GraphsTuple, hidden: Array, present: Array) -> GraphsTuple:
    """One modality's graph (paper: one graph per modality): its node vectors, and no edge from a missing utterance.

    Args:
      graph: from `conversation_graph`.
      hidden: [N, D] node vectors.
      present: [N] bool; a missing utterance receives from its neighbours, but only itself hears it.

    Returns:
      The graph with nodes "hidden" and "present" added, and its edge mask narrowed.
    """
    heard = present[graph.senders] | (graph.senders == graph.receivers)
    return graph._replace(
        nodes={**graph.nodes, "hidden": hidden, "present": present},
        edges={**graph.edges, "mask": graph.edges["mask"] & heard},
    )
