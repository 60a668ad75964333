"""Measure the distances between the modalities' distributions in trained models: before TGAN, after it, in the graph.

The first run is compared with each of the others, over their seeds. Each run gets alignment.json and alignment.png, the
t-SNE projection of its first seed; `ariigcn report` shows both. Of several members only the first is measured, because
each has spaces of its own. ariigcn_jax/analysis/alignment.py defines the measures.
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib.util
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from ariigcn_jax.analysis import alignment
from ariigcn_jax.analysis.alignment import MEASURES
from ariigcn_jax.commands.finished import as_read, by_vectors, models
from ariigcn_jax.files import json_safe, write_atomically
from ariigcn_jax.inference import model as inference
from ariigcn_jax.runs import compilation, figures, tables
from ariigcn_jax.types import WORDS, UserError

FILE, PICTURE = "alignment.json", "alignment.png"
PAIR = ("stage", "first", "second", "utterances")
STAGE_TITLES = {
    "code": "codes ξ, before TGAN",
    "generated": "generated against real, after TGAN",
    "hidden": "graph's output",
    "contrast": "contrast space",
}


def align(run: Path, split: str) -> dict[str, Any]:
    """Measure every seed of a run, and write alignment.json and alignment.png into its folder.

    Returns:
      The content of alignment.json: run, split, modalities, label_names, seeds, rows (PAIR; each measure and p as a
      list over seeds), and projections (stage -> point, modality, label) of the first seed.
    """
    of_seeds = models(run)
    first = of_seeds[0]
    by_seed: list[list[dict[str, Any]]] = []
    projections: dict[str, Any] = {}
    bar = tqdm(total=len(of_seeds), unit="seed", desc=f"{run}")
    for group, corpus in by_vectors(of_seeds, as_read(first, split)):
        corpus = group[0].prepare(corpus)
        batches = list(group[0].batches(corpus))
        utterances = [np.asarray(batch.utterance) for batch in batches]
        if first.words is not None:  # of several networks' vectors of words, those of the first
            width = dict(first.model.description.widths)[WORDS]
            features = {**corpus.features, WORDS: corpus.features[WORDS][:, :width]}
            corpus = dataclasses.replace(corpus, features=features)
        for model in group:
            outputs = [model.outputs(batch) for batch in batches]
            vectors = alignment.collect(outputs, utterances, corpus, model.model.options.gan.wiring)
            by_seed.append(alignment.measure(vectors))
            if not projections:
                projections = {stage: alignment.project(vectors, stage) for stage in ("code", "hidden")}
            bar.update()
    bar.close()
    rows = [
        {k: v if k in PAIR else [row[k] for row in same] for k, v in same[0].items()}
        for same in zip(*by_seed, strict=True)
    ]
    content: Any = {"run": str(run), "split": split, "modalities": first.modalities, "label_names": first.label_names}
    content |= {"seeds": [model.seed for model in of_seeds], "rows": rows, "projections": projections}
    content = json_safe(content)
    write_atomically(run / FILE, (json.dumps(content, indent=1) + "\n").encode())
    picture = figures.projections(projections, first.modalities, first.label_names, STAGE_TITLES)
    write_atomically(run / PICTURE, picture)
    return content


def table(content: Mapping[str, Any]) -> str:
    """Return a run's measures as Markdown: mean over seeds ± the standard deviation."""
    cells = []
    for row in content["rows"]:
        p = row["p"]
        shown = f"{p[0]:.3f}" if len(p) == 1 else f"{min(p):.3f} … {max(p):.3f}"
        means = [f"{np.mean(row[name]):.3g}" for name in MEASURES]
        spreads = [f" ± {np.std(row[name], ddof=1):.2g}" if len(p) > 1 else "" for name in MEASURES]
        cells.append([*_names(row), *map(str.__add__, means, spreads), shown])
    header = ["stage", "pair", *MEASURES.values(), "p (MMD²)"]
    title = f"{content['run']}, {content['split']} split, {len(content['seeds'])} seed(s)"
    return f"{title}\n\n{tables.markdown(header, cells)}\n"


def comparison(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> str:
    """Return the differences of two runs' measures as Markdown, for the pairs that both have."""
    others = {tuple(_names(row)): row for row in theirs["rows"]}
    cells, tested = [], False
    for row in (row for row in ours["rows"] if tuple(_names(row)) in others):
        found = [alignment.compare(row[name], others[tuple(_names(row))][name]) for name in MEASURES]
        tested |= any(p is not None for _, p in found)
        cells.append([*_names(row), *(f"{d:+.3g}" + "*" * (p is not None and p < 0.05) for d, p in found)])
    title = f"{ours['run']} minus {theirs['run']}: where it is negative, modalities lie closer in the first run"
    note = (
        "* p < 0.05, permutation of seeds, uncorrected" if tested else "not tested: that takes four seeds of each run"
    )
    return f"{title}\n\n{tables.markdown(['stage', 'pair', *MEASURES.values()], cells)}\n\n{note}\n"


def _names(row: Mapping[str, Any]) -> list[str]:
    return [row["stage"], f"{row['first']} – {row['second']}"]


def command(options: argparse.Namespace) -> None:
    """Measure, compare and print."""
    if importlib.util.find_spec("sklearn") is None:
        raise UserError("scikit-learn is not installed. Install the extra `report`: pip install 'ariigcn-jax[report]'")
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
