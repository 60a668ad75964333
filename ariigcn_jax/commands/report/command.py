"""Make one self-contained page from one or several work directories: runs, folds, ablations, sweeps."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

from tqdm import tqdm

from ariigcn_jax.commands import html_page
from ariigcn_jax.commands.finished import as_read
from ariigcn_jax.commands.report.runs import Run, read
from ariigcn_jax.files import write_atomically
from ariigcn_jax.inference import model as inference
from ariigcn_jax.runs import compilation
from ariigcn_jax.types import UserError


def command(options: argparse.Namespace) -> None:
    """Write the page."""
    html_page.check_packages("jinja2", "plotly")
    from ariigcn_jax.commands.report import page  # which needs them

    runs, studies = read(options.runs)
    attention = _attention(runs, options) if runs and options.count else []
    write_atomically(options.output, page.render(runs, studies, attention, options.split).encode())
    print(f"{options.output}: {options.output.stat().st_size / 1e6:.1f} MB; opens in any browser, without a network.")


def _attention(runs: Sequence[Run], options: argparse.Namespace) -> list[Any]:
    """Draw the chosen conversations as each run's model sees them, as `page.render` takes them."""
    from ariigcn_jax.commands.report import dialogue

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
