"""Calibrate probabilities with a temperature, and measure their calibration error."""

from __future__ import annotations

import numpy as np
from scipy.optimize import minimize_scalar

FLOOR = 1e-12
BOUNDS = (0.05, 20.0)  # of the temperature


def scale(probabilities: np.ndarray, temperature: float) -> np.ndarray:
    """Return softmax probabilities [U, C] after division of their logits by `temperature` (> 0)."""
    logits = np.log(np.maximum(np.asarray(probabilities, np.float64), FLOOR)) / temperature
    e = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def fit_temperature(probabilities: np.ndarray, labels: np.ndarray) -> float:
    """Return the temperature in BOUNDS with the smallest cross entropy; 1 without labels.

    Choice: one number, which changes no decision (Guo et al., On Calibration of Modern Neural Networks, 2017).

    Args:
      probabilities: [U, C] of a split that was not trained on.
      labels: [U] in [0, C); negative ones are ignored.
    """
    known = np.asarray(labels) >= 0
    if not known.any():
        return 1.0
    chosen, target = np.asarray(probabilities)[known], np.asarray(labels)[known]

    def cross_entropy(log_temperature: float) -> float:
        scaled = scale(chosen, float(np.exp(log_temperature)))
        return float(-np.log(np.maximum(scaled[np.arange(len(target)), target], FLOOR)).mean())

    return float(np.exp(minimize_scalar(cross_entropy, bounds=np.log(BOUNDS), method="bounded").x))


def reliability(probabilities: np.ndarray, labels: np.ndarray, bins: int = 15) -> dict[str, np.ndarray]:
    """Return `count`, `confidence` (mean of the largest probability) and `accuracy`, [B], in equal bins of confidence.

    Probabilities [U, C] with a negative label [U] are ignored. Confidence and accuracy of an empty bin are NaN.
    """
    known = np.asarray(labels) >= 0
    chosen, target = np.asarray(probabilities, np.float64)[known], np.asarray(labels)[known]
    confidence, right = chosen.max(axis=1), chosen.argmax(axis=1) == target
    place = np.minimum((confidence * bins).astype(int), bins - 1)
    count, *sums = (np.bincount(place, weight, bins) for weight in (None, confidence, right))
    means = [np.divide(x, count, out=np.full(bins, np.nan), where=count > 0) for x in sums]
    return {"count": count, "confidence": means[0], "accuracy": means[1]}


def expected_calibration_error(probabilities: np.ndarray, labels: np.ndarray, bins: int = 15) -> float:
    """Return the mean distance of confidence and accuracy over the bins of `reliability`, weighted by their counts.

    It lies in [0, 1], and is 0 without labels.
    """
    found = reliability(probabilities, labels, bins)
    gaps = np.abs(found["confidence"] - found["accuracy"]) * found["count"]
    return float(np.nansum(gaps) / max(found["count"].sum(), 1))
