"""Vectors of frozen words are kept on disk and found again to the last bit; a file that fails stops nothing."""

import dataclasses
import sqlite3

import numpy as np
import pytest

from ariigcn_jax.features import words
from ariigcn_jax.features.words import WordEncoder
from tests.support import encoders

OPTIONS = dict(train="frozen", layers=(-1, 1), pooling="auto", max_tokens=12, turns=0)


@pytest.fixture
def encoder(tmp_path, monkeypatch):
    monkeypatch.setenv("ARIIGCN_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(words, "ROWS", 4)
    return WordEncoder.of({**OPTIONS, "encoder": str(encoders.tiny_encoder(tmp_path / "tiny"))})


def tokens(encoder, count=words.KEPT):
    random = np.random.default_rng(0)
    lengths = random.integers(0, 9, count)
    start = np.concatenate([[0], np.cumsum(lengths)])
    ids = random.integers(4, 40, start[-1]).astype(np.int32)
    return words.Words(ids, start, np.ones(start[-1], bool), 0)


def again(encoder, monkeypatch):
    """Returns the same encoder, for which computing is an error."""
    fresh = dataclasses.replace(encoder)
    monkeypatch.setattr(WordEncoder, "_encode", lambda *_: pytest.fail("computed"))
    return fresh


def test_vectors_come_back_to_the_last_bit(encoder, monkeypatch):
    given = tokens(encoder)
    made = encoder.encode(given)
    assert np.abs(made).max() > 0.1
    np.testing.assert_array_equal(again(encoder, monkeypatch).encode(given), made)


@pytest.mark.parametrize("change", [{"layers": (-1, 2)}, {"pooling": "max"}, {"pooling": "mean"}, "ids", "pooled"])
def test_what_changes_vectors_is_computed(encoder, monkeypatch, change):
    given = tokens(encoder)
    encoder.encode(given)
    other = again(encoder, monkeypatch)
    if isinstance(change, dict):
        other = dataclasses.replace(other, options={**other.options, **change})
    else:
        values = getattr(given, change).copy()
        values[3] = not values[3]
        given = dataclasses.replace(given, **{change: values})
    with pytest.raises(pytest.fail.Exception, match="computed"):
        other.encode(given)


def test_few_utterances_and_trained_parameters_are_not_kept(encoder, tmp_path):
    encoder.encode(tokens(encoder, words.KEPT - 1))
    encoder.encode(tokens(encoder), encoder.params)
    assert not (tmp_path / "cache").exists()


def test_nothing_is_kept_where_the_cache_is_off(encoder, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("ARIIGCN_CACHE", "")
    encoder.encode(tokens(encoder))
    assert not (tmp_path / "cache").exists() and not capsys.readouterr().err


def _no_database(path):
    path.parent.mkdir()
    path.write_bytes(b"precious " * 1000)


def _no_folder(path):
    path.parent.write_text("")


def _locked(path):
    path.parent.mkdir()
    database = sqlite3.connect(path)
    database.execute("BEGIN EXCLUSIVE")
    return database


@pytest.mark.parametrize("damage", [_no_database, _no_folder, _locked])
def test_a_file_that_cannot_be_used_is_named_once(encoder, tmp_path, monkeypatch, capsys, damage):
    monkeypatch.setattr(words, "PATIENCE", 0.05)
    held = damage(tmp_path / "cache" / words.STORE)
    made = encoder.encode(tokens(encoder))
    assert np.abs(made).max() > 0.1
    error = capsys.readouterr().err
    assert error.count("note: ") == 1 and "words.sqlite: cannot be used as the cache" in error
    if held:
        held.close()


def test_a_file_that_is_damaged_inside_is_named_once(encoder, tmp_path, capsys):
    given = tokens(encoder)
    made = encoder.encode(given)
    path = tmp_path / "cache" / words.STORE
    content = bytearray(path.read_bytes())
    content[100:] = b"\xff" * (len(content) - 100)
    path.write_bytes(content)
    np.testing.assert_array_equal(encoder.encode(given), made)
    assert capsys.readouterr().err.count("note: ") == 1


def test_the_oldest_vectors_go_where_there_are_too_many(encoder, tmp_path, monkeypatch):
    first, second = tokens(encoder), tokens(encoder, 2 * words.KEPT)
    monkeypatch.setattr(words, "MOST", 2 * words.KEPT * encoder.width * 4)
    encoder.encode(first)
    made = encoder.encode(second)
    with sqlite3.connect(tmp_path / "cache" / words.STORE) as database:
        [(size,)] = database.execute("SELECT SUM(LENGTH(vector)) FROM vectors").fetchall()
    database.close()
    assert 0 < size <= words.MOST
    fresh = again(encoder, monkeypatch)
    np.testing.assert_array_equal(fresh.encode(second), made)
    with pytest.raises(pytest.fail.Exception, match="computed"):
        fresh.encode(first)
