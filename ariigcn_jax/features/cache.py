"""Keep computed vectors in one SQLite file, by a hash of their input and of all that they depend on."""

from __future__ import annotations

import hashlib
import json
import os
import sqlite3
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ariigcn_jax.features.encoder import Input, digest
from ariigcn_jax.types import UserError

_FORMAT = 1  # raise it when vectors change for the same input and encoder
_TABLES = (
    "vectors (key TEXT PRIMARY KEY, vector BLOB NOT NULL)",
    "files (path TEXT PRIMARY KEY, size INTEGER, modified INTEGER, digest TEXT NOT NULL)",
)


class Cache:
    """Store vectors in a file, made if it is not there; a process that is killed at any moment leaves a valid one.

    Args:
      path: of the file.
      patience: seconds to wait for another process that writes.
      every: seconds of work that are lost at most when the process is killed.

    Raises:
      UserError: the file is not a cache, is in use, or its folder cannot be written to.
    """

    def __init__(self, path: Path, patience: float = 60, every: float = 1):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self.database = sqlite3.connect(path, timeout=patience)
            for table in _TABLES:
                self.database.execute(f"CREATE TABLE IF NOT EXISTS {table}")
        except (sqlite3.Error, OSError) as error:
            raise UserError(f"{path}: cannot be used as the cache ({error}). Choose another, or delete it.") from None
        self.every, self.saved = every, time.monotonic()

    def __enter__(self) -> Cache:
        return self

    def __exit__(self, *_: object) -> None:
        self.database.commit()
        self.database.close()

    def digest(self, path: str) -> str:
        """Return the SHA-256 of a file's content, read again only if its size or time of change differ."""
        status = os.stat(path)
        stamp = (os.path.abspath(path), status.st_size, status.st_mtime_ns)
        query = "SELECT digest FROM files WHERE path = ? AND size = ? AND modified = ?"
        if row := self.database.execute(query, stamp).fetchone():
            return row[0]
        value = digest(path)
        self.database.execute("INSERT OR REPLACE INTO files VALUES (?, ?, ?, ?)", (*stamp, value))
        self._save()
        return value

    def key(self, identity: Mapping[str, Any], item: Input) -> str:
        """Return the key of an input's vector; raise OSError if its file cannot be read."""
        if isinstance(item, str):
            content: Any = hashlib.sha256(item.encode("utf-8", "surrogatepass")).hexdigest()
        else:
            content = [self.digest(item.path), item.start, item.end, item.region]
        text = json.dumps([_FORMAT, identity, content], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()

    def get(self, keys: Iterable[str]) -> dict[str, np.ndarray]:
        """Return the vectors [d] of those keys that are stored."""
        query = "SELECT vector FROM vectors WHERE key = ?"
        found = {key: self.database.execute(query, (key,)).fetchone() for key in keys}
        return {key: np.frombuffer(row[0], "<f4") for key, row in found.items() if row}

    def put(self, key: str, vector: np.ndarray) -> None:
        """Store a vector [d] float32."""
        self.database.execute("INSERT OR REPLACE INTO vectors VALUES (?, ?)", (key, vector.astype("<f4").tobytes()))
        self._save()

    def shrink(self, most: int) -> None:
        """Delete the vectors that were stored first, until all take at most `most` bytes."""
        newest = "SELECT rowid, SUM(LENGTH(vector)) OVER (ORDER BY rowid DESC) AS total FROM vectors"
        query = f"DELETE FROM vectors WHERE rowid <= (SELECT MAX(rowid) FROM ({newest}) WHERE total > ?)"
        self.database.execute(query, (most,))
        self.database.commit()

    def _save(self) -> None:
        if time.monotonic() - self.saved >= self.every:
            self.database.commit()
            self.saved = time.monotonic()
