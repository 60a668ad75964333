"""Reads the pickles of MMSA: {train, valid, test} → {id, raw_text, text, audio, vision, …_lengths, …_labels}.

One entry is an utterance of a monologue: `<video>$_$<clip>`. Features are sequences, [N, frames, d], and are averaged
over the frames that are not padding (choice).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ariigcn_jax.data import labels
from ariigcn_jax.data.fields import Fields, text_array
from ariigcn_jax.data.values import Rows, ShapeError, as_sequence, class_numbers, kind, short, text
from ariigcn_jax.types import UserError

_SPLITS = {"train": "train", "valid": "valid", "val": "valid", "dev": "valid", "test": "test"}
_MODALITIES = {"text": "text", "audio": "audio", "vision": "vision", "visual": "vision"}
_CLIP = re.compile(r"(.+?)(?:\$_\$|_)(\d+)")


def recognise(data: Any) -> bool:
    """Return whether a pickle holds MMSA's layout."""
    if not isinstance(data, dict) or not data or not {str(k) for k in data} <= set(_SPLITS):
        return False
    return "train" in data and all(isinstance(part, dict) and set(part) & set(_MODALITIES) for part in data.values())


def read_fields(path: Path, data: dict[str, dict[str, Any]]) -> Fields:
    """Return the fields of a pickle.

    Args:
      path: the file.
      data: what it holds; emptied while it is read, so that it is not in memory twice.

    Returns:
      Fields in the order train, validation, test. `label` is the annotated class, or the sign of the score where none
      is annotated; `binary` is the sign without the neutral ones.

    Raises:
      UserError: lengths or widths do not agree.
    """
    fields, size = Fields(path, {}), path.stat().st_size
    parts = [(split, part) for split in ("train", "valid", "test") for k, part in data.items() if _SPLITS[k] == split]
    lengths = [_length(path, part) for _, part in parts]
    fields.note("read as the layout of MMSA")
    fields.arrays["split"] = np.repeat(np.array([split for split, _ in parts]), lengths)
    _read_ids(fields, parts, lengths)
    _read_words(fields, [part for _, part in parts])
    _read_labels(fields, [part for _, part in parts], sum(lengths))
    for key in _MODALITIES:
        _read_modality(fields, key, [part for _, part in parts], lengths, size)
    return fields


def _length(path: Path, part: Mapping[str, Any]) -> int:
    lengths = {key: len(values) for key, values in part.items() if as_sequence(values) is not None}
    if not lengths:
        raise UserError(f"{path}: a split has no entries.")
    if len(set(lengths.values())) > 1:
        numbers = ", ".join(f"{n} in {short(key, 40)}" for key, n in lengths.items())
        raise UserError(f"{path}: a split has {numbers}. Every field must have one entry for each utterance.")
    return next(iter(lengths.values()))


def _column(parts: Sequence[Mapping[str, Any]], key: str) -> list[Any] | None:
    if any(as_sequence(part.get(key)) is None for part in parts):
        return None
    return [value for part in parts for value in part[key]]


def _read_ids(fields: Fields, parts: Sequence[tuple[str, Mapping[str, Any]]], lengths: Sequence[int]) -> None:
    ids = _column([part for _, part in parts], "id")
    if ids is None:
        fields.note("there is no field `id`: every utterance is a dialogue of its own")
        names = [f"{split}_{i}" for (split, _), n in zip(parts, lengths, strict=True) for i in range(n)]
    else:
        names = [_name(fields, value) for value in ids]
    matches = [_CLIP.fullmatch(name) for name in names]
    fields.arrays["utterance_id"] = text_array(names)
    if ids is None or not all(matches):
        if ids is not None:
            fields.note("the ids are not <video>$_$<clip>: every utterance is a dialogue of its own")
        fields.arrays["dialogue_id"] = text_array(names)
        return
    # A video in two splits stays two dialogues, or its context would leak; clips are numbered, often with gaps.
    splits = fields.arrays["split"].tolist()
    videos = [m.group(1) for m in matches if m]
    homes: dict[str, set[str]] = {}
    for video, split in zip(videos, splits, strict=True):
        homes.setdefault(video, set()).add(split)
    torn = {video for video, home in homes.items() if len(home) > 1}
    if torn:
        fields.note(f"{len(torn)} of {len(homes)} videos have clips in several splits: each split's are a dialogue")
    dialogues = [f"{video} ({split})" if video in torn else video for video, split in zip(videos, splits, strict=True)]
    fields.arrays["dialogue_id"] = text_array(dialogues)
    fields.arrays["turn"] = np.array([float(m.group(2)) for m in matches if m])


