"""Finding a corpus, what is said where there is none, and checksums that tell one corpus from another."""

import ast
import dataclasses
import pathlib
import re
import sys
import textwrap

import numpy as np
import pytest

from ariigcn_jax import data as corpus
from ariigcn_jax.data import find
from ariigcn_jax.types import UserError
from tests.support import builders


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    """A working directory without data, and no environment variable."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.delenv("ARIIGCN_DATA", raising=False)


@pytest.fixture
def make():
    def write(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        ids, split = ["a", "a", "b", "c"], ["train", "train", "valid", "test"]
        np.savez(path, dialogue_id=ids, label=[0, 1, 0, 1], split=split, text=np.arange(8.0).reshape(4, 2) + 1)
        return path

    return write


def refused(*arguments, **keywords):
    with pytest.raises(UserError) as caught:
        corpus.locate(*arguments, **keywords)
    return str(caught.value)


def test_explicit_path(tmp_path, make):
    path = make(tmp_path / "a.npz")
    assert corpus.locate(path, "other") == path
    assert corpus.locate(str(path)) == path


def test_explicit_path_of_the_home_folder(tmp_path, make, monkeypatch):
    path = make(tmp_path / "a.npz")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert corpus.locate("~/a.npz") == path


def test_working_directory_before_variable(tmp_path, make, monkeypatch):
    monkeypatch.setenv("ARIIGCN_DATA", str(make(tmp_path / "store" / "toy.npz").parent))
    assert corpus.locate(None, "toy") == tmp_path / "store" / "toy.npz"
    make(tmp_path / "here" / "data" / "toy.npz")
    assert corpus.locate("", "toy").resolve() == tmp_path / "here" / "data" / "toy.npz"


@pytest.mark.parametrize("inside", ["toy.npz", "toy/toy.npz"])
def test_variable_names_a_folder(tmp_path, make, monkeypatch, inside):
    path = make(tmp_path / "store" / inside)
    monkeypatch.setenv("ARIIGCN_DATA", str(tmp_path / "store"))
    assert corpus.locate(None, "toy") == path


def test_variable_names_a_file(tmp_path, make, monkeypatch):
    path = make(tmp_path / "other.npz")
    monkeypatch.setenv("ARIIGCN_DATA", str(path))
    assert corpus.locate(None, "toy") == path


def test_nothing_anywhere_says_all_there_is_to_do(tmp_path):
    message = refused(None, "toy")
    assert f"data/toy.npz in {tmp_path / 'here'}" in message
    assert "$ARIIGCN_DATA is not set: it may name a file, or a folder with toy.npz or toy/toy.npz" in message
    for field in ("dialogue_id", "label", "label_names", "split", "turn", "speaker", "utterance_id", "transcript"):
        assert re.search(rf"^  .*\b{field}\b", message, re.MULTILINE), field
    assert "may not be redistributed" in message and "under its licence" in message
    assert "python -m experiments.run --config=experiments/synthetic.py" in message


def test_variable_without_the_corpus(tmp_path, monkeypatch):
    monkeypatch.setenv("ARIIGCN_DATA", str(tmp_path / "here"))
    message = refused(None, "toy")
    assert f"{tmp_path}/here/toy.npz\n  {tmp_path}/here/toy/toy.npz\n  (by $ARIIGCN_DATA)" in message


def test_variable_that_leads_nowhere(tmp_path, monkeypatch):
    monkeypatch.setenv("ARIIGCN_DATA", str(tmp_path / "gone"))
    assert "$ARIIGCN_DATA is" in (message := refused(None, "toy")) and "does not exist" in message


def test_neither_path_nor_name():
    assert "No corpus is named" in refused(None)


def test_example_in_the_message_works():
    code = textwrap.dedent(re.search(r"\n\n((?:    .*\n){5})\n", refused(None, "toy")).group(1))
    exec(code, {})
    loaded = corpus.load("mine.npz")
    assert (loaded.widths, loaded.label_names, loaded.notes[1:]) == ({"text": 16}, ("sad", "happy"), ())


def test_explicit_path_that_is_not_there(tmp_path, make):
    make(tmp_path / "here" / "iemocap.npz")
    message = refused("iemocpa.npz")
    assert message.startswith(
        f"iemocpa.npz: there is no such file (looked in {tmp_path / 'here'}); did you mean iemocap.npz"
    )
    assert "dialogue_id" in message
    assert "the folder gone is not there or not readable" in refused("gone/iemocap.npz")


def test_path_that_cannot_be_looked_at():
    assert refused("a" * 400).endswith("cannot be looked at: File name too long.")
    assert refused("a\0b").endswith("cannot be looked at: embedded null byte.")


def test_load_finds_by_name(tmp_path, make):
    make(tmp_path / "here" / "data" / "toy.npz")
    loaded = corpus.load(None, name="toy")
    assert (loaded.name, len(loaded)) == ("toy", 4)
    assert corpus.load("data/toy.npz").name == "toy"
    assert corpus.load("data/toy.npz", name="other").name == "other"


def test_load_standardises_on_request(tmp_path, make):
    path = make(tmp_path / "toy.npz")
    np.testing.assert_array_equal(corpus.load(path).features["text"][:2], [[1, 2], [3, 4]])
    np.testing.assert_allclose(corpus.load(path, standardise=True).features["text"][:2], [[-1, -1], [1, 1]])


def test_load_passes_its_options_on(tmp_path, make):
    path = make(tmp_path / "toy.npz")
    with pytest.raises(UserError, match="`emotion`"):
        corpus.load(path, label="emotion")
    with pytest.raises(UserError, match="`audio`"):
        corpus.load(path, modalities=("audio",))
    text = np.ones((40, 2))
    np.savez(path, dialogue_id=np.arange(40), label=np.arange(40) % 2, text=text)
    split = corpus.load(path, valid_fraction=0.25, test_fraction=0.5).split
    assert [int((split == name).sum()) for name in ("train", "valid", "test")] == [15, 5, 20]
    assert [int((corpus.load(path).split == name).sum()) for name in ("valid", "test")] == [3, 8]


def test_package_imports_nothing_slow():
    """At the top of its modules; `traced` is for exported models, and nothing in the package imports it."""
    found = set()
    files = set(pathlib.Path(corpus.__file__).parent.rglob("*.py"))
    for path in {path for path in files if path.name != "traced.py"}:
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.Import | ast.ImportFrom):
                found |= {a.name for a in node.names} if isinstance(node, ast.Import) else {node.module}
    assert "ariigcn_jax.data.traced" not in found
    ours = {"ariigcn_jax", "ariigcn_jax.data", "ariigcn_jax.extras", "ariigcn_jax.files", "ariigcn_jax.types"}
    assert {m for m in found if not m.startswith("ariigcn_jax.data.")} - {"collections.abc"} <= ours | {
        "numpy"
    } | sys.stdlib_module_names


CORPUS = dataclasses.replace(builders.corpus([3, 5], missing=0.2), ratings=np.zeros((8, 2), np.float32))


def changed(part):
    """The corpus with one element of a part changed."""
    name, _, modality = part.partition(" of ")
    field = {"features": "features", "presence": "present"}.get(name, name)
    old = getattr(CORPUS, field)
    array = np.array(old[modality] if modality else old)
    first = array.reshape(-1)
    first[-1] = "test" if part == "split" else ~first[-1] if array.dtype == bool else first[-1] + 1
    return dataclasses.replace(CORPUS, **{field: {**old, modality: array} if modality else array})


@pytest.mark.parametrize("part", list(find.digest(CORPUS)))
def test_a_change_shows_in_its_part_alone(part):
    before, after = find.digest(CORPUS), find.digest(changed(part))
    assert [name for name in before if before[name] != after[name]] == [part]


def test_every_part_counts():
    assert set(find.digest(CORPUS)) == {
        "features of text", "features of audio", "presence of text", "presence of audio",
        "dialogue", "speaker", "label", "split", "ratings",
    }  # fmt: skip
    scores = dataclasses.replace(
        CORPUS, task="regression", target=np.zeros((8, 1), np.float32), target_names=("score",)
    )
    assert "target" in find.digest(scores)
    assert "fold" in find.digest(dataclasses.replace(CORPUS, fold=np.zeros(8, np.int32)))


def test_chunks_and_memory_maps_change_nothing(monkeypatch, tmp_path):
    before = find.digest(CORPUS)
    monkeypatch.setattr(find, "CHUNK_BYTES", 30)
    np.save(tmp_path / "text.npy", CORPUS.features["text"].astype(np.float32))
    mapped = {**CORPUS.features, "text": np.load(tmp_path / "text.npy", mmap_mode="r")}
    assert find.digest(dataclasses.replace(CORPUS, features=mapped)) == before
    shape = CORPUS.features["text"].shape
    reshaped = {**CORPUS.features, "text": np.asarray(CORPUS.features["text"]).reshape(shape[0] * 3, 1)}
    assert find.digest(dataclasses.replace(CORPUS, features=reshaped)) != before
