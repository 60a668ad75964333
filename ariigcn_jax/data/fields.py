"""Named arrays with one row per utterance → a validated corpus. What every layout's reader ends in."""

from __future__ import annotations

import contextlib
import dataclasses
import difflib
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ariigcn_jax.data import labels as classes
from ariigcn_jax.data import splits
from ariigcn_jax.data import targets as truths
from ariigcn_jax.data.readers.conversations import select
from ariigcn_jax.data.values import short
from ariigcn_jax.types import SPLITS, UNLABELED, Corpus, Modality, UserError

PREFIXES = ("text", "audio", "visual", "video", "vocal", "face", "acoustic", "vision")
LAYOUT = f"""\
  dialogue_id        [U] text or integers; required
  label              [U] integers counted from 0, negative where there is no label; required
                     (with data.task=regression [U] numbers in [-3, 3], with multilabel [U, labels] zeros and ones,
                     both NaN where there is no label)
  <modality>         [U, d] floats, at least one, named {", ".join(PREFIXES)},
                     alone or with _<suffix>; any other name has to be asked for
  <modality>_present [U] bool; without it, rows that are all zero, NaN or Inf count as missing
  label_names        [C] text; without it the classes are called 0, 1, …
  split              [U] train, valid or test, the same for a whole dialogue; without it dialogues are held out
  turn               [U] numbers that order the utterances of a dialogue; without it the file's order counts
  speaker, utterance_id, transcript
                     [U] text or integers
"""

SCORES = ("sentiment_score", "sentiment")  # what readers and tools.features call the score of a sentiment
_FIXED_WIDTH_BYTES = 64 * 2**20
_BLOCK_ROWS = 2048  # of a modality that are looked at together, so that a memory-mapped one stays on disk
_SPLIT_NAMES = {name: name for name in SPLITS} | dict.fromkeys(("val", "dev", "validation"), "valid")
_NAMED_LIKE_A_MODALITY = re.compile(rf"({'|'.join(PREFIXES)})(_.*)?(?<!_present)")


@dataclasses.dataclass(frozen=True)
class Fields:
    """The fields of a file.

    Attributes:
      path: the file.
      arrays: field -> array.
      opaque: fields that hold something other than a plain array, which only pickle could read.
      notes: what was found so far; grows while reading.
      train_order: names of the train dialogues in the order whose first ones published codes take as validation; ()
        where there is no such custom, and a hash of the names decides.
      name: what the file calls the corpus; "" where it does not.
      others: columns that became no field, for the message where a field is not there.
    """

    path: Path
    arrays: dict[str, np.ndarray]
    opaque: tuple[str, ...] = ()
    notes: list[str] = dataclasses.field(default_factory=list)
    train_order: tuple[str, ...] = ()
    name: str = ""
    others: list[str] = dataclasses.field(default_factory=list)

    def refusal(self, field: str, problem: str, remedy: str) -> UserError:
        return UserError(f"{self.path}: field `{field}`: {problem}. {remedy}.")

    def note(self, text: str) -> None:
        if text not in self.notes:  # a converted corpus brings along what was said of the original
            self.notes.append(text)

    def absent(self, field: str, remedy: str) -> UserError:
        close = difflib.get_close_matches(field, [*self.arrays, *self.opaque, *self.others], n=1)
        hint = f"Did you mean `{close[0]}`? " if close else ""
        return self.refusal(field, f"is not there; the file has {listed([*self.arrays, *self.others])}", hint + remedy)

    def get(self, field: str) -> np.ndarray | None:
        """The field's array; None where it is absent."""
        if field in self.opaque:
            raise self.refusal(
                field,
                "is an object array, which only pickle can read, and pickle can run code",
                "Write it as a plain array: numbers with a dtype, or text by numpy.array(values, dtype=str)",
            )
        return self.arrays.get(field)

    def column(self, field: str, order: np.ndarray | None = None) -> np.ndarray | None:
        """[U]: the field, in the given order; None where it is absent."""
        values = self.get(field)
        if values is None:
            return None
        if values.ndim != 1 or (order is not None and len(values) != len(order)):
            remedy = "It must be 1-D" if order is None else f"It must be [{len(order)}], one value per utterance"
            raise self.refusal(field, f"has the shape {values.shape}", remedy)
        return values if order is None else values[order]

    def names(self, field: str, order: np.ndarray | None = None) -> np.ndarray | None:
        """[U] str: the field, in the given order; None where it is absent."""
        values = self.column(field, order)
        if values is None or values.dtype.kind in "UO":  # object arrays of str come from `text_array` alone
            return values
        if values.dtype.kind in "iu":
            return values.astype(str)
        try:
            return np.char.decode(values, "utf-8")
        except UnicodeDecodeError:
            problem = "holds bytes that are not UTF-8"
        except (TypeError, ValueError):
            problem = f"is {values.dtype}"
        raise self.refusal(field, problem, "It must hold text or integers")


