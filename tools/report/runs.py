"""What the report reads of a folder: a run, or a study of many runs."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ariigcn_jax.files import flatten
from ariigcn_jax.runs import runner, version
from ariigcn_jax.runs.workdir import CONFIG, ENVIRONMENT, METRICS
from ariigcn_jax.types import UserError
from tools.align import FILE as ALIGNMENT

STUDIES = ("folds", "ablations", "sweep")  # each is known by the file <kind>.json in its folder


@dataclasses.dataclass(frozen=True)
class Run:
    """A run's files.

    Attributes:
      name: what the report calls it.
      path: its work directory.
      config: every option.
      environment: code, versions, device; {} where the file is not there.
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

    def series(self, group: str, *names: str) -> tuple[np.ndarray, np.ndarray]:
        """Epochs [E] at which a number was logged, and its values [E, S]; NaN for null."""
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


def kind(path: Path) -> str:
    """One of STUDIES, or "" for a folder that is none of them."""
    return next((name for name in STUDIES if (path / f"{name}.json").exists()), "")


def read(paths: Sequence[Path]) -> tuple[list[Run], list[Study]]:
    """Reads folders.

    Returns:
      The runs and the studies among them, in the order given.

    Raises:
      UserError: a folder is none of them, or a file in it is damaged.
    """
    runs: list[Run] = []
    studies: list[Study] = []
    for path, name in zip(paths, _names(paths), strict=True):
        version.check(path)
        if study := kind(path):
            studies.append(Study(study, name, _json(path / f"{study}.json"), _label_names(path)))
        elif (path / CONFIG).exists() and (path / METRICS).exists():
            runs.append(_run(path, name))
        else:
            what = "has no epoch in its log yet" if (path / CONFIG).exists() else "is no work directory"
            raise UserError(f"{path} {what}; give the --workdir of a run, a sweep, folds or a set of ablations.")
    return runs, studies


def _names(paths: Sequence[Path]) -> list[str]:
    """The folders' names, or their paths where two have the same."""
    names = [path.resolve().name for path in paths]
    return names if len(set(names)) == len(names) else [str(path) for path in paths]


def _run(path: Path, name: str) -> Run:
    def there(file: str) -> Any:
        return _json(path / file) if (path / file).exists() else {}

    lines = (path / METRICS).read_text(encoding="utf-8").splitlines(keepends=True)
    try:
        rows = [json.loads(line) for line in lines if line.endswith("\n")]
    except ValueError as error:
        raise UserError(f"{path / METRICS}: damaged ({error}); delete the line.") from error
    return Run(name, path, _json(path / CONFIG), there(ENVIRONMENT), rows, there(runner.RESULTS), there(ALIGNMENT))


def _json(file: Path) -> Any:
    try:
        return json.loads(file.read_bytes())
    except (OSError, ValueError) as error:
        raise UserError(f"{file}: cannot be read ({error}).") from error


def _label_names(folder: Path) -> tuple[str, ...]:
    for file in sorted(folder.glob(f"*/{runner.RESULTS}")):
        return tuple(_json(file)["label_names"])
    return ()
