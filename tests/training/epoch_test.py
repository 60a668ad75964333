"""The order of an epoch's rows: every row once, in another order each epoch."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ariigcn_jax.data import packing
from ariigcn_jax.training import epoch
from ariigcn_jax.training.epoch import epoch_order, run_order, train_part
from ariigcn_jax.types import TrainState
from tests.support.training import conversations


@pytest.mark.parametrize("devices", [1, 2, 4])
def test_epoch_order_has_every_row_once_and_pads_with_the_empty_row(devices):
    layout, key = packing.Layout(steps=4, rows=5, length=9), jax.random.key(0)
    orders = [np.asarray(epoch_order(key, jnp.int32(number), layout, devices)) for number in (0, 1, 0)]
    for order in orders:
        assert order.shape == (4, {1: 5, 2: 6, 4: 8}[devices])
        assert sorted(order[:, :5].ravel()) == list(range(20))
        assert (order[:, 5:] == 20).all()
    np.testing.assert_array_equal(orders[0], orders[2])
    assert (orders[0] != orders[1]).any()
    other = epoch_order(jax.random.key(1), jnp.int32(0), layout, devices)
    assert (orders[0] != other).any()


def test_epochs_take_every_row_once_in_another_order(monkeypatch):
    layout, batch = packing.pack(conversations(dialogues=30), "train", 4)
    assert layout.rows > 1 and layout.steps > 1

    def note_rows(players, state, batch, axis):
        return state.replace(step=state.step + 1, params=state.params.at[state.step].set(batch.row)), {}

    monkeypatch.setattr(epoch, "train_step", note_rows)
    seen = jnp.full((2 * layout.steps, layout.rows), -1)
    state = TrainState(jnp.int32(0), jax.random.key(0), seen, {}, {}, {}, {})
    rows = jax.tree.map(jnp.asarray, batch)
    for _ in range(2):
        order = run_order(state.key, state.step, layout, 1)
        state, _ = train_part(None, layout, 1, state, rows, order)
    first, second = np.asarray(state.params).reshape(2, -1)
    assert sorted(first) == sorted(second) == list(range(layout.steps * layout.rows))
    assert (first != second).any()
