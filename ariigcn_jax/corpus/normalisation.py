"""Standardisation of features by what the train split shows."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from ariigcn_jax.types import Corpus, Modality, UserError

FLOOR = 1e-6
_CHUNK = 65_536  # rows that are held in double precision at once
CLIP = 10.0


@dataclasses.dataclass(frozen=True)
class Normalisation:
    """Mean and scale of each feature, to be kept with the parameters that were trained on their result.

    Attributes:
      mean: modality -> [d_m] float32.
      scale: modality -> [d_m] float32, positive.
    """

    mean: Mapping[Modality, np.ndarray]
    scale: Mapping[Modality, np.ndarray]

    def to_arrays(self) -> dict[str, np.ndarray]:
        """A flat dictionary for a checkpoint: "<modality>/mean" and "<modality>/scale" -> [d_m] float32."""
        means = {f"{modality}/mean": mean for modality, mean in self.mean.items()}
        return means | {f"{modality}/scale": scale for modality, scale in self.scale.items()}

    def standardise(self, modality: Modality, rows: np.ndarray) -> np.ndarray:
        """Features [..., d_m] as the model takes them, float32, clipped to ±10 (choice)."""
        centred = rows.astype(np.float64) - self.mean[modality]
        return np.clip(centred / self.scale[modality], -CLIP, CLIP).astype(np.float32)

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray]) -> Normalisation:
        """The inverse of `to_arrays`.

        Args:
          arrays: "<modality>/mean" and "<modality>/scale" -> [d_m].

        Returns:
          The normalisation.

        Raises:
          UserError: an array is missing, or the shapes of a mean and its scale differ.
        """
        modalities = dict.fromkeys(key.rpartition("/")[0] for key in arrays)
        mean, scale = ({m: _array(arrays, f"{m}/{part}") for m in modalities} for part in ("mean", "scale"))
        for modality in modalities:
            if mean[modality].shape != scale[modality].shape:
                raise UserError(f"The stored mean and scale of the modality {modality!r} have different shapes.")
        return cls(mean=mean, scale=scale)


def fit(corpus: Corpus) -> Normalisation:
    """Mean and standard deviation of each feature over the train utterances that have the modality.

    Args:
      corpus: any corpus; only what is trained on is looked at, whether labelled or not.

    Returns:
      The normalisation. A feature whose deviation is below 1e-6 counts as constant and has scale 1, so that it
      becomes 0 (choice); a modality that no train utterance has keeps mean 0 and scale 1.
    """
    moments = {m: _moments(x, np.flatnonzero(corpus.training & corpus.present[m])) for m, x in corpus.features.items()}
    return Normalisation(mean={m: v[0] for m, v in moments.items()}, scale={m: v[1] for m, v in moments.items()})


def apply(corpus: Corpus, normalisation: Normalisation) -> Corpus:
    """Standardises a corpus; missing rows stay zero and results are clipped to ±10 (choice).

    Args:
      corpus: the corpus, not standardised yet.
      normalisation: what `fit` found, on this corpus or on the one that a model was trained on.

    Returns:
      The corpus with standardised features, float32; memory-mapped ones are `Standardised` where they are read.

    Raises:
      UserError: the normalisation lacks a modality of the corpus or has another width for it.
    """
    return dataclasses.replace(corpus, features={m: _standardise(corpus, normalisation, m) for m in corpus.features})


def with_speaker_normalised(corpus: Corpus, prefixes: Sequence[str]) -> Corpus:
    """Appends to modalities a copy of their features, standardised over each speaker's utterances in each dialogue.

    What a voice or a face is like at rest drops out of the copy, and no train statistics are needed for a speaker never
    seen (choice). The whole dialogue is used: not for streaming.

    Args:
      corpus: any corpus.
      prefixes: beginnings of the names of the modalities that get the copy, e.g. ("audio",).

    Returns:
      The corpus; such a modality's width is doubled. Missing rows stay zero; so does the copy of a speaker's only one.

    Raises:
      UserError: no modality begins with one of the prefixes.
    """
    unused = [p for p in prefixes if not any(m.startswith(p) for m in corpus.features)]
    if unused:
        raise UserError(
            f"data.speaker_normalised names {', '.join(map(repr, unused))}, but the modalities of the corpus "
            f"{corpus.name!r} are {', '.join(corpus.features)}. Give beginnings of their names, or () for none."
        )
    _, group = np.unique(np.stack([corpus.dialogue, corpus.speaker]), axis=1, return_inverse=True)
    chosen = [m for m in corpus.features if any(m.startswith(p) for p in prefixes)]
    copies = {m: _within(corpus.features[m], group.reshape(-1), corpus.present[m]) for m in chosen}
    features = {m: np.concatenate([x, copies[m]], axis=1) if m in copies else x for m, x in corpus.features.items()}
    return dataclasses.replace(corpus, features=features)


def _within(features: np.ndarray, group: np.ndarray, present: np.ndarray) -> np.ndarray:
    """features [U, d] standardised over the present rows of each group [U]."""
    rows, group = features[present].astype(np.float64), group[present]
    count = np.bincount(group, minlength=group.max(initial=0) + 1)[:, None]
    total = np.zeros((len(count), features.shape[1]))
    np.add.at(total, group, rows)
    centred = rows - (total / np.maximum(count, 1))[group]
    squares = np.zeros_like(total)
    np.add.at(squares, group, np.square(centred))
    deviation = np.sqrt(squares / np.maximum(count, 1))
    result = np.zeros_like(features)
    result[present] = np.clip(centred / np.where(deviation < FLOOR, 1.0, deviation)[group], -CLIP, CLIP)
    return result


@dataclasses.dataclass(frozen=True)
class Standardised:
    """Memory-mapped features [U, d_m] that are standardised when rows of them are read; indexed as an array.

    Attributes:
      rows: [U, d_m] floats.
      present: [U] bool.
      mean: [d_m] float32.
      scale: [d_m] float32, positive.
    """

    rows: np.ndarray
    present: np.ndarray
    mean: np.ndarray
    scale: np.ndarray

    @property
    def shape(self) -> tuple[int, ...]:
        return self.rows.shape

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: Any) -> np.ndarray:
        return _scaled(np.asarray(self.rows[index]), self.present[index], self.mean, self.scale)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.asarray(self[:], dtype)


def _scaled(rows: np.ndarray, present: np.ndarray, mean: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """rows [..., d_m] and present [...] -> [..., d_m] float32."""
    result = np.clip((rows.astype(np.float64) - mean) / scale, -CLIP, CLIP)
    return np.where(present[..., None], result, 0.0).astype(np.float32)


def _array(arrays: Mapping[str, np.ndarray], key: str) -> np.ndarray:
    if key not in arrays:
        raise UserError(f"The stored normalisation lacks {key!r}: the checkpoint is incomplete.")
    return np.asarray(arrays[key], np.float32)


def _moments(features: np.ndarray, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and scale of the rows [n] of features [U, d], a chunk at a time."""
    width = features.shape[1]
    if not len(rows):
        return np.zeros(width, np.float32), np.ones(width, np.float32)

    def chunks() -> Iterator[np.ndarray]:
        for start in range(0, len(rows), _CHUNK):
            yield np.asarray(features[rows[start : start + _CHUNK]], np.float64)

    mean = sum(x.sum(axis=0) for x in chunks()) / len(rows)
    deviation = np.sqrt(sum(np.square(x - mean).sum(axis=0) for x in chunks()) / len(rows))
    scale = np.where(deviation < FLOOR, 1.0, deviation)
    return mean.astype(np.float32), scale.astype(np.float32)


def _standardise(corpus: Corpus, normalisation: Normalisation, modality: Modality) -> np.ndarray:
    features, known = corpus.features[modality], normalisation.mean.get(modality)
    if known is None:
        raise UserError(
            f"The modality {modality!r} of the corpus {corpus.name!r} has no stored mean and scale; there are some for "
            f"{', '.join(normalisation.mean)}. Choose the modalities that the model was trained on."
        )
    if known.shape != features.shape[1:]:
        raise UserError(
            f"The modality {modality!r} of the corpus {corpus.name!r} has {features.shape[1]} features, but the stored "
            f"mean has {known.size}: these are not the features that the model was trained on."
        )
    lazy = Standardised(features, corpus.present[modality], known, normalisation.scale[modality])
    if isinstance(features, np.memmap):
        return lazy  # type: ignore[return-value]  # quacks like an array where rows are read
    result = np.empty(features.shape, np.float32)
    for start in range(0, len(result), _CHUNK):
        result[start : start + _CHUNK] = lazy[start : start + _CHUNK]
    return result
