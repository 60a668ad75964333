"""Loss functions: pure array mathematics, one function an equation.

Every function returns a value per utterance (or anchor), or value and weight; none reduces or draws. `terms.py` feeds
them. Keyword-only arguments are hyper-parameters; their annotation says which values are legal.
"""

from __future__ import annotations

from typing import Annotated

import jax
import jax.numpy as jnp

from ariigcn_jax.rules import POSITIVE, RATE, Rule, at_least
from ariigcn_jax.types import Array

Share = Annotated[float, RATE]
NonNegative = Annotated[float, at_least(0)]
Positive = Annotated[float, POSITIVE]
Cosine = Annotated[float, Rule("lie in [-1, 1]", lambda x: -1 <= x <= 1)]
CosineDistance = Annotated[float, Rule("lie in [0, 2]", lambda x: 0 <= x <= 2)]

# --- Classification -------------------------------------------------------------------------------------------------


def cross_entropy(logits: Array, labels: Array, *, smoothing: Share = 0.0) -> Array:
    """Return the softmax cross entropy [...], with label smoothing (paper: classification loss; smoothing: choice).

    Args:
      logits: [..., C].
      labels: [...] int in [0, C).
      smoothing: mass spread evenly over all classes, in [0, 1).
    """
    log_p = jax.nn.log_softmax(logits)
    hit = jnp.take_along_axis(log_p, labels[..., None], axis=-1)[..., 0]
    return -(1 - smoothing) * hit - smoothing * log_p.mean(axis=-1)


def weighted_cross_entropy(
    logits: Array, labels: Array, *, smoothing: Share, class_weights: Array
) -> tuple[Array, Array]:
    """Return `cross_entropy` [...] and the weights [...] of the utterances' classes (choice); class_weights: [C]."""
    return cross_entropy(logits, labels, smoothing=smoothing), jnp.asarray(class_weights)[labels]


def focal(logits: Array, labels: Array, *, gamma: NonNegative) -> Array:
    """Return the focal loss [...], −(1 − p)^γ log p (choice).

    Args:
      logits: [..., C].
      labels: [...] int in [0, C).
      gamma: focusing exponent, >= 0; 0 is cross entropy.

    References:
      Lin et al., Focal Loss for Dense Object Detection, 2017.
    """
    log_p = -cross_entropy(logits, labels)
    miss = jnp.maximum(-jnp.expm1(log_p), 1e-6)  # the power's gradient is infinite at 0 for gamma < 1
    return -(miss**gamma) * log_p


# --- Other tasks (choice) ---------------------------------------------------------------------------------------------


def l1(outputs: Array, targets: Array) -> Array:
    """Return the absolute error of [..., O], the mean over the outputs: [...]."""
    return jnp.abs(outputs - targets).mean(axis=-1)


def mse(outputs: Array, targets: Array) -> Array:
    """Return the squared error of [..., O], the mean over the outputs: [...]."""
    return jnp.square(outputs - targets).mean(axis=-1)


def huber(outputs: Array, targets: Array, *, delta: Positive) -> Array:
    """Return the Huber loss of [..., O], the mean over the outputs: ½ e² up to |e| = δ, then δ (|e| − ½ δ): [...].

    Args:
      outputs: [..., O].
      targets: [..., O].
      delta: δ > 0, in the targets' unit.

    References:
      Huber, Robust Estimation of a Location Parameter, 1964.
    """
    error = jnp.abs(outputs - targets)
    near = jnp.minimum(error, delta)
    return (near * (error - 0.5 * near)).mean(axis=-1)


def bce(logits: Array, targets: Array) -> Array:
    """Return the binary cross entropy of logits [..., O], targets in [0, 1], the mean over the labels: [...]."""
    return (jax.nn.softplus(logits) - targets * logits).mean(axis=-1)


# --- Adversarial: for each form what the discriminator and the generator minimise -------------------------------------


