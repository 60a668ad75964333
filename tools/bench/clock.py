"""Measure the wall and CPU seconds of a function."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np


def once(function: Callable[[], Any]) -> tuple[np.ndarray, Any]:
    """Time one call of a function that waits for what it starts on a device.

    Returns:
      Seconds by the clock and of processor time over all threads [2], and what the function returned.
    """
    wall, cpu = time.perf_counter(), time.process_time()
    result = function()
    return np.array([time.perf_counter() - wall, time.process_time() - cpu]), result


def samples(function: Callable[[], Any], *, most: int, budget: float, least: int = 1) -> np.ndarray:
    """Time several calls of a function, as `once`.

    Args:
      function: waits for what it starts on a device.
      most: number of calls at most, at least 1.
      budget: seconds after which no further call begins, once there are `least` calls.
      least: number of calls that are made in any case.

    Returns:
      Wall and CPU seconds of each call [N, 2].
    """
    taken: list[np.ndarray] = []
    begun = time.perf_counter()
    while len(taken) < most and (len(taken) < least or time.perf_counter() - begun < budget):
        taken.append(once(function)[0])
    return np.array(taken)
