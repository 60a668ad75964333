"""The command `ariigcn`: help without JAX, training, prediction, streams, and its mistakes in one message."""

import gc
import io
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import ariigcn_jax
from ariigcn_jax import cli
from ariigcn_jax.commands import arguments
from ariigcn_jax.commands.finished import as_read
from ariigcn_jax.commands.train import train
from ariigcn_jax.data import targets
from ariigcn_jax.types import SPLITS, UserError
from tests.support import runs
from tests.support.encoders import WORDS, tiny_encoder

pytestmark = pytest.mark.usefixtures("quick_compilation")
ROOT = Path(__file__).resolve().parents[1]
SMALL = {
    "num_epochs": 1,
    "batch_size": 4,
    "model.hidden": 8,
    "model.graph.heads": 2,
    "model.graph.layers": 1,
    "model.graph.future": 0,
    "model.text.max_tokens": 16,
    "model.text.layers": (-1,),
    "losses.iccl.weight": 0.0,
    "losses.imcl.weight": 0.0,
    "losses.adversarial.weight": 0.0,
    "diagnostics.every": 0,
}


@pytest.fixture(autouse=True)
def no_cache(monkeypatch):
    monkeypatch.setenv("ARIIGCN_CACHE", "")
    monkeypatch.setattr("signal.signal", lambda *_: None)


