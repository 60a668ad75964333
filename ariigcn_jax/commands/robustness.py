"""Measure what a trained model scores when modalities are missing."""

from __future__ import annotations

import argparse
import dataclasses
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from tqdm import tqdm

from ariigcn_jax.commands.finished import as_read, by_vectors, models
from ariigcn_jax.files import json_safe, write_atomically
from ariigcn_jax.inference import model as inference
from ariigcn_jax.inference import prediction
from ariigcn_jax.objective import tasks
from ariigcn_jax.runs import compilation, figures, results, tables
from ariigcn_jax.types import Corpus, Modality, UserError

STEM = "robustness"
SHARES = tuple(k / 10 for k in range(8))  # of the entries, as is usual in this field
Masks = Mapping[Modality, np.ndarray]  # modality -> [U] bool, whether it is there


def missing(present: Masks, share: float, draw: int) -> Masks:
    """Remove a share in [0, 1] of the entries at random, and return what is left.

    Each utterance keeps one of its modalities, each with the same probability; the removed entries are drawn from the
    others without replacement, exactly as many as asked for while there are any. With the same `draw`, the number of
    the mask, a larger share removes all that a smaller one removes.
    """
    there = np.stack([*present.values()], axis=1)
    random = np.random.default_rng(draw)
    kept = np.where(there, random.random(there.shape), np.inf).argmin(axis=1)
    left, removable = there.copy(), there.copy()
    removable[np.arange(len(there)), kept] = False
    candidates = random.permutation(np.flatnonzero(removable))
    left.reshape(-1)[candidates[: round(share * there.sum())]] = False
    return dict(zip(present, left.T, strict=True))


def _count(present: Masks) -> int:
    return sum(int(x.sum()) for x in present.values())


def conditions(present: Masks, draws: int) -> dict[str, list[Masks]]:
    """Return name -> masks: the shares that can be reached, without each modality, and with each one alone.

    Raises:
      UserError: there is only one modality.
    """
    names = list(present)
    if len(names) < 2:
        raise UserError(f"The run has one modality, {names[0]}: without it, nothing is left to predict from.")
    found: dict[str, list[Masks]] = {}
    entries, least = _count(present), np.inf
    for share in SHARES:
        masks = [missing(present, share, draw) for draw in range(draws if share else 1)]
        left = _count(masks[0])
        if left < least:  # a share that cannot be reached leaves as many as the one before
            reached = abs(entries * (1 - share) - left) <= 1  # otherwise each utterance is down to one modality
            found[f"{share if reached else 1 - left / entries:.0%} missing"] = masks
        least = left
    nothing = {m: np.zeros_like(x) for m, x in present.items()}
    if len(names) > 2:
        found |= {f"without {m}": [{**present, m: nothing[m]}] for m in names}
    return found | {f"only {m}": [{**nothing, m: present[m]}] for m in names}


def answers(model: inference.TrainedModel) -> Callable[[Any, Any], jax.Array]:
    """Return a compiled function (parameters of any seed of the run, batch) -> probabilities or scores [R, L, O]."""
    lean = model.model.clone(further=frozenset())
    network, decode = prediction.forward(lean, model.task, model.members), tasks.get(model.task).decode
    return jax.jit(lambda params, batch: decode(network(params, batch).logits))


def scores(corpus: Corpus, found: np.ndarray) -> dict[str, float]:
    """Return the task's metrics of answers [U, O] on a prepared corpus; utterances without a label do not count."""
    task, known = tasks.get(corpus.task), corpus.label >= 0
    every = {} if corpus.target is None else task.overall(found[known], corpus.target[known])
    if not every:
        counts = np.zeros((corpus.num_classes, corpus.num_classes), np.int32)
        np.add.at(counts, (corpus.label[known], found[known].argmax(axis=1)), 1)
        every = task.by_class(counts)
    return {name: float(every[name]) for name in task.metrics}


def measure(run: Path, split: str, draws: int) -> dict[str, Any]:
    """Evaluate every seed of a run under every condition, with `draws` masks for each share.

    Returns:
      The content of robustness.json: run, experiment, split, task, modalities, seeds, draws, select, and rows with
      condition, missing (share of the entries), masks, scores (metric -> mean, std, per_seed) and between_masks
      (metric -> std over masks, averaged over seeds).

    Raises:
      UserError: the run or its corpus cannot be read, or the split has no label that the model knows.
    """
    of_seeds = models(run)
    first = of_seeds[0]
    corpus = as_read(first, split)
    kept = [m for m in first.modalities if m in corpus.features]
    features, present = {m: corpus.features[m] for m in kept}, {m: corpus.present[m] for m in kept}
    corpus = dataclasses.replace(corpus, features=features, present=present)
    if not (first.prepare(corpus).label >= 0).any():
        raise UserError(f"{run}: no utterance of the {split} split has a label of the model. Choose another --split.")
    answer, rows, groups = answers(first), [], by_vectors(of_seeds, corpus)
    for name, masks in tqdm(conditions(present, draws).items(), desc=str(run), unit="condition"):
        by_mask = [_over_seeds(groups, answer, mask) for mask in masks]
        by_seed = list(zip(*by_mask, strict=True))
        means = [{m: float(np.mean([d[m] for d in of_seed])) for m in of_seed[0]} for of_seed in by_seed]
        spread = {m: np.mean([np.std([d[m] for d in of_seed]) for of_seed in by_seed]) for m in means[0]}
        row = {"condition": name, "missing": 1 - _count(masks[0]) / _count(present), "masks": len(masks)}
        rows.append(row | {"scores": results.summarise(means), "between_masks": spread})
    content = {"run": str(run), "experiment": first.config.experiment, "split": split, "task": first.task}
    content |= {"modalities": kept, "seeds": [model.seed for model in of_seeds], "draws": draws}
    return json_safe(content | {"select": first.config.eval.select, "rows": rows})


