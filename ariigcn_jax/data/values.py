"""Turn values as Python files hold them into arrays with one row an utterance."""

from __future__ import annotations

import contextlib
import math
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from ariigcn_jax.types import UserError

_SLACK = 256 * 2**20
_MOST_TIMES = 16  # a file's size; float16 takes twice as much in memory, and one row for all silent clips some more
_VALUE = 64  # bytes that a reader takes for each value in a container
_DEEPEST = 100  # containers inside one another
_MOST_BITS = 8192  # of an integer
_MISSING = ("", "nan", "na", "n/a", "#n/a", "<na>", "none", "null", "nat")  # as other programs write nothing
_FREE_ROWS, _BYTES_A_ROW = 200_000, 8  # of a file, however small it is, and of its bytes for each one more

# Bytes 0x80–0x9F that were taken for Latin-1 are C1 control characters, and Windows-1252 has signs there
WINDOWS = {code: char for code in range(0x80, 0xA0) if (char := bytes([code]).decode("cp1252", "ignore"))}
_LATIN = {ord(char): code for code, char in WINDOWS.items()}
_TAKEN = re.compile("[ÂÃ][^\x00-\x7f]|â€|ðŸ")  # how UTF-8 looks that was taken for Windows-1252


class ShapeError(ValueError):
    """Say that a value is no vector or no text; the message does not say where it is."""


def is_number(value: Any) -> bool:
    """Return whether a value is a number of Python or numpy, or a boolean."""
    return isinstance(value, int | float | np.integer | np.floating | np.bool_)


def is_integer(value: Any) -> bool:
    """Return whether a value is a whole number, of whatever type."""
    return isinstance(value, int | np.integer | np.bool_) or (is_number(value) and float(value).is_integer())


def is_missing(value: Any) -> bool:
    """Return whether a cell where a number or a vector belongs is empty, or a word for it."""
    return value is None or (isinstance(value, str) and value.strip().lower() in _MISSING)


def as_sequence(value: Any) -> Sequence[Any] | np.ndarray | None:
    """Return a list, a tuple or an array with at least one axis as it is; None for anything else."""
    return value if isinstance(value, list | tuple) or (isinstance(value, np.ndarray) and value.ndim) else None


def mended(words: str) -> str:
    """Return text with the signs that were written, where its UTF-8 or Windows-1252 was taken for another encoding."""
    if words.isascii():
        return words
    taken = words.translate(_LATIN) if _TAKEN.search(words) else words
    with contextlib.suppress(UnicodeError):
        words = taken.encode("latin-1").decode("utf-8")
    return words.translate(WINDOWS)


def text(value: Any) -> str:
    """Return a value's text: bytes are decoded, words joined and mended, None and NaN are ""."""
    if value is None or (isinstance(value, float | np.floating) and np.isnan(value)):
        return ""
    if isinstance(value, bytes):
        value = value.decode("utf-8", "replace")
    if isinstance(value, str):
        return mended(value).encode("utf-8", "replace").decode("utf-8")
    if isinstance(value, list | tuple) or (isinstance(value, np.ndarray) and value.ndim == 1):
        if len(value) <= 100_000 and all(isinstance(v, str | bytes) for v in value):
            return " ".join(text(v) for v in value)
    elif is_number(value) or (isinstance(value, np.ndarray) and not value.ndim and value.dtype.kind in "iufbU"):
        return str(value)
    raise ShapeError(f"{kind(value)} is no text")


def short(words: object, most: int = 200) -> str:
    """Return what a file or a library says, shortened to fit into a message."""
    said = str(words)
    return said if len(said) <= most else f"{said[:most]}…"


def kind(value: Any) -> str:
    """Describe a value in a few words, whatever its size."""
    if isinstance(value, np.ndarray):
        return f"{value.dtype} array {list(value.shape)}"
    if isinstance(value, list | tuple | set | frozenset | dict):
        return f"{type(value).__name__} of {len(value)}"
    if isinstance(value, str):
        return f"text {value[:30]!r}"
    return type(value).__name__


