"""Export a trained model to a folder that predicts without this package.

model.stablehlo           the network by jax.export, for conversations of any number and length, on cpu, cuda and tpu
parameters.safetensors    parameters; mean, scale and quantiles of the features; temperature
model.json                modalities with their widths, labels, limits, options of the network, date and versions
emotions.py               loads the three and predicts; a copy of `standalone.py`
tokenizer.json            of a text encoder, which is then a part of the network
README.md                 model card

JAX promises to read model.stablehlo for six months. `refresh` makes it again from the other files.
"""

from __future__ import annotations

import dataclasses
import datetime
import importlib.metadata
import importlib.util
import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax.errors import FlaxError
from flax.traverse_util import unflatten_dict
from ml_collections import FrozenConfigDict

from ariigcn_jax import __version__
from ariigcn_jax.data import packing, traced
from ariigcn_jax.features.words import WordEncoder
from ariigcn_jax.files import local, write_atomically
from ariigcn_jax.inference import model_card
from ariigcn_jax.inference.model import TrainedModel, differing
from ariigcn_jax.inference.prediction import forward
from ariigcn_jax.nn.graph import WHOLE_DIALOGUE, attended
from ariigcn_jax.nn.model import Model
from ariigcn_jax.nn.pretrained import TOKENIZER, Pretrained
from ariigcn_jax.nn.text_encoder import NAME, Architecture
from ariigcn_jax.objective import tasks
from ariigcn_jax.runs.workdir import read_json
from ariigcn_jax.types import PADDING, WORDS, Array, Description, Tokens, UserError, first_line

PLATFORMS = ("cpu", "cuda", "tpu")

BLOCK = 16
LONGEST = 512  # utterances of a conversation, if each attends to all others


def write(
    model: TrainedModel, folder: str | Path, *, longest: int = LONGEST, platforms: Sequence[str] = PLATFORMS
) -> Path:
    """Write the exported model and return its folder.

    Args:
      model: what to export.
      folder: new or empty.
      longest: most utterances of a conversation, at least 1; ignored for a model with a window.
      platforms: what the network is lowered for.

    Raises:
      UserError: the folder is not empty or cannot be written, safetensors is not installed, or the exported folder
        could not write the answers of the model's task.
    """
    _need_safetensors()
    from safetensors.numpy import save

    from ariigcn_jax.inference import standalone

    if model.task not in standalone.TASKS:
        known = ", ".join(standalone.TASKS)
        raise UserError(
            f"{model.path}: data.task={model.task} cannot be exported, only {known}. Add it to inference/standalone.py."
        )
    folder = local(folder)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(f"{folder}: is not an empty folder. Give another --out, or remove it first.")
    if longest < 1:
        raise UserError(f"The longest conversation has {longest} utterances; it must be at least 1.")
    network, limit = _any_length(model.model, longest)
    weights = parameters(model)
    about: dict[str, Any] = {
        "modalities": modalities(model),
        "task": model.task,
        "label_names": list(model.output_names),
        "shortest": _shortest(network),
        "longest": limit,
        "platforms": list(platforms),
        # what `refresh` builds the network of
        "network": {"options": network.options.to_dict(), "members": model.members, "copies": model.copies},
    }
    contents: dict[str, bytes] = {}
    if model.words is not None:
        source = model.words.encoder.pretrained
        about["network"]["text_encoder"] = {k: v for k, v in dataclasses.asdict(source).items() if k != "folder"}
        contents[TOKENIZER] = (source.folder / TOKENIZER).read_bytes()
    contents |= {
        "parameters.safetensors": save(weights),
        "README.md": model_card.text(model, limit).encode(),
        **_program(about, weights),
    }
    try:
        for name, content in contents.items():
            write_atomically(folder / name, content)
    except UserError:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    return folder


def refresh(folder: str | Path) -> Path:
    """Make the program of an exported folder again, by this version of JAX, and return the folder.

    Raises:
      UserError: the folder was not exported, or by a version of this package whose network differs; or it cannot be
        written.
    """
    _need_safetensors()
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    folder = local(folder)
    again = "Export the run again, with --run and --out"
    about = read_json(folder / "model.json")
    if "network" not in about:
        raise UserError(f"{folder}: its model.json does not describe the network, as older versions wrote it. {again}.")
    try:
        weights = load_file(folder / "parameters.safetensors")
        contents = _program(about, weights)
    except (OSError, SafetensorError, AttributeError, KeyError, TypeError, ValueError, FlaxError) as error:
        made = about.get("made", {}).get("ariigcn-jax", "unknown")
        raise UserError(
            f"{folder}: cannot be made again by version {__version__} of this package, as it was by version {made} "
            f"({first_line(error)}). {again}, or refresh it with that version."
        ) from error
    for name, content in contents.items():
        write_atomically(folder / name, content)
    return folder


