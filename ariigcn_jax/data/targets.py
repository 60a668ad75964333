"""Read the truth of a task from a field: what is learnt, and the class that contrast and pictures use.

TARGETS names the tasks and how their truth is read. A score is a number in [-3, 3]; its class is the nearest of the
seven whole ones (choice). Several labels are a row of zeros and ones; the class of an utterance is the rarest of its
labels in train, or "none" (choice): utterances of one class then share a label, and the labels that most need it are
pulled together. NaN is no label in both.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from ariigcn_jax.data import labels
from ariigcn_jax.types import UNLABELED, Corpus, UserError

if TYPE_CHECKING:
    from ariigcn_jax.data.fields import Fields

NONE = "none"  # in text: annotated, and no label applies
APART = "|"  # between labels
_APART = re.compile(r"[|;]")
WRITABLE = "Labels are written with | between them: rename it, without |, ; or blanks at its ends, and not empty"
MISSING = "Add it, or choose another: --config.data.label in training, --label of tools.prepare"


class Target:
    """Read, write and count the truth of a task that does not classify; a subclass for each.

    Attributes:
      several: whether a cell of a table may hold several of them, or none.
    """

    several = False

    def read(self, archive: Fields, field: str, order: np.ndarray) -> tuple[np.ndarray, tuple[str, ...]]:
        """Return [U, O] float32 for the rows `order` [U], NaN where there is no label, and O names.

        Raises:
          UserError: the field is not there, or not what is needed; says what is.
        """
        raise NotImplementedError

    def parse(self, cells: Sequence[str], names: Sequence[str] | None = None) -> tuple[np.ndarray, tuple[str, ...]]:
        """Return a table's column of text as `read` wants it, and its names.

        Args:
          cells: of a table; empty ones have no label.
          names: of the labels; None for those that occur.

        Raises:
          UserError: a cell is not what is needed.
        """
        raise NotImplementedError

    def column(self, targets: np.ndarray, names: tuple[str, ...]) -> tuple[np.ndarray, tuple[str, ...]]:
        """Return targets [U, O] and their names as a field of a file that `read` reads."""
        return (targets, names) if self.several else (targets[:, 0], ())

    def classes(
        self, targets: np.ndarray, trained: np.ndarray, names: Sequence[str]
    ) -> tuple[np.ndarray, tuple[str, ...]]:
        """Return the classes [U] int of targets [U, O] with O names, and the names of the classes.

        `trained` is [U] bool, the labelled utterances of the train split.
        """
        raise NotImplementedError

    def occurrences(self, corpus: Corpus, chosen: np.ndarray) -> np.ndarray:
        """Return how many of the chosen labelled utterances have each of `label_names`: [C] int."""
        return np.bincount(corpus.label[chosen & (corpus.label != UNLABELED)], minlength=corpus.num_classes)

    def describe(self, names: Sequence[str]) -> str:
        """Return what there is, given O names."""
        raise NotImplementedError


class Score(Target):
    """A number in [-3, 3]: a field [U] of numbers."""

    def read(self, archive: Fields, field: str, order: np.ndarray) -> tuple[np.ndarray, tuple[str, ...]]:
        values = archive.column(field, order)
        if values is None:
            raise archive.absent(field, MISSING)
        remedy = f"data.task=regression needs numbers in [-{labels.MOST}, {labels.MOST}], NaN where there is no label"
        if values.dtype.kind not in "iuf":
            raise archive.refusal(field, f"is {values.dtype}", remedy)
        if f"{field}_names" in archive.arrays:
            raise archive.refusal(field, f"holds classes, which `{field}_names` names", remedy)
        scores = np.where(np.isfinite(values), values, np.nan).astype(np.float32)
        if (outside := np.abs(np.nan_to_num(scores)) > labels.MOST).any():
            raise archive.refusal(field, f"has the value {values[outside][0]:g}", f"{remedy}; rescale it")
        return scores[:, None], (field,)

    def parse(self, cells: Sequence[str], names: Sequence[str] | None = None) -> tuple[np.ndarray, tuple[str, ...]]:
        return np.array([_number(cell.strip()) for cell in cells]), ()

    def classes(
        self, targets: np.ndarray, trained: np.ndarray, names: Sequence[str]
    ) -> tuple[np.ndarray, tuple[str, ...]]:
        return labels.levels(targets[:, 0]), labels.LEVELS

    def describe(self, names: Sequence[str]) -> str:
        return "a score"


class Labels(Target):
    """Any number of labels: a field [U, O] of zeros and ones, whose names are in `<field>_names`.

    In text labels stand between `|` or `;`, and "none" is none of them.
    """

    several = True

    def read(self, archive: Fields, field: str, order: np.ndarray) -> tuple[np.ndarray, tuple[str, ...]]:
        values = archive.get(field)
        if values is None:
            raise archive.absent(field, MISSING)
        remedy = "data.task=multilabel needs [utterances, labels] zeros and ones, a row of NaN where there is no label"
        if values.ndim != 2 or len(values) != len(order) or not values.shape[1] or values.dtype.kind not in "biuf":
            raise archive.refusal(field, f"is {values.dtype} {list(values.shape)}", remedy)
        rows = values[order].astype(np.float32)
        known = np.isfinite(rows).all(axis=1)
        if (wrong := ~np.isin(rows[known], (0, 1))).any():
            problem = f"has the value {rows[known][wrong][0]:g}"
            raise archive.refusal(field, problem, f"{remedy}; intensities become labels by `> 0`")
        names = archive.names(f"{field}_names")
        listed = tuple(names.tolist()) if names is not None else tuple(str(o) for o in range(rows.shape[1]))
        if len(listed) != rows.shape[1] or len(set(listed)) < len(listed) or NONE in listed:
            problem = f"are {len(listed)} for {rows.shape[1]} columns, or one comes twice or is {NONE!r}"
            raise archive.refusal(f"{field}_names", problem, "Give each column its own name")
        if problem := unwritable(listed):
            raise archive.refusal(f"{field}_names", problem, WRITABLE)
        return np.where(known[:, None], rows, np.nan), listed

    def parse(self, cells: Sequence[str], names: Sequence[str] | None = None) -> tuple[np.ndarray, tuple[str, ...]]:
        stripped = [cell.strip() for cell in cells]
        sets = [{part.strip() for part in _APART.split(cell)} - {"", NONE} if cell else None for cell in stripped]
        found = sorted({name for labels_of in sets if labels_of for name in labels_of})
        listing = tuple(found if names is None else names)
        if unknown := [name for name in found if name not in listing]:
            raise UserError(f"{unknown[0][:60]!r} is not one of the labels {', '.join(listing)}.")
        rows = [[np.nan] * len(listing) if have is None else [float(n in have) for n in listing] for have in sets]
        return np.array(rows).reshape(len(cells), len(listing)), listing

    def classes(
        self, targets: np.ndarray, trained: np.ndarray, names: Sequence[str]
    ) -> tuple[np.ndarray, tuple[str, ...]]:
        return labels.rarest(targets > 0.5, trained), (*names, NONE)

    def occurrences(self, corpus: Corpus, chosen: np.ndarray) -> np.ndarray:
        """Return the same; an utterance counts for each of its labels, and the last name is that of none."""
        assert corpus.target is not None
        truth = corpus.target[chosen & (corpus.label != UNLABELED)] > 0.5
        return np.append(truth.sum(axis=0), (~truth.any(axis=1)).sum())

    def describe(self, names: Sequence[str]) -> str:
        return f"{len(names)} labels"


SCORE, LABELS = Score(), Labels()
TARGETS: dict[str, Target | None] = {  # of each task of `objective.tasks`; None for classes
    "classification": None,
    "regression": SCORE,
    "multilabel": LABELS,
}


def of(task: str) -> Target | None:
    """Return the target of a task; None for classes.

    Raises:
      UserError: there is no task of this name.
    """
    if task not in TARGETS:
        raise UserError(f"data.task={task!r} is no task. Known: {', '.join(TARGETS)}.")
    return TARGETS[task]


def attach(corpus: Corpus, task: str, targets: np.ndarray, names: Sequence[str]) -> Corpus:
    """Return the corpus with the truth of a task that does not classify, in the place of its labels.

    Targets are [U, O] float with O names; NaN anywhere in a row is no label.
    """
    known = np.isfinite(targets).all(axis=1)
    clean = np.where(known[:, None], targets, 0).astype(np.float32)
    target = of(task)
    assert target is not None, f"the task {task} has classes"
    label, label_names = target.classes(clean, known & (corpus.split == "train"), names)
    return dataclasses.replace(
        corpus,
        task=task,
        target=clean,
        target_names=tuple(names),
        label=np.where(known, label, UNLABELED).astype(np.int32),
        label_names=label_names,
    )


def occurrences(corpus: Corpus, chosen: np.ndarray) -> np.ndarray:
    """Return how many of the chosen labelled utterances have each of `label_names`: [C] int."""
    return (of(corpus.task) or Target()).occurrences(corpus, chosen)


def describe(corpus: Corpus) -> str:
    """Return what there is to learn: the number of classes or labels, or a score."""
    target = of(corpus.task)
    return f"{corpus.num_classes} classes" if target is None else target.describe(corpus.target_names)


def unwritable(names: Sequence[str]) -> str:
    """Return what is wrong with a name that `parse` would not read as `joined` wrote it; "" if all are right."""
    wrong = [name for name in names if not name or name != name.strip() or _APART.search(name)]
    return f"has the name {wrong[0][:60]!r}" if wrong else ""


def joined(row: np.ndarray, names: Sequence[str]) -> str:
    """Return a row of zeros and ones, or of probabilities, in words that `parse` reads."""
    return APART.join(name for name, value in zip(names, row, strict=True) if value > 0.5) or NONE


def _number(cell: str) -> float:
    try:
        return float(cell) if cell else float("nan")
    except ValueError:
        problem = f"{cell[:60]!r} is no number, and data.task=regression needs one in each cell, or none."
        raise UserError(problem) from None
