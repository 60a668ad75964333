"""From a manifest to an .npz that training reads; what fails is missing, and nothing is computed twice."""

import argparse
import dataclasses
import json
import sys

import numpy as np
import pytest

from ariigcn_jax import cli, data
from ariigcn_jax.data.readers import folder
from ariigcn_jax.features import extract
from ariigcn_jax.features.encoder import Encoder
from ariigcn_jax.types import UserError
from tests.support.encoders import WIDTH, tiny_encoder
from tests.support.media import (
    face,
    image_model,
    speak,
    speech_model,
    tone,
    write_csv,
    write_video,
    write_wav,
)

ROWS = [
    {"dialogue_id": "a", "transcript": "one", "label": "glad", "split": "train"},
    {"dialogue_id": "a", "transcript": "", "label": "", "split": "train"},
    {"dialogue_id": "a", "transcript": "three", "label": "sad", "split": "train"},
    {"dialogue_id": "b", "transcript": "bad", "label": "sad", "split": "valid"},
    {"dialogue_id": "b", "transcript": "one", "label": "glad", "split": "valid"},
]
encoded: list[str] = []


@dataclasses.dataclass(frozen=True)
class Letters(Encoder):
    """A transcript to its length and first letter; "bad" cannot be encoded, and "stop" interrupts the job."""

    modality = "text"

    def inputs(self, manifest):
        return [text or None for text in manifest.transcript]

    def identity(self):
        return {"model": self.model}

    def load(self, threads, device):
        def one(text):
            encoded.append(text)
            if text == "stop" and self.name == "text_stop":
                raise KeyboardInterrupt
            if text == "bad":
                raise ValueError("a bad text")
            return np.array([len(text), ord(text[0])], np.float32)

        return lambda texts: [one(text) for text in texts]


@pytest.fixture
def letters(monkeypatch):
    """Makes --text an encoder of letters, and forgets what was encoded."""
    monkeypatch.setattr(extract, "parse", lambda text, kind: Letters(*text.split(",")))
    encoded.clear()


def run(tmp_path, rows, *options):
    write_csv(tmp_path / "dialogues.csv", rows)
    arguments = ["--manifest", str(tmp_path / "dialogues.csv"), "--out", str(tmp_path / "corpus"), "--jobs", "0"]
    return cli.main(["features", "extract", *arguments, *options])


def load(tmp_path):
    with np.load(tmp_path / "corpus/dialogues.npz") as file:
        return dict(file)


def test_the_file_is_what_training_reads(letters, tmp_path, capsys):
    assert run(tmp_path, ROWS, "--text", "m") == 0
    fields = load(tmp_path)
    np.testing.assert_array_equal(
        fields["text_m"], [[3, ord("o")], [np.nan] * 2, [5, ord("t")], [np.nan] * 2, [3, ord("o")]]
    )
    assert fields["text_m"].dtype == np.float32
    assert json.loads(str(fields["provenance"])) == {"text_m": {"model": "m"}}
    assert encoded.count("one") == 1
    corpus = data.load(tmp_path / "corpus/dialogues.npz")
    assert corpus.present["text_m"].tolist() == [True, False, True, False, True]
    assert corpus.label_names == ("glad", "sad")
    assert corpus.label.tolist() == [0, -1, 1, 1, 0]
    assert (tmp_path / "corpus/dialogues.failures.csv").read_text().splitlines() == [
        "utterance_id,field,reason",
        "b_0,text_m,ValueError: a bad text",
    ]
    printed = capsys.readouterr()
    assert "text_m [5, 2]: 3 present, 1 absent, 1 failed" in printed.out
    assert "1 failed and count as missing" in printed.err


def test_nothing_is_computed_twice_and_failures_are_tried_again(letters, tmp_path):
    assert run(tmp_path, ROWS, "--text", "m") == 0
    encoded.clear()
    more = [*ROWS, {"dialogue_id": "c", "transcript": "new", "label": "sad", "split": "test"}]
    assert run(tmp_path, more, "--text", "m") == 0
    assert sorted(encoded) == ["bad", "new"]
    np.testing.assert_array_equal(load(tmp_path)["text_m"][[0, 5]], [[3, ord("o")], [3, ord("n")]])
    encoded.clear()
    assert run(tmp_path, more, "--text", "other") == 0
    assert sorted(encoded) == ["bad", "new", "one", "three"]


