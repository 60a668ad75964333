"""Read the pickles of MMSA: {train, valid, test} → {id, raw_text, text, audio, vision, …_lengths, …_labels}.

One entry is an utterance of a monologue: `<video>$_$<clip>`. Features are sequences, [N, frames, d], and are averaged
over the frames that are not padding (choice).
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ariigcn_jax.data import labels
from ariigcn_jax.data.fields import Fields, text_array
from ariigcn_jax.data.readers import columns
from ariigcn_jax.data.values import Rows, as_sequence, class_numbers, kind, short, text
from ariigcn_jax.types import UserError

_SPLITS = {"train": "train", "valid": "valid", "val": "valid", "dev": "valid", "test": "test"}
_MODALITIES = {"text": "text", "audio": "audio", "vision": "vision", "visual": "vision"}
_CLIP = re.compile(r"(.+?)(?:\$_\$|_)(\d+)")
_SPAN = re.compile(r"(.+)\$_\$(\d+(?:\.\d+)?)\$_\$\d+(?:\.\d+)?")  # MulT's video, start and end in seconds


def recognise(data: Any) -> bool:
    """Return whether a pickle holds MMSA's layout."""
    if not isinstance(data, dict) or not data or not {str(k) for k in data} <= set(_SPLITS):
        return False
    return "train" in data and all(isinstance(part, dict) and set(part) & set(_MODALITIES) for part in data.values())


def read_fields(path: Path, data: dict[str, dict[str, Any]]) -> Fields:
    """Return the fields of a pickle, in the order train, validation, test.

    `label` is the annotated class, or the sign of the score where none is annotated; `binary` is the sign without the
    neutral ones.

    Args:
      path: the file.
      data: what it holds; emptied while it is read, so that it is not in memory twice.

    Raises:
      UserError: lengths or widths do not agree.
    """
    fields, size = Fields(path, {}), path.stat().st_size
    named = [(split, part) for split in ("train", "valid", "test") for k, part in data.items() if _SPLITS[k] == split]
    parts = [part for _, part in named]
    _check_labels(path, parts)
    lengths = [_length(path, part) for part in parts]
    fields.note("read as the layout of MMSA")
    fields.arrays["split"] = np.repeat(np.array([split for split, _ in named]), lengths)
    _read_ids(fields, _column(parts, "id"), lengths)
    if (words := _column(parts, "raw_text")) is not None:
        fields.arrays["transcript"] = columns.texts(words, f"{path}: raw_text")
    _read_labels(fields, parts)
    for key in _MODALITIES:
        if all(key in part for part in parts):
            _read_modality(fields, key, parts, lengths, size)
    return fields


def _check_labels(path: Path, parts: Sequence[dict[str, Any]]) -> None:
    """Raise for the other layout of these splits and modalities, MulT's IEMOCAP, whose utterances have no dialogues."""
    shapes = [np.shape(part["labels"]) for part in parts if isinstance(part.get("labels"), np.ndarray)]
    wide = [shape for shape in shapes if len(shape) > 2 and math.prod(shape[1:]) > 1]
    if wide and not any("regression_labels" in part for part in parts):
        ids = "" if all("id" in part for part in parts) else ", and no field says of which dialogue an utterance is"
        layout = "this is MulT's layout, {train, valid, test} → {text, audio, vision, labels}"
        raise UserError(
            f"{path}: {layout}. Its `labels` are {list(wide[0])}, several emotions with yes or no for each "
            f"utterance{ids}. Use features with one label "
            "an utterance and with dialogues, such as the pickles of IEMOCAP by DialogueRNN or MMGCN."
        )


def _length(path: Path, part: dict[str, Any]) -> int:
    lengths = {key: len(values) for key, values in part.items() if as_sequence(values) is not None}
    if not lengths:
        raise UserError(f"{path}: a split has no entries.")
    if len(set(lengths.values())) > 1:
        numbers = ", ".join(f"{n} in {short(key, 40)}" for key, n in lengths.items())
        raise UserError(f"{path}: a split has {numbers}. Every field must have one entry for each utterance.")
    return next(iter(lengths.values()))


def _column(parts: Sequence[dict[str, Any]], key: str) -> list[Any] | None:
    if any(as_sequence(part.get(key)) is None for part in parts):
        return None
    return [value for part in parts for value in part[key]]


