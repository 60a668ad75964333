"""Validate the fields of a file and make them a Corpus."""

from __future__ import annotations

import contextlib
import dataclasses
import json
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from ariigcn_jax.data import labels, prepare, splits, targets
from ariigcn_jax.data.fields import (
    SCORES,
    SPLIT_NAMES,
    Fields,
    count,
    features_of,
    is_named_like_a_modality,
    listed,
    modalities_of,
)
from ariigcn_jax.data.values import short
from ariigcn_jax.types import UNLABELED, Corpus, Modality, UserError

NO_LABELS = (
    "a chat, subtitles and what a recogniser writes have no labels to learn from. Write a table with one row a turn "
    "and the columns dialogue_id,speaker,transcript,label, such as call1,Ann,Oh no!,sad"
)


class _Order(NamedTuple):
    """Say which rows of the file are the utterances of which dialogue."""

    rows: np.ndarray  # [U] int, of the file, in the corpus's order: dialogues gathered and sorted by turn
    dialogue: np.ndarray  # [U] int32, index into `names`
    start: np.ndarray  # [dialogues] int, the first utterance of each
    names: tuple[str, ...]  # of the dialogues


@np.errstate(over="ignore", invalid="ignore")  # what is not finite becomes missing, with a note
def assemble(
    archive: Fields,
    *,
    name: str | None = None,
    modalities: Sequence[Modality] = (),
    label: str = "label",
    valid_fraction: float = 0.1,
    test_fraction: float = 0.2,
    training: bool = True,
    task: str = "classification",
    ratings: Sequence[str] = (),
    relabel: str = "",
    split: str = "",
    without: str = "",
    carved: bool = False,
    words: bool = False,
    recorded: Sequence[Modality] = (),
) -> Corpus:
    """Validate fields as `LAYOUT` has them, and make them a corpus: dialogues in the order of their first rows.

    Args:
      archive: the fields; its notes grow, and float32 arrays of it may become the corpus's own.
      name: what the corpus is called; the file's stem where not given.
      modalities: the fields to take as modalities, in this order; () takes every 2-D floating field named like one.
      label: the field of the labels; their names come from the field `<label>_names`.
      valid_fraction: share of the train dialogues, in [0, 1), that becomes validation where the file names none.
      test_fraction: share of the dialogues, in [0, 1), that becomes the test split where the file has no splits at all.
      training: whether the corpus is to be trained on; else labels and splits may be absent.
      task: what the labels are, a key of `targets.TARGETS`.
      ratings: fields of annotators' ratings to learn beside the label in training, [U] or [U, k] numbers, or one field
        whose name joins theirs by underscores; what the file lacks is noted and left out.
      relabel: which classes are merged, renamed or dropped, as for `labels.renamings`; "" for none.
      split: what is the test split, as in the docstring of `splits`; "" for what the file says.
      without: the dialogues that are left out, written as `split` is; "" for none.
      carved: whether the splits are those of training also where it is not `training`; else, where neither the file nor
        `split` names any, every dialogue is in the test split.
      words: whether transcripts may be a modality, WORDS, whose features [U, 0] a text encoder is to make.
      recorded: modalities whose features [U, 0] are to be made of recordings, where there are any.

    Raises:
      UserError: the fields cannot be used; names the file, the field and what to do.
    """
    fractions = {"valid": valid_fraction, "test": test_fraction}
    for part, fraction in fractions.items():
        if not 0 <= fraction < 1:
            raise UserError(f"{part}_fraction={fraction}: a share of the dialogues is at least 0 and less than 1.")
    chosen = modalities_of(archive, modalities, label, ratings, words, recorded)
    order = _order(archive)
    classes, label_names, target = _truth(archive, label, order.rows, task, relabel, training)
    speaker, speaker_names = _speakers(archive, order)
    kept = _kept(archive, order, without)
    given = _chosen_splits(archive, order, kept, split) if split else _given_splits(archive, order)
    if training or split or carved:
        source = f"data.split={split}" if split else "the file" + (without and f" without {without}")
        given = _carve(archive, order, given, source, () if split else archive.train_order, kept, classes, fractions)
    elif given is None:
        given = np.full(len(order.names), "test")
    features, present = features_of(archive, chosen, order.rows, training)
    corpus = Corpus(
        name=name or archive.name or (archive.path.name if archive.path.is_dir() else archive.path.stem),
        features=features,
        present=present,
        dialogue=order.dialogue,
        speaker=speaker,
        label=classes,
        split=given[order.dialogue],
        label_names=label_names,
        dialogue_ids=order.names,
        utterance_ids=_utterance_ids(archive, order),
        speaker_names=speaker_names,
        transcript=archive.names("transcript", order.rows),
        clips=_clips(archive, order.rows),
        recipes=_recipes(archive, chosen),
    )
    if target is not None:
        corpus = targets.attach(corpus, task, *target)
    if training:
        known = _ratings(archive, ratings, order.rows, corpus.split == "train")
        corpus = dataclasses.replace(corpus, ratings=known)
    if without:
        corpus = prepare.dialogues(corpus, kept)
    notes = _check_training(archive, label, without, corpus) if training else []
    return dataclasses.replace(corpus, notes=(*archive.notes, *notes))


