"""Reading .npz files: what becomes of each field, what is noted, and what is refused with which words."""

import io
import zipfile

import numpy as np
import pytest

from ariigcn_jax.data import carve, load
from ariigcn_jax.data.readers import npz
from ariigcn_jax.types import UNLABELED, UserError

NAN, INF = float("nan"), float("inf")


def fields(**changes):
    """Two train dialogues and one of each other split; None takes a field away."""
    table = dict(
        dialogue_id=["a", "a", "a", "b", "b", "c", "d"],
        turn=[0, 1, 2, 0, 1, 0, 0],
        utterance_id=[f"u{i}" for i in range(7)],
        speaker=["X", "Y", "X", "Y", "Z", "X", "X"],
        label=[0, 1, 2, 1, 0, 2, 1],
        label_names=["sad", "happy", "angry"],
        split=["train"] * 5 + ["valid", "test"],
        transcript=[f"words {i}" for i in range(7)],
        text=np.arange(14, dtype=np.float32).reshape(7, 2) + 1,
        audio_egemaps=np.arange(21).reshape(7, 3) - 30.5,
    )
    return {name: value for name, value in (table | changes).items() if value is not None}


@pytest.fixture
def read(tmp_path):
    def write_and_read(options=None, **changes):
        np.savez(tmp_path / "toy.npz", **fields(**changes))
        return load(tmp_path / "toy.npz", **(options or {}))

    return write_and_read


@pytest.fixture
def refused(read, tmp_path):
    """The message without the path, which it must begin with."""

    def message(options=None, **changes):
        with pytest.raises(UserError) as caught:
            read(options, **changes)
        before, path, after = str(caught.value).partition(f"{tmp_path / 'toy.npz'}: ")
        assert before == "" and path
        return after

    return message


def test_every_field(read):
    corpus = read()
    assert corpus.name == "toy"
    assert corpus.modalities == ("text", "audio_egemaps")
    np.testing.assert_array_equal(corpus.features["text"], fields()["text"])
    np.testing.assert_array_equal(corpus.features["audio_egemaps"], fields()["audio_egemaps"])
    assert {x.dtype for x in corpus.features.values()} == {np.dtype(np.float32)}
    assert all(mask.all() and mask.dtype == bool for mask in corpus.present.values())
    assert corpus.dialogue.tolist() == [0, 0, 0, 1, 1, 2, 3]
    assert corpus.speaker.tolist() == [0, 1, 0, 0, 1, 0, 0]
    assert corpus.label.tolist() == [0, 1, 2, 1, 0, 2, 1]
    assert {a.dtype for a in (corpus.dialogue, corpus.speaker, corpus.label)} == {np.dtype(np.int32)}
    assert corpus.split.tolist() == ["train"] * 5 + ["valid", "test"]
    assert corpus.label_names == ("sad", "happy", "angry")
    assert corpus.dialogue_ids == ("a", "b", "c", "d")
    assert corpus.utterance_ids == tuple(f"u{i}" for i in range(7))
    assert corpus.speaker_names.tolist() == ["X", "Y", "X", "Y", "Z", "X", "X"]
    assert corpus.transcript.tolist() == [f"words {i}" for i in range(7)]
    assert corpus.notes == ()


def test_least_fields(read):
    corpus = read(turn=None, utterance_id=None, speaker=None, label_names=None, transcript=None, audio_egemaps=None)
    assert corpus.label_names == ("0", "1", "2")
    assert corpus.utterance_ids == ("a_0", "a_1", "a_2", "b_0", "b_1", "c_0", "d_0")
    assert corpus.speaker.tolist() == [0] * 7
    assert (corpus.speaker_names, corpus.transcript) == (None, None)
    assert corpus.notes == ("there is no field `speaker`: every dialogue counts as the monologue of speaker 0",)


def test_name(read):
    assert read(dict(name="other")).name == "other"


@pytest.mark.parametrize("ids", [[7, 7, 7, 3, 3, 9, 1], [b"7", b"7", b"7", b"3", b"3", b"9", b"1"]])
def test_dialogues_may_be_numbers_or_bytes(read, ids):
    assert read(dialogue_id=ids).dialogue_ids == ("7", "3", "9", "1")


# Order of rows


