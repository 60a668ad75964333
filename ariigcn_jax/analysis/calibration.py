"""Calibration: a temperature that brings confidence to accuracy, and how far the two are apart."""

from __future__ import annotations

import numpy as np
from scipy.optimize import minimize_scalar

FLOOR = 1e-12
BOUNDS = (0.05, 20.0)  # of the temperature


def scale(probabilities: np.ndarray, temperature: float) -> np.ndarray:
    """Return softmax probabilities [U, C] as they are with logits over `temperature` (> 0)."""
    logits = np.log(np.maximum(np.asarray(probabilities, np.float64), FLOOR)) / temperature
    e = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def fit_temperature(probabilities: np.ndarray, labels: np.ndarray) -> float:
    """Return the temperature with the smallest cross entropy (choice: one number, which changes no decision).

    Args:
      probabilities: [U, C] of a split that was not trained on.
      labels: [U] in [0, C); negative ones count nowhere.

    Returns:
      A number in BOUNDS; 1 where nothing is labelled.

    References:
      Guo et al., On Calibration of Modern Neural Networks, 2017.
    """
    known = np.asarray(labels) >= 0
    if not known.any():
        return 1.0
    chosen, target = np.asarray(probabilities)[known], np.asarray(labels)[known]

    def cross_entropy(log_temperature: float) -> float:
        scaled = scale(chosen, float(np.exp(log_temperature)))
        return float(-np.log(np.maximum(scaled[np.arange(len(target)), target], FLOOR)).mean())

    low, high = np.log(BOUNDS)
    return float(np.exp(minimize_scalar(cross_entropy, bounds=(low, high), method="bounded").x))


def reliability(probabilities: np.ndarray, labels: np.ndarray, bins: int = 15) -> dict[str, np.ndarray]:
    """Return confidence and accuracy in bins of equal width of the confidence.

    Args:
      probabilities: [U, C].
      labels: [U] in [0, C); negative ones count nowhere.
      bins: B, >= 1.

    Returns:
      `count`, `confidence` (mean of the largest probability) and `accuracy` of each bin, [B]; the last two are NaN
      where a bin is empty.
    """
    known = np.asarray(labels) >= 0
    chosen, target = np.asarray(probabilities, np.float64)[known], np.asarray(labels)[known]
    confidence, right = chosen.max(axis=1), chosen.argmax(axis=1) == target
    place = np.minimum((confidence * bins).astype(int), bins - 1)
    count, *sums = (np.bincount(place, weight, bins) for weight in (None, confidence, right))
    means = [np.divide(x, count, out=np.full(bins, np.nan), where=count > 0) for x in sums]
    return {"count": count, "confidence": means[0], "accuracy": means[1]}


def expected_calibration_error(probabilities: np.ndarray, labels: np.ndarray, bins: int = 15) -> float:
    """Return the mean distance of confidence and accuracy over bins of equal width, weighted by their utterances.

    Args:
      probabilities: [U, C].
      labels: [U] in [0, C); negative ones count nowhere.
      bins: >= 1.

    Returns:
      A number in [0, 1]; 0 where nothing is labelled.
    """
    found = reliability(probabilities, labels, bins)
    gaps = np.abs(found["confidence"] - found["accuracy"]) * found["count"]
    return float(np.nansum(gaps) / max(found["count"].sum(), 1))