def vector(value: Any) -> np.ndarray | None:
    """Return one utterance's features [d] float of a vector or of [frames, d], averaged; None where it is empty.

    Raises:
      ShapeError: it is something else.
    """
    if isinstance(value, np.ndarray) and value.dtype.kind == "O":
        value = value.tolist() if value.ndim else [value.item()]
    if value is None:
        return None
    if isinstance(value, list | tuple):
        value = _array(value)
    if not isinstance(value, np.ndarray) or value.dtype.kind not in "fiub" or not 1 <= value.ndim <= 2:
        raise ShapeError(f"{kind(value)} is no vector of numbers")
    if not value.size:
        return None
    if value.ndim == 1:
        return value
    return value[0] if len(value) == 1 else value.mean(axis=0, dtype=np.float64)


def _array(values: list | tuple) -> np.ndarray:
    if _is_flat(values):
        try:
            return np.array(values, np.float64)
        except (OverflowError, ValueError):
            raise ShapeError("a number that is too large") from None
    rows = [v if isinstance(v, np.ndarray) else _array(v) if _is_flat(v) else None for v in values]
    widths = {row.shape for row in rows if row is not None}
    if any(row is None or row.ndim != 1 or row.dtype.kind not in "fiub" for row in rows) or len(widths) > 1:
        words = next((f", with {kind(v)}" for v in values if isinstance(v, str)), "")
        raise ShapeError(f"{kind(values)}{words} is neither a vector of numbers nor a list of vectors of one width")
    return np.stack([row for row in rows if row is not None])


def _is_flat(value: Any) -> bool:
    return isinstance(value, list | tuple) and all(is_number(v) for v in value)


class Rows:
    """Collect the feature vectors of a modality of U utterances, which messages call `what`."""

    def __init__(self, utterances: int, what: str, file_size: int):
        check_rows(utterances, file_size, what)
        self._what, self._file_size, self._utterances = what, file_size, utterances
        self._rows: np.ndarray | None = None

    def put(self, row: int, value: Any, where: str) -> None:
        """Set the row of an utterance; `where` names the utterance for messages."""
        try:
            found = vector(value)
        except ShapeError as error:
            raise UserError(f"{self._what}: {where}: {error}.") from None
        if found is None:
            return
        if self._rows is None:
            check_size(4 * len(found) * self._utterances, self._file_size, self._what)
            self._rows = np.full((self._utterances, len(found)), np.nan, np.float32)
        if len(found) != self._rows.shape[1]:
            raise UserError(
                f"{self._what}: {where} has {len(found)} features where those before it have {self._rows.shape[1]}. "
                "All vectors of a modality must have one width."
            )
        with np.errstate(over="ignore", invalid="ignore"):
            self._rows[row] = found

    def array(self) -> np.ndarray | None:
        """Return [U, d] float32 with NaN in the rows that are missing; None where all are."""
        return self._rows


def check_size(needed: int, file_size: int, what: str) -> None:
    """Raise `UserError` where a file of its size needs so many bytes only because it repeats its parts."""
    if needed > _MOST_TIMES * file_size + _SLACK:
        raise UserError(
            f"{what}: would take {needed / 1e9:,.1f} GB, from a file of {file_size / 1e6:,.1f} MB: the same parts are "
            "repeated over and over. It is damaged or made to fill the memory."
        )


def check_rows(number: int, file_size: int, what: str) -> None:
    """Raise `UserError` where a file of its size cannot hold so many utterances, as where they are of no width."""
    if number > _FREE_ROWS + file_size // _BYTES_A_ROW:
        raise UserError(
            f"{what}: claims {number:,} utterances, in a file of {file_size / 1e6:,.1f} MB. It is damaged or made to "
            "fill the memory."
        )


