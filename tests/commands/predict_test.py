"""tools.predict: its formats, its choices, and one message for what a user can mend."""

import csv
import io
import json
import sys
import types

import numpy as np
import pytest

from ariigcn_jax import cli
from ariigcn_jax import data as corpora
from ariigcn_jax.commands import predict
from ariigcn_jax.commands.finished import splits_of
from ariigcn_jax.options import base
from ariigcn_jax.types import UserError
from tests.support import runs

pytestmark = pytest.mark.usefixtures("quick_compilation")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A run whose classes were merged and whose test split was held out by the user."""
    options = {"data.relabel": "fury=class 1,boredom=", "data.split": "dialogue_id=b"}
    return runs.make(tmp_path_factory.mktemp("run") / "a", options)


@pytest.fixture(scope="module")
def conversation(tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "c.jsonl"
    lines = runs.conversation(5, dialogue_id="first") + runs.conversation(3, seed=1, dialogue_id="second\x1b[31m")
    lines[0]["label"], lines[1]["label"] = "fury", "boredom"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def call(capsys, *arguments):
    """Exit status, output and messages of the command."""
    status = cli.main(["predict", *map(str, arguments)])
    return status, *capsys.readouterr()


@pytest.fixture(autouse=True)
def no_cache(monkeypatch):
    monkeypatch.setenv("ARIIGCN_CACHE", "")


def test_three_formats_say_the_same(capsys, folder, conversation, tmp_path):
    status, lines, _ = call(capsys, "--run", folder, conversation, "--jsonl", "-")
    assert status == 0
    records = [json.loads(line) for line in lines.splitlines()]
    assert [r["turn"] for r in records] == [0, 1, 2, 3, 4, 0, 1, 2]
    assert [r["label"] for r in records[:3]] == ["class 1", None, None]
    out = tmp_path / "out.csv"
    status, nothing, _ = call(capsys, "--run", folder, conversation, "--csv", out)
    assert (status, nothing) == (0, "")
    rows = list(csv.DictReader(io.StringIO(out.read_text(), newline="")))
    _, table, _ = call(capsys, "--run", folder, conversation)
    body = [line.split() for line in table.splitlines() if line[:1].isdigit()]
    for record, row, line in zip(records, rows, body, strict=True):
        assert row["emotion"] == record["emotion"]
        assert float(row["p_class 0"]) == pytest.approx(record["probabilities"]["class 0"], abs=1e-6)
        assert float(row["contribution_text"]) == pytest.approx(record["contribution"]["text"], abs=1e-6)
        assert row["missing"].split() == record["missing"]
        assert f"{record['probabilities'][record['emotion']]:.2f}" in line
    assert "\x1b" not in table


@pytest.mark.parametrize("codec", ["utf-16", "utf-16-le", "gb18030"])
def test_conversations_of_any_encoding(capsys, folder, conversation, tmp_path, codec):
    """What PowerShell's > writes is UTF-16."""
    lines = [json.loads(line) | {"speaker": "张三"} for line in conversation.read_text().splitlines()]
    for line in lines:
        del line["dialogue_id"]
    content = "".join(json.dumps(line, ensure_ascii=False) + "\r\n" for line in lines)
    (tmp_path / "c.jsonl").write_bytes(content.encode(codec))
    status, answer, message = call(capsys, "--run", folder, tmp_path / "c.jsonl", "--jsonl", "-")
    assert status == 0, message
    assert [json.loads(line)["speaker"] for line in answer.splitlines()] == ["张三"] * 8


def test_choices(capsys, folder, conversation, tmp_path):
    _, lines, _ = call(capsys, "--run", folder, conversation, "--jsonl", "-", "--dialogue", "first")
    assert len(lines.splitlines()) == 5
    file = tmp_path / "corpus.npz"
    options = dict(split=["test", "test", "train"], label=[0, 1, 0], label_names=["fury", "class 0"])
    np.savez(file, dialogue_id=["a", "a", "b"], text=np.eye(3), audio_other=np.eye(3), **options)
    status, lines, notes = call(capsys, "--run", folder, file, "--jsonl", "-", "--split", "test")
    assert status == 0
    assert [(r["dialogue_id"], r["label"]) for r in map(json.loads, lines.splitlines())] == [("b", "class 1")]
    assert "note: data.split=dialogue_id=b: 1 of 2 dialogues became the test split" in notes
    assert "note: audio: missing, the model predicts from the others" in notes
    assert "note: audio_other: not used, the model was not trained on it" in notes


