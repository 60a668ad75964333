"""Read what the report shows of a folder: a run, or a study of many runs."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ariigcn_jax.commands.align import FILE as ALIGNMENT
from ariigcn_jax.objective import tasks
from ariigcn_jax.runs import results, runner, version
from ariigcn_jax.runs.figures import NOT_TERMS
from ariigcn_jax.runs.results import MEAN, POOLED
from ariigcn_jax.runs.workdir import CONFIG, ENVIRONMENT, METRICS, read_json
from ariigcn_jax.training import diagnostics
from ariigcn_jax.types import UserError

STUDIES = ("folds", "ablations", "sweep")  # a study's folder holds the file <kind>.json


@dataclasses.dataclass(frozen=True)
class Run:
    """Hold the files of a run; {} stands for a file that is not there."""

    name: str  # what the report calls it
    path: Path  # its work directory
    config: Mapping[str, Any]  # every option
    rows: Sequence[Mapping[str, Any]]  # of the log, one an epoch
    environment: Mapping[str, Any]  # code, versions, device
    results: Mapping[str, Any]  # content of results.json, which a finished run has
    alignment: Mapping[str, Any]  # content of alignment.json

    @property
    def split(self) -> str:
        """Return the split that its results are about: test, unless the run left it unread."""
        return results.reported_split(self.results)

    @property
    def scores(self) -> Mapping[str, Any]:
        """Return the results on `split`."""
        return self.results.get(self.split, {})

    def of_class(self, metric: str, index: int) -> list[float]:
        """Return a metric of a class, one number a seed."""
        return [seed[index] for seed in self.scores[metric]["per_seed"]]

    @property
    def calibrated(self) -> bool:
        """Return whether the run is finished and its answers have probabilities."""
        return self.split in self.results.get("reliability", {})

    @property
    def terms(self) -> list[str]:
        """Return the loss terms in the log."""
        return [name for name in self.rows[0].get("train", {}) if name not in NOT_TERMS]

    @property
    def diagnosed(self) -> list[Mapping[str, Any]]:
        """Return the rows of the log that hold diagnostics."""
        return [row for row in self.rows if row.get("diagnostics")]

    @property
    def warnings(self) -> list[tuple[int, str]]:
        """Return the epoch and the words of each warning of the diagnostics."""
        watch = diagnostics.Watch()
        return [(row["epoch"], words) for row in self.diagnosed for words in watch.see(row["diagnostics"])]

    def subjects(self, measure: str) -> list[str]:
        """Return the subjects of a measure of the diagnostics: terms, modalities, layers."""
        return list(dict.fromkeys(s for row in self.diagnosed for s in row["diagnostics"].get(measure, {})))

    @property
    def measured(self) -> list[str]:
        """Return the measures of the diagnostics that have subjects."""
        return [signature.measure for signature in diagnostics.SIGNATURES if self.subjects(signature.measure)]

    @property
    def extremes(self) -> list[tuple[str, str]]:
        """Return the name and the F1, in words, of the best class and of the weakest; [] where classes have none."""
        if "class_f1" not in self.scores:
            return []
        means = [float(np.mean(self.of_class("class_f1", k))) for k in range(len(self.results["label_names"]))]
        named = [(self.results["label_names"][k], f"{100 * means[k]:.1f}") for k in np.argsort(means, kind="stable")]
        return [named[-1], named[0]]

    @property
    def pairs(self) -> dict[str, Mapping[str, Any]]:
        """Return the rows of the alignment by the words of their pair."""
        return {f"{row['stage']}: {row['first']} – {row['second']}": row for row in self.alignment["rows"]}

    def series(self, group: str, *names: str) -> tuple[np.ndarray, np.ndarray]:
        """Return the epochs [E] at which a number was logged, and its values [E, S]; NaN for null."""
        found = {}
        for row in self.rows:
            value = row.get(group)
            for name in names:
                value = value.get(name) if isinstance(value, Mapping) else None
            if value is not None:
                found[row["epoch"]] = np.atleast_1d(np.array(value, np.float64))
        return np.array(list(found), int), np.stack(list(found.values())) if found else np.zeros((0, 1))


@dataclasses.dataclass(frozen=True)
class Study:
    """Hold a folder of many runs."""

    kind: str  # one of STUDIES
    name: str  # what the report calls it
    content: Mapping[str, Any]  # of its file
    label_names: tuple[str, ...]  # of the runs; () where none is finished

    @property
    def summary(self) -> str:
        """Return the main finding in words."""
        rows, select = self.content["rows"], self.content["select"]
        title = tasks.all_metrics()[select].title if select in tasks.all_metrics() else select
        if self.kind == "sweep":
            chosen = [f"{k} = {v}" for row in rows if row["selected"] for k, v in row["values"].items()]
            return f"{', '.join(chosen) or 'none'} has the best validation {title} of {len(rows)} settings."
        if self.kind == "ablations":
            tested = [row for row in self.tested() if row.get("low") is not None]
            clear = ", ".join(row["ablation"] for row in tested if row["low"] * row["high"] > 0) or "none"
            return f"of {len(tested)} ablations these clearly differ from the full model in test {title}: {clear}."
        means = {fold: float(np.mean(scores[select]["per_seed"])) for fold, scores in self.folds().items()}
        own = sorted((fold for fold in means if fold not in (MEAN, POOLED)), key=means.__getitem__)
        ends = [f"{tasks.shown(select, means[fold])} ({fold})" for fold in (own[0], own[-1])]
        return f"test {title} of {len(own)} folds is between {' and '.join(ends)}."

    def folds(self) -> dict[str, dict[str, Mapping[str, Any]]]:
        """Return fold -> score -> row, of folds."""
        found: dict[str, dict[str, Mapping[str, Any]]] = {}
        for row in self.content["rows"]:
            found.setdefault(row["fold"], {})[row["score"]] = row
        return found

    def scores(self) -> tuple[list[str], list[str]]:
        """Return the scores of folds: metrics, the selecting one first, and the F1 of classes."""
        names = dict.fromkeys([self.content["select"], *(row["score"] for row in self.content["rows"])])
        metrics = [name for name in names if name in tasks.all_metrics()]
        return metrics, [name for name in names if name not in metrics]

    def tested(self) -> list[Mapping[str, Any]]:
        """Return the rows of ablations of the test split's selecting score."""
        wanted = ("test", self.content["select"])
        return [row for row in self.content["rows"] if (row["split"], row["score"]) == wanted]


