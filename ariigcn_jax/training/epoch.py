"""An epoch: the order of the rows, the scan over its steps, and the evaluation of a split.

The rows of a split come in parts (`feed.py`). A split that fits on the device is one part, whose rows each step picks;
the parts of a larger one are read one after another, with their rows in the order of the steps.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ariigcn_jax import parallel
from ariigcn_jax.data.packing import Layout
from ariigcn_jax.nn.model import Model
from ariigcn_jax.objective.tasks import Task
from ariigcn_jax.training.feed import Feed
from ariigcn_jax.training.step import Logs, Players, train_step
from ariigcn_jax.types import Array, Batch, TrainState

Epoch = Callable[[TrainState, Feed], tuple[TrainState, dict[str, np.ndarray]]]
Evaluation = Callable[[Any, Feed], dict[str, np.ndarray]]


def epoch_order(key: Array, epoch: Array, layout: Layout, num_devices: int) -> Array:
    """Draw the rows of each step: [steps, R'], R' = R, padded with the empty row to a multiple of the devices."""
    order = jax.random.permutation(jax.random.fold_in(key, epoch), layout.steps * layout.rows)
    return _by_step(order, layout, num_devices)


def run_order(key: Array, step: Array, layout: Layout, num_devices: int) -> Array:
    """Return `epoch_order` for a run's key in the epoch of a step."""
    order_key = jax.random.fold_in(key, jnp.int32(-1))  # apart from the steps' keys, which are >= 0
    return epoch_order(order_key, step // layout.steps, layout, num_devices)


def row_order(layout: Layout, num_devices: int) -> Array:
    """Return the rows in the order of an evaluation, one after another: [steps, R'], like `epoch_order`."""
    return _by_step(jnp.arange(layout.steps * layout.rows), layout, num_devices)


def _by_step(order: Array, layout: Layout, num_devices: int) -> Array:
    padding = ((0, 0), (0, -layout.rows % num_devices))
    return jnp.pad(order.reshape(layout.steps, layout.rows), padding, constant_values=len(order))


def _over_steps(step: Callable[[Any, Batch], tuple[Any, Any]], first: Any, rows: Batch, order: Array) -> Any:
    """Scan a step (carry, batch) -> (carry, result) over the steps of a part.

    Small arrays are gathered once, here: inside the step the compiler would repeat the gather in every loop that reads
    them. Features and states are gathered step by step, so that they lie on the device once.
    """
    tokens = rows.tokens
    small = rows.replace(features={}, tokens=None if tokens is None else tokens.replace(states=None))
    rest = jax.tree.map(lambda x: x[order], small)

    def body(carry: Any, now: tuple[Array, Batch]) -> tuple[Any, Any]:
        chosen, batch = now
        if batch.tokens is not None and tokens is not None and tokens.states is not None:
            batch = batch.replace(tokens=batch.tokens.replace(states=tokens.states[chosen]))
        return step(carry, batch.replace(features={m: x[chosen] for m, x in rows.features.items()}))

    return jax.lax.scan(body, first, (order, rest))


def train_part(
    players: Players, layout: Layout, num_devices: int, state: TrainState, rows: Batch, order: Array
) -> tuple[TrainState, Logs]:
    """Make the steps of a part as one scan over `order`, [steps of the part, rows of a device] places in `rows`.

    Returns:
      The state after it, and logs: sums over the part's steps, divided by the steps of the epoch, so that the logs of
      an epoch's parts sum to means over its steps.
    """
    step = functools.partial(train_step, players, axis=parallel.axis_name(num_devices))
    state, logs = _over_steps(step, state, rows, order)
    return state, jax.tree.map(lambda x: jnp.sum(x) / layout.steps, logs)


def evaluate_part(
    model: Model, task: Task, num_classes: int, layout: Layout, num_devices: int, params: Any, rows: Batch, order: Array
) -> dict[str, Array]:
    """Return the counts of a part, as [C, C], and its answers [rows of the part, L, O] in the order of packed rows."""
    axis = parallel.axis_name(num_devices)

    def step(_: None, batch: Batch) -> tuple[None, tuple[Array, Array]]:
        outputs: Any = model.apply({"params": params}, batch, False)
        counts = task.count(outputs.logits, batch.label, batch.target, num_classes)
        return None, (counts, parallel.all_gather(task.decode(outputs.logits), axis))

    _, (counts, answers) = _over_steps(step, None, rows, order)
    answers = answers[:, : layout.rows].reshape(-1, *answers.shape[2:])
    return {"confusion": parallel.psum(counts.sum(axis=0), axis), "probabilities": answers}


def epoch_over_parts(
    part: Callable[[TrainState, Batch], tuple[TrainState, Logs]], layout: Layout, num_devices: int
) -> Epoch:
    """Return (state, feed) -> (state, logs on the host) of one epoch, from a compiled `train_part`."""
    order_of = jax.jit(functools.partial(run_order, layout=layout, num_devices=parallel.world(num_devices)))

    def epoch(state: TrainState, feed: Feed) -> tuple[TrainState, dict[str, np.ndarray]]:
        now = parallel.unreplicate((state.key, state.step), feed.num_devices)
        total: Any = None
        for rows in feed.parts(lambda: np.asarray(order_of(*now))):
            state, logs = jax.block_until_ready(part(state, rows))  # at most two parts on a device
            logs = jax.tree.map(np.asarray, parallel.unreplicate(logs, feed.num_devices))
            total = logs if total is None else jax.tree.map(np.add, total, logs)
        return state, total

    return epoch


def evaluation_over_parts(part: Callable[[Any, Batch], dict[str, Array]], layout: Layout) -> Evaluation:
    """Return (params, feed) -> the results of `evaluate_part` for a whole split, on the host."""

    def evaluate(params: Any, feed: Feed) -> dict[str, np.ndarray]:
        done = []
        for rows in feed.parts(lambda: np.asarray(row_order(layout, parallel.world(feed.num_devices)))):
            done.append(jax.tree.map(np.asarray, parallel.unreplicate(part(params, rows), feed.num_devices)))
        return {
            "confusion": sum(d["confusion"] for d in done),
            "probabilities": np.concatenate([d["probabilities"] for d in done]),
        }

    return evaluate
