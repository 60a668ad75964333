"""Parquet and Arrow files and the folders of Hugging Face: read as the same rows in JSON are, or refused in words."""

import json
import sys

import numpy as np
import pytest

from ariigcn_jax import data as corpus
from ariigcn_jax.data.readers import layouts
from ariigcn_jax.types import UNLABELED, UserError
from tests.support.layout_files import conversations, records

pa = pytest.importorskip("pyarrow", reason="pyarrow is not installed")
feather = pytest.importorskip("pyarrow.feather")
parquet = pytest.importorskip("pyarrow.parquet")

SPLITS = ("train", "valid", "test")


@pytest.fixture(scope="module")
def rows():
    return records(conversations())


def stream(table, path):
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_stream(file, table.schema) as writer:
        writer.write_table(table)


def assert_same(one, other):
    assert one.label_names == other.label_names and one.dialogue_ids == other.dialogue_ids
    assert one.utterance_ids == other.utterance_ids and one.transcript.tolist() == other.transcript.tolist()
    for field in ("label", "split", "speaker_names", "dialogue"):
        np.testing.assert_array_equal(getattr(one, field), getattr(other, field))
    for modality in other.modalities:
        np.testing.assert_array_equal(one.features[modality], other.features[modality])


@pytest.mark.parametrize("write", [parquet.write_table, feather.write_feather, stream])
def test_rows_are_those_of_json(rows, tmp_path, write):
    (tmp_path / "x.json").write_text(json.dumps(rows))
    write(pa.Table.from_pylist(rows), tmp_path / "some.data")
    read = corpus.load(tmp_path / "some.data")
    assert_same(read, corpus.load(tmp_path / "x.json"))
    assert read.notes == (f"read as a table of {len(rows)} rows",)


@pytest.mark.parametrize("place", [".", "data"])
def test_shards_of_each_split(rows, tmp_path, place):
    (tmp_path / place).mkdir(exist_ok=True)
    for split, name in zip(SPLITS, ("train", "validation", "test"), strict=True):
        table = pa.Table.from_pylist([row for row in rows if row["Split"] == split]).drop_columns("Split")
        for shard in range(2):
            half = table.slice(shard * 5, 5 if not shard else None)
            parquet.write_table(half, tmp_path / place / f"{name}-0000{shard}-of-00002.parquet")
    read = corpus.load(tmp_path)
    assert sorted(read.transcript.tolist()) == sorted(row["Utterance"] for row in rows)
    splits = {row["Utterance"]: row["Split"] for row in rows}
    assert read.split.tolist() == [splits[words] for words in read.transcript.tolist()]


def saved(folder, table):
    """What `datasets.Dataset.save_to_disk` writes, as far as it is read, and a leftover of its cache."""
    folder.mkdir(parents=True)
    for shard in range(2):
        stream(table.slice(5 * shard, 5 if not shard else None), folder / f"data-0000{shard}-of-00002.arrow")
    stream(table, folder / "cache-1b2c.arrow")
    for name in ("state.json", "dataset_info.json"):
        (folder / name).write_text("{}")


def test_saved_data_sets(rows, tmp_path):
    saved(tmp_path / "one", pa.Table.from_pylist(rows))
    (tmp_path / "x.json").write_text(json.dumps(rows))
    assert_same(corpus.load(tmp_path / "one"), corpus.load(tmp_path / "x.json"))
    for split, name in zip(SPLITS, ("train", "validation", "test"), strict=True):
        chosen = [row for row in rows if row["Split"] == split]
        saved(tmp_path / "all" / name, pa.Table.from_pylist(chosen).drop_columns("Split"))
    (tmp_path / "all" / "dataset_dict.json").write_text(json.dumps({"splits": ["train", "validation", "test"]}))
    read = corpus.load(tmp_path / "all")
    splits = {row["Utterance"]: row["Split"] for row in rows}
    assert read.split.tolist() == [splits[words] for words in read.transcript.tolist()] and len(read) == len(rows)


def test_values_that_only_arrow_has(tmp_path):
    """Classes by number, nulls, ids as text and numbers, recordings."""
    columns = {
        "dialogue_id": pa.array(["007", "007", "08"]),
        "id": pa.array([10**17 + 1, None, 3], pa.int64()),
        "label": pa.array([1, 0, None], pa.int64()),
        "text": pa.array([[1, 2], None, [3, 4]], pa.list_(pa.float32(), 2)),
        "audio_x": pa.array([[[1.0, 3.0], [3.0, 5.0]], [[0.5, 0.5]], None], pa.list_(pa.list_(pa.float64()))),
        "video": pa.array([b"\0", b"\1", None], pa.binary()),
        "audio": pa.array([{"bytes": b"\0", "path": "a.wav"}] * 3),
    }
    about = {"info": {"features": {"label": {"names": ["sad", "happy"], "_type": "ClassLabel"}}}}
    table = pa.table(columns).replace_schema_metadata({"huggingface": json.dumps(about)})
    parquet.write_table(table, tmp_path / "x.parquet")
    read = corpus.load(tmp_path / "x.parquet", valid_fraction=0, test_fraction=0)
    assert read.dialogue_ids == ("007", "08") and read.utterance_ids == ("100000000000000001", "", "3")
    assert [read.label_names[label] for label in read.label[:2]] == ["happy", "sad"] and read.label[2] == UNLABELED
    assert read.features["text"].tolist() == [[1, 2], [0, 0], [3, 4]]
    assert read.features["audio_x"].tolist() == [[2, 4], [0.5, 0.5], [0, 0]]
    assert read.modalities == ("text", "audio_x")


