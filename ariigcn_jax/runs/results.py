"""Results of a run: `results.json`, a table, and predictions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ariigcn_jax.files import write_atomically
from ariigcn_jax.objective import tasks
from ariigcn_jax.objective.tasks import BY_CLASS, Task
from ariigcn_jax.runs import tables
from ariigcn_jax.types import UNLABELED, Corpus

MEAN, POOLED = "mean of folds", "all utterances"  # rows of folds.json beside its folds
BEST_TEST_NOTE = (
    "Epoch chosen on the test split itself: optimistic, and only for comparison with papers that choose it so."
)

ENOUGH = 100  # labelled utterances of a split, whose accuracy is known to about 10 points


def summarise(per_seed_scores: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Return mean and spread over S seeds, elementwise, of metric -> a number or an array [...].

    Returns:
      metric -> `mean` and `std` [...] (of the sample, ddof 1; 0 for one seed) and `per_seed` [S, ...].
    """
    summary = {}
    for name in per_seed_scores[0]:
        values = np.stack([np.asarray(scores[name], np.float64) for scores in per_seed_scores])
        std = values.std(axis=0, ddof=1) if len(values) > 1 else np.zeros(values.shape[1:])
        summary[name] = {"mean": values.mean(axis=0).tolist(), "std": std.tolist(), "per_seed": values.tolist()}
    return summary


def results(
    about: Mapping[str, Any],
    valid: Sequence[Mapping[str, Any]],
    test: Sequence[Mapping[str, Any]] | None,
    seconds: Mapping[str, float],
    best_test: tuple[Sequence[int], Sequence[Mapping[str, Any]]] | None = None,
) -> dict[str, Any]:
    """Return the content of results.json: plain lists, numbers and text.

    Args:
      about: `experiment`, `task`, `label_names` (C names; of the levels of a score; O of several labels), `seeds`,
        `members`, `cross_validation`, `select`, `epoch` ("best" or "last") and `selected_epochs` [S].
      valid: of each seed, `Task.scores` of the validation split at the chosen epoch, with `confusion` [C, C]
        (of several labels [O, 2, 2]).
      test: the same of the test split; None if it was not read.
      seconds: durations: total, epoch_mean, compile, …
      best_test: [S] epochs that are best on the test split, and the same as `test` at these.

    Returns:
      `about`, `test` and `valid` (metric -> mean, std, per_seed; `confusion` [S, C, C]), `seconds`, `best_test_epoch`.
    """
    names = (*tasks.get(about["task"]).metrics, *BY_CLASS)
    content = {
        **about,
        **({} if test is None else {"test": _split_block(test, names)}),
        "valid": _split_block(valid, names),
        "seconds": {name: float(value) for name, value in seconds.items()},
    }
    if best_test is not None:
        epochs, scores = best_test
        content["best_test_epoch"] = {"note": BEST_TEST_NOTE, "epochs": epochs, "test": _split_block(scores, names)}
    return content


def which_epoch(results: Mapping[str, Any]) -> str:
    """Return how the epoch of the scores was chosen, in words."""
    return "last epoch" if results.get("epoch") == "last" else "epoch chosen on validation"


def reported_split(results: Mapping[str, Any]) -> str:
    """Return the split of the headline: "test", or "valid" if the test split was not read."""
    return "test" if "test" in results else "valid"


def task_of(results: Mapping[str, Any]) -> Task:
    """Return the task of a run; classification if results.json has none."""
    return tasks.get(results.get("task", "classification"))


def table(results: Mapping[str, Any]) -> str:
    """Return results.json as Markdown: a headline, a table of scores, one of classes, and notes on how to read them."""
    split, names, seeds = reported_split(results), results["label_names"], results["seeds"]
    reported, task = results[split], task_of(results)
    how = f"mean ± std of {len(seeds)} seeds" if len(seeds) > 1 else f"seed {seeds[0]}"
    if results.get("members", 1) > 1:
        how += f", each the average of {results['members']} models"
        how += "; valid: of the one that left the utterance out" if results.get("cross_validation") else ""
    score = ", ".join(f"{task.metrics[name].title} {number(reported[name], name)}" for name in task.headline)
    columns = {split: reported, "valid": results["valid"]}
    if "best_test_epoch" in results:
        columns["best test epoch (*)"] = results["best_test_epoch"]["test"]
    rows = [[m.title, *(number(block[name], name) for block in columns.values())] for name, m in task.metrics.items()]
    classes = [
        [
            name,
            *(_percent(reported[m], c) for m in ("class_accuracy", "class_f1")),
            f"{reported['support']['mean'][c]:g}",
        ]
        for c, name in enumerate(names)
    ]
    by = "" if results.get("epoch") == "last" else f"chosen by {results['select']}, "
    first, last = min(results["selected_epochs"]), max(results["selected_epochs"])
    epochs = f"epoch {first}" if first == last else f"epochs {first}–{last}"
    parts = [
        f"# {results['experiment']}",
        f"**{split}, {which_epoch(results)}: {score}** ({how}, {unit(task)}; {by}{epochs})",
        tables.markdown(["score", *columns], rows),
        tables.markdown([f"class, on {split}", "accuracy", "F1", "support"], classes),
    ]
    if few := caution(results):
        parts.append(few)
    if "best_test_epoch" in results:
        parts.append(f"(*) {results['best_test_epoch']['note']}")
    return "\n\n".join(parts) + "\n"


