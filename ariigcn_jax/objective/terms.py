"""The hybrid loss: which arrays feed which function, the table of terms, and one total for each player.

    L = L_CLS + λ_G L_G + λ_ICCL L_ICCL + λ_IMCL L_IMCL     and, for the discriminators, L_D     (paper: hybrid loss)
        + λ_U L_U, each modality classified alone, + λ_R L_R, annotators' ratings beside the label     (choice)

A term takes (outputs, batch) and keyword hyper-parameters and returns (value, weight): arrays of one shape, a number
per utterance, anchor or pair and its weight. `total` forms Σ_k λ_k · Σ(w·v) / Σ w; nothing else reduces.

To add a loss: write the mathematics in losses.py, and enter it in TERMS here, in a slot of the table or a new one with
its defaults. A slot that reads a new output of the model names it in `needs`; its head enters HEADS in nn/model.py.
A loss of the answer also enters `losses` of its task in tasks.py.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import jax.numpy as jnp
from jax.typing import ArrayLike

from ariigcn_jax.objective import losses
from ariigcn_jax.objective.pairing import Weighted, cross_modal, cross_modal_both_ways, intra_modal, stacked
from ariigcn_jax.parallel import psum
from ariigcn_jax.rules import Rule, suggestion
from ariigcn_jax.types import Array, Batch, Modality, Outputs, UserError

# --- Wiring: (function with its hyper-parameters bound, outputs, batch) -> (value, weight) ----------------------------


def _classified(function: Callable[[Array, Array], Array], outputs: Outputs, batch: Batch) -> Weighted:
    """Apply a loss of logits and classes over labelled utterances [R, L]."""
    return function(outputs.logits, jnp.maximum(batch.label, 0)), _labelled(batch)


def _classified_weighted(function: Callable[[Array, Array], Weighted], outputs: Outputs, batch: Batch) -> Weighted:
    """Apply a loss that returns a weight for each utterance as well, over labelled ones [R, L]."""
    value, weight = function(outputs.logits, jnp.maximum(batch.label, 0))
    return value, _labelled(batch) * weight


def _fitted(function: Callable[[Array, Array], Array], outputs: Outputs, batch: Batch) -> Weighted:
    """Apply a loss of outputs and targets over labelled utterances [R, L]."""
    assert batch.target is not None, "tasks.check lets these losses through only where the task has targets"
    return function(outputs.logits, batch.target), _labelled(batch)


def _unimodal(wire: Callable[..., Weighted], function: Callable[..., Any], outputs: Outputs, batch: Batch) -> Weighted:
    """Apply `wire` to the logits of each modality (choice), where it is present: [M, R, L]."""
    results = []
    for m, logits in outputs.unimodal.items():
        value, weight = wire(function, outputs.replace(logits=logits), batch)
        results.append((value, weight * batch.present[m]))
    return stacked(results)


def _rated(function: Callable[[Array, Array], Array], outputs: Outputs, batch: Batch) -> Weighted:
    """Apply a loss of predicted ratings and the annotators', over rated utterances [R, L] (choice)."""
    assert outputs.ratings is not None and batch.ratings is not None and batch.rated is not None, "see `build`"
    return function(outputs.ratings, batch.ratings), batch.rated.astype(jnp.float32)


def _generator(function: Callable[[Array], Array], outputs: Outputs, batch: Batch) -> Weighted:
    """Return L_G, value and weight [P, R, L], counted where both modalities of a pair are there.

    The mean over pairs, where the paper's figure suggests their sum: λ_G then does not depend on M (choice).
    """
    return _by_pair({pair: function(logits) for pair, logits in outputs.fake_logits.items()}, batch)


def _discriminator(
    function: Callable[[Array, bool], Array], real: Mapping[Modality, Array], outputs: Outputs, batch: Batch
) -> Weighted:
    """Return L_D, value and weight [M + P, R, L], from the logits `real` and outputs.fake_logits."""
    values = {(m, m): function(logits, True) for m, logits in real.items()}
    return _by_pair(values | {pair: function(x, False) for pair, x in outputs.fake_logits.items()}, batch)


def _by_pair(values: Mapping[tuple[Modality, Modality], Array], batch: Batch) -> Weighted:
    present = [(batch.present[a] & batch.present[b] & batch.counted).astype(jnp.float32) for a, b in values]
    return stacked([*zip(values.values(), present, strict=True)])


def _labelled(batch: Batch) -> Array:
    return (batch.label >= 0).astype(jnp.float32)


# --- The table of terms -----------------------------------------------------------------------------------------------


