"""The class names that published files leave out, and classes made of sentiment scores."""

from __future__ import annotations

import numpy as np

IEMOCAP = ("happy", "sad", "neutral", "angry", "excited", "frustrated")  # the field's numbering; the first four are
# also that of the files with four classes
MELD = ("neutral", "surprise", "fear", "sadness", "joy", "disgust", "anger")
MERBENCH_MELD = ("anger", "joy", "sadness", "neutral", "disgust", "fear", "surprise")
MELD_SENTIMENT = ("neutral", "positive", "negative")
POLARITY = ("negative", "neutral", "positive")
MOST = 3  # of a sentiment score's size
LEVELS = tuple(str(level) for level in range(-MOST, MOST + 1))  # seven, of a sentiment score


def by_sign(scores: np.ndarray) -> np.ndarray:
    """[U] int: the class in `POLARITY` of sentiment scores, whose zero is neutral; -1 where a score is not finite."""
    return np.where(np.isfinite(scores), np.sign(np.nan_to_num(scores)) + 1, -1).astype(np.int64)


def without_neutral(scores: np.ndarray) -> np.ndarray:
    """[U] int: 0 negative, 1 positive, -1 (no label) where a score is zero or not finite."""
    return np.where(np.isfinite(scores) & (scores != 0), scores > 0, -1).astype(np.int64)


def levels(scores: np.ndarray) -> np.ndarray:
    """[U] int: the number in `LEVELS` of sentiment scores, rounded as the field's seven-way accuracy rounds them; -1
    where a score is not finite."""
    return np.where(np.isfinite(scores), np.round(np.clip(np.nan_to_num(scores), -MOST, MOST)) + MOST, -1).astype(
        np.int64
    )


def rarest(targets: np.ndarray, counted: np.ndarray) -> np.ndarray:
    """[U] int: the rarest of the labels of each utterance, O where it has none.

    Args:
      targets: [U, O] bool, which labels apply.
      counted: [U] bool, the utterances in which labels are counted.
    """
    often = np.where(targets, targets[counted].sum(axis=0), np.inf)
    return np.where(targets.any(axis=1), often.argmin(axis=1), targets.shape[1])