def check_repeats(value: Any, file_size: int, what: str) -> None:
    """Raise where a walk through a value would take far longer than its file explains, as parts of it are repeated.

    Raises:
      UserError: it would be far larger than the file of `file_size` bytes if each repeated part was written out.
      ValueError: a container is inside itself, or too deep inside others, or an integer has too many digits.
    """
    whole: dict[int, int] = {}  # id of a container or an array → its bytes with each repeated part written out
    once = 0

    def measure(part: Any, depth: int) -> int:
        nonlocal once
        if isinstance(part, np.ndarray) and not part.size and max(part.shape) > _FREE_ROWS:
            raise ValueError(f"an array without values that claims the shape {part.shape}")
        if isinstance(part, np.ndarray) and not part.dtype.hasobject:
            whole[id(part)] = 1 + part.nbytes + 16 * max(part.shape, default=0)
            return whole[id(part)]
        if not isinstance(part, list | tuple | set | frozenset | dict | np.ndarray):
            return len(part) if isinstance(part, str | bytes | bytearray) else 0
        if id(part) in whole:
            if not (size := whole[id(part)]):
                raise ValueError("a container that is inside itself")
            return size
        if depth > _DEEPEST:
            raise ValueError(f"containers more than {_DEEPEST} deep inside one another")
        whole[id(part)] = 0  # being measured
        inner = part.ravel().tolist() if isinstance(part, np.ndarray) else [*part]
        inner += part.values() if isinstance(part, dict) else ()
        size = _VALUE * (1 + len(inner))
        once += size
        for each in inner:
            if type(each) is str or type(each) is bytes:
                size += len(each)
            elif type(each) is int:
                if each.bit_length() > _MOST_BITS:
                    raise ValueError("an integer of too many digits")
            elif each is not None and type(each) is not float:
                size += whole.get(id(each)) or measure(each, depth + 1)
        whole[id(part)] = size
        return size

    check_size(measure([value], 0) - once, file_size, what)


def class_numbers(values: Iterable[Any], what: str) -> np.ndarray:
    """Return [U] numbers of labels: classes, or scores where they are not whole; NaN where there is none.

    Raises:
      UserError: a value is no number.
    """
    numbers = []
    for value in values:
        if isinstance(value, np.ndarray | list | tuple):  # one-hot, or a single number in a list
            flat = list(value)[:1000]
            if len(flat) == 1 and is_number(flat[0]):
                value = flat[0]
            elif flat and all(is_number(v) for v in flat) and sorted(float(v) for v in flat)[-2:] == [0.0, 1.0]:
                value = [float(v) for v in flat].index(1.0)
        if value is not None and not is_number(value):
            raise UserError(f"{what}: {kind(value)} in the place of a class's number.")
        try:
            numbers.append(np.nan if value is None else float(value))
        except OverflowError:
            raise UserError(f"{what}: a class's number is too large.") from None
    return np.array(numbers, np.float64)


def read_header(file: BinaryIO) -> tuple[tuple[int, ...], np.dtype]:
    """Return the shape and dtype that an .npy file claims, and leave it at the data."""
    old = np.lib.format.read_magic(file) == (1, 0)
    shape, _, dtype = (np.lib.format.read_array_header_1_0 if old else np.lib.format.read_array_header_2_0)(file)
    return shape, dtype


def load_array(path: Path, mmap: bool = False) -> np.ndarray:
    """Read an .npy file of numbers, without pickle; leave it on disk where `mmap`.

    Raises:
      UserError: it cannot be read, or does not hold numbers.
    """
    try:
        with path.open("rb") as file:
            shape, dtype = read_header(file)
            if math.prod(shape) * dtype.itemsize > path.stat().st_size - file.tell():
                raise ValueError(f"the shape {shape} needs more bytes than the file has")
        array = np.load(path, allow_pickle=False, mmap_mode="r" if mmap else None)
    except Exception as error:  # numpy raises many kinds on damaged headers
        raise UserError(f"{path}: cannot be read ({type(error).__name__}: {short(error)}). Write it again.") from None
    if array.dtype.kind not in "fiub":
        raise UserError(f"{path}: it holds {array.dtype}, not numbers.")
    return array
