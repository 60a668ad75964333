"""The rows of a split on the devices: all of them at once where they fit, else part after part.

A part is this process's share of the rows of some steps. While one part is computed, a thread reads the next, so two
are on the devices. Of a memory-mapped corpus (`data/readers/folder.py`) no more features than that are in memory.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jax
import numpy as np

from ariigcn_jax import parallel
from ariigcn_jax.data import packing
from ariigcn_jax.types import Batch, Corpus


@dataclasses.dataclass(frozen=True)
class Feed:
    """The rows of one split."""

    corpus: Corpus  # with the features
    where: packing.Index  # the utterances of each row
    layout: packing.Layout  # of the split
    steps: int  # steps of a part; the last part may have fewer
    num_devices: int  # local devices
    rows: Batch | None = None  # all rows, on the devices; None where the split is read in parts

    @property
    def streamed(self) -> bool:
        """Return whether the split is read in parts."""
        return self.rows is None

    def on_devices(self) -> Feed:
        """Return the feed as one part: all its rows on each of the devices."""
        every = packing.collect(self.corpus, self.where, np.arange(len(self.where.source)))
        return dataclasses.replace(self, rows=parallel.replicate(every, self.num_devices))

    def parts(self, order: Callable[[], np.ndarray]) -> Iterator[Batch]:
        """Yield the parts, on the devices (with a leading axis of devices, where there are several).

        A part that is read is [steps * rows of a device, ...]; all rows at once are in the order of the split. `order`
        returns the rows of each step [steps, R'], R' a multiple of all processes' devices.
        """
        if self.rows is not None:
            yield self.rows
            return
        rows = order()
        cut = [rows[first : first + self.steps] for first in range(0, len(rows), self.steps)]
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

    def shapes(self) -> list[Batch]:
        """Return the different shapes of its parts; none for several devices, which compile at the first call."""
        if self.rows is not None:
            return [self.rows]
        if not parallel.alone(self.num_devices):
            return []
        one = packing.collect(self.corpus, self.where, np.array([len(self.where.source) - 1]))
        steps = {min(self.steps, self.layout.steps), self.layout.steps % self.steps or self.steps}
        counts = sorted(count * self.layout.rows for count in steps)
        return [jax.tree.map(lambda x: jax.ShapeDtypeStruct((n, *x.shape[1:]), x.dtype), one) for n in counts]  # noqa: B023


def steps_of_part(part_bytes: float, corpus: Corpus, layout: packing.Layout, where: packing.Index) -> int:
    """Return the steps of a part, at least 1, so that two parts take at most `part_bytes` a device; 0 sets no limit."""
    slot = sum(4 * x.shape[1] + 1 for x in corpus.features.values()) + 16
    slot += sum(4 * x.shape[1] + 1 for x in (corpus.target, corpus.ratings) if x is not None)
    slot += 4 * (corpus.fold is not None)
    step = max(1, slot * layout.length * layout.rows)  # an empty split has no rows
    if where.token is not None and corpus.words is not None:
        states = corpus.words.states
        step += (9 + (4 if states is None else 4 * states.shape[1])) * where.token[0].size * layout.rows
    return min(layout.steps, max(1, int(part_bytes / 2 // step))) if part_bytes else layout.steps


@dataclasses.dataclass(frozen=True)
class Compiled:
    """A function of (state or parameters, part), compiled for the shapes of a feed's parts."""

    function: jax.stages.Wrapped  # compiles when it is called with another shape
    programs: Mapping[int, jax.stages.Compiled]  # number of a part's rows -> the program compiled ahead

    @classmethod
    def of(cls, function: jax.stages.Wrapped, first: Any, feed: Feed) -> Compiled:
        """Compile a function for a first argument like `first` and the parts of a feed."""
        return cls(function, {len(part.row): function.lower(first, part).compile() for part in feed.shapes()})

    def __call__(self, first: Any, part: Batch) -> Any:
        return self.programs.get(len(part.row), self.function)(first, part)
