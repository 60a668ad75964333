"""Every layout is recognised by its content and read to the same corpus; what is of none is described."""

import json
import pickle
import re
import zipfile

import numpy as np
import pytest

from ariigcn_jax import data as corpus
from ariigcn_jax.data.fields import Fields
from ariigcn_jax.data.readers import layouts
from ariigcn_jax.data.readers.dialogue_tuples import LAYOUTS
from ariigcn_jax.types import UserError
from tests.support.layout_files import WIDTHS, conversations, dump, every_layout, tuple_elements

NAMES = [*LAYOUTS, "Python 2", "MMSA", "MERBench npz", "MERBench csv", "csv", "wide csv", "csv in UTF-16", "tsv"]
NAMES += ["json", "jsonl", "json dialogues", "tables by split", "npz", "own format"]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return every_layout(tmp_path_factory.mktemp("layouts"))


def test_all_are_here(made):
    assert list(made) == NAMES


def original(name):
    return conversations(classes=3 if name == "MMSA" else 7 if "MELD" in name or name == "MERBench npz" else 6)


@pytest.mark.parametrize("name", NAMES)
def test_same_utterances_labels_and_features(made, name):
    read, source = corpus.load(made[name]), original(name)
    assert len(read) == len(source)
    place = {words: u for u, words in enumerate(source.transcript.tolist())}
    rows = [place[words] for words in read.transcript.tolist()]
    np.testing.assert_array_equal(read.label, source.label[rows])
    kinds = {m.split("_")[0]: m for m in read.modalities}
    assert {"vision": "visual"}.get(next(reversed(kinds)), next(reversed(kinds))) in ("visual", "audio", "text")
    for kind, modality in kinds.items():
        kind = {"vision": "visual"}.get(kind, kind)
        factor = 2.5 if "text_layer1" in LAYOUTS.get(name, ()) and kind == "text" else 1  # the mean of 1, 2, 3 and 4
        expected = factor * source.features[kind][rows]
        np.testing.assert_allclose(read.features[modality], expected, rtol=2e-5, atol=1e-6)
        assert read.present[modality].all()


@pytest.mark.parametrize("name", NAMES)
def test_dialogues_turns_and_splits(made, name):
    read, source = corpus.load(made[name]), original(name)
    place = {words: u for u, words in enumerate(source.transcript.tolist())}
    rows = np.array([place[words] for words in read.transcript.tolist()])
    for d in range(len(read.dialogue_ids)):
        inside = rows[read.dialogue == d]
        assert (np.diff(inside) == 1).all()
        assert (source.dialogue == source.dialogue[inside[0]]).sum() == len(inside)
    carved = (name in LAYOUTS and "valid" not in LAYOUTS[name]) or name == "Python 2"
    expected = source.split[rows]
    if carved:
        assert set(read.split[expected == "valid"]) <= {"train", "valid"}
        np.testing.assert_array_equal(read.split == "test", expected == "test")
        assert len(set(read.dialogue[read.split == "valid"])) == 1  # a tenth of 10, rounded down
    else:
        np.testing.assert_array_equal(read.split, expected)


@pytest.mark.parametrize("name", [n for n in NAMES if n not in ("MMSA", "MERBench npz", "MERBench csv")])
def test_speakers(made, name):
    read, source = corpus.load(made[name]), original(name)
    place = {words: u for u, words in enumerate(source.transcript.tolist())}
    rows = [place[words] for words in read.transcript.tolist()]
    np.testing.assert_array_equal(read.speaker, source.speaker[rows])


@pytest.mark.parametrize("name", NAMES)
def test_the_name_of_the_file_says_nothing(made, name, tmp_path):
    if made[name].is_dir():
        pytest.skip("a folder")
    other = tmp_path / "some.data"
    other.write_bytes(made[name].read_bytes())
    first, second = corpus.load(made[name]), corpus.load(other)
    np.testing.assert_array_equal(first.label, second.label)
    assert (first.notes, first.label_names) == (second.notes, second.label_names)


def test_reads_twice_the_same(made):
    for path in made.values():
        one, two = corpus.load(path), corpus.load(path)
        assert one.utterance_ids == two.utterance_ids
        np.testing.assert_array_equal(one.split, two.split)


