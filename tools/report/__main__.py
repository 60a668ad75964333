"""Makes one self-contained page from one or several work directories:

    python -m tools.report runs/full runs/no_tgan --output=report.html

A folder may be a run, finished or not, folds (experiments.folds), a set of ablations (experiments.ablate) or a sweep
(experiments.sweep). The page shows the options in which the runs differ, scores with intervals, classes, confusion
matrices, calibration, learning curves, failure signatures, alignment (where tools.align has measured it), folds,
ablations, curves over swept options, and attention over conversations of the corpus. It needs no network. It holds no
transcripts unless --transcripts asks for them.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from tqdm import tqdm

from ariigcn_jax.files import write_atomically
from ariigcn_jax.runs import compilation
from ariigcn_jax.runs.workdir import CONFIG
from ariigcn_jax.types import UserError
from experiments.command import call
from tools import html_page
from tools.command import conversations, parser


def command(options: argparse.Namespace) -> None:
    """Write the page."""
    html_page.check_packages()
    from tools.report import page
    from tools.report.runs import read

    runs, studies = read(options.runs)
    attention = _attention(options) if runs and options.count else []
    text = page.render(runs, studies, attention, options.split)
    write_atomically(options.output, text.encode())
    print(f"{options.output}: {options.output.stat().st_size / 1e6:.1f} MB; opens in any browser, without a network.")


def _attention(options: argparse.Namespace) -> list[Any]:
    """Draw the chosen conversations as each run's model sees them, as `page.render` takes them."""
    from ariigcn_jax.inference import model as inference
    from tools.report import dialogue
    from tools.report.runs import kind

    compilation.enable()
    found = []
    for path in tqdm([p for p in options.runs if not kind(p) and (p / CONFIG).exists()], desc="attention"):
        figures, problem = [], ""
        try:
            model = inference.load(path)
            corpus = conversations(model, options.split)
            chosen = dialogue.choose(corpus, options.dialogue, options.count)
            figures = [dialogue.draw(c, options.transcripts) for c in dialogue.conversations(model, corpus, chosen)]
        except UserError as error:
            if options.dialogue:
                raise
            problem = str(error)
        found.append((path.resolve().name, figures, problem))
    return found


def options() -> argparse.ArgumentParser:
    """Return the command line's options."""
    made = parser(__doc__, "test")
    made.add_argument("--output", type=Path, default=Path("report.html"), help="the page (default: report.html)")
    made.add_argument(
        "--dialogue", action="append", default=[], metavar="ID", help="a conversation to draw; repeatable"
    )
    made.add_argument("--count", type=int, default=2, help="conversations to draw where none is named (default: 2)")
    made.add_argument("--transcripts", action="store_true", help="put what was said onto the page, too")
    return made


if __name__ == "__main__":
    sys.exit(call(command, options(), sys.argv[1:]))