def targets(archive: Fields, label: str) -> dict[str, tuple[np.ndarray, tuple[str, ...]]]:
    """The labels other than `label` that have names, and the scores of the sentiment, in the order of the corpus.

    Args:
      archive: the fields, as they were assembled.
      label: the field that was.

    Returns:
      Field -> ([U] int32 with UNLABELED for none, names of the classes), or ([U] float64 with NaN for none, ()), or of
      a 2-D field ([U, O] float32 with rows of NaN for none, names of the labels).

    Raises:
      UserError: one of them is no labels.
    """
    quiet = dataclasses.replace(archive, notes=[])
    order, _, _ = _order(quiet)
    others = [
        field
        for field, array in archive.arrays.items()
        if f"{field}_names" in archive.arrays
        and field != label
        and not (array.ndim >= 2 and _NAMED_LIKE_A_MODALITY.fullmatch(field))  # those name its features
    ]
    found: dict[str, tuple[np.ndarray, tuple[str, ...]]] = {
        f: _labels(quiet, f, order) if archive.arrays[f].ndim < 2 else truths.LABELS.read(quiet, f, order)
        for f in others
    }
    for field in SCORES:
        values = archive.arrays.get(field)
        if values is not None and values.dtype.kind == "f" and field not in (*others, label):
            with contextlib.suppress(
                UserError
            ):  # scores of another range are no target, and no reason to convert nothing
                found[field] = truths.SCORE.read(quiet, field, order)[0][:, 0].astype(np.float64), ()
    return found


def text_array(values: Sequence[str]) -> np.ndarray:
    """[U] str. Fixed width takes 4 bytes for each character of the longest one: long texts become objects (choice)."""
    longest = max((len(v) for v in values), default=0)
    if 4 * longest * len(values) <= _FIXED_WIDTH_BYTES:
        return np.array(values, dtype=str)
    array = np.empty(len(values), object)
    array[:] = values
    return array


