"""Hold named arrays with one row per utterance: what every reader returns, and `assemble` takes."""

from __future__ import annotations

import contextlib
import dataclasses
import difflib
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ariigcn_jax.data.values import mended, short
from ariigcn_jax.types import SPLITS, WORDS, Clip, Modality, UserError

KINDS = (("text",), ("audio", "vocal", "acoustic"), ("visual", "video", "face", "vision"))  # names of one kind each
PREFIXES = ("text", "audio", "visual", "video", "vocal", "face", "acoustic", "vision")
LAYOUT = f"""\
  dialogue_id        [U] text or integers; required
  label              [U] integers counted from 0, negative where there is no label, or names; required
                     (with data.task=regression [U] numbers in [-3, 3], with multilabel [U, labels] zeros and ones,
                     both NaN where there is no label)
  <modality>         [U, d] floats, named {", ".join(PREFIXES)},
                     alone or with _<suffix>; any other name has to be asked for. At least one, or `transcript`
  <modality>_present [U] bool; without it, rows that are all zero, NaN or Inf count as missing
  label_names        [C] text; without it the classes are called 0, 1, …
  split              [U] train, valid or test, the same for a whole dialogue; without it dialogues are held out
  turn               [U] numbers that order the utterances of a dialogue; without it the file's order counts
  transcript         [U] text, which a text encoder can make a modality of (model.text.encoder)
  speaker, utterance_id
                     [U] text or integers
"""

SPLIT_NAMES = {name: name for name in SPLITS} | {  # as people write them → ours
    **dict.fromkeys(("val", "dev", "validation", "development"), "valid"),
    **dict.fromkeys(("trn", "training"), "train"),
    **dict.fromkeys(("tst", "testing"), "test"),
}
SCORES = ("sentiment_score", "sentiment")  # what readers and tools.features call the score of a sentiment
_FIXED_WIDTH_BYTES = 64 * 2**20
_BLOCK_ROWS = 2048  # that are looked at together, so that a memory-mapped modality stays on disk
_NAMED_LIKE_A_MODALITY = re.compile(rf"({'|'.join(PREFIXES)})(_.*)?(?<!_present)")


@dataclasses.dataclass(frozen=True)
class Fields:
    """Hold the fields of a file.

    `train_order` are the train dialogues in an order whose first ones published codes take as validation; where it is
    (), a hash of the names decides.
    """

    path: Path
    arrays: dict[str, np.ndarray]
    opaque: tuple[str, ...] = ()  # fields that hold something other than a plain array, which only pickle could read
    notes: list[str] = dataclasses.field(default_factory=list)  # what was found so far; grows while reading
    train_order: tuple[str, ...] = ()
    name: str = ""  # what the file calls the corpus
    others: list[str] = dataclasses.field(default_factory=list)  # columns that became no field, for messages
    gone: list[Modality] = dataclasses.field(default_factory=list)  # modalities of whose files none is there
    unlabelled: bool = False  # whether files of this kind have no labels
    # where each utterance was recorded, of U utterances, or nothing; the path is "" where only its times are known
    clips: list[Clip | None] = dataclasses.field(default_factory=list)

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
        """Return the field's array; None where it is absent."""
        if field in self.opaque:
            problem = "is an object array, which only pickle can read, and pickle can run code"
            remedy = "Write it as a plain array: numbers with a dtype, or text by numpy.array(values, dtype=str)"
            raise self.refusal(field, problem, remedy)
        return self.arrays.get(field)

    def column(self, field: str, order: np.ndarray | None = None) -> np.ndarray | None:
        """Return [U], the field in the given order; None where it is absent."""
        values = self.get(field)
        if values is None:
            return None
        if values.ndim != 1 or (order is not None and len(values) != len(order)):
            remedy = "It must be 1-D" if order is None else f"It must be [{len(order)}], one value per utterance"
            raise self.refusal(field, f"has the shape {values.shape}", remedy)
        return values if order is None else values[order]

    def names(self, field: str, order: np.ndarray | None = None) -> np.ndarray | None:
        """Return [U] str, the field in the given order; None where it is absent."""
        values = self.column(field, order)
        if values is None:
            return None
        if values.dtype.kind in "UO":  # object arrays of str come from `text_array` alone
            return text_array([mended(name) for name in values.tolist()])
        if values.dtype.kind in "iu" or (values.dtype.kind == "f" and (values == np.trunc(values)).all()):
            return values.astype(np.int64 if values.dtype.kind == "f" else values.dtype).astype(str)
        try:
            return np.char.decode(values, "utf-8")
        except UnicodeDecodeError:
            problem = "holds bytes that are not UTF-8"
        except (TypeError, ValueError):
            problem = f"is {values.dtype}"
        raise self.refusal(field, problem, "It must hold text or integers")