class Form(NamedTuple):
    """One function of a slot."""

    function: Callable[..., Any]  # mathematics of losses.py; its keyword-only arguments are the hyper-parameters
    wire: Callable[..., Weighted]  # (function with its hyper-parameters bound, outputs, batch) -> (value, weight)
    discriminator: Callable[[Array, bool], Array] | None = None  # loss of the discriminators, of an adversarial form
    boundary: float = 0.0  # logit above which such a discriminator takes its input for real
    # for a contrast, both ways between two modalities at once; `wire` then takes it, bound alike, as well
    mutual: Callable[..., tuple[Weighted, Weighted]] | None = None


class Slot(NamedTuple):
    """A term of the loss, which one of several functions computes."""

    forms: Mapping[str, Form]  # name -> function
    # of `config.losses`: "fn", "weight", which is λ >= 0, and the hyper-parameters of all functions
    defaults: Mapping[str, Any]
    # outputs of the model that it reads beside logits: fields of `Outputs`, or entries of its `extra`
    needs: frozenset[str] = frozenset()
    across: bool = False  # whether it compares modalities; with one modality it is 0 and needs nothing
    truth: str = ""  # "answer" where it learns the task's targets, "ratings", or "" for neither


class Term(NamedTuple):
    """An active slot."""

    function: Callable[..., Weighted]  # (outputs, batch) -> (value, weight), hyper-parameters bound
    weight: float  # its λ
    needs: frozenset[str] = frozenset()  # as of `Slot`, on this corpus
    # of an adversarial term, (real logits, outputs, batch) -> (value, weight) of L_D
    discriminator: Callable[..., Weighted] | None = None
    boundary: float = 0.0  # as of `Form`


def _forms(wire: Callable[..., Weighted], *functions: Callable[..., Any]) -> dict[str, Form]:
    return {f.__name__: Form(f, wire) for f in functions}


_FITTED = (losses.l1, losses.mse, losses.huber)
# temperature > 0 and similarity_margin (β in [-1, 1], -1 for none) of supervised_nce; margin (β in [0, 2]) of margin
_CONTRAST = dict(fn="supervised_nce", weight=0.1, temperature=0.2, similarity_margin=-1.0, margin=0.5)
# smoothing in [0, 1) of cross entropies; gamma >= 0 of focal; delta > 0 of huber, in the score's unit
TERMS: dict[str, Slot] = {
    "emotion": Slot(
        {
            **_forms(_classified, losses.cross_entropy),
            **_forms(_classified_weighted, losses.weighted_cross_entropy),
            **_forms(_classified, losses.focal),
            **_forms(_fitted, *_FITTED, losses.bce),
        },
        dict(fn="cross_entropy", weight=1.0, smoothing=0.0, gamma=2.0, delta=1.0),
        truth="answer",
    ),
    "unimodal": Slot(
        {
            **_forms(functools.partial(_unimodal, _classified), losses.cross_entropy),
            **_forms(functools.partial(_unimodal, _fitted), *_FITTED, losses.bce),
        },
        dict(fn="cross_entropy", weight=0.5, smoothing=0.0, delta=1.0),
        needs=frozenset({"unimodal"}),
        across=True,
        truth="answer",
    ),
    "ratings": Slot(
        _forms(_rated, *_FITTED), dict(fn="mse", weight=1.5, delta=1.0), needs=frozenset({"ratings"}), truth="ratings"
    ),
    "adversarial": Slot(
        {
            "bce": Form(losses.bce_generator, _generator, losses.bce_discriminator),
            "least_squares": Form(
                losses.least_squares_generator, _generator, losses.least_squares_discriminator, boundary=0.5
            ),
            "hinge": Form(losses.hinge_generator, _generator, losses.hinge_discriminator),
        },
        dict(fn="bce", weight=0.1),
        needs=frozenset({"generated"}),
        across=True,
    ),
    "iccl": Slot(_forms(intra_modal, losses.supervised_nce, losses.margin), _CONTRAST, needs=frozenset({"contrast"})),
    "imcl": Slot(
        {
            "supervised_nce": Form(losses.supervised_nce, cross_modal_both_ways, mutual=losses.mutual_supervised_nce),
            "margin": Form(losses.margin, cross_modal),
        },
        _CONTRAST,
        needs=frozenset({"contrast"}),
        across=True,
    ),
}


# --- From a config ----------------------------------------------------------------------------------------------------


def hyper_parameters(slot: str, name: str) -> dict[str, Rule | None]:
    """Return the hyper-parameters that a function takes from the config, with the rules of their values."""
    parameters = inspect.signature(TERMS[slot].forms[name].function, eval_str=True).parameters.values()
    return {
        p.name: next((x for x in getattr(p.annotation, "__metadata__", ()) if isinstance(x, Rule)), None)
        for p in parameters
        if p.kind is p.KEYWORD_ONLY and p.name != "class_weights"
    }


