"""Read a pretrained text encoder: config.json, tokenizer.json and model.safetensors of a folder or of the hub.

Neither torch nor transformers is needed. Names of parameters are those that PyTorch programs write, old ones included.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import hashlib
import importlib.util
import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ariigcn_jax.extras import require
from ariigcn_jax.files import write_atomically
from ariigcn_jax.nn.text_encoder import ACTIVATIONS, Architecture
from ariigcn_jax.types import UserError, first_line

CONFIG, TOKENIZER, WEIGHTS, SHARDS = (
    "config.json",
    "tokenizer.json",
    "model.safetensors",
    "model.safetensors.index.json",
)
PICKLES = ("pytorch_model.bin", "model.bin", "pytorch_model.bin.index.json")
POOLING = "1_Pooling/config.json"  # of sentence-transformers
CONVERT = """\
    python -c "from transformers import AutoModel, AutoTokenizer; m = '{folder}'
    AutoModel.from_pretrained(m).save_pretrained('NEW'); AutoTokenizer.from_pretrained(m).save_pretrained('NEW')\""""
# Names of BERT's and RoBERTa's parts -> ours; {k} is a layer's number
BERT = {
    "embeddings.word_embeddings.weight": "words/embedding",
    "embeddings.position_embeddings.weight": "positions/embedding",
    "embeddings.token_type_embeddings.weight": "types",
    "embeddings.LayerNorm": "norm",
    "encoder.layer.{k}.attention.self.query": "layer_{k}/query_key_value:0",
    "encoder.layer.{k}.attention.self.key": "layer_{k}/query_key_value:1",
    "encoder.layer.{k}.attention.self.value": "layer_{k}/query_key_value:2",
    "encoder.layer.{k}.attention.output.dense": "layer_{k}/attended",
    "encoder.layer.{k}.attention.output.LayerNorm": "layer_{k}/attended_norm",
    "encoder.layer.{k}.intermediate.dense": "layer_{k}/expand",
    "encoder.layer.{k}.output.dense": "layer_{k}/contract",
    "encoder.layer.{k}.output.LayerNorm": "layer_{k}/norm",
}
DISTILBERT = {
    "embeddings.word_embeddings.weight": "words/embedding",
    "embeddings.position_embeddings.weight": "positions/embedding",
    "embeddings.LayerNorm": "norm",
    "transformer.layer.{k}.attention.q_lin": "layer_{k}/query_key_value:0",
    "transformer.layer.{k}.attention.k_lin": "layer_{k}/query_key_value:1",
    "transformer.layer.{k}.attention.v_lin": "layer_{k}/query_key_value:2",
    "transformer.layer.{k}.attention.out_lin": "layer_{k}/attended",
    "transformer.layer.{k}.sa_layer_norm": "layer_{k}/attended_norm",
    "transformer.layer.{k}.ffn.lin1": "layer_{k}/expand",
    "transformer.layer.{k}.ffn.lin2": "layer_{k}/contract",
    "transformer.layer.{k}.output_layer_norm": "layer_{k}/norm",
}
FILES = (CONFIG, TOKENIZER, "modules.json", "sentence_bert_config.json", POOLING)  # beside the weights
MODES = {"mean_tokens": "mean", "cls_token": "cls", "max_tokens": "max", "mean": "mean", "cls": "cls", "max": "max"}
FOLDER = "text_encoder"  # of a copy beside a trained model
PREFIXES = re.compile(r"^(model\.)?(bert|roberta|distilbert)\.")


@dataclasses.dataclass(frozen=True)
class Pretrained:
    """A text encoder as its folder has it."""

    folder: Path
    architecture: Architecture
    digest: str  # SHA-256 of the files that its output depends on
    pooling: str  # that sentence-transformers' files name, or "mean"
    normalize: bool  # whether these files bring vectors to unit length
    other: str  # what these files do that `nn.text_encoder` does not, or ""
    limit: int  # most tokens of a text

    def params(self) -> dict[str, Any]:
        """Read the parameters of `TextEncoder`, float32; raise UserError where one is missing or has another shape."""
        return _params(self)


def find(name: str) -> Path:
    """Return the folder of an encoder: a folder here, an installed package that holds one, or a name on the hub.

    What the hub gave before is taken from this disk.

    Raises:
      UserError: there is none.
    """
    if not name:
        raise UserError("Words need a text encoder: --config.model.text.encoder=FOLDER, or a name on the hub.")
    with contextlib.suppress(RuntimeError):  # ~ of a user who is not there
        if (path := Path(name).expanduser()).is_dir():
            return path
    if found := _installed(name):
        return found
    if not re.fullmatch(r"[\w.-]+(/[\w.-]+)?", name):
        raise UserError(f"{name}: there is no such folder of a text encoder.")
    hub = require("huggingface_hub", "words")
    wanted = [*FILES, WEIGHTS, SHARDS, "model-*.safetensors"]
    with contextlib.suppress(Exception):  # not here yet, or not whole: the hub's errors have no common class
        here = Path(hub.snapshot_download(name, allow_patterns=wanted, local_files_only=True))
        read(here)
        return here
    try:
        print(f"{name}: fetching the text encoder from the hub …", flush=True)
        return Path(hub.snapshot_download(name, allow_patterns=wanted))
    except Exception as error:
        raise UserError(
            f"{name}: there is no such folder of a text encoder here, and the hub does not give it "
            f"({first_line(error)}). Copy the model's folder to this machine and give its path."
        ) from None


def _installed(name: str) -> Path | None:
    """Return the encoder's folder in an installed package, which is not imported; None where there is none."""
    known = re.fullmatch(r"[A-Za-z][\w-]*", name) and importlib.util.find_spec(name.replace("-", "_"))
    for place in (known and known.submodule_search_locations) or ():
        for config in [Path(place, CONFIG), *sorted(Path(place).glob(f"*/{CONFIG}"))]:
            if config.is_file():
                return config.parent
    return None