def text_array(values: Sequence[str]) -> np.ndarray:
    """Return [U] str; long texts become objects, as fixed width takes 4 bytes a character of the longest."""
    longest = max(map(len, values), default=0)
    return np.array(values, dtype=str if 4 * longest * len(values) <= _FIXED_WIDTH_BYTES else object)


def count(number: int, one: str, many: str | None = None) -> str:
    """Return a count with its noun: `1 dialogue`, `2 dialogues`."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def is_named_like_a_modality(field: str) -> bool:
    """Tell whether a field is taken as a modality without being asked for."""
    return _NAMED_LIKE_A_MODALITY.fullmatch(field) is not None


def kind_of(modality: Modality) -> str:
    """Return the kind in `KINDS` that a modality's name begins with, by its first name; "" for none."""
    return next((group[0] for group in KINDS if modality.startswith(group)), "")


def listed(fields: Sequence[str] | dict[str, np.ndarray] | np.ndarray) -> str:
    """Return names in backquotes, joined by commas; the first of many, and the beginnings of long ones."""
    shown = ", ".join(f"`{short(field, 80)}`" for field in list(fields)[:40]) or "nothing"
    return f"{shown} and {len(fields) - 40} more" if len(fields) > 40 else shown


def kind(array: np.ndarray) -> str:
    return f"{array.dtype} {list(array.shape)}"


def modalities_of(
    archive: Fields,
    modalities: Sequence[Modality],
    label: str,
    ratings: Sequence[str],
    words: bool = False,
    recorded: Sequence[Modality] = (),
) -> tuple[Modality, ...]:
    """Return the fields that are modalities; a field of several labels is none, nor are ratings.

    `recorded` are modalities that recordings give: if they are asked for, or nothing is asked for and the file has
    recordings, and no features named like those of sound or picture.

    With `words` transcripts are one, WORDS: if they are asked for by that name, or nothing is asked for and the file
    has transcripts and no features named like those of text.
    """
    if recorded := [m for m in recorded if m not in archive.arrays and any(c and c.path for c in archive.clips)]:
        if modalities:
            left = [m for m in modalities if m not in recorded]
            kept = modalities_of(archive, left, label, ratings, words) if left else ()
            return (*kept, *(m for m in recorded if m in modalities))
        kept = ()
        with contextlib.suppress(UserError):  # recordings are enough
            kept = modalities_of(archive, (), label, ratings, words)
        return (*kept, *(m for m in recorded if not any(kind_of(m) == kind_of(other) for other in kept)))
    if words:
        named = tuple(m for m in modalities if m != WORDS)
        if modalities:
            return (*([WORDS] if WORDS in modalities else []), *(_named(archive, named) if named else ()))
        spoken = "transcript" in archive.arrays
        try:
            features = modalities_of(archive, (), label, ratings)
        except UserError:
            if not spoken:
                raise
            features = ()
        return (*([WORDS] if spoken and not any(m.startswith("text") for m in features) else []), *features)
    if modalities:
        return _named(archive, (modalities,) if isinstance(modalities, str) else tuple(modalities))
    for field in filter(is_named_like_a_modality, archive.opaque):
        archive.get(field)
    chosen: list[Modality] = []
    others: list[str] = []
    unfit = ""
    for field, array in archive.arrays.items():
        if array.ndim == 2 and array.dtype.kind == "f" and field not in (label, *ratings, "_".join(ratings)):
            (chosen if is_named_like_a_modality(field) else others).append(field)
        elif (array.ndim >= 2 or array.dtype.kind in "iufb") and field != label and is_named_like_a_modality(field):
            remedies = {1: "one number an utterance is [U, 1], by .reshape(-1, 1)", 2: "convert by .astype('float32')"}
            remedy = remedies.get(array.ndim, "average over the frames")
            note = f"`{field}` is not taken as a modality: it is {kind(array)}, not 2-D floats; {remedy}"
            archive.note(note)
            unfit = unfit or f" {note}."
    if others:
        archive.note(
            f"{listed(others)}: not taken as a modality because of its name; if it is an input and not an annotation, "
            "name it in data.modalities"
        )
    if chosen:
        return tuple(chosen)
    shown = [f"`{short(field, 40)}` {kind(array)}" for field, array in list(archive.arrays.items())[:40]]
    shapes = ", ".join(shown) + (f" and {len(archive.arrays) - 40} more" if len(archive.arrays) > 40 else "")
    remedy = f"Name a field with 2-D floats {', '.join(PREFIXES)}"
    if others:
        asked = [short(name, 40) for name in others[:8]]
        quoted = ", ".join(f"'{name}'" for name in asked)
        remedy += f', or ask for it by its name: --config.data.modalities="({quoted},)" in training, '
        remedy += f"--modalities={','.join(asked)} of tools.prepare"
    raise UserError(f"{archive.path}: there is no modality among {shapes or 'the fields'}.{unfit} {remedy}.")


