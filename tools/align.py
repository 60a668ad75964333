"""Measure the distances between the modalities' distributions in trained models: before TGAN, after it, in the graph.

    python -m tools.align runs/full runs/no_tgan

The first run is compared with each of the others, over their seeds. Each run gets alignment.json and alignment.png, the
t-SNE projection of its first seed; tools.report shows both. Of several members only the first is measured, because each
has spaces of its own. ariigcn_jax/analysis/alignment.py defines the measures.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from ariigcn_jax.analysis import alignment
from ariigcn_jax.analysis.alignment import MEASURES
from ariigcn_jax.files import json_safe, write_atomically
from ariigcn_jax.inference import model as inference
from ariigcn_jax.runs import compilation, figures, tables
from ariigcn_jax.types import UserError
from experiments.command import call
from tools.command import conversations, forward, parser, seeds

FILE, PICTURE = "alignment.json", "alignment.png"
PROJECTED = ("code", "hidden")
STAGE_TITLES = {
    "code": "codes ξ, before TGAN",
    "generated": "generated against real, after TGAN",
    "hidden": "graph's output",
    "contrast": "contrast space",
}


def align(run: Path, split: str) -> dict[str, Any]:
    """Measure every seed of a run, and write alignment.json and alignment.png into its folder.

    Args:
      run: the work directory.
      split: "train", "valid" or "test".

    Returns:
      The content of alignment.json: run, split, modalities, label_names, seeds, rows (stage, first, second,
      utterances; each measure and p as a list over seeds), and projections (stage -> point, modality, label) of the
      first seed.
    """
    first = inference.load(run)
    corpus = conversations(first, split)
    by_seed: list[list[dict[str, Any]]] = []
    projections: dict[str, Any] = {}
    for seed in tqdm(seeds(first), unit="seed", desc=f"{run}"):
        model = inference.load(run, seed=seed)
        vectors = alignment.collect(*forward(model, corpus), corpus, model.model.options.gan.wiring)
        by_seed.append(alignment.measure(vectors))
        if not projections:
            projections = {stage: alignment.project(vectors, stage) for stage in PROJECTED}
    content = json_safe(
        {
            "run": str(run),
            "split": split,
            "modalities": first.modalities,
            "label_names": first.label_names,
            "seeds": list(seeds(first)),
            "rows": _over_seeds(by_seed),
            "projections": projections,
        }
    )
    write_atomically(run / FILE, (json.dumps(content, indent=1) + "\n").encode())
    picture = figures.projections(projections, first.modalities, first.label_names, STAGE_TITLES)
    write_atomically(run / PICTURE, picture)
    return content


def _over_seeds(by_seed: Sequence[Sequence[Mapping[str, Any]]]) -> list[dict[str, Any]]:
    fixed = ("stage", "first", "second", "utterances")
    return [
        {k: rows[0][k] for k in fixed} | {k: [row[k] for row in rows] for k in rows[0] if k not in fixed}
        for rows in zip(*by_seed, strict=True)
    ]


def table(content: Mapping[str, Any]) -> str:
    """Return a run's measures as Markdown: mean over seeds ± the standard deviation."""
    cells = []
    for row in content["rows"]:
        p = row["p"]
        shown = f"{p[0]:.3f}" if len(p) == 1 else f"{min(p):.3f} … {max(p):.3f}"
        cells.append([*_names(row), *(_spread(row[name]) for name in MEASURES), shown])
    header = ["stage", "pair", *MEASURES.values(), "p (MMD²)"]
    title = f"{content['run']}, {content['split']} split, {len(content['seeds'])} seed(s)"
    return f"{title}\n\n{tables.markdown(header, cells)}\n"


def comparison(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> str:
    """Return the differences of two runs' measures as Markdown, for the pairs that both have."""
    others = {tuple(_names(row)): row for row in theirs["rows"]}
    cells, tested = [], False
    for row in ours["rows"]:
        if other := others.get(tuple(_names(row))):
            line = _names(row)
            for name in MEASURES:
                difference, p = alignment.compare(row[name], other[name])
                tested |= p is not None
                line.append(f"{difference:+.3g}" + ("*" if p is not None and p < 0.05 else ""))
            cells.append(line)
    title = f"{ours['run']} minus {theirs['run']}: where it is negative, modalities lie closer in the first run"
    note = (
        "* p < 0.05, permutation of seeds, uncorrected" if tested else "not tested: that takes four seeds of each run"
    )
    return f"{title}\n\n{tables.markdown(['stage', 'pair', *MEASURES.values()], cells)}\n\n{note}\n"


def _names(row: Mapping[str, Any]) -> list[str]:
    return [row["stage"], f"{row['first']} – {row['second']}"]


def _spread(values: Sequence[float]) -> str:
    mean = f"{np.mean(values):.3g}"
    return mean if len(values) == 1 else f"{mean} ± {np.std(values, ddof=1):.2g}"


def command(options: argparse.Namespace) -> None:
    """Measure, compare and print."""
    if importlib.util.find_spec("sklearn") is None:
        raise UserError("tools.align needs scikit-learn, which is not installed: pip install -e '.[report]'")
    compilation.enable()
    for run in options.runs:
        inference.load(run)  # a wrong name is reported before anything is computed
    contents = [align(run, options.split) for run in options.runs]
    for content in contents:
        print(f"\n{table(content)}")
    for other in contents[1:]:
        if other["modalities"] != contents[0]["modalities"]:
            raise UserError(f"{other['run']} has other modalities than {contents[0]['run']}: they cannot be compared.")
        print(f"\n{comparison(contents[0], other)}")
    print(f"{', '.join(str(run) for run in options.runs)}: wrote {FILE} and {PICTURE}.")


if __name__ == "__main__":
    sys.exit(call(command, parser(__doc__, "test"), sys.argv[1:]))
