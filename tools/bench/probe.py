"""Train in a process of its own, to measure what a start costs and how much memory a run takes.

The process reads its task from standard input, as a Python literal, and prints its row as JSON in the last line of
standard output. `run` starts one.
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


def run(task: Mapping[str, Any], environment: Mapping[str, str] | None = None) -> dict[str, Any]:
    """Start a process that does a task, and wait for it.

    Args:
      task: "config" (nested dictionaries), "resize" (None, {"length": n} for one train dialogue of n utterances, or
        {"utterances": n} for a corpus of n train utterances), "most" epochs and "budget" seconds; literals only.
      environment: variables to set in the process.

    Returns:
      The row of `measure`; {"failed": why} where it could not be measured.
    """
    process = subprocess.run(
        [sys.executable, "-m", "tools.bench.probe"],
        input=repr({**task, "spawned": time.time()}),
        env={**os.environ, **(environment or {})},
        capture_output=True,
        text=True,
    )
    if process.returncode < 0:
        return {"failed": f"ended by signal {-process.returncode}; out of memory?"}
    if process.returncode:
        return {"failed": (process.stderr.strip().splitlines() or ["no message"])[-1][:200]}
    row: dict[str, Any] = json.loads(process.stdout.splitlines()[-1])
    return row


def measure(task: Mapping[str, Any]) -> dict[str, Any]:
    """Do a task in the process that `run` starts.

    Returns:
      The row of `epochs.measure` with the seconds from the command to the end of "imports", of reading the "corpus" and
      in "total" to the end of the first epoch; and "peak_memory" in bytes.
    """
    from ml_collections import ConfigDict

    from ariigcn_jax.runs import compilation
    from experiments.run import load_corpus
    from tools.bench import corpora, epochs, machine

    imported = time.time()
    compilation.enable()
    config = ConfigDict(task["config"])
    corpus = load_corpus(config)
    resize = task["resize"] or {}
    if "length" in resize:
        corpus = corpora.resized(corpus, [resize["length"]], [resize["length"]])
    elif "utterances" in resize:
        corpus = corpora.of_size(corpus, resize["utterances"])
    row = {"imports": imported - task["spawned"], "corpus": time.time() - imported}
    row |= epochs.measure(config, corpus, most=task["most"], budget=task["budget"])
    if "failed" in row:
        return {"failed": row["failed"]}
    total = sum(row[part] for part in ("imports", "corpus", "prepare", "compile", "first"))
    return row | {"total": total, "peak_memory": machine.peak_memory()}


if __name__ == "__main__":
    print(json.dumps(measure(ast.literal_eval(sys.stdin.read()))))
