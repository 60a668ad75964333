"""Reads a corpus from one .npz file of plain arrays, and says what it found there."""

from __future__ import annotations

import dataclasses
import difflib
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ariigcn_jax.corpus.splits import carve
from ariigcn_jax.types import SPLITS, UNLABELED, Corpus, Modality, UserError

PREFIXES = ("text", "audio", "visual", "video", "vocal", "face", "acoustic", "vision")
LAYOUT = f"""\
  dialogue_id        [U] text or integers; required
  label              [U] integers counted from 0, negative where there is no label; required
  <modality>         [U, d] floats, at least one, named {", ".join(PREFIXES)},
                     alone or with _<suffix>; any other name has to be asked for
  <modality>_present [U] bool; without it, rows that are all zero, NaN or Inf count as missing
  label_names        [C] text; without it the classes are called 0, 1, …
  split              [U] train, valid or test, the same for a whole dialogue; without it dialogues are held out
  turn               [U] numbers that order the utterances of a dialogue; without it the file's order counts
  speaker, utterance_id, transcript
                     [U] text or integers
"""

_SPLIT_NAMES = {name: name for name in SPLITS} | dict.fromkeys(("val", "dev", "validation"), "valid")
_NAMED_LIKE_A_MODALITY = re.compile(rf"({'|'.join(PREFIXES)})(_.*)?(?<!_present)")


def read(
    path: str | Path,
    *,
    name: str | None = None,
    modalities: Sequence[Modality] = (),
    label: str = "label",
    valid_fraction: float = 0.1,
    test_fraction: float = 0.2,
) -> Corpus:
    """Reads and validates an .npz file; the layout is in `LAYOUT`.

    Args:
      path: the file.
      name: what the corpus is called; the file's stem where not given.
      modalities: the fields to take as modalities, in this order; () takes every 2-D floating field named like one.
      label: the field of the labels; their names come from the field `<label>_names`.
      valid_fraction: share of the train dialogues, in [0, 1), that becomes validation where the file names none.
      test_fraction: share of the dialogues, in [0, 1), that becomes the test split where the file has no splits at all.

    Returns:
      The corpus, features as in the file (not standardised). Dialogues come in the order of their first rows.

    Raises:
      UserError: the file cannot be read or used; names the file, the field and what to do.
    """
    archive = _open(Path(path))
    chosen = _choose(archive, modalities)
    order, dialogue, dialogue_ids = _order(archive)
    labels, label_names = _labels(archive, label, order)
    speaker, speaker_names = _speakers(archive, order, dialogue)
    split = _splits(archive, order, dialogue, dialogue_ids, labels != UNLABELED, valid_fraction, test_fraction)
    features, present = _features(archive, chosen, order)
    corpus = Corpus(
        name=name or archive.path.stem,
        features=features,
        present=present,
        dialogue=dialogue,
        speaker=speaker,
        label=labels,
        split=split,
        label_names=label_names,
        dialogue_ids=dialogue_ids,
        utterance_ids=_utterance_ids(archive, order, dialogue, dialogue_ids),
        speaker_names=speaker_names,
        transcript=archive.names("transcript", order),
    )
    _check_training(archive, label, corpus)
    return dataclasses.replace(corpus, notes=(*archive.notes, *_training_notes(corpus)))


@dataclasses.dataclass(frozen=True)
class _Archive:
    """The fields of a file.

    Attributes:
      path: the file.
      arrays: field -> array.
      opaque: fields that hold something other than a plain array, which only pickle could read.
      notes: what was found so far; grows while reading.
    """

    path: Path
    arrays: dict[str, np.ndarray]
    opaque: tuple[str, ...]
    notes: list[str] = dataclasses.field(default_factory=list)

    def refusal(self, field: str, problem: str, remedy: str) -> UserError:
        return UserError(f"{self.path}: field `{field}`: {problem}. {remedy}.")

    def note(self, text: str) -> None:
        self.notes.append(text)

    def absent(self, field: str, remedy: str) -> UserError:
        close = difflib.get_close_matches(field, [*self.arrays, *self.opaque], n=1)
        hint = f"Did you mean `{close[0]}`? " if close else ""
        return self.refusal(field, f"is not there; the file has {_listed(self.arrays)}", hint + remedy)

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
        if values is None or values.dtype.kind == "U":
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


