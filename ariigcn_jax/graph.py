"""Dialogues → packed batches and jraph.GraphsTuples with static shapes. The only module that builds graphs.

Packing (host, numpy): several dialogues share a row of L slots, so that little is computed on padding. The graph of a
batch (device, traced) follows from the packed rows alone: every node has W = past + 1 + future incoming edge slots, one
for each place of its window; slots that leave the dialogue are masked. Shapes therefore never depend on the data, and a
kernel is free to compute the same graph without an edge list (`attention.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
import jraph
import numpy as np

from ariigcn_jax.types import PADDING, UNLABELED, Array, Batch, Corpus

# Relations of an edge sender -> receiver: {same, other speaker} x {past, self, future} (choice). An utterance is its
# own speaker's, so five of the six combinations occur.
RELATIONS = ("same speaker, past", "other speaker, past", "self", "same speaker, future", "other speaker, future")
WHOLE_DIALOGUE = -1


class Layout(NamedTuple):
    """How a split is laid out: `steps` batches an epoch of `rows` rows of `length` slots."""

    steps: int
    rows: int
    length: int


def fill_rows(lengths: Sequence[int], length: int) -> list[list[int]]:
    """Distributes dialogues over rows by best fit, longest first.

    Args:
      lengths: utterances of each dialogue, each in [0, length].
      length: slots of a row.

    Returns:
      For each row the indices of its dialogues.
    """
    rows: list[list[int]] = []
    open_rows: list[list[int]] = [[] for _ in range(length + 1)]  # free slots -> rows with just that many
    for index in np.argsort(-np.asarray(lengths), kind="stable"):
        size = int(lengths[index])
        free = next((f for f in range(size, length + 1) if open_rows[f]), None)
        row = open_rows[free].pop() if free is not None else len(rows)
        if free is None:
            rows.append([])
            free = length
        rows[row].append(int(index))
        open_rows[free - size].append(row)
    return rows


def plan(lengths: Sequence[int], batch_size: int) -> tuple[Layout, list[list[int]]]:
    """Chooses the row length with the least padding, and the rows of a step so that steps hold `batch_size` dialogues.

    Args:
      lengths: utterances of each dialogue.
      batch_size: dialogues per step, on average.

    Returns:
      The layout and the dialogues of each row (at most steps * rows rows; missing ones are empty).
    """
    longest = max(lengths, default=1)
    steps = max(1, round(len(lengths) / batch_size))
    best: tuple[int, Layout, list[list[int]]] | None = None
    candidates = sorted({longest + round(longest * extra / 8) for extra in range(9)})
    for length in candidates if len(lengths) > 1 else [longest]:
        filled = fill_rows(lengths, length)
        layout = Layout(steps, -(-len(filled) // steps), length)
        slots = layout.steps * layout.rows * layout.length
        if best is None or slots < best[0]:
            best = (slots, layout, filled)
    assert best is not None
    return best[1], best[2]


def pack(corpus: Corpus, split: str, batch_size: int) -> tuple[Layout, Batch]:
    """Packs one split of a corpus.

    Args:
      corpus: the conversations.
      split: "train", "valid" or "test".
      batch_size: dialogues per step, on average (at least 1).

    Returns:
      The layout, and all its rows as one numpy Batch of steps * rows + 1 rows. The last row is empty: what pads a
      batch.
    """
    chosen = np.flatnonzero(corpus.split == split)
    starts = np.flatnonzero(np.diff(corpus.dialogue[chosen], prepend=-1))
    members = np.split(chosen, starts[1:]) if len(chosen) else []
    layout, filled = plan([len(m) for m in members], batch_size)
    rows = layout.steps * layout.rows + 1
    utterance = np.full((rows, layout.length), PADDING, np.int32)
    dialogue = np.full((rows, layout.length), PADDING, np.int32)
    n_node = np.zeros((rows, max((len(r) for r in filled), default=0) + 1), np.int32)
    for row, indices in enumerate(filled):
        end = 0
        for number, index in enumerate(indices):
            size = len(members[index])
            utterance[row, end : end + size] = members[index]
            dialogue[row, end : end + size] = number
            n_node[row, number] = size
            end += size
    n_node[:, -1] = layout.length - n_node[:, :-1].sum(axis=1)
    return layout, _collect(corpus, utterance, dialogue, n_node)


def _collect(corpus: Corpus, utterance: np.ndarray, dialogue: np.ndarray, n_node: np.ndarray) -> Batch:
    real = utterance != PADDING
    present = {m: corpus.present[m][utterance] & real for m in corpus.modalities}
    fields: dict[str, Any] = dict(
        features={m: np.where(present[m][..., None], corpus.features[m][utterance], 0) for m in corpus.modalities},
        present=present,
        dialogue=dialogue,
        speaker=np.where(real, corpus.speaker[utterance], 0).astype(np.int32),
        label=np.where(real, corpus.label[utterance], UNLABELED).astype(np.int32),
        n_node=n_node,
        row=np.arange(len(utterance), dtype=np.int32),
        utterance=utterance,
    )
    return Batch(**fields)


def window(past: int, future: int, length: int) -> tuple[int, int]:
    """The window in slots: WHOLE_DIALOGUE (complete graph) and anything longer than a row become length - 1."""
    limit = max(length - 1, 0)
    return (
        limit if past == WHOLE_DIALOGUE else min(past, limit),
        limit if future == WHOLE_DIALOGUE else min(future, limit),
    )


def conversation_graph(batch: Batch, past: int, future: int) -> jraph.GraphsTuple:
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
    return jraph.GraphsTuple(
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


def modality_graph(graph: jraph.GraphsTuple, hidden: Array, present: Array) -> jraph.GraphsTuple:
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


def fill(batch: Batch) -> float:
    """Share of the computed nodes that are real utterances (host, numpy), in [0, 1]; the row that pads batches
    aside."""
    return float(np.mean(np.asarray(batch.dialogue[:-1]) != PADDING))
