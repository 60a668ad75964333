"""Results of a run: `results.json` for machines, a table for people, predictions for error analysis."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ariigcn_jax.files import write_atomically
from ariigcn_jax.objective import tasks
from ariigcn_jax.objective.tasks import BY_CLASS, Task
from ariigcn_jax.runs import tables
from ariigcn_jax.types import UNLABELED, Corpus

BEST_TEST_NOTE = (
    "Epoch chosen on the test split itself: optimistic, and only for comparison with papers that choose it so."
)


def summarise(per_seed_scores: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Return mean and spread over seeds, elementwise.

    Args:
      per_seed_scores: for each of the S seeds, metric -> a number or an array [...], the same shape for every seed.

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
    *,
    experiment: str,
    label_names: Sequence[str],
    seeds: Sequence[int],
    select: str,
    selected_epochs: Sequence[int],
    valid: Sequence[Mapping[str, Any]],
    test: Sequence[Mapping[str, Any]] | None,
    seconds: Mapping[str, float],
    best_test: Sequence[Mapping[str, Any]] | None = None,
    best_test_epochs: Sequence[int] | None = None,
    task: str = "classification",
    epoch: str = "best",
    members: int = 1,
    cross_validation: bool = False,
) -> dict[str, Any]:
    """Return the content of results.json.

    Args:
      experiment: its name.
      label_names: C names; of the levels of a score; O of several labels.
      seeds: S seeds.
      select: metric by which the epoch was chosen on validation, unless it is the last one.
      selected_epochs: S epochs, the one chosen for each seed.
      valid: for each seed, `Task.scores` of the validation split at the chosen epoch, among them `confusion` [C, C] (of
        several labels [O, 2, 2]).
      test: the same for the test split, from the same epoch; None where it was left unread.
      seconds: what took how long: total, epoch_mean, compile, …
      best_test: the same for the test split at the epoch that is best there; None leaves the block out.
      best_test_epochs: S epochs, those of `best_test`.
      task: a key of `tasks.TASKS`.
      epoch: how the epoch was chosen, "best" or "last".
      members: models of a seed whose answers were averaged.
      cross_validation: whether each of them left out another part of the corpus, on which it alone was validated.

    Returns:
      Plain lists, numbers and text under `experiment`, `task`, `label_names`, `seeds`, `members`, `cross_validation`,
      `select`, `epoch`, `selected_epochs`, `test`, `valid` (each metric -> mean, std, per_seed; `confusion` [S, C, C]),
      `seconds` and, if given, `best_test_epoch`.
    """
    names = (*tasks.get(task).metrics, *BY_CLASS)
    content = {
        "experiment": experiment,
        "task": task,
        "label_names": list(label_names),
        "seeds": [int(seed) for seed in seeds],
        "members": members,
        "cross_validation": cross_validation,
        "select": select,
        "epoch": epoch,
        "selected_epochs": [int(epoch) for epoch in selected_epochs],
        **({} if test is None else {"test": _split_block(test, names)}),
        "valid": _split_block(valid, names),
        "seconds": {name: float(value) for name, value in seconds.items()},
    }
    if best_test is not None:
        epochs = [int(epoch) for epoch in best_test_epochs or ()]
        content["best_test_epoch"] = {"note": BEST_TEST_NOTE, "epochs": epochs, "test": _split_block(best_test, names)}
    return content


def which_epoch(results: Mapping[str, Any]) -> str:
    """Return the epoch that scores are of, in words."""
    return "last epoch" if results.get("epoch") == "last" else "epoch chosen on validation"


def reported_split(results: Mapping[str, Any]) -> str:
    """Return the split of the headline: "test", or "valid" where the test split was left unread."""
    return "test" if "test" in results else "valid"


def task_of(results: Mapping[str, Any]) -> Task:
    """Return the task of a run; classification where results.json does not say."""
    return tasks.get(results.get("task", "classification"))


def table(results: Mapping[str, Any]) -> str:
    """Return the results as Markdown that reads well in a terminal too; scores in percent where they are shares.

    Args:
      results: what `results` returns, or results.json as read again.

    Returns:
      A headline, a table of the scores, one of the classes, and a note where a column was chosen on test.
    """
    split, names = reported_split(results), results["label_names"]
    reported, task = results[split], task_of(results)
    num_seeds = len(results["seeds"])
    how = f"mean ± std of {num_seeds} seeds" if num_seeds > 1 else f"seed {results['seeds'][0]}"
    if results.get("members", 1) > 1:
        answering = "the one that left the utterance out" if results.get("cross_validation") else ""
        how += f", each the average of {results['members']} models" + (f"; valid: of {answering}" if answering else "")
    score = ", ".join(f"{task.metrics[name].title} {_number(reported, name)}" for name in task.headline)
    columns = {split: reported, "valid": results["valid"]}
    if "best_test_epoch" in results:
        columns["best test epoch (*)"] = results["best_test_epoch"]["test"]
    rows = [[m.title, *(_number(block, name) for block in columns.values())] for name, m in task.metrics.items()]
    classes = [_class_row(reported, index, name) for index, name in enumerate(names)]
    by = "" if results.get("epoch") == "last" else f"chosen by {results['select']}, "
    parts = [
        f"# {results['experiment']}",
        f"**{split}, {which_epoch(results)}: {score}** ({how}, {unit(task)}; {by}{_epochs(results)})",
        tables.markdown(["score", *columns], rows),
        tables.markdown([f"class, on {split}", "accuracy", "F1", "support"], classes),
    ]
    if "best_test_epoch" in results:
        parts.append(f"(*) {results['best_test_epoch']['note']}")
    return "\n\n".join(parts) + "\n"


def predictions_rows(corpus: Corpus, utterance: np.ndarray, probabilities: np.ndarray) -> Iterator[list[Any]]:
    """Yield the rows of a predictions file: its header, then one row an utterance in the order of the corpus.

    Args:
      corpus: where the utterances come from.
      utterance: [...] int, index of the utterance in the corpus; negative at padding, which is left out.
      probabilities: [..., O], of the classes or labels; or scores.

    Yields:
      split, dialogue_id, utterance_id, speaker, label ("" where unlabeled), prediction, and the probabilities, if any.
    """
    names, task = corpus.output_names, tasks.get(corpus.task)
    shown = names if task.probabilistic else ()
    utterance = np.asarray(utterance).reshape(-1)
    probabilities = np.asarray(probabilities, np.float64).reshape(len(utterance), len(names))
    speakers = corpus.speaker if corpus.speaker_names is None else corpus.speaker_names
    yield ["split", "dialogue_id", "utterance_id", "speaker", "label", "prediction", *(f"p_{name}" for name in shown)]
    order = np.argsort(utterance, kind="stable")
    for u, p in zip(utterance[order], probabilities[order], strict=True):
        if u >= 0:
            who = [corpus.split[u], corpus.dialogue_ids[corpus.dialogue[u]], corpus.utterance_ids[u], speakers[u]]
            yield [
                *who,
                truth(corpus, u) or "",
                task.words(p, names),
                *(f"{x:.6f}" for x in p[: len(shown)]),
            ]


def truth(corpus: Corpus, u: int) -> str | None:
    """Return an utterance's label in words; None where there is none."""
    label = int(corpus.label[u])
    if label == UNLABELED:
        return None
    if corpus.target is None:
        return corpus.label_names[label]
    return tasks.get(corpus.task).words(corpus.target[u], corpus.target_names)


