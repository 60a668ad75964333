"""How long an answer takes: one whole conversation, one streamed utterance, the same by computing all again; export.

    python -m tools.latency --run runs/causal

Times are of warm calls, from Python objects to Python objects.
"""

from __future__ import annotations

import argparse
import functools
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ariigcn_jax.types import UserError
from experiments.command import call

if TYPE_CHECKING:
    from ariigcn_jax.inference import TrainedModel

CONVERSATIONS = (10, 50, 200)
STREAMED = (10, 100, 1000)


def arguments() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", required=True, help="work directory of a run whose model can stream")
    parser.add_argument("--repeats", type=int, default=200, help="calls of which p50 and p99 are taken; default 200")
    return parser


def execute(options: argparse.Namespace) -> None:
    """Measures and prints a table."""
    from ariigcn_jax import inference

    if options.repeats < 1:
        raise UserError(f"--repeats={options.repeats} must be at least 1.")
    begun = time.perf_counter()
    model = inference.load(options.run)
    print(f"load the run            {time.perf_counter() - begun:8.2f} s")
    for length in CONVERSATIONS:
        given = utterances(model, length)
        _print(f"conversation of {length:<8}", _times(functools.partial(model, given), options.repeats))
    for length in STREAMED:
        _print(f"streamed after {length:<9}", _streamed(model, length, options.repeats))
        given = utterances(model, length)
        _print(f"recomputed, {length:<12}", _times(functools.partial(model, given), max(options.repeats // 10, 5)))
    _exported(model, options.repeats)


def utterances(model: TrainedModel, length: int) -> list[dict[str, Any]]:
    """A random conversation of two speakers."""
    random = np.random.default_rng(0)
    scale = {m: (model.normalisation.mean[m], model.normalisation.scale[m]) for m in model.modalities}
    return [
        {
            "speaker": f"speaker {turn % 2}",
            "features": {m: random.normal(mean, deviation) for m, (mean, deviation) in scale.items()},
        }
        for turn in range(length)
    ]


def _times(call: Callable[[], Any], repeats: int) -> np.ndarray:
    """Seconds of `repeats` calls after a warm one."""
    call()
    seconds = []
    for _ in range(repeats):
        begun = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - begun)
    return np.array(seconds)


def _streamed(model: TrainedModel, length: int, repeats: int) -> np.ndarray:
    """Seconds of each of `repeats` pushes into a conversation that is `length` utterances old."""
    stream, given = model.stream(), utterances(model, length + repeats)
    for utterance in given[:length]:
        stream.push(utterance)
    following = iter(given[length:])
    seconds = []
    for utterance in following:
        begun = time.perf_counter()
        stream.push(utterance)
        seconds.append(time.perf_counter() - begun)
    return np.array(seconds)


def _exported(model: TrainedModel, repeats: int) -> None:
    from ariigcn_jax import export, standalone

    with tempfile.TemporaryDirectory() as parent:
        begun = time.perf_counter()
        folder = export.write(model, Path(parent) / "exported")
        print(f"export                  {time.perf_counter() - begun:8.2f} s, {_size(folder):,} bytes")
        begun = time.perf_counter()
        answer = standalone.load(folder)
        print(f"load the export         {time.perf_counter() - begun:8.2f} s")
        given = utterances(model, 50)
        begun = time.perf_counter()
        answer(given)
        print(f"its first answer        {time.perf_counter() - begun:8.2f} s (compiles)")
        _print("exported, 50            ", _times(functools.partial(answer, given), repeats))


def _size(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.iterdir())


def _print(name: str, seconds: Sequence[float] | np.ndarray) -> None:
    low, high = 1000 * np.percentile(seconds, (50, 99))
    print(f"{name}p50 {low:8.2f} ms   p99 {high:8.2f} ms", flush=True)


if __name__ == "__main__":
    sys.exit(call(execute, arguments(), sys.argv[1:]))