@np.errstate(over="ignore", invalid="ignore")  # what is not finite becomes missing, and is said
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
) -> Corpus:
    """Validates fields and makes them a corpus; what they must hold is in `LAYOUT`.

    Args:
      archive: the fields; its notes grow, and float32 arrays of it may become the corpus's own.
      name: what the corpus is called; the file's stem where not given.
      modalities: the fields to take as modalities, in this order; () takes every 2-D floating field named like one.
      label: the field of the labels; their names come from the field `<label>_names`.
      valid_fraction: share of the train dialogues, in [0, 1), that becomes validation where the file names none.
      test_fraction: share of the dialogues, in [0, 1), that becomes the test split where the file has no splits at all.
      training: whether the corpus is to be trained on; else labels may be absent.
      task: what the labels are: "classification", "regression" or "multilabel".
      ratings: fields of annotators' ratings to learn beside the label, [U] or [U, k] numbers, or one field whose name
        joins theirs by underscores; what the file lacks is noted and left out. They are used in training alone.
      relabel: which classes are merged, renamed or dropped, as for `labels.renamings`; "" for none.
      split: what is the test split, as in the docstring of `splits`; "" for what the file says.
      without: the dialogues that are left out, written as `split` is; "" for none.
      carved: whether the splits are those of training also where it is not `training`; else, where neither the file nor
        `split` names any, every dialogue is in the test split.

    Returns:
      The corpus, features as in the file (not standardised). Dialogues come in the order of their first rows.

    Raises:
      UserError: the fields cannot be used; names the file, the field and what to do.
    """
    fractions = {"valid": valid_fraction, "test": test_fraction}
    for part, fraction in fractions.items():
        if not 0 <= fraction < 1:
            raise UserError(f"{part}_fraction={fraction}: a share of the dialogues is at least 0 and less than 1.")
    chosen = _choose(archive, modalities, label, ratings)
    order, dialogue, dialogue_ids = _order(archive)
    labels, label_names, targets = _truth(archive, label, order, task, relabel, training)
    speaker, speaker_names = _speakers(archive, order, dialogue)
    where = archive, order, dialogue, dialogue_ids
    kept = _kept(*where, without)
    given = _chosen_splits(*where, kept, split) if split else _given_splits(*where)
    if training or split or carved:
        given = _carve(archive, given, split, without, dialogue, dialogue_ids, kept, labels != UNLABELED, fractions)
    elif given is None:
        given = np.full(len(dialogue_ids), "test")
    features, present = _features(archive, chosen, order, training)
    corpus = Corpus(
        name=name or archive.name or (archive.path.name if archive.path.is_dir() else archive.path.stem),
        features=features,
        present=present,
        dialogue=dialogue,
        speaker=speaker,
        label=labels,
        split=given[dialogue],
        label_names=label_names,
        dialogue_ids=dialogue_ids,
        utterance_ids=_utterance_ids(archive, order, dialogue, dialogue_ids),
        speaker_names=speaker_names,
        transcript=archive.names("transcript", order),
    )
    if targets is not None:
        corpus = truths.attach(corpus, task, *targets)
    if training:
        corpus = dataclasses.replace(corpus, ratings=_ratings(archive, ratings, order, corpus.split == "train"))
    if without:
        corpus = select(corpus, np.flatnonzero(kept).tolist())
    if not training:
        return dataclasses.replace(corpus, notes=tuple(archive.notes))
    _check_training(archive, label, without, corpus)
    return dataclasses.replace(corpus, notes=(*archive.notes, *_training_notes(corpus)))


def _truth(
    archive: Fields, label: str, order: np.ndarray, task: str, relabel: str, training: bool
) -> tuple[np.ndarray, tuple[str, ...], tuple[np.ndarray, tuple[str, ...]] | None]:
    """[U] int32 labels (of other tasks 0 where there is a truth), class names, and targets with their names."""
    target = truths.of(task)
    if relabel and target is not None:
        raise UserError(f"data.relabel={relabel} renames classes, and data.task={task} has none. Leave it out.")
    if not training and label not in archive.arrays:
        return np.full(len(order), UNLABELED, np.int32), (), None
    if target is not None:
        targets = target.read(archive, label, order)
        return np.where(np.isfinite(targets[0]).all(axis=1), 0, UNLABELED).astype(np.int32), (), targets
    labels, names = _labels(archive, label, order)
    return *classes.relabel(labels, names, relabel, partly=not training), None


def _choose(
    archive: Fields, modalities: Sequence[Modality], label: str, ratings: Sequence[str]
) -> tuple[Modality, ...]:
    """The fields that are the modalities; one of several labels is none, nor are ratings."""
    if modalities:
        return _named(archive, (modalities,) if isinstance(modalities, str) else tuple(modalities))
    for field in filter(_NAMED_LIKE_A_MODALITY.fullmatch, archive.opaque):
        archive.get(field)
    chosen: list[Modality] = []
    others: list[str] = []
    unfit: list[str] = []
    for field, array in archive.arrays.items():
        if array.ndim == 2 and array.dtype.kind == "f" and field not in (label, *ratings, "_".join(ratings)):
            (chosen if is_named_like_a_modality(field) else others).append(field)
        elif (array.ndim >= 2 or array.dtype.kind in "iufb") and field != label and is_named_like_a_modality(field):
            remedies = {1: "one number an utterance is [U, 1], by .reshape(-1, 1)", 2: "convert by .astype('float32')"}
            remedy = remedies.get(array.ndim, "average over the frames")
            unfit.append(f"`{field}` is not taken as a modality: it is {_kind(array)}, not 2-D floats; {remedy}")
            archive.note(unfit[-1])
    if others:
        archive.note(
            f"{listed(others)}: not taken as a modality, going by the name; ask for it by data.modalities if it is "
            "an input and not an annotation"
        )
    if not chosen:
        remedy = f"Name a field with 2-D floats {', '.join(PREFIXES)}"
        remedy += f", or ask for it by its name: {_asked(others)}" if others else ""
        words = "".join(f" {note}." for note in unfit[:1])
        raise UserError(f"{archive.path}: there is no modality among {_shapes(archive)}.{words} {remedy}.")
    return tuple(chosen)


