"""Loss functions: pure array mathematics, one function an equation.

Every function returns one number per utterance (or anchor), or that and how much it counts; none reduces, weighs or
draws. `objective.py` says which arrays feed which function.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from ariigcn_jax.types import Array

# --- Classification -------------------------------------------------------------------------------------------------


def cross_entropy(logits: Array, labels: Array, *, smoothing: float = 0.0) -> Array:
    """Softmax cross entropy with label smoothing (paper: classification loss; smoothing: choice).

    Args:
      logits: [..., C].
      labels: [...] int in [0, C).
      smoothing: mass spread evenly over all classes, in [0, 1).

    Returns:
      [...].
    """
    log_p = jax.nn.log_softmax(logits)
    hit = jnp.take_along_axis(log_p, labels[..., None], axis=-1)[..., 0]
    return -(1 - smoothing) * hit - smoothing * log_p.mean(axis=-1)


def focal(logits: Array, labels: Array, *, gamma: float) -> Array:
    """Focal loss −(1 − p)^γ log p (choice).

    Args:
      logits: [..., C].
      labels: [...] int in [0, C).
      gamma: focusing exponent, >= 0; 0 is cross entropy.

    Returns:
      [...].

    References:
      Lin et al., Focal Loss for Dense Object Detection, 2017.
    """
    log_p = -cross_entropy(logits, labels)
    miss = jnp.maximum(-jnp.expm1(log_p), 1e-6)  # the power's gradient is infinite at 0 for gamma < 1
    return -(miss**gamma) * log_p


# --- Adversarial: for each form what the discriminator and the generator minimise -------------------------------------


def bce_discriminator(logits: Array, real: bool) -> Array:
    """−log D for real, −log(1 − D) for fake logits [...] (paper: adversarial; binary cross entropy: choice)."""
    return jax.nn.softplus(-logits if real else logits)


def bce_generator(logits: Array) -> Array:
    """−log D(fake) for logits [...]: the non-saturating form (choice)."""
    return jax.nn.softplus(-logits)


def least_squares_discriminator(logits: Array, real: bool) -> Array:
    """½ (D − target)² for logits [...], target 1 for real and 0 for fake (choice).

    References:
      Mao et al., Least Squares Generative Adversarial Networks, 2017.
    """
    return 0.5 * jnp.square(logits - (1.0 if real else 0.0))


def least_squares_generator(logits: Array) -> Array:
    """½ (D(fake) − 1)² for logits [...] (choice)."""
    return 0.5 * jnp.square(logits - 1.0)


def hinge_discriminator(logits: Array, real: bool) -> Array:
    """max(0, 1 − D) for real, max(0, 1 + D) for fake logits [...] (choice).

    References:
      Lim and Ye, Geometric GAN, 2017.
    """
    return jax.nn.relu(1.0 - logits if real else 1.0 + logits)


def hinge_generator(logits: Array) -> Array:
    """−D(fake) for logits [...] (choice)."""
    return -logits


# --- Contrast ---------------------------------------------------------------------------------------------------------


def supervised_nce(
    anchors: Array,
    candidates: Array,
    positive: Array,
    negative: Array,
    *,
    temperature: float,
    similarity_margin: float,
) -> tuple[Array, Array]:
    """Temperature form: −mean over positives p of log( exp(s_p/τ) / Σ_a exp(s_a/τ) ), s = cosine (paper: contrast;
    form: choice).

    A negative enters the sum with max(s, β): similarity between classes is penalised only above the margin (paper: β).

    Args:
      anchors: [A, Z] unit vectors.
      candidates: [Q, Z] unit vectors.
      positive: [A, Q] bool.
      negative: [A, Q] bool, disjoint from positive.
      temperature: τ > 0.
      similarity_margin: β in [-1, 1]; -1 is no margin.

    Returns:
      [A] values, and [A] 1 where the anchor has a positive, else 0 (the value is then 0 too).

    References:
      Khosla et al., Supervised Contrastive Learning, 2020 (L_out).
    """
    similarity = anchors @ candidates.T
    pushed = similarity if similarity_margin <= -1 else jnp.maximum(similarity, similarity_margin)
    entering = jnp.where(positive, similarity, pushed)
    # cosines lie in [-1, 1], so unless 2 / τ exceeds what exp can hold, no pass for the row's maximum is needed
    there = positive | negative
    if temperature > 0.03:
        peak = jnp.ones((1,))
    else:
        peak = jax.lax.stop_gradient(jnp.max(jnp.where(there, entering, -1), axis=1))
    e = jnp.where(there, jnp.exp((entering - peak[:, None]) / temperature), 0)
    log_sum = jnp.log(jnp.maximum(jnp.sum(e, axis=1), 1e-30)) + peak / temperature
    count = positive.sum(axis=1)
    pulled = jnp.sum(jnp.where(positive, similarity, 0), axis=1) / jnp.maximum(count, 1)
    has = count > 0
    return jnp.where(has, log_sum - pulled / temperature, 0), has.astype(similarity.dtype)


def margin(
    anchors: Array, candidates: Array, positive: Array, negative: Array, *, margin: float
) -> tuple[Array, Array]:
    """Margin form: mean over negatives n of max(0, β + d(i, pos) − d(i, n)), d = 1 − cosine (paper: β; form: choice).

    d(i, pos) is the anchor's mean distance to its positives.

    Args:
      anchors: [A, Z] unit vectors.
      candidates: [Q, Z] unit vectors.
      positive: [A, Q] bool.
      negative: [A, Q] bool, disjoint from positive.
      margin: β in [0, 2].

    Returns:
      [A] values, and [A] 1 where the anchor has a positive and a negative, else 0 (the value is then 0 too).
    """
    similarity = anchors @ candidates.T
    positives, negatives = positive.sum(axis=1), negative.sum(axis=1)
    pulled = jnp.sum(jnp.where(positive, similarity, 0), axis=1) / jnp.maximum(positives, 1)
    hinge = jax.nn.relu(margin - pulled[:, None] + similarity)
    has = (positives > 0) & (negatives > 0)
    value = jnp.sum(jnp.where(negative, hinge, 0), axis=1) / jnp.maximum(negatives, 1)
    return jnp.where(has, value, 0), has.astype(similarity.dtype)
