"""MMSA's pickles: pooling, labels, videos and clips."""

import tracemalloc

import numpy as np
import pytest

from ariigcn_jax import data as corpus
from ariigcn_jax.types import UNLABELED, UserError
from tests.support.layout_files import conversations, dump, mmsa


@pytest.fixture
def data():
    return mmsa(conversations(classes=3))


@pytest.fixture
def load(tmp_path):
    return lambda data, **options: corpus.load(dump(tmp_path / "mosi.pkl", data), **options)


def test_frames_are_averaged_without_padding(load, data):
    rng = np.random.default_rng(0)
    frames = rng.normal(size=(len(data["train"]["id"]), 5, 3)).astype(np.float32)
    frames[:, 3:] = 0  # aligned files have their padding behind, MOSEI's before
    frames[0] = np.roll(frames[0], 2, axis=0)
    frames[1] = 0
    frames[2, 1] = -np.inf
    data["train"]["vision"] = frames
    read = load(data)
    index = {words: u for u, words in enumerate(read.transcript.tolist())}
    rows = [index[words] for words in data["train"]["raw_text"]]
    got = read.features["vision"][rows]
    assert not read.present["vision"][rows[1]]
    for u in {*range(len(rows))} - {1}:
        real = [f for f in np.where(np.isfinite(frames[u]), frames[u], 0) if f.any()]
        np.testing.assert_allclose(got[u], np.mean(real, axis=0), rtol=1e-5)


def test_lengths_end_a_sequence(load, data):
    data["train"]["audio"][:, 2:] = 100  # behind the two frames that the lengths count
    plain = load(mmsa(conversations(classes=3))).features["audio"]
    np.testing.assert_allclose(load(data).features["audio"], plain, rtol=1e-6)


def test_one_long_utterance_does_not_lengthen_the_others(load, data):
    for part in data.values():
        part["vision"] = [np.ones((1 + 100_000 * (u == 1), 3), np.float32) for u in range(len(part["id"]))]
    tracemalloc.start()
    try:
        assert load(data).widths["vision"] == 3
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 20e6  # of which the three long ones take 1.2 MB each


def test_clips_are_sorted_inside_their_video(load, data):
    part = data["train"]
    for key, values in part.items():
        part[key] = values[::-1]
    read, plain = load(data), load(mmsa(conversations(classes=3)))
    position = {words: u for u, words in enumerate(plain.transcript.tolist())}
    for d in range(len(read.dialogue_ids)):
        rows = [position[w] for w in read.transcript[read.dialogue == d].tolist()]
        assert rows == sorted(rows)


def test_video_in_two_splits_is_two_dialogues(load, data):
    data["test"]["id"][0] = data["train"]["id"][0].split("$_$")[0] + "$_$77"
    read = load(data)
    assert any("1 of 12 videos have clips in several splits" in note for note in read.notes)
    assert {name for name in read.dialogue_ids if name.endswith(")")} == {"video0 (train)", "video0 (test)"}


def test_binary_and_classes_by_sign(load, data):
    for part in data.values():
        del part["annotations"]
    read, binary = load(data), load(data, label="binary")
    assert read.label_names == ("negative", "neutral", "positive") and binary.label_names == ("negative", "positive")
    np.testing.assert_array_equal(binary.label, np.where(read.label == 1, UNLABELED, read.label // 2))
    assert any("they are the signs of its scores" in note for note in read.notes)


def test_ids_that_name_no_video(load, data):
    for split, part in data.items():
        part["id"] = [f"{split}-{'abcdefghijklmnopqrstuvwxyz'[i % 26]}{'x' * i}" for i in range(len(part["id"]))]
    read = load(data)
    assert len(read.dialogue_ids) == len(read)
    assert any("every utterance is a dialogue of its own" in note for note in read.notes)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda part: part["id"].pop(), "Every field must have one entry for each utterance"),
        (lambda part: part.update(audio="x"), "is not [utterances, frames, features]"),
        (lambda part: part.update(audio=np.ones(len(part["id"]))), "is not [utterances, frames, features]"),
        (lambda part: part.update(audio=["x"] * len(part["id"])), "is not [utterances, frames, features]"),
        (
            lambda part: part.update(audio=np.ones((len(part["id"]), 2, 9))),
            "has 9 features where those before it have 4",
        ),
        (
            lambda part: part.update(regression_labels=["x"] * len(part["id"])),
            "regression_labels: text 'x' in the place",
        ),
    ],
)
def test_what_does_not_fit(load, data, change, words):
    change(data["test"])
    with pytest.raises(UserError) as caught:
        load(data)
    assert words in str(caught.value)


def mult(data, shape, ids):
    """The layout of MulT: `labels`, and no other field of labels or words; of MOSEI ids of video, start and end."""
    for part in data.values():
        scores, count = part.pop("regression_labels"), len(part["id"])
        part["labels"] = scores.reshape(count, 1, 1) if shape == (1, 1) else np.zeros((count, *shape))
        part["id"] = np.array([[*name.split("$_$"), "99.5"] for name in part["id"]])
        for key in ("annotations", "raw_text", *(() if ids else ("id",))):
            del part[key]
    return data


@pytest.mark.parametrize("shape", [(4, 2), (4, 1), (1, 6)])
@pytest.mark.parametrize("ids", [False, True])
def test_emotions_of_mult_are_refused_by_their_name(load, data, shape, ids):
    with pytest.raises(UserError) as caught:
        load(mult(data, shape, ids))
    message = str(caught.value)
    assert "this is MulT's layout" in message and f"`labels` are [{len(data['train']['labels'])}, " in message
    assert "regression_labels" not in message and ("no field says of which dialogue" in message) is not ids


@pytest.mark.parametrize("ids", [False, True])
def test_scores_of_mult_are_read(load, data, ids):
    plain = load(mmsa(conversations(classes=3)), label="binary")
    read = load(mult(data, (1, 1), ids), label="binary")
    assert sorted(read.label.tolist()) == sorted(plain.label.tolist())
    if ids:  # the starts of clips order them
        assert read.dialogue_ids == plain.dialogue_ids and read.label.tolist() == plain.label.tolist()


def test_labels_are_called_as_the_file_does(load, data):
    for part in data.values():
        part["labels"] = np.full((len(part.pop("regression_labels")), 2), 0.5)
    with pytest.raises(UserError, match=r": labels: float64 array \[2\] in the place of a class's number"):
        load(data)
