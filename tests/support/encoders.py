"""Tiny text encoders with random weights, as folders that `nn.pretrained.read` reads."""

import json
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

KNOWN = """
i you we he she it they am are is was do not no yes oh well so and or but what why how who when where here there this
that good bad happy sad angry glad sorry fine great really like love hate want know see go come say said tell told think
time day night home work friend door coffee ann bob cid speaker 1 2 3 4 5 : , . ? ! '
"""
WORDS = KNOWN.split()
SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]")
WIDTH, LAYERS, HEADS, MIDDLE, POSITIONS = 16, 2, 2, 32, 64
KINDS = ("bert", "distilbert", "roberta", "xlm-roberta")


def tiny_encoder(folder: Path, family: str = "bert", seed: int = 0) -> Path:
    """Writes config.json, tokenizer.json (whole words) and model.safetensors of a family in KINDS; returns the folder.

    Weights are large enough that different texts have clearly different vectors.
    """
    folder.mkdir(parents=True, exist_ok=True)
    roberta = family in ("roberta", "xlm-roberta")
    count = len(SPECIAL) + len(WORDS)
    positions = POSITIONS + 2 * roberta
    config = {"model_type": family, "vocab_size": count, "max_position_embeddings": positions, "pad_token_id": 0}
    if family == "distilbert":
        config |= {"dim": WIDTH, "n_layers": LAYERS, "n_heads": HEADS, "hidden_dim": MIDDLE, "activation": "gelu"}
    else:
        config |= {"hidden_size": WIDTH, "num_hidden_layers": LAYERS, "num_attention_heads": HEADS}
        config |= {"intermediate_size": MIDDLE, "hidden_act": "gelu", "type_vocab_size": 1 if roberta else 2}
        config |= {"layer_norm_eps": 1e-5 if roberta else 1e-12}
    if roberta:
        config["pad_token_id"] = 1
    (folder / "config.json").write_text(json.dumps(config))
    tokenizer = Tokenizer(models.WordLevel({w: n for n, w in enumerate([*SPECIAL, *WORDS])}, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    marks = [(mark, SPECIAL.index(mark)) for mark in ("[CLS]", "[SEP]")]
    tokenizer.post_processor = processors.TemplateProcessing("[CLS] $A [SEP]", special_tokens=marks)
    tokenizer.save(str(folder / "tokenizer.json"))
    save_file(_weights(family, count, positions, config.get("type_vocab_size", 0), seed), folder / "model.safetensors")
    return folder


def _weights(family: str, count: int, positions: int, types: int, seed: int) -> dict[str, np.ndarray]:
    random = np.random.default_rng(seed)
    made: dict[str, np.ndarray] = {}

    def linear(name: str, out: int, width: int) -> None:
        made[f"{name}.weight"] = random.normal(size=(out, width)) * 1.5 / np.sqrt(width)
        made[f"{name}.bias"] = 0.1 * random.normal(size=out)

    def norm(name: str) -> None:
        made[f"{name}.weight"] = 1 + 0.1 * random.normal(size=WIDTH)
        made[f"{name}.bias"] = 0.1 * random.normal(size=WIDTH)

    made["embeddings.word_embeddings.weight"] = random.normal(size=(count, WIDTH))
    made["embeddings.position_embeddings.weight"] = 0.3 * random.normal(size=(positions, WIDTH))
    if types:
        made["embeddings.token_type_embeddings.weight"] = 0.3 * random.normal(size=(types, WIDTH))
    norm("embeddings.LayerNorm")
    for k in range(LAYERS):
        if family == "distilbert":
            at = f"transformer.layer.{k}."
            attention = [f"attention.{part}_lin" for part in "qkv"]
            out, norms, halves = "attention.out_lin", ("sa_layer_norm", "output_layer_norm"), ("ffn.lin1", "ffn.lin2")
        else:
            at = f"encoder.layer.{k}."
            attention = [f"attention.self.{part}" for part in ("query", "key", "value")]
            out, norms = "attention.output.dense", ("attention.output.LayerNorm", "output.LayerNorm")
            halves = ("intermediate.dense", "output.dense")
        for name in (*attention, out):
            linear(at + name, WIDTH, WIDTH)
        linear(at + halves[0], MIDDLE, WIDTH)
        linear(at + halves[1], WIDTH, MIDDLE)
        for name in norms:
            norm(at + name)
    return {name: np.ascontiguousarray(x, np.float32) for name, x in made.items()}
