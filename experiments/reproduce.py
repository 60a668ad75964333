"""Make a finished run again from its work directory, and report what is the same and what differs by how much.

`python -m experiments.run --reproduce=RUN` is the command.
"""

import itertools
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from ariigcn_jax.files import flatten, json_safe, local
from ariigcn_jax.runs import checkpoint, runner, session, version
from ariigcn_jax.runs import workdir as workdirs
from ariigcn_jax.types import SPLITS, Corpus, UserError

SHOWN = 12  # differences that are listed, the largest first


def reproduce(run: str | Path, workdir: str | None, tolerance: float) -> None:
    """Make a finished run again from its config.json, in `workdir` or beside it, and `judge` the two."""
    run = local(run).resolve()
    version.check(run)
    for name in (workdirs.CONFIG, workdirs.ENVIRONMENT, workdirs.METRICS, runner.CORPUS, runner.RESULTS):
        if not (run / name).is_file():
            raise UserError(f"{run} has no {name}. Give the work directory of a finished run.")
    workdirs.read_json(run / runner.RESULTS)  # a damaged file is an error before the training, not after it
    folder = _new_folder(run, workdir)
    config = _again(workdirs.read_json(run / workdirs.CONFIG))
    corpus = session.load(config, run=run)
    different = conditions(run, config, corpus)
    how = "other conditions (then → now):" if different else "the same options, code, versions, device and corpus."
    print("\n  ".join([f"{run} was made with {how}", *different]), flush=True)
    session.execute(config, str(folder), corpus=corpus)
    judge(run, folder, tolerance)


def _new_folder(run: Path, workdir: str | None) -> Path:
    """Return the folder in which the run is made again: one without results."""
    if workdir is None:
        folders = (run.with_name(f"{run.name}-reproduced{f'-{n}' if n > 1 else ''}") for n in itertools.count(1))
        return next(folder for folder in folders if not (folder / runner.RESULTS).exists())
    folder = local(workdir).resolve()
    if folder == run:
        raise UserError(f"{run} is the run itself. Choose another --workdir.")
    if (folder / runner.RESULTS).exists():
        raise UserError(f"{folder} has results already. Choose another --workdir.")
    return folder


def conditions(run: Path, config: ConfigDict, corpus: Corpus) -> list[str]:
    """Return what the run made again has changed since any start of the finished one, as "name: then → now"."""
    found = workdirs.differences(workdirs.read_json(run / workdirs.CONFIG), json_safe(config.to_dict()))
    environment, described = (workdirs.read_json(run / name) for name in (workdirs.ENVIRONMENT, runner.CORPUS))
    now = json_safe(workdirs.environment())
    again = _conditions(now, json_safe(runner.describe(corpus)))
    for start in (*environment.get("earlier", []), environment):
        found |= workdirs.differences(_conditions(start, described), again)
    git = now.get("git")
    if git is None or git.get("dirty"):
        found["git"] = "git: the code's commit is not known" if git is None else "git: files differ from the commit"
    return list(found.values())


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
    """Return what results may depend on besides the config: dotted keys of an environment.json and a corpus.json."""
    kept = {name: environment.get(name) for name in ("git", "python", "versions", "platform", "device")}
    return flatten(
        kept | {"corpus": {name: corpus.get(name) for name in ("version", "label_names", "splits", "digest")}}
    )


def judge(run: Path, again: Path, tolerance: float) -> None:
    """Print how two finished runs compare; raise UserError where a seed's score differs by more than the tolerance."""
    first, second = (_scores(folder) for folder in (run, again))
    gaps = {name: _gap(first.get(name), second.get(name)) for name in sorted(first.keys() | second.keys())}
    largest = max(gaps.values(), default=0.0)
    differing = sorted((name for name, gap in gaps.items() if gap), key=lambda name: -gaps[name])
    lines = [f"scores: all {len(gaps)} are the same to the last bit"]
    if differing:
        lines = [f"scores: {len(differing)} of {len(gaps)} differ, by up to {largest:.3g}"]
        lines += [f"  {name}: {first.get(name)} → {second.get(name)}" for name in differing[:SHOWN]]
        lines += [f"  … and {len(differing) - SHOWN} more"] if len(differing) > SHOWN else []
    print("\n".join([f"\n{run} against {again}:", *lines, _parameters(run, again), _log(run, again)]))
    if largest > tolerance:
        raise UserError(f"not reproduced: a score differs by more than --tolerance={tolerance:g}.")
    print("reproduced.")


def _scores(run: Path) -> dict[str, float | None]:
    """Return every score of every seed and split in results.json, by names like "test.accuracy of seed 3"."""
    content = json.loads((run / runner.RESULTS).read_text())
    found = {}
    for split in (s for s in SPLITS if content.get(s)):
        summaries = {name: summary for name, summary in content[split].items() if isinstance(summary, dict)}
        for name, summary in summaries.items():
            for seed, value in zip(content["seeds"], summary["per_seed"], strict=True):
                for place, number in np.ndenumerate(np.array(value, object)):
                    found[f"{split}.{name}{[*place] or ''} of seed {seed}"] = number
    return found


def _gap(a: float | None, b: float | None) -> float:
    """Return how far two scores are apart; 0 if both are undefined, infinity if one is."""
    return abs(a - b) if a is not None and b is not None else 0.0 if a is b else float("inf")


def _parameters(run: Path, again: Path) -> str:
    (one, _), (two, _) = (checkpoint.read_best(folder) for folder in (run, again))
    a, b = (jax.tree.leaves(best["params"]) for best in (one, two))
    if [x.shape for x in a] != [x.shape for x in b]:
        return "parameters: their shapes differ"
    same = sum(np.array_equal(x, y) for x, y in zip(a, b, strict=True))
    if same == len(a):
        return f"parameters of the chosen epoch: all {len(a)} arrays are the same to the last bit"
    gap, large = (max(np.abs(x).max(initial=0.0) for x in xs) for xs in (map(np.subtract, a, b), a))
    differing = f"{len(a) - same} of {len(a)} arrays differ, by up to {gap:.3g}"
    return f"parameters of the chosen epoch: {differing} where the largest parameter is {large:.3g}"


def _log(run: Path, again: Path) -> str:
    texts = [(folder / workdirs.METRICS).read_text() for folder in (run, again)]
    logs = [[json.loads(line) | {"seconds": None} for line in text.splitlines()] for text in texts]
    if len(logs[0]) != len(logs[1]):
        return f"log: {len(logs[0])} epochs, and now {len(logs[1])}"
    differing = [a["epoch"] for a, b in zip(*logs, strict=True) if a != b]
    if differing:
        return f"log: differs from epoch {differing[0]} on"
    return f"log: all {len(logs[0])} epochs are the same to the last bit"