def test_an_interrupted_job_goes_on(letters, tmp_path, capsys):
    rows = [{"dialogue_id": "a", "transcript": text} for text in ("zebra!", "yellow", "stop", "ox")]
    assert run(tmp_path, rows, "--text", "m,text_stop") == 130
    assert "the same command goes on" in capsys.readouterr().err
    assert encoded == ["zebra!", "yellow", "stop"]
    assert not (tmp_path / "corpus/dialogues.npz").exists()
    assert run(tmp_path, rows, "--text", "m,text_go") == 0
    assert encoded == ["zebra!", "yellow", "stop", "stop", "ox"]


def test_an_old_list_of_failures_does_not_stay(letters, tmp_path):
    assert run(tmp_path, ROWS, "--text", "m") == 0
    assert run(tmp_path, ROWS[:3], "--text", "m") == 0
    assert not (tmp_path / "corpus/dialogues.failures.csv").exists()


@pytest.mark.parametrize(
    ("rows", "options", "message"),
    [
        (ROWS, [], "no features are named"),
        (ROWS, ["--text", "m", "--text", "m"], "Two fields would be called `text_m`"),
        (ROWS, ["--text", "m,words"], "name=words: a modality's name begins with one of text"),
        (ROWS, ["--text", "m,transcript"], "Two fields would be called `transcript`"),
        (ROWS[1:2], ["--text", "m"], "no utterance has a transcript. Give some, or drop --text"),
        (ROWS[3:4], ["--text", "m"], "all 1 utterances that have a transcript failed, for example: ValueError: a bad"),
        (ROWS, ["--text", "m", "--jobs", "-1"], "must not be negative"),
    ],
)
def test_what_is_wrong_is_said_once(letters, tmp_path, capsys, rows, options, message):
    assert run(tmp_path, rows, *options) == 1
    error = capsys.readouterr().err
    assert error.splitlines()[-1].startswith("error: ")
    assert message in error.splitlines()[-1]
    assert "Traceback" not in error
    assert not (tmp_path / "corpus/dialogues.npz").exists()


def corpus_file(tmp_path, **changes):
    fields = {
        "dialogue_id": np.array(["a", "a", "b"]),
        "split": np.array(["train", "train", "test"]),
        "label": np.array([0, 1, 1]),
        "label_names": np.array(["sad", "glad"]),
        "transcript": np.array([" one ", "", "bad"]),
        "valence": np.array([0.5, np.nan, 1.0]),
        "text_cnn": np.arange(6, dtype=np.float32).reshape(3, 2),
    } | changes
    path = tmp_path / "mine.npz"
    np.savez(path, **{name: values for name, values in fields.items() if values is not None})
    return path, fields


def extend(path, out, *options):
    return cli.main(["features", "extract", "--corpus", str(path), "--out", str(out), "--jobs", "0", *options])


def test_transcripts_of_a_corpus_become_a_field_beside_its_others(letters, tmp_path, capsys):
    path, fields = corpus_file(tmp_path, provenance=np.array(json.dumps({"text_cnn": {"model": "cnn"}})))
    assert extend(path, tmp_path / "more", "--text", "m") == 0
    with np.load(tmp_path / "more/mine.npz") as file:
        written = dict(file)
    np.testing.assert_array_equal(written.pop("text_m"), [[3, ord("o")], [np.nan] * 2, [np.nan] * 2])
    assert json.loads(str(written.pop("provenance"))) == {"text_cnn": {"model": "cnn"}, "text_m": {"model": "m"}}
    assert written.keys() == fields.keys() - {"provenance"}
    for name, values in written.items():
        np.testing.assert_array_equal(values, fields[name])
    assert '"b, row 3",text_m,ValueError: a bad text' in (tmp_path / "more/mine.failures.csv").read_text()
    assert data.load(tmp_path / "more/mine.npz").widths == {"text_cnn": 2, "text_m": 2}


def test_a_converted_corpus_gets_a_field_too(letters, tmp_path):
    path, _ = corpus_file(tmp_path)
    folder.write(data.load(path), tmp_path / "folder")
    assert extend(tmp_path / "folder", tmp_path / "more.npz", "--text", "m") == 0
    corpus = data.load(tmp_path / "more.npz")
    assert corpus.widths == {"text_cnn": 2, "text_m": 2}
    assert corpus.split.tolist() == ["train", "train", "test"]
    assert corpus.present["text_m"].tolist() == [True, False, False]


