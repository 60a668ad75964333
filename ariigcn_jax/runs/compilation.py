"""Keep compiled programs on disk, in JAX's persistent compilation cache, and say what compiles for long."""

from __future__ import annotations

import functools
import os
import sys
import threading
import time
from pathlib import Path

import jax
from tqdm import tqdm

from ariigcn_jax import files
from ariigcn_jax.types import UserError

HIT, MISS = "/jax/compilation_cache/cache_hits", "/jax/compilation_cache/cache_misses"

COMPILE = "/jax/core/compile/backend_compile_duration"  # a scalar of this name as it begins, a duration as it ends
SECONDS = 5  # between two lines about a program that is being compiled
NAMES = {  # what programs do, by the names that JAX gives them
    "init_state": "the first parameters",
    "epoch": "an epoch of training",
    "evaluate": "the evaluation of a split",
    "diagnose": "the diagnosis",
    "explain": "the prediction",
}


class Watch:
    """Say every SECONDS which program is being compiled, and for how long."""

    def __init__(self) -> None:
        self._name, self._begun, self._number = "", 0.0, 0
        jax.monitoring.register_scalar_listener(self._begin)
        jax.monitoring.register_event_duration_secs_listener(self._end)
        threading.Thread(target=self._tell, daemon=True).start()

    def _begin(self, event: str, value: float | int, **about: str | int) -> None:
        if event == COMPILE:
            name = str(about.get("fun_name", "")).removeprefix("jit(").removesuffix(")")
            self._name, self._begun, self._number = NAMES.get(name, name), time.monotonic(), self._number + 1

    def _end(self, event: str, duration_secs: float, **about: str | int) -> None:
        if event == COMPILE:
            self._name = ""

    def _tell(self) -> None:
        told = 0.0
        while True:
            time.sleep(SECONDS / 5)
            name, now = self._name, time.monotonic()
            if name and now - max(told, self._begun) >= SECONDS:
                seconds = f"{now - self._begun:.0f} s so far"
                tqdm.write(f"Compiling {name}, program {self._number}: {seconds} …", file=sys.stderr)
                told = now


@functools.cache
def watch() -> Watch:
    """Start the watch, once for this process."""
    return Watch()


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
    watch()
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
