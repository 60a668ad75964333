"""Checksums that tell one corpus from another."""

import dataclasses

import numpy as np
import pytest

from ariigcn_jax.data import identity
from tests.support.builders import corpus

CORPUS = dataclasses.replace(corpus([3, 5], missing=0.2), ratings=np.zeros((8, 2), np.float32))


def changed(part):
    """The corpus with one element of a part changed."""
    name, _, modality = part.partition(" of ")
    field = {"features": "features", "presence": "present"}.get(name, name)
    old = getattr(CORPUS, field)
    array = np.array(old[modality] if modality else old)
    first = array.reshape(-1)
    first[-1] = "test" if part == "split" else ~first[-1] if array.dtype == bool else first[-1] + 1
    return dataclasses.replace(CORPUS, **{field: {**old, modality: array} if modality else array})


@pytest.mark.parametrize("part", list(identity.digest(CORPUS)))
def test_a_change_shows_in_its_part_alone(part):
    before, after = identity.digest(CORPUS), identity.digest(changed(part))
    assert [name for name in before if before[name] != after[name]] == [part]


def test_every_part_counts():
    assert set(identity.digest(CORPUS)) == {
        "features of text", "features of audio", "presence of text", "presence of audio",
        "dialogue", "speaker", "label", "split", "ratings",
    }  # fmt: skip
    scores = dataclasses.replace(
        CORPUS, task="regression", target=np.zeros((8, 1), np.float32), target_names=("score",)
    )
    assert "target" in identity.digest(scores)
    assert "fold" in identity.digest(dataclasses.replace(CORPUS, fold=np.zeros(8, np.int32)))


def test_chunks_and_memory_maps_change_nothing(monkeypatch, tmp_path):
    before = identity.digest(CORPUS)
    monkeypatch.setattr(identity, "CHUNK_BYTES", 30)
    np.save(tmp_path / "text.npy", CORPUS.features["text"].astype(np.float32))
    mapped = {**CORPUS.features, "text": np.load(tmp_path / "text.npy", mmap_mode="r")}
    assert identity.digest(dataclasses.replace(CORPUS, features=mapped)) == before
    shape = CORPUS.features["text"].shape
    reshaped = {**CORPUS.features, "text": np.asarray(CORPUS.features["text"]).reshape(shape[0] * 3, 1)}
    assert identity.digest(dataclasses.replace(CORPUS, features=reshaped)) != before
