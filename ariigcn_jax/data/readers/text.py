"""Open text files: their encoding, JSON Lines, and what is said of a file that cannot be read."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ariigcn_jax.data.values import short
from ariigcn_jax.types import UserError

_ENCODINGS = {"utf-8-sig": "", "cp1252": "Windows-1252", "latin-1": "Latin-1"}
UTF16_MARKS = (b"\xff\xfe", b"\xfe\xff")


def unreadable(path: Path, error: Exception) -> UserError:
    """Return the error of a file that the system does not let us read."""
    return UserError(f"{path}: cannot be read: {getattr(error, 'strerror', None) or short(error)}.")


def start(path: Path, size: int = 4096) -> bytes:
    """Return the first bytes of a file.

    Raises:
      UserError: it cannot be opened.
    """
    try:
        with path.open("rb") as file:
            return file.read(size)
    except PermissionError:
        raise UserError(f"{path}: no permission to read this file. Change its permissions or its owner.") from None
    except (OSError, ValueError) as error:
        raise unreadable(path, error) from None


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

    Args:
      path: a file with one JSON value a line.
      codec: its encoding.

    Raises:
      UserError: the file cannot be read, or a line is not JSON.
    """
    try:
        with path.open(encoding=codec, newline="\n") as file:
            for number, line in enumerate(file, start=1):
                if line.strip():
                    yield number, _value(path, number, line)
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: cannot be read as text: {error}.") from None
    except OSError as error:
        raise unreadable(path, error) from None


def _value(path: Path, number: int, line: str) -> Any:
    try:
        return json.loads(line)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: line {number} is not JSON: {short(error)}.") from None
