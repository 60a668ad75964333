"""What one adds from outside, through the public tables alone: a loss and a task, each with a step of training.

A layout of files is added in tests/data/readers/layouts_test.py.
"""

import csv
import json
from typing import ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import ariigcn_jax
from ariigcn_jax.analysis import calibration
from ariigcn_jax.commands import predict
from ariigcn_jax.data import prepare, targets
from ariigcn_jax.nn import model
from ariigcn_jax.objective import losses, metrics, tasks, terms
from ariigcn_jax.options import ablations, base
from ariigcn_jax.runs import session
from ariigcn_jax.training import seeds
from ariigcn_jax.types import UserError

pytestmark = pytest.mark.usefixtures("quick_compilation")


def tiny(**changes):
    config = base.get_config()
    config.update_from_flattened_dict(
        {
            "experiment": "extended",
            "num_epochs": 1,
            "batch_size": 12,
            "model.hidden": 8,
            "model.contrast_width": 4,
            "model.graph.layers": 0,
            "losses.adversarial.weight": 0.0,
            "losses.imcl.weight": 0.0,
            "optimizer.lr": 0.05,
            "optimizer.warmup_epochs": 0.0,
            "diagnostics.every": 0,
            **changes,
        }
    )
    thirds = dict(dialogues=36, utterances=(4, 4), valid=1 / 3, test=1 / 3)
    config.data.generate = dict(classes=7, widths={"text": 5, "audio": 3}, **thirds)
    return config


# --- A loss -----------------------------------------------------------------------------------------------------------


class Autoencoder(nn.Module):
    """Says a modality's features again from what its graph gives, [R, L, D] -> [R, L, d]."""

    width: int

    @nn.compact
    def __call__(self, hidden):
        return nn.Dense(self.width)(hidden)


def said_again(inner):
    """A head of the model."""
    widths = dict(inner.model.description.widths)
    return {m: Autoencoder(widths[m], name=f"again_{m}")(hidden) for m, hidden in inner.hidden.items()}


def distance(features, again, *, most: losses.Positive):
    """Absolute error of features, at most `most` for each: [R, L, d] -> [R, L]."""
    return jnp.minimum(jnp.abs(features - again), most).mean(axis=-1)


def wired(function, outputs, batch):
    value = [function(batch.features[m], x) for m, x in outputs.extra["again"].items()]
    return jnp.stack(value), jnp.stack([batch.present[m] for m in outputs.extra["again"]]).astype(jnp.float32)


@pytest.fixture
def loss(monkeypatch):
    """A loss that reads an output of its own."""
    monkeypatch.setitem(model.HEADS, "again", said_again)
    defaults = dict(fn="distance", weight=1.0, most=50.0)
    slot = terms.Slot({"distance": terms.Form(distance, wired)}, defaults, needs=frozenset({"again"}))
    monkeypatch.setitem(terms.TERMS, "again", slot)


def epoch(names):
    """Parameters and logs after an epoch with ablations."""
    config = tiny()
    ablations.apply(config, names)
    made = seeds.make(config, prepare.standardise(session.load(config))[0])
    states, logs = made.train(made.init())
    return made.host(made.weights(states)), {name: float(x[0]) for name, x in logs.items()}


def test_a_loss_from_outside_is_trained_logged_and_switched_off(loss):
    trained, logs = epoch("no_unimodal+no_iccl")
    without, other = epoch("no_auxiliary")
    assert 0 < logs["again"] < 50 and "again" not in other
    assert {*trained} - {*without} == {"again_text", "again_audio"}  # the head is there where the loss needs it
    differences = jax.tree.map(lambda a, b: np.abs(a - b).max(), {k: trained[k] for k in without}, without)
    assert max(jax.tree.leaves(differences)) > 1e-3


def test_options_of_a_loss_from_outside_are_checked(loss):
    for options, words in (
        (dict(most=0.0), r"losses\.again\.most=0\.0 must be a positive number"),
        (dict(), r"losses\.again: distance needs most"),
        (dict(most=1.0, mots=1.0), r"losses\.again\.mots: .*Did you mean 'most'"),
    ):
        with pytest.raises(UserError, match=words):
            terms.build({"again": {"fn": "distance", "weight": 1.0, **options}}, [1.0], modalities=2, ratings=False)


# --- A task -----------------------------------------------------------------------------------------------------------


