"""Streams: equal to the whole conversation, in bounded memory, and refused where that cannot be."""

import dataclasses

import numpy as np
import pytest
from ml_collections import ConfigDict, FrozenConfigDict

from ariigcn_jax.types import UserError
from tests.support import runs

pytestmark = pytest.mark.usefixtures("quick_compilation")


def assert_equal_records(got, expected):
    assert (got.dialogue_id, got.turn, got.utterance_id) == (expected.dialogue_id, expected.turn, expected.utterance_id)
    assert (got.speaker, got.missing, got.emotion) == (expected.speaker, expected.missing, expected.emotion)
    for name in ("probabilities", "contribution"):
        assert getattr(got, name) == pytest.approx(getattr(expected, name), abs=1e-5)
    assert [a.utterance_id for a in got.attended] == [a.utterance_id for a in expected.attended]
    for a, b in zip(got.attended, expected.attended, strict=True):
        assert a.weight == pytest.approx(b.weight, abs=1e-5)


@pytest.fixture(scope="module")
def causal(tmp_path_factory):
    return runs.load(tmp_path_factory.mktemp("run") / "a", {"model.graph.future": 0})


@pytest.mark.parametrize(
    ("changes", "delay", "length"),
    [
        ({"model.graph.future": 0}, 0, 5),
        ({"model.graph.future": 2, "model.graph.past": 1, "model.graph.score": "dot", "members": 2}, 4, 7),
        ({"model.graph.layers": 0, "model.graph.future": -1, "model.graph.past": -1, "data.ranked": ("t",)}, 0, 1),
    ],
)
def test_equals_the_whole_conversation(tmp_path, changes, delay, length):
    model = runs.load(tmp_path / "a", changes, temperature=1.7)
    stream = model.stream(explain=True)
    assert (stream.delay, stream.length) == (delay, length)
    dialogues = {d: runs.conversation(n, seed=n, dialogue_id=d) for d, n in (("a", 25), ("b", 3), ("c", 1))}
    waiting, got = {d: list(us) for d, us in dialogues.items()}, []
    random = np.random.default_rng(0)
    while waiting:  # conversations take turns as it comes
        d = random.choice(list(waiting))
        given = len(dialogues[d]) - len(waiting[d])
        answers = stream.push(waiting[d].pop(0))
        assert [a.turn for a in answers] == ([given - delay] if given >= delay else [])
        got += answers
        if not waiting[d]:
            got += stream.finish(d)
            del waiting[d]
    assert stream.dialogue_ids == ()
    expected = [record for us in dialogues.values() for record in model(us)]
    assert len(got) == len(expected)
    for one, other in zip(sorted(got, key=lambda r: (r.dialogue_id, r.turn)), expected, strict=True):
        assert_equal_records(one, other)


def test_many_conversations_in_one_pass_are_as_one_by_one(causal):
    dialogues = [runs.conversation(6, seed=k, dialogue_id=f"d{k}") for k in range(5)]
    together, alone = causal.stream(explain=True), causal.stream(explain=True)
    for turn in range(6):
        got = together.push_all(us[turn] for us in dialogues)
        for one, us in zip(got, dialogues, strict=True):
            (expected,) = alone.push(us[turn])
            assert_equal_records(one, expected)


def test_several_utterances_of_one_conversation_are_taken_in_turn(causal):
    utterances = runs.conversation(6)
    got = causal.stream(explain=True).push_all(utterances)
    for one, other in zip(got, causal(utterances), strict=True):
        assert_equal_records(one, other)


def test_memory_and_shapes_stay_however_long_it_gets(causal):
    stream = causal.stream()
    utterances = runs.conversation(200)
    sizes, before = set(), causal.explained.func._cache_size()
    for utterance in utterances:
        stream.push(utterance)
        (kept,) = stream._conversations.values()
        sizes.add((len(kept.utterances), len(kept.speakers) <= 3))
    assert sizes == {(5, True)}
    assert causal.explained.func._cache_size() <= before + 1
    stream.finish("d")
    assert stream._conversations == {}


def test_a_wrong_utterance_changes_nothing(causal):
    stream = causal.stream()
    first, second = runs.conversation(2, missing=0)
    stream.push(first)
    with pytest.raises(UserError, match="audio has 3 features, but the model takes 2"):
        stream.push_all([second, {"features": {"audio": [1, 2, 3]}}])
    with pytest.raises(UserError, match="`features` must be an object"):
        stream.push({})
    (got,) = stream.push(second)
    assert got.probabilities == pytest.approx(causal([first, second])[1].probabilities, abs=1e-6)


def test_finishing_an_unknown_conversation_is_refused(causal):
    stream = causal.stream()
    with pytest.raises(UserError, match="There is no open conversation 'x'"):
        stream.finish("x")


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"graph.future": -1}, "model.graph.future=-1: each utterance attends to all later ones"),
        ({"graph.past": -1}, "model.graph.past=-1: the whole conversation would"),
        ({"context": "gru"}, "model.context=gru: it reads the whole dialogue"),
        ({"context": "attention"}, "model.context=attention"),
        ({"context": "speaker"}, "model.context=speaker"),
    ],
)
def test_a_model_that_would_change_its_mind_is_refused(causal, changes, reason):
    with pytest.raises(UserError, match=reason):
        dataclasses.replace(causal, model=causal.model.with_options(changes)).stream()


@pytest.mark.parametrize("option", ["speaker_normalised", "dialogue_normalised"])
def test_features_of_the_whole_dialogue_are_refused(causal, option):
    config = ConfigDict(causal.config)
    config.data[option] = ("audio",)
    with pytest.raises(UserError, match=f"data.{option}: audio is standardised over the whole dialogue"):
        dataclasses.replace(causal, config=FrozenConfigDict(config)).stream()