def _need_safetensors() -> None:
    if importlib.util.find_spec("safetensors") is None:
        raise UserError("Exporting needs safetensors: install it, or this package with its extra `export`.")


def _program(about: Mapping[str, Any], weights: Mapping[str, np.ndarray]) -> dict[str, bytes]:
    """Return the files that depend on the version of JAX, by name; model.json last, as a folder needs it.

    `about` is the content of model.json, and `weights` are those of `parameters`.

    Raises:
      ValueError: the network of `about` needs other parameters.
    """
    exported = lower(about, weights)
    made = {
        "date": datetime.date.today().isoformat(),
        "ariigcn-jax": __version__,
        **{name: importlib.metadata.version(name) for name in ("jax", "jaxlib")},
        "calling_convention": exported.calling_convention_version,
    }
    return {
        "model.stablehlo": bytes(exported.serialize()),
        "emotions.py": Path(__file__).with_name("standalone.py").read_bytes(),
        "model.json": (json.dumps({**about, "made": made}, indent=2) + "\n").encode(),
    }


def modalities(model: TrainedModel) -> list[dict[str, Any]]:
    """Return the name and width of each modality, for model.json; of words how they become tokens, of others how their
    features were made, where that is known.
    """
    made: list[dict[str, Any]] = []
    for m, width in model.raw_widths.items():
        made.append({"name": m, "width": width, **({"recipe": dict(model.recipes[m])} if m in model.recipes else {})})
        if m == WORDS and model.words is not None:
            encoder = model.words.encoder
            limit = int(encoder.options["max_tokens"])
            text = {"limit": limit, "pooling": encoder.pooling, "turns": list(model.words.turns)}
            made[-1] = {"name": m, "width": encoder.width, "text": text}
    return made


def parameters(model: TrainedModel) -> dict[str, np.ndarray]:
    """Return all arrays of the export by name.

    The names are "params/…", "normalisation/<modality>/mean", "…/scale", for ranks "…/quantiles", and "temperature".
    Heads that only losses read are left out. Those of text encoders are "text_encoder/shared/…" and, of what the k-th
    one has trained, "text_encoder/<k>/…".
    """
    network, batch = model.model.clone(further=frozenset()), packing.empty(dict(model.model.description.widths))
    used = jax.eval_shape(lambda batch: network.init(jax.random.key(0), batch, False), batch)["params"]
    trees: dict[str, Any] = {"params": {name: model.params[name] for name in used}}
    if model.words is not None:
        own = {str(k): tree for k, tree in enumerate(model.words.trained) if tree}
        shared = {name: x for name, x in model.words.encoder.params.items() if name not in model.words.trained[0]}
        trees[NAME] = {"shared": shared, **own}
    leaves = jax.tree.leaves_with_path(trees)
    flat = {jax.tree_util.keystr(path, simple=True, separator="/"): np.asarray(x) for path, x in leaves}
    flat |= {f"normalisation/{name}": np.asarray(x) for name, x in model.normalisation.to_arrays().items()}
    return flat | {"temperature": np.array(model.temperature, np.float32)}


def lower(about: Mapping[str, Any], weights: Mapping[str, np.ndarray]) -> jax.export.Exported:
    """Lower (weights, input of `standalone.pack` for B conversations) -> answers [B, T, O]; B and T stay open.

    Raises:
      ValueError: the network of `about`, the content of model.json, needs other parameters than `weights`.
    """
    built, outputs = about["network"], len(about["label_names"])
    widths = tuple((m["name"], m["width"] * (1 + len(built["copies"][m["name"]]))) for m in about["modalities"])
    # Heads that depend on numbers of classes and ratings are left out.
    network = Model(Description(widths, outputs, classes=outputs, ratings=0), FrozenConfigDict(built["options"]))
    if problem := differing(network, built["members"], _tree(weights, "params")):
        raise ValueError(problem)
    # s are the tokens of the longest utterance, whose rows come in steps of 16 tokens
    batch, length, tokens = jax.export.symbolic_shape("b, t, 16*s", constraints=[f"t >= {about['shortest']}"])

    def array(dtype: Any, *more: Any) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct((batch, length, *more), dtype)

    conversation = {
        "features": {
            m["name"]: {"ids": array(jnp.int32, tokens), "pooled": array(jnp.bool, tokens)}
            if "text" in m
            else array(jnp.float32, m["width"])
            for m in about["modalities"]
        },
        "present": {m["name"]: array(jnp.bool) for m in about["modalities"]},
        "speaker": array(jnp.int32),
        "real": array(jnp.bool),
    }
    arguments = {name: jax.ShapeDtypeStruct(x.shape, x.dtype) for name, x in weights.items()}

    def answers(weights: Mapping[str, Array], conversation: Mapping[str, Any]) -> Array:
        return jax.vmap(lambda one: _answer(about, network, weights, one))(conversation)

    return jax.export.export(jax.jit(answers), platforms=about["platforms"])(arguments, conversation)