def write_predictions(path: str | Path, corpus: Corpus, utterance: np.ndarray, probabilities: np.ndarray) -> Path:
    """Write the predictions of one seed as CSV (RFC 4180, UTF-8), atomically.

    Args:
      path: the file, one for each seed.
      corpus: where the utterances come from.
      utterance: [...] int, index of the utterance in the corpus; negative at padding, which is left out.
      probabilities: [..., O], of the classes or labels; or scores.

    Returns:
      The file's path.
    """
    text = io.StringIO(newline="")
    csv.writer(text).writerows(predictions_rows(corpus, utterance, probabilities))
    return write_atomically(path, text.getvalue().encode("utf-8", errors="backslashreplace"))


def _split_block(per_seed: Sequence[Mapping[str, Any]], names: Sequence[str]) -> dict[str, Any]:
    block = summarise([{name: scores[name] for name in names} for scores in per_seed])
    return {**block, "confusion": [np.asarray(scores["confusion"]).tolist() for scores in per_seed]}


def number(summary: Mapping[str, Any], metric: str) -> str:
    """Return `64.12 ± 0.31` of what `summarise` gives of a metric, in its unit; without the spread for one seed."""
    return tasks.shown(metric, summary["mean"], summary["std"] if len(summary["per_seed"]) > 1 else None)


def _number(block: Mapping[str, Any], metric: str) -> str:
    return number(block[metric], metric)


def unit(task: Task) -> str:
    """Return the unit of a table of a task's metrics."""
    return "in %" if all(m.scale == 100 for m in task.metrics.values()) else "shares in %"


def _percent(summary: Mapping[str, Any], index: int | None = None) -> str:
    """Return `64.12 ± 0.31`, without the spread for one seed; of element `index` for a vector."""
    mean, std = (summary[key] if index is None else summary[key][index] for key in ("mean", "std"))
    if mean is None or np.isnan(mean):
        return "–"
    return f"{100 * mean:.2f} ± {100 * std:.2f}" if len(summary["per_seed"]) > 1 else f"{100 * mean:.2f}"


def _class_row(block: Mapping[str, Any], index: int, name: str) -> list[str]:
    scores = [_percent(block[metric], index) for metric in ("class_accuracy", "class_f1")]
    return [name, *scores, f"{block['support']['mean'][index]:g}"]


def _epochs(results: Mapping[str, Any]) -> str:
    first, last = min(results["selected_epochs"]), max(results["selected_epochs"])
    return f"epoch {first}" if first == last else f"epochs {first}–{last}"
