"""What is measured. A section is a list of points: a name, and a function that measures it and returns a row.

Rows hold plain values; times are seconds. A row with "failed" says why there is no figure.
"""

from __future__ import annotations

import dataclasses
import functools
import os
import resource
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from ariigcn_jax import parallel
from ariigcn_jax.data import packing
from ariigcn_jax.runs import compilation
from ariigcn_jax.training import seeds as ensembles
from ariigcn_jax.training import train
from ariigcn_jax.types import Array, Batch, Corpus
from tools.bench import clock, corpora, count, machine, probe, training
from tools.bench.clock import Seconds
from tools.bench.reference import Reference

Row = dict[str, Any]


class Point(NamedTuple):
    """One row of a section's table."""

    name: str
    measure: Callable[[], Row]


@dataclasses.dataclass
class Bench:
    """What the sections share.

    Attributes:
      config: as `experiments.base.get_config`.
      corpus: as read.
      quick: fewest points and repetitions, for a check that all works; points that repeat what is compiled already.
      against: whether the reference is measured too.
      rows: section -> rows measured so far.
    """

    config: Any
    corpus: Corpus
    quick: bool
    against: bool
    rows: dict[str, list[Row]] = dataclasses.field(default_factory=dict)

    @property
    def effort(self) -> dict[str, Any]:
        """How often and how long an epoch is timed."""
        return {"most": 1, "budget": 0.1} if self.quick else {"most": 15, "budget": 20.0}

    @property
    def utterances(self) -> int:
        """Of the train split."""
        return int((self.corpus.split == "train").sum())

    @functools.cached_property
    def rates(self) -> machine.Rates:
        return machine.rates(self.quick)

    @functools.cached_property
    def trainer(self) -> training.Trainer:
        return training.Trainer(self.config, self.corpus)

    def changed(self, **changes: Any) -> Any:
        """The config with other options, given by dotted keys."""
        config = self.config.copy_and_resolve_references()
        config.update_from_flattened_dict(changes)
        return config

    def task(self, config: Any, resize: Any = None) -> Row:
        """What `probe.run` needs."""
        return {"config": config.to_dict(), "resize": resize, **self.effort}


def _costs(trainer: training.Trainer) -> tuple[dict[str, count.Cost], dict[str, count.Cost]]:
    """Of an epoch's training, and of its validation, by module."""
    window, layout = trainer.config.model.graph, trainer.experiment.layout
    shapes = [count.shape(trainer.corpus, s, layout[s].steps, window.past, window.future) for s in ("train", "valid")]
    return count.training(trainer.config, shapes[0]), count.evaluation(trainer.config, shapes[1])


def _epoch(bench: Bench, trainer: training.Trainer) -> Row:
    """An epoch of one seed with all that belongs to it: its time, and how much of that the machine's rates explain."""
    taken = training.epoch_seconds(trainer, **bench.effort)
    needed = count.total(_costs(trainer)[0]) + count.total(_costs(trainer)[1])
    floor = max(needed.flops / bench.rates.matmul, needed.bytes / bench.rates.memory)
    epoch = taken["epoch"]
    share_cpu = needed.flops / bench.rates.matmul_cpu / max(epoch.cpu, 1e-9)
    return {
        **{name: seconds._asdict() for name, seconds in taken.items()},
        "nodes": trainer.nodes,
        "nodes_per_second": trainer.nodes / epoch.wall,
        "flops": needed.flops,
        "bytes": needed.bytes,
        "floor": floor,
        "share_of_floor": floor / epoch.wall,
        "share_of_matmul": needed.flops / bench.rates.matmul / epoch.wall,
        "share_of_matmul_cpu": share_cpu if jax.default_backend() == "cpu" else None,
        "compile": trainer.compiled.wall,
    }


def epoch(bench: Bench) -> list[Point]:
    """An epoch of one seed, with validation; and the reference's."""
    points = [Point("this package", lambda: _epoch(bench, bench.trainer))]
    return [*points, Point("reference", lambda: _reference(bench))] if bench.against else points


def _reference(bench: Bench) -> Row:
    other = Reference(bench.config, bench.trainer.corpus)
    other.state = bench.trainer.experiment.init(bench.config.seed)
    trained = clock.median(clock.samples(other.train, **bench.effort))
    validated = clock.median(clock.samples(other.validate, **bench.effort))
    taken, own = trained + validated, bench.rows["epoch"][0]["epoch"]
    return {
        "train": trained._asdict(),
        "validate": validated._asdict(),
        "epoch": taken._asdict(),
        "nodes": bench.trainer.nodes,
        "nodes_per_second": bench.trainer.nodes / taken.wall,
        "times_slower": taken.wall / own["wall"],
        "times_slower_cpu": taken.cpu / own["cpu"],
    }


