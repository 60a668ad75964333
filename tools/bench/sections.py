"""Measure, section by section. A section is points: name -> function that measures a row of values.

Times are in seconds. A row with "failed", a message, has no values.
"""

from __future__ import annotations

import dataclasses
import functools
import tempfile
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from ariigcn_jax import files, parallel
from ariigcn_jax.commands import machine
from ariigcn_jax.data import prepare
from ariigcn_jax.training import seeds as ensembles
from ariigcn_jax.types import Corpus
from tools.bench import corpora, epochs
from tools.bench import words as encoders

Row = dict[str, Any]
Points = dict[str, Callable[[], Row]]


@dataclasses.dataclass
class Bench:
    """Hold what the sections share."""

    config: Any  # as `options.base.get_config`
    corpus: Corpus  # as read
    quick: bool  # whether to measure the fewest points and repetitions, to check that everything works
    encoder: str = ""  # folder of a text encoder; "" for random weights of MiniLM's shape
    rows: dict[str, list[Row]] = dataclasses.field(default_factory=dict)  # section -> rows measured so far

    @property
    def effort(self) -> dict[str, Any]:
        """Return how often and how long an epoch is timed."""
        return {"most": 1, "budget": 0.1} if self.quick else {"most": 15, "budget": 20.0}

    @property
    def utterances(self) -> int:
        """Return the number of train utterances."""
        return int((self.corpus.split == "train").sum())

    def probe(self, resize: Any = None, environment: Any = None) -> Row:
        """Train in a new process; see `epochs.probe`."""
        return epochs.probe({"config": self.config.to_dict(), "resize": resize, **self.effort}, environment)


def epoch(bench: Bench) -> Points:
    """Time an epoch of one seed with validation and diagnosis, with each kernel of the graph's attention."""

    def measure(kernel: str) -> Row:
        config = bench.config.copy_and_resolve_references()
        config.model.graph.kernel = kernel
        return _against_first(bench.rows["epoch"], epochs.measure(config, bench.corpus, **bench.effort))

    return {f"{kernel} kernel": functools.partial(measure, kernel) for kernel in ("band", "edges")}


def _against_first(earlier: list[Row], row: Row) -> Row:
    """Return a row with its time over that of the section's first row."""
    first = next((r for r in (*earlier, row) if "epoch" in r), row)
    return row | ({"times_first": row["epoch"]["wall"] / first["epoch"]["wall"]} if "epoch" in row else {})


def start(bench: Bench) -> Points:
    """Time all from the command to the end of the first epoch, in a new process."""
    folder = tempfile.TemporaryDirectory(prefix="bench-cache-")

    def measure() -> Row:
        resize = {"utterances": bench.utterances} if bench.quick else None
        return bench.probe(resize, {files.CACHE: folder.name})

    return {"empty compilation cache": measure, "filled compilation cache": measure}


def seeds(bench: Bench) -> Points:
    """Time an epoch of several seeds, in every way that they can share the hardware."""
    devices = parallel.device_count(bench.config.num_devices)

    def measure(number: int, way: str) -> Row:
        row = epochs.measure(bench.config, bench.corpus, number, way, **bench.effort)
        auto = way == ensembles.choose(ensembles.AUTO, number, devices)
        return {**_against_first(bench.rows["seeds"], row), "auto": auto}

    return {
        f"{number}, {way}": functools.partial(measure, number, way)
        for number in ((1, 2) if bench.quick else (1, 2, 5, 10))
        for way in (ensembles.possible(devices) if number > 1 else ["sequence"])
    }


def latency(bench: Bench) -> Points:
    """Time the answer to one conversation, from features on the device to probabilities on the host."""
    usual = int(np.median(corpora.lengths(bench.corpus, "train")))
    prepared = prepare.standardise(bench.corpus)[0]

    def measure(utterances: int) -> Row:
        corpus = corpora.resized(prepared, [1, 1], [utterances])
        model = ensembles.make(epochs.single(bench.config), corpus)
        params = model.weights(model.init())
        model.evaluate("valid", params)  # compiles
        most = 5 if bench.quick else 200
        walls = machine.samples(lambda: model.evaluate("valid", params), most=most, budget=5.0)[:, 0]
        return {"median": float(np.median(walls)), "p95": float(np.percentile(walls, 95)), "calls": len(walls)}

    sizes = (usual,) if bench.quick else (10, usual, 1_000)
    return {f"conversation of {n:,} utterances": functools.partial(measure, n) for n in sizes}


def length(bench: Bench) -> Points:
    """Time an epoch of one train dialogue of so many utterances, in a new process."""
    lengths = (100,) if bench.quick else (10, 100, 1_000, 10_000, 100_000)
    return {f"{n:,}": functools.partial(bench.probe, {"length": n}) for n in lengths}


def corpus(bench: Bench) -> Points:
    """Time an epoch of so many train utterances in dialogues of the corpus's own lengths, in a new process."""

    def measure(utterances: int) -> Row:
        width = sum(bench.corpus.widths.values())
        needs, free = 5 * 4 * width * utterances, machine.free_memory()  # as read, standardised, packed, on the device
        if free is not None and needs > free:
            return {"failed": f"needs {needs / 2**30:.1f} GiB, {free / 2**30:.1f} GiB are free"}
        return bench.probe({"utterances": utterances})

    sizes = (bench.utterances,) if bench.quick else (1_000, 10_000, 100_000, 1_000_000)
    return {f"{n:,}": functools.partial(measure, n) for n in sizes}


def words(bench: Bench) -> Points:
    """Time a text encoder in training and as it is, and count the memory of a step of it and of a larger one."""
    name = bench.encoder or ("tiny" if bench.quick else "MiniLM")
    effort: Any = {"most": 1 if bench.quick else 3, "budget": 30.0}
    points: Points = {
        f"{name}, {way}, {precision}": functools.partial(encoders.measure, name, way, precision, **effort)
        for way, precision in (("train", "float32"), ("train", "bfloat16"), ("frozen", "float32"))
    }
    if not bench.quick:
        larger = functools.partial(encoders.measure, "RoBERTa-base", "memory", "bfloat16", **effort)
        points["RoBERTa-base, memory of a step alone"] = larger
    return points


SECTIONS = {
    "epoch": epoch,
    "start": start,
    "seeds": seeds,
    "latency": latency,
    "length": length,
    "corpus": corpus,
    "words": words,
}


def measure(bench: Bench, names: list[str]) -> Iterator[tuple[str, str, int]]:
    """Measure sections one after the other into `bench.rows`.

    Yields:
      Section, point, and how many points come after it, before each is measured.
    """
    points = {name: SECTIONS[name](bench) for name in names}
    left = sum(map(len, points.values()))
    for name, section in points.items():
        bench.rows[name] = []
        for point, function in section.items():
            left -= 1
            yield name, point, left
            bench.rows[name].append({"point": point, **function()})
