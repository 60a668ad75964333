"""What one adds from outside, through the public tables alone: a loss and a task, each with a step of training."""

import csv
import json
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict

import ariigcn_jax
from ariigcn_jax import data as corpora
from ariigcn_jax.analysis import calibration
from ariigcn_jax.data import targets
from ariigcn_jax.objective import losses, metrics, tasks, terms
from ariigcn_jax.runs import runner
from ariigcn_jax.training import seeds
from ariigcn_jax.types import UserError
from experiments import ablations, base, run
from tools import predict

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


def spread(hidden, *, least: losses.Positive):
    """How far the deviation of each node's numbers stays below `least`: [R, L, D] -> [R, L]."""
    return jax.nn.relu(least - hidden.std(axis=-1))


def wired(function, outputs, batch):
    value = [function(h) for h in outputs.hidden.values()]
    return jnp.stack(value), jnp.stack([batch.present[m] & batch.counted for m in outputs.hidden]).astype(jnp.float32)


@pytest.fixture
def loss(monkeypatch):
    monkeypatch.setitem(terms.TERMS, "spread", terms.Slot({"spread": terms.Form(spread, wired)}))


def epoch(weight, least=50.0):
    """Parameters and logs after an epoch with the loss."""
    config = tiny()
    config.losses.spread = ConfigDict(dict(fn="spread", weight=weight, least=least))
    made = seeds.make(config, runner.prepare(run.load_corpus(config))[0])
    states, logs = made.train(made.init())
    return made.host(made.weights(states)), {name: float(x[0]) for name, x in logs.items()}


def test_a_loss_from_outside_is_trained_logged_and_switched_off(loss):
    trained, logs = epoch(1.0)
    without, other = epoch(0.0)
    assert 0 < logs["spread"] < 50 and "spread" not in other
    assert logs["total"] > other["total"]
    differences = jax.tree.map(lambda a, b: np.abs(a - b).max(), trained, without)
    assert max(jax.tree.leaves(differences)) > 1e-3


def test_options_of_a_loss_from_outside_are_checked(loss):
    for options, words in (
        (dict(least=0.0), r"losses\.spread\.least=0\.0 must be > 0"),
        (dict(), r"losses\.spread: spread needs least"),
        (dict(least=1.0, lest=1.0), r"losses\.spread\.lest: .*Did you mean 'least'"),
    ):
        with pytest.raises(UserError, match=words):
            terms.build({"spread": {"fn": "spread", "weight": 1.0, **options}}, [1.0], modalities=2, ratings=False)


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
    monkeypatch.setitem(targets.TARGETS, "high", targets.SCORE)
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
    assert tasks.shown("right", 0.5) == "50.00" and tasks.difference_unit("right") == "points"
    assert tasks.shown("brier", 0.5) == "0.500" and tasks.difference_unit("brier") == "the metric's unit"


def test_a_task_from_outside_is_read_trained_scored_and_answered(task, tmp_path, capsys):
    config = tiny(**ablations.options("task_high"))
    content = run.execute(config.lock(), str(tmp_path / "run"))
    rows = list(csv.DictReader((tmp_path / "run" / "predictions" / "seed_0.csv").read_text().splitlines()))
    test = [row for row in rows if row["split"] == "test"]
    right = np.mean([row["prediction"] == row["label"] for row in test])
    assert content["test"]["right"]["mean"] == pytest.approx(right) and right > 0.5
    assert np.sum(content["test"]["confusion"][0]) == len(test)
    assert content["label_names"] == ["low", "high"] and "calibration_error" in content
    assert "utterances that are right" in (tmp_path / "run" / "results.md").read_text()
    model = ariigcn_jax.load(tmp_path / "run")
    corpus = run.load_corpus(config)
    prediction = model(corpora.select(corpus, [0, 1]))
    assert set(prediction.emotions) <= {"low", "high"}
    assert "probability that it is high" in predict.table(prediction)
    assert json.loads(predict.jsonl(prediction).splitlines()[0])["emotion"] in ("low", "high")