def caution(results: Mapping[str, Any]) -> str:
    """Say how little the scores of a small split say; "" for a split of `ENOUGH` utterances, and for other tasks."""
    split = reported_split(results)
    number = round(sum(results[split]["support"]["mean"]))
    if results.get("task", "classification") != "classification" or not 0 < number < ENOUGH:
        return ""
    by_chance = 98 / np.sqrt(number)  # half the width of a 95 % interval around 50 %
    counted = f"{number} labelled utterance{'s' if number > 1 else ''}"
    return (
        f"These scores say little: {split} has {counted}, and chance alone moves an accuracy on so few by up to "
        f"{min(by_chance, 100):.0f} points either way. `python -m experiments.folds` measures on every conversation."
    )


def predictions_rows(corpus: Corpus, utterance: np.ndarray, probabilities: np.ndarray) -> Iterator[list[Any]]:
    """Yield the rows of a predictions file: its header, then one row an utterance in the order of the corpus.

    `probabilities` [..., O] are of classes or labels, or scores, for `utterance` [...], negative at padding.
    """
    names, task = corpus.output_names, tasks.get(corpus.task)
    shown = names if task.probabilistic else ()
    utterance = np.asarray(utterance).reshape(-1)
    probabilities = np.asarray(probabilities, np.float64).reshape(len(utterance), len(names))
    speakers, splits = corpus.speaker if corpus.speaker_names is None else corpus.speaker_names, corpus.answered_as
    yield ["split", "dialogue_id", "utterance_id", "speaker", "label", "prediction", *(f"p_{name}" for name in shown)]
    order = np.argsort(utterance, kind="stable")
    for u, p in zip(utterance[order], probabilities[order], strict=True):
        if u >= 0:
            where = [splits[u], corpus.dialogue_ids[corpus.dialogue[u]], corpus.utterance_ids[u], speakers[u]]
            yield [*where, truth(corpus, u) or "", task.words(p, names), *(f"{x:.6f}" for x in p[: len(shown)])]


def truth(corpus: Corpus, u: int) -> str | None:
    """Return an utterance's label in words; None if it has none."""
    label = int(corpus.label[u])
    if label == UNLABELED:
        return None
    if corpus.target is None:
        return corpus.label_names[label]
    return tasks.get(corpus.task).words(corpus.target[u], corpus.target_names)


def write_predictions(path: str | Path, corpus: Corpus, utterance: np.ndarray, probabilities: np.ndarray) -> Path:
    """Write `predictions_rows` of one seed as CSV (RFC 4180, UTF-8), atomically, and return the path."""
    text = tables.comma_separated(predictions_rows(corpus, utterance, probabilities))
    return write_atomically(path, text.encode("utf-8", errors="backslashreplace"))


def _split_block(per_seed: Sequence[Mapping[str, Any]], names: Sequence[str]) -> dict[str, Any]:
    block = summarise([{name: scores[name] for name in names} for scores in per_seed])
    return {**block, "confusion": [np.asarray(scores["confusion"]).tolist() for scores in per_seed]}


def number(summary: Mapping[str, Any], metric: str) -> str:
    """Return `64.12 ± 0.31` for a metric's `summarise`, in its unit; without the spread for one seed."""
    return tasks.shown(metric, summary["mean"], summary["std"] if len(summary["per_seed"]) > 1 else None)


def unit(task: Task) -> str:
    """Return the unit of a table of a task's metrics."""
    return "in %" if all(m.scale == 100 for m in task.metrics.values()) else "shares in %"


def _percent(summary: Mapping[str, Any], index: int) -> str:
    """Return `64.12 ± 0.31` for element `index` of a vector's `summarise`, without the spread for one seed."""
    mean, std = (summary[key][index] for key in ("mean", "std"))
    if mean is None or np.isnan(mean):
        return "–"
    return f"{100 * mean:.2f} ± {100 * std:.2f}" if len(summary["per_seed"]) > 1 else f"{100 * mean:.2f}"
