"""The hybrid loss: which arrays feed which function, the table of terms, and one total for each player.

    L = L_CLS + λ_G L_G + λ_ICCL L_ICCL + λ_IMCL L_IMCL        and, for the discriminators, L_D        (paper: hybrid
    loss)                                                       + λ_U L_U, each modality classified alone (choice)
                                                       + λ_R L_R, annotators' ratings beside the label (choice)

A term takes (outputs, batch) and keyword hyper-parameters and returns (value, weight): arrays of one shape, a number
per utterance, anchor or pair and how much it counts. `total` forms Σ_k λ_k · Σ(w·v) / Σ w; nothing else reduces. To
add a loss: write the mathematics in losses.py, wire it here, enter it in TERMS.
"""

from __future__ import annotations

import difflib
import functools
import inspect
import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from ariigcn_jax.objective import losses
from ariigcn_jax.parallel import all_gather, axis_size, device_index, psum
from ariigcn_jax.types import Array, Batch, ContrastSet, Modality, Outputs, UserError

MOST_SIMILARITIES = 2**24  # anchors x candidates held at once: 64 MiB in float32

Weighted = tuple[Array, Array]
Pair = tuple[Modality, Modality]


class Term(NamedTuple):
    """An active slot: its function with hyper-parameters bound, its λ, and the discriminators' side of an adversarial
    one."""

    function: Callable[..., Weighted]
    weight: float
    discriminator: Callable[..., Weighted] | None = None


# --- Classification ---------------------------------------------------------------------------------------------------


def _labelled(batch: Batch) -> tuple[Array, Array]:
    return jnp.maximum(batch.label, 0), (batch.label >= 0).astype(jnp.float32)


def cross_entropy(outputs: Outputs, batch: Batch, *, smoothing: float) -> Weighted:
    """Cross entropy over labelled utterances [R, L]; `smoothing` in [0, 1)."""
    label, weight = _labelled(batch)
    return losses.cross_entropy(outputs.logits, label, smoothing=smoothing), weight


def weighted_cross_entropy(outputs: Outputs, batch: Batch, *, smoothing: float, class_weights: Array) -> Weighted:
    """Cross entropy whose utterances count by their class; `class_weights` [C] come from the train split."""
    value, weight = cross_entropy(outputs, batch, smoothing=smoothing)
    return value, weight * jnp.asarray(class_weights)[jnp.maximum(batch.label, 0)]


def focal(outputs: Outputs, batch: Batch, *, gamma: float) -> Weighted:
    """Focal loss over labelled utterances [R, L]; `gamma` >= 0."""
    label, weight = _labelled(batch)
    return losses.focal(outputs.logits, label, gamma=gamma), weight


def unimodal_cross_entropy(outputs: Outputs, batch: Batch, *, smoothing: float) -> Weighted:
    """Cross entropy of each modality's own classifier (choice): [M, R, L], where the modality is there."""
    label, weight = _labelled(batch)
    if len(outputs.unimodal) < 2:  # alone, a modality's classifier is the classifier
        return jnp.zeros((0,)), jnp.zeros((0,))
    value = [losses.cross_entropy(logits, label, smoothing=smoothing) for logits in outputs.unimodal.values()]
    return jnp.stack(value), jnp.stack([weight * batch.present[m] for m in outputs.unimodal])


# --- Other tasks ------------------------------------------------------------------------------------------------------


def _fitted(function: Callable[[Array, Array], Array], outputs: Outputs, batch: Batch) -> Weighted:
    """A loss of outputs against targets, over labelled utterances [R, L]."""
    return function(outputs.logits, _target(batch)), _labelled(batch)[1]


def _fitted_alone(function: Callable[[Array, Array], Array], outputs: Outputs, batch: Batch) -> Weighted:
    """The same of each modality's own head (choice): [M, R, L], where the modality is there."""
    weight = _labelled(batch)[1]
    if len(outputs.unimodal) < 2:
        return jnp.zeros((0,)), jnp.zeros((0,))
    value = [function(x, _target(batch)) for x in outputs.unimodal.values()]
    return jnp.stack(value), jnp.stack([weight * batch.present[m] for m in outputs.unimodal])


