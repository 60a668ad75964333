"""Failure signatures (paper): mode collapse in TGAN, noisy edges, a term that dominates.

`diagnose` computes numbers, measure -> subject, on a few rows; the log holds them under `diagnostics`. A signature of
SIGNATURES holds once its threshold was passed in PATIENCE diagnoses in a row; `Watch` then warns.

Also logged: real_accuracy and fake_accuracy, the two halves of discriminator_accuracy; share, a term's part of the
total; gradient_norm, on the encoders. A share is no signature: a contrast term never falls below the logarithm of its
number of positives, however small its gradient.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from ariigcn_jax.data import packing
from ariigcn_jax.nn import graph
from ariigcn_jax.objective import terms
from ariigcn_jax.training.step import Players, seen_batch
from ariigcn_jax.types import Array, Batch, Modality, Outputs, TrainState

Measures = dict[str, dict[str, Array]]
PATIENCE = 5
EMOTION = "emotion"


# --- Numbers: pure functions of arrays --------------------------------------------------------------------------------


def variance(x: Array, weight: Array) -> Array:
    """Return the variance of the rows of x [n, d] that have weight [n] 1, summed over features."""
    count = jnp.maximum(weight.sum(), 1)
    centred = x - (x * weight[:, None]).sum(axis=0) / count
    return jnp.sum(jnp.square(centred) * weight[:, None]) / count


def distance(x: Array, weight: Array) -> Array:
    """Return the mean Euclidean distance between two different rows of x [n, d] that both have weight [n] 1."""
    square = jnp.sum(jnp.square(x), axis=1)
    squares = square[:, None] + square[None, :] - 2 * x @ x.T
    both = weight[:, None] * weight[None, :] * (1 - jnp.eye(len(x)))
    return jnp.sum(jnp.sqrt(jnp.maximum(squares, 0)) * both) / jnp.maximum(both.sum(), 1)


def generation(real: Mapping[Modality, Array], outputs: Outputs, batch: Batch) -> Measures:
    """Measure the spread of generated vectors over that of real ones, modality -> [R, L, d], for each source→target.

    Returns:
      generated_variance and generated_distance; 1 is as varied as the real ones, 0 is one point.
    """
    found: Measures = {"generated_variance": {}, "generated_distance": {}} if outputs.generated else {}
    for (source, target), made in outputs.generated.items():
        both = (batch.present[source] & batch.present[target]).reshape(-1).astype(jnp.float32)
        rows = [x.reshape(-1, x.shape[-1]) for x in (made, real[target])]
        for name, spread in (("generated_variance", variance), ("generated_distance", distance)):
            fake, true = (spread(x, both) for x in rows)
            found[name][f"{source}→{target}"] = fake / jnp.maximum(true, 1e-6)
    return found


def discrimination(
    real_logits: Mapping[Modality, Array], outputs: Outputs, batch: Batch, boundary: float = 0.0
) -> Measures:
    """Measure how often each discriminator is right; `boundary` is the logit above which it predicts "real".

    Returns:
      real_accuracy, fake_accuracy and their mean discriminator_accuracy for each modality; 0.5 is a guess.
    """
    real, fake = {}, {}
    for target, logits in real_logits.items():
        judged = {source: x for (source, t), x in outputs.fake_logits.items() if t == target}
        present = [batch.present[target] & batch.present[source] for source in judged]
        real[target] = _mean(logits > boundary, batch.present[target])
        fake[target] = _mean(jnp.stack([x < boundary for x in judged.values()]), jnp.stack(present))
    both = {target: (real[target] + fake[target]) / 2 for target in real}
    return {"real_accuracy": real, "fake_accuracy": fake, "discriminator_accuracy": both} if real else {}


def attention(outputs: Outputs, batch: Batch, self_slot: int) -> Measures:
    """Measure attention for each modality and layer, over utterances with a neighbour.

    Returns:
      attention_entropy, over that of uniform weights, and self_weight, the weight of the self-loop; both in [0, 1].
    """
    found: Measures = {"attention_entropy": {}, "self_weight": {}} if outputs.attention else {}
    for modality, weights in outputs.attention.items():
        shared = graph.conversation_graph(batch, self_slot, weights.shape[2] - 1 - self_slot)
        present = batch.present[modality].reshape(-1)
        edges = graph.modality_graph(shared, present, present).edges  # which edges there are: any node vectors do
        degree = edges["mask"].reshape(*batch.dialogue.shape, -1).sum(axis=-1)
        connected = batch.real & (degree > 1)
        own = weights[:, :, self_slot].mean(axis=-1).reshape(-1, *batch.dialogue.shape)
        for layer in range(len(weights)):
            entropy = outputs.attention_entropy[modality][layer]
            found["attention_entropy"][f"{modality}/{layer}"] = _mean(entropy, connected)
            found["self_weight"][f"{modality}/{layer}"] = _mean(own[layer], connected)
    return found


def balance(slots: Sequence[str], values: Array, norms: Array) -> Measures:
    """Measure the part of K terms in the loss, from λ · value [K] and norms [K] of λ · gradient on the shared encoders.

    Returns:
      share of the sum of absolute values, gradient_norm, and gradient_share of the sum of norms.
    """
    numbers = {
        "share": jnp.abs(values) / jnp.maximum(jnp.abs(values).sum(), 1e-12),
        "gradient_norm": norms,
        "gradient_share": norms / jnp.maximum(norms.sum(), 1e-12),
    }
    return {name: {slot: x[k] for k, slot in enumerate(slots)} for name, x in numbers.items()}


def diagnose(players: Players, layout: packing.Layout, boundary: float, state: TrainState, rows: Batch) -> Measures:
    """Compute the numbers of the failure signatures on one device, under training's dropout.

    It draws a quarter of a step's rows from the train split: a few hundred utterances are enough for these ratios.
    """
    key = jax.random.fold_in(jax.random.fold_in(state.key, jnp.int32(-3)), state.step)
    count = layout.steps * layout.rows
    seen = rows.real if rows.fold is None else rows.real & (rows.fold != state.fold)
    preference = jax.random.uniform(key, (count,)) + seen.any(axis=1)[:count]  # empty rows come last
    chosen = jax.lax.top_k(preference, max(1, layout.rows // 4))[1]
    batch = seen_batch(players, key, jax.tree.map(lambda x: x[chosen], rows), state)
    shared = {name: x for name, x in state.params.items() if name.startswith("encoder_")}

    def forward(encoders: Any) -> tuple[Outputs, Outputs]:
        params = {"params": {**state.params, **encoders}}
        outputs: Any = players.model.apply(params, batch, True, rngs={"dropout": key})
        return outputs.replace(attention={}, attention_entropy={}), outputs

    def value(outputs: Outputs, slot: str) -> Array:
        _, outputs = players.judge(state.discriminators, outputs, batch)
        return terms.total({slot: players.terms[slot]}, outputs, batch, None)[0]

    read, pullback, outputs = jax.vjp(forward, shared, has_aux=True)
    values, cotangents = zip(*(jax.value_and_grad(value)(read, slot) for slot in players.terms), strict=True)
    # one backward pass for all terms, because compiling one for each takes longer than a run's epochs
    (gradients,) = jax.vmap(pullback)(jax.tree.map(lambda *x: jnp.stack(x), *cotangents))
    real = players.real(outputs, batch)
    real_logits, outputs = players.judge(state.discriminators, outputs, batch)
    found = {
        **generation(real, outputs, batch),
        **discrimination(real_logits, outputs, batch, boundary),
        **balance(list(players.terms), jnp.stack(values), jax.vmap(optax.tree.norm)(gradients)),
    }
    window = players.model.options.graph
    if window.score != "uniform":
        found |= attention(outputs, batch, graph.window(window.past, window.future, layout.length).past)
    return found


def _mean(x: Array, mask: Array) -> Array:
    return jnp.sum(jnp.where(mask, x, 0)) / jnp.maximum(mask.sum(), 1)


# --- Signatures -------------------------------------------------------------------------------------------------------


class Signature(NamedTuple):
    """A threshold on a measure (choice), and the warning."""

    measure: str  # the number's name in the log
    above: bool  # whether values above the threshold pass it, or below
    threshold: float  # compared with each value
    words: str  # the failure; {subject} and {value} are filled in
    remedy: str  # what to change

    def passed(self, value: np.ndarray) -> np.ndarray:
        """Return whether values [...] lie beyond the threshold; False for NaN."""
        return value > self.threshold if self.above else value < self.threshold


_COLLAPSE = (
    "Try a lower losses.adversarial.weight, losses.adversarial.fn=hinge, a lower discriminator.lr, "
    "or a smaller model.gan.discriminator_hidden."
)
_SPREAD = "mode collapse: features generated {{subject}} {} as the real ones"
SIGNATURES = (
    Signature("generated_variance", False, 0.1, _SPREAD.format("vary {value:.2g} times as much"), _COLLAPSE),
    Signature("generated_distance", False, 0.3, _SPREAD.format("lie {value:.2g} times as far apart"), _COLLAPSE),
    Signature(
        "discriminator_accuracy",
        True,
        0.95,
        "the discriminator of {subject} is too strong: it is right about {value:.1%} of real and generated features, "
        "and its gradient teaches the generators little",
        "Try a lower discriminator.lr, a smaller model.gan.discriminator_hidden, a larger model.gan.generator_hidden, "
        "or losses.adversarial.fn=least_squares.",
    ),
    Signature(
        "attention_entropy",
        True,
        0.995,
        "attention is uniform in {subject} (modality/layer): its entropy is {value:.1%} of that of equal weights, so "
        "every utterance of the window counts alike",
        "Try model.graph.score=dot, a narrower window (model.graph.past and future), more epochs or a higher "
        "optimizer.lr; if results stay, score=uniform gives them with less computation.",
    ),
    Signature(
        "self_weight",
        True,
        0.9,
        "attention stays with the utterance itself in {subject} (modality/layer): {value:.1%} of the weight, so the "
        "graph passes hardly any context on",
        "Try fewer model.graph.layers, a higher model.dropout, or optimizer.weight_decay.",
    ),
    Signature(
        "gradient_share",  # of a term other than the emotion
        True,
        0.8,
        "the term {subject} dominates: {value:.1%} of the gradient on the encoders comes from it",
        "Try a lower losses.{subject}.weight.",
    ),
)


class Watch:
    """Warns once of each signature that holds.

    Args:
      history: diagnoses of the epochs before, oldest first; their warnings are not repeated.
    """

    def __init__(self, history: Iterable[Mapping[str, Mapping[str, object]]] = ()):
        self._recent: deque[Mapping[str, Mapping[str, object]]] = deque(maxlen=PATIENCE)
        self._warned: set[str] = set()
        for numbers in history:
            self.see(numbers)

    def see(self, numbers: Mapping[str, Mapping[str, object]]) -> list[str]:
        """Take the numbers of one more diagnosis (a number, or S for S seeds); return new warnings."""
        self._recent.append(numbers)
        if len(self._recent) < PATIENCE:
            return []
        left = [signature for signature in SIGNATURES if signature.measure not in self._warned]
        new = {signature.measure: text for signature in left if (text := self._warning(signature))}
        self._warned |= new.keys()
        return list(new.values())

    def _warning(self, signature: Signature) -> str:
        """Return the warning for the worst subject of a signature; "" where it does not hold."""
        found = []
        for subject, latest in self._recent[-1].get(signature.measure, {}).items():
            runs = [row.get(signature.measure, {}).get(subject, np.nan) for row in self._recent]
            passed = np.all([signature.passed(_array(values)) for values in runs], axis=0)
            if passed.any() and (signature.measure, subject) != ("gradient_share", EMOTION):
                values = _array(latest)[passed]
                found.append((float(values.max() if signature.above else values.min()), subject, passed))
        if not found:
            return ""
        worst, subject, passed = sorted(found, key=lambda x: x[0], reverse=signature.above)[0]
        side = "above" if signature.above else "below"
        rule = f"{signature.measure} was {side} {signature.threshold:g} in {PATIENCE} diagnoses in a row"
        rule += f" in {passed.sum()} of {len(passed)} seeds" if len(passed) > 1 else ""
        words = signature.words.format(subject=subject, value=worst)
        return f"{words} ({rule}). {signature.remedy.format(subject=subject)}"


def _array(values: object) -> np.ndarray:
    return np.atleast_1d(np.asarray(values, np.float64))
