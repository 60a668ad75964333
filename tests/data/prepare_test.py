"""What training is given and what a trained model is given of the same conversations are the same."""

import dataclasses

import numpy as np
import pytest

from ariigcn_jax.data import normalisation, prepare
from ariigcn_jax.options import base
from ariigcn_jax.types import Corpus, UserError
from tests.support.builders import corpus


def options(**changes):
    data = base.get_config().data
    data.update(changes)
    return data


def made():
    whole = corpus([5, 6, 7, 4], missing=0.2, seed=3)
    split = np.array(["train", "train", "valid", "test"])[whole.dialogue]
    return dataclasses.replace(whole, split=split)


def matched(given, data, statistics, trained, **changes):
    form = dict(widths=trained.widths, task=trained.task, label_names=trained.label_names, target_names=())
    return prepare.match(given, data, statistics, **(form | changes))


def test_a_model_is_given_what_it_was_trained_on():
    data = options(ranked=("text",), speaker_normalised=("text",), dialogue_normalised=("audio",))
    arranged = prepare.arrange(made(), data)
    assert arranged.widths == {"text": 6, "audio": 4} and arranged.ranked == {"text": 3}
    trained, statistics = prepare.standardise(arranged)
    again = matched(made(), data, statistics, trained)
    for m in trained.modalities:
        np.testing.assert_array_equal(again.features[m], trained.features[m])
        np.testing.assert_array_equal(again.present[m], trained.present[m])
    np.testing.assert_array_equal(again.label, trained.label)
    other, _ = prepare.standardise(dataclasses.replace(arranged, features=arranged.features), statistics)
    np.testing.assert_array_equal(other.features["text"], trained.features["text"])


def test_statistics_are_those_of_what_is_trained_on():
    arranged = prepare.arrange(made(), options())
    far = dataclasses.replace(
        arranged,
        features={m: np.where((arranged.split == "train")[:, None], x, 99.0) for m, x in arranged.features.items()},
    )
    _, statistics = prepare.standardise(far)
    np.testing.assert_array_equal(statistics.mean["text"], normalisation.fit(arranged).mean["text"])


def test_notes_say_what_was_arranged():
    data = options(only=("text",), ranked=("smell",), cross_validation=True)
    arranged = prepare.arrange(made(), data, members=2)
    assert arranged.modalities == ("text",)
    assert arranged.notes == (
        "data.ranked names 'smell', but no modality's name begins with it (there are text, audio)",
        "data.only keeps text of text, audio",
        "data.cross_validation: each of the 2 models leaves out another fold of the 3 dialogues that are not for "
        "testing, and is validated on it",
    )
    with pytest.raises(UserError, match=r"data\.ranked names 'smell', but no modality's name begins with it"):
        prepare.arrange(made(), data, members=2, given=["data.ranked"])
    with pytest.raises(UserError, match="1 is no beginning of a modality's name"):
        prepare.arrange(made(), options(ranked=(1,)))


def test_a_modality_that_the_corpus_lacks_is_missing_and_one_that_the_model_lacks_is_dropped():
    data = options()
    trained, statistics = prepare.standardise(prepare.arrange(made(), data))
    given = made()
    given = dataclasses.replace(
        given,
        features={"smell": given.features["audio"], "text": given.features["text"]},
        present={"smell": given.present["audio"], "text": given.present["text"]},
    )
    found = matched(given, data, statistics, trained)
    assert found.modalities == ("text", "audio")
    assert not found.present["audio"].any() and not found.features["audio"].any()
    assert found.notes[:2] == (
        "smell: not used, the model was not trained on it",
        "audio: missing, the model predicts from the others",
    )
    with pytest.raises(UserError, match="this model knows only text, audio"):
        matched(dataclasses.replace(given, features={}, present={}), data, statistics, trained)
    wide = dataclasses.replace(made(), features={**made().features, "text": np.zeros((22, 9))})
    with pytest.raises(UserError, match="text has 9 features an utterance, but this model was trained on 3"):
        matched(wide, data, statistics, trained)


def test_targets_are_matched_by_name():
    data = options()
    given = dataclasses.replace(
        made(), task="multilabel", target=np.tile(np.float32([1, 0]), (22, 1)), target_names=("joy", "fear")
    )
    trained, statistics = prepare.standardise(prepare.arrange(given, data))
    names = ("anger", "joy")
    found = matched(given, data, statistics, trained, task="multilabel", target_names=names)
    assert found.target.tolist() == [[0, 1]] * 22 and found.target_names == names
    assert "labels fear: not among the model's, left out of comparisons" in found.notes
    other = matched(given, data, statistics, trained, task="regression", target_names=("score",))
    assert (other.label == -1).all() and not other.target.any()


def test_dialogues_keep_every_column():
    made = corpus([2, 3, 1])
    columns = dict(
        speaker_names=np.array(list("abcdef")),
        transcript=np.array(list("uvwxyz"), object),
        target=np.arange(12.0).reshape(6, 2),
        ratings=np.arange(6.0)[:, None],
        fold=np.arange(6),
    )
    made = dataclasses.replace(made, **columns)
    kept = prepare.dialogues(made, np.array([True, False, True]))
    rows = [0, 1, 5]
    assert kept.dialogue.tolist() == [0, 0, 1] and kept.dialogue_ids == ("dialogue 0", "dialogue 2")
    assert kept.utterance_ids == tuple(made.utterance_ids[u] for u in rows)
    for field in dataclasses.fields(Corpus):
        value = getattr(made, field.name)
        if isinstance(value, np.ndarray) and field.name != "dialogue":
            np.testing.assert_array_equal(getattr(kept, field.name), value[rows])
    for m in made.modalities:
        np.testing.assert_array_equal(kept.features[m], made.features[m][rows])
        np.testing.assert_array_equal(kept.present[m], made.present[m][rows])


def test_dialogues_in_splits():
    made = corpus([2, 1, 1])
    made = dataclasses.replace(made, split=np.array(["train", "train", "valid", "test"]))
    assert prepare.dialogues_in(made, ("train",)).tolist() == [True, False, False]
    assert prepare.dialogues_in(made, ("train", "valid")).tolist() == [True, True, False]


def test_modalities_are_chosen_by_beginnings():
    made = dataclasses.replace(corpus([2, 2]), ranked={"text": 1, "audio": 2})
    kept = prepare.modalities(made, ("au",))
    assert kept.modalities == tuple(kept.present) == tuple(kept.ranked) == ("audio",)
    assert prepare.modalities(made, ()).modalities == made.modalities
    with pytest.raises(UserError, match="begins with 'face'; it has text, audio"):
        prepare.modalities(made, ("text", "face"))
