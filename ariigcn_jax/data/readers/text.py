"""Open text of any encoding, JSON Lines and CSV, and say of a file that it cannot be read."""

from __future__ import annotations

import codecs
import contextlib
import csv
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

from ariigcn_jax.data.values import WINDOWS, short
from ariigcn_jax.types import UserError

_MARKS = {b"\xff\xfe\0\0": "utf-32", b"\0\0\xfe\xff": "utf-32", b"\xff\xfe": "utf-16", b"\xfe\xff": "utf-16"}
_COMMON_CHINESE = re.compile(rb"[\xa1-\xa9\xb0-\xd7][\xa1-\xfe]")  # signs and the first level of GB2312
_NO_UTF8_START = re.compile(rb"[\x80-\xc1\xf5-\xff]*")
_UTF8_CHARACTER = re.compile(rb"[\xc3-\xf4][\x80-\xbf]")
_QUOTES = "A quotation mark that begins a cell must end it, too; one inside of such a cell is written twice."
_SIGNS = "windows-1252 signs"
_NUMBERS = re.compile(r"[-+]?\d*\.?\d+(?:[eE][-+]?\d+)?")


@contextlib.contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turn an error of the operating system into a UserError that names the file, which is `path` or one in it."""
    try:
        yield
    except OSError as error:
        raise UserError(f"{error.filename or path}: cannot be read: {error.strerror or error}.") from None


@contextlib.contextmanager
def intact(what: str) -> Iterator[None]:
    """Turn any error of a parser into a UserError that says that `what` is damaged. Libraries raise many types."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        words = short(str(error) or ("it needs too much memory" if isinstance(error, MemoryError) else "it ends early"))
        raise UserError(f"{what} is truncated or damaged ({type(error).__name__}: {words}). Copy it again.") from None


def start(path: Path, size: int = 4096) -> bytes:
    """Return the first bytes of a file."""
    with path.open("rb") as file:
        return file.read(size)


def wide_codec(begin: bytes) -> str:
    """Return the codec of text that begins like UTF-16 or UTF-32, with a mark or without; "" for others."""
    if codec := next((codec for mark, codec in _MARKS.items() if begin.startswith(mark)), ""):
        return codec
    even, odd = begin[::2], begin[1::2]
    for codec, signs, zeros in (("utf-16-le", even, odd), ("utf-16-be", odd, even)):
        if len(zeros) > 1 and 2 * zeros.count(0) > len(zeros) and 0 not in signs:
            return codec
    return ""


def encoding(path: Path) -> tuple[str, str]:
    """Return the codec by which `opened` decodes a whole file, and its name for a note; "" for UTF-8.

    What is neither UTF-8, UTF-16, UTF-32 nor GB18030 is Windows-1252, and so are single bytes in UTF-8 that are none.

    Raises:
      UserError: the file begins as UTF-16 or UTF-32, and is damaged.
    """
    wide = wide_codec(start(path))
    error = _undecodable(path, wide or "utf-8")
    if wide and error:
        raise UserError(f"{path}: cannot be read as text: {error}. Copy it again, or save it as UTF-8.")
    if not error:
        return wide or "utf-8-sig", wide[:6].upper()
    high = sum(byte > 0x7F for byte in error.object)
    if 2 * len(_COMMON_CHINESE.findall(error.object)) > 0.75 * high and not _undecodable(path, "gb18030"):
        return "gb18030", "GB18030"
    mixed = _UTF8_CHARACTER.search(error.object)
    return "utf-8-sig", "UTF-8 with signs of Windows-1252" if mixed else "Windows-1252"


def _undecodable(path: Path, codec: str) -> UnicodeDecodeError | None:
    """Return the error that ends the decoding of a file, with the bytes around it; None where there is none."""
    try:
        with path.open(encoding=codec, newline="") as file:
            while file.read(2**20):
                pass
    except UnicodeDecodeError as error:
        return error
    return None


