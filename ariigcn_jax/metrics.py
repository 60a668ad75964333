"""Scores of a classifier, all of them from the confusion matrix, so that partial counts may be added first."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from ariigcn_jax.types import Array


def confusion(labels: Array, predictions: Array, weight: Array, num_classes: int) -> Array:
    """Counts who was taken for what; matrices of parts of a split add up to that of the split.

    Args:
      labels: [...] int, the truth in [0, C); any other value (UNLABELED, padding) counts nowhere.
      predictions: [...] int in [0, C).
      weight: [...] bool or number >= 0, how much an example counts; 0 at padding and unlabeled utterances.
      num_classes: C.

    Returns:
      [C, C], row = truth, column = prediction; float32 for a float weight, else int32.
    """
    dtype = jnp.float32 if jnp.issubdtype(weight.dtype, jnp.floating) else jnp.int32
    truth = jax.nn.one_hot(labels.reshape(-1), num_classes, dtype=dtype) * weight.reshape(-1, 1).astype(dtype)
    guess = jax.nn.one_hot(predictions.reshape(-1), num_classes, dtype=dtype)
    # Accelerators round the factors of a float32 product unless told otherwise, and a weight is not always 0 or 1.
    return jnp.matmul(truth.T, guess, precision=jax.lax.Precision.HIGHEST)


def scores(confusion: Array) -> dict[str, Array]:
    """Every score of the protocol from confusion matrices.

    What divides by nothing is 0, never NaN: the scores of a class that does not occur, and all scores of an empty
    split. `accuracy` is what this field's papers call weighted accuracy: per-class accuracy averaged with the class
    frequencies as weights, which equals plain accuracy; it is given under `weighted_accuracy` too.

    Args:
      confusion: [..., C, C], row = truth, column = prediction.

    Returns:
      A dictionary; [...] for `accuracy`, `weighted_accuracy`, `unweighted_accuracy` (balanced: mean recall over the
      classes that occur in the truth), `weighted_f1` (weighted with the class frequencies) and `macro_f1` (mean over
      the classes that occur in truth or prediction); [..., C] for `class_accuracy` (recall), `class_precision`,
      `class_f1` and `support` (examples of the class).
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


def _ratio(numerator: Array, denominator: Array) -> Array:
    """Quotient [...], 0 where the denominator is 0; both are counts."""
    empty = denominator == 0
    return jnp.where(empty, 0.0, numerator / jnp.where(empty, 1.0, denominator))


def _mean(values: Array, weight: Array) -> Array:
    """Weighted mean over the last axis, [..., C] to [...]; 0 where all weights are 0."""
    weight = weight.astype(jnp.float32)
    return _ratio((values * weight).sum(-1), weight.sum(-1))