CLASSES = {"names": ["sad", "happy"], "_type": "ClassLabel"}


@pytest.mark.parametrize(
    "described", [{"feature": CLASSES, "_type": "Sequence"}, {"feature": CLASSES, "_type": "List"}]
)
def test_rows_that_are_dialogues_with_lists(tmp_path, described):
    columns = {
        "dialog": pa.array([["hi", "hey", "so"], ["no"]], pa.large_list(pa.large_string())),
        "act": pa.array([[1, 2, 1], [1]]),
        "emotion": pa.array([[0, 1, 1], [0]], pa.list_(pa.int64())),
        "text": pa.array([[[1, 2], [3, 4], [5, 6]], [[7, 8]]], pa.list_(pa.list_(pa.float32()))),
    }
    about = json.dumps({"info": {"features": {"emotion": described}}})
    for split in ("train", "test"):
        table = pa.table(columns).replace_schema_metadata({"huggingface": about})
        for shard in range(2):
            parquet.write_table(table, tmp_path / f"{split}-0000{shard}-of-00002.parquet")
    read = corpus.load(tmp_path, valid_fraction=0)
    assert len(read) == 16 and len(read.dialogue_ids) == 8
    assert read.transcript[:4].tolist() == ["hi", "hey", "so", "no"]
    assert [read.label_names[label] for label in read.label[:4]] == ["sad", "happy", "happy", "sad"]
    assert read.features["text"][:4].tolist() == [[1, 2], [3, 4], [5, 6], [7, 8]]


def test_rows_that_are_dialogues_of_objects_or_hold_words(tmp_path):
    turns = [[{"speaker": "AB"[t], "utterance": f"{d} {t}", "label": "xy"[t], "text": [d, t + 1.0]} for t in range(2)]
             for d in range(3)]  # fmt: skip
    parquet.write_table(pa.table({"id": ["a", "b", "c"], "turns": turns}), tmp_path / "x.parquet")
    read = corpus.load(tmp_path / "x.parquet", valid_fraction=0, test_fraction=0)
    assert read.dialogue_ids == ("a", "b", "c") and read.transcript[:3].tolist() == ["0 0", "0 1", "1 0"]
    flat = [row | {"dialogue_id": "a", "tokens": ["so", "what"]} for turn in turns for row in turn]
    parquet.write_table(pa.Table.from_pylist(flat), tmp_path / "x.parquet")
    read = corpus.load(tmp_path / "x.parquet", valid_fraction=0, test_fraction=0)
    assert len(read) == 6 and any("`tokens`" in note for note in read.notes if note.startswith("ignored"))


def test_shards_that_write_ids_as_other_types(tmp_path):
    for shard, ids in enumerate(([1, 1, 2], [2.0, None], ["03", "02"])):
        rows = {"dialogue_id": ids, "label": ["x", "y", "x"][: len(ids)], "text": [[1.0, 2.0]] * len(ids)}
        parquet.write_table(pa.table(rows), tmp_path / f"train-0000{shard}-of-00003.parquet")
    read = corpus.load(tmp_path, valid_fraction=0)
    assert read.dialogue_ids == ("train_1", "train_2", "train_None", "train_03")


def test_damaged_files_are_one_message(rows, tmp_path):
    table = pa.Table.from_pylist(rows)
    for name, write in (("x.parquet", parquet.write_table), ("x.feather", feather.write_feather), ("x", stream)):
        write(table, tmp_path / name)
        content = bytearray((tmp_path / name).read_bytes())
        (tmp_path / name).write_bytes(content[: len(content) // 2])
        with pytest.raises(UserError, match="truncated or damaged"):
            corpus.load(tmp_path / name)


def test_without_pyarrow_the_extra_is_named(tmp_path, monkeypatch):
    parquet.write_table(pa.table({"text": [[1.0]]}), tmp_path / "x.parquet")
    saved(tmp_path / "one", pa.table({"text": [[1.0]] * 9}))
    (tmp_path / "hub" / "data").mkdir(parents=True)
    parquet.write_table(pa.table({"text": [[1.0]]}), tmp_path / "hub" / "data" / "train-00000-of-00001.parquet")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    for place in ("x.parquet", "one", "hub", "hub/data"):
        with pytest.raises(UserError, match=r"pip install 'ariigcn-jax\[parquet\]'.*`to_json` of Hugging Face"):
            layouts.read_fields(tmp_path / place)


def test_a_claim_of_more_than_the_file_can_hold_is_refused(tmp_path):
    zeros = pa.ListArray.from_arrays(np.arange(0, 72_000_000, 1_000_000), np.zeros(71_000_000, np.int8))
    parquet.write_table(pa.table({"text": zeros}), tmp_path / "x.parquet")
    assert (tmp_path / "x.parquet").stat().st_size < 1_000_000
    with pytest.raises(UserError, match=r"x\.parquet: would take"):
        layouts.read_fields(tmp_path / "x.parquet")