class High(tasks.Task):
    """Whether a score is above a half: one output, the probability that it is."""

    losses = ("high",)
    metrics: ClassVar = {
        "right": tasks.Metric("utterances that are right"),
        "brier": tasks.Metric("Brier score", 1.0, lower=True),
    }
    headline = compared = ("right",)
    confidence = "probability that it is high"

    def decode(self, logits):
        return jax.nn.sigmoid(logits)

    def encode(self, answers):
        return jnp.log(answers) - jnp.log(1 - answers)

    def count(self, logits, label, target, num_classes):
        said = (logits[..., 0] > 0).astype(jnp.int32)
        return metrics.confusion((target[..., 0] > 0.5).astype(jnp.int32), said, label >= 0, 2)

    def by_class(self, counts):
        return {name: tasks.class_scores(counts)[name] for name in tasks.BY_CLASS}

    def overall(self, answers, targets):
        return {
            "right": float(((answers > 0.5) == (targets > 0.5)).mean()),
            "brier": float(((answers - (targets > 0.5)) ** 2).mean()),
        }

    def decisions(self, answers, label, targets):
        cases = np.concatenate([1 - answers, answers], axis=1)
        return cases, np.where(label >= 0, targets[:, 0] > 0.5, -1).astype(int)

    def calibrate(self, answers, temperature):
        return calibration.scale(np.concatenate([1 - answers, answers], axis=1), temperature)[:, 1:]

    def words(self, answer, names):
        return "high" if answer[0] > 0.5 else "low"

    def counted_names(self, label_names, target_names):
        return ("low", "high")

    def describe(self, names):
        return f"the probability that {names[0]} is high"


def high(logits, targets):
    """Cross entropy of being above a half: [..., 1] -> [...]."""
    return losses.bce(logits, (targets > 0.5).astype(jnp.float32))


@pytest.fixture
def task(monkeypatch):
    monkeypatch.setitem(tasks.TASKS, "high", High())
    monkeypatch.setitem(targets.TARGETS, "high", targets.Score("high"))
    for slot in ("emotion", "unimodal"):
        bce = terms.TERMS[slot].forms["bce"]
        monkeypatch.setitem(terms.TERMS[slot].forms, "high", bce._replace(function=high))


def test_a_task_from_outside_is_listed_where_tasks_are(task):
    assert ablations.options("task_high") == {
        "data.task": "high",
        "losses.emotion.fn": "high",
        "losses.unimodal.fn": "high",
        "eval.select": "right",
    }
    with pytest.raises(UserError, match=r"Known: .*multilabel, high"):
        tasks.get("hihg")
    with pytest.raises(UserError, match=r"losses\.emotion\.fn=high does not fit data\.task=classification"):
        tasks.check("classification", {"emotion": {"fn": "high", "weight": 1.0}}, "accuracy")
    with pytest.raises(UserError, match=r"'x' is no number, and data\.task=high needs one"):
        targets.of("high").parse(["1", "x"])
    assert tasks.shown("right", 0.5) == "50.00" and tasks.difference_unit("right") == "points"
    assert tasks.shown("brier", 0.5) == "0.500" and tasks.difference_unit("brier") == "the metric's unit"


def test_a_task_from_outside_is_read_trained_scored_and_answered(task, tmp_path, capsys):
    config = tiny(**ablations.options("task_high"))
    content = session.execute(config.lock(), str(tmp_path / "run"))
    rows = list(csv.DictReader((tmp_path / "run" / "predictions" / "seed_0.csv").read_text().splitlines()))
    test = [row for row in rows if row["split"] == "test"]
    right = np.mean([row["prediction"] == row["label"] for row in test])
    assert content["test"]["right"]["mean"] == pytest.approx(right) and right > 0.5
    assert np.sum(content["test"]["confusion"][0]) == len(test)
    assert content["label_names"] == ["low", "high"] and "calibration_error" in content
    assert "utterances that are right" in (tmp_path / "run" / "results.md").read_text()
    network = ariigcn_jax.load(tmp_path / "run")
    corpus = session.load(config)
    prediction = network(prepare.dialogues(corpus, np.arange(len(corpus.dialogue_ids)) < 2))
    assert set(prediction.emotions) <= {"low", "high"}
    assert "probability that it is high" in predict.table(prediction)
    assert json.loads(predict.jsonl(prediction).splitlines()[0])["emotion"] in ("low", "high")
