"""The project's own format: what is written comes back, stays on disk, is whole, and is held against its schema."""

import csv
import dataclasses
import hashlib
import json
import os

import numpy as np
import pytest

from ariigcn_jax import data as corpus
from ariigcn_jax.data.readers import folder
from ariigcn_jax.types import UNLABELED, UserError
from tests.support.layout_files import conversations


@pytest.fixture
def source():
    """With gaps, utterances without a label, and words that are hard for a table."""
    made = conversations(missing=0.2, seed=3)
    label = made.label.copy()
    label[[1, 4]] = UNLABELED
    transcript = made.transcript.astype(object)
    transcript[:4] = ["", 'a "quoted", line\nbroken', "\r\n\ttabs", "größer 你好 😀 Ã©"]
    return dataclasses.replace(made, label=label, transcript=transcript, notes=("said before",))


@pytest.fixture
def written(source, tmp_path):
    return folder.write(source, tmp_path / "made")


def refused(path, **options):
    with pytest.raises(UserError) as caught:
        corpus.load(path, **options)
    return str(caught.value)


def edit(written, **changes):
    path = written / "schema.json"
    schema = json.loads(path.read_text()) | changes
    path.write_text(json.dumps({k: v for k, v in schema.items() if v is not None}))


def assert_same(one, other):
    assert one.name == other.name and one.label_names == other.label_names
    assert one.dialogue_ids == other.dialogue_ids and one.utterance_ids == other.utterance_ids
    for field in ("dialogue", "speaker", "label", "split", "speaker_names"):
        np.testing.assert_array_equal(getattr(one, field), getattr(other, field))
    assert one.transcript.tolist() == other.transcript.tolist()
    assert one.modalities == other.modalities
    for modality in other.modalities:
        np.testing.assert_array_equal(one.features[modality], other.features[modality])
        np.testing.assert_array_equal(one.present[modality], other.present[modality])


def test_round_trip(source, written, tmp_path):
    back = corpus.load(written)
    assert_same(back, source)
    assert back.notes[0] == "said before"
    assert_same(corpus.load(folder.write(back, tmp_path / "again")), source)


def test_features_stay_on_disk(written):
    back = corpus.load(written)
    for rows in back.features.values():
        assert isinstance(rows, np.memmap) and rows.dtype == np.float32 and not rows.flags.writeable


def test_what_is_on_disk(source, written):
    schema = json.loads((written / "schema.json").read_text())
    assert (schema["format"], schema["version"], schema["utterances"]) == ("ariigcn-corpus", 1, len(source))
    assert schema["modalities"]["audio"] == {"file": "audio.npy", "width": 4}
    digest = hashlib.sha256((written / "audio.npy").read_bytes()).hexdigest()
    assert schema["checksums"]["audio.npy"] == f"sha256:{digest}"
    np.testing.assert_array_equal(np.load(written / "audio.npy", allow_pickle=False), source.features["audio"])
    with (written / "utterances.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert rows[1]["label"] == "" and rows[0]["label"] == source.label_names[source.label[0]]
    assert [r["audio_present"] for r in rows] == ["true" if p else "false" for p in source.present["audio"]]


def test_written_by_another_language(tmp_path):
    """As little as the format asks for, rows out of order, without numpy's writer."""
    import struct

    (tmp_path / "text.npy").write_bytes(
        b"\x93NUMPY\x01\x00" + struct.pack("<H", 118)
        + b"{'descr': '<f8', 'fortran_order': False, 'shape': (4, 2), }".ljust(117) + b"\n"
        + struct.pack("<8d", *range(1, 9))
    )  # fmt: skip
    lines = [
        {"dialogue_id": "b", "turn": 1, "label": "happy", "split": "test"},
        {"dialogue_id": "a", "turn": 2.5, "label": None, "split": "train"},
        {"dialogue_id": "b", "turn": 0, "label": "sad", "split": "test"},
        {"dialogue_id": "a", "turn": 1, "label": "sad", "split": "train"},
    ]
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, lines)))
    schema = dict(
        format="ariigcn-corpus",
        version=1,
        utterances=4,
        table="rows.jsonl",
        targets={"label": {"classes": ["sad", "happy"]}},
        modalities={"text": {"file": "text.npy", "width": 2}},
    )
    (tmp_path / "schema.json").write_text(json.dumps(schema))  # fmt: skip
    back = corpus.load(tmp_path)
    assert back.dialogue_ids == ("b", "a")
    assert back.label.tolist() == [0, 1, 0, UNLABELED]
    assert back.features["text"].tolist() == [[5, 6], [1, 2], [7, 8], [3, 4]]
    assert back.name == tmp_path.name
    assert any("no checksums" in note for note in back.notes)


