"""What a run says of a NaN: the step, the terms, the gradients, the dialogue, and the operation."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from runner_test import LIGHT, tiny

from ariigcn_jax import divergence, losses, runner, train
from experiments import run

pytestmark = pytest.mark.usefixtures("quick_compilation")


@pytest.fixture(scope="module")
def trained():
    """The experiment of one loss term, its corpus and its state at the start."""
    config = tiny(LIGHT | {"losses.unimodal.weight": 0.0})
    corpus, _ = runner.prepare(run.load_corpus(config))
    experiment = train.make(config, corpus)
    looks = jax.jit(experiment.step)  # traced once for all tests
    return dataclasses.replace(experiment, step=looks), corpus, experiment.init(0)


def test_one_dialogue_of_nan_is_named_with_its_step(trained):
    experiment, corpus, state = trained
    utterance = np.flatnonzero(corpus.split == "train")[7]
    features = {m: x.copy() for m, x in corpus.features.items()}
    features["audio"][utterance, 1] = np.nan
    fault = divergence.locate(experiment, dataclasses.replace(corpus, features=features), state)
    name = corpus.dialogue_ids[corpus.dialogue[utterance]]
    assert fault.dialogues == (name,) and fault.among > 1
    order = np.asarray(train.run_order(state.key, state.step, experiment.layout["train"], 1))
    row = np.flatnonzero((experiment.index["train"].source == utterance).any(axis=1))[0]
    assert fault.step == 1 + np.flatnonzero((order == row).any(axis=1))[0]
    assert fault.terms == ("emotion", "total") and "encoder_audio" in fault.gradients
    said = divergence.words(fault, experiment.steps)
    assert f"In step {fault.step} " in said and "the loss emotion" in said and name in said
    assert "the features" in divergence.operation(experiment.step, fault.state, fault.batch)


def test_parameters_out_of_range_are_everybodys_fault_and_healthy_ones_nobodys(trained):
    experiment, corpus, state = trained
    assert divergence.locate(experiment, corpus, state) is None
    params = dict(state.params, classifier=jax.tree.map(lambda x: x * 1e30, state.params["classifier"]))
    fault = divergence.locate(experiment, corpus, state.replace(params=params))
    assert fault.step == 1 and len(fault.dialogues) == fault.among
    said = divergence.words(fault, experiment.steps)
    assert "Lower optimizer.lr or losses.emotion.weight" in said and "in classifier" in said


def looped(state, batch):
    with jax.named_scope("encoder_text"):
        total, _ = jax.lax.scan(lambda carry, x: (carry + losses.mse(x, jnp.exp(x)[None]), None), 0.0, batch)
    return state * total


@pytest.mark.parametrize(
    ("step", "state", "batch", "said"),
    [
        (looped, 1.0, [1.0, 200.0], "exp in encoder_text"),
        (lambda s, b: jax.grad(lambda s: (s * b[0]) * b[0])(s), 1e-30, [1e25], "mul (backward pass)"),
        (lambda s, b: losses.mse(s, b), 1e30, [1.0], "ariigcn_jax/losses.py:"),
        (lambda s, b: s * b, 1.0, [2.0], "No operation gave it"),
        (lambda s, b: s * b, float("nan"), [1.0], "No operation made it"),
    ],
)
def test_the_operation_is_named(step, state, batch, said):
    assert said in divergence.operation(step, jnp.asarray(state), jnp.asarray(batch))
