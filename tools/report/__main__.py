"""Make one self-contained page from one or several work directories:

    python -m tools.report runs/full runs/no_tgan --output=report.html

A folder may be a run, finished or not, folds (experiments.folds), a set of ablations (experiments.ablate) or a sweep
(experiments.sweep). The page begins with a summary. It shows scores with intervals, classes, confusion matrices,
calibration, learning curves, failure signatures, alignment (where tools.align has measured it), folds, ablations,
curves over swept options, attention over conversations of the corpus, and the options in which the runs differ. It
needs no network. It holds no transcripts unless --transcripts asks for them.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm

from ariigcn_jax.files import write_atomically
from ariigcn_jax.inference import model as inference
from ariigcn_jax.runs import compilation
from ariigcn_jax.types import UserError
from experiments.command import call
from tools import html_page
from tools.command import as_read, parser
from tools.report.runs import Run, read


def command(options: argparse.Namespace) -> None:
    """Write the page."""
    html_page.check_packages("jinja2", "plotly")
    from tools.report import page  # which needs them

    runs, studies = read(options.runs)
    attention = _attention(runs, options) if runs and options.count else []
    write_atomically(options.output, page.render(runs, studies, attention, options.split).encode())
    print(f"{options.output}: {options.output.stat().st_size / 1e6:.1f} MB; opens in any browser, without a network.")


def _attention(runs: Sequence[Run], options: argparse.Namespace) -> list[Any]:
    """Draw the chosen conversations as each run's model sees them, as `page.render` takes them."""
    from tools.report import dialogue

    compilation.enable()
    found = []
    for run in tqdm(runs, desc="attention"):
        figures, problem = [], ""
        try:
            model = inference.load(run.path)
            corpus = model.prepare(as_read(model, options.split))
            chosen = dialogue.choose(corpus, options.dialogue, options.count)
            figures = [dialogue.draw(c, options.transcripts) for c in dialogue.conversations(model, corpus, chosen)]
        except UserError as error:
            if options.dialogue:
                raise
            problem = str(error)
        found.append((run.name, figures, problem))
    return found


def options() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    made = parser(__doc__, "test")
    add = made.add_argument
    add("--output", type=Path, default=Path("report.html"), help="the page (default: report.html)")
    add("--dialogue", action="append", default=[], metavar="ID", help="a conversation to draw; repeatable")
    add("--count", type=int, default=2, help="conversations to draw where none is named (default: 2)")
    add("--transcripts", action="store_true", help="put the transcripts onto the page, too")
    return made


if __name__ == "__main__":
    sys.exit(call(command, options(), sys.argv[1:]))
