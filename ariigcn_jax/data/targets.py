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
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from ariigcn_jax.data import labels
from ariigcn_jax.data.values import is_missing
from ariigcn_jax.types import UNLABELED, Corpus, UserError

if TYPE_CHECKING:
    from ariigcn_jax.data.fields import Fields

NONE = "none"  # in text: annotated, and no label applies
APART = "|"  # between labels
_APART = re.compile(r"[|;]")
WRITABLE = "Labels are written with | between them: rename it, without |, ; or blanks at its ends, and not empty"
MISSING = "Add it, or choose another: --config.data.label in training, --label of tools.prepare"
Named = tuple[np.ndarray, tuple[str, ...]]  # values, and the names of their columns or classes


@dataclasses.dataclass(frozen=True)
class Score:
    """Read scores in [-3, 3]: a field [U] of numbers."""

    task: str  # name in TARGETS, for messages
    several: ClassVar[bool] = False  # whether a cell of a table may hold several of them, or none

    def read(self, archive: Fields, field: str, order: np.ndarray) -> Named:
        """Return [U, O] float32 for the rows `order` [U], NaN where there is no label, and O names.

        Raises:
          UserError: the field is not there, or not what is needed; says what is.
        """
        values = archive.column(field, order)
        if values is None:
            raise archive.absent(field, MISSING)
        remedy = f"data.task={self.task} needs numbers in [-{labels.MOST}, {labels.MOST}], NaN where there is no label"
        if values.dtype.kind not in "iuf":
            raise archive.refusal(field, f"is {values.dtype}", remedy)
        if f"{field}_names" in archive.arrays:
            raise archive.refusal(field, f"holds classes, which `{field}_names` names", remedy)
        scores = np.where(np.isfinite(values), values, np.nan).astype(np.float32)
        if (outside := np.abs(np.nan_to_num(scores)) > labels.MOST).any():
            raise archive.refusal(field, f"has the value {values[outside][0]:g}", f"{remedy}; rescale it")
        return scores[:, None], (field,)

    def parse(self, cells: Sequence[str], names: Sequence[str] | None = None) -> Named:
        """Return the cells of a table, text or empty for no label, as `read` wants them, and `names` or those found.

        Raises:
          UserError: a cell is not what is needed.
        """
        scores = []
        for cell in (cell.strip() for cell in cells):
            try:
                scores.append(np.nan if is_missing(cell) else float(cell))
            except ValueError:
                problem = f"{cell[:60]!r} is no number, and data.task={self.task} needs one in each cell, or none."
                raise UserError(problem) from None
        return np.array(scores), ()

    def column(self, targets: np.ndarray, names: tuple[str, ...]) -> Named:
        """Return targets [U, O] and their names as a field of a file that `read` reads."""
        return targets[:, 0], ()

    def classes(self, targets: np.ndarray, trained: np.ndarray, names: Sequence[str]) -> Named:
        """Return the classes [U] int of targets [U, O] with O names, and names of the classes.

        `trained` [U] bool are the labelled utterances of the train split.
        """
        return labels.levels(targets[:, 0]), labels.LEVELS


@dataclasses.dataclass(frozen=True)
class Labels:
    """Read any number of labels an utterance: a field [U, O] of zeros and ones, whose names are in `<field>_names`.

    In text labels stand between `|` or `;`, and "none" is none of them. The methods are those of `Score`.
    """

    task: str
    several: ClassVar[bool] = True

    def read(self, archive: Fields, field: str, order: np.ndarray) -> Named:
        values = archive.get(field)
        if values is None:
            raise archive.absent(field, MISSING)
        remedy = (
            f"data.task={self.task} needs [utterances, labels] zeros and ones, a row of NaN where there is no label"
        )
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

    def parse(self, cells: Sequence[str], names: Sequence[str] | None = None) -> Named:
        stripped = [cell.strip() for cell in cells]
        sets = [{part.strip() for part in _APART.split(cell)} - {"", NONE} if cell else None for cell in stripped]
        found = sorted({name for labels_of in sets if labels_of for name in labels_of})
        listing = tuple(found if names is None else names)
        if unknown := [name for name in found if name not in listing]:
            raise UserError(f"{unknown[0][:60]!r} is not one of the labels {', '.join(listing)}.")
        rows = [[np.nan] * len(listing) if have is None else [float(n in have) for n in listing] for have in sets]
        return np.array(rows).reshape(len(cells), len(listing)), listing

    def column(self, targets: np.ndarray, names: tuple[str, ...]) -> Named:
        return targets, names

    def classes(self, targets: np.ndarray, trained: np.ndarray, names: Sequence[str]) -> Named:
        return labels.rarest(targets > 0.5, trained), (*names, NONE)


Target = Score | Labels
SCORE, LABELS = Score("regression"), Labels("multilabel")
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
    """Return how many of the chosen labelled utterances have each of `label_names`: [C] int.

    An utterance with several labels counts for each, and one with none for the last name.
    """
    kept, target = chosen & (corpus.label != UNLABELED), of(corpus.task)
    if corpus.target is None or target is None or not target.several:
        return np.bincount(corpus.label[kept], minlength=corpus.num_classes)
    truth = corpus.target[kept] > 0.5
    return np.append(truth.sum(axis=0), (~truth.any(axis=1)).sum())


def describe(corpus: Corpus) -> str:
    """Return what there is to learn: the number of classes or labels, or a score."""
    target = of(corpus.task)
    if target is None:
        return f"{corpus.num_classes} classes"
    return f"{len(corpus.target_names)} labels" if target.several else "a score"


def unwritable(names: Sequence[str]) -> str:
    """Return what is wrong with a name that `parse` would not read as `joined` wrote it; "" if all are right."""
    wrong = [name for name in names if not name or name != name.strip() or _APART.search(name)]
    return f"has the name {wrong[0][:60]!r}" if wrong else ""


def joined(row: np.ndarray, names: Sequence[str]) -> str:
    """Return a row of zeros and ones, or of probabilities, in words that `parse` reads."""
    return APART.join(name for name, value in zip(names, row, strict=True) if value > 0.5) or NONE
