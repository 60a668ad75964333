"""Print Markdown tables of the results of finished runs:

    python -m tools.results runs/a runs/b
    python -m tools.results runs/ablate/*/ --out=table.md

Each run is one row: validation beside test, seeds, seconds, command, commit and hardware, as its folder has them.
Single models, averages of models and averages of cross-validated models stand in different tables, because their scores
do not compare. So do different tasks. A dash stands for what a run did not record.
"""

from __future__ import annotations

import argparse
import re
import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ariigcn_jax.files import write_atomically
from ariigcn_jax.runs import results, tables
from ariigcn_jax.runs.workdir import ENVIRONMENT, RESULTS, read_json
from ariigcn_jax.types import UserError
from experiments.command import call

DASH = "–"
CROSS_VALIDATED = "Average of cross-validated models"
ABOUT = {
    "One model": "Trained on the train split. The validation split is held out.",
    "Average of models": "Each is trained on the train split. The validation split is held out from all.",
    CROSS_VALIDATED: "Each leaves out another part of train and validation, and is validated on that part alone. Only "
    "the test split is held out from all.",
}


def markdown(runs: Sequence[Path]) -> str:
    """Return the tables of finished runs, each under a heading that names how its models were trained.

    Args:
      runs: work directories.

    Raises:
      UserError: a folder has no results, or a file in it is damaged.
    """
    groups: dict[tuple[str, str], list[tuple[Mapping[str, Any], Mapping[str, Any]]]] = {}
    for run in runs:
        if not (run / RESULTS).is_file():
            raise UserError(f"{run}: no {RESULTS} in it. Name the work directory of a finished run.")
        found = read_json(run / RESULTS)
        environment = read_json(run / ENVIRONMENT) if (run / ENVIRONMENT).is_file() else {}
        groups.setdefault((_protocol(found), found.get("task", "classification")), []).append((found, environment))
    parts = []
    for (protocol, task), rows in groups.items():
        names = results.task_of(rows[0][0]).headline
        titles = [results.task_of(rows[0][0]).metrics[name].title for name in names]
        header = ["run", "models", "seeds"]
        header += [f"{split} {title}" for title in titles for split in ("validation", "test")]
        header += ["seconds", "command", "commit", "hardware"]
        heading = f"### {protocol}, {task}\n\n{ABOUT[protocol]}"
        parts.append(f"{heading}\n\n{tables.markdown(header, [_row(*row, names) for row in rows])}")
    return "\n\n".join(parts) + "\n"


def _protocol(found: Mapping[str, Any]) -> str:
    if found.get("members", 1) == 1:
        return "One model"
    return CROSS_VALIDATED if found.get("cross_validation") else "Average of models"


def _row(found: Mapping[str, Any], environment: Mapping[str, Any], names: Sequence[str]) -> list[str]:
    scores = [
        results.number(found[split][name], name) if split in found else DASH
        for name in names
        for split in ("valid", "test")
    ]
    seeds = found["seeds"]
    return [
        found["experiment"],
        str(found.get("members", 1)),
        str(len(seeds)),
        *scores,
        f"{found['seconds']['total']:,.0f}" if "total" in found["seconds"] else DASH,
        _command(environment.get("command", ())),
        _commits(environment),
        _hardware(environment),
    ]


def _command(arguments: Sequence[str]) -> str:
    """Return the command as it is typed, without the folder that it wrote to."""
    if not arguments:
        return DASH
    program = re.sub(r".*?(experiments|tools)[/\\](\w+)\.py$", r"python -m \1.\2", arguments[0])
    kept: list[str] = []
    for argument in arguments[1:]:
        if kept[-1:] == ["--workdir"]:
            kept.pop()
        elif not argument.startswith("--workdir="):
            kept.append(argument)
    return f"`{' '.join([program, *map(shlex.quote, kept)])}`"


def _commits(environment: Mapping[str, Any]) -> str:
    """Return the commits of all starts of a run, oldest first; a plus marks changes that were not committed."""
    starts = [*environment.get("earlier", ()), environment]
    states = [start["git"] for start in starts if start.get("git")]
    return ", ".join(dict.fromkeys(s["commit"][:7] + "+" * bool(s.get("dirty")) for s in states)) or DASH


def _hardware(environment: Mapping[str, Any]) -> str:
    device = environment.get("device")
    return f"{device['count']} × {device['kind']}" if device else DASH


def execute(options: argparse.Namespace) -> None:
    """Print or write the tables.

    Args:
      options: of `arguments`.

    Raises:
      UserError: as `markdown`.
    """
    text = markdown(options.runs)
    if options.out:
        print(write_atomically(options.out, text.encode()))
    else:
        sys.stdout.write(text)


def arguments() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="work directory of a finished run")
    made.add_argument("--out", type=Path, help="a file, instead of the terminal")
    return made


if __name__ == "__main__":
    sys.exit(call(execute, arguments(), sys.argv[1:]))
