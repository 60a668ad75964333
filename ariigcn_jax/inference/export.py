"""Export a trained model to a folder that predicts without this package.

model.stablehlo           the network by jax.export, for conversations of any number and length, on cpu, cuda and tpu
parameters.safetensors    parameters; mean, scale and quantiles of the features; temperature
model.json                modalities with their widths, labels, limits
emotions.py               loads the three and predicts; a copy of `standalone.py`
README.md                 model card
"""

from __future__ import annotations

import importlib.util
import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import unflatten_dict

from ariigcn_jax.data import packing, traced
from ariigcn_jax.files import local, write_atomically
from ariigcn_jax.inference import model_card
from ariigcn_jax.inference.model import TrainedModel
from ariigcn_jax.inference.prediction import forward
from ariigcn_jax.nn.graph import WHOLE_DIALOGUE, attended
from ariigcn_jax.nn.model import Model
from ariigcn_jax.objective import tasks
from ariigcn_jax.types import Array, UserError

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
    if importlib.util.find_spec("safetensors") is None:
        raise UserError("Exporting needs safetensors: install it, or this package with its extra `export`.")
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
    exported = lower(model, network, weights, platforms)
    about = {
        "modalities": [{"name": m, "width": width} for m, width in model.raw_widths.items()],
        "task": model.task,
        "label_names": list(model.output_names),
        "shortest": _shortest(network),
        "longest": limit,
        "platforms": list(platforms),
    }
    contents = {
        "model.stablehlo": bytes(exported.serialize()),
        "parameters.safetensors": save(weights),
        "emotions.py": Path(__file__).with_name("standalone.py").read_bytes(),
        "README.md": model_card.text(model, limit).encode(),
        "model.json": (json.dumps(about, indent=2) + "\n").encode(),  # last: a folder without it is incomplete
    }
    try:
        for name, content in contents.items():
            write_atomically(folder / name, content)
    except UserError:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    return folder


def parameters(model: TrainedModel) -> dict[str, np.ndarray]:
    """Return all arrays of the export by name.

    The names are "params/…", "normalisation/<modality>/mean", "…/scale", for ranks "…/quantiles", and "temperature".
    Heads that only losses read are left out.
    """
    network, batch = model.model.clone(further=frozenset()), packing.empty(model.widths)
    used = jax.eval_shape(lambda batch: network.init(jax.random.key(0), batch, False), batch)["params"]
    leaves = jax.tree.leaves_with_path({"params": {name: model.params[name] for name in used}})
    flat = {jax.tree_util.keystr(path, simple=True, separator="/"): np.asarray(x) for path, x in leaves}
    flat |= {f"normalisation/{name}": np.asarray(x) for name, x in model.normalisation.to_arrays().items()}
    return flat | {"temperature": np.array(model.temperature, np.float32)}


def lower(
    model: TrainedModel, network: Model, weights: Mapping[str, np.ndarray], platforms: Sequence[str]
) -> jax.export.Exported:
    """Lower (weights, input of `standalone.pack` for B conversations) -> answers [B, T, O]; B and T stay open."""
    batch, length = jax.export.symbolic_shape("b, t", constraints=[f"t >= {_shortest(network)}"])

    def array(dtype: Any, *more: int) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct((batch, length, *more), dtype)

    conversation = {
        "features": {m: array(jnp.float32, width) for m, width in model.raw_widths.items()},
        "present": {m: array(jnp.bool) for m in model.modalities},
        "speaker": array(jnp.int32),
        "real": array(jnp.bool),
    }
    arguments = {name: jax.ShapeDtypeStruct(x.shape, x.dtype) for name, x in weights.items()}

    def answers(weights: Mapping[str, Array], conversation: Mapping[str, Any]) -> Array:
        return jax.vmap(lambda one: _answer(model, network, weights, one))(conversation)

    return jax.export.export(jax.jit(answers), platforms=platforms)(arguments, conversation)


def _answer(model: TrainedModel, network: Model, weights: Mapping[str, Array], conversation: Any) -> Array:
    """Return answers [T, O] of one conversation, as `tasks.Task.decode` gives them."""
    real, speaker = conversation["real"], conversation["speaker"]
    present = {m: conversation["present"][m] & real for m in model.modalities}
    features = {}
    for m in model.modalities:
        names = ("mean", "scale", *(["quantiles"] if m in model.normalisation.quantiles else []))
        statistics = {name: weights[f"normalisation/{m}/{name}"] for name in names}
        raw = conversation["features"][m]
        features[m] = traced.standardise(raw, present[m], speaker, model.copies[m], **statistics)
    one: dict[str, Any] = jax.tree.map(lambda x: x[None], dict(features=features, present=present))
    batch = packing.one_a_row(**one, speaker=speaker[None], real=real[None], xp=jnp)
    params = unflatten_dict({tuple(k.split("/")[1:]): x for k, x in weights.items() if k.startswith("params/")})
    outputs = forward(network, model.task, model.members)(params, batch)
    return tasks.get(model.task).decode(outputs.logits[0] / weights["temperature"])


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
