"""Measure the distance between the modalities' distributions: distances, classifiers, a permutation test, a projection.

Only vectors of one space are compared (choice; the paper names the measures but not the spaces):

    stage       first                       second                     space
    code        ξ^a                         ξ^b                        D: before TGAN's generators and the graph
    generated   G_b(ξ^a)                    x^b (or ξ^b, latent)       modality b's own: after TGAN
    hidden      h^a                         h^b                        D: the graph's output
    contrast    z^a                         z^b                        Z, unit vectors of IMCL

A model without a TGAN has no stage `generated`. TGAN's gradient also reaches the codes; that effect is the difference
between two models' `code`. Two models are compared by their distances, because their spaces are unrelated.

Row u of both samples belongs to the same utterance, one with both modalities. Both samples are divided by the root of
their mean variance, so that a distance does not depend on the vectors' scale (choice). Neither the samples nor the
utterances of a dialogue are independent. Therefore the permutation test swaps the modalities of whole dialogues, and
classifiers are tested on other dialogues than they are trained on.

References: Gretton et al., A Kernel Two-Sample Test, 2012. Sun and Saenko, Deep CORAL, 2016. Dowson and Landau, The
Fréchet Distance between Multivariate Normal Distributions, 1982. Ben-David et al., Analysis of Representations for
Domain Adaptation, 2007.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from scipy import linalg, stats
from scipy.spatial.distance import pdist, squareform

from ariigcn_jax.types import Corpus, Modality, Outputs, UserError

STAGES = ("code", "generated", "hidden", "contrast")
MEASURES: Mapping[str, str] = {
    "mmd2": "MMD², RBF",
    "coral": "CORAL",
    "a_distance": "proxy A-distance",
    "frechet": "Fréchet distance",
    "accuracy": "modality classifier",
}
MOST_UTTERANCES = 1000
PERMUTATIONS = 499
FOLDS = 4


@dataclasses.dataclass(frozen=True)
class Vectors:
    """Hold a model's vectors of U utterances by modality, on the host."""

    code: Mapping[Modality, np.ndarray]  # [U, D]
    generated: Mapping[tuple[Modality, Modality], np.ndarray]  # (source, target) -> [U, d]; {} without a TGAN
    real: Mapping[Modality, np.ndarray]  # [U, d], imitated by `generated`
    hidden: Mapping[Modality, np.ndarray]  # [U, D]
    contrast: Mapping[Modality, np.ndarray]  # [U, Z]; {} without contrast
    present: Mapping[Modality, np.ndarray]  # [U] bool
    dialogue: np.ndarray  # [U] int
    label: np.ndarray  # [U] int

    def pairs(self) -> Iterator[tuple[str, str, str, np.ndarray, np.ndarray, np.ndarray]]:
        """Yield each comparison: stage, names of both samples, their vectors [n, d], and the dialogues [n]."""
        for stage in STAGES:
            vectors = getattr(self, stage)
            generated = stage == "generated"
            for a, b in vectors if generated else itertools.combinations(vectors, 2):
                there = self.present[a] & self.present[b]
                first, second = (vectors[a, b], self.real[b]) if generated else (vectors[a], vectors[b])
                yield stage, f"G({a})" if generated else a, b, first[there], second[there], self.dialogue[there]


def collect(outputs: Sequence[Outputs], utterances: Sequence[np.ndarray], corpus: Corpus, wiring: str) -> Vectors:
    """Bring packed outputs into the order of the corpus.

    Args:
      outputs: of the model, batch after batch.
      utterances: of each batch, [R, L] index of the utterance in the corpus; negative at padding.
      corpus: as given to the model, standardised, with at least two modalities (else a UserError).
      wiring: of the generators, "feature" or "latent".
    """
    if len(corpus.modalities) < 2:
        raise UserError(f"Alignment compares modalities, and this model has only one, {corpus.modalities[0]}.")
    place = np.concatenate([np.asarray(u).reshape(-1) for u in utterances])
    order = np.argsort(place, kind="stable")[np.count_nonzero(place < 0) :]
    index = place[order]

    def gather(name: str) -> dict:
        # in the model's order, because JAX sorts the keys of dictionaries
        pairs = [(a, b) for b in corpus.modalities for a in corpus.modalities if a != b]
        keys = [k for k in (*corpus.modalities, *pairs) if k in getattr(outputs[0], name)]
        rows = {k: [np.asarray(getattr(o, name)[k]) for o in outputs] for k in keys}
        return {k: np.concatenate([x.reshape(-1, x.shape[-1]) for x in v])[order] for k, v in rows.items()}

    codes = gather("codes")
    return Vectors(
        code=codes,
        generated=gather("generated"),
        real=codes if wiring == "latent" else {m: x[index] for m, x in corpus.features.items()},
        hidden=gather("hidden"),
        contrast=gather("contrast"),
        present={m: x[index] for m, x in corpus.present.items()},
        dialogue=corpus.dialogue[index],
        label=corpus.label[index],
    )


