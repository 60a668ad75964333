"""MERBench's folders: tables of labels, names that say where an utterance belongs, gaps, and damage."""

import numpy as np
import pytest

from ariigcn_jax import data as corpus
from ariigcn_jax.data import labels
from ariigcn_jax.data.readers.merbench import modality_name
from ariigcn_jax.types import UserError
from tests.support.layout_files import conversations, merbench


@pytest.fixture
def folder(tmp_path):
    return merbench(conversations(classes=7), tmp_path)


def refused(path):
    with pytest.raises(UserError) as caught:
        corpus.load(path)
    return str(caught.value)


def test_missing_and_empty_files(folder):
    names = sorted(p.stem for p in (folder / "features" / "hubert-FRA").iterdir())
    (folder / "features" / "hubert-FRA" / f"{names[0]}.npy").unlink()
    np.save(folder / "features" / "hubert-FRA" / f"{names[1]}.npy", np.zeros((0, 4)))
    read = corpus.load(folder)
    gone = [read.utterance_ids.index(name) for name in names[:2]]
    assert np.flatnonzero(~read.present["audio_hubert-FRA"]).tolist() == sorted(gone)
    assert any("hubert-FRA has no file of 1 utterance" in note for note in read.notes)


def test_features_may_be_asked_for_by_their_own_names(folder):
    assert corpus.load(folder, modalities=("hubert-FRA",)).modalities == ("hubert-FRA",)
    assert corpus.load(folder, modalities=("text_bert-base-UTT",)).modalities == ("text_bert-base-UTT",)


def test_path_of_the_table_is_enough(folder):
    assert len(corpus.load(folder / "label.npz")) == len(corpus.load(folder))


@pytest.mark.parametrize(
    ("feature", "name"),
    [
        ("chinese-hubert-large-UTT", "audio_chinese-hubert-large-UTT"),
        ("bloom-7b-UTT", "text_bloom-7b-UTT"),
        ("clip-vit-large-patch14-UTT", "visual_clip-vit-large-patch14-UTT"),
        ("audio_mine", "audio_mine"),
        ("unheard-of", "unheard-of"),
    ],
)
def test_kind_of_a_feature(feature, name):
    assert modality_name(feature) == name


@pytest.mark.parametrize(
    ("entries", "label_names", "label"),
    [
        ({"a_1": {"emo": "sad"}, "a_2": {"emo": "joy"}, "b_1": {"emo": "sad"}}, ("joy", "sad"), [1, 0, 1]),
        ({"a_1": 0, "a_2": 2, "b_1": 1}, ("0", "1", "2"), [0, 2, 1]),
        ({"a_1": {"val": -1.0}, "a_2": {"val": 0.0}, "b_1": {"val": 2.0}}, labels.POLARITY, [0, 1, 2]),
    ],
)  # fmt: skip
def test_entries_of_labels(tmp_path, entries, label_names, label):
    (tmp_path / "features" / "bert").mkdir(parents=True)
    for name in entries:
        np.save(tmp_path / "features" / "bert" / f"{name}.npy", np.arange(3.0) + 1)
    np.savez(tmp_path / "label.npz", whole_corpus=np.array(entries, dtype=object))
    read = corpus.load(tmp_path, valid_fraction=0, test_fraction=0)
    assert read.label_names == label_names and read.label.tolist() == label
    assert read.dialogue_ids == ("a", "b") and read.dialogue.tolist() == [0, 0, 1]


def test_names_of_iemocap(tmp_path):
    names = ["Ses01F_impro01_F000", "Ses01F_impro01_M000", "Ses01F_impro01_F001", "Ses02M_script01_1_M003"]
    (tmp_path / "features" / "bert").mkdir(parents=True)
    for i, name in enumerate(names):
        np.save(tmp_path / "features" / "bert" / f"{name}.npy", np.full(2, i + 1.0))
    np.savez(tmp_path / "label.npz", whole_corpus=np.array({name: {"emo": 0} for name in names}, dtype=object))
    read = corpus.load(tmp_path, valid_fraction=0, test_fraction=0)
    assert read.dialogue_ids == ("Ses01F_impro01", "Ses02M_script01_1")
    assert read.speaker_names.tolist() == ["F", "M", "F", "M"]
    assert read.features["text_bert"][:, 0].tolist() == [1, 2, 3, 4]


def test_names_that_say_nothing(tmp_path):
    names = ["samplenew-a", "samplenew-b"]
    (tmp_path / "features" / "bert").mkdir(parents=True)
    for name in names:
        np.save(tmp_path / "features" / "bert" / f"{name}.npy", np.ones(2))
    np.savez(tmp_path / "label.npz", train_corpus=np.array({name: {"emo": 0} for name in names}, dtype=object))
    read = corpus.load(tmp_path)
    assert len(read.dialogue_ids) == 2
    assert any("do not say to which dialogue they belong" in note for note in read.notes)


class Hostile:
    def __reduce__(self):
        return (open, ("HACKED", "w"))


def test_hostile_table(folder, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    np.savez(folder / "label.npz", train_corpus=np.array({"a_1": Hostile()}, dtype=object))
    assert "io.open`" in refused(folder)
    assert not (tmp_path / "HACKED").exists()


def test_a_table_that_is_packed_tightly(folder):
    entries = {f"a_{i}": {"emo": 0, "note": "x" * 50_000} for i in range(400)}
    np.savez_compressed(folder / "label.npz", train_corpus=np.array(entries, dtype=object))
    assert "which is no table of labels" in refused(folder)


def test_damaged_files_are_named(folder):
    path = next((folder / "features" / "hubert-FRA").iterdir())
    whole = path.read_bytes()
    for damaged in (whole[:-1], b"x" * 200, whole[:9], b""):
        path.write_bytes(damaged)
        assert f"{path}: cannot be read" in refused(folder)
    np.save(path, np.array([{}], dtype=object), allow_pickle=True)
    assert str(path) in refused(folder)
    path.write_bytes(whole)
    table = folder / "label.npz"
    table.write_bytes(table.read_bytes()[:-50])
    assert "truncated or damaged" in refused(folder)


def test_widths_that_differ(folder):
    path = sorted((folder / "features" / "bert-base-UTT").iterdir())[-1]
    np.save(path, np.ones(5))
    assert "features where those before it have" in refused(folder)