def test_rows_are_sorted_by_turn(read):
    corpus = read(turn=[2, 0.5, 1, 0, 1, 0, 0])
    assert corpus.utterance_ids == ("u1", "u2", "u0", "u3", "u4", "u5", "u6")
    assert corpus.label.tolist() == [1, 2, 0, 1, 0, 2, 1]
    assert corpus.speaker_names.tolist() == ["Y", "X", "X", "Y", "Z", "X", "X"]
    assert corpus.speaker.tolist() == [0, 1, 1, 0, 1, 0, 0]
    assert corpus.transcript[0] == "words 1"
    np.testing.assert_array_equal(corpus.features["text"][:3], [[3, 4], [5, 6], [1, 2]])
    assert corpus.notes == ("the rows of 1 dialogue were not in the order of `turn` and were sorted",)


def test_dialogues_after_the_first_are_sorted_too(read):
    corpus = read(turn=[0, 1, 2, 5, 4, 0, 0])
    assert corpus.utterance_ids == ("u0", "u1", "u2", "u4", "u3", "u5", "u6")
    assert corpus.notes == ("the rows of 1 dialogue were not in the order of `turn` and were sorted",)


def test_scattered_rows_are_gathered(read):
    ids, split = ["b", "a", "b", "a", "c", "d", "a"], ["train"] * 4 + ["valid", "test", "train"]
    corpus = read(dialogue_id=ids, split=split, turn=None)
    assert corpus.dialogue_ids == ("b", "a", "c", "d")
    assert corpus.utterance_ids == ("u0", "u2", "u1", "u3", "u6", "u4", "u5")
    assert corpus.dialogue.tolist() == [0, 0, 1, 1, 1, 2, 3]
    assert corpus.split.tolist() == ["train"] * 5 + ["valid", "test"]
    assert corpus.notes == ("the rows of 2 dialogues were not contiguous and were gathered",)


def test_equal_turns_stay_in_the_order_of_the_file(read):
    corpus = read(turn=[1, 1, 0, 0, 1, 0, 0])
    assert corpus.utterance_ids[:3] == ("u2", "u0", "u1")
    assert "1 utterance with the `turn` of another one stayed in the order of the file" in corpus.notes


@pytest.mark.parametrize("turn", [[0, 1, NAN, 0, 1, 0, 0], list("0120100")])
def test_turn_that_does_not_order(refused, turn):
    assert "field `turn`: is " in (message := refused(turn=turn)) and "It must hold numbers" in message


def test_utterance_id_that_comes_twice(read):
    assert read(utterance_id=list("aabbbcd")).notes == ("3 utterances have the `utterance_id` of another one",)


def test_speakers_are_numbered_inside_each_dialogue(read):
    rng = np.random.default_rng(0)
    who = rng.choice(list("PQRST"), size=60)
    ids = np.repeat(np.arange(12), 5)
    corpus = read(**conversations(30, dialogue_id=ids, speaker=who, split=np.repeat(["train", "valid", "test"], 20)))
    expected = []
    for d in range(12):
        met = []
        for name in who[ids == d]:
            met += [] if name in met else [name]
            expected.append(met.index(name))
    assert corpus.speaker.tolist() == expected


# Modalities


def test_annotations_are_left_out_and_named(read):
    corpus = read(valence_arousal=np.ones((7, 2)), textual=np.ones((7, 2)), start_s=np.ones(7))
    assert corpus.modalities == ("text", "audio_egemaps")
    assert corpus.notes == (
        "`valence_arousal`, `textual`: not taken as a modality because of its name; if it is an input and not an "
        "annotation, name it in data.modalities",
    )


@pytest.mark.parametrize("prefix", ["text", "audio", "visual", "video", "vocal", "face", "acoustic", "vision"])
@pytest.mark.parametrize("suffix", ["", "_v2"])
def test_names_of_modalities(read, prefix, suffix):
    assert read(**{"text": None, "audio_egemaps": None, prefix + suffix: np.ones((7, 2))}).modalities == (
        prefix + suffix,
    )


def test_modalities_by_name_are_exactly_those(read):
    options = dict(modalities=("valence", "text"))
    assert read(options, valence=np.ones((7, 2)), visual=np.ones((7, 2))).modalities == ("valence", "text")
    assert read(dict(modalities="text")).modalities == ("text",)
    assert read(options, valence=np.ones((7, 2)), other=np.ones((7, 2))).notes == ()


