"""Print Markdown tables of the results of finished runs:

    python -m tools.results runs/a runs/b
    python -m tools.results runs/ablate/*/ --out=table.md

Each run is one row: validation beside test, seeds, seconds, command, commit and hardware, as its folder has them.
Single models, averages of models and averages of cross-validated models stand in different tables, because their scores
do not compare. So do different tasks. A dash stands for what a run did not record.
"""

from __future__ import annotations

import argparse
import itertools
import re
import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ariigcn_jax.commands.command import call
from ariigcn_jax.files import write_atomically
from ariigcn_jax.runs import results, tables, version
from ariigcn_jax.runs.workdir import ENVIRONMENT, RESULTS, read_json
from ariigcn_jax.types import UserError

DASH = "–"
CROSS_VALIDATED = "Average of cross-validated models"
ABOUT = {
    "One model": "Trained on the train split. The validation split is held out.",
    "Average of models": "Each is trained on the train split. The validation split is held out from all.",
    CROSS_VALIDATED: "Each leaves out another fold of train and validation, and is validated on that fold alone. Only "
    "the test split is held out from all.",
}


def markdown(runs: Sequence[Path]) -> str:
    """Return the tables of finished runs, each under a heading that names how its models were trained.

    Raises:
      UserError: a folder has no results, or a file in it is damaged.
    """
    groups: dict[tuple[str, str], list[tuple[Mapping[str, Any], Mapping[str, Any]]]] = {}
    for run in runs:
        if not (run / RESULTS).is_file():
            raise UserError(f"{run}: no {RESULTS} in it. Name the work directory of a finished run.")
        version.check(run)
        found = read_json(run / RESULTS)
        environment = read_json(run / ENVIRONMENT) if (run / ENVIRONMENT).is_file() else {}
        average = CROSS_VALIDATED if found.get("cross_validation") else "Average of models"
        protocol = "One model" if found.get("members", 1) == 1 else average
        groups.setdefault((protocol, found.get("task", "classification")), []).append((found, environment))
    parts = []
    for (protocol, name), rows in groups.items():
        task = results.task_of(rows[0][0])
        header = ["run", "models", "seeds"]
        header += [f"{split} {task.metrics[m].title}" for m in task.headline for split in ("validation", "test")]
        header += ["seconds", "command", "commit", "hardware"]
        table = tables.markdown(header, [_row(*row, task.headline) for row in rows])
        parts.append(f"### {protocol}, {name}\n\n{ABOUT[protocol]}\n\n{table}")
    return "\n\n".join(parts) + "\n"


def _row(found: Mapping[str, Any], environment: Mapping[str, Any], metrics: Sequence[str]) -> list[str]:
    cells = [found["experiment"], str(found.get("members", 1)), str(len(found["seeds"]))]
    for metric in metrics:
        cells += [results.number(found[s][metric], metric) if s in found else DASH for s in ("valid", "test")]
    starts = [*environment.get("earlier", ()), environment]  # oldest first
    states = [start["git"] for start in starts if start.get("git")]
    # a plus marks changes that were not committed
    commits = dict.fromkeys(state["commit"][:7] + "+" * bool(state.get("dirty")) for state in states)
    device = environment.get("device")
    return [
        *cells,
        f"{found['seconds']['total']:,.0f}" if "total" in found["seconds"] else DASH,
        _command(environment.get("command", ())),
        ", ".join(commits) or DASH,
        f"{device['count']} × {device['kind']}" if device else DASH,
    ]


def _command(arguments: Sequence[str]) -> str:
    """Return the command as it is typed, without --workdir."""
    if not arguments:
        return DASH
    program = re.sub(r".*?(experiments|tools)[/\\](\w+)\.py$", r"python -m \1.\2", arguments[0])
    program = re.sub(r".*[/\\]ariigcn(\.exe)?$", "ariigcn", program)
    pairs = itertools.pairwise(arguments)
    kept = [a for before, a in pairs if "--workdir" not in (before, a) and not a.startswith("--workdir=")]
    return f"`{' '.join([program, *map(shlex.quote, kept)])}`"


def execute(options: argparse.Namespace) -> None:
    """Print or write the tables."""
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
