"""bfloat16 for the matrix products: close to float32, which everything that is kept or summed stays in."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ariigcn_jax.options import base
from ariigcn_jax.training import build
from ariigcn_jax.training.step import init_state, train_step
from ariigcn_jax.types import UserError
from tests.support import builders

pytestmark = pytest.mark.usefixtures("quick_compilation")
CORPUS = builders.corpus([5, 4, 3, 5], missing=0.1)
BATCH = builders.place(CORPUS, [[0], [1], [2], [3]], 5)


def config(precision, changes=()):
    made = base.get_config()
    small = {
        "model.hidden": 16,
        "model.contrast_width": 8,
        "model.graph.heads": 2,
        "model.graph.layers": 1,
        "model.graph.past": 2,
        "model.graph.future": 2,
        "model.graph.block": 0,
        "model.gan.generator_hidden": 8,
        "model.gan.discriminator_hidden": 8,
        "model.dropout": 0.0,
        "optimizer.warmup_epochs": 0.0,
    }
    made.update_from_flattened_dict(small | {"model.precision": precision} | dict(changes))
    return made.lock()


def dtypes(tree):
    return {str(x.dtype) for x in jax.tree.leaves(tree) if jnp.issubdtype(x.dtype, jnp.floating)}


@pytest.mark.parametrize("context, score", [("gru", "dot"), ("attention", "additive"), ("speaker", "uniform")])
def test_outputs_are_close_to_those_of_float32(context, score):
    changes = {"model.context": context, "model.graph.score": score}
    full, half = (build.make_model(config(p, changes), CORPUS.description) for p in ("float32", "bfloat16"))
    shapes = jax.eval_shape(lambda: half.init(jax.random.key(0), BATCH, False))["params"]
    assert dtypes(shapes) == {"float32"}
    params = builders.scattered(jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), shapes), scale=0.3)
    outputs = [builders.jit(lambda p, m=m: m.apply({"params": p}, BATCH, False))(params) for m in (full, half)]
    assert dtypes(outputs[1]) == {"float32"}
    for (path, expected), found in zip(jax.tree.leaves_with_path(outputs[0]), jax.tree.leaves(outputs[1]), strict=True):
        name = jax.tree_util.keystr(path)
        np.testing.assert_allclose(found, expected, atol=0.03 * max(1, np.abs(expected).max()), err_msg=name)
    assert np.abs(outputs[0].logits - outputs[1].logits).max() > 1e-5


def test_a_step_keeps_float32_and_multiplies_in_bfloat16():
    changes = {"losses.iccl.weight": 0.0, "losses.imcl.weight": 0.0}  # whose products are float32, and many
    players = build.make_players(config("bfloat16", changes), CORPUS.description, 1)
    state = builders.jit(lambda: init_state(players, BATCH, jax.random.key(0)))()
    step = builders.jit(lambda state: train_step(players, state, BATCH, None))
    text = step.lower(state).as_text()
    products = [line for line in text.splitlines() if "stablehlo.dot_general" in line]
    halves = [line for line in products if line.count("bf16") == 3]
    assert len(halves) > len(products) / 2  # those of messages along edges and of logits remain
    after, logs = step(state)
    assert dtypes(after) == dtypes(logs) == {"float32"}
    assert all(np.isfinite(x).all() for x in jax.tree.leaves((logs, after.params, after.optimizer)))
    for player in ("params", "discriminators"):
        moved = jax.tree.map(lambda a, b: np.abs(a - b).max(), getattr(state, player), getattr(after, player))
        assert max(jax.tree.leaves(moved)) > 0


def test_float32_has_no_bfloat16():
    players = build.make_players(config("float32"), CORPUS.description, 1)
    state = jax.eval_shape(lambda: init_state(players, BATCH, jax.random.key(0)))
    assert "bf16" not in jax.jit(lambda s: train_step(players, s, BATCH, None)).lower(state).as_text()


def test_other_precisions_are_refused():
    with pytest.raises(UserError, match=r"model\.precision='float16' must be one of float32, bfloat16"):
        build.make_players(config("float16"), CORPUS.description, 1)