@pytest.mark.parametrize(
    ("changes", "options", "message"),
    [
        ({"transcript": None}, ["--text", "m"], "field `transcript`: is not there"),
        (
            {"transcript": np.array(["one"])},
            ["--text", "m"],
            "has the shape (1,). It must be [3], one value per utterance",
        ),
        ({"label": np.array([0, 1])}, ["--text", "m"], "field `label`: has the shape (2,)"),
        ({"dialogue_id": None}, ["--text", "m"], "field `dialogue_id`: is not there"),
        ({}, ["--text", "m,text_cnn"], "Two fields would be called `text_cnn`"),
        ({}, ["--audio", "eGeMAPSv02"], "has no recordings. --audio and --visual take a --manifest"),
        ({"split": np.array(["train", 1, "test"], object)}, ["--text", "m"], "field `split`: is an object array"),
        (
            {"provenance": np.array(["a", "b", "c"])},
            ["--text", "m"],
            "`provenance` was not written by this tool",
        ),
        (
            {"provenance": np.array("[" * 99_999)},
            ["--text", "m"],
            "`provenance` was not written by this tool",
        ),
        ({"text_m_present": np.zeros(3, bool)}, ["--text", "m"], "has `text_m_present`, which says where another"),
    ],
)
def test_what_is_wrong_with_a_corpus_is_said(letters, tmp_path, capsys, changes, options, message):
    path, _ = corpus_file(tmp_path, **changes)
    assert extend(path, tmp_path / "more", *options) == 1
    assert message in capsys.readouterr().err.splitlines()[-1]
    assert not (tmp_path / "more").exists()


def test_nothing_that_is_there_is_overwritten_unasked(letters, tmp_path, capsys):
    path, _ = corpus_file(tmp_path)
    before = path.read_bytes()
    folder.write(data.load(path), tmp_path / "folder")
    for source, out, words in (
        (path, tmp_path, "is the corpus itself"),
        (tmp_path / "folder", tmp_path / "mine.npz", "exists already. Name another file or folder, or replace it"),
        (tmp_path / "folder", tmp_path / "folder", "lies inside the corpus"),
        (tmp_path / "folder", path / "below", "cannot write"),
    ):
        assert extend(source, out, "--text", "m") == 1
        assert words in capsys.readouterr().err.splitlines()[-1]
        assert path.read_bytes() == before
    assert extend(tmp_path / "folder", tmp_path / "mine.npz", "--text", "m", "--overwrite") == 0
    assert data.load(path).widths == {"text_cnn": 2, "text_m": 2}
    (tmp_path / "made.npz").mkdir()
    assert extend(path, tmp_path / "made.npz", "--text", "other") == 1
    assert "is a folder" in capsys.readouterr().err


def test_other_layouts_are_converted_first(letters, tmp_path, capsys):
    write_csv(tmp_path / "table.csv", ROWS)
    (tmp_path / "cut.npz").write_bytes(corpus_file(tmp_path)[0].read_bytes()[:500])
    for name, words in (
        ("table.csv", "Convert it first: python -m tools.prepare convert"),
        ("gone.npz", "there is no such file"),
        ("cut.npz", "truncated or damaged"),
    ):
        assert extend(tmp_path / name, tmp_path / "more", "--text", "m") == 1
        assert words in capsys.readouterr().err
    assert cli.main(["features", "extract", "--corpus", "", "--out", str(tmp_path / "more"), "--text", "m"]) == 1
    assert "names nothing" in capsys.readouterr().err


def test_long_texts_and_any_fields_name_can_be_written(letters, tmp_path, monkeypatch):
    path, fields = corpus_file(tmp_path)
    fields |= {"file": np.arange(3), "allow_pickle": np.arange(3)}
    extract._write(path, fields)
    assert extend(path, tmp_path / "more", "--text", "m") == 0
    with np.load(tmp_path / "more/mine.npz") as file:
        assert file.files[: len(fields)] == list(fields)
    folder.write(data.load(path), tmp_path / "folder")
    monkeypatch.setattr("ariigcn_jax.data.fields._FIXED_WIDTH_BYTES", 0)
    assert folder.read_fields(tmp_path / "folder").arrays["transcript"].dtype == object
    assert extend(tmp_path / "folder", tmp_path / "long.npz", "--text", "m") == 0
    assert data.load(tmp_path / "long.npz").transcript.tolist() == [" one ", "", "bad"]


def test_a_full_disk_leaves_nothing_half_written(letters, tmp_path, monkeypatch, capsys):
    path, _ = corpus_file(tmp_path)

    def full(member, array, **_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np.lib.format, "write_array", full)
    assert extend(path, tmp_path / "more", "--text", "m") == 1
    assert "mine.npz: cannot be written: No space left on device" in capsys.readouterr().err.splitlines()[-1]
    assert sorted(entry.name for entry in (tmp_path / "more").iterdir()) == ["features.sqlite"]


