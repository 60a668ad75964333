"""What a model is trained to say: the head, the loss functions that fit it, the metrics, and how an answer is written.

    classification  one of C classes of emotion, sentiment, humor, sarcasm, …; softmax
    regression      a sentiment in [-3, 3]; one output, as it is
    multilabel      any number of O labels; a sigmoid for each

The network is the same for all of them, but for the number of its outputs. What only knows classes (the contrasts,
pictures of the classes) goes by `Corpus.label`, which `corpus.targets` derives for the other tasks (choice): the level
of a score, one of seven, and the rarest of an utterance's labels.
"""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ariigcn_jax.data.labels import MOST
from ariigcn_jax.data.targets import joined
from ariigcn_jax.objective import metrics
from ariigcn_jax.types import TASK_NAMES, Array, UserError

TINY = 1e-30  # a probability below has the logarithm of this one


class Metric(NamedTuple):
    """How a score is said.

    Attributes:
      title: in tables.
      scale: what its number is multiplied by there: 100 for a percentage, 1 for what is none.
      lower: whether less of it is better.
    """

    title: str
    scale: float = 100.0
    lower: bool = False


@dataclasses.dataclass(frozen=True)
class Task:
    """One kind of thing to predict.

    Attributes:
      losses: slot -> functions of `objective.TERMS` that fit.
      metrics: name -> how it is said; `eval.select` takes one of them.
      headline: the metrics above the table.
      compared: the metrics that studies of many runs compare.
      read: logits [..., O] -> probabilities, or values [..., O].
      unread: the inverse of `read`, for classes up to a constant.
      count: (logits [R, L, O], label [R, L], target [R, L, O] or None, C) -> counts of right and wrong of the labelled
        utterances; they add up.
      by_class: counts -> scores of each class or label, on the host; of a classification all scores.
      overall: (answers [n, O], targets [n, O]) -> the metrics, on the host; None where `by_class` gives them.
    """

    losses: Mapping[str, tuple[str, ...]]
    metrics: Mapping[str, Metric]
    headline: tuple[str, ...]
    compared: tuple[str, ...]
    read: Callable[[Array], Array]
    unread: Callable[[Array], Array]
    count: Callable[[Array, Array, Array | None, int], Array]
    by_class: Callable[[np.ndarray], dict[str, Any]]
    overall: Callable[[np.ndarray, np.ndarray], dict[str, float]] | None = None

    def scores(self, counts: np.ndarray, answers: np.ndarray, targets: np.ndarray | None) -> dict[str, Any]:
        """Every score of a split as numpy, with the counts under `confusion`."""
        overall = {} if self.overall is None or targets is None else self.overall(answers, targets)
        return {**overall, **self.by_class(counts), "confusion": counts}

    def better(self, metric: str) -> int:
        """1 where more of a metric is better, -1 where less is."""
        return -1 if self.metrics[metric].lower else 1


# --- What the tasks do ------------------------------------------------------------------------------------------------


def _same(x: Array) -> Array:
    return x


def _log(probabilities: Array) -> Array:
    return jnp.log(jnp.maximum(probabilities, TINY))


def _logit(probabilities: Array) -> Array:
    return _log(probabilities) - _log(1 - probabilities)


def _count_classes(logits: Array, label: Array, target: Array | None, num_classes: int) -> Array:
    labelled = (label >= 0).reshape(-1)
    predicted = jnp.argmax(logits, axis=-1).reshape(-1)
    return metrics.confusion(label.reshape(-1), predicted, labelled, num_classes)


def _count_levels(logits: Array, label: Array, target: Array | None, num_classes: int) -> Array:
    """Confusion of the seven levels of the score [7, 7]."""
    predicted = jnp.round(jnp.clip(logits[..., 0], -MOST, MOST)).astype(jnp.int32) + MOST
    return metrics.confusion(label, predicted, label >= 0, num_classes)


