"""A corpus resized, with the features it has: longer dialogues, more of them, fewer or more modalities."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from ariigcn_jax.types import Corpus


def resized(corpus: Corpus, train: Sequence[int], valid: Sequence[int]) -> Corpus:
    """Dialogues of other lengths, filled with the corpus's utterances in their order, again and again.

    Args:
      corpus: any, with at least one utterance.
      train: utterances of each train dialogue, each at least 1.
      valid: the same of the validation dialogues.

    Returns:
      A corpus without a test split. Speakers keep their numbers.
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
    """Utterances of each dialogue of a split."""
    return np.unique(corpus.dialogue[corpus.split == split], return_counts=True)[1].tolist()


def of_size(corpus: Corpus, utterances: int) -> Corpus:
    """At least `utterances` train utterances in dialogues as long as the corpus's own; its validation lengths."""
    own, total = lengths(corpus, "train"), 0
    train: list[int] = []
    while total < utterances:
        train.append(own[len(train) % len(own)])
        total += train[-1]
    return resized(corpus, train, lengths(corpus, "valid"))


def with_modalities(corpus: Corpus, count: int) -> Corpus:
    """The first `count` modalities, the corpus's own again under other names where it has fewer."""
    own = corpus.modalities
    sources = {
        own[k] if k < len(own) else f"{own[k % len(own)]}_{k // len(own) + 1}": own[k % len(own)] for k in range(count)
    }
    return dataclasses.replace(
        corpus,
        features={name: corpus.features[m] for name, m in sources.items()},
        present={name: corpus.present[m] for name, m in sources.items()},
    )
