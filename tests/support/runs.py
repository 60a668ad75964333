"""Runs as folders: without training, a network of random parameters in the place of a trained one; and compared. And
test files as programs."""

import json
import os
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp

import ariigcn_jax
from ariigcn_jax import data as corpora
from ariigcn_jax.options import base
from ariigcn_jax.runs import runner, workdir
from ariigcn_jax.runs.checkpoint import Checkpoints
from ariigcn_jax.training import build
from tests.support.builders import batch, scattered
from tests.support.builders import corpus as make_corpus

ROOT = Path(__file__).resolve().parents[2]
TIMEOUT_SECONDS = 600
WIDTHS = {"text": 3, "audio": 2}  # not in the order of the alphabet
SMALL = {
    "experiment": "tiny",
    "model.hidden": 4,
    "model.contrast_width": 3,
    "model.speakers": 2,
    "model.graph.layers": 2,
    "model.graph.heads": 2,
    "model.graph.past": 2,
    "model.graph.future": 1,
    "model.gan.generator_hidden": 3,
    "model.gan.discriminator_hidden": 3,
}


def make(folder, changes=(), temperature=None, widths=WIDTHS):
    """Writes what `ariigcn_jax.load` reads; its corpus has features of mean 3."""
    config = base.get_config()
    config.update_from_flattened_dict(SMALL | dict(changes))
    corpus = make_corpus([4, 5, 6], widths, seed=1)
    corpus.features["text"][:] += 3
    corpus = corpora.normalisation.with_copies(corpora.normalisation.ranked(corpus, config.data.ranked), config.data)
    model = build.make_model(config, corpus.description)
    sample = batch([[2]], widths=corpus.widths)
    shapes = jax.eval_shape(lambda: model.init(jax.random.key(0), sample, False))["params"]
    members = () if config.members == 1 else (config.members,)
    params = scattered(jax.tree.map(lambda x: jnp.zeros((*members, *x.shape), x.dtype), shapes), scale=1.5)
    with workdir.open(folder, "tiny", config.to_dict(), tensorboard=False) as directory:
        directory.write_json(runner.CORPUS, runner.describe(corpus))
        if temperature is not None:
            directory.write_json(runner.RESULTS, {"temperature": temperature})
        checkpoints = Checkpoints(directory.path, 1)
        every = params if members else jax.tree.map(lambda x: x[None], params)
        best = {"params": every, "epoch": np.array([7]), "score": np.array([0.5])}
        data = corpora.normalisation.fit(corpus).to_arrays()
        checkpoints.save(9, {"last": {"step": np.zeros(1)}, "best": best, "data": data})
        checkpoints.finish()
    return folder


def load(folder, changes=(), temperature=None):
    """The model of such a run."""
    return ariigcn_jax.load(make(folder, changes, temperature))


def on_devices(program, folder, count):
    """Runs a test file as a program for a folder, in a process that is given `count` devices; what it said.

    NPROC is set because a collective on few cores may wait for its threads for ever.
    """
    environment = os.environ | {
        "XLA_FLAGS": f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count={count}".strip(),
        "NPROC": str(max(2 * count, os.cpu_count() or 1)),
        "JAX_PLATFORMS": "cpu",
        "JAX_DISABLE_MOST_OPTIMIZATIONS": "1",
        "JAX_COMPILATION_CACHE_DIR": str(folder / "compiled"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "PYTHONPATH": str(ROOT),
    }
    command = [sys.executable, program, str(folder)]
    options = dict(timeout=TIMEOUT_SECONDS, capture_output=True, text=True, check=False)
    done = subprocess.run(command, env=environment, cwd=folder, **options)
    assert done.returncode == 0, done.stderr[-4000:]
    return done.stderr


def conversation(length, seed=0, speakers=3, missing=0.2, dialogue_id="d"):
    """Utterances as a user gives them."""
    random = np.random.default_rng(seed)

    def features(turn):
        vectors = {m: (3 + random.normal(size=width)).tolist() for m, width in WIDTHS.items()}
        return {m: v for m, v in vectors.items() if random.random() >= missing or not turn}  # the first has all

    return [
        {"dialogue_id": dialogue_id, "speaker": f"speaker {random.integers(speakers)}", "features": features(turn)}
        for turn in range(length)
    ]


def config_file(folder, config):
    """Writes tiny.py, an experiment's file of the config; returns the option that names it."""
    text = (
        f"from ml_collections import ConfigDict\n\n\ndef get_config():\n    return ConfigDict({config.to_dict()!r})\n"
    )
    (folder / "tiny.py").write_text(text)
    return "--config=tiny.py"


def log_of(folder):
    """The rows of a run's log without the time that they took."""
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{key: value for key, value in row.items() if key != "seconds"} for row in rows]


def results_of(folder):
    return json.loads((folder / "results.json").read_text())


def assert_same_run(whole, other):
    """Two finished runs are the same in every bit of log, results, predictions and newest checkpoint; not in timing."""
    assert log_of(other) == log_of(whole)
    one, two = ({k: v for k, v in results_of(f).items() if k not in ("seconds", "speed")} for f in (whole, other))
    assert one == two
    predictions = [{p.name: p.read_bytes() for p in (f / "predictions").iterdir()} for f in (whole, other)]
    assert predictions[0] and predictions[0] == predictions[1]
    epoch = max(int(p.name) for p in (whole / "checkpoints").iterdir())
    with ocp.StandardCheckpointer() as reader:
        for item in ("last", "best", "data"):
            a, b = (reader.restore((f / "checkpoints" / str(epoch) / item).absolute()) for f in (whole, other))
            assert jax.tree.leaves(a)
            jax.tree.map(np.testing.assert_array_equal, a, b)
