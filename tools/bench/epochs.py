"""Time the epochs of a config on a corpus, in this process or, to see start-up time and memory, in a new one.

The new process reads its task from standard input, as a Python literal, and prints its row as JSON in the last line.
"""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from ariigcn_jax.commands import machine
from ariigcn_jax.data import prepare
from ariigcn_jax.runs import compilation
from ariigcn_jax.runs.session import load
from ariigcn_jax.training import seeds
from ariigcn_jax.types import Corpus
from tools.bench import corpora

MARGIN = 1.2  # a program is started only if so many times the memory that it needs is free


def single(config: Any, num_seeds: int = 1, way: str = seeds.AUTO) -> Any:
    """Return a copy of a config for seeds of one model each."""
    config = config.copy_and_resolve_references()
    config.update(num_seeds=num_seeds, members=1, seeds_by=way)
    return config


def measure(
    config: Any, corpus: Corpus, num_seeds: int = 1, way: str = seeds.AUTO, *, most: int, budget: float
) -> dict[str, Any]:
    """Compile an epoch of all seeds together, as a run trains them, and time it.

    Args:
      config: as `options.base.get_config`; its number of seeds and members is not used.
      corpus: as read.
      num_seeds: number of seeds.
      way: how they share the hardware.
      most: calls of each part of an epoch, at most.
      budget: seconds of these calls, at most.

    Returns:
      Median wall and CPU seconds of "train", "validate", "diagnose" (the share of one epoch, if a run diagnoses every
      few epochs) and "epoch", their sum; "utterances_per_second" of all seeds; seconds of "prepare" (standardising and
      packing), "compile" and "first" (the first epoch); "program_memory", the bytes that the program of an epoch takes
      beside its arguments (0: unknown). Only "failed", a message, where the free memory does not suffice.
    """
    config = single(config, num_seeds, way)
    prepared, model = machine.once(lambda: seeds.make(config, prepare.standardise(corpus)[0]))
    every = 0 if model.experiment.streamed else int(config.diagnostics.every)  # streamed rows cannot be diagnosed

    def compile() -> tuple[Any, Any]:
        states = model.init()
        return states, model.compile(states, ("valid",), bool(every))

    compiled, (states, program) = machine.once(compile)
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
    first = sum(float(machine.once(part)[0][0]) for part in parts.values())
    taken = {name: np.median(machine.samples(part, most=most, budget=budget), axis=0) for name, part in parts.items()}
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


def probe(task: Mapping[str, Any], environment: Mapping[str, str] | None = None) -> dict[str, Any]:
    """Start a process that trains, and wait for it.

    Args:
      task: "config" (nested dictionaries), "resize" (None, {"length": n} for one train dialogue of n utterances, or
        {"utterances": n} for a corpus of n train utterances), "most" epochs and "budget" seconds; literals only.
      environment: variables to set in the process.

    Returns:
      The row of `measure` with the seconds from the command to the end of "imports", of reading the "corpus" and in
      "total" to the end of the first epoch; and "peak_memory" in bytes. {"failed": why} where it was not measured.
    """
    process = subprocess.run(
        [sys.executable, "-m", "tools.bench.epochs"],
        input=repr({**task, "spawned": time.time()}),
        env={**os.environ, **(environment or {})},
        capture_output=True,
        text=True,
    )
    if process.returncode < 0:
        return {"failed": f"ended by signal {-process.returncode}; out of memory?"}
    if process.returncode:
        return {"failed": (process.stderr.strip().splitlines() or ["no message"])[-1][:200]}
    return dict(json.loads(process.stdout.splitlines()[-1]))


def _do(task: Mapping[str, Any]) -> dict[str, Any]:
    """Return the row of a task, in the process that `probe` starts."""
    imported = time.time()
    compilation.enable()
    config = ConfigDict(task["config"])
    corpus = load(config)
    match task["resize"]:
        case {"length": length}:
            corpus = corpora.resized(corpus, [length], [length])
        case {"utterances": utterances}:
            corpus = corpora.of_size(corpus, utterances)
    row = {"imports": imported - task["spawned"], "corpus": time.time() - imported}
    measured = measure(config, corpus, most=task["most"], budget=task["budget"])
    if "failed" in measured:
        return measured
    total = sum((row | measured)[part] for part in ("imports", "corpus", "prepare", "compile", "first"))
    return row | measured | {"total": total, "peak_memory": machine.peak_memory()}


if __name__ == "__main__":
    print(json.dumps(_do(ast.literal_eval(sys.stdin.read()))))
