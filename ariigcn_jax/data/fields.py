"""Hold named arrays with one row per utterance: what every reader returns, and `assemble` takes."""

from __future__ import annotations

import dataclasses
import difflib
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ariigcn_jax.data.values import short
from ariigcn_jax.types import UserError

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
_NAMED_LIKE_A_MODALITY = re.compile(rf"({'|'.join(PREFIXES)})(_.*)?(?<!_present)")


@dataclasses.dataclass(frozen=True)
class Fields:
    """Hold the fields of a file.

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
        """Return the field's array; None where it is absent."""
        if field in self.opaque:
            raise self.refusal(
                field,
                "is an object array, which only pickle can read, and pickle can run code",
                "Write it as a plain array: numbers with a dtype, or text by numpy.array(values, dtype=str)",
            )
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


def text_array(values: Sequence[str]) -> np.ndarray:
    """Return [U] str; long texts become objects, as fixed width takes 4 bytes a character of the longest."""
    longest = max((len(v) for v in values), default=0)
    if 4 * longest * len(values) <= _FIXED_WIDTH_BYTES:
        return np.array(values, dtype=str)
    array = np.empty(len(values), object)
    array[:] = values
    return array


def count(number: int, one: str, many: str | None = None) -> str:
    """Return a count with its noun: `1 dialogue`, `2 dialogues`."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def is_named_like_a_modality(field: str) -> bool:
    """Tell whether a field is taken as a modality without being asked for."""
    return _NAMED_LIKE_A_MODALITY.fullmatch(field) is not None


def listed(fields: Sequence[str] | dict[str, np.ndarray] | np.ndarray) -> str:
    """Return names in backquotes, joined by commas; the first of many, and the beginnings of long ones."""
    shown = ", ".join(f"`{short(field, 80)}`" for field in list(fields)[:40]) or "nothing"
    return f"{shown} and {len(fields) - 40} more" if len(fields) > 40 else shown


def kind(array: np.ndarray) -> str:
    return f"{array.dtype} {list(array.shape)}"


def shapes(archive: Fields) -> str:
    shown = [f"`{short(field, 40)}` {kind(array)}" for field, array in list(archive.arrays.items())[:40]]
    return (
        ", ".join(shown) + (f" and {len(archive.arrays) - 40} more" if len(archive.arrays) > 40 else "") or "the fields"
    )
