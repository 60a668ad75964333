"""Splits that are not on the device as a whole: their rows are read in the order in which training needs them.

What is read is this process's share of some steps, a part; while one part is computed, a thread reads the next and puts
it on the devices, so two lie there at once. The corpus may be memory-mapped (`corpus/columnar.py`): then no more of its
features than that is ever in memory. The order is that of a split on the device, and so are the numbers.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jax
import numpy as np

from ariigcn_jax import parallel
from ariigcn_jax.data import packing
from ariigcn_jax.types import Batch, Corpus


@dataclasses.dataclass(frozen=True)
class Stream:
    """The rows of one split, read when they are needed.

    Attributes:
      corpus: where the features come from.
      where: which utterances lie where in the rows.
      steps: steps of a part; the last part may have fewer.
      num_devices: local devices.
    """

    corpus: Corpus
    where: packing.Index
    steps: int
    num_devices: int

    def parts(self, order: np.ndarray) -> Iterator[Batch]:
        """Parts on the devices, each [steps * rows of a device, ...] (with a leading axis of devices, where several).

        Args:
          order: [steps, R'] numbers of the rows that each step takes, R' a multiple of all processes' devices.
        """
        cut = [order[first : first + self.steps] for first in range(0, len(order), self.steps)]
        with ThreadPoolExecutor(1) as reader:
            ahead = reader.submit(self._read, cut[0])
            for following in [*cut[1:], None]:
                part = ahead.result()
                if following is not None:
                    ahead = reader.submit(self._read, following)
                yield part

    def _read(self, order: np.ndarray) -> Batch:
        shares = parallel.local_shares(order, self.num_devices)
        batches = [packing.collect(self.corpus, self.where, share.reshape(-1)) for share in shares]
        return jax.block_until_ready(parallel.put(batches, self.num_devices))


def steps_of_part(part_bytes: float, corpus: Corpus, layout: packing.Layout) -> int:
    """Steps of a part so that two parts take at most `part_bytes` on each device, but at least one; 0 is no limit."""
    slot = sum(4 * width + 1 for width in corpus.widths.values()) + 16
    slot += sum(4 * x.shape[1] + 1 for x in (corpus.target, corpus.ratings) if x is not None)
    slot += 4 * (corpus.fold is not None)
    step = max(1, slot * layout.length * layout.rows)  # an empty split has no rows
    return min(layout.steps, max(1, int(part_bytes / 2 // step))) if part_bytes else layout.steps


def by_shape(function: jax.stages.Wrapped, first: object, data: Stream, steps: int, rows: int) -> Callable[..., Any]:
    """`function` of (state or parameters, part), compiled now for the parts of an order [steps, rows].

    Of several devices it is compiled when it is called: pmap compiles nothing ahead for several processes.

    Args:
      function: takes arguments like `first`, and a part.
      first: a state or parameters.
      data: whose parts they are.
      steps: of the whole order.
      rows: that a step takes.
    """
    if not parallel.alone(data.num_devices):
        return function
    one = packing.collect(data.corpus, data.where, np.array([len(data.where.source) - 1]))
    compiled: dict[int, jax.stages.Compiled] = {}
    for count in {min(data.steps, steps) * rows, (steps % data.steps or data.steps) * rows}:
        shapes = jax.tree.map(lambda x: jax.ShapeDtypeStruct((count, *x.shape[1:]), x.dtype), one)  # noqa: B023
        compiled[count] = function.lower(first, shapes).compile()
    return lambda first, part: compiled[len(part.row)](first, part)
