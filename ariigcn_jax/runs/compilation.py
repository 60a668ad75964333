"""Keep compiled programs on disk, in JAX's persistent compilation cache."""

from __future__ import annotations

import os
from pathlib import Path

import jax

from ariigcn_jax import files
from ariigcn_jax.types import UserError

HIT, MISS = "/jax/compilation_cache/cache_hits", "/jax/compilation_cache/cache_misses"


class Cache:
    """Count programs read from the cache at `path` (None: off) as `hits`, and compiled ones as `misses`."""

    def __init__(self, path: Path | None):
        self.path = path
        self.hits = self.misses = 0

    def _count(self, event: str, **_: object) -> None:
        self.hits += event == HIT
        self.misses += event == MISS

    def words(self) -> str:
        """Return a sentence for the user."""
        if self.path is None:
            return "the compilation cache is off"
        if not self.misses:
            return f"nothing was compiled: all {self.hits} programs came from the cache in {self.path}"
        return f"{self.misses} programs were compiled and {self.hits} came from the cache in {self.path}"


def enable() -> Cache:
    """Switch the cache on for this process; raise a UserError if the folder that ARIIGCN_CACHE names cannot be made.

    The folder is that of `files.cache_folder`; JAX's own setting comes before the user's cache.
    """
    folder = files.cache_folder(jax.config.values["jax_compilation_cache_dir"])
    if folder is None:
        return Cache(None)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        if os.environ.get(files.CACHE):
            raise UserError(
                f"{folder}: the compilation cache cannot be kept there ({error.strerror}). "
                f"Set {files.CACHE} to another folder, or to nothing to switch the cache off."
            ) from error
        return Cache(None)  # training works without a cache
    cache = Cache(folder)
    jax.config.update("jax_compilation_cache_dir", str(cache.path))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
    jax.monitoring.register_event_listener(cache._count)
    return cache
