"""Encode text: a transcript's vector by an encoder of the BERT class, those of sentence-transformers among them."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np

from ariigcn_jax.data import tokens as tokenizing
from ariigcn_jax.features.encoder import Combine, Encode, Encoder, Input
from ariigcn_jax.features.words import FROZEN, WordEncoder
from ariigcn_jax.nn import pretrained

Pooling = Literal["auto", "mean", "cls", "max"]


@dataclasses.dataclass(frozen=True)
class TextEncoder(Encoder):
    """Pool the hidden states of chosen layers over a transcript's tokens, in JAX (`features.words`).

    Attributes:
      pooling: over the tokens; "auto" is what a sentence-transformers model specifies, and the mean for others.
      layers: numbers of the hidden states: 0 is the embeddings, -1 the last layer.
      combine: whether the vectors of several layers are averaged or concatenated.
      normalize: to unit length; "auto" is what a sentence-transformers model specifies.
      max_tokens: a longer transcript is cut; 0 is the model's own limit.
    """

    batch: int = 2048  # many share rows of tokens, so that few shapes compile
    pooling: Pooling = "auto"
    layers: tuple[int, ...] = (-1,)
    combine: Combine = "mean"
    normalize: Literal["auto", "true", "false"] = "auto"
    max_tokens: int = 0

    modality = "text"

    def workers(self, jobs: int, device: str) -> int:
        """Return 0: JAX works in this process, with every core or the accelerator that it finds."""
        return 0

    def identity(self) -> dict[str, Any]:
        words, to_unit = self._words
        chosen = {"pooling": words.pooling, "normalize": to_unit, "max_tokens": words.options["max_tokens"]}
        return {"kind": "words", **self.options(), **chosen, "weights": words.pretrained.digest, "model": ""}

    def load(self, threads: int, device: str) -> Encode:
        words, to_unit = self._words
        limit, first = words.options["max_tokens"], words.pretrained.architecture.first_position

        def encode(texts: Sequence[Input]) -> list[np.ndarray]:
            said = [str(text) for text in texts]
            tokens, _ = tokenizing.tokens(
                words.tokenizer, said, limit=limit, pooling=words.pooling, first_position=first
            )
            vectors = words.encode(tokens, words.params)  # kept by the caller
            if self.combine == "mean":
                vectors = vectors.reshape(len(said), len(self.layers), -1).mean(axis=1)
            if to_unit:
                vectors = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
            return list(vectors)

        return encode

    @functools.cached_property
    def _words(self) -> tuple[WordEncoder, bool]:
        """Return the encoder, and whether to bring vectors to unit length; "auto" is what the model's files say."""
        source = pretrained.read(pretrained.find(self.model))
        options = {"encoder": self.model, "train": FROZEN, "layers": self.layers, "turns": 0}
        options |= {"pooling": self.pooling, "max_tokens": self.max_tokens or source.limit}
        found = WordEncoder.of(options, source.folder)
        # the pooling is named here, so that `words` does not bring vectors to unit length by itself
        words = dataclasses.replace(found, options={**options, "pooling": found.pooling})
        return words, source.normalize if self.normalize == "auto" else self.normalize == "true"