def _fitted_ratings(function: Callable[[Array, Array], Array], outputs: Outputs, batch: Batch) -> Weighted:
    """A loss of predicted ratings against the annotators', over rated utterances [R, L] (choice)."""
    assert outputs.ratings is not None and batch.ratings is not None and batch.rated is not None, "train.make_players"
    return function(outputs.ratings, batch.ratings), batch.rated.astype(jnp.float32)


def _target(batch: Batch) -> Array:
    assert batch.target is not None, "train.check lets these losses through only where the corpus has targets"
    return batch.target


# --- Adversarial ------------------------------------------------------------------------------------------------------


def _generator(function: Callable[[Array], Array], outputs: Outputs, batch: Batch) -> Weighted:
    """L_G: value and weight [P, R, L], counted where both modalities of a pair are there.

    The mean over pairs, where the paper's figure suggests their sum: λ_G then does not depend on M (choice).
    """
    return _by_pair({pair: function(logits) for pair, logits in outputs.fake_logits.items()}, batch)


def _discriminator(
    function: Callable[[Array, bool], Array], real: Mapping[Modality, Array], outputs: Outputs, batch: Batch
) -> Weighted:
    """L_D: value and weight [M + P, R, L]; `real` are logits, as are outputs.fake_logits."""
    value, weight = _by_pair({pair: function(logits, False) for pair, logits in outputs.fake_logits.items()}, batch)
    own = {(m, m): function(logits, True) for m, logits in real.items()}
    own_value, own_weight = _by_pair(own, batch)
    return jnp.concatenate([own_value, value]), jnp.concatenate([own_weight, weight])


def _by_pair(values: Mapping[tuple[Modality, Modality], Array], batch: Batch) -> Weighted:
    if not values:
        return jnp.zeros((0,)), jnp.zeros((0,))
    present = [batch.present[a] & batch.present[b] & batch.counted for a, b in values]
    return jnp.stack(list(values.values())), jnp.stack(present).astype(jnp.float32)


# --- Contrast ---------------------------------------------------------------------------------------------------------


