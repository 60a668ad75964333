"""Wall and CPU seconds of a function."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any, NamedTuple


class Seconds(NamedTuple):
    """How long something took.

    Attributes:
      wall: seconds by the clock.
      cpu: seconds of processor time, all threads of this process together.
    """

    wall: float
    cpu: float

    def __add__(self, other: Any) -> Seconds:
        return Seconds(self.wall + other.wall, self.cpu + other.cpu)

    def __truediv__(self, number: float) -> Seconds:
        return Seconds(self.wall / number, self.cpu / number)


def once(function: Callable[[], Any]) -> tuple[Seconds, Any]:
    """Seconds of one call, and what it returned. The function waits for what it started on a device."""
    wall, cpu = time.perf_counter(), time.process_time()
    result = function()
    return Seconds(time.perf_counter() - wall, time.process_time() - cpu), result


def samples(function: Callable[[], Any], *, most: int, budget: float, warm: bool = False) -> list[Seconds]:
    """Seconds of each of several calls, after one that is not counted.

    Args:
      function: waits for what it started on a device.
      most: calls at most, at least 1.
      budget: seconds after which no further call begins; one is always counted.
      warm: it was called before, so that each call counts.
    """
    if not warm:
        function()
    taken: list[Seconds] = []
    begun = time.perf_counter()
    while not taken or (len(taken) < most and time.perf_counter() - begun < budget):
        taken.append(once(function)[0])
    return taken


def median(taken: list[Seconds]) -> Seconds:
    """The median of each."""
    return Seconds(statistics.median(s.wall for s in taken), statistics.median(s.cpu for s in taken))


def fastest(taken: list[Seconds]) -> Seconds:
    """The least of each: what the machine can do when nothing disturbs it."""
    return Seconds(min(s.wall for s in taken), min(s.cpu for s in taken))
