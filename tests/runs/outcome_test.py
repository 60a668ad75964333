"""What a run leaves behind, from answers made up here."""

import dataclasses

import numpy as np
import pytest

from ariigcn_jax.analysis import calibration
from ariigcn_jax.data import targets
from ariigcn_jax.runs import outcome
from ariigcn_jax.runs.outcome import Answers
from tests.support import builders


def answered(task="classification"):
    """A corpus of three splits, and answers that are never wrong in train, and oftener in test than in validation."""
    corpus = builders.corpus([40] * 3, unlabeled=0.2)
    corpus = dataclasses.replace(corpus, split=np.repeat(["train", "valid", "test"], 40))
    random = np.random.default_rng(0)
    if task != "classification":
        several = (random.random((120, 3)) < 0.4).astype(float)
        corpus = targets.attach(corpus, task, several if task == "multilabel" else several[:, :1], ("a", "b", "c"))
    utterance = random.permutation(120)
    truth = np.eye(3)[np.maximum(corpus.label, 0)] if corpus.target is None else corpus.target
    hits = truth[utterance] if corpus.target is None else 2 * truth[utterance] - 1
    noise = np.array([0.5, 3.0, 6.0])[utterance // 40, None]
    logits = 3 * hits + noise * random.normal(size=hits.shape)
    values = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    return corpus, Answers(utterance, values if corpus.target is None else 1 / (1 + np.exp(-logits)))


@pytest.mark.parametrize("task", ["classification", "multilabel"])
def test_the_temperature_is_fitted_on_validation_alone(task):
    corpus, answers = answered(task)
    found = outcome.temperature(corpus, answers)
    fitted = {
        splits: calibration.fit_temperature(
            *(np.concatenate(parts) for parts in zip(*(answers.decisions(corpus, s) for s in splits), strict=True))
        )
        for splits in (("valid",), ("train",), ("test",), ("train", "valid"), ("valid", "test"))
    }
    assert found == fitted[("valid",)]
    assert all(abs(np.log(t / found)) > 0.1 for splits, t in fitted.items() if splits != ("valid",)), fitted


def test_a_score_has_no_temperature():
    corpus, answers = answered("regression")
    assert outcome.temperature(corpus, answers) == 1


@pytest.mark.parametrize("split", ["train", "valid", "test"])
def test_decisions_are_those_of_a_split(split):
    corpus, answers = answered()
    values, label = answers.decisions(corpus, split)
    expected = {
        u: p.tolist() for u, p in zip(answers.utterance, answers.values, strict=True) if corpus.split[u] == split
    }
    assert label.tolist() == [corpus.label[u] for u in expected] and values.tolist() == [*expected.values()]
