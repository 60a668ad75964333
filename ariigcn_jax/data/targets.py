"""Read the truth of a task from a field: what is learnt, and the class that contrast and pictures use.

A score is a number in [-3, 3]; its class is the nearest of the seven whole ones (choice). Several labels are a row of
zeros and ones; the class of an utterance is the rarest of its labels in train, or "none" (choice): utterances of one
class then share a label, and the labels that most need it are pulled together. NaN is no label in both.
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


def attach(corpus: Corpus, task: str, targets: np.ndarray, names: Sequence[str]) -> Corpus:
    """Return the corpus with the truth of a task that does not classify.

    Args:
      corpus: any; its labels are replaced.
      task: "regression" or "multilabel".
      targets: [U, O] float; NaN anywhere in a row is no label.
      names: O names.
    """
    known = np.isfinite(targets).all(axis=1)
    clean = np.where(known[:, None], targets, 0).astype(np.float32)
    if task == "regression":
        label, label_names = labels.levels(clean[:, 0]), labels.LEVELS
    else:
        label, label_names = labels.rarest(clean > 0.5, known & (corpus.split == "train")), (*names, NONE)
    return dataclasses.replace(
        corpus,
        task=task,
        target=clean,
        target_names=tuple(names),
        label=np.where(known, label, UNLABELED).astype(np.int32),
        label_names=label_names,
    )


def read(archive: Fields, field: str, order: np.ndarray, task: str) -> tuple[np.ndarray, tuple[str, ...]]:
    """Return [U, O] float32 in the given order, with rows of NaN where there is no label; and O names.

    Args:
      archive: the fields of a file.
      field: [U] numbers of a regression, [U, O] zeros and ones of several labels, whose names are in `<field>_names`.
      order: [U] rows of the file.
      task: "regression" or "multilabel".

    Raises:
      UserError: the field is not there, or not what the task needs; says what it needs.
    """
    values = archive.get(field)
    if values is None:
        raise archive.absent(
            field, "Add it, or choose another: --config.data.label in training, --label of tools.prepare"
        )
    if task == "regression":
        return _scores(archive, field, order), (field,)
    return _several(archive, field, values, order)


def _scores(archive: Fields, field: str, order: np.ndarray) -> np.ndarray:
    values = archive.column(field, order)
    assert values is not None
    remedy = f"data.task=regression needs numbers in [-{labels.MOST}, {labels.MOST}], NaN where there is no label"
    if values.dtype.kind not in "iuf":
        raise archive.refusal(field, f"is {values.dtype}", remedy)
    if f"{field}_names" in archive.arrays:
        raise archive.refusal(field, f"holds classes, which `{field}_names` names", remedy)
    scores = np.where(np.isfinite(values), values, np.nan).astype(np.float32)
    if (outside := np.abs(np.nan_to_num(scores)) > labels.MOST).any():
        raise archive.refusal(field, f"has the value {values[outside][0]:g}", f"{remedy}; rescale it")
    return scores[:, None]


def _several(archive: Fields, field: str, values: np.ndarray, order: np.ndarray) -> tuple[np.ndarray, tuple[str, ...]]:
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


def unwritable(names: Sequence[str]) -> str:
    """Return what is wrong with a label's name that `parsed` could not read again; "" where all are right."""
    wrong = [name for name in names if not name or name != name.strip() or _APART.search(name)]
    return f"has the name {wrong[0][:60]!r}" if wrong else ""


def parsed(cells: Sequence[str], task: str, names: Sequence[str] | None = None) -> tuple[np.ndarray, tuple[str, ...]]:
    """Turn a column of text into what `read` takes.

    Args:
      cells: of a table; empty ones have no label. Labels stand between `|` or `;`, and "none" is none of them.
      task: "regression" or "multilabel".
      names: of the labels; None for those that occur.

    Returns:
      Numbers [U] and (), or rows of zeros and ones [U, O] and the O names; NaN where there is no label.

    Raises:
      UserError: a cell is no number, or a label is not among the names.
    """
    cells = [cell.strip() for cell in cells]
    if task == "regression":
        return np.array([_number(cell) for cell in cells]), ()
    sets = [{part.strip() for part in _APART.split(cell)} - {"", NONE} if cell else None for cell in cells]
    found = sorted({name for labels_of in sets if labels_of for name in labels_of})
    listing = tuple(found if names is None else names)
    if unknown := [name for name in found if name not in listing]:
        raise UserError(f"{unknown[0][:60]!r} is not one of the labels {', '.join(listing)}.")
    rows = [[np.nan] * len(listing) if have is None else [float(n in have) for n in listing] for have in sets]
    return np.array(rows).reshape(len(cells), len(listing)), listing


def joined(row: np.ndarray, names: Sequence[str]) -> str:
    """Return a row of zeros and ones, or of probabilities, in words that `parsed` reads."""
    return APART.join(name for name, value in zip(names, row, strict=True) if value > 0.5) or NONE


def _number(cell: str) -> float:
    try:
        return float(cell) if cell else float("nan")
    except ValueError:
        raise UserError(
            f"{cell[:60]!r} is no number, and data.task=regression needs one in each cell, or none."
        ) from None
