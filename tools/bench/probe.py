"""Training in a process of its own: what start-up costs from nothing, and how much memory a run takes.

The process reads its task from standard input, as a Python literal, and prints its row as the last line of standard
output, as JSON. `run` starts one.
"""

from __future__ import annotations

import time

STARTED = time.time()  # before the imports, which are part of what is measured

import ast  # noqa: E402
import json  # noqa: E402
import os  # noqa: E402
import subprocess  # noqa: E402
import sys  # noqa: E402
from collections.abc import Mapping  # noqa: E402
from typing import Any  # noqa: E402


def run(task: Mapping[str, Any], environment: Mapping[str, str] | None = None) -> dict[str, Any]:
    """Starts a process that does a task, and waits for it.

    Args:
      task: "config" (nested dictionaries), "resize" (None, {"lengths": [...]} for one train dialogue of each length, or
        {"utterances": n}), "most" epochs and "budget" seconds; literals only.
      environment: variables to set in it.

    Returns:
      Its row; {"failed": why} where it could not be done.
    """
    process = subprocess.run(
        [sys.executable, "-m", "tools.bench.probe"],
        input=repr({**task, "spawned": time.time()}),
        env={**os.environ, **(environment or {})},
        capture_output=True,
        text=True,
    )
    if process.returncode == 0:
        row: dict[str, Any] = json.loads(process.stdout.splitlines()[-1])
        return row
    if process.returncode < 0:
        return {"failed": f"ended by signal {-process.returncode}; out of memory?"}
    return {"failed": (process.stderr.strip().splitlines() or ["no message"])[-1][:200]}


def measure(task: Mapping[str, Any]) -> dict[str, Any]:
    """What `run`'s process does: times it from its start on, then times epochs."""
    from ml_collections import ConfigDict

    from ariigcn_jax.runs import compilation
    from experiments.session import load
    from tools.bench import corpora, machine, training

    imported = time.time()
    cache = compilation.enable()
    config = ConfigDict(task["config"])
    corpus = load(config)
    resize = task["resize"]
    if resize and "lengths" in resize:
        corpus = corpora.resized(corpus, resize["lengths"], resize["lengths"][:1])
    elif resize:
        corpus = corpora.of_size(corpus, resize["utterances"])
    loaded = time.time()
    try:
        trainer = training.Trainer(config, corpus)
    except training.TooLargeError as error:
        return {"failed": str(error)}
    compiled = time.time()
    trainer.train()
    trainer.validate()
    trainer.diagnose()
    first = time.time()
    taken = training.epoch_seconds(trainer, most=task["most"], budget=task["budget"], warm=True)
    return {
        "start": {
            "interpreter": STARTED - task["spawned"],
            "imports": imported - STARTED,
            "corpus": loaded - imported,
            "compile": compiled - loaded,
            "first epoch": first - compiled,
            "total": first - task["spawned"],
        },
        "compiled": cache.misses,
        "from_cache": cache.hits,
        "utterances": trainer.utterances,
        "nodes": trainer.nodes,
        "nodes_per_second": trainer.nodes / taken["epoch"].wall,
        "peak_memory": machine.peak_memory(),
        "program_memory": trainer.needs,
        **{name: seconds._asdict() for name, seconds in taken.items()},
    }


if __name__ == "__main__":
    print(json.dumps(measure(ast.literal_eval(sys.stdin.read()))))