def test_modality_that_is_not_there(refused):
    message = refused(dict(modalities=("audio_egmaps",)))
    assert message.startswith("field `audio_egmaps`: is not there; the file has `dialogue_id`, `turn`, ")
    assert "`text`, `audio_egemaps`. Did you mean `audio_egemaps`? Choose `modalities`" in message


def test_modality_named_twice(read):
    with pytest.raises(UserError, match="names one of `text`, `text` twice"):
        read(dict(modalities=("text", "text")))


def test_named_modality_that_is_no_features(refused):
    message = refused(dict(modalities=("label",)))
    assert message.startswith("field `label`: is int64 [7]. A modality must be 2-D floats, [U, d]: convert with")
    assert "is float64 [7, 5, 2]" in refused(dict(modalities=("text",)), text=np.ones((7, 5, 2)))


def test_no_modality(refused):
    message = refused(text=None, audio_egemaps=None, valence=np.ones((7, 2)))
    assert message.startswith("there is no modality among `dialogue_id` <U1 [7], ")
    assert "`valence` float64 [7, 2]. Name a field with 2-D floats text, audio, " in message


def test_field_named_like_a_modality_that_is_none_is_noted(read):
    corpus = read(visual=np.ones((7, 5, 2)), face=np.ones((7, 2), int), vocal=np.ones(7), text_language=["en"] * 7)
    assert corpus.modalities == ("text", "audio_egemaps")
    assert corpus.notes == (
        "`visual` is not taken as a modality: it is float64 [7, 5, 2], not 2-D floats; average over the frames",
        "`face` is not taken as a modality: it is int64 [7, 2], not 2-D floats; convert by .astype('float32')",
        "`vocal` is not taken as a modality: it is float64 [7], not 2-D floats; one number an utterance is [U, 1], by "
        ".reshape(-1, 1)",
    )


@pytest.mark.parametrize("shape", [(6, 2), (8, 2), (7, 0)])
def test_modality_of_the_wrong_shape(refused, shape):
    message = refused(text=np.ones(shape))
    assert (
        message
        == f"field `text`: has the shape {shape}. It must be [7, d] with d of at least 1, one row per utterance."
    )


# Missing rows


@pytest.mark.parametrize("value", [NAN, INF, -INF, 1e300])
def test_rows_that_are_not_finite_become_missing(read, value):
    audio = fields()["audio_egemaps"].copy()
    audio[2, 1] = value
    corpus = read(audio_egemaps=audio)
    assert corpus.present["audio_egemaps"].tolist() == [True, True, False, True, True, True, True]
    assert corpus.present["text"].all()
    assert corpus.features["audio_egemaps"][2].tolist() == [0, 0, 0]
    assert corpus.notes == ("1 utterance of audio_egemaps has NaN or Inf and counts as missing",)


def test_rows_of_zeros_become_missing(read):
    audio = fields()["audio_egemaps"].copy()
    audio[[1, 4]] = 0
    audio[3, 0] = 0
    corpus = read(audio_egemaps=audio)
    assert np.flatnonzero(~corpus.present["audio_egemaps"]).tolist() == [1, 4]
    assert corpus.notes == ("2 utterances of audio_egemaps have only zeros and count as missing",)


def test_missing_rows_move_with_their_utterance(read):
    text = fields()["text"].copy()
    text[0] = NAN
    corpus = read(text=text, turn=[5, 1, 2, 0, 1, 0, 0])
    assert corpus.present["text"].tolist() == [True, True, False, True, True, True, True]
    assert corpus.features["text"][:3].tolist() == [[3, 4], [5, 6], [0, 0]]


def test_single_feature_may_be_zero(read):
    corpus = read(text=np.array([[0.0], [1], [0], [1], [1], [1], [1]]))
    assert corpus.present["text"].all() and corpus.notes == ()


def test_modality_of_zeros_is_present(read):
    corpus = read(text=np.zeros((7, 2)))
    assert corpus.present["text"].all()
    assert corpus.notes == ("`text` is zero in every utterance",)


