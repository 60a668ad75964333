"""Tell one corpus from another by a checksum of each of its arrays."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np

from ariigcn_jax.types import Corpus

CHUNK_BYTES = 16 * 2**20


def digest(corpus: Corpus) -> dict[str, str]:
    """Return checksums of what training and evaluation look at; not of transcripts and names.

    Args:
      corpus: as read; memory-mapped features are read once, in chunks.

    Returns:
      Array of the corpus -> its first 32 hexadecimal digits of SHA-256. Features count as float32.
    """
    arrays: dict[str, tuple[Any, Any]] = {f"features of {m}": (x, np.float32) for m, x in corpus.features.items()}
    arrays |= {f"presence of {m}": (x, bool) for m, x in corpus.present.items()}
    arrays |= {name: (getattr(corpus, name), np.int32) for name in ("dialogue", "speaker", "label")}
    arrays["split"] = (corpus.split, "S5")
    arrays |= {n: (x, np.float32) for n in ("target", "ratings") if (x := getattr(corpus, n)) is not None}
    arrays |= {} if corpus.fold is None else {"fold": (corpus.fold, np.int32)}
    return {name: _sum(x, dtype) for name, (x, dtype) in arrays.items()}


def _sum(rows: Any, dtype: Any) -> str:
    """Return the checksum of an array [U, …], in memory or memory-mapped."""
    total = hashlib.sha256(repr(tuple(rows.shape)).encode())
    size = max(1, CHUNK_BYTES // max(1, np.dtype(dtype).itemsize * int(np.prod(rows.shape[1:]))))
    for first in range(0, len(rows), size):
        total.update(np.ascontiguousarray(rows[first : first + size], dtype).tobytes())
    return total.hexdigest()[:32]