def floor(bench: Bench) -> list[Point]:
    """Operations and bytes of an epoch, counted by module and by the compiler, and the seconds they need here."""
    trainer = bench.trainer
    trained, validated = _costs(trainer)

    def row(cost: count.Cost) -> Row:
        seconds = [cost.flops / bench.rates.matmul, cost.bytes / bench.rates.memory]
        return {"flops": cost.flops, "bytes": cost.bytes, "matmul": seconds[0], "memory": seconds[1]}

    @functools.cache
    def by_compiler() -> dict[str, count.Cost]:
        rows = trainer.experiment.data["train"]
        if trainer.experiment.num_devices > 1:
            rows = jax.tree.map(lambda x: x[0], rows)
        return count.step_by_compiler(trainer.config, trainer.corpus, trainer.experiment.layout["train"], rows)

    def analysed(kind: str) -> Row:
        cost, steps = by_compiler()[kind], trainer.experiment.layout["train"].steps
        return row(count.Cost(cost.flops * steps, cost.bytes * steps))

    points = [Point(name, functools.partial(row, cost)) for name, cost in trained.items()]
    points.append(Point("training, total", lambda: row(count.total(trained))))
    points.append(Point("validation, total", lambda: row(count.total(validated))))
    points.append(Point("training by XLA, as traced", lambda: analysed("traced")))
    points.append(Point("training by XLA, as compiled", lambda: analysed("compiled")))
    return points


def start(bench: Bench) -> list[Point]:
    """From the command to the end of the first epoch, in a process of its own: an empty cache, then the filled one."""
    folder = tempfile.TemporaryDirectory(prefix="bench-cache-")

    def measure() -> Row:
        resize = {"utterances": bench.utterances} if bench.quick else None
        return probe.run(bench.task(bench.config, resize), {compilation.VARIABLE: folder.name})

    return [Point("cold: empty compilation cache", measure), Point("warm: the cache just filled", measure)]


def seeds(bench: Bench) -> list[Point]:
    """An epoch of several seeds, in every way that they can share the hardware; one seed shares it with nobody."""
    devices = parallel.device_count(bench.config.num_devices)
    numbers = (1, 2) if bench.quick else (1, 2, 5, 10)
    ways = {n: ensembles.possible(devices) if n > 1 else ["sequence"] for n in numbers}
    return [Point(f"{n}, {way}", functools.partial(_seeds, bench, n, way, devices)) for n in ways for way in ways[n]]


def _seeds(bench: Bench, number: int, way: str, devices: int) -> Row:
    row: Row = {"seeds": number, "way": way, "auto": way == ensembles.choose(ensembles.AUTO, number, devices)}
    try:
        trainer = training.Trainer(bench.config, bench.corpus, number, way)
    except training.TooLargeError as error:
        return {**row, "failed": str(error)}
    taken = training.epoch_seconds(trainer, **bench.effort)["epoch"]
    earlier = [r for r in bench.rows["seeds"] if "epoch" in r]
    one = earlier[0]["epoch"]["wall"] if earlier else taken.wall
    row |= {
        "epoch": taken._asdict(),
        "each": (taken / number)._asdict(),
        "times_one": taken.wall / one,
        "nodes_per_second": number * trainer.nodes / taken.wall,
    }
    _mark_fastest([*(r for r in earlier if r["seeds"] == number), row])
    return row


def _mark_fastest(rows: list[Row]) -> None:
    best = min(row["epoch"]["wall"] for row in rows)
    for row in rows:
        row["fastest"] = row["epoch"]["wall"] == best


def hidden(bench: Bench) -> list[Point]:
    """Widths of the hidden space."""

    def measure(width: int) -> Row:
        return {"hidden": width, **_trained(bench, bench.changed(**{"model.hidden": width}), bench.corpus)}

    widths = (bench.config.model.hidden,) if bench.quick else (128, 256, 512)
    return [Point(str(n), functools.partial(measure, n)) for n in widths]


def modalities(bench: Bench) -> list[Point]:
    """Numbers of modalities: the corpus's first ones; where there are fewer, its own again."""

    def measure(number: int) -> Row:
        return {"modalities": number, **_trained(bench, bench.config, corpora.with_modalities(bench.corpus, number))}

    numbers = (len(bench.corpus.modalities),) if bench.quick else (1, 2, 3, 5)
    return [Point(str(n), functools.partial(measure, n)) for n in numbers]


def _trained(bench: Bench, config: Any, corpus: Corpus) -> Row:
    try:
        return _epoch(bench, training.Trainer(config, corpus))
    except training.TooLargeError as error:
        return {"failed": str(error)}


def length(bench: Bench) -> list[Point]:
    """One train dialogue, and one for validation, of so many utterances, in a process each; with all terms, and without
    contrast, whose set is the batch."""
    lengths = (100,) if bench.quick else (10, 100, 1_000, 10_000, 100_000)
    variants = {"all terms": bench.config}
    if not bench.quick:
        variants["without contrast"] = bench.changed(**{"losses.iccl.weight": 0.0, "losses.imcl.weight": 0.0})

    def measure(variant: str, utterances: int) -> Row:
        task = bench.task(variants[variant], {"lengths": [utterances]})
        return {"variant": variant, "length": utterances, **probe.run(task)}

    return [Point(f"{n:,}, {v}", functools.partial(measure, v, n)) for v in variants for n in lengths]


