"""What tells one corpus from another: a checksum of each of its parts."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np

from ariigcn_jax.types import Corpus

CHUNK_BYTES = 16 * 2**20


def digest(corpus: Corpus) -> dict[str, str]:
    """Checksums of what training and evaluation look at; not of transcripts and names.

    Args:
      corpus: as read; memory-mapped features are read once, in chunks.

    Returns:
      Part of the corpus -> its first 32 hexadecimal digits of SHA-256. Features count as float32.
    """
    parts: dict[str, tuple[Any, Any]] = {f"features of {m}": (x, np.float32) for m, x in corpus.features.items()}
    parts |= {f"presence of {m}": (x, bool) for m, x in corpus.present.items()}
    parts |= {name: (getattr(corpus, name), np.int32) for name in ("dialogue", "speaker", "label")}
    parts["split"] = (corpus.split, "S5")
    parts |= {n: (x, np.float32) for n in ("target", "ratings") if (x := getattr(corpus, n)) is not None}
    parts |= {} if corpus.part is None else {"part": (corpus.part, np.int32)}
    return {name: _sum(x, dtype) for name, (x, dtype) in parts.items()}


def _sum(rows: Any, dtype: Any) -> str:
    """Of an array [U, …], whatever it is kept as."""
    total = hashlib.sha256(repr(tuple(rows.shape)).encode())
    size = max(1, CHUNK_BYTES // max(1, np.dtype(dtype).itemsize * int(np.prod(rows.shape[1:]))))
    for first in range(0, len(rows), size):
        total.update(np.ascontiguousarray(rows[first : first + size], dtype).tobytes())
    return total.hexdigest()[:32]