def turns(dialogues=12):
    """Utterances with words and labels, in order."""
    random = np.random.default_rng(0)
    return [
        {
            "dialogue_id": f"d{n // 3}",
            "speaker": ("Ann", "Bob")[n % 2],
            "text": " ".join(random.choice(WORDS[:60], 4)),
            "label": ("calm", "angry")[n % 2],
        }
        for n in range(3 * dialogues)
    ]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with a table, an encoder, a chat, and a run that the command line has trained on the table."""
    folder = tmp_path_factory.mktemp("cli")
    rows = [",".join([u["dialogue_id"], u["speaker"], u["text"], u["label"]]) for u in turns()]
    (folder / "said.csv").write_text("\n".join(["dialogue_id,speaker,transcript,label", *rows]) + "\n")
    (folder / "talk.txt").write_text("Ann: oh no!\nBob: sorry\nAnn: never mind\n")
    tiny_encoder(folder / "encoder")
    small = [f"--config.{name}={value}" for name, value in SMALL.items()]
    encoder = f"--config.model.text.encoder={folder / 'encoder'}"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("signal.signal", lambda *_: None)
        patch.setenv("ARIIGCN_CACHE", "")
        assert cli.main(["train", encoder, *small, str(folder / "said.csv"), f"--workdir={folder / 'run'}"]) == 0
    return folder


def call(capsys, *given):
    """Exit status, output and messages of the command."""
    status = cli.main([*map(str, given)])
    return status, *capsys.readouterr()


# --- Help and mistakes ------------------------------------------------------------------------------------------------


def test_help_needs_none_of_the_heavy_libraries():
    code = "import sys; from ariigcn_jax import cli; cli.read(sys.argv[1:])"
    after = "import atexit, sys; atexit.register(lambda: print({'jax', 'numpy', 'pandas', 'absl'} & set(sys.modules)))"
    for given in (["--help"], *([name, "--help"] for name in cli.COMMANDS)):
        line = [sys.executable, "-c", f"{after}\n{code}", *given]
        done = subprocess.run(line, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0 and done.stdout.endswith("set()\n"), done.stdout + done.stderr


def test_help_shows_every_command_and_the_text_as_it_is_written(capsys):
    with pytest.raises(SystemExit) as end:
        cli.main(["--help"])
    said = capsys.readouterr().out
    assert end.value.code == 0 and all(re.search(rf"^    {name}\b", said, re.MULTILINE) for name in cli.COMMANDS)
    with pytest.raises(SystemExit):
        cli.main(["predict", "--help"])
    assert "\n    ariigcn predict --run runs/calls chat.txt\n" in capsys.readouterr().out


def test_choices_are_those_of_the_package():
    assert arguments.SPLITS == SPLITS
    assert tuple(targets.TARGETS) == arguments.TASKS


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["train"], "give the path of conversations"),
        (["train", "nowhere.csv"], "nowhere.csv: there is no such file"),
        (["train", "said.csv", "--config.optimizer.lrr=1"], "ariigcn train has no such option as --config.optimizer"),
        (["train", "said.csv", "--config.num_epochs=two"], "num_epochs='two': a whole number is needed"),
        (["train", "said.csv", "--names=no_tgann"], "Did you mean no_tgan"),
        (["train", "said.csv", "--config=own.py", "--names=words"], "--config=own.py:words"),
        (["predict", "--run", "run", "nowhere.txt"], "nowhere.txt: there is no such file"),
        (["predict", "--run", "nowhere", "talk.txt"], "nowhere: there is no such folder"),
        (["predict", "--run", "run", "talk.txt", "--csv", "-", "--jsonl", "-"], "takes one of --csv and --jsonl"),
        (["predict", "--run", "run", "talk.txt", "--html", "-"], "takes one of --csv and --jsonl"),
        (["stream", "--run", "nowhere"], "nowhere: there is no such folder"),
    ],
)
def test_one_message_and_nothing_written(place, capsys, monkeypatch, given, message):
    monkeypatch.chdir(place)
    before = sorted(place.iterdir())
    status, out, error = call(capsys, *given)
    assert (status, out) == (1, "")
    assert message in error and error.count("error: ") == 1 and "Traceback" not in error
    assert sorted(place.iterdir()) == before


def test_layouts_are_listed(capsys):
    status, out, _ = call(capsys, "inspect")
    assert status == 0 and "MMSA" in out and "MERBench" in out


# --- Predict ----------------------------------------------------------------------------------------------------------


def test_outputs_of_one_prediction(place, capsys, tmp_path):
    pandas = pytest.importorskip("pandas")
    pytest.importorskip("pyarrow", reason="pyarrow is not installed (extra: parquet)")
    files = [tmp_path / name for name in ("a.csv", "b.parquet")]
    given = ["predict", "--run", place / "run", place / "talk.txt"]
    status, out, _ = call(capsys, *given, "--csv", files[0], "--parquet", files[1], "--jsonl", "-", "--transcripts")
    assert status == 0
    records = [json.loads(line) for line in out.splitlines()]
    assert [r["transcript"] for r in records] == ["oh no!", "sorry", "never mind"]
    for frame in (pandas.read_csv(files[0]), pandas.read_parquet(files[1])):
        assert frame["emotion"].tolist() == [r["emotion"] for r in records]
        assert frame["transcript"].tolist() == [r["transcript"] for r in records]
    call(capsys, *given, "--csv", files[0], "--parquet", files[1])
    assert all(
        "transcript" not in read(file) for read, file in zip((pandas.read_csv, pandas.read_parquet), files, strict=True)
    )


def standard(monkeypatch, text):
    stream = io.TextIOWrapper(io.BytesIO(text.encode()), "utf-8")
    monkeypatch.setattr("sys.stdin", stream)


@pytest.mark.parametrize("form", ["chat", "jsonl"])
def test_standard_input_is_read(place, capsys, monkeypatch, form):
    chat = (place / "talk.txt").read_text()
    lines = [dict(zip(("speaker", "text"), line.split(": "), strict=True)) for line in chat.splitlines()]
    _, expected, _ = call(capsys, "predict", "--run", place / "run", place / "talk.txt")
    standard(monkeypatch, chat if form == "chat" else "".join(json.dumps(line) + "\n" for line in lines))
    status, out, error = call(capsys, "predict", "--run", place / "run", "-")
    assert status == 0, error
    rows = [[line for line in text.splitlines() if line[:1].isdigit()] for text in (out, expected)]
    assert rows[0] == rows[1] and len(rows[0]) == 3


@pytest.mark.parametrize(("text", "message"), [("\n", "Standard input is empty"), ('{"x": 1}\n', "standard input")])
def test_standard_input_that_is_none(place, capsys, monkeypatch, text, message):
    standard(monkeypatch, text)
    status, out, error = call(capsys, "predict", "--run", place / "run", "-")
    assert (status, out) == (1, "") and message in error and "/tmp" not in error.replace(str(place), "")


# --- Stream -----------------------------------------------------------------------------------------------------------


def test_stream_says_what_the_whole_says(place, capsys, monkeypatch):
    expected = ariigcn_jax.load(place / "run")("Ann: oh no!\nBob: sorry\nAnn: never mind")
    standard(monkeypatch, 'Ann: oh no!\n\n{"speaker": "Bob", "text": "sorry"}\nAnn: never mind\n')
    status, out, _ = call(capsys, "stream", "--run", place / "run", "--jsonl", "--explain")
    records = [json.loads(line) for line in out.splitlines()]
    assert status == 0
    assert [(r["turn"], r["speaker"], r["emotion"]) for r in records] == [
        (u.turn, u.speaker, u.emotion) for u in expected
    ]
    assert records[2]["contribution"]["words"] == pytest.approx(expected[2].contribution["words"], abs=1e-5)


def test_stream_answers_each_line_before_the_next_comes(place, capsys, monkeypatch):
    said = []

    def lines():
        for line in ("Ann: oh no!\n", "not {a line}: of JSON\n", '{"speaker": 3.5}\n', '{"broken\n', "Bob: sorry\n"):
            yield line
            said.append(capsys.readouterr())

    monkeypatch.setattr("sys.stdin", lines())
    status, _, error = call(capsys, "stream", "--run", place / "run")
    assert re.fullmatch(r"0  Ann  (calm|angry)  0\.\d\d\n", said[0].out)
    assert "line 3 is left out" in said[2].err and "line 4 is left out: not JSON" in said[3].err
    assert re.fullmatch(r"2  Bob  (calm|angry)  0\.\d\d\n", said[4].out)
    assert status == 1 and "2 of the lines could not be read" in error


def test_stream_of_a_model_that_looks_ahead(tmp_path, capsys, monkeypatch):
    folder = runs.make(tmp_path / "run", {"model.graph.future": 1})
    lines = [
        json.dumps(u) + "\n"
        for u in [*runs.conversation(4, dialogue_id="a"), *runs.conversation(2, 1, dialogue_id="b")]
    ]
    standard(monkeypatch, "".join(lines))
    status, out, error = call(capsys, "stream", "--run", folder)
    assert status == 0
    assert "an answer comes 2 turns after its turn" in error
    assert [line.split("  ")[:2] for line in out.splitlines()] == [
        [d, str(t)] for d, t in zip("aaaabb", [0, 1, 2, 3, 0, 1], strict=True)
    ]


# --- Train in Python --------------------------------------------------------------------------------------------------


def small(place):
    return dict(encoder=place / "encoder", epochs=1, options=SMALL, quiet=True)


def test_python_learns_what_the_command_learns(place):
    model, same = train(place / "said.csv", **small(place)), ariigcn_jax.load(place / "run")
    said = "Ann: oh no!\nBob: sorry"
    np.testing.assert_array_equal(model(said).probabilities, same(said).probabilities)


def test_data_frames_and_utterances_are_learnt_alike(place, tmp_path, capsys):
    pandas = pytest.importorskip("pandas")
    expected = ariigcn_jax.load(place / "run")("Ann: oh no!").probabilities
    frame = train(pandas.DataFrame(turns()).rename(columns={"text": "Utterance"}), **small(place))
    np.testing.assert_array_equal(frame("Ann: oh no!").probabilities, expected)
    listed = train(turns(), workdir=tmp_path / "run", **small(place))
    np.testing.assert_array_equal(listed("Ann: oh no!").probabilities, expected)
    assert capsys.readouterr().out == ""
    assert listed.path == tmp_path / "run"
    assert len(as_read(listed, "train")) < len(turns())  # a tool finds the conversations again, and their splits


def test_a_temporary_run_goes_with_its_model(place):
    model = train(place / "said.csv", **small(place))
    path = model.path
    assert (path / "results.json").exists()
    del model
    gc.collect()
    assert not path.exists()


@pytest.mark.parametrize(
    ("conversations", "options", "message"),
    [
        (3, {}, "no conversations with labels"),
        ([], {}, "no conversations with labels"),
        (["Ann: oh no!"], {}, "no conversations with labels"),
        ([{"dialogue_id": "a", "text": "oh"}], {}, "the conversations: "),
        ("nowhere.csv", {}, "nowhere.csv: there is no such file"),
        ([{"dialogue_id": "a", "text": "oh"}], {"model.hiden": 3}, "no option model.hiden"),
    ],
)
def test_what_cannot_be_learnt_is_one_message(place, tmp_path, monkeypatch, conversations, options, message):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with pytest.raises(UserError, match=message) as raised:
        train(conversations, encoder=place / "encoder", options=options, quiet=True)
    assert str(tmp_path) not in str(raised.value)
    assert list(tmp_path.iterdir()) == []


# --- The wheel --------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_command_of_an_installed_wheel(place, tmp_path):
    """Without the repository: predict and report in an empty folder, from a wheel in a fresh environment."""
    build = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", tmp_path, ROOT]
    subprocess.run(build, check=True, timeout=300)
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "venv"], check=True, timeout=300)
    (site,) = (tmp_path / "venv").glob("lib/python*/site-packages")
    (wheel,) = tmp_path.glob("*.whl")
    install = [
        sys.executable,
        "-m",
        "pip",
        "--python",
        tmp_path / "venv",
        "install",
        "-q",
        "--no-deps",
        "--no-index",
        wheel,
    ]
    subprocess.run(install, check=True, timeout=300)
    (site / "dependencies.pth").write_text("\n".join(path for path in sys.path if "site-packages" in path))
    (tmp_path / "empty").mkdir()
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}

    def ariigcn(*given):
        line = [tmp_path / "venv" / "bin" / "ariigcn", *given]
        options = dict(
            cwd=tmp_path / "empty", env=environment, capture_output=True, text=True, timeout=300, check=False
        )
        return subprocess.run([*map(str, line)], **options)

    done = ariigcn("predict", "--run", place / "run", place / "talk.txt", "--html", "page.html")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "empty" / "page.html").read_text().startswith("<!DOCTYPE html>")
    done = ariigcn("report", place / "run", "--count=0")
    assert done.returncode == 0, done.stderr
    assert {path.name for path in site.iterdir()} & {"experiments", "tools", "tests"} == set()