def corpus(bench: Bench) -> list[Point]:
    """Corpora of so many train utterances in dialogues of the corpus's own lengths, in a process each."""
    sizes = (bench.utterances,) if bench.quick else (1_000, 10_000, 100_000, 1_000_000)

    def measure(utterances: int) -> Row:
        width = sum(bench.corpus.widths.values())
        needs, free = 5 * 4 * width * utterances, machine.free_memory()  # as read, standardised, packed, on the device
        if free is not None and needs > free:
            return {"size": utterances, "failed": f"needs {needs / 2**30:.1f} GiB, {free / 2**30:.1f} GiB are free"}
        return {"size": utterances, **probe.run(bench.task(bench.config, {"utterances": utterances}))}

    return [Point(f"{n:,}", functools.partial(measure, n)) for n in sizes]


def latency(bench: Bench) -> list[Point]:
    """The forward pass, from packed features in the host's memory to probabilities there: what one more utterance
    costs, whose result depends on layers * (past + future) others or on its whole dialogue, and whole conversations."""
    reach = train.windowed_reach(bench.config.model)
    usual = int(np.median(corpora.lengths(bench.corpus, "train")))
    around = usual if reach is None else sum(reach) + 1
    sizes = {f"one new utterance (window of {around})": around, f"conversation of {usual}": usual}
    if not bench.quick:
        sizes["conversation of 1,000"] = 1000
    return [Point(name, functools.partial(_latency, bench, n)) for name, n in sizes.items()]


def _latency(bench: Bench, utterances: int) -> Row:
    corpus = corpora.resized(bench.trainer.corpus, [utterances], [1])
    rows = jax.tree.map(lambda x: x[:-1], packing.pack(corpus, "train", 1)[1])
    model = train.make_players(bench.config, corpus, 1).model.clone(generate=False, contrast=False, ratings=0)
    params = bench.trainer.experiment.init(bench.config.seed).weights

    @jax.jit
    def forward(params: Any, batch: Batch) -> Array:
        outputs: Any = model.apply({"params": params}, batch, False)
        return jax.nn.softmax(outputs.logits)

    taken = clock.samples(lambda: np.asarray(forward(params, rows)), most=5 if bench.quick else 200, budget=5.0)
    walls = np.array([s.wall for s in taken])
    return {
        "utterances": utterances,
        "median": float(np.median(walls)),
        "p95": float(np.percentile(walls, 95)),
        "calls": len(walls),
    }


def run(bench: Bench) -> list[Point]:
    """The whole command, experiments.run, from an empty cache to its results: one seed, and ten."""

    def measure(number: int) -> Row:
        config = bench.changed(num_seeds=number, members=1)
        with tempfile.TemporaryDirectory(prefix="bench-run-") as folder:
            file = Path(folder) / "config.py"
            file.write_text(f"import ml_collections\n\n\ndef get_config():\n    return {_source(config)}\n")
            command = [sys.executable, "-m", "experiments.run", f"--config={file}", f"--workdir={folder}/run"]
            environment = {**os.environ, compilation.VARIABLE: f"{folder}/cache"}
            taken, done = _child(command, environment)
        if done.returncode:
            return {"seeds": number, "failed": (done.stderr.strip().splitlines() or ["no message"])[-1][:200]}
        earlier = [row["run"]["wall"] for row in bench.rows["run"] if "run" in row]
        return {
            "seeds": number,
            "epochs": config.num_epochs,
            "run": taken._asdict(),
            "times_one": taken.wall / (earlier or [taken.wall])[0],
        }

    return [Point(f"{n} seed{'s' * (n > 1)}", functools.partial(measure, n)) for n in (1, 10)]


def _source(config: Any) -> str:
    return f"ml_collections.ConfigDict({config.to_dict()!r})"


def _child(command: list[str], environment: dict[str, str]) -> tuple[Seconds, subprocess.CompletedProcess[str]]:
    """Runs a command; its wall seconds and its own CPU seconds."""

    def spent() -> float:
        usage = resource.getrusage(resource.RUSAGE_CHILDREN)
        return usage.ru_utime + usage.ru_stime

    before = spent()
    taken, done = clock.once(lambda: subprocess.run(command, env=environment, capture_output=True, text=True))
    return Seconds(taken.wall, spent() - before), done


SECTIONS: dict[str, Callable[[Bench], list[Point]]] = {
    f.__name__: f for f in (epoch, floor, start, seeds, hidden, modalities, latency, length, corpus, run)
}
SLOW = ("run",)  # left out of --quick unless asked for


def measure(bench: Bench, names: list[str]) -> Iterator[tuple[str, str, int]]:
    """Measures sections one after the other into `bench.rows`.

    Yields:
      Section, point and how many points come after it, before each is measured.
    """
    points = {name: SECTIONS[name](bench) for name in names}
    left = sum(map(len, points.values()))
    for name, section in points.items():
        bench.rows[name] = []
        for point in section:
            left -= 1
            yield name, point.name, left
            bench.rows[name].append({"point": point.name, **point.measure()})
