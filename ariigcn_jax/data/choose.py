"""Choose some dialogues or some modalities of a corpus."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Sequence

import numpy as np

from ariigcn_jax.types import Corpus, UserError


def dialogues(corpus: Corpus, chosen: np.ndarray) -> Corpus:
    """Return the corpus with some of its dialogues alone, in its order.

    Args:
      corpus: any corpus; memory-mapped features are read into memory.
      chosen: [dialogues] bool.
    """
    rows = np.asarray(chosen, bool)[corpus.dialogue]
    columns = {
        field.name: value[rows]
        for field in dataclasses.fields(corpus)
        if isinstance(value := getattr(corpus, field.name), np.ndarray)
    }
    columns["dialogue"] = np.unique(corpus.dialogue[rows], return_inverse=True)[1].reshape(-1).astype(np.int32)
    return dataclasses.replace(
        corpus,
        features={m: x[rows] for m, x in corpus.features.items()},
        present={m: x[rows] for m, x in corpus.present.items()},
        dialogue_ids=tuple(name for name, here in zip(corpus.dialogue_ids, chosen, strict=True) if here),
        utterance_ids=tuple(name for name, here in zip(corpus.utterance_ids, rows, strict=True) if here),
        **columns,
    )


def dialogues_in(corpus: Corpus, splits: Collection[str]) -> np.ndarray:
    """Return [dialogues] bool, those that are in one of the splits."""
    chosen = np.zeros(len(corpus.dialogue_ids), bool)
    chosen[corpus.dialogue] = np.isin(corpus.split, list(splits))
    return chosen


def modalities(corpus: Corpus, beginnings: Sequence[str]) -> Corpus:
    """Return the corpus with some of its modalities alone.

    Args:
      corpus: any corpus.
      beginnings: of the names of the modalities to keep, e.g. ("text", "audio"); () keeps all.

    Returns:
      The corpus with all its utterances, also those that have none of the kept modalities.

    Raises:
      UserError: no modality begins with one of them.
    """
    unknown = [b for b in beginnings if not any(m.startswith(b) for m in corpus.modalities)]
    if unknown:
        raise UserError(
            f"No modality of the corpus {corpus.name!r} begins with {' or '.join(map(repr, unknown))}; it has "
            f"{', '.join(corpus.modalities)}. data.only takes beginnings of these names, and only_A_B names A and B."
        )
    kept = [m for m in corpus.modalities if not beginnings or m.startswith(tuple(beginnings))]
    return dataclasses.replace(
        corpus,
        features={m: corpus.features[m] for m in kept},
        present={m: corpus.present[m] for m in kept},
        ranked={m: count for m, count in corpus.ranked.items() if m in kept},
    )