def _windows_1252(error: UnicodeError) -> tuple[str, int]:
    """Decode the bytes that are no UTF-8."""
    if not isinstance(error, UnicodeDecodeError):
        raise error
    found = _NO_UTF8_START.match(error.object, error.end)
    end = found.end() if found else error.end
    return error.object[error.start : end].decode("latin-1").translate(WINDOWS), end


codecs.register_error(_SIGNS, _windows_1252)


def opened(path: Path, codec: str, newline: str | None = None) -> TextIO:
    """Open a text file by the codec that `encoding` found; only \\n, \\r\\n and \\r end a line."""
    return path.open(encoding=codec, errors=_SIGNS, newline=newline)


def read(path: Path) -> str:
    """Return a whole text file, each line's end as \\n.

    Raises:
      UserError: it cannot be read.
    """
    with reading(path), opened(path, encoding(path)[0]) as file:
        return file.read()


def lines(words: str) -> list[str]:
    """Return lines without their ends, which are \\n, \\r\\n and \\r: `str.splitlines` breaks at U+2028, too."""
    found = re.split("\r\n?|\n", words)
    return found if found[-1] else found[:-1]


def json_lines(path: Path, codec: str = "") -> Iterator[tuple[int, Any]]:
    """Yield the number and the value of each line that is not blank; `codec` is that of `encoding`, or "" to find it.

    Raises:
      UserError: the file cannot be read, or a line is not JSON.
    """
    number = 0
    try:
        with reading(path), opened(path, codec or encoding(path)[0]) as file:
            for number, line in enumerate(file, start=1):
                if line.strip():
                    yield number, json.loads(line)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: line {number} is not JSON: {short(error)}.") from None


def csv_rows(path: Path, codec: str, delimiter: str = "") -> Iterator[tuple[int, list[str]]]:
    """Yield the first line's number and the cells of each row that is not blank; the first row names the columns.

    Args:
      path: of a CSV file.
      codec: that of `encoding`.
      delimiter: what is between cells; "" takes what is most frequent in the first line.

    Raises:
      UserError: a row has more or fewer cells than the first one, or a quotation mark takes in the rows below it.
    """
    # Only ever raised: of two files that are read side by side, the one that ends first would lower it for the other.
    csv.field_size_limit(max(csv.field_size_limit(), path.stat().st_size + 1))
    begin = width = 0
    try:
        with opened(path, codec, newline="") as file:
            head = file.readline()
            if named := re.fullmatch(r"sep=(.)\s*", head):  # Excel's own line
                delimiter, begin = named[1], 1
            else:
                file.seek(0)
            delimiter = delimiter or max(",\t;|", key=head.count)
            reader = csv.reader(file, delimiter=delimiter, strict=True)
            offset = begin
            for cells in reader:
                first, begin = begin + 1, offset + reader.line_num
                if not any(cells):
                    continue
                width = width or len(cells)
                if len(cells) != width:
                    has = f"{len(cells)} cell{'s' if len(cells) > 1 else ''}"
                    names = f"{width} column{'s' if width > 1 else ''}"
                    raise UserError(f"{path}: line {begin} has {has} where the first line names {names}.")
                if begin > first and _holds_rows(cells, delimiter):
                    swallowed = f"a quotation mark in line {first} takes in the rows down to line {begin}"
                    raise UserError(f"{path}: {swallowed}, which would be lost. {_QUOTES}")
                yield first, cells
    except csv.Error as error:
        raise UserError(f"{path}: line {begin + 1} cannot be read: {error}. {_QUOTES}") from None


def _holds_rows(cells: list[str], delimiter: str) -> bool:
    """Return whether the lines of a cell are rows: as many cells each, some with numbers at the same places."""
    for i, cell in enumerate(cells):
        rows = [line.split(delimiter) for line in lines(cell)]
        if len(rows) < 2:
            continue
        rows[0] = cells[:i] + rows[0]
        rows[-1] = rows[-1] + cells[i + 1 :]
        if all(len(row) == len(cells) for row in rows):
            forms = [{_NUMBERS.sub("0", cell) for cell in column} for column in zip(*rows, strict=True)]
            if any(len(form) == 1 and "0" in form.pop() for j, form in enumerate(forms) if j != i):
                return True
    return False
