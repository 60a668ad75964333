"""Open files: the encoding of text, JSON Lines, and messages about a file that cannot be read."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ariigcn_jax.data.values import short
from ariigcn_jax.types import UserError

UTF16_MARKS = (b"\xff\xfe", b"\xfe\xff")
_ENCODINGS = {"utf-8-sig": "", "cp1252": "Windows-1252", "latin-1": "Latin-1"}


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


def encoding(path: Path) -> tuple[str, str]:
    """Return the first encoding that decodes a whole file, and its name for a note; "" for UTF-8."""
    utf16 = {"utf-16": "UTF-16"} if start(path, 2) in UTF16_MARKS else {}
    for codec, name in (utf16 | _ENCODINGS).items():
        with contextlib.suppress(UnicodeDecodeError), path.open(encoding=codec, newline="\n") as file:
            while file.read(2**20):
                pass
            return codec, name
    raise AssertionError("Latin-1 decodes all bytes")


def json_lines(path: Path, codec: str = "utf-8-sig") -> Iterator[tuple[int, Any]]:
    """Yield the number and the value of each line that is not blank.

    Lines end at line feeds alone: U+2028 may stand in a JSON string.

    Raises:
      UserError: the file cannot be read, or a line is not JSON.
    """
    number = 0
    try:
        with reading(path), path.open(encoding=codec, newline="\n") as file:
            for number, line in enumerate(file, start=1):
                if line.strip():
                    yield number, json.loads(line)
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: cannot be read as text: {error}.") from None
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: line {number} is not JSON: {short(error)}.") from None