def _read_ids(fields: Fields, ids: list[Any] | None, lengths: Sequence[int]) -> None:
    arrays, splits = fields.arrays, fields.arrays["split"].tolist()
    if ids is None:
        fields.note("there is no field `id`: every utterance is a dialogue of its own")
        names = [f"{split}_{i}" for split, i in zip(splits, np.concatenate([*map(np.arange, lengths)]), strict=True)]
    else:
        names = columns.texts(ids, f"{fields.path}: id", _id).tolist()
    arrays["utterance_id"] = arrays["dialogue_id"] = text_array(names)
    matches = [match for name in names if (match := _SPAN.fullmatch(name) or _CLIP.fullmatch(name))]
    if ids is None or len(matches) < len(names):
        if ids is not None:
            fields.note("the ids are not <video>$_$<clip>: every utterance is a dialogue of its own")
        return
    # A video in two splits stays two dialogues, or its context would leak; clips are numbered, often with gaps.
    videos = [match.group(1) for match in matches]
    homes = Counter(video for video, _ in set(zip(videos, splits, strict=True)))
    torn = {video for video, number in homes.items() if number > 1}
    if torn:
        fields.note(f"{len(torn)} of {len(homes)} videos have clips in several splits: each split's are a dialogue")
    arrays["dialogue_id"] = text_array(
        [f"{video} ({split})" if video in torn else video for video, split in zip(videos, splits, strict=True)]
    )
    arrays["turn"] = np.array([float(match.group(2)) for match in matches])


def _id(value: Any) -> str:
    """Return an id, which is text, or (video, clip) in a row of an array."""
    parts = as_sequence(value)
    return text(value) if parts is None else "$_$".join(text(v) for v in parts)


def _read_labels(fields: Fields, parts: Sequence[dict[str, Any]]) -> None:
    arrays = fields.arrays
    field = "regression_labels" if any("regression_labels" in part for part in parts) else "labels"
    scores = _column(parts, field)
    named, numbered = _column(parts, "annotations"), _column(parts, "classification_labels")
    if scores is not None:
        values = class_numbers(map(_single, scores), f"{fields.path}: {field}")
        arrays.update(columns.signs(values), sentiment_score=values)
    if named is not None and all(isinstance(v, str) for v in named):
        # in the order of the sentiment where these are its names
        order = {name.capitalize(): i for i, name in enumerate(labels.POLARITY)}
        names = sorted(set(map(str, named)), key=lambda name: (order.get(name, len(order)), name))
        arrays.update(label=np.array([names.index(v) for v in named]), label_names=text_array(names))
    elif numbered is not None:
        values = class_numbers(numbered, f"{fields.path}: classification_labels")
        arrays["label"] = np.where(np.isnan(values), -1, values)
        arrays.pop("label_names", None)
        if arrays["label"].max(initial=0) < len(labels.POLARITY):
            arrays["label_names"] = np.array(labels.POLARITY)
    elif scores is not None:
        fields.note("the file annotates no classes: they are the signs of its scores")
    else:
        fields.note("there are neither annotations, classification_labels nor regression_labels: nothing is labelled")
        arrays["label"] = np.full(len(arrays["split"]), -1)


def _single(value: Any) -> Any:
    """Return the only value of an array, as MulT writes scores [N, 1, 1]; anything else as it is."""
    return value.item() if isinstance(value, np.ndarray) and value.size == 1 else value


def _read_modality(
    fields: Fields, key: str, parts: Sequence[dict[str, Any]], lengths: Sequence[int], size: int
) -> None:
    what = f"{fields.path}: {key}"
    rows = Rows(sum(lengths), what, size)
    first = 0
    for part, length in zip(parts, lengths, strict=True):
        values = part.pop(key)
        if as_sequence(values) is None or not all(
            isinstance(v, np.ndarray) and v.dtype.kind in "fiu" and v.ndim in (1, 2) for v in values
        ):
            raise UserError(f"{what}: {kind(values)} is not [utterances, frames, features].")
        frames = part.get(f"{key}_lengths")
        counts = np.full(length, np.inf) if frames is None else class_numbers(frames, f"{what}_lengths")
        for row, (value, count) in enumerate(zip(values, counts, strict=True), first):
            pooled = value if isinstance(values, np.ndarray) and value.ndim == 1 else _mean(np.atleast_2d(value), count)
            rows.put(row, pooled, f"the utterance {fields.arrays['utterance_id'][row]!r}")
        first += length
    columns.keep(fields, _MODALITIES[key], rows, f"{key} is empty in every utterance and is left out")


def _mean(frames: np.ndarray, count: float) -> np.ndarray | None:
    """Return [d], the mean of the first `count` of [frames, d] that are not padding; None where none is left."""
    # MMSA's own loader replaces infinite values by zeros, of which these files have some.
    finite = np.where(np.isfinite(frames), frames, 0)
    real = finite.any(axis=1) & ~(np.arange(len(frames)) >= count)
    return finite[real].mean(axis=0, dtype=np.float64) if real.any() else None