@pytest.mark.parametrize("dtype", [bool, int, float])
def test_file_says_what_is_present(read, dtype):
    text = fields()["text"].copy()
    text[0] = 0
    text[1] = NAN
    text[2] = NAN
    corpus = read(text=text, text_present=np.array([1, 1, 0, 0, 1, 1, 1], dtype), turn=[0, 1, 2, 1, 0, 0, 0])
    assert corpus.present["text"].tolist() == [True, False, False, True, False, True, True]
    assert corpus.features["text"].tolist() == [[0, 0], [0, 0], [0, 0], [9, 10], [0, 0], [11, 12], [13, 14]]
    assert "1 utterance of text has NaN or Inf and counts as missing" in corpus.notes
    assert not any("zeros" in note for note in corpus.notes)


@pytest.mark.parametrize("values", [[1, 1, 2, 0, 1, 1, 1], [1, 1, NAN, 0, 1, 1, 1], list("1110111")])
def test_present_that_is_not_boolean(refused, values):
    assert refused(text_present=values).endswith("holds something other than true and false. It must be [U] bool.")


def test_utterance_without_any_modality(read):
    text, audio = fields()["text"].copy(), fields()["audio_egemaps"].copy()
    text[[0, 3]], audio[[3, 5]] = NAN, NAN
    assert "1 utterance has no modality at all" in read(text=text, audio_egemaps=audio).notes


def test_modality_that_train_lacks(read):
    text = fields()["text"].copy()
    text[:5] = NAN
    assert "no train utterance has `text`" in read(text=text).notes


# Labels


def test_ratings_are_standardised_over_train_and_no_modality(tmp_path):
    vad, rated = np.arange(14, dtype=float).reshape(7, 2), np.array([1, 1, 0, 1, 1, 1, 0], bool)
    vad[~rated, 1] = NAN
    np.savez(tmp_path / "toy.npz", **fields(text_vad=vad, clarity=[3] * 7))
    corpus = load(tmp_path / "toy.npz", ratings=("text_vad", "clarity", "tension"))
    assert corpus.modalities == ("text", "audio_egemaps") and "`tension`, which data.ratings names" in corpus.notes[-1]
    np.testing.assert_array_equal(np.isfinite(corpus.ratings).all(axis=1), rated)
    train = vad[[0, 1, 3, 4]]
    np.testing.assert_allclose(corpus.ratings[rated, :2], ((vad - train.mean(0)) / train.std(0))[rated], rtol=1e-5)
    np.testing.assert_array_equal(corpus.ratings[rated, 2], 0)  # a constant says nothing
    assert load(tmp_path / "toy.npz", ratings=("text_vad",), training=False).ratings is None
    assert load(tmp_path / "toy.npz", ratings=("text", "vad")).ratings.shape == (7, 2)  # one field for both
    assert load(tmp_path / "toy.npz").ratings is None


def test_ratings_that_are_no_numbers(tmp_path):
    np.savez(tmp_path / "toy.npz", **fields())
    with pytest.raises(
        UserError, match=r"field `transcript`: is <U7 \[7\]. data.ratings needs numbers, \[7\] or \[7, k\]"
    ):
        load(tmp_path / "toy.npz", ratings=("transcript",))


def test_other_label_field(read):
    corpus = read(dict(label="mood"), mood=[1, 0, 1, 1, 0, 1, -5], mood_names=["low", "high"])
    assert corpus.label_names == ("low", "high")
    assert corpus.label.tolist() == [1, 0, 1, 1, 0, 1, -1]


def test_float_labels_that_are_integers(read):
    assert read(label=[0.0, 1.0, 2.0, -1.0, 0.0, 2.0, 1.0]).label.tolist() == [0, 1, 2, -1, 0, 2, 1]


@pytest.mark.parametrize("wrong", [0.5, NAN, INF])
def test_float_labels_that_are_none(refused, wrong):
    message = refused(label=[0.0, 1.0, wrong, 1.0, 0.0, 2.0, 1.0])
    assert message.startswith(
        f"field `label`: has the value {wrong}. It must hold integers, negative where there is no"
    )


