"""What a trained model still scores when modalities are missing:

    python -m tools.robustness runs/seed3
    python -m tools.robustness runs/full runs/no_dropout --draws=10

Shares of the (utterance, modality) entries of the test split are removed at random, each utterance keeping at least one
of its modalities; then each modality is removed altogether, and each is left alone. Masks come from fixed numbers and
are the same for every seed and run; a mask of a larger share removes what one of a smaller share removed. Each run gets
robustness.md, .csv, .json and .png: the mean over masks, then mean ± std over the run's seeds.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from tqdm import tqdm

from ariigcn_jax.files import json_safe, write_atomically
from ariigcn_jax.inference import model as inference
from ariigcn_jax.inference import prediction
from ariigcn_jax.inference.model import TrainedModel
from ariigcn_jax.objective import tasks
from ariigcn_jax.runs import compilation, figures, results, tables
from ariigcn_jax.types import Batch, Corpus, Modality, UserError
from experiments.command import call
from tools.command import as_read, parser, seeds

STEM = "robustness"
SHARES = tuple(k / 10 for k in range(8))  # of the entries, as this field reports them
DRAWS = 5
Masks = dict[Modality, np.ndarray]


def missing(present: Mapping[Modality, np.ndarray], share: float, draw: int) -> Masks:
    """What is left when entries are missing at random.

    Args:
      present: modality -> [U] bool, what there is.
      share: of the entries that there are, to be removed; where that would leave utterances with nothing, fewer are.
      draw: number of the mask; the same number removes more for a larger share.

    Returns:
      modality -> [U] bool. Each utterance keeps one of its modalities, any with the same probability; the missing
      entries are drawn from the others without replacement, exactly as many as asked for.
    """
    there = np.stack([*present.values()], axis=1)
    random = np.random.default_rng(draw)
    rank = random.random(there.shape)
    kept = np.where(there, rank, np.inf).argmin(axis=1)
    loose = there.copy()
    loose[np.arange(len(there)), kept] = False
    candidates = random.permutation(np.flatnonzero(loose))
    left = there.copy()
    left.reshape(-1)[candidates[: round(share * there.sum())]] = False
    return dict(zip(present, left.T, strict=True))


def conditions(present: Mapping[Modality, np.ndarray], draws: int) -> dict[str, list[Masks]]:
    """Name -> masks: the shares that can be reached, each modality gone, each alone.

    Raises:
      UserError: there is one modality, whose absence leaves nothing.
    """
    names = list(present)
    if len(names) < 2:
        raise UserError(f"The run has one modality, {names[0]}: without it there is nothing to predict from.")
    found: dict[str, list[Masks]] = {}
    least = np.inf
    for share in SHARES:
        masks = [missing(present, share, draw) for draw in range(draws if share else 1)]
        left = sum(int(x.sum()) for x in masks[0].values())
        if left < least:  # a larger share than can be missing leaves as many as the one before
            entries = sum(int(x.sum()) for x in present.values())
            reached = abs(entries * (1 - share) - left) <= 1  # else each utterance keeps the one that it has left
            found[f"{share if reached else 1 - left / entries:.0%} missing"] = masks
        least = left
    nothing = {m: np.zeros_like(x) for m, x in present.items()}
    if len(names) > 2:
        found |= {f"without {m}": [{**present, m: nothing[m]}] for m in names}
    return found | {f"only {m}": [{**nothing, m: present[m]}] for m in names}


def answers(model: TrainedModel) -> Callable[[Any, Any], jax.Array]:
    """A compiled function (parameters of any seed of the run, batch) -> probabilities or scores [R, L, O]."""
    lean = model.model.clone(generate=False, contrast=False, ratings=0)
    network, read = prediction.forward(lean, model.task, model.members), tasks.get(model.task).decode

    def answer(params: Any, batch: Batch) -> jax.Array:
        return read(network(params, batch).logits)

    return jax.jit(answer)


def scores(corpus: Corpus, found: np.ndarray) -> dict[str, float]:
    """The task's metrics of answers [U, O] on a corpus in the model's form; utterances without a label do not count."""
    task, known = tasks.get(corpus.task), corpus.label >= 0
    if task.overall is not None and corpus.target is not None:
        every: Mapping[str, Any] = task.overall(found[known], corpus.target[known])
    else:
        counts = np.zeros((corpus.num_classes, corpus.num_classes), np.int32)
        np.add.at(counts, (corpus.label[known], found[known].argmax(axis=1)), 1)
        every = task.by_class(counts)
    return {name: float(every[name]) for name in task.metrics}


def measure(run: Path, split: str, draws: int) -> dict[str, Any]:
    """Evaluates every seed of a run under every condition.

    Args:
      run: the work directory.
      split: whose conversations.
      draws: masks for each share.

    Returns:
      The content of robustness.json: run, split, modalities, seeds, draws, select, and rows: condition, missing (share
      of the entries), masks, scores (metric -> mean, std, per_seed) and between_masks (metric -> std over masks, the
      mean over seeds).

    Raises:
      UserError: the run or its corpus cannot be read, or there is nothing to measure.
    """
    models = [inference.load(run, seed=seed) for seed in seeds(inference.load(run))]
    first = models[0]
    corpus = as_read(first, split)
    corpus = dataclasses.replace(  # what the model does not know is no modality here
        corpus,
        features={m: corpus.features[m] for m in first.modalities if m in corpus.features},
        present={m: corpus.present[m] for m in first.modalities if m in corpus.features},
    )
    if not (first.prepare(corpus).label >= 0).any():
        raise UserError(f"{run}: no utterance of the {split} split has a label of the model. Choose another --split.")
    answer, entries, rows = answers(first), sum(int(x.sum()) for x in corpus.present.values()), []
    for name, masks in tqdm(conditions(corpus.present, draws).items(), desc=str(run), unit="condition"):
        by_mask = [_over_seeds(models, answer, corpus, mask) for mask in masks]
        by_seed = [{m: float(np.mean([d[s][m] for d in by_mask])) for m in by_mask[0][s]} for s in range(len(models))]
        spread = {m: np.mean([np.std([d[s][m] for d in by_mask]) for s in range(len(models))]) for m in by_seed[0]}
        left = sum(int(x.sum()) for x in masks[0].values())
        row = {"condition": name, "missing": 1 - left / entries, "masks": len(masks)}
        rows.append(row | {"scores": results.summarise(by_seed), "between_masks": spread})
    return json_safe(
        {
            "run": str(run),
            "experiment": first.config.experiment,
            "split": split,
            "task": first.task,
            "modalities": list(corpus.present),
            "seeds": [model.seed for model in models],
            "draws": draws,
            "select": first.config.eval.select,
            "rows": rows,
        }
    )


def _over_seeds(
    models: Sequence[TrainedModel], answer: Callable[[Any, Any], jax.Array], corpus: Corpus, mask: Masks
) -> list[dict[str, float]]:
    """Each seed's scores on a corpus, as read, of which the mask is left; nothing is compiled anew for another mask."""
    prepared = models[0].prepare(dataclasses.replace(corpus, present=mask, features=_masked(corpus, mask)))
    batches = list(models[0].batches(prepared))
    found = []
    for model in models:
        values = np.zeros((len(prepared), len(prepared.output_names)))
        for batch in batches:
            real = batch.utterance >= 0
            values[batch.utterance[real]] = np.asarray(answer(model.params, batch))[real]
        found.append(scores(prepared, values))
    return found


