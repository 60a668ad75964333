"""Describe the machine and its memory; measure the wall and CPU seconds of a function."""

from __future__ import annotations

import os
import platform
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np

from ariigcn_jax import parallel


def describe() -> dict[str, Any]:
    """Return device, processor and load as plain values."""
    lines = _lines("/proc/cpuinfo", "model name")
    return {
        "device": jax.devices()[0].device_kind,
        "backend": jax.default_backend(),
        "devices": jax.local_device_count(),
        "processor": lines[0].partition(":")[2].strip() if lines else platform.processor() or platform.machine(),
        "cores": parallel.cores(),
        "load": list(os.getloadavg()) if hasattr(os, "getloadavg") else None,
    }


def peak_memory() -> int:
    """Return the most bytes that this process has held: on the device where it has its own memory, else in RAM."""
    stats = _device_memory()
    if "peak_bytes_in_use" in stats:
        return int(stats["peak_bytes_in_use"])
    import resource  # not on Windows

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def free_memory() -> int | None:
    """Return the bytes that are free, on the device where it has its own memory, else in RAM; None if unknown."""
    stats = _device_memory()
    if "bytes_limit" in stats:
        return int(stats["bytes_limit"] - stats["bytes_in_use"])
    lines = _lines("/proc/meminfo", "MemAvailable")
    return int(lines[0].split()[1]) * 1024 if lines else None


def held_memory() -> int:
    """Return the bytes of RAM that this process holds; 0 if unknown."""
    lines = _lines("/proc/self/status", "VmRSS")
    return int(lines[0].split()[1]) * 1024 if lines else 0


def _device_memory() -> dict[str, int]:
    stats = jax.devices()[0].memory_stats() if jax.default_backend() != "cpu" else None
    return stats or {}


def _lines(path: str, start: str) -> list[str]:
    """Return the lines of a file that begin with `start`; none where the system has no such file."""
    try:
        return [line for line in Path(path).read_text().splitlines() if line.startswith(start)]
    except OSError:
        return []


def once(function: Callable[[], Any]) -> tuple[np.ndarray, Any]:
    """Return wall seconds and CPU seconds over threads [2] of a call, which waits for the device, and its result."""
    wall, cpu = time.perf_counter(), time.process_time()
    result = function()
    return np.array([time.perf_counter() - wall, time.process_time() - cpu]), result


def samples(function: Callable[[], Any], *, most: int, budget: float, least: int = 1) -> np.ndarray:
    """Return wall and CPU seconds [N, 2] of N calls of a function, as `once`.

    At least `least` and at most `most` calls are made; in between, none begins after `budget` seconds.
    """
    taken: list[np.ndarray] = []
    begun = time.perf_counter()
    while len(taken) < most and (len(taken) < least or time.perf_counter() - begun < budget):
        taken.append(once(function)[0])
    return np.array(taken)