def test_several_targets(source, tmp_path):
    mood = np.where(np.arange(len(source)) % 3 == 2, UNLABELED, np.arange(len(source)) % 2)
    written = folder.write(source, tmp_path / "made", targets={"mood": (mood, ("low", "high"))})
    back = corpus.load(written, label="mood")
    assert back.label_names == ("low", "high") and back.label.tolist() == mood.tolist()
    assert_same(corpus.load(written), source)


@pytest.mark.parametrize("file", ["text.npy", "utterances.csv"])
def test_damage_is_seen(written, file):
    data = bytearray((written / file).read_bytes())
    data[-3] ^= 1
    (written / file).write_bytes(data)
    assert f"{file}: it is not the file that schema.json was written for" in refused(written)


def test_damage_without_checksums_is_seen_where_it_can_be(written):
    edit(written, checksums=None)
    (written / "text.npy").write_bytes((written / "text.npy").read_bytes()[:-4])
    assert "needs more bytes than the file has" in refused(written)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (dict(format="other"), "this folder is something else"),
        (dict(version=2), "version 2 of the format; this release reads up to 1"),
        (dict(version="1"), '"version" is "1"'),
        (dict(utterances=0), '"utterances" is 0'),
        (dict(utterances=7), "rows, but schema.json says 7"),
        (dict(table="../x.csv"), '"table" is "../x.csv"'),
        (dict(targets={"label": {"classes": ["a", "a"]}}), '"targets" is'),
        (dict(targets={"label": {"classes": ["a"]}}), "which schema.json does not list"),
        (dict(targets={"mood": {"classes": ["a"]}}), "is a target of schema.json and no column"),
        (dict(modalities={}), '"modalities" is {}'),
        (dict(modalities={"text": {"file": "/etc/x.npy", "width": 6}}), '"modalities" is'),
        (dict(modalities={"text": {"file": "text.npy", "width": 7}}), "schema.json says floats"),
        (dict(checksums={"text.npy": "md5:1"}), '"checksums" is'),
        (dict(notes="x"), '"notes" is "x"'),
    ],
)  # fmt: skip
def test_schema_that_does_not_fit(written, change, words):
    edit(written, **change)
    assert words in refused(written)


def test_file_that_is_not_there(written):
    os.remove(written / "audio.npy")
    assert "audio.npy: cannot be read: No such file" in refused(written)


def test_nothing_is_written_over(written, source, tmp_path):
    with pytest.raises(UserError, match="a corpus is there already"):
        folder.write(source, written)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("years")
    with pytest.raises(UserError, match="something else is there already"):
        folder.write(source, tmp_path / "mine", overwrite=True)
    assert (tmp_path / "mine" / "thesis.tex").read_text() == "years"


def test_overwriting_replaces_all_of_it(written, source):
    folder.write(dataclasses.replace(source, features={"text": source.features["text"]},
                                     present={"text": source.present["text"]}), written, overwrite=True)  # fmt: skip
    assert sorted(p.name for p in written.iterdir()) == ["schema.json", "text.npy", "utterances.csv"]
    assert [p.name for p in written.parent.iterdir()] == [written.name]


def test_interrupted_writing_leaves_nothing_and_loses_nothing(written, source, tmp_path, monkeypatch):
    before = {p.name: p.read_bytes() for p in written.iterdir()}

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "save", full)
    for place in (written, tmp_path / "new"):
        with pytest.raises(UserError, match="No space left on device"):
            folder.write(source, place, overwrite=True)
    assert {p.name: p.read_bytes() for p in written.iterdir()} == before
    assert [p.name for p in tmp_path.iterdir()] == [written.name]


def test_names_that_are_no_file_names(source, tmp_path):
    features = {"text/a": source.features["text"], "text a": source.features["audio"]}
    made = dataclasses.replace(source, features=features, present={m: source.present["text"] for m in features})
    written = folder.write(made, tmp_path / "made")
    schema = json.loads((written / "schema.json").read_text())
    assert len({entry["file"] for entry in schema["modalities"].values()}) == 2
    assert set(corpus.load(written, modalities=tuple(features)).widths.values()) == {6, 4}