def bce_discriminator(logits: Array, real: bool) -> Array:
    """Return −log D for real, −log(1 − D) for fake logits [...] (paper: adversarial; cross entropy: choice)."""
    return jax.nn.softplus(-logits if real else logits)


def bce_generator(logits: Array) -> Array:
    """Return −log D(fake) for logits [...]: the non-saturating form (choice)."""
    return jax.nn.softplus(-logits)


def least_squares_discriminator(logits: Array, real: bool) -> Array:
    """Return ½ (D − target)² for logits [...], target 1 for real and 0 for fake (choice: Mao et al., LSGAN, 2017)."""
    return 0.5 * jnp.square(logits - (1.0 if real else 0.0))


def least_squares_generator(logits: Array) -> Array:
    """Return ½ (D(fake) − 1)² for logits [...] (choice)."""
    return 0.5 * jnp.square(logits - 1.0)


def hinge_discriminator(logits: Array, real: bool) -> Array:
    """Return max(0, 1 − D) for real, max(0, 1 + D) for fake logits [...] (choice: Lim and Ye, Geometric GAN, 2017)."""
    return jax.nn.relu(1.0 - logits if real else 1.0 + logits)


def hinge_generator(logits: Array) -> Array:
    """Return −D(fake) for logits [...] (choice)."""
    return -logits


# --- Contrast ---------------------------------------------------------------------------------------------------------
#
# Anchors and candidates come with one-hot rows of their classes; a row of zeros counts nowhere. Sums over classes and
# matrix products replace [A, Q] arrays of booleans, which would cost more.

WITHOUT_PEAK = 0.03  # temperature above which exp((s − 1)/τ) of any cosine is a float32: no maximum needs to be found
NOWHERE = -1e9  # similarity of what does not count; finite, so that no gradient is NaN


def supervised_nce(
    anchors: Array,
    candidates: Array,
    anchor_class: Array,
    candidate_class: Array,
    own: Array,
    *,
    temperature: Positive,
    similarity_margin: Cosine,
) -> tuple[Array, Array]:
    """Return the temperature form of contrast (paper: contrast; form: choice).

    It is −mean over positives p of log( exp(s_p/τ) / Σ_a exp(s_a/τ) ), s = cosine.

    Positives are candidates of the anchor's class, negatives those of another one; the anchor itself is neither. A
    negative enters the sum with max(s, β): similarity between classes is penalised only above the margin (paper: β).

    Args:
      anchors: [A, Z] unit vectors.
      candidates: [Q, Z] unit vectors.
      anchor_class: [A, C] one-hot, or zeros.
      candidate_class: [Q, C] one-hot, or zeros.
      own: [A] int32, where the anchor itself is among the candidates, or -1.
      temperature: τ > 0.
      similarity_margin: β in [-1, 1]; -1 is no margin.

    Returns:
      [A] values, and [A] 1 where the anchor has a positive, else 0 (the value is then 0 too).

    References:
      Khosla et al., Supervised Contrastive Learning, 2020 (L_out).
    """
    similarity = _penalised(anchors, candidates, anchor_class, candidate_class, similarity_margin)
    counts = candidate_class.sum(axis=1)
    similarity = jnp.where(jnp.arange(len(candidates)) == own[:, None], NOWHERE, similarity)
    peak = jnp.ones(())  # cosines lie in [-1, 1]
    if temperature <= WITHOUT_PEAK:
        similarity = jnp.where(counts > 0, similarity, NOWHERE)
        peak = jax.lax.stop_gradient(jnp.max(similarity, axis=1, initial=-1))
    total = jnp.exp((similarity - peak[..., None]) / temperature) @ counts
    return _nce(total, peak, _pulled(anchors, candidates, anchor_class, candidate_class, own), temperature)


