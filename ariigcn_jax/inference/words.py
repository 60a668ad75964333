"""Make the vectors of words that a trained model takes: from transcripts, by the encoder in its run's folder."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from ariigcn_jax.data import Normalisation
from ariigcn_jax.features.words import WordEncoder, looks_ahead
from ariigcn_jax.nn.pretrained import FOLDER
from ariigcn_jax.nn.text_encoder import NAME, STATISTICS
from ariigcn_jax.types import WORDS, Corpus, UserError, Words


@dataclasses.dataclass(frozen=True)
class Transcripts:
    """Hold the text encoders of a trained model.

    Attributes:
      encoder: as it was before training.
      trained: the trained parameters of each encoder; one {} where it is frozen. Networks whose answers are averaged
        share a frozen encoder, but each has a trained one of its own; their vectors then stand side by side.
      later: whether turns to come may be in an utterance's text.
    """

    encoder: WordEncoder
    trained: tuple[Mapping[str, Any], ...]
    later: bool

    @property
    def turns(self) -> tuple[int, int]:
        """Return how many turns before and after an utterance may be in its text."""
        return self.encoder.turns(self.later)

    @functools.cached_property
    def params(self) -> tuple[dict[str, Any], ...]:
        """Return all parameters of each encoder, on the device; what is not trained is there once."""
        whole = jax.device_put(self.encoder.params)
        return tuple({**whole, **own} for own in self.trained)

    def attach(self, corpus: Corpus) -> Corpus:
        """Give a corpus, as read, the vectors of its transcripts [U, d]; one that has them is returned as it is."""
        if WORDS not in corpus.features or corpus.features[WORDS].shape[1]:
            return corpus
        words, notes = self.encoder.tokens(corpus, self.later)
        return dataclasses.replace(
            corpus,
            features={**corpus.features, WORDS: self.encode(words, f"{corpus.name}: words")},
            present={**corpus.present, WORDS: corpus.present[WORDS] & (words.lengths > 0)},
            notes=(*corpus.notes, *notes),
            words=None,
        )

    def of_turns(self, said: Sequence[Sequence[Mapping[str, Any]]], places: Sequence[int]) -> list[np.ndarray | None]:
        """Return the vector [d] of one utterance of each of several conversations; None where it has no words.

        Args:
          said: the utterances around it, as `data.readers.conversations.checked` returns them, in time order.
          places: which one of them it is.
        """
        rows = [row for turns in said for row in turns]
        counts = np.array([len(turns) for turns in said])
        texts, names = [row["transcript"] or "" for row in rows], [row["speaker"] for row in rows]
        words, _ = self.encoder.of_texts(texts, names, np.repeat(np.arange(len(said)), counts), self.later)
        words = words.take(np.cumsum(counts) - counts + places)
        return [x if n else None for x, n in zip(self.encode(words), words.lengths, strict=True)]

    def encode(self, words: Words, progress: str = "") -> np.ndarray:
        """Return the vectors of tokens [U, d]; those of several encoders side by side."""
        return np.concatenate([self.encoder.encode(words, params, progress) for params in self.params], axis=1)


def read(path: Path, config: Any, digest: str, trained: Sequence[Mapping[str, Any]]) -> Transcripts:
    """Read the text encoder in a run's folder.

    Args:
      path: the folder.
      config: of the run.
      digest: of the encoder, as corpus.json has it.
      trained: as in `Transcripts`.

    Raises:
      UserError: it is missing, damaged, or another one.
    """
    if not (path / FOLDER).is_dir():
        raise UserError(f"{path}: the folder {FOLDER}, with the text encoder, is missing. Copy the run's folder again.")
    encoder = WordEncoder.of(config.model.text, path / FOLDER)
    if encoder.pretrained.digest != digest:
        problem = "is damaged, or not the text encoder that the model was trained with: its checksum differs"
        raise UserError(f"{path / FOLDER}: {problem}. Copy the run's folder again.")
    return Transcripts(encoder, tuple(trained), looks_ahead(config.model))


def side_by_side(normalisation: Normalisation, count: int) -> Normalisation:
    """Return statistics for the vectors of `count` encoders side by side."""
    mean, scale = (
        {m: np.tile(x, count) if m == WORDS else x for m, x in known.items()}
        for known in (normalisation.mean, normalisation.scale)
    )
    return dataclasses.replace(normalisation, mean=mean, scale=scale)


def separate(params: Mapping[str, Any], members: int) -> tuple[dict[str, Any], list[Mapping[str, Any]]]:
    """Return the parameters of the networks, and those of each of their trained text encoders; one {} without any."""
    own = params.get(NAME)
    networks = {name: x for name, x in params.items() if name not in (NAME, STATISTICS)}
    if own is None:
        return networks, [{}]
    if members == 1:
        return networks, [own]
    return networks, [jax.tree.map(lambda x, k=k: x[k], own) for k in range(members)]
