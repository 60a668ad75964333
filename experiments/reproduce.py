"""A finished run made again from its work directory: what is the same to the last bit, and what differs by how much.

`python -m experiments.run --reproduce=RUN` is the command.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from ariigcn_jax.files import flatten, json_safe
from ariigcn_jax.runs import checkpoint, runner, version
from ariigcn_jax.runs import workdir as workdirs
from ariigcn_jax.types import SPLITS, Corpus, UserError
from experiments import session

SHOWN = 12  # differences that are listed, the largest first


def reproduce(run: str | Path, workdir: str | None, tolerance: float) -> None:
    """Makes a finished run again from its work directory, and prints what is the same and what is not.

    Args:
      run: its work directory. config.json there is all that is used; nothing there is executed.
      workdir: folder of the new run; None for one beside the old one.
      tolerance: the largest difference of a score of a seed that counts as reproduced.

    Raises:
      UserError: the run is not there or not finished, or a score differs by more.
    """
    run = Path(run).expanduser().resolve()
    version.check(run)
    for name in (workdirs.CONFIG, workdirs.ENVIRONMENT, workdirs.METRICS, runner.CORPUS, runner.RESULTS):
        if not (run / name).is_file():
            raise UserError(f"{run} has no {name}. Give the work directory of a finished run.")
    workdirs.read_json(run / runner.RESULTS)  # what is damaged is said before the training and not after it
    folder = _new_folder(run, workdir)
    config = _again(workdirs.read_json(run / workdirs.CONFIG))
    corpus = session.load(config)
    different = conditions(run, config, corpus)
    what = "other conditions (then → now):" if different else "the same options, code, versions, device and corpus."
    print("\n  ".join([f"{run} was made with {what}", *different]), flush=True)
    session.execute(config, str(folder), corpus=corpus)
    judge(run, folder, tolerance)


def _new_folder(run: Path, workdir: str | None) -> Path:
    """Where the run is made again: a folder without results, which would be compared in its place."""
    if workdir is None:
        first = f"{run.name}-reproduced"
        names = itertools.chain([first], (f"{first}-{n}" for n in itertools.count(2)))
        return next(run.with_name(name) for name in names if not (run.with_name(name) / runner.RESULTS).exists())
    folder = Path(workdir).expanduser().resolve()
    if folder == run:
        raise UserError(f"{run} is the run itself. Choose another --workdir.")
    if (folder / runner.RESULTS).exists():
        raise UserError(f"{folder} has results already, and nothing would be made again. Choose another --workdir.")
    return folder


def conditions(run: Path, config: ConfigDict, corpus: Corpus) -> list[str]:
    """What results may depend on and is not now as it was, "name: then → now", by every start of the run.

    Args:
      run: work directory of a finished run.
      config: of the run made again.
      corpus: of the run made again, as read.
    """
    stored = workdirs.read_json(run / workdirs.CONFIG)
    found = dict(workdirs.differences(stored, json_safe(config.to_dict())))
    environment = workdirs.read_json(run / workdirs.ENVIRONMENT)
    now = json_safe(workdirs.environment())
    described = json_safe(runner.describe(corpus))
    for start in (*environment.get("earlier", []), environment):
        was = _conditions(start, workdirs.read_json(run / runner.CORPUS))
        found |= workdirs.differences(was, _conditions(now, described))
    git = now.get("git")
    if git is None or git.get("dirty"):
        found["git"] = "git: the code's commit is not known" if git is None else "git: files differ from the commit"
    return list(found.values())


def judge(run: Path, folder: Path, tolerance: float) -> None:
    """Prints how two finished runs compare.

    Raises:
      UserError: a score differs by more than the tolerance.
    """
    lines, reproduced = compare(run, folder, tolerance)
    print("\n".join([f"\n{run} against {folder}:", *lines]))
    if not reproduced:
        raise UserError(f"not reproduced: a score differs by more than --tolerance={tolerance:g}.")
    print("reproduced.")


def _again(stored: Mapping[str, Any]) -> ConfigDict:
    """Return the config of a config.json, for one process, and for devices that exist."""

    def tupled(value: Any) -> Any:
        if isinstance(value, Mapping):
            return {key: tupled(item) for key, item in value.items()}
        return tuple(map(tupled, value)) if isinstance(value, list) else value

    config = ConfigDict(tupled(stored))
    config.distributed.update(coordinator="", processes=1, process=0)
    config.num_devices = min(config.num_devices, jax.local_device_count())
    return config.lock()


def _conditions(environment: Mapping[str, Any], corpus: Mapping[str, Any]) -> dict[str, Any]:
    """What results may depend on besides the config, of an environment.json and a corpus.json, under dotted keys."""
    kept = ("git", "python", "versions", "platform", "device")
    return flatten({name: environment.get(name) for name in kept}) | flatten(
        {"corpus": {name: corpus.get(name) for name in ("version", "label_names", "splits", "digest")}}
    )


def compare(run: Path, again: Path, tolerance: float) -> tuple[list[str], bool]:
    """Compares two finished runs.

    Args:
      run: work directory of the first.
      again: of the second.
      tolerance: the largest difference of a score of a seed, in the score's unit, that counts as reproduced.

    Returns:
      Lines for a person; and whether no score differs by more.

    Raises:
      UserError: a checkpoint cannot be read.
    """
    first, second = (_scores(folder) for folder in (run, again))
    gaps = {name: _gap(first.get(name), second.get(name)) for name in sorted(first.keys() | second.keys())}
    differing = sorted((name for name, gap in gaps.items() if gap), key=lambda name: -gaps[name])
    if differing:
        lines = [f"scores: {len(differing)} of {len(gaps)} differ, by up to {gaps[differing[0]]:.3g}"]
        lines += [f"  {name}: {first.get(name)} → {second.get(name)}" for name in differing[:SHOWN]]
        lines += [f"  … and {len(differing) - SHOWN} more"] if len(differing) > SHOWN else []
    else:
        lines = [f"scores: all {len(gaps)} are the same to the last bit"]
    lines += [_parameters(run, again), _log(run, again)]
    return lines, not differing or gaps[differing[0]] <= tolerance


def _scores(run: Path) -> dict[str, float | None]:
    """Every score of every seed and split in results.json, "test.accuracy of seed 3"."""
    content = json.loads((run / runner.RESULTS).read_text())
    found = {}
    for split in (s for s in SPLITS if content.get(s)):
        for name, summary in content[split].items():
            if isinstance(summary, dict):
                for seed, value in zip(content["seeds"], summary["per_seed"], strict=True):
                    for place, number in enumerate(value) if isinstance(value, list) else [(None, value)]:
                        index = "" if place is None else f"[{place}]"
                        found[f"{split}.{name}{index} of seed {seed}"] = number
    return found


def _gap(a: float | None, b: float | None) -> float:
    """How far two scores are apart; 0 for two that are not defined, infinity where one is."""
    return abs(a - b) if a is not None and b is not None else 0.0 if a is b else float("inf")


def _parameters(run: Path, again: Path) -> str:
    (one, _), (two, _) = (checkpoint.read_best(folder) for folder in (run, again))
    a, b = (jax.tree.leaves(best["params"]) for best in (one, two))
    if [x.shape for x in a] != [x.shape for x in b]:
        return "parameters: of other shapes"
    same = sum(np.array_equal(x, y) for x, y in zip(a, b, strict=True))
    if same == len(a):
        return f"parameters of the chosen epoch: all {len(a)} arrays are the same to the last bit"
    gap = max(float(np.abs(x - y).max(initial=0.0)) for x, y in zip(a, b, strict=True))
    large = max(float(np.abs(x).max(initial=0.0)) for x in a)
    return (
        f"parameters of the chosen epoch: {len(a) - same} of {len(a)} arrays differ, by up to {gap:.3g} where the "
        f"largest parameter is {large:.3g}"
    )


def _log(run: Path, again: Path) -> str:
    logs = []
    for folder in (run, again):
        rows = [json.loads(line) for line in (folder / workdirs.METRICS).read_text().splitlines()]
        logs.append([{name: value for name, value in row.items() if name != "seconds"} for row in rows])
    differing = [a["epoch"] for a, b in zip(*logs, strict=False) if a != b]
    if len(logs[0]) != len(logs[1]):
        return f"log: {len(logs[0])} epochs, and now {len(logs[1])}"
    if differing:
        return f"log: differs from epoch {differing[0]} on"
    return f"log: all {len(logs[0])} epochs are the same to the last bit"
