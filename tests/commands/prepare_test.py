"""The commands around a corpus: what they print, write, refuse, and hand to feature extraction."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from ariigcn_jax import cli
from ariigcn_jax import data as corpus
from ariigcn_jax.commands import prepare
from ariigcn_jax.data.readers.dialogue_tuples import LAYOUTS
from tests.support import sound
from tests.support.layout_files import conversations, dump, mmsa, tuple_elements

ROOT = Path(__file__).resolve().parents[2]
MELD = "MMGCN, MM-DFN: MELD"


@pytest.fixture
def pickled(tmp_path):
    return dump(tmp_path / "meld.pkl", tuple_elements(conversations(classes=7), MELD, LAYOUTS[MELD]))


def run(*arguments):
    return cli.main([*map(str, arguments)])


def test_convert_keeps_everything(pickled, tmp_path, capsys):
    assert run("convert", pickled, tmp_path / "mine") == 0
    out = capsys.readouterr().out
    assert "note: read as the layout of MMGCN, MM-DFN: MELD" in out
    assert f"--config=experiments/own.py --config.data.path={tmp_path / 'mine'}" in out
    for label in ("label", "sentiment"):
        one, other = corpus.load(pickled, label=label), corpus.load(tmp_path / "mine", label=label)
        assert one.label_names == other.label_names and one.utterance_ids == other.utterance_ids
        np.testing.assert_array_equal(one.label, other.label)
        np.testing.assert_array_equal(one.split, other.split)
        np.testing.assert_array_equal(one.speaker, other.speaker)
        for modality in one.modalities:
            np.testing.assert_array_equal(one.features[modality], other.features[modality])


def test_the_command_to_train_names_modalities_that_their_names_do_not_tell(tmp_path, capsys):
    rows = [f"d{d},{'xy'[t]},{d},{t}" for d in range(9) for t in range(2)]
    (tmp_path / "c.csv").write_text("\n".join(["dialogue_id,label,eeg_0,eeg_1", *rows]))
    assert run("convert", tmp_path / "c.csv", tmp_path / "mine", "--modalities=eeg") == 0
    assert f"--config.data.path={tmp_path / 'mine'} --config.data.modalities=\"('eeg',)\"" in capsys.readouterr().out


def test_converted_corpus_says_nothing_twice(tmp_path, capsys):
    assert run("convert", dump(tmp_path / "mmsa.pkl", mmsa(conversations(classes=3))), tmp_path / "mine") == 0
    capsys.readouterr()
    assert run("validate", tmp_path / "mine") == 0
    assert capsys.readouterr().out.count("there is no field `speaker`") == 1


def test_options_of_convert(pickled, tmp_path):
    names = "a,b,c,d,e,f,g"
    options = ["--label-names", names, "--name", "mine", "--modalities", "audio"]
    assert run("convert", pickled, tmp_path / "x", *options) == 0
    made = corpus.load(tmp_path / "x")
    assert (made.name, made.label_names, made.modalities) == ("mine", tuple("abcdefg"), ("audio",))


def test_convert_overwrites_only_when_asked(pickled, tmp_path, capsys):
    assert run("convert", pickled, tmp_path / "mine") == 0
    assert run("convert", pickled, tmp_path / "mine") == 1
    assert capsys.readouterr().err.startswith(f"error: {tmp_path / 'mine'}: a corpus is there already")
    assert run("convert", pickled, tmp_path / "mine", "--overwrite", "--modalities", "text") == 0
    assert corpus.load(tmp_path / "mine").modalities == ("text",)


@pytest.mark.parametrize("names", ["a,b", "a,a,c,d,e,f,g", "a,,c,d,e,f,g"])
def test_label_names_that_do_not_fit(pickled, tmp_path, capsys, names):
    assert run("convert", pickled, tmp_path / "mine", "--label-names", names) == 1
    assert "7 different names are needed" in capsys.readouterr().err
    assert not (tmp_path / "mine").exists()


def test_inspect(pickled, capsys):
    assert run("inspect", pickled) == 0
    out = capsys.readouterr().out
    for words in ("meld: 56 utterances in 12 dialogues, 7 classes", "Splits", "surprise", "missing in train",
                  "To look at before training", "What reading found"):  # fmt: skip
        assert words in out, words


@pytest.mark.parametrize("command", ["inspect", "validate"])
def test_words_and_sound_are_looked_at_before_their_features_are_made(tmp_path, capsys, command):
    sound.write_calls(tmp_path)
    assert run(command, tmp_path / "calls.csv") == 0
    out = capsys.readouterr().out
    assert "32 utterances in 8 dialogues, 2 classes, modalities words, audio" in out
    assert "32 turns of 16 speakers in 8 conversations, words and sound" in out


def test_validate(pickled, tmp_path, capsys):
    assert run("convert", pickled, tmp_path / "mine") == run("validate", tmp_path / "mine") == 0
    assert f"{tmp_path / 'mine'}: valid, 56 utterances" in capsys.readouterr().out
    table = tmp_path / "mine" / "utterances.csv"
    table.write_text(table.read_text().replace("joy", "jay"))
    assert run("validate", tmp_path / "mine") == 1
    captured = capsys.readouterr()
    assert captured.err.startswith("error: ") and "it is not the file that schema.json was written for" in captured.err
    assert "valid," not in captured.out


@pytest.mark.parametrize(("fields", "words"), [
    ({}, "no labelled utterance in its validation split"),  # one dialogue
    ({"dialogue_id": ["a", "a", "b", "b"]}, "no labelled utterance in its validation split"),  # one of two
    ({"split": ["train"] * 4}, "no labelled utterance in its validation split"),
    ({"dialogue_id": list("abcd"), "label": [0] * 4, "label_names": ["joy"]}, "only the class 'joy'"),
])  # fmt: skip
def test_what_training_refuses_is_not_valid(tmp_path, capsys, fields, words):
    rows = {"dialogue_id": ["a"] * 4, "label": [0, 1, 0, 1], "text": np.ones((4, 2))} | fields
    np.savez(tmp_path / "x.npz", **rows)
    assert run("validate", tmp_path / "x.npz") == 1
    captured = capsys.readouterr()
    assert words in captured.err and "valid," not in captured.out
    assert ("(1 labelled train dialogue cannot be divided)" in captured.out) == ("validation" in words)


def test_validate_is_of_the_task(tmp_path, capsys):
    scores = {"dialogue_id": list("abcdef"), "label": [0.5, -1, 2, 0.1, 1, 0], "text": np.ones((6, 2))}
    np.savez(tmp_path / "x.npz", **scores)
    assert run("validate", tmp_path / "x.npz", "--task", "regression") == 0
    assert "valid, 6 utterances" in capsys.readouterr().out


def test_damaged_file_is_one_message_and_leaves_nothing(pickled, tmp_path, capsys):
    pickled.write_bytes(pickled.read_bytes()[:-20])
    assert run("convert", pickled, tmp_path / "mine") == 1
    captured = capsys.readouterr()
    assert captured.err.count("\n") == 1 and captured.err.startswith(f"error: {pickled}: the pickle is truncated")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["meld.pkl"]


def test_large_file_is_announced(pickled, monkeypatch, capsys):
    monkeypatch.setattr(prepare, "LARGE", 10)
    assert run("validate", pickled) == 0
    assert capsys.readouterr().err.startswith(f"Reading {pickled}, ")


@pytest.mark.parametrize("there", ["test", ""])
def test_a_modality_that_training_would_never_see_is_no_valid_corpus(tmp_path, capsys, there):
    rows = ["dialogue_id,label,split,text,audio_file"]
    for k, split in enumerate(["train"] * 4 + ["valid", "test"] * 2):
        rows.append(f"d{k},{k % 2},{split},{k} 1,{split}\\{k}.npy")
        if split == there:
            (tmp_path / split).mkdir(exist_ok=True)
            np.save(tmp_path / split / f"{k}.npy", np.ones(3))
    (tmp_path / "c.csv").write_text("\n".join(rows))
    assert run("validate", tmp_path / "c.csv") == 1
    message = capsys.readouterr().err
    assert "no utterance of the train split has `audio`" in message
    assert f"{6 if there else 8} files of audio are not there, such as `train\\0.npy`" in message
    assert run("validate", tmp_path / "c.csv", "--modalities=text") == 0
    assert run("inspect", tmp_path / "c.csv") == 0


def test_words_alone_are_a_corpus(tmp_path, capsys):
    rows = [f"d{n // 3},{'xy'[n % 2]},so {n} it is" for n in range(30)]
    (tmp_path / "c.csv").write_text("\n".join(["dialogue_id,label,transcript", *rows]))
    assert run("validate", tmp_path / "c.csv") == 0
    assert "2 classes, modalities words\n" in capsys.readouterr().out
    assert run("inspect", tmp_path / "c.csv") == 0
    assert "no words" in capsys.readouterr().out


def test_arguments_that_make_no_sense(capsys):
    for arguments in ([], ["convert"], ["validate"], ["melt", "x"]):
        with pytest.raises(SystemExit) as stopped:
            run(*arguments)
        assert stopped.value.code == 2
    assert run("inspect", "nowhere.pkl") == 1
    assert "nowhere.pkl: there is no such file" in capsys.readouterr().err


def test_interruption(monkeypatch, capsys):
    def stopped(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(prepare.data, "locate", stopped)
    assert run("inspect", "x") == 130
    assert "Nothing half-written" in capsys.readouterr().err


def test_features_are_handed_on(capsys):
    with pytest.raises(SystemExit) as stopped:
        run("features", "extract", "--help")
    assert stopped.value.code == 0 and "--manifest" in capsys.readouterr().out


@pytest.mark.slow
def test_stranger_trains_in_two_commands(tmp_path):
    """From a file of somebody else's to a result, as the README says."""
    elements = tuple_elements(conversations(dialogues=30), "IEMOCAP", next(iter(LAYOUTS.values())))
    path = dump(tmp_path / "theirs.pkl", elements)
    environment = os.environ | {"PYTHONPATH": str(ROOT), "JAX_DISABLE_MOST_OPTIMIZATIONS": "1"}
    small = ["--config.num_epochs=2", "--config.model.hidden=8", "--config.model.graph.heads=2", "--workdir=run"]
    for line in (
        ["tools.prepare", "convert", str(path), "corpus"],
        ["experiments.run", f"--config={ROOT}/experiments/own.py", "--config.data.path=corpus", *small],
    ):
        options = dict(cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
        done = subprocess.run([sys.executable, "-m", *line], **options)
        assert done.returncode == 0, done.stderr
    assert (tmp_path / "run" / "results.json").exists()