def _count_labels(logits: Array, label: Array, target: Array | None, num_classes: int) -> Array:
    assert target is not None
    return metrics.confusion_by_label(target, logits > 0, label >= 0)


_class_scores = jax.jit(metrics.scores)


def class_scores(confusion: np.ndarray) -> dict[str, Any]:
    """`metrics.scores` of a confusion matrix [C, C] as numpy."""
    with jax.default_device(jax.local_devices(backend="cpu")[0]):
        return {name: np.asarray(value) for name, value in _class_scores(jnp.asarray(confusion)).items()}


def _level_scores(confusion: np.ndarray) -> dict[str, Any]:
    found = class_scores(confusion)
    return {name: found[name] for name in ("class_accuracy", "class_f1", "support")}


def _sentiment_scores(answers: np.ndarray, targets: np.ndarray) -> dict[str, float]:
    return metrics.sentiment_scores(answers[:, 0], targets[:, 0])


# --- The table of tasks -----------------------------------------------------------------------------------------------

CLASSIFICATION = Task(
    losses={"emotion": ("cross_entropy", "weighted_cross_entropy", "focal"), "unimodal": ("cross_entropy",)},
    metrics={
        "weighted_f1": Metric("weighted F1"),
        "accuracy": Metric("accuracy"),
        "weighted_accuracy": Metric("weighted accuracy (= accuracy)"),
        "unweighted_accuracy": Metric("unweighted accuracy"),
        "macro_f1": Metric("macro F1"),
    },
    headline=("weighted_f1", "accuracy"),
    compared=("weighted_f1", "accuracy", "macro_f1", "unweighted_accuracy"),
    read=jax.nn.softmax,
    unread=_log,
    count=_count_classes,
    by_class=class_scores,
)
REGRESSION = Task(
    losses={"emotion": ("l1", "mse", "huber"), "unimodal": ("l1", "mse", "huber")},
    metrics={
        "mae": Metric("mean absolute error", 1.0, lower=True),
        "correlation": Metric("correlation", 1.0),
        "accuracy_7": Metric("accuracy of 7 levels"),
        "accuracy_5": Metric("accuracy of 5 levels"),
        "accuracy_2": Metric("accuracy, positive / negative"),
        "f1_2": Metric("F1, positive / negative"),
        "accuracy_2_with_zero": Metric("accuracy, not negative / negative"),
        "f1_2_with_zero": Metric("F1, not negative / negative"),
    },
    headline=("mae", "correlation", "accuracy_7"),
    compared=("mae", "correlation", "accuracy_7", "accuracy_2", "f1_2"),
    read=_same,
    unread=_same,
    count=_count_levels,
    by_class=_level_scores,
    overall=_sentiment_scores,
)
MULTILABEL = Task(
    losses={"emotion": ("bce",), "unimodal": ("bce",)},
    metrics={
        "micro_f1": Metric("micro F1"),
        "macro_f1": Metric("macro F1"),
        "weighted_f1": Metric("weighted F1"),
        "hamming_accuracy": Metric("Hamming accuracy"),
        "exact_accuracy": Metric("all labels right"),
    },
    headline=("micro_f1", "macro_f1"),
    compared=("micro_f1", "macro_f1", "weighted_f1", "hamming_accuracy"),
    read=jax.nn.sigmoid,
    unread=_logit,
    count=_count_labels,
    by_class=metrics.scores_of_labels,
    overall=metrics.multilabel_scores,
)
TASKS = dict(zip(TASK_NAMES, (CLASSIFICATION, REGRESSION, MULTILABEL), strict=True))
METRICS = {name: metric for task in TASKS.values() for name, metric in task.metrics.items()}
BY_CLASS = ("class_accuracy", "class_f1", "support")


def get(name: str) -> Task:
    """The task of a name.

    Raises:
      UserError: there is none of this name.
    """
    if name not in TASKS:
        raise UserError(f"data.task={name!r} is no task. {_suggest(name, TASKS)}")
    return TASKS[name]


