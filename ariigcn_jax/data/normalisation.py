"""Standardise features by the train split, turn them into ranks, and append copies standardised within a dialogue."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from ariigcn_jax.types import WORDS, Corpus, Modality, UserError

FLOOR = 1e-6
_CHUNK = 65_536  # rows that are held in double precision at once
CLIP = 10.0
_KNOTS = 257  # quantiles that ranks are interpolated between, at most
_FEW = 8  # rows that are ranked by comparison with all quantiles
_SAMPLE = 16_384  # train rows that quantiles are taken of, at most, drawn at random
COPIES = {"speaker_normalised": "speaker", "dialogue_normalised": "dialogue"}  # option of `data` -> within what
OPTIONS = (*COPIES, "ranked")  # of `data`: beginnings of modalities' names


@dataclasses.dataclass(frozen=True)
class Normalisation:
    """Hold mean and scale of each feature, to be kept with the parameters.

    Where a modality has quantiles, its first n features become ranks between them before mean and scale are applied.
    """

    mean: Mapping[Modality, np.ndarray]  # [d_m] float32
    scale: Mapping[Modality, np.ndarray]  # [d_m] float32, positive
    # [K, n] float32, ascending, K >= 2
    quantiles: Mapping[Modality, np.ndarray] = dataclasses.field(default_factory=dict)

    def to_arrays(self) -> dict[str, np.ndarray]:
        """Return a flat dictionary for a checkpoint: `<modality>/mean`, `/scale` and, of ranks, `/quantiles`."""
        return {f"{m}/{part}": x for part, known in vars(self).items() for m, x in known.items()}

    def standardise(self, modality: Modality, rows: np.ndarray) -> np.ndarray:
        """Return features [..., d_m] as the model takes them, float32, clipped to ±10 (choice)."""
        centred = with_ranks(rows, self.quantiles.get(modality)).astype(np.float64) - self.mean[modality]
        return np.clip(centred / self.scale[modality], -CLIP, CLIP).astype(np.float32)

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray]) -> Normalisation:
        """Return the normalisation that `to_arrays` wrote.

        Raises:
          UserError: a mean or a scale is missing, or the shapes of what belongs together do not fit.
        """
        mean, scale, quantiles = {}, {}, {}
        for m in dict.fromkeys(key.rpartition("/")[0] for key in arrays):
            for key in (f"{m}/mean", f"{m}/scale"):
                if key not in arrays:
                    raise UserError(f"The stored normalisation lacks {key!r}: the checkpoint is incomplete.")
            mean[m], scale[m] = (np.asarray(arrays[f"{m}/{part}"], np.float32) for part in ("mean", "scale"))
            if mean[m].shape != scale[m].shape:
                raise UserError(f"The stored mean and scale of the modality {m!r} have different shapes.")
            if f"{m}/quantiles" in arrays:
                known = quantiles[m] = np.asarray(arrays[f"{m}/quantiles"], np.float32)
                if known.ndim != 2 or len(known) < 2 or known.shape[1] > mean[m].size:
                    raise UserError(f"The stored quantiles of the modality {m!r} do not fit its mean.")
        return cls(mean=mean, scale=scale, quantiles=quantiles)


@dataclasses.dataclass(frozen=True)
class Standardised:
    """Wrap memory-mapped features that are standardised when rows of them are read; indexed as an array."""

    rows: np.ndarray  # [U, d_m] floats
    present: np.ndarray  # [U] bool
    normalisation: Normalisation
    modality: Modality

    @property
    def shape(self) -> tuple[int, ...]:
        return self.rows.shape

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: Any) -> np.ndarray:
        known = self.normalisation.standardise(self.modality, np.asarray(self.rows[index]))
        return np.where(self.present[index][..., None], known, np.float32(0))

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.asarray(self[:], dtype)


def fit(corpus: Corpus) -> Normalisation:
    """Return mean and deviation of each feature over the train utterances that have the modality, labelled or not.

    With them are quantiles of what `corpus.ranked` names. A feature whose deviation is below 1e-6 counts as constant:
    it has scale 1 (as a rank: all its quantiles are one) and becomes 0 (choice). A modality that no train utterance has
    keeps mean 0 and scale 1.
    """
    rows = {m: np.flatnonzero(corpus.training & corpus.present[m]) for m in corpus.features}
    quantiles = {m: _quantiles(corpus.features[m], rows[m], n) for m, n in corpus.ranked.items()}
    moments = {m: moments_of(x, rows[m], quantiles.get(m)) for m, x in corpus.features.items()}
    if corpus.words is not None and corpus.words.moments is not None:
        moments[WORDS] = corpus.words.moments
    mean, scale = ({m: pair[i] for m, pair in moments.items()} for i in range(2))
    return Normalisation(mean=mean, scale=scale, quantiles=quantiles)


def apply(corpus: Corpus, normalisation: Normalisation) -> Corpus:
    """Return a corpus standardised by what `fit` found, on it or on the one that a model was trained on.

    Missing rows stay zero and results are clipped to ±10 (choice). Memory-mapped features become `Standardised` ones.

    Raises:
      UserError: the normalisation lacks a modality of the corpus or has another width for it.
    """
    result: dict[Modality, Any] = {}
    for m, features in corpus.features.items():
        if m == WORDS and corpus.words is not None:
            result[m] = features
            continue
        what, known = f"The modality {m!r} of the corpus {corpus.name!r} has", normalisation.mean.get(m)
        if known is None:
            raise UserError(
                f"{what} no stored mean and scale; there are some for {', '.join(normalisation.mean)}. Choose the "
                "modalities that the model was trained on."
            )
        if known.shape != features.shape[1:]:
            raise UserError(
                f"{what} {features.shape[1]} features, but the stored mean has {known.size}: these are not the "
                "features that the model was trained on."
            )
        lazy = Standardised(features, corpus.present[m], normalisation, m)
        result[m] = lazy
        if not isinstance(features, np.memmap):
            result[m] = np.empty(features.shape, np.float32)
            for start in range(0, len(features), _CHUNK):
                result[m][start : start + _CHUNK] = lazy[start : start + _CHUNK]
    return dataclasses.replace(corpus, features=result, ranked={})


def copies(modality: Modality, data: Mapping[str, Any]) -> tuple[str, ...]:
    """Return within what a modality's copies are standardised, in their order, by the options `data` of a config."""
    return tuple(within for option, within in COPIES.items() if modality.startswith(tuple(data[option])))


