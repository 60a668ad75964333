"""Several runs below one folder: each is a work directory of its own, finished ones are not run again."""

from __future__ import annotations

import contextlib
import hashlib
import io
import math
import re
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ariigcn_jax.data import choose
from ariigcn_jax.objective import terms as objective
from ariigcn_jax.runs import results, runner
from ariigcn_jax.training import options
from ariigcn_jax.types import Corpus, UserError
from experiments import session

LONGEST_FOLDER = 150


def check(config: Any, corpus: Corpus, changed: Iterable[str]) -> None:
    """Builds what a config describes, without training, so that the last of many runs cannot fail on an option.

    Args:
      config: as `experiments.base.get_config`.
      corpus: of the config, or of one that keeps more modalities.
      changed: keys that set this run apart; a loss's hyper-parameter that nothing would use is an error.

    Raises:
      UserError: see the message.
    """
    objective.check_overrides(config.losses.to_dict(), changed)
    options.check(config, choose.modalities(corpus, tuple(config.data.only)).description)


def folder_name(name: str) -> str:
    """A run's folder for what sets it apart; with a digest where that is too long or has characters that do not fit."""
    safe = re.sub(r"[^\w.+=,-]", "_", name)
    if safe == name and len(name) <= LONGEST_FOLDER:
        return name
    return f"{safe[: LONGEST_FOLDER - 20]}-{hashlib.sha256(name.encode()).hexdigest()[:12]}"


def run_all(configs: Mapping[str, Any], folder: Path) -> tuple[dict[str, dict[str, Any]], dict[str, str]]:
    """Runs configs one after another, with one line for each and the time that is left.

    Args:
      configs: name -> config. The name is the run's folder below `folder`.
      folder: of them all.

    Returns:
      name -> content of results.json, and name -> what went wrong, for the runs that ended early.
    """
    contents: dict[str, dict[str, Any]] = {}
    failures: dict[str, str] = {}
    waiting = [name for name in configs if not (folder / name / runner.RESULTS).exists()]
    spent: list[float] = []
    for number, (name, config) in enumerate(configs.items(), start=1):
        begun, new = time.perf_counter(), name in waiting
        try:
            with contextlib.redirect_stdout(io.StringIO()):  # what a run says of itself is in its folder
                contents[name] = session.execute(config, str(folder / name))
            words = _score(contents[name])
        except UserError as error:
            failures[name] = words = str(error)
        if new:
            waiting.remove(name)
            spent.append(time.perf_counter() - begun)
            words += f", {spent[-1]:.0f} s"
        else:
            words += ", finished before"
        left = f"; about {_time(len(waiting) * sum(spent) / len(spent))} left" if waiting and spent else ""
        print(f"[{number}/{len(configs)}] {name}: {words}{left}", flush=True)
    return contents, failures


def complain(failures: Mapping[str, str], folder: Path) -> None:
    """Raises a UserError that names the runs that ended early, if there are any."""
    if failures:
        names = "\n".join(f"  {name}: {words}" for name, words in failures.items())
        raise UserError(
            f"{len(failures)} of the runs in {folder} ended early and are in no table; the others are:\n{names}"
        )


def percent(summary: Mapping[str, Any], index: int | None = None) -> str:
    """`64.12 ± 0.31` of what `results.summarise` gives, of element `index` for a vector."""
    mean, std = (summary[key] if index is None else summary[key][index] for key in ("mean", "std"))
    return f"{100 * mean:.2f} ± {100 * std:.2f}" if len(summary["per_seed"]) > 1 else f"{100 * mean:.2f}"


def scores(content: Mapping[str, Any]) -> tuple[str, ...]:
    """The metrics that runs of a task are compared by, the one that chose the epoch among them."""
    return tuple(dict.fromkeys((*results.task_of(content).compared, content["select"])))


def p_value(p: float) -> str:
    """A p-value with three digits; NaN is a dash."""
    return "–" if math.isnan(p) else "< 0.001" if p < 0.001 else f"{p:.3f}"


def _score(content: Mapping[str, Any]) -> str:
    split, select = results.reported_split(content), content["select"]
    return f"{split} {results.task_of(content).metrics[select].title} {results.number(content[split][select], select)}"


def _time(seconds: float) -> str:
    return (
        f"{seconds:.0f} s"
        if seconds < 90
        else f"{seconds / 60:.0f} min"
        if seconds < 5400
        else f"{seconds / 3600:.1f} h"
    )