def _open(path: Path) -> _Archive:
    _check_magic(path)
    arrays: dict[str, np.ndarray] = {}
    opaque = []
    try:
        # numpy leaves a file that it opened itself open when it cannot read it.
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            for field in archive.files:
                array = _member(archive, field)
                if isinstance(array, np.ndarray):
                    arrays[field] = array
                else:
                    opaque.append(field)
    except Exception as error:  # zipfile, zlib and numpy raise ten kinds on damaged bytes, and nothing else runs here
        raise UserError(
            f"{path}: the archive is truncated or damaged ({type(error).__name__}: {error}). "
            "Copy it again, or write it again with numpy.savez."
        ) from error
    if not arrays and not opaque:
        raise UserError(f"{path}: the archive holds no arrays. It must have these fields:\n{LAYOUT}")
    return _Archive(path, arrays, tuple(opaque))


def _check_magic(path: Path) -> None:
    """Tells apart what is no .npz file at all, which numpy would report as a pickle."""
    try:
        with path.open("rb") as file:
            magic = file.read(4)
    except FileNotFoundError:
        raise UserError(f"{path}: there is no such file.") from None
    except IsADirectoryError:
        inside = _listed(sorted(p.name for p in path.glob("*.npz")))
        raise UserError(f"{path}: this is a folder. Give the path of an .npz file; it holds {inside}.") from None
    except PermissionError:
        raise UserError(f"{path}: no permission to read this file. Change its permissions or its owner.") from None
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}.") from None
    if not magic:
        raise UserError(f"{path}: the file is empty. Copy it again, or write it with numpy.savez.")
    if not magic.startswith(b"PK"):
        what = " (a pickle can run code and is not loaded)" if path.suffix in (".pkl", ".pickle", ".p") else ""
        raise UserError(
            f"{path}: this is not an .npz file{what}. Convert it with numpy.savez to one with these fields:\n{LAYOUT}"
        )


def _member(archive: np.lib.npyio.NpzFile, field: str) -> np.ndarray | None:
    """The array of a field; None where it is none that can be read without pickle."""
    try:
        array = archive[field]
    except ValueError as error:
        if "allow_pickle" in str(error):
            return None
        raise
    return array if isinstance(array, np.ndarray) else None


def _choose(archive: _Archive, modalities: Sequence[Modality]) -> tuple[Modality, ...]:
    """The fields that are the modalities."""
    if modalities:
        return _named(archive, (modalities,) if isinstance(modalities, str) else tuple(modalities))
    for field in filter(_NAMED_LIKE_A_MODALITY.fullmatch, archive.opaque):
        archive.get(field)
    chosen: list[Modality] = []
    others: list[str] = []
    for field, array in archive.arrays.items():
        if array.ndim == 2 and array.dtype.kind == "f":
            (chosen if _NAMED_LIKE_A_MODALITY.fullmatch(field) else others).append(field)
        elif array.ndim >= 2 and _NAMED_LIKE_A_MODALITY.fullmatch(field):
            archive.note(f"`{field}` is not taken as a modality: it is {_kind(array)}, not 2-D floats")
    if others:
        archive.note(
            f"{_listed(others)}: not taken as a modality, going by the name; ask for it by `modalities` if it is an "
            "input and not an annotation"
        )
    if not chosen:
        remedy = f"Name a field with 2-D floats {', '.join(PREFIXES)}, or ask for it by `modalities`"
        raise UserError(f"{archive.path}: there is no modality among {_shapes(archive)}. {remedy}.")
    return tuple(chosen)


