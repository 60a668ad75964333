"""Scores of classes, of sentiment, and of several labels at once.

Scores of classes follow from a confusion matrix, so that counts of parts of a split may be added first.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ariigcn_jax.types import Array


def confusion(labels: Array, predictions: Array, weight: Array, num_classes: int) -> Array:
    """Count predictions [...] int of each true class, labels [...] int; matrices of parts of a split add up.

    Labels outside [0, C) (UNLABELED, padding) count nowhere; `weight` [...] is bool or >= 0, for each example.

    Returns:
      [C, C], row = truth, column = prediction; float32 for a float weight, else int32.
    """
    dtype = jnp.float32 if jnp.issubdtype(weight.dtype, jnp.floating) else jnp.int32
    truth = jax.nn.one_hot(labels.reshape(-1), num_classes, dtype=dtype) * weight.reshape(-1, 1).astype(dtype)
    guess = jax.nn.one_hot(predictions.reshape(-1), num_classes, dtype=dtype)
    # Accelerators round the factors of a float32 product unless told otherwise, and a weight is not always 0 or 1.
    return jnp.matmul(truth.T, guess, precision=jax.lax.Precision.HIGHEST)


def scores(confusion: Array) -> dict[str, Array]:
    """Return every score of the protocol from confusion matrices [..., C, C], row = truth, column = prediction.

    A division by 0 gives 0, never NaN. Papers of this field call `accuracy` weighted accuracy: per-class accuracy
    averaged with the class frequencies, which equals plain accuracy.

    Returns:
      [...] `accuracy`, `weighted_accuracy` (the same), `unweighted_accuracy` (balanced: mean recall over the classes
      that occur in the truth), `weighted_f1` (by class frequency), `macro_f1` (mean over the classes that occur in
      truth or prediction); [..., C] `class_accuracy` (recall), `class_precision`, `class_f1`, `support` (examples).
    """
    counts = confusion.astype(jnp.float32)
    hits = jnp.diagonal(counts, axis1=-2, axis2=-1)
    support, predicted = counts.sum(-1), counts.sum(-2)
    recall, f1 = _ratio(hits, support), _ratio(2 * hits, support + predicted)
    accuracy = _ratio(hits.sum(-1), support.sum(-1))
    return {
        "accuracy": accuracy,
        "weighted_accuracy": accuracy,
        "unweighted_accuracy": _mean(recall, support > 0),
        "weighted_f1": _mean(f1, support),
        "macro_f1": _mean(f1, support + predicted > 0),
        "class_accuracy": recall,
        "class_precision": _ratio(hits, predicted),
        "class_f1": f1,
        "support": support,
    }


def confusion_by_label(targets: Array, predictions: Array, weight: Array) -> Array:
    """Count the right and wrong decisions on each label, as `confusion` does.

    It takes targets [..., O] 0 or 1, predictions [..., O] bool and weight [...] bool, and returns [O, 2, 2] int32.
    """
    truth, guess = (jnp.stack([x < 0.5, x > 0.5], axis=-1) for x in (targets, predictions.astype(jnp.float32)))
    both = truth[..., :, None] & guess[..., None, :] & weight[..., None, None, None]
    return both.reshape(-1, *both.shape[-3:]).sum(axis=0, dtype=jnp.int32)


def scores_of_labels(confusion: np.ndarray) -> dict[str, np.ndarray]:
    """Return the scores of each label from counts [O, 2, 2]; a division by 0 gives 0.

    Returns:
      `class_accuracy`, the share of right decisions, `class_f1` and `support`, how often the label applies; [O] each.
    """
    counts = np.asarray(confusion, np.float64)
    hits, support = counts[:, 1, 1], counts[:, 1].sum(axis=1)
    right, total = hits + counts[:, 0, 0], counts.sum(axis=(1, 2))
    return {
        "class_accuracy": _quotient(right, total),
        "class_f1": _quotient(2 * hits, support + counts[:, :, 1].sum(axis=1)),
        "support": support,
    }


def multilabel_scores(probabilities: np.ndarray, targets: np.ndarray) -> dict[str, float]:
    """Return the scores of several labels from probabilities [n, O], cut at one half, and targets [n, O], 0 or 1.

    Returns:
      `micro_f1` (over all decisions), `macro_f1` (mean over the labels that occur in truth or prediction),
      `weighted_f1` (by label frequency), `hamming_accuracy` (share of right decisions) and `exact_accuracy` (share of
      utterances whose labels are all right). A division by 0 gives 0.
    """
    truth, guess = np.asarray(targets) > 0.5, np.asarray(probabilities) > 0.5
    hits, support, predicted = (x.sum(axis=0, dtype=np.float64) for x in (truth & guess, truth, guess))
    f1, there = _quotient(2 * hits, support + predicted), support + predicted > 0
    return {
        "micro_f1": float(_quotient(2 * hits.sum(), (support + predicted).sum())),
        "macro_f1": float(_quotient(f1.sum(), there.sum())),
        "weighted_f1": float(_quotient((f1 * support).sum(), support.sum())),
        "hamming_accuracy": float(_quotient((truth == guess).sum(), truth.size)),
        "exact_accuracy": float(_quotient((truth == guess).all(axis=1).sum(), len(truth))),
    }


def sentiment_scores(predictions: np.ndarray, targets: np.ndarray) -> dict[str, float]:
    """Return the scores of sentiment, predictions [n] against targets [n] in [-3, 3], as this field reports them.

    Returns:
      `mae`, the mean absolute error; `correlation`, Pearson's, 0 where one side is constant; `accuracy_7` and
      `accuracy_5`, of both sides rounded after cutting them to ± 3 and ± 2; `accuracy_2` and `f1_2`, positive against
      negative on the utterances whose truth is not 0; `accuracy_2_with_zero` and `f1_2_with_zero`, negative against
      not negative on all. Both F1 are means over the two classes, by frequency. Without utterances all are 0.

    References:
      Zadeh et al., Multi-attention Recurrent Network for Human Communication Comprehension, 2018 (with zero); Tsai et
      al., Multimodal Transformer for Unaligned Multimodal Language Sequences, 2019 (without).
    """
    guess, truth = np.asarray(predictions, np.float64), np.asarray(targets, np.float64)
    spread = [x - x.mean() if len(x) else x for x in (guess, truth)]
    deviation = np.sqrt((spread[0] ** 2).sum() * (spread[1] ** 2).sum())
    signed = truth != 0
    two, f1 = _binary(truth[signed] > 0, guess[signed] > 0)
    two_zero, f1_zero = _binary(truth >= 0, guess >= 0)
    return {
        "mae": float(_quotient(np.abs(guess - truth).sum(), len(truth))),
        "correlation": float((spread[0] * spread[1]).sum() / deviation) if deviation > 1e-12 else 0.0,
        "accuracy_7": _rounded_accuracy(guess, truth, 3),
        "accuracy_5": _rounded_accuracy(guess, truth, 2),
        "accuracy_2": two,
        "f1_2": f1,
        "accuracy_2_with_zero": two_zero,
        "f1_2_with_zero": f1_zero,
    }


def _rounded_accuracy(guess: np.ndarray, truth: np.ndarray, most: int) -> float:
    """Return the accuracy of scores that are cut to ± most and rounded."""
    same = np.round(np.clip(guess, -most, most)) == np.round(np.clip(truth, -most, most))
    return float(_quotient(same.sum(), len(same)))


def _binary(truth: np.ndarray, guess: np.ndarray) -> tuple[float, float]:
    """Return the accuracy, and F1 of both classes weighted with their frequency."""
    f1 = [_quotient(2 * (t & g).sum(), t.sum() + g.sum()) for t, g in ((truth, guess), (~truth, ~guess))]
    weighted = f1[0] * truth.sum() + f1[1] * (~truth).sum()
    return float(_quotient((truth == guess).sum(), len(truth))), float(_quotient(weighted, len(truth)))


def _quotient(numerator: Any, denominator: Any) -> np.ndarray:
    """Return the quotient on the host, 0 where the denominator is 0."""
    denominator = np.asarray(denominator, np.float64)
    return np.where(denominator == 0, 0.0, numerator / np.where(denominator == 0, 1.0, denominator))


def _ratio(numerator: Array, denominator: Array) -> Array:
    """Return the quotient [...], 0 where the denominator is 0; both are counts."""
    empty = denominator == 0
    return jnp.where(empty, 0.0, numerator / jnp.where(empty, 1.0, denominator))


def _mean(values: Array, weight: Array) -> Array:
    """Return the weighted mean over the last axis, [..., C] to [...]; 0 where all weights are 0."""
    weight = weight.astype(jnp.float32)
    return _ratio((values * weight).sum(-1), weight.sum(-1))