def test_text_labels_are_read_as_those_of_a_table(read):
    words = ["sad", "glad ", "sad", "", "glad", "sad", "glad"]
    for label in (words, np.char.encode(words, "utf-8")):
        corpus = read(label=label, label_names=None)
        assert corpus.label_names == ("glad", "sad") and corpus.label.tolist() == [1, 0, 1, -1, 0, 1, 0]
    assert read(label=["1", "0", "2", "", "0", "1", "1"]).label.tolist() == [1, 0, 2, -1, 0, 1, 1]
    corpus = read(label=["Happy", "angry", "sad", "neutral", "excited", "frustrated", "sad"], label_names=None)
    assert corpus.label_names == ("Happy", "sad", "neutral", "angry", "excited", "frustrated")  # the usual order
    assert read(dict(label="mood"), label=None, mood=["a", "b"] * 3 + ["a"]).label_names == ("a", "b")


def test_text_labels_are_numbered_by_the_names_that_are_given(read, refused):
    words = ["sad", "angry", "sad", "", "happy", "sad", "happy"]
    corpus = read(label=words)
    assert corpus.label_names == ("sad", "happy", "angry") and corpus.label.tolist() == [0, 2, 0, -1, 1, 0, 1]
    message = refused(label=["sad", "joy"] * 3 + ["sad"])
    assert message.startswith("field `label`: has the value 'joy', which `label_names` does not list. Add it there")


def test_text_labels_of_other_tasks(read, refused):
    corpus = read(
        dict(task="multilabel"), label=["sad", "sad|happy", "none", "", "happy", "sad", "sad"], label_names=None
    )
    assert corpus.target_names == ("happy", "sad") and corpus.target[:3].tolist() == [[0, 1], [1, 1], [0, 0]]
    corpus = read(dict(task="regression"), label=["0.5", "-2", "", "1", "1", "2", "3"], label_names=None)
    assert corpus.target[:, 0].tolist() == [0.5, -2, 0, 1, 1, 2, 3] and corpus.label[2] == UNLABELED
    assert "`label`: 'sad' is no number" in refused(dict(task="regression"), label=["sad"] * 7, label_names=None)


def test_label_out_of_range(refused):
    message = refused(label=[0, 1, 3, 1, 0, 2, 1])
    assert message.startswith("field `label`: has the value 3, but `label_names` has only 3 names. Labels count from 0")


def test_label_out_of_range_without_names(refused):
    message = refused(label=[0, 1, 10**9, 1, 0, 2, 1], label_names=None)
    assert message.startswith("field `label`: has the value 1000000000, more than there are utterances.")


def test_label_name_twice(refused):
    message = refused(label_names=["sad", "sad", "angry"])
    assert message.startswith("field `label_names`: has a name twice: `sad`, `sad`, `angry`.")


def test_label_that_is_not_there(refused):
    message = refused(dict(label="labels"))
    assert message.endswith(
        "Did you mean `label`? Add it, or choose another: --config.data.label in training, --label of tools.prepare."
    )


def test_no_labelled_training_utterance(refused):
    message = refused(label=[-1] * 5 + [2, 1])
    assert message.startswith("field `label`: no utterance of the train split has a label.")
    assert refused(label=[-1] * 7, label_names=None, split=None).startswith("field `label`: no utterance of the train")


def test_classes_that_cannot_be_learnt_or_measured_are_noted(read):
    assert read(label=[0, 0, 2, 0, 0, 1, 1]).notes == ("no train utterance is labelled happy",)
    assert read(label=[0, 1, 2, 0, 0, 1, -1]).notes == ("no utterance of the test split has a label",)


# Splits


def test_split_names_are_normalised(read):
    for name in ("valid", "VAL", "Dev", " validation "):
        corpus = read(split=["Train"] * 5 + [name, "TEST"])
        assert corpus.split.tolist() == ["train"] * 5 + ["valid", "test"]


def test_unknown_split(refused):
    message = refused(split=["train"] * 5 + ["holdout", "test"])
    assert message.startswith("field `split`: has the value 'holdout'. It must be one of train, valid, test, val, dev")


def test_dialogue_in_two_splits(refused):
    message = refused(split=["train"] * 4 + ["test", "valid", "test"])
    assert message.startswith("field `split`: the dialogue 'b' is in both test and train. Context would leak")


def conversations(n, **changes):
    """n dialogues of two utterances."""
    return (
        dict(
            dialogue_id=np.repeat([f"d{i}" for i in range(n)], 2),
            label=np.arange(2 * n) % 2,
            text=np.ones((2 * n, 2)),
            speaker=["X", "Y"] * n,
            **dict.fromkeys(("turn", "utterance_id", "label_names", "transcript", "audio_egemaps")),
        )
        | changes
    )