def _answer(about: Mapping[str, Any], network: Model, weights: Mapping[str, Array], conversation: Any) -> Array:
    """Return answers [T, O] of one conversation, as `tasks.Task.decode` gives them."""
    real, speaker = conversation["real"], conversation["speaker"]
    features, present = {}, {}
    for m, copies in about["network"]["copies"].items():
        present[m] = conversation["present"][m] & real
        names = ("mean", "scale", *(["quantiles"] if f"normalisation/{m}/quantiles" in weights else []))
        statistics = {name: weights[f"normalisation/{m}/{name}"] for name in names}
        raw = conversation["features"][m]
        if m == WORDS and "text_encoder" in about["network"]:
            raw = _vectors(about, weights, raw)
        features[m] = traced.standardise(raw, present[m], speaker, copies, **statistics)
    one: dict[str, Any] = jax.tree.map(lambda x: x[None], dict(features=features, present=present))
    batch = packing.one_a_row(**one, speaker=speaker[None], real=real[None], xp=jnp)
    outputs = forward(network, about["task"], about["network"]["members"])(_tree(weights, "params"), batch)
    return tasks.get(about["task"]).decode(outputs.logits[0] / weights["temperature"])


def _vectors(about: Mapping[str, Any], weights: Mapping[str, Array], words: Mapping[str, Array]) -> Array:
    """Return vectors [T, d] of tokens, "ids" and "pooled" [T, S], by the text encoders; theirs side by side."""
    known = dict(about["network"]["text_encoder"])
    pretrained = Pretrained(folder=Path(), architecture=Architecture(**known.pop("architecture")), **known)
    encoder = WordEncoder(pretrained, about["network"]["options"]["text"])
    ids, pooled = words["ids"], words["pooled"]
    real, place = ids != PADDING, jnp.arange(ids.shape[1], dtype=jnp.int32) + pretrained.architecture.first_position
    one = {"slot": jnp.where(real, 0, PADDING), "position": jnp.where(real, place, 0), "pooled": pooled & real}
    tokens = Tokens(**{name: x[:, None] for name, x in {**one, "ids": jnp.maximum(ids, 0)}.items()})
    params = _tree(weights, NAME)
    shared = params.pop("shared", {})  # nothing where all is trained
    own = [params[k] for k in sorted(params, key=int)] or [{}]
    return jnp.concatenate([encoder.vectors({**shared, **trained}, tokens, 1)[:, 0] for trained in own], axis=-1)


def _tree(weights: Mapping[str, Any], name: str) -> dict[str, Any]:
    """Return the parameters of `parameters` whose names begin so as a tree."""
    return unflatten_dict({tuple(k.split("/")[1:]): x for k, x in weights.items() if k.startswith(f"{name}/")})


def _any_length(network: Model, longest: int) -> tuple[Model, int | None]:
    """Return the network for rows of any length, and the longest conversation if there is a limit.

    The band kernel over blocks does not depend on the row's length; a whole dialogue becomes a window of `longest`.
    """
    window = network.options.graph
    whole = WHOLE_DIALOGUE in attended(window)
    past, future = (longest - 1 if side == WHOLE_DIALOGUE else side for side in attended(window))
    changes = {"graph.past": past, "graph.future": future, "graph.kernel": "band"}
    network = network.with_options({**changes, "graph.block": window.block or BLOCK})
    return network.clone(further=frozenset()), longest if whole else None


def _shortest(network: Model) -> int:
    """Return the fewest slots that a row must have for the window and a block."""
    window = network.options.graph
    least = max(window.past, window.future, window.block) + 1
    return -(-least // BLOCK) * BLOCK
