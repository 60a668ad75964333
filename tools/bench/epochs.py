"""Time the epochs of a config on a corpus. No other module of the benchmark knows how a run trains."""

from __future__ import annotations

from typing import Any

import numpy as np

from ariigcn_jax.runs import runner
from ariigcn_jax.training import seeds
from ariigcn_jax.types import Corpus
from tools.bench import clock, machine

MARGIN = 1.2  # a program is started only if so many times the memory that it needs is free


def measure(
    config: Any, corpus: Corpus, num_seeds: int = 1, way: str = seeds.AUTO, *, most: int, budget: float
) -> dict[str, Any]:
    """Compile an epoch of all seeds together, as a run trains them, and time it.

    Args:
      config: as `experiments.base.get_config`; its number of seeds and members is not used.
      corpus: as read.
      num_seeds: number of seeds.
      way: how they share the hardware.
      most: calls at most of each part of an epoch.
      budget: seconds of calls at most of each part.

    Returns:
      Median wall and CPU seconds of "train", "validate", "diagnose" (the share of one epoch, if a run diagnoses every
      few epochs) and "epoch", their sum; "utterances_per_second" of all seeds; seconds of "prepare" (standardising and
      packing), "compile" and "first" (the first epoch); "program_memory", the bytes that the program of an epoch takes
      beside its arguments (0: unknown). Only "failed", a message, where the free memory does not suffice.

    Raises:
      UserError: the config cannot be built on this corpus.
    """
    config = single(config, num_seeds, way)
    prepared, model = clock.once(lambda: seeds.make(config, runner.prepare(corpus)[0]))
    every = 0 if model.experiment.streamed else int(config.diagnostics.every)  # streamed rows cannot be diagnosed

    def compile() -> tuple[Any, Any]:
        states = model.init()
        return states, model.compile(states, ("valid",), bool(every))

    compiled, (states, program) = clock.once(compile)
    analysis = program.memory_analysis() if program else None
    needs, free = int(analysis.temp_size_in_bytes) if analysis else 0, machine.free_memory()
    if free is not None and MARGIN * needs > free:
        return {"failed": f"needs {needs / 2**30:.1f} GiB beside the data, {free / 2**30:.1f} GiB are free"}

    def train() -> None:
        nonlocal states
        states, _ = model.train(states)

    parts = {"train": train, "validate": lambda: model.evaluate("valid", model.weights(states))}
    if every:
        parts["diagnose"] = lambda: model.diagnose(states)
    first = sum(float(clock.once(part)[0][0]) for part in parts.values())
    taken = {name: np.median(clock.samples(part, most=most, budget=budget), axis=0) for name, part in parts.items()}
    if every:
        taken["diagnose"] /= every
    taken["epoch"] = np.sum(list(taken.values()), axis=0)
    return {
        **{name: {"wall": float(wall), "cpu": float(cpu)} for name, (wall, cpu) in taken.items()},
        "utterances_per_second": num_seeds * int((corpus.split == "train").sum()) / float(taken["epoch"][0]),
        "prepare": float(prepared[0]),
        "compile": float(compiled[0]),
        "first": first,
        "program_memory": needs,
    }


def single(config: Any, num_seeds: int = 1, way: str = seeds.AUTO) -> Any:
    """Return a copy of a config for seeds of one model each."""
    config = config.copy_and_resolve_references()
    config.update(num_seeds=num_seeds, members=1, seeds_by=way)
    return config