def check(name: str, losses: Mapping[str, Mapping[str, Any]], select: str) -> None:
    """Holds a config's losses and metric against its task.

    Args:
      name: of the task.
      losses: slot -> options, as for `objective.build`.
      select: metric that chooses the epoch.

    Raises:
      UserError: there is no such task, a loss is another task's, or the metric is none of this one's.
    """
    task = get(name)
    for slot, fit in task.losses.items():
        function = losses[slot]["fn"]
        others = {f for other in TASKS.values() for f in other.losses[slot]}
        if function in others - {*fit} and losses[slot]["weight"]:
            raise UserError(
                f"losses.{slot}.fn={function} does not fit data.task={name}: choose {' or '.join(fit)}. The name "
                f"task_{name} behind the configuration's file, as in experiments/own.py:task_{name}, chooses loss and "
                "metric together."
            )
    if select not in task.metrics:
        raise UserError(f"eval.select={select!r} is no metric of data.task={name}. {_suggest(select, task.metrics)}")


def _suggest(word: str, known: Mapping[str, Any]) -> str:
    close = difflib.get_close_matches(word, known, 1)
    return f"{f'Did you mean {close[0]!r}? ' if close else ''}Known: {', '.join(known)}."


# --- Words ------------------------------------------------------------------------------------------------------------


def shown(metric: str, mean: float, std: float | None = None) -> str:
    """A score for people: `64.12 ± 0.31` percent, `0.712 ± 0.004` for what is no percentage; a dash for NaN."""
    if mean is None or np.isnan(mean):
        return "–"
    scale = METRICS[metric].scale if metric in METRICS else 100.0
    digits = 2 if scale == 100 else 3
    return f"{scale * mean:.{digits}f}" + ("" if std is None else f" ± {scale * std:.{digits}f}")


def difference(metric: str, mean: float, low: float | None, high: float | None) -> list[str]:
    """A difference of scores and its interval in points, `+1.20` and `+0.40 to +2.10`, or in the unit of a metric that
    is no percentage; without an interval a dash."""
    scale = METRICS[metric].scale if metric in METRICS else 100.0
    ends = [mean if x is None else x for x in (low, high)]
    words = [f"{scale * x:+.{2 if scale == 100 else 3}f}".replace("-", "−") for x in (mean, *ends)]
    there = low is not None and not np.isnan(low)
    return [words[0], f"{words[1]} to {words[2]}" if there else "–"]


def difference_unit(metric: str) -> str:
    """What a difference of scores is in."""
    return "points" if metric not in METRICS or METRICS[metric].scale == 100 else "the metric's unit"


def said(task: str, names: Sequence[str], answer: np.ndarray) -> str:
    """An answer, or a truth, in words: a class, a score with six significant digits, or labels.

    Args:
      task: its name.
      names: O names.
      answer: [O], as `Task.read` gives it; or a target.
    """
    if task == "regression":
        return f"{float(answer[0]):.6g}"
    if task == "multilabel":
        return joined(answer, names)
    return names[int(answer.argmax())]


def brief(task: str, words: str) -> str:
    """What `said` gave, for a terminal: a score has three digits after the point."""
    return f"{float(words):.3f}" if task == "regression" else words


def decisions(task: str, answers: np.ndarray, label: np.ndarray, targets: np.ndarray | None) -> tuple[np.ndarray, ...]:
    """What calibration is about: probabilities [n', C'] of exclusive cases, and which case is true [n'].

    Args:
      task: one with probabilities; of several labels each is a decision of its own between two cases.
      answers: [n, O].
      label: [n] int, negative where there is no truth.
      targets: [n, O], or None for classes.
    """
    if task != "multilabel" or targets is None:
        return answers, label
    truth = np.where(label[:, None] >= 0, np.asarray(targets), -1).astype(np.int64)
    return np.stack([1 - answers, answers], axis=-1).reshape(-1, 2), truth.reshape(-1)
