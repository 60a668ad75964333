"""Run studies: a study is a mapping name -> config, whose runs lie below one folder, and a table of their results.

experiments.ablate, experiments.sweep and experiments.folds make the mappings and the tables.
"""

import contextlib
import hashlib
import io
import math
import re
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from absl import flags

from ariigcn_jax.commands.command import define_config, flag
from ariigcn_jax.data import prepare
from ariigcn_jax.objective import terms
from ariigcn_jax.runs import results, runner, session, tables
from ariigcn_jax.runs import workdir as workdirs
from ariigcn_jax.training import checks
from ariigcn_jax.types import Corpus, UserError

flags.disclaim_key_flags()  # --help of a command lists the flags that are defined here as its own
LONGEST_FOLDER = 150  # characters

Contents = Mapping[str, Mapping[str, Any]]  # name of a run -> content of its results.json


def define_flags(seeds: int) -> None:
    """Define --config, --seeds, whose default is `seeds`, and --workdir."""
    define_config()
    words = f"seeds of each run, config.seed and those after it; {seeds} by default"
    flags.DEFINE_integer("seeds", None, words, lower_bound=1)
    flags.DEFINE_string("workdir", None, "folder of all runs, made or resumed; by default a new one under runs/")


def config_of_flags(seeds: int, overrides: Sequence[str]) -> Any:
    """Return the config of --config, with as many seeds as the flags ask for, or `seeds` by default."""
    config = flag("config")
    if flag("seeds") or "num_seeds" not in overrides:
        config.num_seeds = flag("seeds") or seeds
    return config


def check(config: Any, corpus: Corpus, changed: Iterable[str] = ()) -> None:
    """Raise UserError where a config cannot be built or no loss uses a changed key, before the first of many runs.

    `corpus` may have more modalities than the config keeps.
    """
    terms.check_overrides(config.losses.to_dict(), changed)
    checks.check_options(config, prepare.modalities(corpus, tuple(config.data.only)).description)


def folder_name(name: str) -> str:
    """Return a run's folder: its name, or with a digest where that is too long or has other characters."""
    safe = re.sub(r"[^\w.+=,-]", "_", name)
    if safe == name and len(name) <= LONGEST_FOLDER:
        return name
    return f"{safe[: LONGEST_FOLDER - 20]}-{hashlib.sha256(name.encode()).hexdigest()[:12]}"


def run_all(configs: Mapping[str, Any], folder: Path) -> tuple[dict[str, dict[str, Any]], dict[str, str]]:
    """Run configs one after another, each in a folder below `folder`; print a line for each, with the time left.

    Return name -> content of results.json; and folder's name -> error, for the runs that ended early.
    """
    contents: dict[str, dict[str, Any]] = {}
    failures: dict[str, str] = {}
    spent: list[float] = []
    places = {name: folder / folder_name(name) for name in configs}
    waiting = [name for name, place in places.items() if not (place / runner.RESULTS).exists()]
    for number, (name, config) in enumerate(configs.items(), start=1):
        begun, place = time.perf_counter(), places[name]
        try:
            with contextlib.redirect_stdout(io.StringIO()):  # a run's messages are in its folder
                contents[name] = session.execute(config, str(place))
            words = _score(contents[name])
        except UserError as error:
            failures[place.name] = words = str(error)
        if name in waiting:
            waiting.remove(name)
            spent.append(time.perf_counter() - begun)
            words += f", {spent[-1]:.0f} s"
        else:
            words += ", finished before"
        left = f"; about {_time(len(waiting) * sum(spent) / len(spent))} left" if waiting and spent else ""
        print(f"[{number}/{len(configs)}] {place.name}: {words}{left}", flush=True)
    return contents, failures