def _asked(names: Sequence[str]) -> str:
    """How a user asks for modalities whose names say nothing."""
    shown = [short(name, 40) for name in names[:8]]
    quoted = ", ".join(f"'{name}'" for name in shown)
    return f'--config.data.modalities="({quoted},)" in training, --modalities={",".join(shown)} of tools.prepare'


def _ratings(archive: Fields, names: Sequence[str], order: np.ndarray, train: np.ndarray) -> np.ndarray | None:
    """[U, K] float32, with mean 0 and deviation 1 over the train split (choice), a row of NaN where one is lacking."""
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
            raise archive.refusal(field, f"is {_kind(values)}", remedy)
        columns.append(np.asarray(values[order], np.float64).reshape(len(order), -1))
    if not columns:
        return None
    rows = np.concatenate(columns, axis=1)
    known = np.isfinite(rows.sum(axis=1))
    if not (known & train).any():
        archive.note(f"{listed(names)}: no utterance of the train split has all of these ratings: trained without them")
        return None
    mean, scale = rows[known & train].mean(axis=0), rows[known & train].std(axis=0)
    standard = (rows - mean) / np.where(scale > 0, scale, 1.0)
    return np.where(known[:, None], standard, np.nan).astype(np.float32)


def _named(archive: Fields, modalities: tuple[Modality, ...]) -> tuple[Modality, ...]:
    for modality in modalities:
        array = archive.get(modality)
        if array is None:
            raise archive.absent(modality, "Choose `modalities` from the 2-D floating fields")
        if array.ndim != 2 or array.dtype.kind != "f":
            remedy = "A modality must be 2-D floats, [U, d]: convert with .astype('float32'), pool frames, or drop it"
            raise archive.refusal(modality, f"is {_kind(array)}", remedy)
    if len(set(modalities)) < len(modalities):
        raise UserError(f"`modalities` names one of {listed(modalities)} twice. Name each once.")
    return modalities


def _order(archive: Fields) -> tuple[np.ndarray, np.ndarray, tuple[str, ...]]:
    """The order of rows that makes dialogues contiguous and sorted by turn, the sorted `dialogue`, and the names."""
    ids = archive.names("dialogue_id")
    if ids is None:
        raise archive.absent("dialogue_id", "Add it: [U] text or integers, the dialogue of each utterance")
    if not len(ids):
        raise archive.refusal("dialogue_id", "has no rows", "Write at least one utterance")
    dialogue, names = _by_appearance(ids)
    runs = dialogue[np.flatnonzero(np.diff(dialogue, prepend=-1))]
    if scattered := int((np.bincount(runs) > 1).sum()):
        archive.note(f"the rows of {count(scattered, 'dialogue')} were not contiguous and were gathered")
    order = np.argsort(dialogue, kind="stable")
    turn = archive.column("turn", order)
    if turn is not None:
        order = order[_by_turn(archive, dialogue[order], turn)]
    return order, dialogue[order].astype(np.int32), tuple(names.tolist())