def _named(archive: _Archive, modalities: tuple[Modality, ...]) -> tuple[Modality, ...]:
    for modality in modalities:
        array = archive.get(modality)
        if array is None:
            raise archive.absent(modality, "Choose `modalities` from the 2-D floating fields")
        if array.ndim != 2 or array.dtype.kind != "f":
            remedy = "A modality must be 2-D floats, [U, d]: convert with .astype('float32'), pool frames, or drop it"
            raise archive.refusal(modality, f"is {_kind(array)}", remedy)
    if len(set(modalities)) < len(modalities):
        raise UserError(f"`modalities` names one of {_listed(modalities)} twice. Name each once.")
    return modalities


def _order(archive: _Archive) -> tuple[np.ndarray, np.ndarray, tuple[str, ...]]:
    """The order of rows that makes dialogues contiguous and sorted by turn, the sorted `dialogue`, and the names."""
    ids = archive.names("dialogue_id")
    if ids is None:
        raise archive.absent("dialogue_id", "Add it: [U] text or integers, the dialogue of each utterance")
    if not len(ids):
        raise archive.refusal("dialogue_id", "has no rows", "Write at least one utterance")
    dialogue, names = _by_appearance(ids)
    runs = dialogue[np.flatnonzero(np.diff(dialogue, prepend=-1))]
    if scattered := int((np.bincount(runs) > 1).sum()):
        archive.note(f"the rows of {_count(scattered, 'dialogue')} were not contiguous and were gathered")
    order = np.argsort(dialogue, kind="stable")
    turn = archive.column("turn", order)
    if turn is not None:
        order = order[_by_turn(archive, dialogue[order], turn)]
    return order, dialogue[order].astype(np.int32), tuple(names.tolist())


def _by_turn(archive: _Archive, dialogue: np.ndarray, turn: np.ndarray) -> np.ndarray:
    """The order that sorts each dialogue by turn, and equal turns as they are in the file."""
    if turn.dtype.kind not in "iuf" or not np.isfinite(turn).all():
        raise archive.refusal("turn", f"is {turn.dtype} or not finite", "It must hold numbers, or leave the field out")
    inside = dialogue[1:] == dialogue[:-1]
    if unsorted := len(np.unique(dialogue[1:][inside & (turn[1:] < turn[:-1])])):
        archive.note(f"the rows of {_count(unsorted, 'dialogue')} were not in the order of `turn` and were sorted")
    order = np.lexsort((turn, dialogue))
    if ties := int((inside & (np.diff(turn[order]) == 0)).sum()):
        archive.note(f"{_count(ties, 'utterance')} with the `turn` of another one stayed in the order of the file")
    return order


