"""Find where training diverged: the step, loss terms, gradients and dialogues behind a NaN or infinity.

An epoch is one compiled call, whose logs are means over its steps. Training repeats itself from a state, so the steps
of a bad epoch are run again one by one from the state before it, and then each dialogue of the bad step alone. All of
it runs on one device.
"""

from __future__ import annotations

import contextlib
import functools
import io
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from ariigcn_jax.data import packing
from ariigcn_jax.nn import text_encoder
from ariigcn_jax.training.build import Experiment
from ariigcn_jax.training.epoch import run_order
from ariigcn_jax.types import PADDING, UNLABELED, Batch, Corpus, Tokens, TrainState

PACKAGE = Path(__file__).resolve().parents[1]
NAMED = 5  # dialogues that a message lists


class Fault(NamedTuple):
    """Describe the first bad step."""

    step: int  # number of the update in the run, from 1
    terms: tuple[str, ...]  # loss terms that are not finite
    gradients: tuple[str, ...]  # modules whose gradient, or its norm, is not finite
    parameters: tuple[str, ...]  # modules whose parameters are not finite after the step
    dialogues: tuple[str, ...]  # names of those that are bad alone, too
    among: int  # number of dialogues of the step
    state: TrainState  # before the step
    batch: Batch


def locate(experiment: Experiment, corpus: Corpus, state: TrainState) -> Fault | None:
    """Run an epoch's steps again and stop at the first bad one.

    Args:
      experiment: of the run.
      corpus: as `build.make` got it.
      state: of one seed before the epoch, on one device.

    Returns:
      The fault; None if all steps are finite, as on a device that does not repeat its numbers.
    """
    look = jax.jit(functools.partial(_look, experiment.step))
    where, layout = experiment.index["train"], experiment.layout["train"]
    for rows in np.asarray(run_order(state.key, state.step, layout, 1)):
        batch = packing.collect(corpus, where, rows)
        after, found = look(state, batch)
        found = jax.device_get(found)
        if _bad(found):
            dialogues: dict[str, bool] = {}  # whether one of the dialogue's pieces is bad alone
            for name, alone in _dialogues(corpus, where, rows, batch):
                dialogues[name] = dialogues.get(name) or _bad(jax.device_get(look(state, alone)[1]))
            kinds = {kind: tuple(n for n, finite in values.items() if not finite) for kind, values in found.items()}
            names = tuple(name for name, bad in dialogues.items() if bad)
            return Fault(int(state.step) + 1, **kinds, dialogues=names, among=len(dialogues), state=state, batch=batch)
        state = after
    return None


def _look(step: Callable[..., Any], state: TrainState, batch: Batch) -> tuple[TrainState, dict[str, dict[str, Any]]]:
    """Return the state after a step, and whether the numbers of each term and module are finite."""
    after, logs, gradients = step(state, batch)
    of_module = _modules(gradients["model"], gradients["discriminators"])
    parameters = _modules(after.params, after.discriminators)
    return after, {
        "terms": {name: jnp.isfinite(x) for name, x in logs.items() if not name.endswith("gradient_norm")},
        "gradients": {name: jnp.isfinite(jnp.sum(_flat(tree) ** 2)) for name, tree in of_module.items()},
        "parameters": {name: jnp.isfinite(_flat(tree)).all() for name, tree in parameters.items()},
    }


def _modules(model: Mapping[str, Any], discriminators: Mapping[str, Any]) -> dict[str, Any]:
    return {**model, **{f"discriminator_{m}": tree for m, tree in discriminators.items()}}


def _flat(tree: Any) -> jax.Array:
    return jnp.concatenate([x.reshape(-1) for x in jax.tree.leaves(tree)])


def _bad(found: Mapping[str, Mapping[str, Any]]) -> bool:
    return not all(finite for kind in found.values() for finite in kind.values())


def _dialogues(corpus: Corpus, where: packing.Index, rows: np.ndarray, batch: Batch) -> Iterator[tuple[str, Batch]]:
    """Yield the name of each dialogue of a step, or piece of one, and the batch without all others."""
    for place, row in enumerate(rows):
        for number in np.unique(where.dialogue[row][where.dialogue[row] != PADDING]):
            kept = np.zeros(batch.dialogue.shape, bool)
            kept[place] = where.dialogue[row] == number
            first = where.source[row][kept[place]][0]
            yield corpus.dialogue_ids[corpus.dialogue[first]], _only(batch, kept)


def _only(batch: Batch, kept: np.ndarray) -> Batch:
    """Return a batch with padding in all slots but the kept ones, [R, L] bool."""
    sizes = np.zeros_like(batch.n_node)
    sizes[:, 0] = kept.sum(axis=1)
    sizes[:, -1] += kept.shape[1] - sizes[:, 0]
    return batch.replace(
        features={m: np.where(kept[..., None], x, 0) for m, x in batch.features.items()},
        present={m: x & kept for m, x in batch.present.items()},
        dialogue=np.where(kept, batch.dialogue, PADDING),
        speaker=np.where(kept, batch.speaker, 0),
        label=np.where(kept, batch.label, UNLABELED),
        n_node=sizes,
        utterance=np.where(kept, batch.utterance, PADDING),
        target=None if batch.target is None else np.where(kept[..., None], batch.target, 0),
        rated=None if batch.rated is None else batch.rated & kept,
        tokens=None if batch.tokens is None else _only_tokens(batch.tokens, kept),
    )


