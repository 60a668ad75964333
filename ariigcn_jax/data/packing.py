"""Pack dialogues into rows of static shape: several dialogues share a row, so that little is padding.

Every Batch is made here: `collect` for training, `batches` for prediction, `one_a_row` for streaming and export, and
`empty` for shapes.
"""

from __future__ import annotations

import bisect
import dataclasses
import heapq
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from ariigcn_jax.types import PADDING, UNLABELED, Batch, Corpus, Modality, Tokens, Words

LEAST_FILL = 0.85  # share of the slots of `plan` that hold utterances, at least
ATTENTION = 500  # tokens of a row at which attention in it costs as much as all else of a text encoder, about
SHORTEST_ROW = 16  # slots of `batches`; longer rows come in steps of at most a half, so that few lengths compile


class Layout(NamedTuple):
    """Say how a split is laid out: `steps` batches an epoch of `rows` rows of `length` slots."""

    steps: int
    rows: int
    length: int

    @property
    def slots(self) -> int:
        """Return the slots of an epoch."""
        return self.steps * self.rows * self.length


class Index(NamedTuple):
    """Say which utterances lie where in the rows of a split (numpy)."""

    source: np.ndarray  # [rows, L] int32, index of the utterance in the corpus; PADDING at padding
    utterance: np.ndarray  # [rows, L] int32, the same, but PADDING at the context of a piece of a long dialogue
    dialogue: np.ndarray  # [rows, L] int32, number of the dialogue or piece inside its row; PADDING at padding
    n_node: np.ndarray  # [rows, G] int32, sizes of the row's graphs, its padding last
    # [rows, Q, S] int32, which token of `Corpus.words` is where, and the slot of its utterance; PADDING at padding.
    # None where no text encoder is trained
    token: np.ndarray | None = None
    token_slot: np.ndarray | None = None


def fill_rows(lengths: Sequence[int], length: int, most: int = 0) -> list[list[int]]:
    """Distribute dialogues of the given lengths over rows of `length` slots by best fit, longest first.

    Returns for each row the indices of its dialogues, of which there are at most `most`; 0 is any number.
    """
    rows: list[list[int]] = []
    open_rows: dict[int, list[int]] = {}  # free slots -> rows with just that many
    sizes: list[int] = []  # the keys, sorted
    for index in np.argsort(-np.asarray(lengths), kind="stable"):
        size = int(lengths[index])
        at = bisect.bisect_left(sizes, size)
        if at < len(sizes):
            free = sizes[at]
            row = open_rows[free].pop()
            if not open_rows[free]:
                del open_rows[free], sizes[at]
        else:
            free, row = length, len(rows)
            rows.append([])
        rows[row].append(int(index))
        if not most or len(rows[row]) < most:
            if free - size not in open_rows:
                bisect.insort(sizes, free - size)
            open_rows.setdefault(free - size, []).append(row)
    return rows


def deal_rows(lengths: Sequence[int], count: int) -> list[list[int]]:
    """Deal dialogues of the given lengths, longest first, each to the one of `count` rows with the fewest utterances.

    Returns for each row the indices of its dialogues.
    """
    rows: list[list[int]] = [[] for _ in range(count)]
    loads = [(0, row) for row in range(count)]
    for index in np.argsort(-np.asarray(lengths), kind="stable"):
        load, row = loads[0]
        rows[row].append(int(index))
        heapq.heapreplace(loads, (load + int(lengths[index]), row))
    return rows