def read(paths: Sequence[Path]) -> tuple[list[Run], list[Study]]:
    """Read folders; return the runs and the studies among them, in the order given.

    Raises:
      UserError: a folder is none of them, or a file in it is damaged.
    """
    runs: list[Run] = []
    studies: list[Study] = []
    names = [path.resolve().name for path in paths]
    if len(set(names)) < len(names):
        names = list(map(str, paths))
    for path, name in zip(paths, names, strict=True):
        version.check(path)
        if kind := next((kind for kind in STUDIES if (path / f"{kind}.json").exists()), ""):
            finished = sorted(path.glob(f"*/{runner.RESULTS}"))
            label_names = tuple(read_json(finished[0])["label_names"] if finished else ())
            studies.append(Study(kind, name, read_json(path / f"{kind}.json"), label_names))
        elif (path / CONFIG).exists() and (path / METRICS).exists():
            files = (path / file for file in (ENVIRONMENT, runner.RESULTS, ALIGNMENT))
            others = [read_json(file) if file.exists() else {} for file in files]
            runs.append(Run(name, path, read_json(path / CONFIG), _log(path / METRICS), *others))
        else:
            what = "has no epoch in its log yet" if (path / CONFIG).exists() else "is no work directory"
            raise UserError(f"{path} {what}; give the --workdir of a run, a sweep, folds or a set of ablations.")
    return runs, studies


def _log(file: Path) -> list[dict[str, Any]]:
    """Read the log's rows; a last line that is still being written is left out."""
    try:
        return [json.loads(line) for line in file.read_text("utf-8").split("\n")[:-1]]
    except ValueError as error:
        raise UserError(f"{file}: damaged ({error}); delete the line.") from error