def test_a_layout_from_outside_is_one_entry(tmp_path, monkeypatch):
    def read(source):
        rows = [line.split("~") for line in source.path.read_text().splitlines()[1:]]
        names, vectors = [row[0] for row in rows], [[float(x) for x in row[2:]] for row in rows]
        label = [int(row[1]) for row in rows]
        arrays = dict(dialogue_id=names, label=label, text=vectors)
        return Fields(source.path, {name: np.array(values) for name, values in arrays.items()})

    (tmp_path / "toy.txt").write_text("TOY\na~0~1~2\na~1~3~4\nb~0~5~6\n")
    assert "no comma, tab, semicolon" in refused(tmp_path / "toy.txt")
    toy = layouts.Layout("toys: lines with ~ between", lambda source: source.start.startswith(b"TOY\n"), read)
    monkeypatch.setitem(layouts.READERS, "toy", toy)
    made = corpus.load(tmp_path / "toy.txt", valid_fraction=0, test_fraction=0)
    assert made.features["text"].tolist() == [[1, 2], [3, 4], [5, 6]] and made.dialogue_ids == ("a", "b")
    (tmp_path / "x").write_bytes(b"BZh" + b"\0" * 100)
    assert "toys: lines with ~ between" in refused(tmp_path / "x")


# What is not known


def refused(path):
    with pytest.raises(UserError) as caught:
        corpus.load(path)
    return str(caught.value)


def test_unknown_pickle_is_described(tmp_path):
    data = {"vectors": {"a": [[1, 2, 3]] * 5}, "matrix": np.ones((4, 300), np.float32), "words": ["a"] * 7}
    message = refused(dump(tmp_path / "x.pkl", data))
    assert "a pickle of no layout that is known" in message
    for words in (
        "a dictionary of 3",
        "'vectors'",
        "list of 5 of list of 3 of int",
        "float32 array [4, 300]",
        "list of 7",
    ):
        assert words in message, words
    assert "To convert" in message and "numpy.savez" in message


def test_tuple_of_another_order_is_described(tmp_path):
    elements = tuple_elements(conversations(dialogues=20), "IEMOCAP", ("text", "label", "train", "ids"))
    message = refused(dump(tmp_path / "x.pkl", elements))
    assert "a tuple of 4" in message
    assert re.search(r"0: dictionary of 20, such as 'Ses0\w+': list of \d of float64 array \[6\]", message)