def dialogues(corpus, split):
    return {corpus.dialogue_ids[d] for d in corpus.dialogue[corpus.split == split]}


def test_validation_is_carved_out_of_train(read):
    corpus = read(**conversations(24, split=np.repeat(["train"] * 20 + ["test"] * 4, 2)))
    assert dialogues(corpus, "valid") == carve([f"d{i}" for i in range(20)], 0.1, "valid")
    assert dialogues(corpus, "test") == {"d20", "d21", "d22", "d23"}
    assert corpus.notes == (
        "the file names no valid split: 2 of 20 labelled train dialogues became the valid split, chosen by a hash of "
        "their names",
    )


def test_without_splits_test_and_validation_are_carved(read):
    names = [f"d{i}" for i in range(40)]
    corpus = read(dict(valid_fraction=0.25), **conversations(40, split=None))
    test = carve(names, 0.2, "test")
    assert dialogues(corpus, "test") == test
    assert dialogues(corpus, "valid") == carve(set(names) - test, 0.25, "valid")
    assert len(dialogues(corpus, "train")) == 24
    assert [note[:56] for note in corpus.notes] == [
        "the file names no splits: 8 of 40 labelled train dialogu",
        "the file names no splits: 8 of 32 labelled train dialogu",
    ]
    assert len(dialogues(read(dict(test_fraction=0.5), **conversations(40, split=None)), "test")) == 20


def test_carving_does_not_depend_on_the_order_of_the_file(read):
    forward = conversations(30, split=None)
    backward = {k: None if v is None else v[::-1] for k, v in forward.items()}
    assert dialogues(read(**forward), "valid") == dialogues(read(**backward), "valid")


def test_only_labelled_dialogues_are_carved(read):
    label = np.full(40, -1)
    label[[0, 2]] = [0, 1]
    corpus = read(**conversations(20, label=label, split=["train"] * 40))
    assert len(dialogues(corpus, "valid") & {"d0", "d1"}) == 1
    assert len(dialogues(corpus, "train") & {"d0", "d1"}) == 1


def test_nothing_to_carve(read):
    corpus = read(**conversations(2, split=["train"] * 2 + ["test"] * 2))
    stays_empty = "the valid split stays empty (1 labelled train dialogue cannot be divided)"
    assert corpus.notes == (f"the file names no valid split: {stays_empty}",)
    corpus = read(dict(valid_fraction=0.0), **conversations(20, split=["train"] * 38 + ["test"] * 2))
    assert corpus.notes == ("the file names no valid split: the valid split stays empty",)


def test_no_test_split_is_noted(read):
    assert read(split=["train"] * 5 + ["valid"] * 2).notes == ("the file names no test split",)


def test_no_train_split(refused):
    assert refused(split=["test"] * 7).startswith("field `split`: no dialogue is in the train split.")


# Fields that do not fit


def test_dialogue_id_is_required(refused):
    message = refused(dialogue_id=None, dialog_id=["a"] * 7)
    assert message.startswith("field `dialogue_id`: is not there; the file has `turn`, ")
    assert message.endswith("Did you mean `dialog_id`? Add it: [U] text or integers, the dialogue of each utterance.")


def test_no_rows(refused):
    assert refused(dialogue_id=np.array([], str)).startswith("field `dialogue_id`: has no rows.")


@pytest.mark.parametrize("field", ["turn", "utterance_id", "speaker", "label", "split", "transcript", "text_present"])
def test_wrong_length(refused, field):
    values = np.array(fields().get(field, [True] * 7))
    assert (
        refused(**{field: values[:6]})
        == f"field `{field}`: has the shape (6,). It must be [7], one value per utterance."
    )
    assert refused(**{field: values[:, None]}).startswith(f"field `{field}`: has the shape (7, 1).")


def test_dialogue_id_of_two_dimensions(refused):
    assert refused(dialogue_id=np.ones((7, 2), int)) == "field `dialogue_id`: has the shape (7, 2). It must be 1-D."


