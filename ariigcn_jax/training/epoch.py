"""An epoch: the order of the rows, the scan over its steps, and the evaluation of a split.

The rows of a split come in parts. A split that fits on the device is one part, whose rows each step picks; of a larger
one the parts are read one after another (`feed.py`), with their rows in the order in which the steps take them.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from ariigcn_jax import parallel
from ariigcn_jax.data.packing import Layout
from ariigcn_jax.nn.model import Model
from ariigcn_jax.objective import tasks
from ariigcn_jax.training.feed import Feed
from ariigcn_jax.training.step import Logs, Players, train_step
from ariigcn_jax.types import Array, Batch, TrainState

T = TypeVar("T")


# --- The order of rows ------------------------------------------------------------------------------------------------


def epoch_order(key: Array, epoch: Array, layout: Layout, num_devices: int) -> Array:
    """Draw which rows each step takes: [steps, R'], R' = R rounded up to a multiple of the devices with the empty
    row."""
    count = layout.steps * layout.rows
    order = jax.random.permutation(jax.random.fold_in(key, epoch), count).reshape(layout.steps, layout.rows)
    return _pad_to_devices(order, count, num_devices)


def run_order(key: Array, step: Array, layout: Layout, num_devices: int) -> Array:
    """Return `epoch_order` for a run's key in the epoch of a step."""
    order_key = jax.random.fold_in(key, jnp.int32(-1))  # apart from the steps' keys, which are >= 0
    return epoch_order(order_key, step // layout.steps, layout, num_devices)


def row_order(layout: Layout, num_devices: int) -> Array:
    """Return the rows one after another, as an evaluation takes them: [steps, R'], like `epoch_order`."""
    count = layout.steps * layout.rows
    return _pad_to_devices(jnp.arange(count).reshape(layout.steps, layout.rows), count, num_devices)


def _pad_to_devices(order: Array, empty: int, num_devices: int) -> Array:
    return jnp.pad(order, ((0, 0), (0, -order.shape[1] % num_devices)), constant_values=empty)


def own_order(order: Array, num_devices: int) -> Array:
    """Return this device's share [steps, R' / devices] of an order, in a part that holds all rows of the split."""
    return parallel.own_share(order, parallel.axis_name(num_devices), num_devices)


def order_as_read(rows: Batch, layout: Layout, num_devices: int) -> Array:
    """Return the order [steps of the part, R' / devices] of rows that were read in the order of the steps."""
    return jnp.arange(len(rows.row)).reshape(-1, -(-layout.rows // parallel.world(num_devices)))


def take_rows(rows: T, order: Array) -> T:
    """Return the rows `order` [...] of each array of a split."""
    return jax.tree.map(lambda x: x[order], rows)


# --- Compiled: the steps of a part ------------------------------------------------------------------------------------


def _over_steps(step: Callable[[Any, Batch], tuple[Any, Any]], first: Any, rows: Batch, order: Array) -> Any:
    """Scan a step (carry, batch) -> (carry, result) over the steps of a part.

    What is small is gathered here, once: inside the step the compiler would repeat the gather in every loop that reads
    it. Features are gathered step by step, so that they lie on the device once.
    """
    rest = take_rows(rows.replace(features={}), order)

    def body(carry: Any, now: tuple[Array, Batch]) -> tuple[Any, Any]:
        chosen, batch = now
        return step(carry, batch.replace(features=take_rows(rows.features, chosen)))

    return jax.lax.scan(body, first, (order, rest))


def train_part(
    players: Players, layout: Layout, num_devices: int, state: TrainState, rows: Batch, order: Array
) -> tuple[TrainState, Logs]:
    """Make the steps of a part as one scan.

    Args:
      players: modules, terms, optimizers.
      layout: of the split.
      num_devices: local devices.
      state: before the part.
      rows: of the part.
      order: [steps of the part, rows of a device] places in `rows`.

    Returns:
      The state after it, and what its steps add to the logs: their sum over the steps of the whole epoch, so that the
      logs of an epoch's parts sum to means over its steps.
    """
    step = functools.partial(train_step, players, axis=parallel.axis_name(num_devices))
    state, logs = _over_steps(step, state, rows, order)
    return state, jax.tree.map(lambda x: jnp.sum(x) / layout.steps, logs)


class Head(NamedTuple):
    """What is made of the logits: the task, and C of `Corpus.label`."""

    task: tasks.Task
    num_classes: int


def evaluate_part(
    model: Model, head: Head, layout: Layout, num_devices: int, params: Any, rows: Batch, order: Array
) -> dict[str, Array]:
    """Return the counts of a part, as [C, C], and its answers [rows of the part, L, O] in the order of packed rows."""
    axis = parallel.axis_name(num_devices)

    def step(_: None, batch: Batch) -> tuple[None, tuple[Array, Array]]:
        outputs: Any = model.apply({"params": params}, batch, False)
        counts = head.task.count(outputs.logits, batch.label, batch.target, head.num_classes)
        return None, (counts, parallel.all_gather(head.task.decode(outputs.logits), axis))

    _, (counts, answers) = _over_steps(step, None, rows, order)
    answers = answers[:, : layout.rows].reshape(-1, *answers.shape[2:])
    return {"confusion": parallel.psum(counts.sum(axis=0), axis), "probabilities": answers}


# --- On the host: part after part -------------------------------------------------------------------------------------


def epoch_over_parts(
    part: Callable[[TrainState, Batch], tuple[TrainState, Logs]], layout: Layout, num_devices: int
) -> Callable[[TrainState, Feed], tuple[TrainState, dict[str, np.ndarray]]]:
    """Return (state, feed) -> (state, logs) of one epoch, made of a compiled `train_part`; logs lie on the host."""
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


def evaluation_over_parts(
    part: Callable[[Any, Batch], dict[str, Array]], layout: Layout
) -> Callable[[Any, Feed], dict[str, np.ndarray]]:
    """Return (params, feed) -> the results of `evaluate_part` for a whole split; they lie on the host."""

    def evaluate(params: Any, feed: Feed) -> dict[str, np.ndarray]:
        done = []
        for rows in feed.parts(lambda: np.asarray(row_order(layout, parallel.world(feed.num_devices)))):
            outcome = parallel.unreplicate(part(params, rows), feed.num_devices)
            done.append(jax.tree.map(np.asarray, outcome))
        return {
            "confusion": sum(d["confusion"] for d in done),
            "probabilities": np.concatenate([d["probabilities"] for d in done]),
        }

    return evaluate