def _over_seeds(
    groups: Sequence[tuple[Sequence[inference.TrainedModel], Corpus]],
    answer: Callable[[Any, Any], jax.Array],
    mask: Masks,
) -> list[dict[str, float]]:
    """Return each seed's scores on what a mask leaves of a corpus as read; all masks share one compiled program."""
    found = []
    for same, corpus in groups:
        features = {m: np.where(mask[m][:, None], x, np.float32(0)) for m, x in corpus.features.items()}
        prepared = same[0].prepare(dataclasses.replace(corpus, present=mask, features=features))
        batches = list(same[0].batches(prepared))
        for model in same:
            values = np.zeros((len(prepared), len(prepared.output_names)))
            for batch in batches:
                real = batch.utterance >= 0
                values[batch.utterance[real]] = np.asarray(answer(model.params, batch))[real]
            found.append(scores(prepared, values))
    return found


def table(content: Mapping[str, Any]) -> str:
    """Return the conditions as Markdown, with a note on the numbers."""
    select, task, cells = content["select"], tasks.get(content["task"]), []
    others = [name for name in task.compared if name != select]
    whole = content["rows"][0]["scores"][select]["mean"]
    for row in content["rows"]:
        score, *further = (results.number(row["scores"][name], name) for name in (select, *others))
        change, _ = tasks.difference(select, row["scores"][select]["mean"] - whole, None, None)
        cells.append([row["condition"], f"{100 * row['missing']:.1f}", score, change, *further])
    title, *titles = (task.metrics[name].title for name in (select, *others))
    header = [content["split"], "entries missing, %", title, "Δ", *titles]
    return (
        f"{tables.markdown(header, cells)}\n\n{content['experiment']}: mean ± std of {len(content['seeds'])} seed(s), "
        f"{results.unit(task)}, of {content['draws']} mask(s) for each share. Δ: difference from nothing missing, in "
        f"{tasks.difference_unit(select)}. Each utterance keeps at least one of its modalities "
        f"({', '.join(content['modalities'])}), so large shares may not be reached.\n"
    )


def write(run: Path, content: Mapping[str, Any]) -> str:
    """Write the four files into a run's folder, and return the table."""
    text, task = table(content), tasks.get(content["task"])
    lines = [
        [row["condition"], row["missing"], row["masks"], name, seed, value]
        for row in content["rows"]
        for name, summary in row["scores"].items()
        for seed, value in zip(content["seeds"], summary["per_seed"], strict=True)
    ]
    at_random = [row for row in content["rows"] if row["condition"].endswith(" missing")]
    curves = {}
    for name in (content["select"], *task.headline):
        # the chart multiplies by 100, which is undone for a metric that is not in percent
        scale, values = task.metrics[name].scale / 100, [row["scores"][name]["per_seed"] for row in at_random]
        curves[task.metrics[name].title] = scale * np.array(values)
    title = f"{content['experiment']}: {content['split']}, {len(content['seeds'])} seed(s), {results.unit(task)}"
    shares = [100 * row["missing"] for row in at_random]
    files = {
        "md": text.encode(),
        "csv": tables.comma_separated([["condition", "missing", "masks", "score", "seed", "value"], *lines]).encode(),
        "png": figures.value_curves(shares, curves, "entries missing at random, %", title),
        "json": (json.dumps(content, indent=1) + "\n").encode(),
    }
    for ending, made in files.items():
        write_atomically(run / f"{STEM}.{ending}", made)
    return text


def command(options: argparse.Namespace) -> None:
    """Measure, write and print."""
    if options.draws < 1:
        raise UserError(f"--draws={options.draws}: at least one mask is needed.")
    compilation.enable()
    for run in options.runs:
        inference.load(run)  # a wrong name is reported before anything is computed
    for run in options.runs:
        print(f"\n{write(run, measure(run, options.split, options.draws))}")
        print(f"{run}: wrote {STEM}.md, .csv, .json and .png.")
