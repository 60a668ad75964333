"""Measure how long a trained model takes to answer: a whole conversation, one streamed utterance, and its export."""

from __future__ import annotations

import argparse
import functools
import itertools
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from ariigcn_jax.commands import machine
from ariigcn_jax.inference import export
from ariigcn_jax.inference import model as inference
from ariigcn_jax.types import WORDS, UserError

CONVERSATIONS = (10, 50, 200)  # utterances
STREAMED = (10, 100, 1000, 10000)  # utterances before the one that is timed
EXPORTED = 50
SAID = ("I", "do", "not", "know", "what", "you", "want", "me", "to", "say", ",", "really", ".")  # for a text encoder
timed = functools.partial(machine.samples, budget=5, least=5)  # ends after 5 s, but not before 5 calls

# Run in the folder of the export by a process that cannot import this package; reads utterances from standard input.
FRESH = """
import json, sys, time
utterances, repeats = json.load(sys.stdin)
sys.path.insert(0, ".")
clock = [(time.perf_counter(), time.process_time())]

def tick():
    clock.append((time.perf_counter(), time.process_time()))

from emotions import load
tick()
answer = load(".")
tick()
for _ in range(1 + repeats):
    answer(utterances)
    tick()
print(json.dumps([[b - a for a, b in zip(*pair)] for pair in zip(clock, clock[1:])]))
"""


def execute(options: argparse.Namespace) -> None:
    """Measure, and print each row once it is measured."""
    if options.repeats < 1:
        raise UserError(f"--repeats={options.repeats} must be at least 1.")
    begun = time.perf_counter()
    model = inference.load(options.run)
    loaded = time.perf_counter()
    list(model(_take(model, CONVERSATIONS[0])))
    _print("the run", f"loaded in {loaded - begun:.1f} s, first answer after {time.perf_counter() - loaded:.1f} s more")
    print(f"\n{'':46}{'p50':>11} {'p99':>11} {'CPU':>11} {'calls':>6}")
    for length in CONVERSATIONS:
        _row(f"a conversation of {length} utterances", _whole(model, length, options.repeats))
    try:
        model.stream()
    except UserError as error:
        print(f"\n{error}\n")
    else:
        _streaming(model, options.repeats)
    _export(model, options.repeats)


def utterances(model: inference.TrainedModel) -> Iterator[dict[str, Any]]:
    """Yield random utterances of two speakers without end, the same ones each time, as in the training data."""
    random = np.random.default_rng(0)
    extracted = {m: width for m, width in model.raw_widths.items() if m != WORDS or not model.words}
    scale = {m: (model.normalisation.mean[m], model.normalisation.scale[m]) for m in extracted}
    for turn in itertools.count():
        features = {m: random.normal(*scale[m])[:width] for m, width in extracted.items()}
        words = {"text": " ".join(random.choice(SAID, 1 + random.poisson(7)))} if model.words else {}
        yield {"speaker": f"speaker {turn % 2}", "features": features, **words}


def _take(model: inference.TrainedModel, length: int) -> list[dict[str, Any]]:
    return list(itertools.islice(utterances(model), length))


def _whole(model: inference.TrainedModel, length: int, repeats: int) -> np.ndarray:
    given = _take(model, length)
    list(model(given))  # compiles
    return timed(lambda: list(model(given)), most=repeats)


def _streaming(model: inference.TrainedModel, repeats: int) -> None:
    for length in STREAMED:
        before = machine.held_memory()
        _row(f"streamed after {length:,} utterances", _pushed(model, length, repeats, False))
        grown = machine.held_memory() - before
        _row("  with contributions and attention", _pushed(model, length, repeats, True))
        _row("  the whole computed again", _whole(model, length + 1, repeats))
    kept = f"a stream keeps {model.stream().length} utterances"
    _print("memory", f"{kept}; the process grew by {grown / 2**20:.1f} MiB while {STREAMED[-1]:,} were streamed")


def _pushed(model: inference.TrainedModel, length: int, repeats: int, explain: bool) -> np.ndarray:
    """Return the seconds of pushes into a conversation after `length` utterances."""
    stream, given = model.stream(explain=explain), utterances(model)
    for utterance in itertools.islice(given, length):
        stream.push(utterance)
    following = iter(list(itertools.islice(given, repeats)))
    return timed(lambda: stream.push(next(following)), most=repeats)


def _export(model: inference.TrainedModel, repeats: int) -> None:
    """Write the export, and time a process that loads it and answers."""
    given = [{**u, "features": {m: x.tolist() for m, x in u["features"].items()}} for u in _take(model, EXPORTED)]
    with tempfile.TemporaryDirectory() as parent:
        begun = time.perf_counter()
        folder = export.write(model, Path(parent) / "exported")
        written = time.perf_counter() - begun
        size = sum(file.stat().st_size for file in folder.iterdir())
        command = [sys.executable, "-I", "-c", FRESH]
        done = subprocess.run(command, cwd=folder, input=json.dumps([given, repeats]), capture_output=True, text=True)
    if done.returncode:
        lines = done.stderr.strip().splitlines() or [f"exit status {done.returncode}"]
        raise UserError(f"The export failed to answer: {lines[-1]}")
    times = np.array(json.loads(done.stdout))
    imported, loaded, first, *_ = times[:, 0]
    _row(f"the export, a conversation of {EXPORTED} utterances", times[3:])
    _print("the export", f"{size / 1e6:.2f} MB, written in {written:.1f} s")
    _print("in a new process", f"import {imported:.1f} s, load {loaded:.2f} s, first answer {first:.1f} s (compiles)")


def _row(name: str, seconds: np.ndarray) -> None:
    """Print a line of the table from seconds as `timed` returns them."""
    shown = *np.percentile(seconds[:, 0], (50, 99)), seconds[:, 1].mean()
    print(f"{name:<46}{''.join(f'{1000 * x:>8.2f} ms ' for x in shown)}{len(seconds):>6}", flush=True)


def _print(name: str, what: str) -> None:
    print(f"{name:<18}{what}", flush=True)
