"""Every form of a conversation is read alike in all three places: by training, by tools.predict and in Python."""

import contextlib
import io
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import ariigcn_jax
from ariigcn_jax import cli
from ariigcn_jax.commands import predict
from ariigcn_jax.options import own
from ariigcn_jax.runs import session
from ariigcn_jax.types import UserError
from tests.support import runs, spoken, spoken_files
from tests.support.spoken_files import LABELS, TURNS

pytestmark = pytest.mark.usefixtures("quick_compilation")
CHAT = "\n".join(f"{who}: {said}" for who, said in TURNS)
ROWS = spoken_files.rows(TURNS)
VALUES = {  # of Python
    "chat": CHAT,
    "lines": CHAT.split("\n"),
    "pairs": TURNS,
    "what a generator gives": (row for row in spoken_files.rows(TURNS, words="utterance")),
    "dictionaries": ROWS,
    "dictionaries with names of columns": spoken_files.rows(TURNS, "Speaker", "utterance"),
    "frame": pd.DataFrame(ROWS, index=[5, 5, 6, 7]),
    "frame like MELD": pd.DataFrame(spoken_files.rows(TURNS, "Speaker", "Utterance", Emotion=LABELS)),
    "whisperx": spoken_files.segments(TURNS),
    "segments of whisperx": spoken_files.segments(TURNS, words=True)["segments"],
    "funasr": spoken_files.sentences(TURNS),
}


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run on a folder of eight labelled calls, and what training said."""
    folder = tmp_path_factory.mktemp("trained")
    (folder / "calls").mkdir()
    for n in range(8):
        rows = spoken_files.rows(TURNS[n % 2 :], label=LABELS[n % 2 :])
        (folder / "calls" / f"call{n}.csv").write_text(spoken_files.table(rows))
    config = spoken.options(folder, {"num_epochs": 1})
    config.data.path, config.data.modalities = str(folder / "calls"), ()
    with contextlib.redirect_stdout(io.StringIO()) as said:
        session.execute(config, str(folder / "run"))
    return folder / "run", said.getvalue()


@pytest.fixture(scope="module")
def model(trained):
    return ariigcn_jax.load(trained[0])


@pytest.fixture(scope="module")
def expected(model):
    """What the model says of the conversation, and differs between its turns."""
    prediction = model(ROWS)
    assert np.ptp(prediction.probabilities[:, 0]) > 1e-3
    assert [u.missing for u in prediction] == [(), (), ("words",), ()]
    return prediction.probabilities


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    return spoken_files.write(tmp_path_factory.mktemp("files"))


FORMS = ("chat", "chat with times", "chat after times", "whatsapp of a phone", "whatsapp of another", "srt", "vtt",
         "srt in brackets", "whisperx", "funasr", "srt beside rttm", "csv", "labelled csv", "json", "jsonl",
         "labelled jsonl", "like MELD", "folder", "folder of labelled")  # fmt: skip


def test_all_forms_are_tested(files):
    assert set(files) == set(FORMS)


@pytest.mark.parametrize("form", FORMS)
def test_predict_and_python_read_files_alike(form, files, model, expected):
    prediction = model(files[form])
    assert np.abs(prediction.probabilities - expected).max() < 1e-6
    assert [u.speaker.capitalize() for u in prediction] == ["Ann", "Bob", "Ann", "Bob"]
    assert [u.missing for u in prediction][2] == ("words",)
    read = predict.read(str(files[form]), model)
    assert read.transcript.tolist() == prediction.corpus.transcript.tolist()
    assert read.speaker_names.tolist() == prediction.corpus.speaker_names.tolist()
    timed = any(kind in form for kind in ("times", "whatsapp", "srt", "vtt", "whisperx", "funasr"))
    assert read.notes[0] == f"4 turns of 2 speakers, words of 3{' and times' * timed}; no sound"


def test_a_chat_is_answered_in_one_command(trained, files, model, expected, capsys):
    options = ["--run", str(trained[0]), str(files["chat"]), "--jsonl", "-"]
    assert cli.main(["predict", *options]) == 0
    out, said = capsys.readouterr()
    assert "note: 4 turns of 2 speakers, words of 3; no sound" in said
    answers = [json.loads(line) for line in out.splitlines()]
    assert np.abs([list(one["probabilities"].values()) for one in answers] - expected).max() < 1e-6


def test_calls_are_learnt_from_a_folder_in_one_command(trained, model):
    assert "note: 28 turns of 16 speakers in 8 conversations, words of 20; no sound" in trained[1]
    assert model.modalities == ("words",)


@pytest.mark.parametrize("form", FORMS)
def test_training_reads_them_where_they_have_labels(form, files):
    config = own.get_config()
    config.data.path = str(files[form])
    config.data.valid_fraction = 0.0
    if "labelled" in form or "MELD" in form:
        corpus = session.read(config)
        assert [corpus.label_names[k] if k >= 0 else "" for k in corpus.label] == list(LABELS)
        assert corpus.modalities == ("words",)
        return
    message = (
        "Write a table .* dialogue_id,speaker,transcript,label" if form not in ("csv", "json", "jsonl") else "`label`"
    )
    with pytest.raises(UserError, match=message):
        session.read(config)


@pytest.mark.parametrize("name", VALUES)
def test_python_takes_values(name, model, expected):
    prediction = model(VALUES[name])
    assert np.abs(prediction.probabilities - expected).max() < 1e-6
    assert [u.speaker for u in prediction] == ["Ann", "Bob", "Ann", "Bob"]


def test_a_stream_takes_lines_and_pairs(model):
    stream = model.stream()
    said = [stream.push(turn) for turn in ("Ann: i am so happy", ("Bob", "oh no , sorry"), "good night")]
    answers = [answer for answered in (*said, stream.finish()) for answer in answered]
    assert [answer.speaker for answer in answers] == ["Ann", "Bob", ""]
    assert (
        answers[1].probabilities == model(["Ann: i am so happy", "Bob: oh no , sorry", "good night"])[1].probabilities
    )


@pytest.fixture(scope="module")
def other(tmp_path_factory):
    """A model without a text encoder."""
    return runs.load(tmp_path_factory.mktemp("other") / "run")


def test_a_frame_may_hold_features(other):
    said = runs.conversation(5)
    frame = pd.DataFrame([{"speaker": u["speaker"], "transcript": "oh"} | u["features"] for u in said])
    assert np.abs(other(frame).probabilities - other(said).probabilities).max() < 1e-6
    assert [u.missing for u in other(frame)] == [u.missing for u in other(said)]


def test_what_cannot_be_read_has_one_message(model, other, files, tmp_path, monkeypatch):
    for given in (CHAT, files["chat"], files["srt"], files["csv"], VALUES["frame"], VALUES["pairs"]):
        with pytest.raises(
            UserError, match=r"words in it, and no features. A run without a text encoder needs features"
        ):
            other(given)
    (tmp_path / "call.wav").write_bytes(b"RIFF\0\0\0\0WAVEfmt ")
    with pytest.raises(UserError, match=r"`whisperx call.wav --diarize --output_format json`, and give call.json\.$"):
        model(tmp_path / "call.wav")
    monkeypatch.chdir(tmp_path)
    Path("chat.txt").write_text(CHAT)
    for given, message in (
        ("chat.txt", r"is the name of a file, .* Give pathlib.Path\('chat.txt'\)"),
        (" \n", "The conversation has no words"),
        ([], "there is no utterance"),
        ([("Ann", "a"), ("Bob", "b", "c")], "utterance 2: is tuple, not an object"),
        ([1], "is int, not an object"),
        (3, "int is no conversation"),
        ({"speaker": "Ann"}, "`features` must be an object"),
        (pd.DataFrame({"speaker": ["Ann"]}), "there are no features in it"),
        (pd.DataFrame({"speaker": ["Ann"], "text": [{"a": 1}]}), "there are no features in it"),
        (pd.DataFrame({"speaker": [object()], "text": ["a"]}), "`speaker`, row 0: object is no text"),
        (pd.DataFrame({"speaker": [], "text": []}), "there is no turn"),
    ):
        with pytest.raises(UserError, match=message):
            model(given)


def test_a_prediction_is_a_frame(model):
    prediction = model(CHAT)
    frame = prediction.to_frame()
    assert list(zip(frame["speaker"], frame["transcript"], strict=True)) == TURNS
    assert frame["emotion"].tolist() == prediction.emotions and frame["label"].isna().all()
    names = [f"p_{name}" for name in prediction.corpus.output_names]
    np.testing.assert_array_equal(frame[names].to_numpy(), prediction.probabilities.astype(float))
    assert frame["contribution_words"].tolist() == [u.contribution["words"] for u in prediction]
