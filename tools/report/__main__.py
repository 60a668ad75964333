"""Makes one self-contained page from one or several work directories:

    python -m tools.report runs/full runs/no_tgan --output=report.html

A folder may be a run, finished or not, folds (experiments.folds), a set of ablations (experiments.ablate) or a sweep
(experiments.sweep). On the page: options in which the runs differ, scores with intervals, classes, confusion matrices,
calibration, learning curves, failure signatures, alignment (where tools.align has measured it), folds, ablations,
curves over swept options, and attention over conversations of the corpus. The page needs no network. It holds no
transcripts unless --transcripts asks for them.
"""

from __future__ import annotations

import argparse
import importlib.util
import sys
from pathlib import Path

from tqdm import tqdm

from ariigcn_jax.files import flatten, write_atomically
from ariigcn_jax.runs import compilation
from ariigcn_jax.types import UserError
from experiments.command import call
from tools.command import conversations, parser


def command(options: argparse.Namespace) -> None:
    """Writes the page."""
    if importlib.util.find_spec("plotly") is None:
        raise UserError("The report draws with plotly, which is not installed: pip install -e '.[report]'")
    from experiments import base
    from tools.report import page, sections
    from tools.report.runs import read

    runs, studies = read(options.runs)
    parts: list[tuple[str, str, str]] = []
    if runs:
        parts += [
            ("configuration", "Configuration", sections.configuration(runs, flatten(base.get_config().to_dict()))),
            ("results", "Results", sections.scores(runs)),
            ("classes", "Classes", sections.classes(runs)),
            ("confusion", "Confusion matrices", sections.confusions(runs)),
            ("calibration", "Calibration", sections.calibration(runs)),
            ("curves", "Learning curves", sections.curves(runs)),
            ("failures", "Failure signatures", sections.failures(runs)),
            ("alignment", "Alignment", sections.alignment(runs)),
        ]
    for kind, words, draw in (
        ("folds", "Folds", sections.folds),
        ("ablations", "Ablations", sections.ablations),
        ("sweep", "Swept options", sections.sweeps),
    ):
        if found := [study for study in studies if study.kind == kind]:
            parts.append((kind, words, draw(found)))
    if runs and options.count:
        parts.append(("attention", "Attention", _attention(options)))
    names = ", ".join([*(run.name for run in runs), *(study.name for study in studies)])
    lead = page.paragraph(
        "Point at anything for its numbers; drag to zoom, double click to go back; a click on a legend hides a name.",
        "quiet",
    )
    write_atomically(options.output, page.page(f"ARIIGCN-JAX: {names}", lead, parts).encode())
    print(f"{options.output}: {options.output.stat().st_size / 1e6:.1f} MB; opens in any browser, without a network.")


def _attention(options: argparse.Namespace) -> str:
    """The chosen conversations as every run's model sees them; what cannot be loaded is said."""
    from ariigcn_jax.inference import model as inference
    from ariigcn_jax.runs.workdir import CONFIG
    from tools.report import dialogue, page
    from tools.report.runs import kind

    compilation.enable()
    words = (
        "Discs: predicted emotion; rings: the true one. Lines that bend upwards lead from the past to a later turn, "
        f"downwards from the future to an earlier one. {options.split.capitalize()} split, seed best on validation."
    )
    found = [page.paragraph(words)]
    for path in tqdm([p for p in options.runs if not kind(p) and (p / CONFIG).exists()], desc="attention"):
        found.append(page.heading(f"{path.resolve().name}"))
        try:
            model = inference.load(path)
            corpus = conversations(model, options.split)
            chosen = dialogue.choose(corpus, options.dialogue, options.count)
            drawn = [
                page.show(dialogue.draw(c, options.transcripts)) for c in dialogue.conversations(model, corpus, chosen)
            ]
        except UserError as error:
            if options.dialogue:
                raise
            drawn = [page.paragraph(f"Not drawn: {error}", "quiet")]
        found += drawn
    return "".join(found)


def options() -> argparse.ArgumentParser:
    """The command line's options."""
    made = parser(__doc__, "test")
    made.add_argument("--output", type=Path, default=Path("report.html"), help="the page (default: report.html)")
    made.add_argument(
        "--dialogue", action="append", default=[], metavar="ID", help="a conversation to draw; repeatable"
    )
    made.add_argument("--count", type=int, default=2, help="conversations to draw where none is named (default: 2)")
    made.add_argument("--transcripts", action="store_true", help="put what was said onto the page too")
    return made


if __name__ == "__main__":
    sys.exit(call(command, options(), sys.argv[1:]))
