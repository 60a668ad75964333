"""A table of what was said, without any features, is learnt by the command line alone."""

import json

import numpy as np
import pytest

import ariigcn_jax
from tests.messages_test import OWN, contents, run
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