def _clips(archive: Fields, rows: np.ndarray) -> np.ndarray | None:
    """Return [U] objects, the clips in the corpus's order; None where nothing was recorded."""
    if not any(archive.clips):
        return None
    clips = np.empty(len(rows), object)  # an array of the clips themselves would have their parts as columns
    for n, row in enumerate(rows):
        clips[n] = archive.clips[row]
    return clips


def _recipes(archive: Fields, chosen: Sequence[Modality]) -> dict[Modality, dict[str, Any]]:
    """Return how `features` made the modalities, as the field `provenance` says; {} where it says nothing."""
    field = archive.arrays.get("provenance", np.array("{}"))
    with contextlib.suppress(ValueError, RecursionError):
        known = json.loads(str(field)) if field.shape == () else {}
        if isinstance(known, dict):
            return {m: known[m] for m in chosen if isinstance(known.get(m), dict)}
    return {}


def _truth(
    archive: Fields, label: str, rows: np.ndarray, task: str, relabel: str, training: bool
) -> tuple[np.ndarray, tuple[str, ...], targets.Named | None]:
    """Return [U] int32 labels (of other tasks 0 where there is a truth), class names, and targets with their names."""
    target = targets.of(task)
    if relabel and target is not None:
        raise UserError(f"data.relabel={relabel} renames classes, and data.task={task} has none. Leave it out.")
    if not training and label not in archive.arrays:
        return np.full(len(rows), UNLABELED, np.int32), (), None
    if archive.unlabelled:
        raise UserError(f"{archive.path}: {NO_LABELS}.")
    if target is not None:
        found = target.read(archive, label, rows)
        return np.where(np.isfinite(found[0]).all(axis=1), 0, UNLABELED).astype(np.int32), (), found
    return *labels.relabel(*_classes(archive, label, rows), relabel, partly=not training), None


def _ratings(archive: Fields, names: Sequence[str], order: np.ndarray, train: np.ndarray) -> np.ndarray | None:
    """Return [U, K] float32, mean 0 and deviation 1 over train (choice), rows of NaN where one is missing."""
    columns = []
    if "_".join(names) in archive.arrays:  # all of them as the columns of one field
        names = ("_".join(names),)
    for field in dict.fromkeys(names):
        values = archive.get(field)
        if values is None:
            archive.note(f"there is no field `{field}`, which data.ratings names: trained without it")
            continue
        if values.dtype.kind not in "biuf" or values.ndim not in (1, 2) or len(values) != len(order) or not values.size:
            remedy = f"data.ratings needs numbers, [{len(order)}] or [{len(order)}, k], NaN where there is no rating"
            raise archive.refusal(field, f"is {values.dtype} {list(values.shape)}", remedy)
        columns.append(np.asarray(values[order], np.float64).reshape(len(order), -1))
    if not columns:
        return None
    rows = np.concatenate(columns, axis=1)
    known = np.isfinite(rows.sum(axis=1))
    trained = rows[known & train]
    if not len(trained):
        archive.note(f"{listed(names)}: no utterance of the train split has all of these ratings: trained without them")
        return None
    scale = trained.std(axis=0)
    standard = (rows - trained.mean(axis=0)) / np.where(scale > 0, scale, 1.0)
    return np.where(known[:, None], standard, np.nan).astype(np.float32)


