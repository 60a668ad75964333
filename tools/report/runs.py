"""Reads what the report shows of a folder: a run, or a study of many runs."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ariigcn_jax.files import flatten
from ariigcn_jax.objective import tasks
from ariigcn_jax.objective.tasks import Task
from ariigcn_jax.runs import results, runner, version
from ariigcn_jax.runs.figures import NOT_TERMS
from ariigcn_jax.runs.workdir import CONFIG, ENVIRONMENT, METRICS
from ariigcn_jax.training import diagnostics
from ariigcn_jax.types import UserError
from tools.align import FILE as ALIGNMENT

STUDIES = ("folds", "ablations", "sweep")  # a study's folder holds the file <kind>.json


@dataclasses.dataclass(frozen=True)
class Run:
    """The files of a run.

    Attributes:
      name: what the report calls it.
      path: its work directory.
      config: every option.
      environment: code, versions, device; {} where the file is missing.
      rows: of the log, one an epoch.
      results: content of results.json; {} while the run is under way.
      alignment: content of alignment.json; {} where nothing was measured.
    """

    name: str
    path: Path
    config: Mapping[str, Any]
    environment: Mapping[str, Any]
    rows: Sequence[Mapping[str, Any]]
    results: Mapping[str, Any]
    alignment: Mapping[str, Any]

    @property
    def origin(self) -> list[str]:
        """Commit, version of JAX, device and start; a dash for what is not known."""
        git, versions, device = (self.environment.get(name) or {} for name in ("git", "versions", "device"))
        commit = (git.get("commit") or "–")[:10]
        return [commit, versions.get("jax", "–"), device.get("kind", "–"), self.environment.get("date", "–")]

    @property
    def options(self) -> dict[str, Any]:
        """Dotted key -> value."""
        return flatten(self.config)

    @property
    def select(self) -> str:
        """The metric that chooses the epoch."""
        return self.config["eval"]["select"]

    @property
    def split(self) -> str:
        """The split that its results are about: test, unless the run left it unread."""
        return "test" if "test" in self.results else "valid"

    @property
    def scores(self) -> Mapping[str, Any]:
        """Results on `split`."""
        return self.results.get(self.split, {})

    def of_class(self, metric: str, index: int) -> list[float]:
        """Return a metric of a class, one number a seed."""
        return [seed[index] for seed in self.scores[metric]["per_seed"]]

    @property
    def task(self) -> Task:
        """What a finished run was trained for."""
        return results.task_of(self.results)

    @property
    def task_name(self) -> str:
        """The name of the task."""
        return self.config["data"]["task"]

    @property
    def label_names(self) -> tuple[str, ...]:
        """The classes of a finished run."""
        return tuple(self.results["label_names"])

    @property
    def calibrated(self) -> bool:
        """Whether the run is finished and its answers have probabilities."""
        return self.split in self.results.get("reliability", {})

    @property
    def terms(self) -> list[str]:
        """The loss terms in the log."""
        return [name for name in self.rows[0].get("train", {}) if name not in NOT_TERMS]

    @property
    def looks(self) -> list[Mapping[str, Any]]:
        """The rows of the log that hold diagnostics."""
        return [row for row in self.rows if row.get("diagnostics")]

    @property
    def warnings(self) -> list[tuple[int, str]]:
        """The epoch and the words of each warning of the diagnostics."""
        watch = diagnostics.Watch()
        return [(row["epoch"], words) for row in self.looks for words in watch.see(row["diagnostics"])]

    def subjects(self, measure: str) -> list[str]:
        """Return what a measure of the diagnostics is about: terms, modalities, layers."""
        return list(dict.fromkeys(s for row in self.looks for s in row["diagnostics"].get(measure, {})))

    @property
    def pairs(self) -> dict[str, Mapping[str, Any]]:
        """Rows of the alignment by the words of their pair."""
        return {f"{row['stage']}: {row['first']} – {row['second']}": row for row in self.alignment["rows"]}

    def series(self, group: str, *names: str) -> tuple[np.ndarray, np.ndarray]:
        """Return the epochs [E] at which a number was logged, and its values [E, S]; NaN for null."""
        epochs, values = [], []
        for row in self.rows:
            value = row.get(group)
            for name in names:
                value = value.get(name) if isinstance(value, Mapping) else None
            if value is not None:
                epochs.append(row["epoch"])
                values.append(np.atleast_1d(np.array(value, np.float64)))
        return np.array(epochs, int), np.stack(values) if values else np.zeros((0, 1))


@dataclasses.dataclass(frozen=True)
class Study:
    """A folder of many runs.

    Attributes:
      kind: one of STUDIES.
      name: what the report calls it.
      content: of its file.
      label_names: of the runs; () where none is finished.
    """

    kind: str
    name: str
    content: Mapping[str, Any]
    label_names: tuple[str, ...]

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


def kind(path: Path) -> str:
    """Return one of STUDIES, or "" for a folder that is none of them."""
    return next((name for name in STUDIES if (path / f"{name}.json").exists()), "")


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
        if study := kind(path):
            finished = sorted(path.glob(f"*/{runner.RESULTS}"))[:1]
            label_names = tuple(label for file in finished for label in _json(file)["label_names"])
            studies.append(Study(study, name, _json(path / f"{study}.json"), label_names))
        elif (path / CONFIG).exists() and (path / METRICS).exists():
            config = _json(path / CONFIG)
            others = [_json(path / f) if (path / f).exists() else {} for f in (ENVIRONMENT, runner.RESULTS, ALIGNMENT)]
            runs.append(Run(name, path, config, others[0], _log(path / METRICS), *others[1:]))
        else:
            what = "has no epoch in its log yet" if (path / CONFIG).exists() else "is no work directory"
            raise UserError(f"{path} {what}; give the --workdir of a run, a sweep, folds or a set of ablations.")
    return runs, studies


def _log(file: Path) -> list[dict[str, Any]]:
    """Read the log's rows; a last line that is still being written is left out."""
    try:
        return [json.loads(line) for line in file.read_text("utf-8").splitlines(keepends=True) if line.endswith("\n")]
    except ValueError as error:
        raise UserError(f"{file}: damaged ({error}); delete the line.") from error


def _json(file: Path) -> Any:
    try:
        return json.loads(file.read_bytes())
    except (OSError, ValueError) as error:
        raise UserError(f"{file}: cannot be read ({error}).") from error