def common_scale(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return x [n, d] and y [k, d] in float64, centred together and divided by the root of their mean variance."""
    x, y = x.astype(np.float64), y.astype(np.float64)
    centre = np.concatenate([x, y]).mean(axis=0)
    scale = max(np.sqrt(np.mean([np.var(x, axis=0).mean(), np.var(y, axis=0).mean()])), 1e-12)
    return (x - centre) / scale, (y - centre) / scale


def kernel(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return the RBF kernel exp(−d² / 2σ²) of all rows of x and y [2n, 2n], σ the median distance (Gretton et al.)."""
    square = pdist(np.concatenate([x, y]), "sqeuclidean")
    return np.exp(-squareform(square) / (2 * max(np.median(square), 1e-12)))


def mmd2(k: np.ndarray, sides: np.ndarray) -> np.ndarray:
    """Return the unbiased MMD² [B] of two samples of n rows each, for B divisions of the rows.

    It is around 0, negative too, for equal distributions.

    Args:
      k: [2n, 2n] kernel.
      sides: [2n, B], +1 for rows of the first sample and −1 for those of the second, n each in every column.
    """
    half = len(k) // 2
    off = k - np.diag(np.diag(k))
    total, quadratic = off.sum(), np.einsum("ib,ib->b", sides, off @ sides)
    within, across = (total + quadratic) / 2, (k.sum() - (np.diag(k).sum() + quadratic)) / 2
    return within / (half * (half - 1)) - across / half**2


def mean_mmd2(vectors: Mapping[Modality, np.ndarray], present: Mapping[Modality, np.ndarray]) -> float:
    """Return the mean MMD² over pairs of modalities of vectors [U, D], for utterances with both (`present` [U])."""
    values = []
    for a, b in itertools.combinations(vectors, 2):
        there = present[a] & present[b]
        x, y = common_scale(vectors[a][there], vectors[b][there])
        values.append(mmd2(kernel(x, y), np.repeat([[1.0], [-1.0]], len(x), axis=0))[0])
    return float(np.mean(values))


def permutation_test(
    k: np.ndarray, dialogue: np.ndarray, rng: np.random.Generator, permutations: int = PERMUTATIONS
) -> tuple[float, float]:
    """Return MMD² and p, the probability of at least this value if the modalities were exchangeable.

    Args:
      k: [2n, 2n] kernel; rows u and n + u belong to one utterance.
      dialogue: [n]; the utterances of a dialogue are swapped together.
      rng: of the swaps.
      permutations: their number B; p is at least 1 / (B + 1).
    """
    _, group = np.unique(dialogue, return_inverse=True)
    swap = rng.choice([-1.0, 1.0], size=(group.max(initial=0) + 1, permutations))[group]
    sides = np.concatenate([np.ones((len(group), 1)), swap], axis=1)
    values = mmd2(k, np.concatenate([sides, -sides]))
    # rounding must not make an unswapped copy differ from what was observed
    return float(values[0]), float((1 + np.sum(values[1:] >= values[0] - 1e-12)) / (permutations + 1))


def coral(x: np.ndarray, y: np.ndarray) -> float:
    """Return the squared Frobenius distance of the covariances of x [n, d] and y [k, d] over 4d² (Sun and Saenko)."""
    return float(np.sum(np.square(np.cov(x.T) - np.cov(y.T))) / (4 * x.shape[1] ** 2))


def frechet(x: np.ndarray, y: np.ndarray) -> float:
    """Return the squared Fréchet distance (the "FID") of the Gaussians of x [n, d] and y [k, d] (Dowson and Landau)."""
    cx, cy = np.atleast_2d(np.cov(x.T)), np.atleast_2d(np.cov(y.T))
    values, basis = linalg.eigh(cx)
    root = (basis * np.sqrt(np.maximum(values, 0))) @ basis.T  # unlike linalg.sqrtm, exact for singular covariances
    cross = np.sqrt(np.maximum(linalg.eigvalsh(root @ cy @ root), 0)).sum()
    return float(np.sum(np.square(x.mean(0) - y.mean(0))) + np.trace(cx) + np.trace(cy) - 2 * cross)


def classifiers(x: np.ndarray, y: np.ndarray, dialogue: np.ndarray) -> tuple[float, float]:
    """Tell the modalities apart by classifiers, tested on other dialogues than they are trained on (Ben-David et al.).

    Args:
      x: [n, d].
      y: [n, d].
      dialogue: [n], kept together in cross-validation.

    Returns:
      The proxy A-distance max(0, 2 (1 − 2ε)) of a linear classifier with error ε, in [0, 2]; and the accuracy of a
      classifier with an RBF kernel, 0.5 by chance.
    """
    from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
    from sklearn.model_selection import GroupKFold, cross_val_score
    from sklearn.svm import SVC

    rows, side, groups = np.concatenate([x, y]), np.repeat([0, 1], [len(x), len(y)]), np.tile(dialogue, 2)
    folds = GroupKFold(min(FOLDS, len(np.unique(dialogue))))
    discriminant = LinearDiscriminantAnalysis(solver="lsqr", shrinkage="auto")
    linear = cross_val_score(discriminant, rows, side, groups=groups, cv=folds)
    curved = cross_val_score(SVC(kernel="rbf"), rows, side, groups=groups, cv=folds)
    return max(0.0, 2 * (2 * float(linear.mean()) - 1)), float(curved.mean())


def measure(vectors: Vectors, seed: int = 0, most: int = MOST_UTTERANCES) -> list[dict]:
    """Return for each pair its stage, first, second, utterances, the keys of MEASURES, and p of the permutation test.

    Args:
      vectors: of a model.
      seed: of the subsample and the permutations.
      most: utterances of a pair at most; of more, a random sample.

    Raises:
      UserError: a pair shares fewer than two dialogues or eight utterances.
    """
    rows = []
    for stage, first, second, x, y, dialogue in vectors.pairs():
        if len(x) < 8 or len(np.unique(dialogue)) < 2:
            raise UserError(
                f"{first} and {second} occur together in {len(x)} utterances of {len(np.unique(dialogue))} "
                "dialogues; a comparison needs at least 8 utterances of 2 dialogues. Use another split."
            )
        rng = np.random.default_rng(seed)
        chosen = np.sort(rng.choice(len(x), min(most, len(x)), replace=False))
        x, y = common_scale(x[chosen], y[chosen])
        value, p = permutation_test(kernel(x, y), dialogue[chosen], rng)
        distance, accuracy = classifiers(x, y, dialogue[chosen])
        rows.append(
            dict(stage=stage, first=first, second=second, utterances=len(x), mmd2=value, p=p, coral=coral(x, y))
            | dict(a_distance=distance, frechet=frechet(x, y), accuracy=accuracy)
        )
    return rows


def compare(ours: Sequence[float], theirs: Sequence[float]) -> tuple[float, float | None]:
    """Return the difference of a measure's means over the seeds of two models, and its p by permuting seeds (scipy).

    p is None below four seeds each, where no permutation could reach 0.05.
    """
    difference = float(np.mean(ours) - np.mean(theirs))
    if min(len(ours), len(theirs)) < 4:
        return difference, None
    result = stats.permutation_test(
        (np.asarray(ours), np.asarray(theirs)), lambda a, b: np.mean(a) - np.mean(b), n_resamples=9999, rng=0
    )
    return difference, float(result.pvalue)


def project(vectors: Vectors, stage: str, seed: int = 0, most: int = 400) -> dict[str, np.ndarray]:
    """Project the vectors of all modalities together by t-SNE, which keeps neighbours but not distances.

    Args:
      vectors: of a model.
      stage: "code", "hidden" or "contrast".
      seed: of the subsample and the projection.
      most: utterances at most, each with a point for each of its modalities.

    Returns:
      point [n, 2], modality [n] int in the model's order, label [n] int.
    """
    from sklearn.manifold import TSNE
    from threadpoolctl import threadpool_limits

    by_modality = getattr(vectors, stage)
    rng = np.random.default_rng(seed)
    chosen = np.sort(rng.choice(len(vectors.label), min(most, len(vectors.label)), replace=False))
    kept = [chosen[vectors.present[m][chosen]] for m in by_modality]
    rows = np.concatenate([by_modality[m][k] for m, k in zip(by_modality, kept, strict=True)])
    perplexity = min(30, max(1, (len(rows) - 1) // 3))
    # one thread, because on a busy machine its many short parallel loops wait for each other ten times as long
    with threadpool_limits(1):
        points = TSNE(init="pca", perplexity=perplexity, random_state=seed).fit_transform(rows.astype(np.float64))
    return {
        "point": points,
        "modality": np.repeat(np.arange(len(kept)), [len(k) for k in kept]),
        "label": vectors.label[np.concatenate(kept)],
    }