def raw_widths(widths: Mapping[Modality, int], data: Mapping[str, Any]) -> dict[Modality, int]:
    """Return modality -> number of features as extracted, given `widths`, the numbers with their copies."""
    return {m: width // (1 + len(copies(m, data))) for m, width in widths.items()}


def with_copies(corpus: Corpus, data: Mapping[str, Any]) -> Corpus:
    """Append copies of features that are standardised over each dialogue, or over each speaker's utterances in it.

    The copy lacks what is constant about a voice, a face or a room, and needs no train statistics, so it fits new
    people (choice). It takes the whole dialogue, so it cannot be streamed. Missing rows, and the copy of a lone
    utterance, are zero. The options COPIES of `data` begin the names of the modalities that get one, e.g. ("audio",).
    """
    wanted = {m: copies(m, data) for m in corpus.features}
    if not any(wanted.values()):
        return corpus
    speaker = np.unique(np.stack([corpus.dialogue, corpus.speaker]), axis=1, return_inverse=True)[1].reshape(-1)
    groups = {"dialogue": corpus.dialogue, "speaker": speaker}
    features = dict(corpus.features)
    for m, x in corpus.features.items():
        if wanted[m]:
            features[m] = np.concatenate([x, *(_within(x, groups[w], corpus.present[m]) for w in wanted[m])], axis=1)
    return dataclasses.replace(corpus, features=features)


def ranked(corpus: Corpus, beginnings: Sequence[str]) -> Corpus:
    """Mark the features of modalities whose names begin so to become ranks (`rank`); without copies yet."""
    marked = {m: width for m, width in corpus.widths.items() if m.startswith(tuple(beginnings))}
    return dataclasses.replace(corpus, ranked=marked)


def rank(rows: np.ndarray, quantiles: np.ndarray) -> np.ndarray:
    """Return the share of train utterances that have less of a feature, and half of those that have as much.

    The quantile transform (choice) keeps which of two utterances has more, but not how much more, so long tails of
    loudness, pauses and counts end at 1. Ranks of rows [..., n] are float64 in [0, 1], interpolated between evenly
    spaced ascending quantiles [K, n] of train; 1/2 where a feature's quantiles are all one.
    """
    count = quantiles.shape[1]
    x = np.asarray(rows, np.float32).reshape(-1, count)
    low, high = _places(x, quantiles)
    last, column = len(quantiles) - 1, np.arange(count)
    after = np.clip(low, 1, last)
    start, end = (quantiles[k, column].astype(np.float64) for k in (after - 1, after))
    between = after - 1 + (x - start) / np.maximum(end - start, np.finfo(np.float32).tiny)
    share = np.where(high > low, (low + high - 1) / 2, np.clip(between, 0, last)) / last
    return np.where(quantiles[0] == quantiles[-1], 0.5, share).reshape(np.shape(rows))


def _places(x: np.ndarray, quantiles: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Count how many quantiles [K, n] are below values [U, n], and how many are not above them: [U, n] int each."""
    if len(x) <= _FEW:  # as in a stream, where a search for each feature costs more than comparing with all quantiles
        return (quantiles < x[:, None]).sum(axis=1), (quantiles <= x[:, None]).sum(axis=1)
    pairs = list(zip(np.ascontiguousarray(quantiles.T), x.T, strict=True))
    low, high = (np.stack([np.searchsorted(known, v, side) for known, v in pairs], 1) for side in ("left", "right"))
    return low, high


def with_ranks(rows: np.ndarray, quantiles: np.ndarray | None) -> np.ndarray:
    """Return rows [..., d] with their first n features as ranks between quantiles [K, n]; as they are without any."""
    if quantiles is None:
        return rows
    count = quantiles.shape[1]
    return np.concatenate([rank(rows[..., :count], quantiles), rows[..., count:]], axis=-1)


def _quantiles(features: np.ndarray, rows: np.ndarray, count: int) -> np.ndarray:
    """Return evenly spaced quantiles [K, count] float32 of rows' [n] first features; all one for a constant feature."""
    if not len(rows):
        return np.zeros((2, count), np.float32)
    if len(rows) > _SAMPLE:
        rows = np.sort(np.random.default_rng(0).choice(rows, _SAMPLE, replace=False))
    sample = np.asarray(features[rows][:, :count], np.float32)
    known = np.quantile(sample, np.linspace(0, 1, min(_KNOTS, max(len(rows), 2))), axis=0)
    constant = sample.std(axis=0, dtype=np.float64) < FLOOR
    return np.where(constant, np.median(sample, axis=0), known).astype(np.float32)


def _within(features: np.ndarray, group: np.ndarray, present: np.ndarray) -> np.ndarray:
    """Return features [U, d] standardised over the present rows of each group [U]."""
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


def moments_of(
    features: np.ndarray, rows: np.ndarray, quantiles: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Return mean and scale of the rows [n] of features [U, d], the first as ranks, a chunk at a time."""
    width = features.shape[1]
    if not len(rows):
        return np.zeros(width, np.float32), np.ones(width, np.float32)

    def chunks() -> Iterator[np.ndarray]:
        for start in range(0, len(rows), _CHUNK):
            yield with_ranks(features[rows[start : start + _CHUNK]], quantiles).astype(np.float64)

    mean = sum(x.sum(axis=0) for x in chunks()) / len(rows)
    deviation = np.sqrt(sum(np.square(x - mean).sum(axis=0) for x in chunks()) / len(rows))
    return mean.astype(np.float32), np.where(deviation < FLOOR, 1.0, deviation).astype(np.float32)
