"""Small configs and corpora for tests of training, and states that need no compilation."""

import jax
import jax.numpy as jnp
import numpy as np

from ariigcn_jax import data as corpora
from ariigcn_jax.data import packing
from ariigcn_jax.options import base
from ariigcn_jax.training.step import init_state
from ariigcn_jax.types import TrainState
from tests.support import builders

TINY = {
    "num_epochs": 20,
    "batch_size": 3,
    "model.hidden": 8,
    "model.contrast_width": 4,
    "model.speakers": 2,
    "model.graph.layers": 1,
    "model.graph.heads": 2,
    "model.graph.past": 1,
    "model.graph.future": 2,
    "model.graph.block": 0,
    "model.gan.generator_hidden": 8,
    "model.gan.discriminator_hidden": 8,
    "optimizer.lr": 1e-2,
    "optimizer.warmup_epochs": 0.0,
}
LIGHT = {"model.graph.layers": 0, **{f"losses.{slot}.weight": 0.0 for slot in ("adversarial", "iccl", "imcl")}}


def tiny(changes=()):
    config = base.get_config()
    config.update_from_flattened_dict(TINY | dict(changes))
    return config.lock()


def conversations(**changes):
    """Generated conversations, standardised."""
    options = dict(dialogues=14, utterances=(2, 7), classes=3, widths={"text": 5, "audio": 3}, separation=4, noise=0.5)
    corpus = corpora.generate(**options | changes)
    return corpora.normalisation.apply(corpus, corpora.normalisation.fit(corpus))


def batch_of(corpus, batch_size=20):
    """All rows of the train split, as one step's batch."""
    return jax.tree.map(jnp.asarray, packing.pack(corpus, "train", batch_size)[1])


def random_state(players, batch):
    """A state with random parameters; initial ones would hide what a bias of zero hides."""
    shapes = jax.eval_shape(lambda b: init_state(players, b, jax.random.key(0)), batch)
    params = builders.scattered(shapes.params)
    discriminators = builders.scattered(shapes.discriminators, seed=2)
    return TrainState(
        step=jnp.int32(0),
        key=jax.random.key(0),
        params=params,
        average={},
        discriminators=discriminators,
        optimizer=players.optimizer.init(params),
        discriminator_optimizer=players.discriminator_optimizer.init(discriminators),
    )


def continue_run(experiment, state, epochs):
    logs = []
    for _ in range(epochs):
        state, row = experiment.epoch(state, experiment.data["train"].rows)
        logs.append({name: float(value) for name, value in row.items()})
    return state, logs


def distance(a, b):
    """The largest difference between two trees of arrays."""
    return max(float(np.max(np.abs(x - y))) for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True))