def build(
    config: Mapping[str, Mapping[str, Any]], class_weights: ArrayLike, *, modalities: int, ratings: bool
) -> dict[str, Term]:
    """Return the active terms of a config's `losses`: neither a weight of 0 nor ratings that the corpus lacks.

    Args:
      config: slot -> {"fn", "weight", hyper-parameters of any of its functions}, so that swapping `fn` is one change.
      class_weights: [C], for functions that weigh classes.
      modalities: M.
      ratings: whether the corpus has annotators' ratings.

    Raises:
      UserError: unknown slot, function or hyper-parameter, a missing one, or a weight that is not a finite number >= 0.
    """
    terms = {}
    for name, options in config.items():
        _check(name, options)
        slot, weight = TERMS[name], float(options["weight"])
        if weight == 0 or (slot.truth == "ratings" and not ratings):
            continue
        form = slot.forms[options["fn"]]
        bound = {k: options[k] for k in hyper_parameters(name, options["fn"])}
        if "class_weights" in inspect.signature(form.function).parameters:
            bound["class_weights"] = class_weights
        functions = [functools.partial(f, **bound) for f in (form.mutual, form.function) if f]
        terms[name] = Term(
            functools.partial(form.wire, *functions),
            weight,
            frozenset() if slot.across and modalities < 2 else slot.needs,
            form.discriminator and functools.partial(_discriminator, form.discriminator),
            form.boundary,
        )
    return terms


def check_overrides(config: Mapping[str, Mapping[str, Any]], overrides: Iterable[str]) -> None:
    """Refuse an override (a dotted key from the config's root) of a hyper-parameter that the function does not take.

    Raises:
      UserError: names the key and the hyper-parameters of the function.
    """
    for key in overrides:
        parts = key.split(".")
        if len(parts) == 3 and parts[0] == "losses" and parts[2] not in ("fn", "weight"):
            slot, name = parts[1], config[parts[1]]["fn"]
            known = slot in TERMS and name in TERMS[slot].forms
            if known and parts[2] not in hyper_parameters(slot, name):
                takes = ", ".join(sorted(hyper_parameters(slot, name))) or "no hyper-parameter"
                raise UserError(f"{key} has no effect: losses.{slot}.fn={name} takes {takes}.")


def _check(slot: str, options: Mapping[str, Any]) -> None:
    path = f"losses.{slot}"
    if slot not in TERMS:
        raise UserError(f"{path}: there is no such term. {suggestion(slot, TERMS)}")
    name, weight, forms = str(options.get("fn")), options.get("weight"), TERMS[slot].forms
    if name not in forms:
        raise UserError(f"{path}.fn={options.get('fn')!r}: there is no such function. {suggestion(name, forms)}")
    if not isinstance(weight, int | float) or not 0 <= weight < float("inf"):
        raise UserError(f"{path}.weight={weight!r}: a finite number >= 0 is needed; 0 removes the term.")
    takes = {f: hyper_parameters(slot, f) for f in forms}
    for key in set(options) - {"fn", "weight"}:
        if not any(key in names for names in takes.values()):
            known = sorted(set().union(*takes.values()))
            raise UserError(f"{path}.{key}: no function of this term takes it. {suggestion(key, known)}")
    missing = sorted(set(takes[name]) - set(options))
    if missing:
        raise UserError(f"{path}: {name} needs {', '.join(missing)}; set it under {path} in the config.")
    for key, rule in takes[name].items():
        value = options[key]
        if not isinstance(value, int | float) or (rule and not rule.legal(value)):
            raise UserError(f"{path}.{key}={value!r} must {rule.words if rule else 'be a number'}.")


# --- Totals -----------------------------------------------------------------------------------------------------------


def total(
    terms: Mapping[str, Term], outputs: Outputs, batch: Batch, axis: str | None
) -> tuple[Array, dict[str, Array]]:
    """Return the loss of encoders, generators, graphs and classifier: Σ_k λ_k · Σ(w·v) / Σ w.

    Numerators stay local and denominators are summed over devices, so the sum of all devices' totals and gradients is
    that of one device.

    Returns:
      This device's share of the total, and each slot's global value, without λ.
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
    """Return this device's share of L_D, from logits of real input, modality -> [R, L], and outputs.fake_logits."""
    values = [_mean(t.discriminator(real, outputs, batch), axis) for t in terms.values() if t.discriminator]
    return sum(values, start=jnp.zeros(()))


def _mean(weighted: Weighted, axis: str | None) -> Array:
    value, weight = weighted
    return jnp.sum(value * weight) / jnp.maximum(psum(jnp.sum(weight), axis), 1e-6)