def _only_tokens(tokens: Tokens, kept: np.ndarray) -> Tokens:
    """Return the tokens with padding in the place of those whose utterances are not in the slots `kept` [R, L] bool."""
    slot = np.asarray(tokens.slot)
    mine = (slot != PADDING) & kept[np.arange(len(kept))[:, None, None], slot]
    return tokens.replace(
        slot=np.where(mine, slot, PADDING),
        position=np.where(mine, tokens.position, 0),
        pooled=tokens.pooled & mine,
        ids=None if tokens.ids is None else np.where(mine, tokens.ids, 0),
        states=None if tokens.states is None else np.where(mine[..., None], tokens.states, 0),
    )


def words(fault: Fault, steps: int) -> str:
    """Return a fault of an epoch of `steps` as sentences, and what to change."""
    terms = [t for t in fault.terms if t != "total"] or list(fault.terms)
    what = [f"the loss {listed(terms)}"] if terms else []
    what += [f"the gradient of {listed(fault.gradients)}"] if fault.gradients else []
    what = what or [f"the parameters of {listed(fault.parameters)}, by the update"]
    within = f"update {(fault.step - 1) % steps + 1} of its epoch's {steps}"
    sentences = [f"In step {fault.step} ({within}) {' and '.join(what)} became NaN or infinite."]
    dialogues = f"the step's {fault.among} dialogues"
    if fault.dialogues and len(fault.dialogues) < fault.among:
        return (
            f"{sentences[0]} Of {dialogues}, these give it even alone: {listed(fault.dialogues)}. Look at them "
            "(python -m tools.prepare inspect), mend their features, or leave them out."
        )
    if fault.dialogues:
        sentences.append(f"Each of {dialogues} does so alone ({listed(fault.dialogues)}).")
    else:
        rows = [f"row {int(row)}" for row, real in zip(fault.batch.row, fault.batch.real, strict=True) if real.any()]
        sentences.append(f"None of {dialogues} ({listed(rows)}) does so alone.")
    modules = _modules(fault.state.params, fault.state.discriminators)
    sizes = {name: max(float(jnp.abs(x).max()) for x in jax.tree.leaves(tree)) for name, tree in modules.items()}
    module, largest = max(sizes.items(), key=lambda item: (not np.isfinite(item[1]), item[1]))
    weights = [f"losses.{t}.weight" for t in terms if t not in ("total", "discriminator")]
    rate = "optimizer.words.lr" if module == text_encoder.NAME else "optimizer.lr"
    rate = "discriminator.lr" if terms == ["discriminator"] else rate
    sentences.append(f"The largest parameter before it is {largest:.3g} in size, in {module}.")
    sentences.append(f"Lower {' or '.join([rate, *weights])}, or set optimizer.clip=1.")
    return " ".join(sentences)


def listed(names: Sequence[str]) -> str:
    """List the first NAMED names, and the number of the others."""
    shown = list(names[:NAMED]) + ([f"{len(names) - NAMED} more"] if len(names) > NAMED else [])
    return shown[0] if len(shown) == 1 else f"{', '.join(shown[:-1])} and {shown[-1]}"


def operation(step: Callable[..., Any], state: TrainState, batch: Batch) -> str:
    """Describe the first operation of a step, (state, batch) -> anything, that gives a NaN or infinity.

    The step runs without compilation under JAX's own check, which is slow. Inside a compiled function, JAX checks the
    result first.
    """
    numbers = [x for x in jax.tree.leaves((state, batch)) if jnp.issubdtype(jax.typeof(x).dtype, jnp.inexact)]
    if not all(np.isfinite(np.asarray(x, np.float32)).all() for x in numbers):
        return "No operation made it: it is in the features or parameters before the step."
    try:
        with jax.debug_nans(True), jax.debug_infs(True), contextlib.redirect_stdout(io.StringIO()):  # JAX prints, too
            jax.block_until_ready(step(state, batch))
    except FloatingPointError as error:
        return f"The first operation to give it is {_described(error)}."
    return "No operation gave it when they ran one by one: it depends on the order of the sums."


def _described(error: FloatingPointError) -> str:
    """Return the operation that JAX's check names, with its module and line; in the backward pass its cause's."""
    name = str(error).partition(" encountered in ")[2].split()[0].rstrip(".")
    source = error.__cause__ or error
    frames = [frame for frame, _ in traceback.walk_tb(source.__traceback__)]
    modules = [m for m in (frame.f_locals.get("self") for frame in frames) if isinstance(m, nn.Module) and m.path]
    calls = traceback.extract_tb(source.__traceback__)
    ours = [c for c in calls if PACKAGE in Path(c.filename).parents and c.filename != __file__]
    name += f" in {'/'.join(modules[-1].path)}" if modules else ""
    name += " (backward pass)" if error.__cause__ else ""
    if not ours:
        return name
    file = Path(ours[-1].filename).relative_to(PACKAGE)
    return f"{name}, {PACKAGE.name}/{file}:{ours[-1].lineno} in {ours[-1].name}"
