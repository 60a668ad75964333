"""Tasks: what a model is trained to answer. A task is one object with its losses, metrics, answers and words.

    classification  one of C classes of emotion, sentiment, humor, sarcasm, …; softmax
    regression      a sentiment in [-3, 3]; one output, unchanged
    multilabel      any number of O labels; a sigmoid for each

Only the number of outputs of the network differs. The contrasts and the pictures of classes use `Corpus.label`, which
`data.targets` derives for the other tasks (choice): the level of a score, one of seven, or an utterance's rarest label.

To add a task: a class here, its entry in TASKS, and an entry of the same name in `data.targets.TARGETS`, which reads
its truth from a file.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ariigcn_jax.analysis import calibration
from ariigcn_jax.data.labels import MOST
from ariigcn_jax.data.targets import joined
from ariigcn_jax.objective import metrics
from ariigcn_jax.objective.terms import TERMS
from ariigcn_jax.rules import suggestion
from ariigcn_jax.types import Array, UserError

TINY = 1e-30  # the least probability that a logarithm is taken of
BY_CLASS = ("class_accuracy", "class_f1", "support")


class Metric(NamedTuple):
    """How a score is written."""

    title: str  # in tables
    scale: float = 100.0  # factor of its number there: 100 for a percentage, else 1
    lower: bool = False  # whether less of it is better


class Task:
    """One kind of thing to predict; a subclass for each. Answers are [..., O]: probabilities, or values."""

    losses: ClassVar[tuple[str, ...]]  # functions of `terms.TERMS` that fit, the default first
    metrics: ClassVar[Mapping[str, Metric]]  # name -> how it is written; `eval.select` is one of them
    headline: ClassVar[tuple[str, ...]]  # the metrics above the table; the first is the default of `eval.select`
    compared: ClassVar[tuple[str, ...]]  # the metrics that studies of many runs compare
    probabilistic: ClassVar[bool] = True  # whether answers are probabilities
    exclusive: ClassVar[bool] = True  # whether one of C classes is true: counts are then a confusion matrix of them
    confidence: ClassVar[str]  # meaning of the probability beside an answer, in words

    def decode(self, logits: Array) -> Array:
        """Return the answers [..., O] of logits [..., O]."""
        raise NotImplementedError

    def encode(self, answers: Array) -> Array:
        """Return logits [..., O] that `decode` turns into answers; of classes up to a constant."""
        raise NotImplementedError

    def count(self, logits: Array, label: Array, target: Array | None, num_classes: int) -> Array:
        """Count right and wrong answers; counts of parts of a split add up.

        It takes logits [R, L, O], label [R, L] int, of which UNLABELED counts nowhere, target [R, L, O], or None for
        classes, and C.
        """
        raise NotImplementedError

    def by_class(self, counts: np.ndarray) -> dict[str, Any]:
        """Return the scores of each class or label, BY_CLASS, from counts; of a classification all scores."""
        raise NotImplementedError

    def overall(self, answers: np.ndarray, targets: np.ndarray) -> dict[str, float]:
        """Return the metrics of answers [n, O] and targets [n, O]; {} where `by_class` gives them."""
        return {}

    def scores(self, counts: np.ndarray, answers: np.ndarray, targets: np.ndarray | None) -> dict[str, Any]:
        """Return every score of a split as numpy, with the counts under `confusion`."""
        overall = {} if targets is None else self.overall(answers, targets)
        return {**overall, **self.by_class(counts), "confusion": counts}

    def better(self, metric: str) -> int:
        """Return 1 where more of a metric is better, -1 where less is."""
        return -1 if self.metrics[metric].lower else 1

    def decisions(self, answers: np.ndarray, label: np.ndarray, targets: np.ndarray | None) -> tuple[np.ndarray, ...]:
        """Return the probabilities [n', C'] of exclusive cases and the true case [n'], which calibration reads.

        It takes answers [n, O], label [n] int, negative without truth, and targets [n, O], or None for classes.
        """
        return answers, label

    def calibrate(self, answers: np.ndarray, temperature: float) -> np.ndarray:
        """Return answers [n, O] of logits divided by a temperature."""
        return calibration.scale(answers, temperature)

    def words(self, answer: np.ndarray, names: Sequence[str]) -> str:
        """Return an answer, or a target, [O] in words, given O names."""
        raise NotImplementedError

    def brief(self, words: str) -> str:
        """Shorten the result of `words` for a terminal."""
        return words

    def counted_names(self, label_names: Sequence[str], target_names: Sequence[str]) -> Sequence[str]:
        """Return the names of BY_CLASS: the classes, the levels of a score, or the labels."""
        return label_names

    def describe(self, names: Sequence[str]) -> str:
        """Describe the answers, given O names."""
        raise NotImplementedError


class Classification(Task):
    """One of C classes."""

    losses = ("cross_entropy", "weighted_cross_entropy", "focal")
    metrics: ClassVar = {
        "weighted_f1": Metric("weighted F1"),
        "accuracy": Metric("accuracy"),
        "weighted_accuracy": Metric("weighted accuracy (= accuracy)"),
        "unweighted_accuracy": Metric("unweighted accuracy"),
        "macro_f1": Metric("macro F1"),
    }
    headline = ("weighted_f1", "accuracy")
    compared = ("weighted_f1", "accuracy", "macro_f1", "unweighted_accuracy")
    confidence = "probability of the emotion"

    def decode(self, logits: Array) -> Array:
        return jax.nn.softmax(logits)

    def encode(self, answers: Array) -> Array:
        return _log(answers)

    def count(self, logits: Array, label: Array, target: Array | None, num_classes: int) -> Array:
        return metrics.confusion(label, jnp.argmax(logits, axis=-1), label >= 0, num_classes)

    def by_class(self, counts: np.ndarray) -> dict[str, Any]:
        return class_scores(counts)

    def words(self, answer: np.ndarray, names: Sequence[str]) -> str:
        return names[int(answer.argmax())]

    def describe(self, names: Sequence[str]) -> str:
        return f"the probability of {len(names)} emotions: {', '.join(names)}"


class Regression(Task):
    """A score in [-3, 3]; its classes are the seven levels that it is rounded to."""

    losses = ("l1", "mse", "huber")
    metrics: ClassVar = {
        "mae": Metric("mean absolute error", 1.0, lower=True),
        "correlation": Metric("correlation", 1.0),
        "accuracy_7": Metric("accuracy of 7 levels"),
        "accuracy_5": Metric("accuracy of 5 levels"),
        "accuracy_2": Metric("accuracy, positive / negative"),
        "f1_2": Metric("F1, positive / negative"),
        "accuracy_2_with_zero": Metric("accuracy, not negative / negative"),
        "f1_2_with_zero": Metric("F1, not negative / negative"),
    }
    headline = ("mae", "correlation", "accuracy_7")
    compared = ("mae", "correlation", "accuracy_7", "accuracy_2", "f1_2")
    probabilistic = False
    confidence = "a score has none"

    def decode(self, logits: Array) -> Array:
        return logits

    def encode(self, answers: Array) -> Array:
        return answers

    def count(self, logits: Array, label: Array, target: Array | None, num_classes: int) -> Array:
        """Return the confusion of the seven levels of the score [7, 7]."""
        predicted = jnp.round(jnp.clip(logits[..., 0], -MOST, MOST)).astype(jnp.int32) + MOST
        return metrics.confusion(label, predicted, label >= 0, num_classes)

    def by_class(self, counts: np.ndarray) -> dict[str, Any]:
        found = class_scores(counts)
        return {name: found[name] for name in BY_CLASS}

    def overall(self, answers: np.ndarray, targets: np.ndarray) -> dict[str, float]:
        return metrics.sentiment_scores(answers[:, 0], targets[:, 0])

    def calibrate(self, answers: np.ndarray, temperature: float) -> np.ndarray:
        return answers

    def words(self, answer: np.ndarray, names: Sequence[str]) -> str:
        """Return the score with six significant digits."""
        return f"{float(answer[0]):.6g}"

    def brief(self, words: str) -> str:
        """Return the score with three digits after the point."""
        return f"{float(words):.3f}"

    def describe(self, names: Sequence[str]) -> str:
        return f"a score, `{names[0]}`, in [-{MOST}, {MOST}]"


class Multilabel(Task):
    """Any number of O labels."""

    losses = ("bce",)
    metrics: ClassVar = {
        "micro_f1": Metric("micro F1"),
        "macro_f1": Metric("macro F1"),
        "weighted_f1": Metric("weighted F1"),
        "hamming_accuracy": Metric("Hamming accuracy"),
        "exact_accuracy": Metric("all labels right"),
    }
    headline = ("micro_f1", "macro_f1")
    compared = ("micro_f1", "macro_f1", "weighted_f1", "hamming_accuracy")
    exclusive = False
    confidence = "probability of the most probable label"

    def decode(self, logits: Array) -> Array:
        return jax.nn.sigmoid(logits)

    def encode(self, answers: Array) -> Array:
        return _log(answers) - _log(1 - answers)

    def count(self, logits: Array, label: Array, target: Array | None, num_classes: int) -> Array:
        assert target is not None
        return metrics.confusion_by_label(target, logits > 0, label >= 0)

    def by_class(self, counts: np.ndarray) -> dict[str, Any]:
        return metrics.scores_of_labels(counts)

    def overall(self, answers: np.ndarray, targets: np.ndarray) -> dict[str, float]:
        return metrics.multilabel_scores(answers, targets)

    def decisions(self, answers: np.ndarray, label: np.ndarray, targets: np.ndarray | None) -> tuple[np.ndarray, ...]:
        """Return each label as a decision of its own between two cases."""
        assert targets is not None
        truth = np.where(label[:, None] >= 0, np.asarray(targets), -1).astype(np.int64)
        return _two_cases(answers).reshape(-1, 2), truth.reshape(-1)

    def calibrate(self, answers: np.ndarray, temperature: float) -> np.ndarray:
        return calibration.scale(_two_cases(answers), temperature)[..., 1]

    def words(self, answer: np.ndarray, names: Sequence[str]) -> str:
        return joined(answer, names)

    def counted_names(self, label_names: Sequence[str], target_names: Sequence[str]) -> Sequence[str]:
        return target_names

    def describe(self, names: Sequence[str]) -> str:
        return f"the probability of {len(names)} labels, of which any number may apply: {', '.join(names)}"


def _log(probabilities: Array) -> Array:
    return jnp.log(jnp.maximum(probabilities, TINY))


def _two_cases(answers: np.ndarray) -> np.ndarray:
    """Return the probabilities that a label does not apply, and that it does: [..., O] -> [..., O, 2]."""
    return np.stack([1 - answers, answers], axis=-1)


_class_scores = jax.jit(metrics.scores)


def class_scores(confusion: np.ndarray) -> dict[str, Any]:
    """Return `metrics.scores` of a confusion matrix [C, C] as numpy."""
    with jax.default_device(jax.local_devices(backend="cpu")[0]):
        return {name: np.asarray(value) for name, value in _class_scores(jnp.asarray(confusion)).items()}


TASKS: dict[str, Task] = {"classification": Classification(), "regression": Regression(), "multilabel": Multilabel()}


def get(name: str) -> Task:
    """Return the task of a name.

    Raises:
      UserError: there is none of this name.
    """
    if name not in TASKS:
        raise UserError(f"data.task={name!r} is no task. {suggestion(name, TASKS)}")
    return TASKS[name]


def all_metrics() -> dict[str, Metric]:
    """Return the metrics of all tasks."""
    return {name: metric for task in TASKS.values() for name, metric in task.metrics.items()}


def options(name: str) -> dict[str, Any]:
    """Return the options that FILE:task_NAME sets: dotted key of the config -> value."""
    task = get(name)
    functions = {f"losses.{slot}.fn": fitting[0] for slot in TERMS if (fitting := _fitting(slot, task))}
    return {"data.task": name, **functions, "eval.select": task.headline[0]}


def check(name: str, losses: Mapping[str, Mapping[str, Any]], select: str) -> None:
    """Check that a task has the losses (slot -> options, as for `terms.build`) and the metric of a config.

    Raises:
      UserError: the task is unknown, or a loss or the metric belongs to another task.
    """
    task = get(name)
    for slot, loss in losses.items():
        fit = _fitting(slot, task)
        others = {function for other in TASKS.values() for function in _fitting(slot, other)}
        if loss["weight"] and loss["fn"] in others - {*fit}:
            raise UserError(
                f"losses.{slot}.fn={loss['fn']} does not fit data.task={name}: choose {' or '.join(fit)}. A "
                f"configuration such as experiments/own.py:task_{name} chooses loss and metric together."
            )
    if select not in task.metrics:
        raise UserError(f"eval.select={select!r} is no metric of data.task={name}. {suggestion(select, task.metrics)}")


def _fitting(slot: str, task: Task) -> list[str]:
    """Return the functions of a slot that learn a task's answers."""
    answers = slot in TERMS and TERMS[slot].truth == "answer"
    return [function for function in task.losses if function in TERMS[slot].forms] if answers else []


# --- Words ------------------------------------------------------------------------------------------------------------


def shown(metric: str, mean: float, std: float | None = None) -> str:
    """Return a score for people: `64.12 ± 0.31` percent, `0.712 ± 0.004` for what is no percentage; a dash for NaN."""
    if mean is None or np.isnan(mean):
        return "–"
    scale = _scale(metric)
    digits = 2 if scale == 100 else 3
    return f"{scale * mean:.{digits}f}" + ("" if std is None else f" ± {scale * std:.{digits}f}")


def difference(metric: str, mean: float, low: float | None, high: float | None) -> list[str]:
    """Return a difference of scores, `+1.20`, and its interval, `+0.40 to +2.10` or a dash, in `difference_unit`."""
    scale = _scale(metric)
    ends = [mean if x is None else x for x in (low, high)]
    words = [f"{scale * x:+.{2 if scale == 100 else 3}f}".replace("-", "−") for x in (mean, *ends)]
    there = low is not None and not np.isnan(low)
    return [words[0], f"{words[1]} to {words[2]}" if there else "–"]


def difference_unit(metric: str) -> str:
    """Return the unit of a difference of scores."""
    return "points" if _scale(metric) == 100 else "the metric's unit"


def _scale(metric: str) -> float:
    """Return the scale of a metric; 100 also for a score of one class."""
    return all_metrics().get(metric, Metric(metric)).scale