def mutual_supervised_nce(
    left: Array,
    right: Array,
    left_class: Array,
    right_class: Array,
    *,
    temperature: Positive,
    similarity_margin: Cosine,
) -> tuple[tuple[Array, Array], tuple[Array, Array]]:
    """Return `supervised_nce` of left anchors [A] with right candidates [Q], and of right anchors with left candidates.

    No candidate is an anchor itself. The similarities are the same both ways and are computed once.
    """
    sides = ((left, right, left_class, right_class), (right, left, right_class, left_class))
    nowhere = [jnp.full(len(anchors), -1) for anchors, *_ in sides]
    if temperature <= WITHOUT_PEAK:
        first, second = (
            supervised_nce(*side, own, temperature=temperature, similarity_margin=similarity_margin)
            for side, own in zip(sides, nowhere, strict=True)
        )
        return first, second
    peak = jnp.ones(())
    e = jnp.exp((_penalised(*sides[0], similarity_margin) - peak) / temperature)
    totals = (e @ right_class.sum(axis=1), left_class.sum(axis=1) @ e)
    pulled = [_pulled(*side, own) for side, own in zip(sides, nowhere, strict=True)]
    return _nce(totals[0], peak, pulled[0], temperature), _nce(totals[1], peak, pulled[1], temperature)


def _penalised(
    anchors: Array, candidates: Array, anchor_class: Array, candidate_class: Array, similarity_margin: float
) -> Array:
    """Return similarities [A, Q], those of negatives at least the margin."""
    similarity = anchors @ candidates.T
    if similarity_margin <= -1:
        return similarity
    positive = anchor_class @ candidate_class.T > 0
    return jnp.where(positive, similarity, jnp.maximum(similarity, similarity_margin))


def _nce(total: Array, peak: Array, pulled: tuple[Array, Array], temperature: float) -> tuple[Array, Array]:
    """Return the loss and its weight [A] from Σ_a exp((s_a − peak)/τ) [A], the peak, and what `_pulled` returns."""
    has = pulled[1] > 0
    log_sum = jnp.log(jnp.maximum(total, 1e-30)) + peak / temperature
    return jnp.where(has, log_sum - pulled[0] / temperature, 0), has.astype(total.dtype)


def margin(
    anchors: Array,
    candidates: Array,
    anchor_class: Array,
    candidate_class: Array,
    own: Array,
    *,
    margin: CosineDistance,
) -> tuple[Array, Array]:
    """Return the margin form of contrast (paper: β; form: choice).

    It is the mean over negatives n of max(0, β + d(i, pos) − d(i, n)), d = 1 − cosine; d(i, pos) is the anchor's mean
    distance to its positives; β in [0, 2]. Arrays, positives and negatives are those of `supervised_nce`.

    Returns:
      [A] values, and [A] 1 where the anchor has a positive and a negative, else 0 (the value is then 0 too).
    """
    pulled, positives = _pulled(anchors, candidates, anchor_class, candidate_class, own)
    hinge = jax.nn.relu(margin - pulled[:, None] + anchors @ candidates.T)
    valid = [anchor_class.sum(axis=1, keepdims=True), candidate_class.sum(axis=1, keepdims=True)]
    negative = jnp.hstack([valid[0], -anchor_class]) @ jnp.hstack([valid[1], candidate_class]).T
    negatives = jnp.round(negative.sum(axis=1))
    has = (positives > 0) & (negatives > 0)
    value = jnp.sum(hinge * negative, axis=1) / jnp.maximum(negatives, 1)
    return jnp.where(has, value, 0), has.astype(value.dtype)


def _pulled(
    anchors: Array, candidates: Array, anchor_class: Array, candidate_class: Array, own: Array
) -> tuple[Array, Array]:
    """Return the mean similarity to the positives [A], and their number [A]."""
    itself = jnp.where(own >= 0, anchor_class.sum(axis=1), 0)
    count = jnp.round(anchor_class @ candidate_class.sum(axis=0) - itself)
    sums = anchor_class @ (candidate_class.T @ candidates)
    total = jnp.sum(anchors * (sums - itself[:, None] * anchors), axis=1)
    return total / jnp.maximum(count, 1), count
