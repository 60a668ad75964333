"""What a run says of a NaN: the step, the terms, the gradients, the dialogue, and the operation."""

import dataclasses
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ariigcn_jax.data import packing, prepare
from ariigcn_jax.objective import losses
from ariigcn_jax.runs import divergence, session
from ariigcn_jax.training import build
from ariigcn_jax.training.epoch import run_order
from ariigcn_jax.types import UserError
from tests.runs.runner_test import LIGHT, tiny
from tests.support.runs import ROOT, config_file, on_devices
from tests.training.distributed_test import free_address

pytestmark = pytest.mark.usefixtures("quick_compilation")

EXPLODES = LIGHT | {"optimizer.lr": 3000.0, "checkpoint.every_seconds": 1e9}  # in the fourth epoch
PLACES = {
    "one device": {},
    "streamed": {"data.device_megabytes": 0.002},
    "two devices": {"num_devices": 2},
    "members": {"members": 2},
    "two devices, streamed": {"num_devices": 2, "data.device_megabytes": 0.002},
    "seeds on devices": {"num_devices": 2, "num_seeds": 3},
}


def main(folder):
    """Writes what a run that explodes says in every place."""
    said = {}
    for place, changes in PLACES.items():
        try:
            session.execute(tiny(EXPLODES | changes), str(folder / place))
        except UserError as error:
            said[place] = str(error)
    (folder / "said.json").write_text(json.dumps(said))


@pytest.fixture(scope="module")
def trained():
    """The experiment of one loss term, its corpus and its state at the start."""
    config = tiny(LIGHT | {"losses.unimodal.weight": 0.0})
    corpus, _ = prepare.standardise(session.load(config))
    experiment = build.make(config, corpus)
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
    order = np.asarray(run_order(state.key, state.step, experiment.layout["train"], 1))
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


class Exponential(nn.Module):
    @nn.compact
    def __call__(self, x):
        return jnp.exp(nn.Dense(1, kernel_init=nn.initializers.ones)(x))


class Network(nn.Module):
    @nn.compact
    def __call__(self, x):
        return Exponential(name="encoder_text")(x)


def in_module(state, batch):
    return state * Network().init_with_output(jax.random.key(0), batch[:, None])[0]


def looped(state, batch):
    return state * jax.lax.scan(lambda carry, x: (carry + losses.mse(x, jnp.exp(x)[None]), None), 0.0, batch)[0]


@pytest.mark.parametrize(
    ("step", "state", "batch", "said"),
    [
        (in_module, 1.0, [1.0, 200.0], "is exp in encoder_text."),
        (looped, 1.0, [1.0, 200.0], "is scan."),
        (lambda s, b: jax.grad(lambda s: (s * b[0]) * b[0])(s), 1e-30, [1e25], "mul (backward pass)"),
        (lambda s, b: losses.mse(s, b), 1e30, [1.0], "ariigcn_jax/objective/losses.py:"),
        (lambda s, b: s * b, 1.0, [2.0], "No operation gave it"),
        (lambda s, b: s * b, float("nan"), [1.0], "No operation made it"),
    ],
)
def test_the_operation_is_named(step, state, batch, said):
    assert said in divergence.operation(step, jnp.asarray(state), jnp.asarray(batch))


def test_a_healthy_step_has_no_such_operation(trained):
    experiment, corpus, state = trained
    batch = packing.collect(corpus, experiment.index["train"], np.arange(2))
    assert "No operation gave it" in divergence.operation(experiment.step, state, batch)


@pytest.fixture(scope="module")
def said(tmp_path_factory):
    """Place → its message, the folder of its run."""
    folder = tmp_path_factory.mktemp("explodes")
    on_devices(__file__, folder, 2)
    return json.loads((folder / "said.json").read_text()), folder


def step_of(message):
    """Epoch and step that diverged."""
    return re.search(r"diverged in epoch (\d+), seed [\d, ]+[^.]*\. In step (\d+) ", message).groups()


@pytest.mark.slow
@pytest.mark.parametrize("place", PLACES)
def test_every_place_names_the_same_step_and_keeps_the_epoch_before(said, place):
    messages, folder = said
    assert step_of(messages[place]) == step_of(messages["one device"]) == ("4", "11")
    kept = folder / place / "checkpoints" / "3"
    assert f"after epoch 3, is kept in {kept}." in messages[place] and kept.is_dir()
    assert ("(what follows is of model 1 of 2)" in messages[place]) == (place == "members")


@pytest.mark.slow
def test_two_processes_both_say_it_and_one_keeps_the_epoch_before(tmp_path):
    address, common = free_address(), ["--workdir=run", config_file(tmp_path, tiny(EXPLODES))]
    options = [f"--config.distributed.coordinator={address}", "--config.distributed.processes=2"]
    line = [sys.executable, "-m", "experiments.run", *common, *options]
    pipes = dict(stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=tmp_path)
    environment = {"PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu", "JAX_DISABLE_MOST_OPTIMIZATIONS": "1"}
    both = [
        subprocess.Popen([*line, f"--config.distributed.process={k}"], env=os.environ | environment, **pipes)
        for k in range(2)
    ]
    for k, process in enumerate(both):
        _, err = process.communicate(timeout=300)
        assert process.returncode == 1 and "Traceback" not in err, err
        assert f"error: process {k} of 2: Training diverged" in err and step_of(err) == ("4", "11")
    assert (tmp_path / "run" / "checkpoints" / "3").is_dir()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