def _order(archive: Fields) -> _Order:
    """Gather dialogues and sort their utterances by turn; equal turns stay as they are in the file."""
    ids = archive.names("dialogue_id")
    if ids is None:
        raise archive.absent("dialogue_id", "Add it: [U] text or integers, the dialogue of each utterance")
    if not len(ids):
        raise archive.refusal("dialogue_id", "has no rows", "Write at least one utterance")
    dialogue, names = _by_appearance(ids)
    runs = dialogue[np.flatnonzero(np.diff(dialogue, prepend=-1))]
    if scattered := int((np.bincount(runs) > 1).sum()):
        archive.note(f"the rows of {count(scattered, 'dialogue')} were not contiguous and were gathered")
    rows = np.argsort(dialogue, kind="stable")
    dialogue = dialogue[rows]
    turn = archive.column("turn", rows)
    if turn is not None:
        if turn.dtype.kind not in "iuf" or not np.isfinite(turn).all():
            remedy = "It must hold numbers, or leave the field out"
            raise archive.refusal("turn", f"is {turn.dtype} or not finite", remedy)
        inside = dialogue[1:] == dialogue[:-1]
        if unsorted := len(np.unique(dialogue[1:][inside & (turn[1:] < turn[:-1])])):
            archive.note(f"the rows of {count(unsorted, 'dialogue')} were not in the order of `turn` and were sorted")
        by_turn = np.lexsort((turn, dialogue))
        if ties := int((inside & (np.diff(turn[by_turn]) == 0)).sum()):
            archive.note(f"{count(ties, 'utterance')} with the `turn` of another one stayed in the order of the file")
        rows = rows[by_turn]
    start = np.unique(dialogue, return_index=True)[1]
    return _Order(rows, dialogue.astype(np.int32), start, tuple(names.tolist()))


