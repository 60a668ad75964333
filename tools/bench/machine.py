"""The machine: what it is, how fast it multiplies matrices and moves memory, and how much memory is free."""

from __future__ import annotations

import os
import platform
import sys
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from ariigcn_jax import parallel
from tools.bench import clock


class Rates(NamedTuple):
    """What the machine does at its best, measured in this process.

    Attributes:
      matmul: floating-point operations per second of a square float32 matrix product at the default precision (on a
        GPU that of its tensor cores), by the clock.
      memory: bytes per second, by the clock, read and written by x * 2 + y over arrays larger than any cache.
      matmul_cpu: floating-point operations per CPU second of the same product.
      size: rows of the square matrix.
    """

    matmul: float
    memory: float
    matmul_cpu: float
    size: int


def rates(quick: bool) -> Rates:
    """Measures this device; takes one to three seconds on two cores.

    Args:
      quick: smaller arrays and fewer repetitions, for a check that all works.
    """
    accelerator = jax.default_backend() != "cpu"
    size = 512 if quick else 8192 if accelerator else 2048
    most, budget = (3, 0.5) if quick else (20, 2.0)
    x = jnp.full((size, size), 0.5, jnp.float32)
    product = jax.jit(jnp.matmul)
    taken = clock.fastest(clock.samples(lambda: product(x, x).block_until_ready(), most=most, budget=budget))
    operations = 2.0 * size**3
    count = 2**22 if quick else 2**28 if accelerator else 2**26
    a, b = jnp.ones(count, jnp.float32), jnp.ones(count, jnp.float32)
    triad = jax.jit(lambda a, b: a * 2 + b)
    moved = clock.fastest(clock.samples(lambda: triad(a, b).block_until_ready(), most=most, budget=budget))
    return Rates(operations / taken.wall, 3 * 4.0 * count / moved.wall, operations / max(taken.cpu, 1e-9), size)


def describe() -> dict[str, Any]:
    """Device, processor and load, as plain values."""
    device = jax.devices()[0]
    return {
        "device": device.device_kind,
        "backend": jax.default_backend(),
        "devices": jax.local_device_count(),
        "processor": _processor(),
        "cores": parallel.cores(),
        "load": list(os.getloadavg()) if hasattr(os, "getloadavg") else None,
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


def peak_memory() -> int:
    """Most bytes that this process has held so far: on the device where it has memory of its own, else in RAM."""
    stats = jax.devices()[0].memory_stats() if jax.default_backend() != "cpu" else None
    if stats and "peak_bytes_in_use" in stats:
        return int(stats["peak_bytes_in_use"])
    import resource  # not on Windows

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def free_memory() -> int | None:
    """Bytes that are free, on the device where it has memory of its own, else in RAM; None where not known."""
    stats = jax.devices()[0].memory_stats() if jax.default_backend() != "cpu" else None
    if stats and "bytes_limit" in stats:
        return int(stats["bytes_limit"] - stats["bytes_in_use"])
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable")), None)