def _named(archive: Fields, modalities: tuple[Modality, ...]) -> tuple[Modality, ...]:
    for modality in modalities:
        array = archive.get(modality)
        if array is None:
            raise archive.absent(modality, "Choose `modalities` from the 2-D floating fields")
        if array.ndim != 2 or array.dtype.kind != "f":
            remedy = "A modality must be 2-D floats, [U, d]: convert with .astype('float32'), pool frames, or drop it"
            raise archive.refusal(modality, f"is {kind(array)}", remedy)
    if len(set(modalities)) < len(modalities):
        raise UserError(f"`modalities` names one of {listed(modalities)} twice. Name each once.")
    return modalities


def features_of(
    archive: Fields, chosen: Sequence[Modality], order: np.ndarray, training: bool
) -> tuple[dict[Modality, np.ndarray], dict[Modality, np.ndarray]]:
    """Return modality -> features [U, d] float32 in the given order, zero where missing, and -> present [U] bool.

    WORDS has no features yet ([U, 0]), and is present where there is a transcript. Nor has a modality that is to be
    made of recordings, which is present where there is one.
    """
    found: dict[Modality, np.ndarray] = {}
    present: dict[Modality, np.ndarray] = {}
    if WORDS in chosen:
        said = archive.names("transcript", order)
        if said is None:
            remedy = "The modality `words` is made of it; add it"
            renamed = ", or give the features `words` another name" if WORDS in archive.arrays else ""
            raise archive.absent("transcript", remedy + renamed)
        found[WORDS] = np.zeros((len(order), 0), np.float32)
        present[WORDS] = np.array([bool(str(text).strip()) for text in said], bool)
    for modality in (m for m in chosen if m != WORDS):
        if modality not in archive.arrays:
            found[modality] = np.zeros((len(order), 0), np.float32)
            clips = [archive.clips[row] for row in order]
            present[modality] = np.array([one is not None and bool(one.path) for one in clips], bool)
            continue
        values = archive.arrays[modality]
        if len(values) != len(order) or not values.shape[1]:
            remedy = f"It must be [{len(order)}, d] with d of at least 1, one row per utterance"
            raise archive.refusal(modality, f"has the shape {values.shape}", remedy)
        rows = _rows(values, order)
        here = present[modality] = _present(archive, modality, rows, order, training)
        missing = np.flatnonzero(~here)
        if rows.flags.writeable:
            rows[missing] = 0
        elif rows[missing].any():  # a read-only array is copied only where it has other values there
            rows = np.where(here[:, None], rows, np.float32(0))
        found[modality] = rows
    if nothing := int((~np.any([*present.values()], axis=0)).sum()):
        archive.note(f"{count(nothing, 'utterance has', 'utterances have')} no modality at all")
    return found, present


def _rows(values: np.ndarray, order: np.ndarray) -> np.ndarray:
    """Return [U, d] float32 in the given order; the array itself if it is that already."""
    whole = np.array_equal(order, np.arange(len(order)))
    if whole and values.dtype == np.float32:
        return values
    rows = np.empty(values.shape, np.float32)
    with np.errstate(over="ignore"):
        for start in range(0, len(rows), _BLOCK_ROWS):
            block = slice(start, start + _BLOCK_ROWS)
            rows[block] = values[block] if whole else values[order[block]]
    return rows


def _each_row(rows: np.ndarray, test: Callable[[np.ndarray], Any]) -> np.ndarray:
    """Return [U] bool, the test's result on blocks of rows."""
    return np.concatenate([test(rows[i : i + _BLOCK_ROWS]) for i in range(0, len(rows), _BLOCK_ROWS)])


def _present(archive: Fields, modality: Modality, rows: np.ndarray, order: np.ndarray, training: bool) -> np.ndarray:
    """Return [U] bool; zero rows are failed extractions unless the file says which rows are present (choice)."""
    field = f"{modality}_present"
    given = archive.column(field, order)
    if given is not None:
        if given.dtype.kind not in "biuf" or not np.isin(given, (0, 1)).all():
            raise archive.refusal(field, "holds something other than true and false", "It must be [U] bool")
        given = given.astype(bool)
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


def _missing(number: int, modality: Modality, reason: str) -> str:
    verbs = ("has", "counts") if number == 1 else ("have", "count")
    return f"{count(number, 'utterance')} of {modality} {verbs[0]} {reason} and {verbs[1]} as missing"