def contrast_set(
    outputs: Outputs, batch: Batch, axis: str | None, limit: int = 0, offset: Array | int = 0
) -> ContrastSet:
    """The candidates that anchors are compared with: the nodes of the whole batch, gathered over the devices of
    `axis`, or an even sample of them (choice).

    Args:
      outputs: with "contrast".
      batch: this device's rows.
      axis: name of the device axis, or None.
      limit: most candidates; each device then gives every k-th of its nodes. 0 takes all.
      offset: where a sample begins, an integer >= 0 that is uniform over the steps, so that every node is as likely.
    """
    width = batch.classes or outputs.logits.shape[-1]
    classes = jax.nn.one_hot(batch.label.reshape(-1), width)  # zeros where there is no label
    present = {m: batch.present[m].reshape(-1, 1) for m in outputs.contrast}
    local = ContrastSet(
        vectors={m: z.reshape(-1, z.shape[-1]) for m, z in outputs.contrast.items()},
        classes={m: jnp.where(there, classes, 0) for m, there in present.items()},
        own=jnp.arange(len(classes)),
    )
    stride = max(1, -(-len(classes) * axis_size(axis) // limit)) if limit else 1
    kept = max(1, len(classes) // stride)
    if stride > 1:
        distance = (local.own - offset) % len(classes)
        chosen = (offset + stride * jnp.arange(kept)) % len(classes)
        local = jax.tree.map(lambda x: x[chosen], local)
        local = local.replace(
            own=jnp.where((distance % stride == 0) & (distance < stride * kept), distance // stride, -1)
        )
    own = jnp.where(local.own >= 0, device_index(axis) * kept + local.own, -1)
    return all_gather(local.replace(own=None), axis).replace(own=own)


def other_candidates(
    outputs: Outputs, batch: Batch, axis: str | None, limit: int, offset: Array | int
) -> ContrastSet | None:
    """`contrast_set`, or None where that is the anchors themselves: one device and no sample."""
    if axis is None and not 0 < limit < batch.label.size:
        return None
    return contrast_set(outputs, batch, axis, limit, offset)


def _contrast(function: Callable[..., Weighted], outputs: Outputs, batch: Batch, pairs: Sequence[Pair]) -> Weighted:
    """Anchors of the first modality of each pair against candidates of the second: [pairs, R * L]."""
    mine = contrast_set(outputs, batch, None)
    candidates = outputs.candidates or mine
    nowhere = jnp.full_like(candidates.own, -1)
    results = [
        _in_chunks(
            function,
            mine.vectors[a],
            candidates.vectors[b],
            mine.classes[a],
            candidates.classes[b],
            candidates.own if a == b else nowhere,
        )
        for a, b in pairs
    ]
    if not results:
        return jnp.zeros((0,)), jnp.zeros((0,))
    value, weight = zip(*results, strict=True)
    return jnp.stack(value), jnp.stack(weight)


def _in_chunks(
    function: Callable[..., Weighted], anchors: Array, candidates: Array, classes: Array, others: Array, own: Array
) -> Weighted:
    """Applies a contrast to so many anchors at a time that at most MOST_SIMILARITIES lie in memory, backward too."""
    count = len(anchors)
    chunks = -(-count * len(candidates) // MOST_SIMILARITIES)
    if chunks <= 1:
        return function(anchors, candidates, classes, others, own)
    size = -(-count // chunks)

    def cut(x: Array) -> Array:  # what fills the last chunk has no class, and so counts nowhere
        return jnp.pad(x, [(0, size * chunks - count), *[(0, 0)] * (x.ndim - 1)]).reshape(chunks, size, *x.shape[1:])

    @jax.checkpoint
    def chunk(now: tuple[Array, Array, Array]) -> Weighted:
        return function(now[0], candidates, now[1], others, now[2])

    value, weight = jax.lax.map(chunk, (cut(anchors), cut(classes), cut(own)))
    return value.reshape(-1)[:count], weight.reshape(-1)[:count]


def _intra_modal(function: Callable[..., Weighted], outputs: Outputs, batch: Batch) -> Weighted:
    """ICCL, intra-/inter-class contrast inside each modality (paper): [M, R * L]."""
    return _contrast(function, outputs, batch, [(m, m) for m in outputs.contrast])


def _cross_modal(function: Callable[..., Weighted], outputs: Outputs, batch: Batch) -> Weighted:
    """IMCL, contrast across modalities, the utterance's other nodes among the positives (paper): [P, R * L]."""
    return _contrast(function, outputs, batch, [(a, b) for a in outputs.contrast for b in outputs.contrast if a != b])


def _cross_modal_both_ways(
    mutual: Callable[..., tuple[Weighted, Weighted]], function: Callable[..., Weighted], outputs: Outputs, batch: Batch
) -> Weighted:
    """The same by a function that compares two modalities both ways at once, where the anchors are the candidates."""
    if outputs.candidates is not None or batch.label.size**2 > MOST_SIMILARITIES or len(outputs.contrast) < 2:
        return _cross_modal(function, outputs, batch)
    mine = contrast_set(outputs, batch, None)
    both = [
        mutual(mine.vectors[a], mine.vectors[b], mine.classes[a], mine.classes[b])
        for a, b in itertools.combinations(outputs.contrast, 2)
    ]
    value, weight = zip(*(way for ways in both for way in ways), strict=True)
    return jnp.stack(value), jnp.stack(weight)


# --- The table of terms -----------------------------------------------------------------------------------------------


class Form(NamedTuple):
    """One function of a slot.

    Attributes:
      hyper: the function whose keyword-only arguments are the hyper-parameters.
      wire: (hyper with its hyper-parameters bound, outputs, batch) -> (value, weight).
      discriminator: for an adversarial form what the discriminators minimise.
      mutual: of a contrast, both ways between two modalities for the price of one; `wire` then takes it first, with the
        same hyper-parameters bound.
    """

    hyper: Callable[..., Any]
    wire: Callable[..., Weighted]
    discriminator: Callable[[Array, bool], Array] | None = None
    mutual: Callable[..., tuple[Weighted, Weighted]] | None = None


def _direct(function: Callable[..., Weighted], outputs: Outputs, batch: Batch) -> Weighted:
    return function(outputs, batch)


RANGES = {  # of hyper-parameters: legal values in words, and whether a number is one
    "smoothing": ("lie in [0, 1)", lambda x: 0 <= x < 1),
    "gamma": ("be >= 0", lambda x: 0 <= x < float("inf")),
    "delta": ("be > 0", lambda x: 0 < x < float("inf")),
    "temperature": ("be > 0", lambda x: 0 < x < float("inf")),
    "similarity_margin": ("lie in [-1, 1]", lambda x: -1 <= x <= 1),
    "margin": ("lie in [0, 2]", lambda x: 0 <= x <= 2),
}
CONTRAST = (losses.supervised_nce, losses.margin)
FITTED = (losses.l1, losses.mse, losses.huber, losses.bce)  # of targets; tasks.py says which is for what
TERMS: dict[str, dict[str, Form]] = {
    "emotion": {f.__name__: Form(f, _direct) for f in (cross_entropy, weighted_cross_entropy, focal)}
    | {f.__name__: Form(f, _fitted) for f in FITTED},
    "unimodal": {"cross_entropy": Form(unimodal_cross_entropy, _direct)}
    | {f.__name__: Form(f, _fitted_alone) for f in FITTED},
    "ratings": {f.__name__: Form(f, _fitted_ratings) for f in FITTED if f is not losses.bce},
    "adversarial": {
        "bce": Form(losses.bce_generator, _generator, losses.bce_discriminator),
        "least_squares": Form(losses.least_squares_generator, _generator, losses.least_squares_discriminator),
        "hinge": Form(losses.hinge_generator, _generator, losses.hinge_discriminator),
    },
    "iccl": {f.__name__: Form(f, _intra_modal) for f in CONTRAST},
    "imcl": {
        "supervised_nce": Form(losses.supervised_nce, _cross_modal_both_ways, mutual=losses.mutual_supervised_nce),
        "margin": Form(losses.margin, _cross_modal),
    },
}


def hyper_parameters(slot: str, name: str) -> set[str]:
    """Names of the hyper-parameters that a function takes from the config."""
    parameters = inspect.signature(TERMS[slot][name].hyper).parameters.values()
    return {p.name for p in parameters if p.kind is p.KEYWORD_ONLY} - {"class_weights"}


def build(config: Mapping[str, Mapping[str, Any]], class_weights: ArrayLike) -> dict[str, Term]:
    """The active terms of a config's `losses`; a slot with weight 0 is left out, and with it all that only it needs.

    A slot may hold the hyper-parameters of several functions, so that swapping `fn` is one change; each function gets
    its own.

    Args:
      config: slot -> {"fn", "weight", hyper-parameters}.
      class_weights: [C], for functions that weigh classes.

    Raises:
      UserError: unknown slot, function or hyper-parameter, a missing one, or a weight that is not a finite number >= 0.
    """
    terms = {}
    for slot, options in config.items():
        _check(slot, options)
        form, weight = TERMS[slot][options["fn"]], float(options["weight"])
        bound = {k: options[k] for k in hyper_parameters(slot, options["fn"])}
        if "class_weights" in inspect.signature(form.hyper).parameters:
            bound["class_weights"] = class_weights
        if weight > 0:
            functions = [f for f in (form.mutual, form.hyper) if f]
            wired = functools.partial(form.wire, *[functools.partial(f, **bound) for f in functions])
            judged = form.discriminator and functools.partial(_discriminator, form.discriminator)
            terms[slot] = Term(wired, weight, judged)
    return terms


def check_overrides(config: Mapping[str, Mapping[str, Any]], overrides: Iterable[str]) -> None:
    """Refuses a hyper-parameter set by hand that the chosen function does not take: it would change nothing.

    Args:
      config: slot -> options, as for `build`.
      overrides: dotted keys from the config's root; those outside `losses` are passed over.

    Raises:
      UserError: names the key and what the function takes.
    """
    for key in overrides:
        parts = key.split(".")
        if len(parts) == 3 and parts[0] == "losses" and parts[2] not in ("fn", "weight"):
            slot, name = parts[1], config[parts[1]]["fn"]
            if name in TERMS.get(slot, {}) and parts[2] not in hyper_parameters(slot, name):
                takes = ", ".join(sorted(hyper_parameters(slot, name))) or "no hyper-parameter"
                raise UserError(f"{key} has no effect: losses.{slot}.fn={name} takes {takes}.")


def _check(slot: str, options: Mapping[str, Any]) -> None:
    path = f"losses.{slot}"
    if slot not in TERMS:
        raise UserError(f"{path}: there is no such term. {_suggest(slot, TERMS)}")
    name, weight = options.get("fn"), options.get("weight")
    if name not in TERMS[slot]:
        raise UserError(f"{path}.fn={name!r}: there is no such function. {_suggest(str(name), TERMS[slot])}")
    if not isinstance(weight, int | float) or not 0 <= weight < float("inf"):
        raise UserError(f"{path}.weight={weight!r}: a finite number >= 0 is needed; 0 removes the term.")
    takes = {f: hyper_parameters(slot, f) for f in TERMS[slot]}
    for key in set(options) - {"fn", "weight"}:
        if not any(key in names for names in takes.values()):
            known = sorted(set().union(*takes.values()))
            raise UserError(f"{path}.{key}: no function of this term takes it. {_suggest(key, known)}")
    missing = sorted(takes[name] - set(options))
    if missing:
        raise UserError(f"{path}: {name} needs {', '.join(missing)}; set it under {path} in the config.")
    for key in takes[name]:
        words, legal = RANGES[key]
        if not isinstance(options[key], int | float) or not legal(options[key]):
            raise UserError(f"{path}.{key}={options[key]!r} must {words}.")


def _suggest(word: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(word, list(known), 1)
    return (f"Did you mean {close[0]!r}? " if close else "") + f"Known: {', '.join(known) or 'none'}."


# --- Totals -----------------------------------------------------------------------------------------------------------


def total(
    terms: Mapping[str, Term], outputs: Outputs, batch: Batch, axis: str | None
) -> tuple[Array, dict[str, Array]]:
    """What the encoders, generators, graphs and classifier minimise: Σ_k λ_k · Σ(w·v) / Σ w.

    Numerators stay local and denominators are summed over devices, so the sum of all devices' totals and gradients is
    that of one device.

    Returns:
      This device's share of the total, and each term's global un-weighted value under its slot's name.
    """
    share, logs = jnp.zeros(()), {}
    for slot, term in terms.items():
        value = _mean(term.function(outputs, batch), axis)
        share = share + term.weight * value
        logs[slot] = psum(value, axis)
    return share, logs


def discriminator_total(
    terms: Mapping[str, Term], real: Mapping[Modality, Array], outputs: Outputs, batch: Batch, axis: str | None
) -> Array:
    """What the discriminators minimise: this device's share of L_D (`real` logits by modality, fakes in `outputs`)."""
    values = [_mean(t.discriminator(real, outputs, batch), axis) for t in terms.values() if t.discriminator]
    return sum(values, start=jnp.zeros(()))


def _mean(weighted: Weighted, axis: str | None) -> Array:
    value, weight = weighted
    return jnp.sum(value * weight) / jnp.maximum(psum(jnp.sum(weight), axis), 1e-6)
