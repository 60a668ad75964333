"""Find and read the files of releases, whose names and encodings vary."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ariigcn_jax.types import UserError

Row = dict[str, Any]
# A C1 control character in text that was taken for Latin-1 is the Windows-1252 character of that byte.
_WINDOWS = {code: char for code in range(0x80, 0xA0) if (char := bytes([code]).decode("cp1252", "ignore"))}


def text(path: Path) -> str:
    """Read a text file in UTF-8, or else Windows-1252, and restore quotation marks that were mangled between the two.

    Raises:
      UserError: the file cannot be read.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror or error}.") from None
    try:
        return data.decode("utf-8-sig").translate(_WINDOWS)
    except UnicodeDecodeError:
        return data.decode("cp1252", "replace")


def table(path: Path, required: Sequence[str]) -> list[dict[str, str]]:
    """Read the rows of a CSV file.

    Raises:
      UserError: the file cannot be read, or lacks a column.
    """
    reader = csv.DictReader(text(path).splitlines(keepends=True))
    rows = [{(key or "").strip(): (value or "").strip() for key, value in row.items() if key} for row in reader]
    columns = [(name or "").strip() for name in reader.fieldnames or ()]
    if lacking := [name for name in required if name not in columns]:
        raise UserError(f"{path}: there is no column {lacking[0]!r} among {', '.join(columns)}.")
    return rows


def first(root: Path, *patterns: str) -> Path | None:
    """Return the first file below a folder that a pattern matches, except for resource forks of macOS (._name)."""
    for pattern in patterns:
        for path in sorted(root.rglob(pattern)):
            if path.is_file() and not path.name.startswith("."):
                return path
    return None


def existing(*paths: Path) -> Path | None:
    """Return the first path that is a file."""
    return next((path for path in paths if path.is_file()), None)
