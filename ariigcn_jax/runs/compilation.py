"""The persistent compilation cache: what was compiled once on this machine is read from disk the next time."""

from __future__ import annotations

import os
from pathlib import Path

import jax

from ariigcn_jax.types import UserError

VARIABLE = "ARIIGCN_CACHE"
HIT, MISS = "/jax/compilation_cache/cache_hits", "/jax/compilation_cache/cache_misses"


class Cache:
    """Counts what came from the cache and what was compiled, since `enable`.

    Attributes:
      path: the cache's folder, or None where there is none.
      hits: programs read from it.
      misses: programs compiled.
    """

    def __init__(self, path: Path | None):
        self.path = path
        self.hits = 0
        self.misses = 0

    def _count(self, event: str, **_: object) -> None:
        self.hits += event == HIT
        self.misses += event == MISS

    def words(self) -> str:
        """For a person."""
        if self.path is None:
            return "the compilation cache is off"
        if not self.misses:
            return f"nothing was compiled: all {self.hits} programs came from the cache in {self.path}"
        return f"{self.misses} programs were compiled and {self.hits} came from the cache in {self.path}"


def enable() -> Cache:
    """Switches the cache on for this process.

    Its folder is what the environment variable ARIIGCN_CACHE names ("" switches the cache off), else the one that JAX
    itself is set to use, else ariigcn_jax in the user's cache folder.

    Raises:
      UserError: the folder that ARIIGCN_CACHE names cannot be made.
    """
    named = os.environ.get(VARIABLE)
    if named == "":
        return Cache(None)
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    folder = Path(named or jax.config.values["jax_compilation_cache_dir"] or Path(home) / "ariigcn_jax").expanduser()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        if named:
            raise UserError(
                f"{folder}: the compilation cache cannot be kept there ({error.strerror}). "
                f"Let {VARIABLE} name another folder, or nothing to do without."
            ) from error
        return Cache(None)  # a home that cannot be written is no reason not to train
    cache = Cache(folder.absolute())
    jax.config.update("jax_compilation_cache_dir", str(cache.path))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
    jax.monitoring.register_event_listener(cache._count)
    return cache