def read(folder: str | Path) -> Pretrained:
    """Read what an encoder is, without its parameters.

    Raises:
      UserError: the folder lacks a file, or holds a network of another kind.
    """
    folder = Path(folder)
    config = _json(folder / CONFIG)
    architecture = _architecture(folder, config)
    _weight_files(folder)
    if not (folder / TOKENIZER).is_file():
        raise UserError(
            f"{folder}: has no {TOKENIZER}. Write it with transformers, once:\n{CONVERT.format(folder=folder)}"
        )
    found: dict[str, Any] = {"pooling": "mean", "normalize": False, "other": "", "limit": architecture.longest}
    if (folder / "modules.json").is_file():
        modules = [module for module in _json(folder / "modules.json") if isinstance(module, dict)]
        kinds = [str(module.get("type", "")).rpartition(".")[2] for module in modules]
        found["normalize"] = "Normalize" in kinds
        if further := [kind for kind in kinds if kind not in ("Transformer", "Pooling", "Normalize")]:
            found["other"] = f"this sentence-transformers model ends in a {further[0]} module"
    if (folder / POOLING).is_file():
        modes = _poolings(_json(folder / POOLING))
        found["pooling"] = MODES.get(modes[0], "mean") if modes else "mean"
        if len(modes) != 1 or modes[0] not in MODES:
            found["other"] = f"its own pooling ({', '.join(modes) or 'not named'})"
    if (folder / "sentence_bert_config.json").is_file():
        asked = _json(folder / "sentence_bert_config.json").get("max_seq_length")
        if isinstance(asked, int) and asked > 0:
            found["limit"] = min(architecture.longest, asked)
    return Pretrained(folder, architecture, _digest(folder), **found)


def copy(source: Path, folder: Path) -> None:
    """Copy what `read` and `params` need of an encoder into a folder, each file whole or not at all.

    Files that are there stay as they are: a copy that was interrupted goes on.
    """
    names = [name for name in FILES if (source / name).is_file()]
    if (source / SHARDS).is_file() and not (source / WEIGHTS).is_file():
        names.append(SHARDS)
    for path in [*(source / name for name in names), *_weight_files(source)]:
        if not (folder / path.relative_to(source)).exists():
            write_atomically(folder / path.relative_to(source), path.read_bytes())