def _by_appearance(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Number values by their first appearance: [U] int, and the values by number."""
    unique, first, inverse = np.unique(values, return_index=True, return_inverse=True)
    order = np.argsort(first)
    return np.argsort(order)[inverse], unique[order]


def _classes(archive: Fields, field: str, order: np.ndarray) -> targets.Named:
    """Return [U] int32 labels, UNLABELED for none, and the names of the classes."""
    values = archive.column(field, order)
    if values is None:
        raise archive.absent(field, targets.MISSING)
    if values.dtype.kind not in "iufb":
        remedy = "It must hold integers: number text by numpy.unique(label, return_inverse=True)"
        raise archive.refusal(field, f"is {values.dtype}", remedy)
    if values.dtype.kind == "f" and (wrong := ~np.isfinite(values) | (values != np.round(values))).any():
        remedy = "It must hold integers, negative where there is no label; scores are learnt with data.task=regression"
        raise archive.refusal(field, f"has the value {values[wrong][0]}", remedy)
    names = archive.names(f"{field}_names")
    if names is None:
        if values.max() >= len(values):
            problem = f"has the value {values.max():.0f}, more than there are utterances"
            raise archive.refusal(field, problem, f"Count labels from 0, or name all classes in `{field}_names`")
        names = np.arange(int(values.max()) + 1).astype(str)
    if len(set(names.tolist())) < len(names):
        raise archive.refusal(f"{field}_names", f"has a name twice: {listed(names)}", "Give each class its own name")
    if values.max() >= len(names):
        problem = f"has the value {values.max():.0f}, but `{field}_names` has only {count(len(names), 'name')}"
        raise archive.refusal(field, problem, "Labels count from 0; add the missing names")
    return np.where(values < 0, UNLABELED, values).astype(np.int32), tuple(names.tolist())


def _speakers(archive: Fields, order: _Order) -> tuple[np.ndarray, np.ndarray | None]:
    """Return [U] int32, numbered inside each dialogue, and [U] names."""
    names = archive.names("speaker", order.rows)
    if names is None:
        archive.note("there is no field `speaker`: every dialogue counts as the monologue of speaker 0")
        return np.zeros(len(order.rows), np.int32), None
    _, person = np.unique(names, return_inverse=True)
    number, _ = _by_appearance(order.dialogue.astype(np.int64) * len(names) + person)
    # Numbers run on from dialogue to dialogue, and a dialogue's first row has its lowest.
    return (number - number[order.start][order.dialogue]).astype(np.int32), names


def _carve(
    archive: Fields,
    order: _Order,
    given: np.ndarray | None,
    source: str,
    customary: Sequence[str],
    kept: np.ndarray,
    label: np.ndarray,
    fractions: dict[str, float],
) -> np.ndarray:
    """Return [dialogues] str, "" for those that are not `kept`.

    What `given`, the splits of `source`, does not name is carved out of the train dialogues: validation from the first
    `customary` ones where there are any, else by speaker or session where those of test are not in train, else by a
    hash of their names.
    """
    split = np.where(kept, "train" if given is None else given, "")
    # A dialogue without a label would be no validation at all.
    usable = np.isin(np.arange(len(split)), order.dialogue[label != UNLABELED])
    for name in (["test"] if given is None else []) + ([] if "valid" in split else ["valid"]):
        train = np.flatnonzero((split == "train") & usable)
        candidates = [order.names[d] for d in train]
        picked, how = splits.carve(candidates, fractions[name], name), "chosen by a hash of their names"
        if customary and name == "valid":
            known = set(candidates)
            ordered = [d for d in customary if d in known]
            # Published codes round down: int(0.1 * 120) of IEMOCAP's dialogues.
            number = min(max(int(fractions[name] * len(ordered)), 1), len(picked) and len(ordered) - 1)
            picked, how = frozenset(ordered[:number]), "the first ones of the file's train list, as published codes do"
        chosen = (split == "train") & [d in picked for d in order.names]
        if picked and given is not None and (found := _new_in_test(archive, order, split)):
            field, group = found
            whole = splits.carve_groups({order.names[d]: int(group[d]) for d in train}, fractions[name], name)
            if whole and not customary:
                picked, how = whole, f"each `{field}` as a whole, because no `{field}` of the test split is in train"
                # with the dialogues without a label that belong to them
                chosen = (split == "train") & np.isin(group, [group[d] for d in train if order.names[d] in whole])
            else:
                how += (
                    f"; no `{field}` of the test split is in train, so scores on test may be lower than on validation"
                )
        split[chosen] = name
        among = count(len(candidates), "labelled train dialogue")
        outcome = f"{len(picked)} of {among} became the {name} split, {how}"
        if not picked:
            why = f" ({among} cannot be divided)" if fractions[name] and len(candidates) < 2 else ""
            outcome = f"the {name} split stays empty{why}"
        archive.note(f"{source} names no {'splits' if given is None else f'{name} split'}: {outcome}")
    if "test" not in split and given is not None:
        archive.note(f"{source} names no test split")
    return split


def _new_in_test(archive: Fields, order: _Order, split: np.ndarray) -> tuple[str, np.ndarray] | None:
    """Return the first field whose values in test are not in train, and `splits.grouped` by it; None without one."""
    sessions = splits.sessions(order.names)
    fields = {} if sessions is None else {"session": sessions[order.dialogue]}
    for field in splits.RECORDINGS:
        with contextlib.suppress(UserError):  # a field of this name may hold anything
            values = archive.names(field, order.rows)
            fields |= {} if values is None else {field: values}
    groups = ((field, splits.grouped(order.dialogue, values, split)) for field, values in fields.items())
    return next(((field, group) for field, group in groups if group is not None), None)


def _kept(archive: Fields, order: _Order, without: str) -> np.ndarray:
    """Return [dialogues] bool, those that are not left out."""
    kept = np.ones(len(order.names), bool)
    if without:
        kept = ~_held_out(archive, order, kept, splits.parse(without, "data.without"))
        archive.note(f"data.without={without}: {(~kept).sum()} of {count(len(kept), 'dialogue')} are left out")
    return kept


def _held_out(archive: Fields, order: _Order, among: np.ndarray, what: splits.HeldOut) -> np.ndarray:
    """Return [dialogues] bool, of those `among` which are chosen."""
    values = archive.names(what.field, order.rows)
    if values is None:
        raise archive.absent(what.field, f"{what.written} needs it; it may name another field")
    rows, number = among[order.dialogue], np.cumsum(among) - 1
    names = [order.names[d] for d in np.flatnonzero(among)]
    held = np.zeros(len(among), bool)
    held[among] = splits.hold_out(what, number[order.dialogue[rows]], values[rows], names)
    return held


def _chosen_splits(archive: Fields, order: _Order, kept: np.ndarray, text: str) -> np.ndarray:
    """Return [dialogues] str, "test" for what the user holds out, else "train"; note people who are in both."""
    held = _held_out(archive, order, kept, splits.parse(text))
    archive.note(f"data.split={text}: {held.sum()} of {count(kept.sum(), 'dialogue')} became the test split")
    for field in splits.PEOPLE:
        people = archive.names(field, order.rows)
        if people is not None:
            tested, others = (set(people[chosen[order.dialogue]].tolist()) for chosen in (held, kept & ~held))
            if both := sorted(tested & others):
                few = f"{listed(both[:3])}{' …' if len(both) > 3 else ''}"
                tell = f"{len(both)} of {count(len(tested), 'name')} in the `{field}` of the test split are in the"
                archive.note(f"data.split={text}: {tell} other dialogues too ({few})")
            break
    return np.where(held, "test", "train").astype("<U5")


def _given_splits(archive: Fields, order: _Order) -> np.ndarray | None:
    """Return [dialogues] str, or None where the file has no splits."""
    values = archive.names("split", order.rows)
    if values is None:
        return None
    written, index = np.unique(values, return_inverse=True)
    known = [SPLIT_NAMES.get(str(name).strip().lower()) for name in written]
    if None in known:
        wrong = str(written[known.index(None)])
        raise archive.refusal("split", f"has the value {wrong[:80]!r}", f"It must be one of {', '.join(SPLIT_NAMES)}")
    split = np.array(known)[index]
    first = split[order.start]
    if (mixed := np.flatnonzero(split != first[order.dialogue])).size:
        dialogue = int(order.dialogue[mixed[0]])
        both = " and ".join(sorted({str(split[mixed[0]]), str(first[dialogue])}))
        problem = f"the dialogue {short(order.names[dialogue])!r} is in both {both}"
        raise archive.refusal("split", problem, "Context would leak: give all rows of a dialogue the same split")
    return first


def _utterance_ids(archive: Fields, order: _Order) -> tuple[str, ...]:
    names = archive.names("utterance_id", order.rows)
    if names is None:
        turn = np.arange(len(order.rows)) - order.start[order.dialogue]
        return tuple(f"{order.names[d]}_{t}" for d, t in zip(order.dialogue.tolist(), turn.tolist(), strict=True))
    if twice := len(names) - len(np.unique(names)):
        archive.note(f"{count(twice, 'utterance has', 'utterances have')} the `utterance_id` of another one")
    return tuple(names.tolist())


def _check_training(archive: Fields, label: str, without: str, corpus: Corpus) -> list[str]:
    """Raise where a corpus cannot be trained on; return notes on what it cannot teach or measure."""
    train, labelled = corpus.split == "train", corpus.label != UNLABELED
    if not train.any() and without:
        raise UserError(f"data.without={without}: no dialogue is left in the train split. Leave out fewer.")
    if not train.any():
        raise archive.refusal("split", "no dialogue is in the train split", "Put some there, or leave the field out")
    if not (train & labelled).any():
        remedy = "Labels count from 0, and negative means that there is none"
        raise archive.refusal(label, "no utterance of the train split has a label", remedy)
    of_none = {targets.NONE} if corpus.target is not None else set()  # that labels always apply is no fault
    counts = zip(corpus.label_names, targets.occurrences(corpus, train), strict=True)
    unseen = [name for name, number in counts if not number and name not in of_none]
    notes = [f"no train utterance is labelled {', '.join(unseen)}"] if unseen else []
    notes += [f"no train utterance has `{m}`" for m, here in corpus.present.items() if not here[train].any()]
    blind = [s for s in ("valid", "test") if s in corpus.split and not labelled[corpus.split == s].any()]
    return notes + [f"no utterance of the {split} split has a label" for split in blind]


def other_targets(archive: Fields, label: str) -> dict[str, targets.Named]:
    """Return the labels other than `label` that have names, and sentiment scores, in the corpus's order.

    Returns:
      Field -> ([U] int32 with UNLABELED for none, names of the classes), or ([U] float64 with NaN for none, ()), or of
      a 2-D field ([U, O] float32 with rows of NaN for none, names of the labels).

    Raises:
      UserError: one of them is no labels.
    """
    quiet = dataclasses.replace(archive, notes=[])
    rows = _order(quiet).rows
    found: dict[str, targets.Named] = {}
    for field, array in archive.arrays.items():
        if f"{field}_names" not in archive.arrays or field == label:
            continue
        if array.ndim < 2:
            found[field] = _classes(quiet, field, rows)
        elif not is_named_like_a_modality(field):  # those name its features
            found[field] = targets.LABELS.read(quiet, field, rows)
    for field in SCORES:
        values = archive.arrays.get(field)
        if values is not None and values.dtype.kind == "f" and field not in (*found, label):
            with contextlib.suppress(UserError):  # scores of another range are left out
                found[field] = targets.SCORE.read(quiet, field, rows)[0][:, 0].astype(np.float64), ()
    return found
