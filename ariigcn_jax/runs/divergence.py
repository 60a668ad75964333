"""Where training lost its numbers: the step, the loss terms, the gradients and the dialogues behind a NaN or infinity.

An epoch is one compiled call whose logs are means over its steps, so a run sees no more than that something in it went
wrong, at no cost. Training is a function of the state: from the state before the epoch the steps are made again here,
one after another, until one goes wrong; then each of that step's dialogues alone. All of it on one device.
"""

from __future__ import annotations

import functools
import re
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend import core

from ariigcn_jax.data import packing
from ariigcn_jax.training.build import Experiment
from ariigcn_jax.training.epoch import run_order
from ariigcn_jax.types import PADDING, UNLABELED, Batch, Corpus, TrainState

PACKAGE = Path(__file__).resolve().parents[1]
NAMED = 5  # dialogues that a message lists


class Fault(NamedTuple):
    """The first step that goes wrong.

    Attributes:
      step: number of the update in the run, from 1.
      terms: loss terms that are not finite.
      gradients: modules whose gradient is not finite, or so large that its norm is not.
      parameters: modules whose parameters are not finite, before the step or after it.
      dialogues: those of the step's that go wrong alone as well, by name.
      among: number of dialogues of the step.
      state: before the step.
      batch: of the step.
    """

    step: int
    terms: tuple[str, ...]
    gradients: tuple[str, ...]
    parameters: tuple[str, ...]
    dialogues: tuple[str, ...]
    among: int
    state: TrainState
    batch: Batch


def locate(experiment: Experiment, corpus: Corpus, state: TrainState) -> Fault | None:
    """Makes an epoch's steps again and stops at the first that goes wrong.

    Args:
      experiment: of the run.
      corpus: as `build.make` got it.
      state: of one seed before the epoch, on one device.

    Returns:
      What was found; None where all steps are finite, as may happen where a device does not repeat its numbers.
    """
    look = jax.jit(functools.partial(_look, experiment.step))
    where, layout = experiment.index["train"], experiment.layout["train"]
    for rows in np.asarray(run_order(state.key, state.step, layout, 1)):
        batch = packing.collect(corpus, where, rows)
        after, found = look(state, batch)
        found = jax.device_get(found)
        if _wrong(found):
            names, dialogues = [], set()
            for name, alone in _dialogues(corpus, where, rows, batch):
                dialogues.add(name)
                if name not in names and _wrong(jax.device_get(look(state, alone)[1])):
                    names.append(name)
            bad = {kind: tuple(n for n, finite in values.items() if not finite) for kind, values in found.items()}
            return Fault(
                int(state.step) + 1, **bad, dialogues=tuple(names), among=len(dialogues), state=state, batch=batch
            )
        state = after
    return None


def _look(step: Callable[..., Any], state: TrainState, batch: Batch) -> tuple[TrainState, dict[str, dict[str, Any]]]:
    """The state after a step, and for each term and module whether its numbers are finite."""
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


def _wrong(found: Mapping[str, Mapping[str, Any]]) -> bool:
    return not all(finite for kind in found.values() for finite in kind.values())


def _dialogues(corpus: Corpus, where: packing.Index, rows: np.ndarray, batch: Batch) -> Iterator[tuple[str, Batch]]:
    """Name of each dialogue of a step, or piece of one, and the step's batch with it alone, where it was."""
    for place, row in enumerate(rows):
        for number in np.unique(where.dialogue[row][where.dialogue[row] != PADDING]):
            kept = np.zeros(batch.dialogue.shape, bool)
            kept[place] = where.dialogue[row] == number
            first = where.source[row][kept[place]][0]
            yield corpus.dialogue_ids[corpus.dialogue[first]], _only(batch, kept)


def _only(batch: Batch, kept: np.ndarray) -> Batch:
    """A batch with padding in all slots that are not kept ([R, L] bool)."""
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
    )


# --- In words ---------------------------------------------------------------------------------------------------------


def words(fault: Fault, steps: int) -> str:
    """What was found, and what to change, as sentences.

    Args:
      fault: from `locate`.
      steps: of an epoch.
    """
    terms = [t for t in fault.terms if t != "total"] or list(fault.terms)
    what = [f"the loss {listed(terms)}"] if terms else []
    what += [f"the gradient of {listed(fault.gradients)}"] if fault.gradients else []
    if not what:
        what = [f"the parameters of {listed(fault.parameters)}, by the update"]
    within = f"update {(fault.step - 1) % steps + 1} of its epoch's {steps}"
    said = [f"In step {fault.step} ({within}) {' and '.join(what)} became NaN or infinite."]
    if fault.dialogues and len(fault.dialogues) < fault.among:
        said.append(f"Of the step's {fault.among} dialogues, alone as well: {listed(fault.dialogues)}.")
        said.append("Look at them (python -m tools.prepare inspect), mend their features, or leave them out.")
    elif fault.dialogues:
        said.append(f"Each of the step's {fault.among} dialogues does so alone ({listed(fault.dialogues)}).")
    else:
        said.append(f"None of the step's {fault.among} dialogues ({listed(_rows(fault))}) does so alone.")
    if not fault.dialogues or len(fault.dialogues) == fault.among:
        module, largest = _largest_parameter(fault.state)
        weights = [f"losses.{t}.weight" for t in terms if t not in ("total", "discriminator")]
        rate = "discriminator.lr" if terms == ["discriminator"] else "optimizer.lr"
        said.append(f"The largest parameter before it is {largest:.3g} in size, in {module}.")
        said.append(f"Lower {' or '.join([rate, *weights])}, or set optimizer.clip=1.")
    return " ".join(said)


