"""What a model says, against its own forward pass put together by hand."""

import dataclasses

import jax
import numpy as np
import pytest

from ariigcn_jax import data as corpora
from ariigcn_jax.inference.prediction import strongest
from tests.support import runs

pytestmark = pytest.mark.usefixtures("quick_compilation")
TEMPERATURE = 2.0


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return runs.load(tmp_path_factory.mktemp("run") / "a", temperature=TEMPERATURE)


@pytest.fixture(scope="module")
def utterances():
    return runs.conversation(7, dialogue_id="x") + runs.conversation(4, seed=1, dialogue_id="y")


@pytest.fixture(scope="module")
def prediction(model, utterances):
    return model(utterances)


def by_hand(model, utterances, gone=()):
    """Probabilities [U, C] and attention modality -> [U, W] of one conversation."""
    full = corpora.from_utterances(utterances)
    present = {m: here & (m not in gone) for m, here in full.present.items()}
    (batch,) = model.batches(model.prepare(dataclasses.replace(full, present=present)))
    outputs = model.outputs(batch)
    logits = np.asarray(outputs.logits)[0, : len(utterances)] / TEMPERATURE
    powers = np.exp(logits)
    attention = {m: np.asarray(w).mean(axis=(0, 3))[: len(utterances)] for m, w in outputs.attention.items()}
    return powers / powers.sum(axis=1, keepdims=True), attention


def test_probabilities_contributions_and_attention(model, utterances, prediction):
    for part, rows in ((utterances[:7], slice(0, 7)), (utterances[7:], slice(7, 11))):
        whole, attention = by_hand(model, part)
        np.testing.assert_allclose(prediction.probabilities[rows], whole, atol=1e-6)
        for m in model.modalities:
            without, _ = by_hand(model, part, gone=(m,))
            winner = whole.argmax(axis=1)
            expected = [whole[u, c] - without[u, c] for u, c in enumerate(winner)]
            np.testing.assert_allclose(prediction.contribution[m][rows], expected, atol=1e-6)
            np.testing.assert_allclose(prediction.attention[m][rows], attention[m], atol=1e-6)
    assert max(np.abs(c).max() for c in prediction.contribution.values()) > 0.01


def test_members_answer_with_their_average(tmp_path, utterances):
    model = runs.load(tmp_path / "a", {"members": 3})
    whole = model(utterances)
    alone = [
        dataclasses.replace(model, members=1, params=jax.tree.map(lambda x: x[k], model.params))(utterances)  # noqa: B023
        for k in range(3)
    ]
    np.testing.assert_allclose(whole.probabilities, np.mean([one.probabilities for one in alone], axis=0), atol=1e-6)
    assert np.abs(alone[0].probabilities - alone[1].probabilities).max() > 0.1
    for m, attention in whole.attention.items():
        np.testing.assert_allclose(attention, np.mean([one.attention[m] for one in alone], axis=0), atol=1e-6)


def test_records(model, utterances, prediction):
    records = list(prediction)
    assert [r.dialogue_id for r in records] == ["x"] * 7 + ["y"] * 4
    assert [r.turn for r in records] == [*range(7), *range(4)]
    assert [r.speaker for r in records] == [u["speaker"] for u in utterances]
    assert [r.missing for r in records] == [tuple(m for m in runs.WIDTHS if m not in u["features"]) for u in utterances]
    assert [r.emotion for r in records] == prediction.emotions
    for r in records:
        assert r.label is None
        assert r.probabilities[r.emotion] == max(r.probabilities.values())
        assert sum(r.probabilities.values()) == pytest.approx(1, abs=1e-5)


def test_some_of_the_utterances_are_a_list(prediction):
    records = list(prediction)
    assert prediction[1:3] == records[1:3] and prediction[::-2] == records[::-2]
    assert prediction[len(records) :] == []


def test_attended_are_other_utterances_of_the_dialogue_by_weight(prediction):
    found = prediction[3].attended
    means = {}
    for w, offset in enumerate((-2, -1, 0, 1)):
        weights = [x[3, w] for x in prediction.attention.values() if x[3].sum() - x[3, 2] > 1e-6]
        means[offset] = float(np.mean(weights))
    order = sorted((o for o in means if o and means[o] > 0), key=means.get, reverse=True)
    assert [a.turn for a in found] == [3 + o for o in order][:3]
    assert [a.utterance_id for a in found] == [f"x_{3 + o}" for o in order][:3]
    assert [a.weight for a in found] == pytest.approx([means[o] for o in order][:3])
    assert all(a.utterance_id.startswith("y") for r in list(prediction)[7:] for a in r.attended)


def test_a_modality_that_hears_nobody_does_not_dilute():
    weights = {"text": np.array([0.5, 0.2, 0.3]), "audio": np.array([0.0, 1.0, 0.0])}
    assert strongest(weights, 1, 5) == [(-1, 0.5, {"text": 0.5}), (1, 0.3, {"text": 0.3})]
    assert strongest({"audio": weights["audio"]}, 1, 5) == []


def test_whole_corpora_and_missing_modalities(model, utterances, prediction):
    again = model(corpora.from_utterances(utterances))
    np.testing.assert_array_equal(again.probabilities, prediction.probabilities)
    text_only = model([{"features": {"text": [1.0, 2.0, 3.0]}}] * 3)
    assert text_only.corpus.notes == ("audio: missing, the model predicts from the others",)
    assert [r.missing for r in text_only] == [("audio",)] * 3
    np.testing.assert_array_equal(text_only.contribution["audio"], 0)


def test_without_graph_layers_nobody_is_listened_to(tmp_path):
    prediction = runs.load(tmp_path / "a", {"model.graph.layers": 0})(runs.conversation(3))
    assert prediction.attention == {}
    assert [r.attended for r in prediction] == [()] * 3


def test_a_complete_graph_hears_everybody(tmp_path):
    model = runs.load(tmp_path / "a", {"model.graph.past": -1, "model.graph.future": -1, "model.graph.layers": 1})
    prediction = model(runs.conversation(6, missing=0))
    heard = {a.turn for a in prediction.attended(0, count=10)}
    assert heard == {1, 2, 3, 4, 5}
    assert jax.tree.map(np.shape, prediction.attention)["text"] == (6, 31)  # a row of 16 slots
