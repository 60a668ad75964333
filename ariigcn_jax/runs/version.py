"""Refuse run folders that another version of the package wrote."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any

from ariigcn_jax import __version__
from ariigcn_jax.types import UserError

CORPUS, ENVIRONMENT = "corpus.json", "environment.json"
FORMAT = 4  # of a run's folder; corpus.json names it


def check(folder: Path) -> None:
    """Raise a UserError for a run, or a study of runs, of another format; a folder without corpus.json passes."""
    for file in (folder / CORPUS, *sorted(folder.glob(f"*/{CORPUS}"))):
        found = read(file)
        if found and found.get("format") != FORMAT:
            raise refusal(file.parent, found.get("version"))


def refusal(run: Path, version: Any) -> UserError:
    """Return the error for a run that a `version` wrote; None if that is unknown."""
    author = f"version {version}" if version else "an earlier version"
    commit = (read(run / ENVIRONMENT).get("git") or {}).get("commit")
    return UserError(
        f"{run} was written by {author} of ariigcn_jax; this version {__version__} reads format {FORMAT}. "
        f"Use {f'version {version}' if version else 'that version'}{f' (git commit {commit})' if commit else ''}, or "
        "train again."
    )


def read(file: Path) -> dict[str, Any]:
    """Return the content of a JSON file; {} if it is missing or damaged."""
    with contextlib.suppress(OSError, ValueError):
        content = json.loads(file.read_bytes())
        return content if isinstance(content, dict) else {}
    return {}
