"""Find the modalities among a file's fields, and which utterances have them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ariigcn_jax.data.fields import PREFIXES, Fields, count, is_named_like_a_modality, kind, listed, shapes
from ariigcn_jax.data.values import short
from ariigcn_jax.types import Modality, UserError

_BLOCK_ROWS = 2048  # that are looked at together, so that a memory-mapped modality stays on disk


def choose(archive: Fields, modalities: Sequence[Modality], label: str, ratings: Sequence[str]) -> tuple[Modality, ...]:
    """Return the fields that are modalities; a field of several labels is none, nor are ratings."""
    if modalities:
        return _named(archive, (modalities,) if isinstance(modalities, str) else tuple(modalities))
    for field in filter(is_named_like_a_modality, archive.opaque):
        archive.get(field)
    chosen: list[Modality] = []
    others: list[str] = []
    unfit: list[str] = []
    for field, array in archive.arrays.items():
        if array.ndim == 2 and array.dtype.kind == "f" and field not in (label, *ratings, "_".join(ratings)):
            (chosen if is_named_like_a_modality(field) else others).append(field)
        elif (array.ndim >= 2 or array.dtype.kind in "iufb") and field != label and is_named_like_a_modality(field):
            remedies = {1: "one number an utterance is [U, 1], by .reshape(-1, 1)", 2: "convert by .astype('float32')"}
            remedy = remedies.get(array.ndim, "average over the frames")
            unfit.append(f"`{field}` is not taken as a modality: it is {kind(array)}, not 2-D floats; {remedy}")
            archive.note(unfit[-1])
    if others:
        archive.note(
            f"{listed(others)}: not taken as a modality, going by the name; ask for it by data.modalities if it is "
            "an input and not an annotation"
        )
    if not chosen:
        remedy = f"Name a field with 2-D floats {', '.join(PREFIXES)}"
        remedy += f", or ask for it by its name: {_asked(others)}" if others else ""
        words = "".join(f" {note}." for note in unfit[:1])
        raise UserError(f"{archive.path}: there is no modality among {shapes(archive)}.{words} {remedy}.")
    return tuple(chosen)


def _asked(names: Sequence[str]) -> str:
    """Return how a user asks for modalities whose names say nothing."""
    shown = [short(name, 40) for name in names[:8]]
    quoted = ", ".join(f"'{name}'" for name in shown)
    return f'--config.data.modalities="({quoted},)" in training, --modalities={",".join(shown)} of tools.prepare'


def _named(archive: Fields, modalities: tuple[Modality, ...]) -> tuple[Modality, ...]:
    for modality in modalities:
        array = archive.get(modality)
        if array is None:
            raise archive.absent(modality, "Choose `modalities` from the 2-D floating fields")
        if array.ndim != 2 or array.dtype.kind != "f":
            remedy = "A modality must be 2-D floats, [U, d]: convert with .astype('float32'), pool frames, or drop it"
            raise archive.refusal(modality, f"is {kind(array)}", remedy)
    if len(set(modalities)) < len(modalities):
        raise UserError(f"`modalities` names one of {listed(modalities)} twice. Name each once.")
    return modalities


def features(
    archive: Fields, chosen: Sequence[Modality], order: np.ndarray, training: bool
) -> tuple[dict[Modality, np.ndarray], dict[Modality, np.ndarray]]:
    found, present = {}, {}
    for modality in chosen:
        values = archive.arrays[modality]
        if len(values) != len(order) or not values.shape[1]:
            remedy = f"It must be [{len(order)}, d] with d of at least 1, one row per utterance"
            raise archive.refusal(modality, f"has the shape {values.shape}", remedy)
        rows = _rows(values, order)
        here = _present(archive, modality, rows, order, training)
        found[modality], present[modality] = _zeroed(rows, here), here
    if nothing := int((~np.any([*present.values()], axis=0)).sum()):
        archive.note(f"{count(nothing, 'utterance has', 'utterances have')} no modality at all")
    return found, present


def _rows(values: np.ndarray, order: np.ndarray) -> np.ndarray:
    """Return [U, d] float32 in the given order; the array itself if it is that already."""
    if np.array_equal(order, np.arange(len(order))):
        if values.dtype == np.float32:
            return values
        order = np.arange(0)  # nothing to look up
    rows = np.empty(values.shape, np.float32)
    with np.errstate(over="ignore"):
        for start in range(0, len(rows), _BLOCK_ROWS):
            block = slice(start, start + _BLOCK_ROWS)
            rows[block] = values[order[block]] if len(order) else values[block]
    return rows


def _zeroed(rows: np.ndarray, present: np.ndarray) -> np.ndarray:
    """Set missing rows to zero; copy only where a read-only array has other values there."""
    missing = np.flatnonzero(~present)
    if rows.flags.writeable:
        rows[missing] = 0
    elif rows[missing].any():
        rows = np.where(present[:, None], rows, np.float32(0))
    return rows


def _each_row(rows: np.ndarray, what: Callable[[np.ndarray], Any]) -> np.ndarray:
    """Return [U] bool, `what` of blocks of rows."""
    return np.concatenate([what(rows[i : i + _BLOCK_ROWS]) for i in range(0, len(rows), _BLOCK_ROWS)])


def _present(archive: Fields, modality: Modality, rows: np.ndarray, order: np.ndarray, training: bool) -> np.ndarray:
    """Return [U] bool; zero rows are failed extractions unless the file says what is present (choice)."""
    given = _given_present(archive, modality, order)
    finite = _each_row(rows, lambda block: np.isfinite(block).all(axis=1))
    claimed = finite if given is None else finite | ~given
    if broken := int((~claimed).sum()):
        archive.note(_missing(broken, modality, "NaN or Inf"))
    if given is not None:
        return given & finite
    # A single feature may well be zero, and where a modality is zero throughout training, so it is learnt.
    zero = finite & ~_each_row(rows, lambda block: block.any(axis=1))
    if rows.shape[1] == 1 or not zero.any():
        return finite
    if training and zero.sum() == finite.sum():
        archive.note(f"`{modality}` is zero in every utterance")
        return finite
    archive.note(_missing(int(zero.sum()), modality, "only zeros"))
    return finite & ~zero


def _given_present(archive: Fields, modality: Modality, order: np.ndarray) -> np.ndarray | None:
    field = f"{modality}_present"
    values = archive.column(field, order)
    if values is None:
        return None
    if values.dtype.kind not in "biuf" or not np.isin(values, (0, 1)).all():
        raise archive.refusal(field, "holds something other than true and false", "It must be [U] bool")
    return values.astype(bool)


def _missing(number: int, modality: Modality, reason: str) -> str:
    verb = "counts" if number == 1 else "count"
    return (
        f"{count(number, 'utterance')} of {modality} {'has' if number == 1 else 'have'} {reason} and {verb} as missing"
    )