def _rows(fault: Fault) -> tuple[str, ...]:
    """Numbers of the step's rows, where no dialogue stands out."""
    return tuple(f"row {int(row)}" for row, real in zip(fault.batch.row, fault.batch.real, strict=True) if real.any())


def listed(names: Sequence[str]) -> str:
    """Some names, the first NAMED at most, and how many there are besides."""
    shown = list(names[:NAMED]) + ([f"{len(names) - NAMED} more"] if len(names) > NAMED else [])
    return shown[0] if len(shown) == 1 else f"{', '.join(shown[:-1])} and {shown[-1]}"


def _largest_parameter(state: TrainState) -> tuple[str, float]:
    sizes = {
        name: max(float(jnp.abs(x).max()) for x in jax.tree.leaves(tree))
        for name, tree in _modules(state.params, state.discriminators).items()
    }
    return max(sizes.items(), key=lambda item: (not np.isfinite(item[1]), item[1]))


# --- The operation ----------------------------------------------------------------------------------------------------


def operation(step: Callable[..., Any], state: TrainState, batch: Batch) -> str:
    """The first operation of a step that makes a NaN or infinity of finite numbers, in words.

    The step's program is run one operation after another, which is slow; each knows the line it was written in, in the
    backward pass too.

    Args:
      step: (state, batch) -> anything.
      state: before the step.
      batch: of the step.

    Returns:
      The operation's name, its module and its line in this package; or that there is none.
    """
    given = jax.tree.leaves((state, batch))
    if not _finite(given):
        return "No operation made it: it is in the features or parameters that the step begins with."
    program = jax.make_jaxpr(step)(state, batch)
    found = _culprit(program.jaxpr, program.consts, given)
    if not found:
        return "No operation gave it when they ran one by one: it comes and goes with the order of the sums."
    return f"The first operation to give it is {_described(found)}."


def _culprit(program: core.Jaxpr, constants: Sequence[Any], inputs: Sequence[Any]) -> list[core.JaxprEqn]:
    """The operation that first makes what is not finite of what is, behind the calls and scans that it lies in; [] for
    none."""
    values: dict[Any, Any] = dict(zip([*program.constvars, *program.invars], [*constants, *inputs], strict=True))
    for equation in program.eqns:
        given = [v.val if isinstance(v, core.Literal) else values[v] for v in equation.invars]
        made = equation.primitive.bind(*given, **equation.primitive.get_bind_params(equation.params))
        made = list(made) if equation.primitive.multiple_results else [made]
        if not _finite(made) and _finite(given):
            return [equation, *_inside(equation, given)]
        values.update(zip(equation.outvars, made, strict=True))
    return []


def _inside(equation: core.JaxprEqn, given: Sequence[Any]) -> list[core.JaxprEqn]:
    """The culprit inside an operation that is a call or a scan; [] where it is neither."""
    inner = next((equation.params[name] for name in ("jaxpr", "call_jaxpr") if name in equation.params), None)
    program, constants = (inner.jaxpr, inner.consts) if isinstance(inner, core.ClosedJaxpr) else (inner, ())
    if program is None or len(program.invars) != len(given):
        return []
    if equation.primitive.name != "scan":
        return _culprit(program, constants, given)
    options = equation.params
    # What is scanned over has one axis more outside; how the rest divides has other names in each version of JAX.
    after = sum(_rank(x) == _rank(y) for x, y in zip(equation.invars, program.invars, strict=True))
    fixed = after - sum(_rank(x) == _rank(y) for x, y in zip(equation.outvars, program.outvars, strict=True))
    turns, carry = range(options["length"]), list(given[fixed:after])
    run = core.jaxpr_as_fun(core.ClosedJaxpr(program, constants))
    for turn in reversed(turns) if options["reverse"] else turns:
        now = [*given[:fixed], *carry, *(x[turn] for x in given[after:])]
        found = _culprit(program, constants, now)
        if found:
            return found
        carry = run(*now)[: len(carry)]
    return []


def _rank(variable: Any) -> int:
    return variable.aval.ndim


def _finite(arrays: Sequence[Any]) -> bool:
    numbers = [x for x in arrays if jnp.issubdtype(jax.typeof(x).dtype, jnp.inexact)]
    return all(np.isfinite(np.asarray(x, np.float32)).all() for x in numbers)


def _described(found: Sequence[core.JaxprEqn]) -> str:
    stack = "/".join(str(equation.source_info.name_stack) for equation in found)
    backward = " (backward pass)" if "transpose" in stack else ""
    parts = [part.strip("()") for part in re.sub(r"transpose|jvp|vmap", "", stack).split("/")]
    module = "/".join(part for part in parts if part not in ("", "Model"))
    traces: list[Any] = [equation.source_info.traceback for equation in found]
    frames = [f for t in traces if t for f in traceback.extract_tb(t.as_python_traceback())]
    ours = [f for f in frames if PACKAGE in Path(f.filename).parents and f.filename != __file__]
    line = (
        f", {PACKAGE.name}/{Path(ours[-1].filename).relative_to(PACKAGE)}:{ours[-1].lineno} in {ours[-1].name}"
        if ours
        else ""
    )
    return found[-1].primitive.name + (f" in {module}" if module else "") + backward + line
