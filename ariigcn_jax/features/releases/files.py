"""Find and read the files of releases, whose names and encodings vary."""

from __future__ import annotations

import csv
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ariigcn_jax.data.readers.text import reading
from ariigcn_jax.types import UserError

Row = dict[str, Any]  # of a manifest: column -> value
# A C1 control character in text that was taken for Latin-1 is the Windows-1252 character of that byte.
_WINDOWS = {code: char for code in range(0x80, 0xA0) if (char := bytes([code]).decode("cp1252", "ignore"))}


def text(path: Path) -> str:
    """Read a text file in UTF-8, or else Windows-1252, and restore quotation marks that were mangled between the two.

    Raises:
      UserError: the file cannot be read.
    """
    with reading(path):
        data = path.read_bytes()
    try:
        return data.decode("utf-8-sig").translate(_WINDOWS)
    except UnicodeDecodeError:
        return data.decode("cp1252", "replace")


def table(path: Path, columns: Mapping[str, Callable[[str], Any]]) -> list[Row]:
    """Read columns of a CSV file, by name -> conversion of a cell.

    Raises:
      UserError: the file cannot be read, lacks a column, or a cell is not a number where one is needed.
    """
    reader = csv.DictReader(text(path).splitlines(keepends=True), restval="")
    names = [name.strip() for name in reader.fieldnames or ()]
    if lacking := [name for name in columns if name not in names]:
        raise UserError(f"{path}: there is no column {lacking[0]!r} among {', '.join(names)}.")
    reader.fieldnames = names
    rows = []
    for line in reader:
        row = {}
        for name, convert in columns.items():
            try:
                row[name] = convert(line[name].strip())
            except ValueError:
                raise UserError(f"{path}: {name} = {line[name]!r} is no number.") from None
        rows.append(row)
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