def _name(fields: Fields, value: Any) -> str:
    """Return an id, which is text, or (video, clip) in a row of an array."""
    parts = as_sequence(value)
    try:
        return text(value) if parts is None else "$_$".join(text(v) for v in parts)
    except ShapeError as error:
        raise UserError(f"{fields.path}: id: {error}.") from None


def _read_words(fields: Fields, parts: Sequence[Mapping[str, Any]]) -> None:
    words = _column(parts, "raw_text")
    if words is None:
        return
    try:
        fields.arrays["transcript"] = text_array([text(value) for value in words])
    except ShapeError as error:
        raise UserError(f"{fields.path}: raw_text: {error}.") from None


def _read_labels(fields: Fields, parts: Sequence[Mapping[str, Any]], utterances: int) -> None:
    arrays = fields.arrays
    scores = _column(parts, "regression_labels")
    if scores is None:
        scores = _column(parts, "labels")
    named, numbered = _column(parts, "annotations"), _column(parts, "classification_labels")
    if scores is not None:
        values = class_numbers(scores, f"{fields.path}: regression_labels")
        arrays["sentiment_score"] = values
        arrays["binary"], arrays["binary_names"] = labels.without_neutral(values), np.array(labels.POLARITY[::2])
    if named is not None and all(isinstance(v, str) for v in named):
        # in the order of the sentiment where these are its names
        order = {name.capitalize(): i for i, name in enumerate(labels.POLARITY)}
        names = sorted(set(map(str, named)), key=lambda name: (order.get(name, len(order)), name))
        arrays["label"] = np.array([names.index(v) for v in named])
        arrays["label_names"] = text_array(names)
    elif numbered is not None:
        arrays["label"] = class_numbers(numbered, f"{fields.path}: classification_labels")
        arrays["label"] = np.where(np.isnan(arrays["label"]), -1, arrays["label"])
        if arrays["label"].max(initial=0) < len(labels.POLARITY):
            arrays["label_names"] = np.array(labels.POLARITY)
    elif scores is not None:
        arrays["label"], arrays["label_names"] = labels.by_sign(arrays["sentiment_score"]), np.array(labels.POLARITY)
        fields.note("the file annotates no classes: they are the signs of its scores")
    else:
        fields.note("there are neither annotations, classification_labels nor regression_labels: nothing is labelled")
        arrays["label"] = np.full(utterances, -1)


def _read_modality(
    fields: Fields, key: str, parts: Sequence[dict[str, Any]], lengths: Sequence[int], size: int
) -> None:
    if any(key not in part for part in parts):
        return
    what = f"{fields.path}: {key}"
    rows = Rows(sum(lengths), what, size)
    first = 0
    for part, length in zip(parts, lengths, strict=True):
        values = part.pop(key)
        if as_sequence(values) is None:
            raise UserError(f"{what}: {kind(values)} is not [utterances, frames, features].")
        frames = part.get(f"{key}_lengths")
        counts = np.full(length, np.inf) if frames is None else class_numbers(frames, f"{what}_lengths")
        for row, (value, count) in enumerate(zip(values, counts, strict=True), first):
            if not isinstance(value, np.ndarray) or value.dtype.kind not in "fiu" or value.ndim not in (1, 2):
                raise UserError(f"{what}: {kind(values)} is not [utterances, frames, features].")
            pooled = value if isinstance(values, np.ndarray) and value.ndim == 1 else _mean(np.atleast_2d(value), count)
            rows.put(row, pooled, f"the utterance {fields.arrays['utterance_id'][row]!r}")
        first += length
    array = rows.array()
    if array is None:
        fields.note(f"{key} is empty in every utterance and is left out")
    else:
        fields.arrays[_MODALITIES[key]] = array


def _mean(frames: np.ndarray, count: float) -> np.ndarray | None:
    """Return [d], the mean of the first `count` of [frames, d] that are not padding; None where none is left."""
    # MMSA's own loader replaces infinite values by zeros, of which these files have some.
    finite = np.where(np.isfinite(frames), frames, 0)
    real = finite.any(axis=1) & ~(np.arange(len(frames)) >= count)
    return finite[real].mean(axis=0, dtype=np.float64) if real.any() else None