def test_whole_numbers_are_names_whatever_their_type(read):
    corpus = read(dialogue_id=[1.0, 1, 1, 2, 2, 3, 4], speaker=np.arange(7.0))
    assert corpus.dialogue_ids == ("1", "2", "3", "4") and corpus.speaker_names[6] == "6"


def test_names_that_are_neither_text_nor_integers(refused):
    message = "field `speaker`: is float64. It must hold text or integers."
    assert refused(speaker=np.full(7, 1.5)) == message
    assert refused(speaker=[b"\xff"] * 7).startswith("field `speaker`: holds bytes that are not UTF-8.")


@pytest.mark.parametrize("field", ["label", "speaker", "text", "transcript", "label_names"])
def test_object_array(refused, field):
    message = refused(**{field: np.array([{"a": 1}] * 7, dtype=object)})
    assert message.startswith(
        f"field `{field}`: is an object array, which only pickle can read, and pickle can run code."
    )


def test_object_array_that_nobody_asked_for(read):
    assert len(read(remarks=np.array([None] * 7, dtype=object))) == 7


# Files that do not open


def said(path):
    with pytest.raises(UserError) as caught:
        npz.read_fields(path)
    assert str(caught.value).startswith(f"{path}: ")
    return str(caught.value).removeprefix(f"{path}: ")


def test_no_such_file(tmp_path):
    assert said(tmp_path / "gone.npz") == "cannot be read: No such file or directory."


def test_folder(tmp_path):
    assert said(tmp_path) == "cannot be read: Is a directory."


def test_empty_file(tmp_path):
    (tmp_path / "toy.npz").touch()
    with pytest.raises(UserError, match=r"toy\.npz: the file is empty\. Copy it again\."):
        load(tmp_path / "toy.npz")


def test_permission_denied(tmp_path, monkeypatch):
    def refuse(*_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("pathlib.Path.open", refuse)
    assert said(tmp_path / "toy.npz") == "cannot be read: Permission denied."


def test_file_that_cannot_be_read(tmp_path):
    (tmp_path / "file").touch()
    assert said(tmp_path / "file" / "toy.npz") == "cannot be read: Not a directory."


@pytest.mark.parametrize("content", [b"label,text\n0,1\n", b"\x80\x04\x95", b"\x93NUMPY\x01\x00"])
def test_not_an_npz_file(tmp_path, content):
    (tmp_path / "toy.npz").write_bytes(content)
    assert said(tmp_path / "toy.npz").startswith("the archive is truncated or damaged (")


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_truncated_anywhere(tmp_path, save):
    buffer = io.BytesIO()
    save(buffer, **fields())
    whole = buffer.getvalue()
    for size in range(4, len(whole), 97):
        (tmp_path / "toy.npz").write_bytes(whole[:size])
        assert said(tmp_path / "toy.npz").startswith("the archive is truncated or damaged (BadZipFile")


@pytest.mark.parametrize("shape", ["(7, 2", "(7,-2)", "(9e9, 2)", "(7777777777777, 2)", "(7, 3)", "('a', 2)"])
def test_damaged_header(tmp_path, shape):
    header = f"{{'descr': '<f8', 'fortran_order': False, 'shape': {shape}, }}".ljust(117) + "\n"
    data = b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header.encode() + bytes(7 * 2 * 8)
    with zipfile.ZipFile(tmp_path / "toy.npz", "w") as archive:
        archive.writestr("text.npy", data)
    assert said(tmp_path / "toy.npz").startswith("the archive is truncated or damaged (")


def test_archive_without_arrays(tmp_path):
    with zipfile.ZipFile(tmp_path / "toy.npz", "w"):
        pass
    assert said(tmp_path / "toy.npz").startswith("the archive holds no arrays. It must have these fields:\n")


# Bombs


def test_archive_that_unpacks_to_far_more_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(npz, "_LARGE", 10**6)
    zeros = np.zeros((7, 200_000), np.float32)
    np.savez_compressed(tmp_path / "bomb.npz", **fields(text=zeros))
    with pytest.raises(UserError, match=r"would unpack to 0\.0 GB, from 0\.0 MB"):
        load(tmp_path / "bomb.npz")
    np.savez(tmp_path / "plain.npz", **fields(text=zeros + 1))
    assert load(tmp_path / "plain.npz").widths["text"] == 200_000
