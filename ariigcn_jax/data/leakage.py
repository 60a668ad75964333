"""Detect features whose extractor was trained on the train labels: along what tells the classes apart, they are more
certain of train utterances than of new ones."""

from __future__ import annotations

import numpy as np

from ariigcn_jax.types import UNLABELED, Corpus, Modality

FLOOR = 1e-6  # standard deviation of a constant feature, and share of the largest of a direction that counts


def relative_width(corpus: Corpus, modality: Modality, known: np.ndarray) -> float:
    """Return how wide test is, over what the extractor may have been trained on, along what tells the classes apart.

    The directions are the classes' means over half of the dialogues, and widths are compared with those of the other
    half, because directions fit the rows that they are found on; both ways, and their mean (choice). The labels of test
    are not looked at.

    Args:
      corpus: as read, not standardised.
      modality: one of its own.
      known: [U] bool, utterances that have it and may have been trained on.

    Returns:
      The ratio of standard deviations; 1 where there is nothing to measure.
    """
    new = corpus.present[modality] & (corpus.split == "test")
    rows, there = (np.asarray(corpus.features[modality][x], np.float64) for x in (known, new))
    half = np.isin(corpus.dialogue, np.unique(corpus.dialogue[known])[1::2])[known]
    if not len(there) or not half.any():
        return 1.0
    scale = np.maximum(rows.std(axis=0), FLOOR)
    label, ratios = corpus.label[known], []
    for fitted in (half, ~half):
        axes = directions(rows[fitted] / scale, label[fitted])
        widths = [(x / scale @ axes.T).var(axis=0).sum() for x in (there, rows[~fitted])]
        ratios.append(np.sqrt(widths[0] / max(widths[1], FLOOR**2)) if len(axes) else 1.0)
    return float(np.mean(ratios))


def directions(rows: np.ndarray, label: np.ndarray) -> np.ndarray:
    """Return orthonormal directions in which the classes' means differ.

    Args:
      rows: [N, d] of features of one scale.
      label: [N] int; UNLABELED ones do not count.

    Returns:
      [k, d], where k is the number of classes less one, or less where their means lie in fewer directions or are equal.
    """
    known = np.unique(label[label != UNLABELED])
    if len(known) < 2:
        return np.empty((0, rows.shape[1]))
    means = np.stack([rows[label == c].mean(axis=0) for c in known])
    _, size, axes = np.linalg.svd(means - means.mean(axis=0), full_matrices=False)
    return axes[: len(known) - 1][size[: len(known) - 1] > FLOOR * max(size[0], FLOOR)]
