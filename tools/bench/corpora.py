"""Resize a corpus, with the features it has: longer dialogues, or more of them."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from ariigcn_jax.types import Corpus


def resized(corpus: Corpus, train: Sequence[int], valid: Sequence[int]) -> Corpus:
    """Fill dialogues of other lengths with a corpus's utterances in their order, repeated as often as needed.

    Args:
      corpus: with at least one utterance; speakers keep their numbers.
      train: utterances of each train dialogue, each at least 1.
      valid: utterances of each validation dialogue, each at least 1. There is no test split.
    """
    lengths = np.array([*train, *valid])
    total = int(lengths.sum())
    chosen = np.arange(total) % len(corpus)
    return dataclasses.replace(
        corpus,
        features={m: x[chosen] for m, x in corpus.features.items()},
        present={m: x[chosen] for m, x in corpus.present.items()},
        dialogue=np.repeat(np.arange(len(lengths), dtype=np.int32), lengths),
        speaker=corpus.speaker[chosen],
        label=corpus.label[chosen],
        target=None if corpus.target is None else corpus.target[chosen],
        ratings=None if corpus.ratings is None else corpus.ratings[chosen],
        split=np.repeat(["train", "valid"], [sum(train), sum(valid)]),
        dialogue_ids=tuple(map(str, range(len(lengths)))),
        utterance_ids=tuple(map(str, range(total))),
        speaker_names=None,
        transcript=None,
    )


def lengths(corpus: Corpus, split: str) -> list[int]:
    """Return the number of utterances of each dialogue of a split."""
    return np.unique(corpus.dialogue[corpus.split == split], return_counts=True)[1].tolist()


def of_size(corpus: Corpus, utterances: int) -> Corpus:
    """Return a corpus of at least `utterances` train utterances in dialogues as long as the corpus's own."""
    own, total = lengths(corpus, "train"), 0
    train: list[int] = []
    while total < utterances:
        train.append(own[len(train) % len(own)])
        total += train[-1]
    return resized(corpus, train, lengths(corpus, "valid"))