def test_a_split_that_the_file_does_not_name_is_that_of_training(tmp_path):
    names = np.repeat([f"d{k}" for k in range(20)], 2)
    np.savez(tmp_path / "c.npz", dialogue_id=names, label=[0, 1] * 20, text=np.arange(40.0)[:, None] + [1, 2])
    config = base.get_config()
    config.data.valid_fraction = 0.3
    model = types.SimpleNamespace(config=config, task="classification", modalities=("text",), words=None, recorded=())
    trained = corpora.load(tmp_path / "c.npz", valid_fraction=0.3)
    for split in ("train", "valid", "test"):
        chosen = predict.choose(predict.read(tmp_path / "c.npz", model, True), (split,), None)
        assert set(chosen.dialogue_ids) == set(names[trained.split == split].tolist())
    assert len(predict.read(tmp_path / "c.npz", model).dialogue_ids) == 20
    lines = [
        {"dialogue_id": names[i], "speaker": "a", "label": "xy"[i % 2], "features": {"text": [i + 1, i + 2]}}
        for i in range(40)
    ]
    (tmp_path / "c.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    held_out = predict.choose(predict.read(tmp_path / "c.jsonl", model, True), ("test",), None)
    assert set(held_out.dialogue_ids) == set(names[trained.split == "test"].tolist())
    assert len(predict.read(tmp_path / "c.jsonl", model).dialogue_ids) == 20
    config.data.cross_validation, model.members, model.path = True, 5, tmp_path / "run"
    with pytest.raises(UserError, match="run: most of its 5 models were trained"):
        splits_of(model, "valid")
    trained_on = predict.choose(predict.read(tmp_path / "c.npz", model, True), splits_of(model, "train"), None)
    assert set(trained_on.dialogue_ids) == set(names[trained.split != "test"].tolist())


def test_what_training_reads_is_read(tmp_path):
    config = base.get_config()
    config.data.modalities = ("eeg", "text")
    model = types.SimpleNamespace(
        config=config, task="classification", modalities=("eeg", "text"), words=None, recorded=()
    )
    line = {"dialogue_id": "a", "turn": 0, "split": "test", "label": "x", "features": {"text": [1.0, 2.0]}}
    (tmp_path / "c.jsonl").write_text(json.dumps(line) + "\n" + json.dumps(line | {"turn": 1}) + "\n")
    assert len(predict.read(tmp_path / "c.jsonl", model)) == 2  # with fields that conversations have no use for
    (tmp_path / "eeg.csv").write_text("dialogue_id,eeg_0,eeg_1\na,1,2\na,3,4\n")
    assert predict.read(tmp_path / "eeg.csv", model).features["eeg"].tolist() == [[1, 2], [3, 4]]
    model.modalities = config.data.modalities = ("eeg", "text", "gaze")
    (tmp_path / "two.csv").write_text("dialogue_id,gaze_0,gaze_1,text_0,text_1\na,1,2,5,6\na,3,4,7,8\n")
    assert set(predict.read(tmp_path / "two.csv", model).modalities) == {"text", "gaze"}
    one = [{"utterance_id": k, "x": 1, "features": {"text": [1.0, 2.0]}} for k in range(3)]
    (tmp_path / "one.jsonl").write_text("".join(json.dumps(line) + "\n" for line in one))
    with pytest.raises(UserError, match="unknown field x"):  # and is no three dialogues
        predict.read(tmp_path / "one.jsonl", model)
    (tmp_path / "bad.jsonl").write_text('{"features": {"text": [1, 2]}}\n{"features": {"text": [1, 2]\n')
    with pytest.raises(UserError, match="line 2 is not JSON"):
        predict.read(tmp_path / "bad.jsonl", model)


def test_nobody_reads_on(monkeypatch, folder, conversation):
    class Closed(io.StringIO):
        def flush(self):
            raise BrokenPipeError

    monkeypatch.setattr("sys.stdout", Closed())
    assert cli.main(["predict", "--run", str(folder), str(conversation)]) == 1
    assert sys.stdout is None  # so that Python does not flush it once more


def test_a_page_is_written(capsys, folder, conversation, tmp_path):
    pytest.importorskip("jinja2", reason="jinja2 is not installed (extra: report)")
    status, out, _ = call(capsys, "--run", folder, conversation, "--html", tmp_path / "page.html")
    assert (status, out) == (0, "")
    assert (tmp_path / "page.html").read_text().startswith("<!DOCTYPE html>")


@pytest.mark.parametrize(
    ("files", "shown"),
    [
        ({"talk.txt": "Ann: Oh no!\nBob: Sorry!\n"}, True),
        ({"talk.srt": "1\n00:00:00,000 --> 00:00:01,000\nOh no!\n"}, True),
        ({"talk.json": '{"segments": [{"start": 0, "end": 1, "text": "Oh no!", "speaker": "A"}]}'}, True),
        ({"talk.csv": "dialogue_id,speaker,transcript\nd,Ann,Oh no!\n"}, False),
        ({"talk.jsonl": '{"speaker": "Ann", "text": "Oh no!"}\n'}, False),
        ({"a.txt": "Ann: Oh no!\nBob: Sorry!\n", "b.vtt": "WEBVTT\n\n00:00.000 --> 00:01.000\nHi\n"}, True),
        ({"a.txt": "Ann: Oh no!\nBob: Sorry!\n", "b.csv": "speaker,transcript\nAnn,Oh no!\n"}, False),
    ],
)
def test_words_that_are_given_as_such_are_told_from_a_corpus(tmp_path, files, shown):
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    assert predict.are_words(tmp_path if len(files) > 1 else tmp_path / next(iter(files))) is shown


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--run", "{run}", "{conversation}", "--split", "train"], "no `dialogue_id` fits b, so nothing is held out"),
        (["--run", "{run}", "{garbage}"], "garbage.npz"),
    ],
)
def test_one_message(capsys, folder, conversation, arguments, message, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    garbage = conversation.with_name("garbage.npz")
    garbage.write_bytes(b"no corpus")
    given = [a.format(run=folder, conversation=conversation, garbage=garbage) for a in arguments]
    status, out, errors = call(capsys, *given)
    assert (status, out) == (1, "")
    assert message in errors
    assert errors.count("error: ") == 1
    assert "Traceback" not in errors
    assert list(tmp_path.iterdir()) == []
