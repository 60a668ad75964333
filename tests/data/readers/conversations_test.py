"""Utterances as dictionaries and as lines of JSON: what is read, and what is refused."""

import json

import numpy as np
import pytest

from ariigcn_jax import data as corpora
from ariigcn_jax.inference import standalone
from ariigcn_jax.types import UserError

LINES = [
    {"dialogue_id": "a", "speaker": "Ann", "label": "happy", "features": {"text": [1, 2], "audio": [3]}},
    {"dialogue_id": "b", "speaker": "Cleo", "features": {"text": [5, 6]}, "transcript": "hm"},
    {"dialogue_id": "a", "speaker": "Bob", "label": "sad", "features": {"text": [7, 8], "audio": None}},
    {"dialogue_id": "a", "utterance_id": 17, "speaker": "Ann", "features": {"audio": [float("nan")], "video": None}},
]


def test_interleaved_dialogues_become_a_corpus():
    corpus = corpora.from_utterances(LINES)
    assert corpus.dialogue_ids == ("a", "b")
    assert corpus.dialogue.tolist() == [0, 0, 0, 1]
    assert corpus.utterance_ids == ("a_0", "a_1", "17", "b_0")
    assert corpus.speaker.tolist() == [0, 1, 0, 0]
    assert corpus.speaker_names.tolist() == ["Ann", "Bob", "Ann", "Cleo"]
    assert corpus.label_names == ("happy", "sad")
    assert corpus.label.tolist() == [0, 1, -1, -1]
    assert corpus.transcript.tolist() == ["", "", "", "hm"]
    assert corpus.modalities == ("text", "audio")  # video is missing throughout
    assert corpus.features["text"].tolist() == [[1, 2], [7, 8], [0, 0], [5, 6]]
    assert corpus.present["text"].tolist() == [True, True, False, True]
    assert corpus.features["audio"].tolist() == [[3], [0], [0], [0]]
    assert corpus.present["audio"].tolist() == [True, False, False, False]
    assert set(corpus.split) == {"test"}


def test_a_file_reads_as_its_lines(tmp_path):
    path = tmp_path / "c.jsonl"
    path.write_text("\n\n".join(map(json.dumps, LINES)) + "\n")
    read, given = corpora.conversations.read_jsonl(path), corpora.from_utterances(LINES)
    assert read.utterance_ids == given.utterance_ids
    np.testing.assert_array_equal(read.features["text"], given.features["text"])


def test_zeros_are_missing_as_they_are_in_files(tmp_path):
    vectors = {"text": [[1.0, 2], [0, 0], [3, 0]], "audio_volume": [[0.0], [1], [2]]}  # one feature may well be zero
    features = [{m: values[turn] for m, values in vectors.items()} for turn in range(3)]
    given = corpora.from_utterances([{"features": each} for each in features])
    label = {"label": [0, 1, 0], "label_names": ["joy", "anger"]}
    np.savez(tmp_path / "c.npz", dialogue_id=["a"] * 3, **label, **vectors)
    read = corpora.load(tmp_path / "c.npz", training=False)
    assert given.present["text"].tolist() == read.present["text"].tolist() == [True, False, True]
    assert given.present["audio_volume"].tolist() == read.present["audio_volume"].tolist() == [True, True, True]
    modalities = [{"name": "text", "width": 2}, {"name": "audio_volume", "width": 1}]
    packed = standalone.pack(
        {"longest": 0, "shortest": 1, "modalities": modalities}, [{"features": each} for each in features]
    )
    assert packed["present"]["text"][0, :3].tolist() == [True, False, True]
    assert packed["present"]["audio_volume"][0, :3].all()
    silent = {m: np.zeros_like(v) if m == "text" else v for m, v in vectors.items()}
    np.savez(tmp_path / "silent.npz", dialogue_id=["a"] * 3, **label, **silent)  # a conversation need not have both
    assert not corpora.load(tmp_path / "silent.npz", training=False).present["text"].any()


def test_a_file_is_cut_at_line_feeds_alone_and_may_begin_with_a_mark(tmp_path):
    path = tmp_path / "c.jsonl"
    lines = [{"transcript": "one\u2028two", "features": {"text": [1, 2]}}, {"features": {"text": [3, 4]}}]
    path.write_text("".join(json.dumps(line, ensure_ascii=False) + "\r\n" for line in lines), encoding="utf-8-sig")
    assert corpora.conversations.read_jsonl(path).transcript.tolist() == ["one\u2028two", ""]


@pytest.mark.parametrize(
    ("utterance", "message"),
    [
        ([1], "is list, not an object"),
        ({"speaker": "Ann"}, "`features` must be an object"),
        ({"features": {"text": "abc"}}, "features of text must be a list of numbers"),
        ({"features": {"text": [[1], [2, 3]]}}, "features of text must be a list of numbers"),
        ({"features": {"text": []}}, "features of text must be a list of numbers"),
        ({"features": {"text": [1]}, "lable": "sad"}, "unknown field lable; the fields are"),
        ({"features": {"text": [1]}, "speaker": 1.5}, "`speaker` is float"),
        ({"features": {"text": None}}, "no utterance has features"),
    ],
)
def test_what_is_no_utterance_is_refused(utterance, message):
    with pytest.raises(UserError, match=message):
        corpora.from_utterances([utterance])


def test_whole_numbers_are_names_whatever_their_type():
    ids = (1, "1", 1.0, np.int64(1), np.float32(1), float("nan"), None)
    read = corpora.from_utterances([{"dialogue_id": id, "speaker": id, "features": {"text": [1]}} for id in ids])
    assert read.dialogue_ids == ("1", "conversation") and read.speaker_names.tolist() == ["1"] * 5 + [""] * 2


def test_widths_must_agree():
    with pytest.raises(UserError, match="conversation, utterance 2: text has 2 features, but 1 in utterance 1"):
        corpora.from_utterances([{"features": {"text": [1]}}, {"features": {"text": [1, 2]}}])


def test_no_utterance_is_refused():
    with pytest.raises(UserError, match="there is no utterance"):
        corpora.from_utterances([])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'{"features": {"text": [1]}}\n{"features":', "line 2 is not JSON"),
        (b'{"features": {"text": [1]}}\n[]', "line 2: is list"),
        (b"\xff\xfe\x00", "cannot be read as text"),
        (b"[" * 100_000, "line 1 is not JSON"),
        (b"\n", "there is no utterance"),
    ],
)
def test_damaged_files_are_refused_by_line(tmp_path, content, message):
    path = tmp_path / "c.jsonl"
    path.write_bytes(content)
    with pytest.raises(UserError, match=message):
        corpora.conversations.read_jsonl(path)


def test_a_corpus_to_predict_needs_neither_labels_nor_a_train_split(tmp_path):
    path = tmp_path / "unlabelled.npz"
    np.savez(path, dialogue_id=["a", "a", "b"], text=np.eye(3))
    with pytest.raises(UserError, match="label"):
        corpora.load(path)
    corpus = corpora.load(path, training=False)
    assert corpus.label.tolist() == [-1, -1, -1]
    assert corpus.label_names == ()
    assert corpus.split.tolist() == ["test"] * 3