def _by_turn(archive: Fields, dialogue: np.ndarray, turn: np.ndarray) -> np.ndarray:
    """The order that sorts each dialogue by turn, and equal turns as they are in the file."""
    if turn.dtype.kind not in "iuf" or not np.isfinite(turn).all():
        raise archive.refusal("turn", f"is {turn.dtype} or not finite", "It must hold numbers, or leave the field out")
    inside = dialogue[1:] == dialogue[:-1]
    if unsorted := len(np.unique(dialogue[1:][inside & (turn[1:] < turn[:-1])])):
        archive.note(f"the rows of {count(unsorted, 'dialogue')} were not in the order of `turn` and were sorted")
    order = np.lexsort((turn, dialogue))
    if ties := int((inside & (np.diff(turn[order]) == 0)).sum()):
        archive.note(f"{count(ties, 'utterance')} with the `turn` of another one stayed in the order of the file")
    return order


def _by_appearance(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Numbers values by their first appearance: [U] int, and the values by number."""
    unique, first, inverse = np.unique(values, return_index=True, return_inverse=True)
    order = np.argsort(first)
    number = np.empty(len(order), np.int64)
    number[order] = np.arange(len(order))
    return number[inverse], unique[order]


def _labels(archive: Fields, field: str, order: np.ndarray) -> tuple[np.ndarray, tuple[str, ...]]:
    values = archive.column(field, order)
    if values is None:
        raise archive.absent(
            field, "Add it, or choose another: --config.data.label in training, --label of tools.prepare"
        )
    if values.dtype.kind not in "iufb":
        remedy = "It must hold integers: number text by numpy.unique(label, return_inverse=True)"
        raise archive.refusal(field, f"is {values.dtype}", remedy)
    if values.dtype.kind == "f" and not (np.isfinite(values) & (values == np.round(values))).all():
        wrong = values[~(np.isfinite(values) & (values == np.round(values)))][0]
        raise archive.refusal(
            field,
            f"has the value {wrong}",
            "It must hold integers, negative where there is no label; scores are learnt with data.task=regression",
        )
    names = _label_names(archive, field, values)
    if values.max() >= len(names):
        problem = f"has the value {values.max():.0f}, but `{field}_names` has only {count(len(names), 'name')}"
        raise archive.refusal(field, problem, "Labels count from 0; add the missing names")
    return np.where(values < 0, UNLABELED, values).astype(np.int32), names


def _label_names(archive: Fields, field: str, labels: np.ndarray) -> tuple[str, ...]:
    names = archive.names(f"{field}_names")
    if names is None:
        if labels.max() >= len(labels):
            problem = f"has the value {labels.max():.0f}, more than there are utterances"
            raise archive.refusal(field, problem, f"Count labels from 0, or name all classes in `{field}_names`")
        return tuple(str(c) for c in range(int(labels.max()) + 1))
    if len(set(names.tolist())) < len(names):
        raise archive.refusal(f"{field}_names", f"has a name twice: {listed(names)}", "Give each class its own name")
    return tuple(names.tolist())


def _speakers(archive: Fields, order: np.ndarray, dialogue: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
    """[U] int32, numbered inside each dialogue, and [U] names."""
    names = archive.names("speaker", order)
    if names is None:
        archive.note("there is no field `speaker`: every dialogue counts as the monologue of speaker 0")
        return np.zeros(len(order), np.int32), None
    _, person = np.unique(names, return_inverse=True)
    number, _ = _by_appearance(dialogue.astype(np.int64) * len(names) + person)
    # Numbers run on from dialogue to dialogue, and a dialogue's first row has its lowest.
    _, start = np.unique(dialogue, return_index=True)
    return (number - number[start][dialogue]).astype(np.int32), names


def _carve(
    archive: Fields,
    given: np.ndarray | None,
    chosen: str,
    without: str,
    dialogue: np.ndarray,
    dialogue_ids: Sequence[str],
    kept: np.ndarray,
    labelled: np.ndarray,
    fractions: dict[str, float],
) -> np.ndarray:
    """[dialogues] str, "" for those that are not `kept`; carves out of the train dialogues what `given` lacks, which is
    the file's, or `chosen`."""
    split = np.where(kept, "train" if given is None else given, "")
    source = f"data.split={chosen}" if chosen else "the file" + (without and f" without {without}")
    # A dialogue without a label would be no validation at all.
    usable = np.isin(np.arange(len(dialogue_ids)), dialogue[labelled])
    lacks = (["test"] if given is None else []) + ([] if "valid" in split else ["valid"])
    for name, fraction in ((name, fractions[name]) for name in lacks):
        candidates = np.flatnonzero((split == "train") & usable).tolist()
        customary = archive.train_order if name == "valid" and not chosen else ()
        picked, how = _pick(customary, [dialogue_ids[d] for d in candidates], fraction, name)
        split[[d for d in candidates if dialogue_ids[d] in picked]] = name
        lacking = f"{source} names no {'splits' if given is None else f'{name} split'}"
        archive.note(_carved(name, len(picked), len(candidates), lacking, how))
    if "test" not in split and given is not None:
        archive.note(f"{source} names no test split")
    return split


def _pick(customary: Sequence[str], candidates: list[str], fraction: float, name: str) -> tuple[frozenset[str], str]:
    """The dialogues that are held out, and how they were chosen."""
    hashed = splits.carve(candidates, fraction, name)
    if not customary:
        return hashed, "chosen by a hash of their names"
    known = set(candidates)
    ordered = [d for d in customary if d in known]
    # Published codes round down: int(0.1 * 120) of IEMOCAP's dialogues.
    number = min(max(int(fraction * len(ordered)), 1), len(hashed) and len(ordered) - 1)
    return frozenset(ordered[:number]), "the first ones of the file's train list, as published codes do"


def _carved(name: str, picked: int, candidates: int, lacking: str, how: str) -> str:
    if not picked:
        return f"{lacking}: the {name} split stays empty"
    counts = f"{picked} of {count(candidates, 'labelled train dialogue')}"
    return f"{lacking}: {counts} became the {name} split, {how}"


def _kept(
    archive: Fields, order: np.ndarray, dialogue: np.ndarray, dialogue_ids: Sequence[str], without: str
) -> np.ndarray:
    """[dialogues] bool, those that are not left out."""
    everything = np.ones(len(dialogue_ids), bool)
    if not without:
        return everything
    what = splits.parse(without, "data.without")
    kept = ~_held_out(archive, order, dialogue, dialogue_ids, everything, what)
    archive.note(f"data.without={without}: {(~kept).sum()} of {count(len(kept), 'dialogue')} are left out")
    return kept


def _held_out(
    archive: Fields,
    order: np.ndarray,
    dialogue: np.ndarray,
    dialogue_ids: Sequence[str],
    among: np.ndarray,
    what: splits.HeldOut,
) -> np.ndarray:
    """[dialogues] bool, of those `among` which are chosen."""
    values = archive.names(what.field, order)
    if values is None:
        raise archive.absent(what.field, f"{what.option}={what.text} needs it; it may name another field")
    rows, number = among[dialogue], np.cumsum(among) - 1
    names = [dialogue_ids[d] for d in np.flatnonzero(among).tolist()]
    held = np.zeros(len(among), bool)
    held[among] = splits.hold_out(what, number[dialogue[rows]], values[rows], names)
    return held


def _chosen_splits(
    archive: Fields, order: np.ndarray, dialogue: np.ndarray, dialogue_ids: Sequence[str], kept: np.ndarray, text: str
) -> np.ndarray:
    """[dialogues] str, "test" for what the user holds out and "train" for all others; notes people who are in both."""
    held = _held_out(archive, order, dialogue, dialogue_ids, kept, splits.parse(text))
    archive.note(f"data.split={text}: {held.sum()} of {count(kept.sum(), 'dialogue')} became the test split")
    for field in splits.PEOPLE:
        people = archive.names(field, order)
        if people is not None:
            tested, others = (set(people[chosen[dialogue]].tolist()) for chosen in (held, kept & ~held))
            if both := sorted(tested & others):
                archive.note(
                    f"data.split={text}: {len(both)} of {count(len(tested), 'name')} in the `{field}` of the test "
                    f"split are in the other dialogues too ({listed(both[:3])}{' …' if len(both) > 3 else ''})"
                )
            break
    return np.where(held, "test", "train").astype("<U5")


def _given_splits(
    archive: Fields, order: np.ndarray, dialogue: np.ndarray, dialogue_ids: Sequence[str]
) -> np.ndarray | None:
    """[dialogues] str, or None where the file has no splits."""
    values = archive.names("split", order)
    if values is None:
        return None
    written, index = np.unique(values, return_inverse=True)
    known = [_SPLIT_NAMES.get(str(name).strip().lower()) for name in written]
    if None in known:
        wrong = str(written[known.index(None)])
        raise archive.refusal("split", f"has the value {wrong[:80]!r}", f"It must be one of {', '.join(_SPLIT_NAMES)}")
    split = np.array(known)[index]
    _, start = np.unique(dialogue, return_index=True)
    if (mixed := np.flatnonzero(split != split[start][dialogue])).size:
        row = int(mixed[0])
        both = " and ".join(sorted({str(split[row]), str(split[start][dialogue[row]])}))
        problem = f"the dialogue {short(dialogue_ids[int(dialogue[row])])!r} is in both {both}"
        raise archive.refusal("split", problem, "Context would leak: give all rows of a dialogue the same split")
    return split[start]


def _features(
    archive: Fields, chosen: Sequence[Modality], order: np.ndarray, training: bool
) -> tuple[dict[Modality, np.ndarray], dict[Modality, np.ndarray]]:
    features, present = {}, {}
    for modality in chosen:
        values = archive.arrays[modality]
        if len(values) != len(order) or not values.shape[1]:
            remedy = f"It must be [{len(order)}, d] with d of at least 1, one row per utterance"
            raise archive.refusal(modality, f"has the shape {values.shape}", remedy)
        rows = _rows(values, order)
        here = _present(archive, modality, rows, order, training)
        features[modality], present[modality] = _zeroed(rows, here), here
    if nothing := int((~np.any([*present.values()], axis=0)).sum()):
        archive.note(f"{count(nothing, 'utterance has', 'utterances have')} no modality at all")
    return features, present


def _rows(values: np.ndarray, order: np.ndarray) -> np.ndarray:
    """[U, d] float32 in the given order; the array itself where that is what it is."""
    if np.array_equal(order, np.arange(len(order))):
        if values.dtype == np.float32:
            return values
        order = np.arange(0)  # nothing to look up
    rows = np.empty(values.shape, np.float32)
    with np.errstate(over="ignore"):
        for start in range(0, len(rows), _BLOCK_ROWS):
            block = slice(start, start + _BLOCK_ROWS)
            rows[block] = values[order[block]] if len(order) else values[block]
    return rows


def _zeroed(rows: np.ndarray, present: np.ndarray) -> np.ndarray:
    """The rows with zeros where they are missing; a copy only where rows that cannot be written hold something."""
    missing = np.flatnonzero(~present)
    if rows.flags.writeable:
        rows[missing] = 0
    elif rows[missing].any():
        rows = np.where(present[:, None], rows, np.float32(0))
    return rows


def _each_row(rows: np.ndarray, what: Callable[[np.ndarray], Any]) -> np.ndarray:
    """[U] bool: `what` of blocks of rows."""
    return np.concatenate([what(rows[i : i + _BLOCK_ROWS]) for i in range(0, len(rows), _BLOCK_ROWS)])


def _present(archive: Fields, modality: Modality, rows: np.ndarray, order: np.ndarray, training: bool) -> np.ndarray:
    """[U] bool. Zero rows are failed extractions unless the file says what is present (choice)."""
    given = _given_present(archive, modality, order)
    finite = _each_row(rows, lambda block: np.isfinite(block).all(axis=1))
    claimed = finite if given is None else finite | ~given
    if broken := int((~claimed).sum()):
        archive.note(_missing(broken, modality, "NaN or Inf"))
    if given is not None:
        return given & finite
    # A single feature may well be zero, and where a modality is zero throughout training, so it is learnt.
    zero = finite & ~_each_row(rows, lambda block: block.any(axis=1))
    if rows.shape[1] == 1 or not zero.any():
        return finite
    if training and zero.sum() == finite.sum():
        archive.note(f"`{modality}` is zero in every utterance")
        return finite
    archive.note(_missing(int(zero.sum()), modality, "only zeros"))
    return finite & ~zero


def _given_present(archive: Fields, modality: Modality, order: np.ndarray) -> np.ndarray | None:
    field = f"{modality}_present"
    values = archive.column(field, order)
    if values is None:
        return None
    if values.dtype.kind not in "biuf" or not np.isin(values, (0, 1)).all():
        raise archive.refusal(field, "holds something other than true and false", "It must be [U] bool")
    return values.astype(bool)


def _utterance_ids(
    archive: Fields, order: np.ndarray, dialogue: np.ndarray, dialogue_ids: Sequence[str]
) -> tuple[str, ...]:
    names = archive.names("utterance_id", order)
    if names is None:
        _, start = np.unique(dialogue, return_index=True)
        turn = np.arange(len(dialogue)) - start[dialogue]
        return tuple(f"{dialogue_ids[d]}_{t}" for d, t in zip(dialogue.tolist(), turn.tolist(), strict=True))
    if twice := len(names) - len(np.unique(names)):
        archive.note(f"{count(twice, 'utterance has', 'utterances have')} the `utterance_id` of another one")
    return tuple(names.tolist())


def _check_training(archive: Fields, label: str, without: str, corpus: Corpus) -> None:
    if "train" not in corpus.split and without:
        raise UserError(f"data.without={without}: no dialogue is left in the train split. Leave out fewer.")
    if "train" not in corpus.split:
        raise archive.refusal("split", "no dialogue is in the train split", "Put some there, or leave the field out")
    if not ((corpus.split == "train") & (corpus.label != UNLABELED)).any():
        problem = "no utterance of the train split has a label"
        raise archive.refusal(label, problem, "Labels count from 0, and negative means that there is none")


def _training_notes(corpus: Corpus) -> list[str]:
    """What training cannot learn from this corpus, and measuring cannot see."""
    train, labelled = corpus.split == "train", corpus.label != UNLABELED
    of_none = {truths.NONE} if corpus.target is not None else set()  # that labels always apply is no fault
    counts = zip(corpus.label_names, truths.occurrences(corpus, train), strict=True)
    unseen = [name for name, count in counts if not count and name not in of_none]
    notes = [f"no train utterance is labelled {', '.join(unseen)}"] if unseen else []
    notes += [f"no train utterance has `{m}`" for m, here in corpus.present.items() if not here[train].any()]
    blind = [s for s in ("valid", "test") if s in corpus.split and not labelled[corpus.split == s].any()]
    return notes + [f"no utterance of the {split} split has a label" for split in blind]


def _missing(number: int, modality: Modality, reason: str) -> str:
    verb = "counts" if number == 1 else "count"
    return (
        f"{count(number, 'utterance')} of {modality} {'has' if number == 1 else 'have'} {reason} and {verb} as missing"
    )


def count(number: int, one: str, many: str | None = None) -> str:
    """`1 dialogue`, `2 dialogues`."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def is_named_like_a_modality(field: str) -> bool:
    """Whether a field is taken as a modality without being asked for."""
    return _NAMED_LIKE_A_MODALITY.fullmatch(field) is not None


def listed(fields: Sequence[str] | dict[str, np.ndarray] | np.ndarray) -> str:
    """Names in backquotes, with commas between; the first ones of many, and the beginnings of long ones."""
    shown = ", ".join(f"`{short(field, 80)}`" for field in list(fields)[:40]) or "nothing"
    return f"{shown} and {len(fields) - 40} more" if len(fields) > 40 else shown


def _kind(array: np.ndarray) -> str:
    return f"{array.dtype} {list(array.shape)}"


def _shapes(archive: Fields) -> str:
    shown = [f"`{short(field, 40)}` {_kind(array)}" for field, array in list(archive.arrays.items())[:40]]
    return (
        ", ".join(shown) + (f" and {len(archive.arrays) - 40} more" if len(archive.arrays) > 40 else "") or "the fields"
    )