def carry_out(
    kind: str, config: Any, configs: Mapping[str, Any], write: Callable[[Contents, workdirs.WorkDir], str]
) -> None:
    """Run a study below --workdir, or in a new folder named by its kind, and print what `write` makes of its results.

    `config` is what the configs of the runs were made from; the folder belongs to it. `write` takes the results of the
    finished runs and the open folder; it writes the tables and returns what to print.

    Raises:
      UserError: a run ended early; the others are finished and in the tables.
    """
    name = f"{config.experiment}-{kind}"
    with workdirs.open(flag("workdir"), name, config.to_dict(), may_differ=session.MAY_DIFFER) as directory:
        print(f"{directory.path}: {len(configs)} runs of {config.num_seeds} seed(s)", flush=True)
        contents, failures = run_all(configs, directory.path)
        if contents and (text := write(contents, directory)):
            print(f"\n{text}")
        if failures:
            names = "\n".join(f"  {name}: {words}" for name, words in failures.items())
            raise UserError(
                f"{len(failures)} of the runs in {directory.path} ended early and are in no table:\n{names}"
            )


# --- Results ----------------------------------------------------------------------------------------------------------


def scores(content: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the metrics that runs of a task are compared by, the one that chose the epoch among them."""
    return tuple(dict.fromkeys((*results.task_of(content).compared, content["select"])))


def per_seed(content: Mapping[str, Any], split: str) -> dict[str, np.ndarray]:
    """Return the compared scores of a run: metric, or `f1 of NAME` for a class, -> [S], one a seed."""
    found = {name: np.asarray(content[split][name]["per_seed"], np.float64) for name in scores(content)}
    by_class = np.asarray(content[split]["class_f1"]["per_seed"], np.float64)
    return found | {f"f1 of {name}": by_class[:, k] for k, name in enumerate(content["label_names"])}


def summarise(values: Mapping[str, np.ndarray]) -> dict[str, dict[str, Any]]:
    """Return name -> mean, std and per_seed of its values [S], one a seed."""
    return results.summarise([dict(zip(values, seed, strict=True)) for seed in zip(*values.values(), strict=True)])


def titles(content: Mapping[str, Any]) -> dict[str, str]:
    """Return the compared metrics and their titles, the one that chose the epoch first."""
    metrics = results.task_of(content).metrics
    return {name: metrics[name].title for name in dict.fromkeys((content["select"], *scores(content)))}


def p_value(p: float) -> str:
    """Return a p-value with three digits; a dash for NaN."""
    return "–" if math.isnan(p) else "< 0.001" if p < 0.001 else f"{p:.3f}"


def with_seeds(columns: Sequence[str], rows: Sequence[Mapping[str, Any]], seeds: Sequence[int]) -> list[list[object]]:
    """Return header and rows of a table with columns of `rows`, "" where one lacks it, and a score for each seed."""
    cells = [[*(row.get(column, "") for column in columns), *row["per_seed"]] for row in rows]
    return [[*columns, *(f"seed_{seed}" for seed in seeds)], *cells]


def write_tables(
    directory: workdirs.WorkDir,
    name: str,
    cells: Sequence[Sequence[str]],
    caption: str,
    csv: Sequence[Sequence[object]],
    content: Mapping[str, Any],
    picture: bytes = b"",
) -> str:
    """Write NAME.md, .tex, .csv, .json and .png into a study's open folder; return the Markdown and the files' names.

    `cells` and `csv` are the header and the rows of the table for people and of the one for programs.
    """
    text = f"{tables.markdown(cells[0], cells[1:])}\n\n{caption}\n"
    directory.write_text(f"{name}.md", text)
    directory.write_text(f"{name}.tex", tables.latex(cells[0], cells[1:], caption))
    directory.write_text(f"{name}.csv", tables.comma_separated(csv))
    directory.write_json(f"{name}.json", content)
    if picture:
        directory.write_bytes(f"{name}.png", picture)
    return f"{text}\n{directory.path}: {name}.md, .csv, .tex, .json" + (", .png" if picture else "")


def _score(content: Mapping[str, Any]) -> str:
    split, select = results.reported_split(content), content["select"]
    return f"{split} {titles(content)[select]} {results.number(content[split][select], select)}"


def _time(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
