"""Write files whole or not at all; turn values into JSON; name the folder of caches."""

from __future__ import annotations

import contextlib
import math
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ariigcn_jax.types import UserError

CACHE = "ARIIGCN_CACHE"  # the environment variable that names the folder of caches


def local(path: str | Path) -> Path:
    """Return a path of this machine, with ~ expanded; raise a UserError where it is a URL."""
    if found := re.match(r"(\w[\w+.-]+):/", str(path)):
        remedy = "Write the path alone" if found[1] == "file" else "Name a local path, and copy from or to the URL"
        raise UserError(f"{path}: this is a URL, and files are read and written on this machine alone. {remedy}.")
    return Path(path).expanduser()


def write_atomically(path: str | Path, content: bytes) -> Path:
    """Write a file so that a reader, or a crash, sees either the old content or the new one; return its path.

    Its folders are made.

    Raises:
      UserError: the disk is full, the place cannot be written, or it is a folder.
    """
    path = local(path)
    if path.is_dir():
        raise UserError(f"cannot write {path}: it is a folder. Name a file in it.")
    with explaining(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic(path) as temporary:
            temporary.write_bytes(content)
    return path


@contextlib.contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """Yield a temporary file that replaces `path` when the block succeeds, and is deleted when it fails.

    Its folder must exist. Errors of the operating system are raised as they are.
    """
    temporary = path.parent / f".{path.name}.{os.getpid()}.tmp"
    try:
        yield temporary
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


@contextlib.contextmanager
def explaining(path: Path) -> Iterator[None]:
    """Turn an OSError of writing to `path` into a UserError."""
    try:
        yield
    except OSError as error:
        raise UserError(
            f"cannot write {error.filename or path}: {error.strerror or error}; "
            "free space or permission there, or choose another place"
        ) from error


def cache_folder(otherwise: str | None = None) -> Path | None:
    """Return the folder of what may be computed again, which may not exist yet; None where the user switched it off.

    It is the environment variable ARIIGCN_CACHE ("": off), else `otherwise`, else one in the user's cache.
    """
    named = os.environ.get(CACHE)
    if named == "":
        return None
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(named or otherwise or Path(home) / "ariigcn_jax").expanduser().absolute()


def json_safe(value: Any) -> Any:
    """Return plain JSON values: arrays and tuples become lists, keys and paths text, NaN and infinity null."""
    if isinstance(value, Mapping):
        return {str(key): json_safe(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [json_safe(item) for item in value]
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, Path):
        return str(value)
    if hasattr(value, "__array__"):
        return json_safe(np.asarray(value).tolist())
    raise TypeError(f"no JSON for {type(value).__name__}: {value!r}")


def flatten(nested: Mapping[str, Any], separator: str = ".") -> dict[str, Any]:
    """Return the leaves of nested dictionaries under joined keys: `{"a": {"b": 1}}` gives `{"a.b": 1}`. {} stays."""
    flat = {}
    for key, value in nested.items():
        if isinstance(value, Mapping) and value:
            flat.update({f"{key}{separator}{name}": leaf for name, leaf in flatten(value, separator).items()})
        else:
            flat[str(key)] = value
    return flat