def plan(lengths: Sequence[int], batch_size: int) -> tuple[Layout, list[list[int]]]:
    """Choose rows and steps so that steps hold `batch_size` dialogues on average, and little is padding.

    Rows are filled as far as possible, and their length is the one with the least padding. Where more than
    1 - LEAST_FILL of the slots would be padding, as with dialogues of very different lengths, `_even_plan` is taken.

    Returns:
      The layout and the dialogues of each row (at most steps * rows rows; missing ones are empty).
    """
    longest, total = max(lengths, default=1), sum(lengths)
    steps = max(1, round(len(lengths) / batch_size))
    plans = []
    candidates = sorted({longest + round(longest * extra / 8) for extra in range(9)})
    for length in candidates if len(lengths) > 1 else [longest]:
        filled = fill_rows(lengths, length)
        if len(filled) < steps:
            filled = fill_rows(lengths, length, -(-len(lengths) // steps))
        plans.append((Layout(steps, -(-len(filled) // steps), length), filled))
    best = min(plans, key=lambda plan: plan[0].slots)
    return best if total >= LEAST_FILL * best[0].slots else _even_plan(lengths, steps)


def _even_plan(lengths: Sequence[int], steps: int) -> tuple[Layout, list[list[int]]]:
    """Give all rows, and so all steps, about the same number of utterances; at least LEAST_FILL of the slots hold one.

    There are at most `steps` steps: as few as it takes, because a row is at least as long as the longest dialogue.
    Rows of at most twice that length are preferred.
    """
    longest, total = max(lengths), sum(lengths)
    steps = max(1, min(steps, int(total / (LEAST_FILL * longest))))
    while True:
        most = -(-total // (steps * longest))
        plans = []
        for rows in sorted({1 + most * part // 16 for part in range(17)}):
            dealt = deal_rows(lengths, steps * rows)
            length = max(sum(lengths[index] for index in row) for row in dealt)
            plans.append((Layout(steps, rows, length), dealt))
        filled = [plan for plan in plans if total >= LEAST_FILL * plan[0].slots]
        if filled:
            return min(filled, key=lambda plan: (max(plan[0].length, 2 * longest), plan[0].slots))
        steps -= max(1, steps // 16)  # one step of one row has no padding


def pieces(lengths: Sequence[int], longest: int, before: int, after: int) -> list[tuple[int, int, int, int, int]]:
    """Cut dialogues into pieces of about equal size that take at most `longest` slots with context; 0 cuts nothing.

    The context are the utterances `before` and `after` an utterance that reach it through all layers, fewer than
    `longest`. Every utterance is scored in one piece, where it gets what it would get in the whole dialogue.

    Returns:
      (dialogue, first, begin, end, last) of each piece: [begin, end) are scored, [first, last) are with the context.
    """
    cut = []
    for index, size in enumerate(lengths):
        count = -(-size // (longest - before - after)) if longest and size > longest else 1
        own = -(-size // count)
        for begin in range(0, max(size, 1), max(own, 1)):
            end = min(begin + own, size)
            cut.append((index, max(begin - before, 0), begin, end, min(end + after, size)))
    return cut


def index(
    corpus: Corpus, split: str, batch_size: int, longest: int = 0, reach: tuple[int, int] | None = None
) -> tuple[Layout, Index]:
    """Lay out one split of a corpus.

    Args:
      corpus: the conversations.
      split: "train", "valid" or "test".
      batch_size: dialogues (and pieces of long ones) per step, on average (at least 1).
      longest: slots of a row beyond which a dialogue is cut into pieces; 0 cuts none.
      reach: utterances before and after another that reach it, through all layers; None for whole dialogues, never cut.

    Returns:
      The layout, and where all utterances lie in its steps * rows + 1 rows. The last row is empty: what pads a batch.
    """
    chosen = np.flatnonzero(corpus.used(split))
    starts = np.flatnonzero(np.diff(corpus.dialogue[chosen], prepend=-1))
    members = np.split(chosen, starts[1:]) if len(chosen) else []
    lengths, limits = [len(m) for m in members], [0]
    if longest and reach and max(lengths, default=0) > longest:
        least = 4 * sum(reach) + 1  # so that at most a third of what is computed is context
        limits = [max(longest >> k, least) for k in range(5) if k == 0 or longest >> k >= least]
    cuts = [pieces(lengths, limit, *(reach or (0, 0))) for limit in limits]
    count = np.ones(len(corpus), np.int64) if corpus.words is None else np.maximum(corpus.words.lengths, 1)
    totals = [np.concatenate([[0], np.cumsum(count[m])]) for m in members]  # of utterances, or of tokens
    plans = []
    for cut in cuts:
        sizes = [int(totals[d][last] - totals[d][first]) for d, first, _, _, last in cut]
        plans.append((cut, sizes, *plan(sizes, batch_size)))
    cut, sizes, layout, filled = min(plans, key=lambda plan: plan[2].slots)
    made = _laid(corpus.words, members, cut, layout, filled)
    if corpus.words is None or token_fill(made[1]) >= LEAST_FILL:
        return made
    found, rows = [made], layout.rows
    while rows and token_fill(found[-1][1]) < LEAST_FILL:  # fewer and longer rows, all with about as many tokens
        dealt = deal_rows(sizes, layout.steps * rows)
        found.append(_laid(corpus.words, members, cut, layout._replace(rows=rows), dealt))
        rows //= 2
    return max(found, key=lambda made: token_fill(made[1]))


def _laid(
    words: Words | None,
    members: Sequence[np.ndarray],
    cut: Sequence[tuple[int, int, int, int, int]],
    layout: Layout,
    filled: Sequence[Sequence[int]],
) -> tuple[Layout, Index]:
    """Write pieces into the rows of a layout, with their tokens where there are `words`; the arguments of `_place`."""
    graphs = max((len(r) for r in filled), default=0) + 1
    if words is not None:  # the slots of a row are then as many as utterances have so many tokens
        longest = max((sum(cut[piece][4] - cut[piece][1] for piece in row) for row in filled), default=1)
        layout = layout._replace(length=longest)
    where = _place(members, cut, filled, (layout.steps * layout.rows + 1, layout.length), graphs)
    return layout, where if words is None else _with_tokens(words, where)


def _with_tokens(words: Words, where: Index) -> Index:
    """Lay the tokens of each row's utterances into rows of the length that costs least, by padding and attention.

    Lengths that leave more than 1 - LEAST_FILL padding are taken only where all do.
    """
    lengths = words.lengths
    inside = [[(slot, int(u)) for slot, u in enumerate(row) if u != PADDING and lengths[u]] for row in where.source]
    longest = max((int(lengths[u]) for row in inside for _, u in row), default=1)
    candidates = sorted({-(-(longest + longest * extra // 4) // 16) * 16 for extra in range(5)})
    rows = (token_rows(words, inside, length) for length in candidates)
    laid = [where._replace(token=token, token_slot=slot) for token, slot in rows]
    return min(laid, key=lambda made: (token_fill(made) < LEAST_FILL, _token_cost(made)))


def _token_cost(where: Index) -> int:
    """Return what a text encoder costs on the tokens, in a unit of no meaning."""
    assert where.token is not None
    return where.token.size * (ATTENTION + where.token.shape[-1])


def _place(
    members: Sequence[np.ndarray],
    cut: Sequence[tuple[int, int, int, int, int]],
    filled: Sequence[Sequence[int]],
    shape: tuple[int, int],
    graphs: int,
) -> Index:
    """Write pieces `cut` of dialogues with the utterances `members` into rows that are `filled` with their numbers.

    There are `shape` = (rows, slots); rows behind the last filled one stay empty. `graphs` is S, more than the pieces
    of any row.
    """
    source, utterance, dialogue = (np.full(shape, PADDING, np.int32) for _ in range(3))
    n_node = np.zeros((shape[0], graphs), np.int32)
    for row, contents in enumerate(filled):
        at = 0
        for number, piece in enumerate(contents):
            member, first, begin, end, last = cut[piece]
            size = last - first
            source[row, at : at + size] = members[member][first:last]
            utterance[row, at + begin - first : at + end - first] = members[member][begin:end]
            dialogue[row, at : at + size] = number
            n_node[row, number] = size
            at += size
    n_node[:, -1] = shape[1] - n_node[:, :-1].sum(axis=1)
    return Index(source, utterance, dialogue, n_node)


def pack(
    corpus: Corpus, split: str, batch_size: int, longest: int = 0, reach: tuple[int, int] | None = None
) -> tuple[Layout, Batch]:
    """Return `index`'s layout, and all its rows as one numpy Batch."""
    layout, where = index(corpus, split, batch_size, longest, reach)
    return layout, collect(corpus, where, np.arange(len(where.source)))


def batches(corpus: Corpus, most_rows: Callable[[int], int]) -> Iterator[Batch]:
    """Pack whole dialogues of all splits into numpy Batches; `most_rows` is slots of a row -> rows of a batch.

    Lengths and numbers of rows are rounded up, so that the forward pass compiles a handful of times.
    """
    members = np.split(np.arange(len(corpus)), np.flatnonzero(np.diff(corpus.dialogue)) + 1)
    lengths = [len(m) for m in members]
    length = _row_length(max(lengths))
    filled, cut, most = fill_rows(lengths, length), pieces(lengths, 0, 0, 0), max(1, most_rows(length))
    for first in range(0, len(filled), most):
        rows = filled[first : first + most]
        count = min(_power_of_two(len(rows)), most)
        where = _place(members, cut, rows, (count, length), _power_of_two(1 + max(map(len, rows))))
        yield collect(corpus, where, np.arange(count))


def collect(corpus: Corpus, where: Index, rows: np.ndarray) -> Batch:
    """Return the rows with the numbers `rows` [n] as a numpy Batch; only their features are read."""
    source, utterance = where.source[rows], where.utterance[rows]
    real, counted = source != PADDING, utterance != PADDING
    present = {m: corpus.present[m][source] & real for m in corpus.modalities}
    features = {m: corpus.features[m][source] for m in corpus.modalities}
    for m, x in features.items():
        x[~present[m]] = 0
    fields: dict[str, Any] = dict(
        features=features,
        present=present,
        dialogue=where.dialogue[rows],
        speaker=np.where(real, corpus.speaker[source], 0).astype(np.int32),
        label=np.where(counted, corpus.label[source], UNLABELED).astype(np.int32),
        n_node=where.n_node[rows],
        row=np.asarray(rows, np.int32),
        utterance=utterance,
    )
    if corpus.target is not None:
        fields |= {"target": np.where(real[..., None], corpus.target[source], 0), "classes": corpus.num_classes}
    if corpus.ratings is not None:
        rated = counted & np.isfinite(corpus.ratings[source]).all(axis=-1)
        fields |= {"rated": rated, "ratings": np.where(rated[..., None], corpus.ratings[source], 0)}
    if corpus.fold is not None:
        fields["fold"] = np.where(real, corpus.fold[source], PADDING).astype(np.int32)
    if corpus.words is not None and where.token is not None and where.token_slot is not None:
        fields["tokens"] = tokens(corpus.words, where.token[rows], where.token_slot[rows])
    return Batch(**fields)


def one_a_row(
    features: Mapping[Modality, Any], present: Mapping[Modality, Any], speaker: Any, real: Any, xp: Any = np
) -> Batch:
    """Make a Batch of conversations that lie in rows already, one in each, without labels.

    Args:
      features: modality -> [R, L, d_m] float32, as the model takes them; zero where missing.
      present: modality -> [R, L] bool.
      speaker: [R, L] int32.
      real: [R, L] bool; False at padding, which may lie before or behind the conversation.
      xp: `numpy`, or `jax.numpy` where the arrays are traced.
    """
    place = xp.where(real, 0, PADDING).astype(np.int32)
    sizes = xp.stack([real.sum(axis=1), (~real).sum(axis=1)], axis=1)
    return Batch(
        features=dict(features),
        present=dict(present),
        dialogue=place,
        speaker=xp.where(real, speaker, 0).astype(np.int32),
        label=xp.full(real.shape, UNLABELED, np.int32),
        n_node=sizes.astype(np.int32),
        row=xp.arange(len(real), dtype=np.int32),
        utterance=place,
    )


def empty(widths: Mapping[Modality, int]) -> Batch:
    """Make a numpy Batch of one empty slot, to find shapes of parameters with; `widths` is modality -> d_m."""
    nothing = np.zeros((1, 1), bool)
    features = {m: np.zeros((1, 1, width), np.float32) for m, width in widths.items()}
    return one_a_row(features, dict.fromkeys(widths, nothing), np.zeros((1, 1), np.int32), nothing)


def token_rows(
    words: Words, rows: Sequence[Sequence[tuple[int, int]]], length: int, count: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Lay the tokens of utterances one after another into rows of `length` tokens, by best fit.

    Args:
      words: the tokens.
      rows: for each row of a batch, the slot and the number of each of its utterances that has tokens.
      length: S, at least the tokens of any utterance.
      count: at least so many rows of tokens for each row; 0 for as many as are needed.

    Returns:
      Which token of `words` is where, and the slot of its utterance, [rows, Q, S] int32 each; PADDING at padding.
    """
    lengths = words.lengths
    filled = [fill_rows([int(lengths[u]) for _, u in row], length) for row in rows]
    shape = (len(rows), max(1, count, *map(len, filled)), length)
    token, slots = (np.full(shape, PADDING, np.int32) for _ in range(2))
    for r, (row, parts) in enumerate(zip(rows, filled, strict=True)):
        for q, chosen in enumerate(parts):
            at = 0
            for slot, u in (row[n] for n in chosen):
                end = at + int(lengths[u])
                token[r, q, at:end] = np.arange(words.start[u], words.start[u + 1])
                slots[r, q, at:end] = slot
                at = end
    return token, slots


def tokens(words: Words, token: np.ndarray, slot: np.ndarray) -> Tokens:
    """Return the tokens [rows, Q, S] of `token_rows` as a numpy Tokens."""
    real = token != PADDING
    if not len(words.ids):  # nothing was said: all is padding, of which the first token is read
        states = None if words.states is None else np.zeros((1, words.states.shape[1]), np.float32)
        words = dataclasses.replace(words, ids=np.zeros(1, np.int32), pooled=np.zeros(1, bool), states=states)
    known = np.where(real, token, 0)
    begin = words.start[np.searchsorted(words.start, known, side="right") - 1]
    fields: dict[str, Any] = dict(
        slot=slot,
        position=np.where(real, known - begin + words.first_position, 0).astype(np.int32),
        pooled=words.pooled[known] & real,
    )
    if words.states is None:
        return Tokens(ids=np.where(real, words.ids[known], 0), **fields)  # type: ignore[arg-type]
    return Tokens(states=words.states[known] * real[..., None], **fields)


def fill(batch: Batch | Index) -> float:
    """Return the share of the computed nodes that are scored utterances, in [0, 1]; the row that pads batches aside."""
    return float(np.mean(np.asarray(batch.utterance[:-1]) != PADDING))


def token_fill(where: Index) -> float:
    """Return the share of the computed tokens that are real, in [0, 1]; 1 where there are none."""
    assert where.token is not None
    real = where.token[:-1] != PADDING
    return float(real.mean()) if real.any() else 1.0


def _power_of_two(least: int) -> int:
    return 1 << (least - 1).bit_length()


def _row_length(longest: int) -> int:
    """Return the first of 16, 24, 32, 48, 64, … that is at least `longest`."""
    power = max(_power_of_two(longest), SHORTEST_ROW)
    return power * 3 // 4 if longest <= power * 3 // 4 and power > SHORTEST_ROW else power