def _masked(corpus: Corpus, mask: Masks) -> dict[Modality, np.ndarray]:
    return {m: np.where(mask[m][:, None], x, np.float32(0)) for m, x in corpus.features.items()}


def table(content: Mapping[str, Any]) -> str:
    """The conditions as Markdown, and what the numbers are."""
    select, task = content["select"], tasks.get(content["task"])
    names = [select, *(name for name in task.compared if name != select)]
    whole = content["rows"][0]["scores"][select]["mean"]
    cells = [
        [
            row["condition"],
            f"{100 * row['missing']:.1f}",
            results.number(row["scores"][select], select),
            tasks.difference(select, row["scores"][select]["mean"] - whole, None, None)[0],
            *(results.number(row["scores"][name], name) for name in names[1:]),
        ]
        for row in content["rows"]
    ]
    titles = [task.metrics[name].title for name in names]
    header = [content["split"], "entries missing, %", titles[0], "Δ", *titles[1:]]
    return (
        f"{tables.markdown(header, cells)}\n\n{content['experiment']}: mean ± std of {len(content['seeds'])} seed(s), "
        f"{results.unit(task)}, of {content['draws']} mask(s) for each share. Δ: from nothing missing, in "
        f"{tasks.difference_unit(select)}. At random each utterance keeps at least one of its modalities "
        f"({', '.join(content['modalities'])}), so that larger shares may not be reached.\n"
    )


def write(run: Path, content: Mapping[str, Any]) -> str:
    """Writes the four files into a run's folder; returns the table."""
    text, task = table(content), tasks.get(content["task"])
    lines = [
        [row["condition"], row["missing"], row["masks"], name, seed, value]
        for row in content["rows"]
        for name, summary in row["scores"].items()
        for seed, value in zip(content["seeds"], summary["per_seed"], strict=True)
    ]
    columns = ["condition", "missing", "masks", "score", "seed", "value"]
    at_random = [row for row in content["rows"] if row["condition"].endswith(" missing")]
    names = dict.fromkeys((content["select"], *task.headline))
    picture = figures.value_curves(
        [100 * row["missing"] for row in at_random],
        {  # the pictures are in percent, and a metric that is no share is shown as it is
            task.metrics[name].title: task.metrics[name].scale
            / 100
            * np.array([row["scores"][name]["per_seed"] for row in at_random])
            for name in names
        },
        "entries missing at random, %",
        f"{content['experiment']}: {content['split']}, {len(content['seeds'])} seed(s), {results.unit(task)}",
    )
    for ending, made in (
        ("md", text.encode()),
        ("csv", tables.comma_separated(columns, lines).encode()),
        ("png", picture),
        ("json", (json.dumps(content, indent=1) + "\n").encode()),
    ):
        write_atomically(run / f"{STEM}.{ending}", made)
    return text


def command(options: argparse.Namespace) -> None:
    """Measures, writes and prints."""
    if options.draws < 1:
        raise UserError(f"--draws={options.draws}: at least one mask is needed.")
    compilation.enable()
    for run in options.runs:
        inference.load(run)  # a wrong name is said before anything is computed
    for run in options.runs:
        print(f"\n{write(run, measure(run, options.split, options.draws))}")
        print(f"{run}: {STEM}.md, .csv, .json and .png are there.")


def arguments() -> argparse.ArgumentParser:
    """The command line."""
    made = parser(__doc__, "test")
    made.add_argument("--draws", type=int, default=DRAWS, help=f"masks for each share (default: {DRAWS})")
    return made


if __name__ == "__main__":
    sys.exit(call(command, arguments(), sys.argv[1:]))