def _by_appearance(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Numbers values by their first appearance: [U] int, and the values by number."""
    unique, first, inverse = np.unique(values, return_index=True, return_inverse=True)
    order = np.argsort(first)
    number = np.empty(len(order), np.int64)
    number[order] = np.arange(len(order))
    return number[inverse], unique[order]


def _labels(archive: _Archive, field: str, order: np.ndarray) -> tuple[np.ndarray, tuple[str, ...]]:
    values = archive.column(field, order)
    if values is None:
        raise archive.absent(field, "Add it, or choose another field by `label`")
    if values.dtype.kind not in "iufb":
        remedy = "It must hold integers: number text by numpy.unique(label, return_inverse=True)"
        raise archive.refusal(field, f"is {values.dtype}", remedy)
    if values.dtype.kind == "f" and not (np.isfinite(values) & (values == np.round(values))).all():
        wrong = values[~(np.isfinite(values) & (values == np.round(values)))][0]
        raise archive.refusal(
            field, f"has the value {wrong}", "It must hold integers, negative where there is no label"
        )
    names = _label_names(archive, field, values)
    if values.max() >= len(names):
        problem = f"has the value {values.max():.0f}, but `{field}_names` has only {_count(len(names), 'name')}"
        raise archive.refusal(field, problem, "Labels count from 0; add the missing names")
    return np.where(values < 0, UNLABELED, values).astype(np.int32), names


def _label_names(archive: _Archive, field: str, labels: np.ndarray) -> tuple[str, ...]:
    names = archive.names(f"{field}_names")
    if names is None:
        if labels.max() >= len(labels):
            problem = f"has the value {labels.max():.0f}, more than there are utterances"
            raise archive.refusal(field, problem, f"Count labels from 0, or name all classes in `{field}_names`")
        return tuple(str(c) for c in range(int(labels.max()) + 1))
    if len(set(names.tolist())) < len(names):
        raise archive.refusal(f"{field}_names", f"has a name twice: {_listed(names)}", "Give each class its own name")
    return tuple(names.tolist())


def _speakers(archive: _Archive, order: np.ndarray, dialogue: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
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


def _splits(
    archive: _Archive,
    order: np.ndarray,
    dialogue: np.ndarray,
    dialogue_ids: Sequence[str],
    labelled: np.ndarray,
    valid_fraction: float,
    test_fraction: float,
) -> np.ndarray:
    """[U] str; carves out of the train dialogues what the file does not name."""
    given = _given_splits(archive, order, dialogue, dialogue_ids)
    split = np.full(len(dialogue_ids), "train") if given is None else given
    # A dialogue without a label would be no validation at all.
    usable = np.isin(np.arange(len(dialogue_ids)), dialogue[labelled])
    held = {"test": test_fraction} if given is None else {}
    for name, fraction in (held if "valid" in split else held | {"valid": valid_fraction}).items():
        candidates = np.flatnonzero((split == "train") & usable).tolist()
        picked = carve([dialogue_ids[d] for d in candidates], fraction, name)
        split[[d for d in candidates if dialogue_ids[d] in picked]] = name
        archive.note(_carved(name, len(picked), len(candidates), "splits" if given is None else f"{name} split"))
    if "test" not in split and given is not None:
        archive.note("the file names no test split")
    return split[dialogue]


def _carved(name: str, picked: int, candidates: int, lacking: str) -> str:
    if not picked:
        return f"the file names no {lacking}: the {name} split stays empty"
    counts = f"{picked} of {_count(candidates, 'labelled train dialogue')}"
    return f"the file names no {lacking}: {counts} became the {name} split, chosen by a hash of their names"


def _given_splits(
    archive: _Archive, order: np.ndarray, dialogue: np.ndarray, dialogue_ids: Sequence[str]
) -> np.ndarray | None:
    """[dialogues] str, or None where the file has no splits."""
    values = archive.names("split", order)
    if values is None:
        return None
    written, index = np.unique(values, return_inverse=True)
    known = [_SPLIT_NAMES.get(str(name).strip().lower()) for name in written]
    if None in known:
        wrong = str(written[known.index(None)])
        raise archive.refusal("split", f"has the value {wrong!r}", f"It must be one of {', '.join(_SPLIT_NAMES)}")
    split = np.array(known)[index]
    _, start = np.unique(dialogue, return_index=True)
    if (mixed := np.flatnonzero(split != split[start][dialogue])).size:
        row = int(mixed[0])
        both = " and ".join(sorted({str(split[row]), str(split[start][dialogue[row]])}))
        problem = f"the dialogue {dialogue_ids[int(dialogue[row])]!r} is in both {both}"
        raise archive.refusal("split", problem, "Context would leak: give all rows of a dialogue the same split")
    return split[start]


def _features(
    archive: _Archive, chosen: Sequence[Modality], order: np.ndarray
) -> tuple[dict[Modality, np.ndarray], dict[Modality, np.ndarray]]:
    features, present = {}, {}
    for modality in chosen:
        values = archive.arrays[modality]
        if len(values) != len(order) or not values.shape[1]:
            remedy = f"It must be [{len(order)}, d] with d of at least 1, one row per utterance"
            raise archive.refusal(modality, f"has the shape {values.shape}", remedy)
        with np.errstate(over="ignore"):
            rows = values[order].astype(np.float32)
        present[modality] = _present(archive, modality, rows, order)
        rows[~present[modality]] = 0
        features[modality] = rows
    if nothing := int((~np.any([*present.values()], axis=0)).sum()):
        archive.note(f"{_count(nothing, 'utterance has', 'utterances have')} no modality at all")
    return features, present


def _present(archive: _Archive, modality: Modality, rows: np.ndarray, order: np.ndarray) -> np.ndarray:
    """[U] bool. Zero rows are failed extractions unless the file says what is present (choice)."""
    given = _given_present(archive, modality, order)
    finite = np.isfinite(rows).all(axis=1)
    claimed = finite if given is None else finite | ~given
    if broken := int((~claimed).sum()):
        archive.note(_missing(broken, modality, "NaN or Inf"))
    if given is not None:
        return given & finite
    # A single feature may well be zero, and a modality that is zero throughout says nothing about its extraction.
    zero = finite & ~rows.any(axis=1)
    if rows.shape[1] == 1 or not zero.any():
        return finite
    if zero.sum() == finite.sum():
        archive.note(f"`{modality}` is zero in every utterance")
        return finite
    archive.note(_missing(int(zero.sum()), modality, "only zeros"))
    return finite & ~zero


def _given_present(archive: _Archive, modality: Modality, order: np.ndarray) -> np.ndarray | None:
    field = f"{modality}_present"
    values = archive.column(field, order)
    if values is None:
        return None
    if values.dtype.kind not in "biuf" or not np.isin(values, (0, 1)).all():
        raise archive.refusal(field, "holds something other than true and false", "It must be [U] bool")
    return values.astype(bool)


def _utterance_ids(
    archive: _Archive, order: np.ndarray, dialogue: np.ndarray, dialogue_ids: Sequence[str]
) -> tuple[str, ...]:
    names = archive.names("utterance_id", order)
    if names is None:
        _, start = np.unique(dialogue, return_index=True)
        turn = np.arange(len(dialogue)) - start[dialogue]
        return tuple(f"{dialogue_ids[d]}_{t}" for d, t in zip(dialogue.tolist(), turn.tolist(), strict=True))
    if twice := len(names) - len(np.unique(names)):
        archive.note(f"{_count(twice, 'utterance has', 'utterances have')} the `utterance_id` of another one")
    return tuple(names.tolist())


def _check_training(archive: _Archive, label: str, corpus: Corpus) -> None:
    if "train" not in corpus.split:
        raise archive.refusal("split", "no dialogue is in the train split", "Put some there, or leave the field out")
    if not ((corpus.split == "train") & (corpus.label != UNLABELED)).any():
        problem = "no utterance of the train split has a label"
        raise archive.refusal(label, problem, "Labels count from 0, and negative means that there is none")


def _training_notes(corpus: Corpus) -> list[str]:
    """What training cannot learn from this corpus, and measuring cannot see."""
    train, labelled = corpus.split == "train", corpus.label != UNLABELED
    counts = np.bincount(corpus.label[train & labelled], minlength=corpus.num_classes)
    unseen = [name for name, count in zip(corpus.label_names, counts, strict=True) if not count]
    notes = [f"no train utterance is labelled {', '.join(unseen)}"] if unseen else []
    notes += [f"no train utterance has `{m}`" for m, here in corpus.present.items() if not here[train].any()]
    blind = [s for s in ("valid", "test") if s in corpus.split and not labelled[corpus.split == s].any()]
    return notes + [f"no utterance of the {split} split has a label" for split in blind]


def _missing(number: int, modality: Modality, reason: str) -> str:
    verb = "counts" if number == 1 else "count"
    return (
        f"{_count(number, 'utterance')} of {modality} {'has' if number == 1 else 'have'} {reason} and {verb} as missing"
    )


def _count(number: int, one: str, many: str | None = None) -> str:
    return f"{number} {one if number == 1 else many or one + 's'}"


def _listed(fields: Sequence[str] | dict[str, np.ndarray] | np.ndarray) -> str:
    return ", ".join(f"`{field}`" for field in fields) or "nothing"


def _kind(array: np.ndarray) -> str:
    return f"{array.dtype} {list(array.shape)}"


def _shapes(archive: _Archive) -> str:
    return ", ".join(f"`{field}` {_kind(array)}" for field, array in archive.arrays.items()) or "the fields"