def _json(path: Path) -> Any:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path.parent}: has no {path.name}, so it is no folder of a text encoder.") from None
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: cannot be read ({first_line(error)}). Copy the encoder's folder again.") from None
    if not isinstance(content, list if path.name == "modules.json" else dict):
        raise UserError(f"{path}: holds no settings of an encoder. Copy the encoder's folder again.")
    return content


def _poolings(settings: Mapping[str, Any]) -> list[str]:
    """Return the names of the poolings that a configuration of sentence-transformers switches on."""
    if isinstance(named := settings.get("pooling_mode"), str):  # since version 6
        return [named]
    return [key.removeprefix("pooling_mode_") for key, on in settings.items() if key.startswith("pool") and on is True]


def _digest(folder: Path) -> str:
    """Return the SHA-256 over the settings, tokenizer and weights."""
    total = hashlib.sha256()
    for path in (*(folder / name for name in FILES if (folder / name).is_file()), *_weight_files(folder)):
        with path.open("rb") as file:
            total.update(hashlib.file_digest(file, "sha256").digest())
    return total.hexdigest()[:32]


def _weight_files(folder: Path) -> list[Path]:
    if (folder / WEIGHTS).is_file():
        return [folder / WEIGHTS]
    if (folder / SHARDS).is_file():
        listed = _json(folder / SHARDS).get("weight_map")
        names = sorted(set(map(str, listed.values()))) if isinstance(listed, dict) else []
        if not names:
            raise UserError(f"{folder}: {SHARDS} names no files. Copy the folder again.")
        for name in names:
            if not (folder / name).is_file() or Path(name).name != name:
                raise UserError(f"{folder}: {SHARDS} names {name}, which is not there. Copy the folder again.")
        return [folder / name for name in names]
    for name in PICKLES:
        if (folder / name).is_file():
            raise UserError(
                f"{folder}: its weights are in {name}, a pickle, which may run any code and is not read. Convert it "
                f"once, where transformers and torch are installed:\n{CONVERT.format(folder=folder)}"
            )
    raise UserError(f"{folder}: has no {WEIGHTS}. Copy the encoder's folder again.")


def _architecture(folder: Path, config: Mapping[str, Any]) -> Architecture:
    """Return the architecture that a config.json describes; raise UserError where it is of another kind."""
    kind = str(config.get("model_type", "bert"))
    names = ("hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size", "hidden_act")
    if kind == "distilbert":
        names = ("dim", "n_layers", "n_heads", "hidden_dim", "activation")
    elif kind not in ("bert", "roberta", "xlm-roberta", "camembert"):
        raise UserError(
            f"{folder}: is a network of the kind {kind!r}. Text encoders are of the kinds bert (MiniLM among them), "
            "distilbert, roberta (DistilRoBERTa among them) and xlm-roberta."
        )
    try:
        width, depth, heads, middle, activation = (config[name] for name in names)
        unusual = config.get("position_embedding_type") or "absolute"
        if activation not in ACTIVATIONS or unusual != "absolute" or width % heads:
            raise UserError(
                f"{folder}: its {CONFIG} asks for {activation}, {unusual} positions and {heads} heads of {width}, "
                f"and read are {', '.join(ACTIVATIONS)}, absolute positions and heads that divide the width."
            )
        roberta = kind in ("roberta", "xlm-roberta", "camembert")
        return Architecture(
            vocabulary=int(config["vocab_size"]),
            width=int(width),
            depth=int(depth),
            heads=int(heads),
            middle=int(middle),
            positions=int(config["max_position_embeddings"]),
            first_position=int(config.get("pad_token_id", 1)) + 1 if roberta else 0,
            types=0 if kind == "distilbert" else int(config.get("type_vocab_size", 2)),
            epsilon=1e-12 if kind == "distilbert" else float(config.get("layer_norm_eps", 1e-12)),
            activation=activation,
        )
    except (KeyError, TypeError, ValueError, ZeroDivisionError) as error:
        raise UserError(f"{folder}: its {CONFIG} lacks a number ({first_line(error)}). Copy it again.") from None


