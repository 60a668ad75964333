"""Measure how far classes lie apart in a space: distances inside and between them, and the silhouette."""

from __future__ import annotations

import numpy as np
from scipy.spatial.distance import pdist

MEASURES = ("intra", "inter", "ratio", "silhouette")


def measure(vectors: np.ndarray, label: np.ndarray) -> dict[str, float]:
    """Measure vectors [n, d] of two or more classes, label [n], centred and divided by their standard deviation.

    Returns:
      intra, the root mean square distance to the centre of the class; inter, that between centres of classes; ratio,
      inter over intra; silhouette, in [-1, 1], about 0 for overlapping classes (scikit-learn).
    """
    from sklearn.metrics import silhouette_score

    x = vectors.astype(np.float64) - vectors.mean(axis=0)
    x = x / max(np.sqrt(np.mean(np.square(x))), 1e-12)
    classes, index = np.unique(label, return_inverse=True)
    centres = np.stack([x[index == c].mean(axis=0) for c in range(len(classes))])
    intra = np.sqrt(np.mean(np.sum(np.square(x - centres[index]), axis=1)))
    inter = np.sqrt(np.mean(pdist(centres, "sqeuclidean")))
    return {
        "intra": float(intra),
        "inter": float(inter),
        "ratio": float(inter / max(intra, 1e-12)),
        "silhouette": float(silhouette_score(x, label)) if len(classes) > 1 else 0.0,
    }
