"""What is left of a corpus is what it was."""

import dataclasses

import numpy as np
import pytest

from ariigcn_jax.data import choose
from ariigcn_jax.types import Corpus, UserError
from tests.support.builders import corpus


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
    kept = choose.dialogues(made, np.array([True, False, True]))
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
    assert choose.dialogues_in(made, ("train",)).tolist() == [True, False, False]
    assert choose.dialogues_in(made, ("train", "valid")).tolist() == [True, True, False]


def test_modalities_are_chosen_by_beginnings():
    made = dataclasses.replace(corpus([2, 2]), ranked={"text": 1, "audio": 2})
    kept = choose.modalities(made, ("au",))
    assert kept.modalities == tuple(kept.present) == tuple(kept.ranked) == ("audio",)
    assert choose.modalities(made, ()).modalities == made.modalities
    with pytest.raises(UserError, match="begins with 'face'; it has text, audio"):
        choose.modalities(made, ("text", "face"))