@pytest.mark.parametrize(
    ("option", "model", "module", "extra"),
    [
        ("--text", "org/model", "huggingface_hub", "words"),
        ("--audio", "eGeMAPSv02", "opensmile", "audio"),
        ("--visual", "org/model", "av", "visual"),
    ],
)
def test_a_missing_extra_is_named(tmp_path, capsys, monkeypatch, option, model, module, extra):
    monkeypatch.setitem(sys.modules, module, None)
    assert run(tmp_path, ROWS, option, model) == 1
    error = capsys.readouterr().err
    assert f"the package `{module}` is not installed" in error
    assert f"pip install 'ariigcn-jax[{extra}]'" in error


def test_a_file_that_cannot_be_read_is_a_failure_of_its_rows(letters, tmp_path, monkeypatch):
    monkeypatch.setattr(Letters, "inputs", lambda self, manifest: [clip or "x" for clip in manifest.audio])
    monkeypatch.setattr(Letters, "load", lambda self, threads, device: lambda items: [np.ones(2) for _ in items])
    rows = [{"dialogue_id": "a", "audio": name} for name in ("gone.wav", "", "gone.wav")]
    assert run(tmp_path, rows, "--text", "m") == 0
    assert np.isnan(load(tmp_path)["text_m"]).all(axis=1).tolist() == [True, False, True]
    listed = (tmp_path / "corpus/dialogues.failures.csv").read_text()
    assert listed.count("gone.wav: No such file or directory") == 2


def test_recordings_to_a_corpus(tmp_path, capsys):
    """Every kind of encoder on generated speech and video, a truncated file among them."""
    pytest.importorskip("av", reason="the extra `visual` is not installed")
    pytest.importorskip("opensmile", reason="the extra `audio` is not installed")
    speak(tmp_path / "one.wav", "Hello there. How are you?")
    write_wav(tmp_path / "two.wav", tone(1.0, 250.0))
    moving = [face(100 + 3 * k) for k in range(30)]
    write_video(tmp_path / "scene.mp4", moving, 10, tone(3.0))
    (tmp_path / "cut.mp4").write_bytes((tmp_path / "scene.mp4").read_bytes()[:2000])
    rows = [
        {"dialogue_id": "a", "audio": "one.wav", "video": "", "transcript": "hello there ."},
        {"dialogue_id": "a", "audio": "two.wav", "video": "scene.mp4#t=1,2", "transcript": "so angry"},
        {"dialogue_id": "a", "audio": "", "video": "scene.mp4#t=2,3", "transcript": ""},
        {"dialogue_id": "b", "audio": "", "video": "cut.mp4", "transcript": "fine"},
    ]
    rows = [row | {"label": k % 2, "split": "train"} for k, row in enumerate(rows)]
    models = [tiny_encoder(tmp_path / "bert"), speech_model(tmp_path / "wav2vec2"), image_model(tmp_path / "vit")]
    text, speech, image = (str(model) for model in models)
    options = ["--text", text, "--audio", "eGeMAPSv02", "--audio", speech, "--visual", f"{image},fps=1"]
    assert run(tmp_path, rows, *options) == 0
    corpus = data.load(tmp_path / "corpus/dialogues.npz")
    assert corpus.widths == {"text_bert": WIDTH, "audio_egemapsv02": 88, "audio_wav2vec2": 16, "visual_vit": 16}
    assert {name: here.tolist() for name, here in corpus.present.items()} == {
        "text_bert": [True, True, False, True],
        "audio_egemapsv02": [True, True, True, False],
        "audio_wav2vec2": [True, True, True, False],
        "visual_vit": [False, True, True, False],
    }
    visual = corpus.features["visual_vit"]
    assert np.abs(visual[1] - visual[2]).max() > 0
    assert "cut.mp4: cannot be decoded" in capsys.readouterr().err


def test_help_names_every_option(capsys):
    with pytest.raises(SystemExit) as stopped:
        cli.main(["features", "extract", "--help"])
    assert stopped.value.code == 0
    assert "--visual" in capsys.readouterr().out


def test_prepare_takes_the_same_options(letters, tmp_path):
    write_csv(tmp_path / "dialogues.csv", ROWS)
    options = ["--manifest", str(tmp_path / "dialogues.csv"), "--out", str(tmp_path / "corpus"), "--jobs", "0"]
    assert cli.main(["features", "extract", *options, "--text", "m"]) == 0
    assert load(tmp_path)["text_m"].shape == (5, 2)


def test_errors_are_raised_to_a_caller(letters, tmp_path):
    write_csv(tmp_path / "dialogues.csv", ROWS)
    parser = argparse.ArgumentParser()
    extract.add_arguments(parser)
    with pytest.raises(UserError, match="no features are named"):
        extract.run(parser.parse_args(["--manifest", str(tmp_path / "dialogues.csv"), "--out", str(tmp_path)]))