@pytest.mark.parametrize(
    ("start", "words"),
    [
        (b"\x89HDF\r\n", "an HDF5 file"),
        (b"\x1f\x8b\x08", "compressed by gzip"),
        (b"\x93NUMPY\x01\x00", "a single .npy array"),
        (b"MATLAB 5.0", "MATLAB"),
        (b"\x01\x02\x00\x03", "a binary file"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1", "an Excel or other Office file"),
        (b"x" * 257 + b"ustar", "a tar archive"),
        (b'\x20\0\0\0\0\0\0\0{"text":', "a safetensors file"),
        (b"<!DOCTYPE html><html>", "a web page"),
        (b"version https://git-lfs.github.com/spec/v1\n", "a Git LFS pointer"),
        (pickle.dumps(0x1950A86A20F9469CFC6C, 2), "a PyTorch file"),
    ],
)
def test_other_files_are_named(tmp_path, start, words):
    (tmp_path / "x").write_bytes(start + b"\0" * 100)
    message = refused(tmp_path / "x")
    assert words in message and "pickles of DialogueRNN" in message


@pytest.mark.parametrize(
    ("member", "words"),
    [
        ("xl/workbook.xml", "an Excel workbook; save the sheet as CSV UTF-8"),
        ("word/document.xml", "an Office document"),
        ("archive/data.pkl", "a PyTorch file"),
        ("features/IEMOCAP.pkl", "a zip archive of `features/IEMOCAP.pkl`; unpack it first"),
    ],
)
def test_archives_are_named(tmp_path, member, words):
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        archive.writestr(member, b"x")
    message = refused(tmp_path / "x.zip")
    assert words in message and "pickles of DialogueRNN" in message


def test_what_a_damaged_file_says_is_cut_short(tmp_path):
    np.savez(tmp_path / "x.npz", a=np.arange(5000), b=np.arange(5000))
    data = bytearray((tmp_path / "x.npz").read_bytes())
    place = data.index(b"a.npy") - 4  # how long the name is: the rest of the file becomes it, in zipfile's message
    data[place : place + 2] = b"\xff\x7f"
    (tmp_path / "x.npz").write_bytes(data)
    assert "truncated or damaged" in refused(tmp_path / "x.npz") and len(refused(tmp_path / "x.npz")) < 600

    name = "d" * 10_000
    elements = [dict(part) if isinstance(part, dict) else list(part) for part in
                tuple_elements(conversations(), "IEMOCAP", next(iter(LAYOUTS.values())))]  # fmt: skip
    for part in elements[:7]:
        part[name] = part.pop(elements[7][0])
    elements[7][0], elements[5][name] = name, elements[5][name][1:]
    assert "has" in refused(dump(tmp_path / "x.pkl", tuple(elements))) and len(refused(tmp_path / "x.pkl")) < 600


def test_folder_of_no_layout_says_what_it_holds(tmp_path):
    (tmp_path / "notes.txt").write_text("x")
    (tmp_path / "wav").mkdir()
    message = refused(tmp_path)
    assert "`notes.txt`, `wav/`" in message and "folders of MERBench" in message and "tools.features" not in message
    (tmp_path / "a.wav").touch()
    assert "Features are extracted from sound and video by python -m tools.features" in refused(tmp_path)


def test_empty_file(tmp_path):
    (tmp_path / "x.pkl").touch()
    assert "the file is empty" in refused(tmp_path / "x.pkl")


def test_table_without_features_says_where_they_come_from(tmp_path):
    (tmp_path / "meld.csv").write_text("Dialogue_ID,Utterance_ID,Speaker,Utterance,Emotion\n0,0,Joey,hi,joy\n")
    message = refused(tmp_path / "meld.csv")
    assert "no features" in message and "python -m tools.features" in message


def test_hostile_pickle_does_not_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    class Hostile:
        def __reduce__(self):
            return (open, ("HACKED", "w"))

    path = dump(tmp_path / "x.pkl", {"train": Hostile()})
    assert "`io.open`" in refused(path) or "`_io.open`" in refused(path)
    assert not (tmp_path / "HACKED").exists()


def test_repeated_arrays_do_not_fill_the_memory(tmp_path):
    row = np.ones(200_000)
    ids = [f"d{i}" for i in range(2000)]
    shared = [row] * 5
    elements = [dict.fromkeys(ids, ["a"] * 5), dict.fromkeys(ids, [1] * 5), *[dict.fromkeys(ids, shared)] * 4,
                dict.fromkeys(ids, ["w"] * 5), ids[:1000], ids[1000:], []]  # fmt: skip
    message = refused(dump(tmp_path / "x.pkl", tuple(elements)))
    assert "would take 192.0 GB" in message and "repeated over and over" in message


def test_description_does_not_grow_with_the_file():
    deep = {}
    for _ in range(200):
        deep = {"inner": deep, "more": [deep] * 3}
    assert len(layouts.describe(deep)) < 1000
    assert len(layouts.describe({str(i) * 100: [i] for i in range(10_000)})) < 2000
    assert len(layouts.describe([list(range(100))] * 10_000)) < 2000
    assert len(layouts.describe([{f"{i}": {f"{j}": [[[3]]] for j in range(12)} for i in range(12)}] * 16)) < 4000


def test_json_that_is_too_deep(tmp_path):
    (tmp_path / "x.json").write_text("[" * 100_000)
    assert "truncated or damaged" in refused(tmp_path / "x.json")
    (tmp_path / "y.json").write_text(json.dumps({"a": 1}))
    assert "x.json" not in refused(tmp_path / "y.json")


def test_pickle_within_a_protocol_0_file_without_suffix(tmp_path):
    path = tmp_path / "IEMOCAP"
    path.write_bytes(pickle.dumps(tuple_elements(conversations(), "IEMOCAP", next(iter(LAYOUTS.values()))), 0))
    assert corpus.load(path).widths == WIDTHS


def test_compact_json_is_not_taken_for_another_file(tmp_path):
    (tmp_path / "x").write_text('{"dia1":{"utterances":[]}}')
    assert "safetensors" not in refused(tmp_path / "x")
