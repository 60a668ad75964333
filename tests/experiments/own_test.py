"""A table of what was said, without any features, is learnt by the command line alone."""

import csv
import json
import sys

import numpy as np
import pytest

import ariigcn_jax
from ariigcn_jax.inference import model_card
from ariigcn_jax.options import own
from ariigcn_jax.runs import session
from ariigcn_jax.types import UserError
from tests.messages_test import OWN, contents, run
from tests.support import sound
from tests.support.encoders import WIDTH, WORDS, tiny_encoder

pytestmark = pytest.mark.usefixtures("quick_compilation")
LABELS = ("calm", "angry")
SMALL = {
    "num_epochs": 1,
    "batch_size": 4,
    "model.hidden": 8,
    "model.graph.layers": 0,
    "model.text.max_tokens": 16,
    "losses.iccl.weight": 0,
    "diagnostics.every": 0,
    "model.text.encoder": "encoder",
    "data.path": "said.csv",
}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with a table of twelve dialogues, and a text encoder."""
    folder, random = tmp_path_factory.mktemp("own"), np.random.default_rng(0)
    lines = ["dialogue,speaker,transcript,label"]
    for n in range(36):
        said = " ".join(random.choice(WORDS[:60], 4))
        lines.append(f"d{n // 3},{('Ann', 'Bob')[n % 2]},{said},{LABELS[random.integers(2)]}")
    (folder / "said.csv").write_text("\n".join(lines) + "\n")
    tiny_encoder(folder / "encoder")
    return folder


@pytest.mark.parametrize(
    ("names", "changes", "width"),
    [
        ("", {"model.text.layers": (-1, -2)}, 2 * WIDTH),
        pytest.param(
            ":words", {"model.text.layers": (-1,), "model.text.train": "last_1"}, WIDTH, marks=pytest.mark.slow
        ),
    ],
)
def test_a_table_of_words_alone_is_learnt(place, monkeypatch, capsys, names, changes, width):
    out = f"run{names.replace(':', '_')}"
    given = [
        OWN + names,
        f"--workdir={out}",
        *(f"--config.{name}={value}" for name, value in (SMALL | changes).items()),
    ]
    status, error = run("experiments.run", given, place, monkeypatch, capsys, trains=True)
    assert not status, error
    assert json.loads((place / out / "corpus.json").read_text())["modalities"] == [{"name": "words", "width": width}]
    assert json.loads((place / out / "results.json").read_text())["test"]["accuracy"]
    model = ariigcn_jax.load(place / out)
    assert model([{"speaker": "Ann", "text": "oh no!"}])[0].emotion in LABELS


@pytest.fixture(autouse=True)
def no_cache(monkeypatch):
    monkeypatch.setenv("ARIIGCN_CACHE", "")


@pytest.fixture(scope="module")
def calls(tmp_path_factory):
    """A folder with eight calls, calls.csv and wav files, and a ninth without labels; its labels."""
    folder = tmp_path_factory.mktemp("calls")
    tiny_encoder(folder / "encoder")
    return folder, sound.write_calls(folder)


SPOKEN = SMALL | {
    "data.path": "calls.csv",
    "model.text.layers": (-1,),
    "num_epochs": 40,
    "eval.epoch": "last",
    "optimizer.lr": 0.03,
    "losses.adversarial.weight": 0,
}


def learn(calls, monkeypatch, capsys, out, **changes):
    """Return the status and standard error of training on the calls."""
    given = [OWN, f"--workdir={out}", *(f"--config.{name}={value}" for name, value in (SPOKEN | changes).items())]
    return run("experiments.run", given, calls[0], monkeypatch, capsys, trains=True)


def test_eight_calls_are_learnt_and_a_ninth_is_answered_in_two_commands(calls, monkeypatch, capsys):
    """The words tell nothing here: what is right comes from the sound, cut out of the recording by the subtitles."""
    heard = sound.stand_in(monkeypatch)
    status, error = learn(calls, monkeypatch, capsys, "run")
    assert not status, error
    about = json.loads((calls[0] / "run" / "corpus.json").read_text())
    name = "audio_egemapsv02"
    assert [m["name"] for m in about["modalities"]] == ["words", name]
    assert about["recipes"][name]["opensmile"] == sound.VERSION
    assert "These scores say little: test has" in (calls[0] / "run" / "results.md").read_text()
    heard.clear()
    answer = ["--run", "run", "call9.srt", "--csv", "emotions.csv"]
    status, error = run("tools.predict", answer, calls[0], monkeypatch, capsys)
    assert not status, error
    assert "note: 4 turns of 2 speakers, words, times and sound\n" in error
    assert {(clip.path, clip.start, clip.end) for clip in heard} >= {("call9.wav", 0.0, 0.25), ("call9.wav", 0.5, 0.75)}
    with (calls[0] / "emotions.csv").open() as file:
        assert [row["emotion"] for row in csv.DictReader(file)] == calls[1]
    stream, answers = ariigcn_jax.load("run").stream(), []
    for n, who in enumerate(("Ann", "Bob", "Ann", "Bob")):
        clip = f"call9.wav#t={n / 2},{n / 2 + 0.25}"
        answers += stream.push({"speaker": who, "text": "oh well", "audio_file": clip})
    assert [one.emotion for one in answers] == calls[1]
    answers = stream.push_all([("Ann", "oh"), {"audio_file": "call9.wav"}])
    assert [one.missing for one in answers] == [(name,), ("words",)]
    with pytest.raises(UserError, match=r"gone\.wav: there is no sound"):
        stream.push({"text": "oh", "audio_file": "gone.wav"})
    with pytest.raises(UserError, match=r"x=1 is not understood"):
        stream.push({"text": "oh", "audio_file": "call9.wav#x=1"})
    other = ["--run", "run", "call9.srt", "--recording", "wav/0_0.wav", "--jsonl", "-"]
    status, error = run("tools.predict", other, calls[0], monkeypatch, capsys)
    assert not status, error
    assert f"{name}: 3 recordings cannot be used and count as missing" in error
    sound.stand_in(monkeypatch, version="2.7.0")
    status, error = run("tools.predict", ["--run", "run", "call9.srt"], calls[0], monkeypatch, capsys)
    assert not status and f"note: {name} was learnt with opensmile 2.6.0; another version is installed" in error
    card = model_card.text(ariigcn_jax.load(calls[0] / "run"), None)
    assert "| audio\\_egemapsv02 | opensmile, model eGeMAPSv02, rate 16000, opensmile 2.6.0 |" in card


def test_without_the_extra_training_goes_on_with_the_words(calls, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "opensmile", None)
    before = contents(calls[0])
    status, error = learn(calls, monkeypatch, capsys, "unheard", **{"data.sound": "eGeMAPSv02"})
    assert status == 1
    assert error.startswith("error: the package `opensmile` is not installed. Install the extra `audio`: pip install")
    assert contents(calls[0]) == before
    monkeypatch.chdir(calls[0])
    config = own.get_config()
    config.update_from_flattened_dict(
        {name: value for name, value in SPOKEN.items() if name.startswith(("data", "model.text"))}
    )
    corpus = session.load(config)
    assert corpus.modalities == ("words",)
    assert "note: audio_egemapsv02 is left out: the package `opensmile` is not installed." in capsys.readouterr().out
    config.data.sound = ""
    assert session.load(config).modalities == ("words",)
    assert "words; its sound is not used" in capsys.readouterr().out


@pytest.mark.parametrize("encoder", ["no/folder/of/it", "said.csv"])
def test_an_encoder_that_is_not_there_is_one_message(place, monkeypatch, capsys, encoder):
    before = contents(place)
    given = [OWN, "--config.data.path=said.csv", f"--config.model.text.encoder={place / encoder}"]
    status, error = run("experiments.run", given, place, monkeypatch, capsys)
    assert status == 1
    assert error == f"error: {place / encoder}: there is no such folder of a text encoder.\n"
    assert contents(place) == before


@pytest.mark.parametrize(
    ("field", "problem"),
    [
        ("transcript", "error: Words need a text encoder: --config.model.text.encoder=FOLDER, or a name on the hub."),
        ("said", "made of it; add it, or give the features `words` another name."),
    ],
)
def test_words_without_an_encoder_or_without_transcripts_are_one_message(
    place, tmp_path, monkeypatch, capsys, field, problem
):
    columns = {"dialogue_id": np.repeat(list("abcdef"), 2), "speaker": ["A", "B"] * 6, "label": [0, 1] * 6}
    np.savez(tmp_path / "c.npz", words=np.ones((12, 3), np.float32), **columns, **{field: ["oh no"] * 12})
    given = [OWN, "--config.data.path=c.npz", "--config.data.modalities=('words',)", "--config.model.text.encoder="]
    status, error = run("experiments.run", given, tmp_path, monkeypatch, capsys)
    assert status == 1 and problem in error and error.count("\n") == 1