def _params(encoder: Pretrained) -> dict[str, Any]:
    stored = _stored(encoder)
    names = DISTILBERT if any(name.startswith("transformer.") for name in stored) else BERT
    wanted = {
        theirs.format(k=k): ours.format(k=k)
        for theirs, ours in names.items()
        for k in range(encoder.architecture.depth if "{k}" in theirs else 1)
    }
    a = encoder.architecture
    shapes = {  # as files have them: [out, in]
        "words/embedding": (a.vocabulary, a.width),
        "positions/embedding": (a.positions, a.width),
        "types": (a.types, a.width),
        "query_key_value": (a.width, a.width),
        "attended": (a.width, a.width),
        "expand": (a.middle, a.width),
        "contract": (a.width, a.middle),
    }
    made: dict[str, Any] = {}
    parts: dict[str, dict[int, np.ndarray]] = {}
    for theirs, ours in wanted.items():
        if ours == "types" and not a.types:
            continue
        if ours in shapes:
            made[ours] = _array(encoder, stored, theirs, shapes[ours])
            continue
        path, _, part = ours.partition(":")
        shape = shapes.get(path.partition("/")[2], (a.width,))
        weight = _array(encoder, stored, f"{theirs}.weight", shape)
        bias = _array(encoder, stored, f"{theirs}.bias", shape[:1])
        if path.endswith("norm"):
            made |= {f"{path}/scale": weight, f"{path}/bias": bias}
        elif part:
            parts.setdefault(f"{path}/kernel", {})[int(part)] = weight.T
            parts.setdefault(f"{path}/bias", {})[int(part)] = bias
        else:  # as `text_encoder.Linear` has it
            made |= {f"{path}/kernel": weight if weight.shape[1] > weight.shape[0] else weight.T, f"{path}/bias": bias}
    for path, pieces in parts.items():
        made[path] = np.concatenate([pieces[n] for n in range(3)], axis=-1)
    tree: dict[str, Any] = {}
    for path, array in made.items():
        *groups, leaf = path.split("/")
        place = tree
        for group in groups:
            place = place.setdefault(group, {})
        place[leaf] = np.ascontiguousarray(array)
    return tree


def _stored(encoder: Pretrained) -> dict[str, Callable[[], np.ndarray]]:
    """Return name -> a function that reads its array; old names become new ones, prefixes and heads go."""
    open_file = require("safetensors", "words").safe_open
    found: dict[str, Callable[[], np.ndarray]] = {}
    for path in _weight_files(encoder.folder):
        try:
            file = open_file(str(path), framework="numpy")
            for name in file.keys():  # noqa: SIM118
                new = PREFIXES.sub("", name).replace("LayerNorm.gamma", "LayerNorm.weight")
                new = new.replace("LayerNorm.beta", "LayerNorm.bias")
                found[new] = functools.partial(file.get_tensor, name)
        except Exception as error:  # of the Rust library
            raise UserError(f"{path}: cannot be read ({first_line(error)}). Copy the file again.") from None
    return found


def _array(
    encoder: Pretrained, stored: Mapping[str, Callable[[], np.ndarray]], name: str, shape: tuple[int, ...]
) -> np.ndarray:
    """Read an array as float32; raise UserError if it is missing, of whole numbers, or not of the shape."""
    if name not in stored:
        have = ", ".join(sorted(stored)[:3])
        raise UserError(
            f"{encoder.folder}: its weights lack {name}; they hold {have} … Copy the folder again, or choose a network "
            "of the kinds bert, distilbert, roberta or xlm-roberta."
        )
    array = stored[name]()
    if array.shape != shape or array.dtype.kind in "iub":
        raise UserError(
            f"{encoder.folder}: {name} is {array.dtype} {array.shape}, and its {CONFIG} makes it float {shape}. "
            "One of the files is of another network; copy the folder again."
        )
    return np.asarray(array, np.float32)
