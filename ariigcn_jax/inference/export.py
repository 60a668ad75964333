"""A trained model → a folder that answers without this package.

model.stablehlo           the network by jax.export, for conversations of any number and length, on cpu, cuda and tpu
parameters.safetensors    parameters, mean, scale and quantiles of the features, temperature
model.json                modalities with their widths, labels, limits
emotions.py               reads the three and answers; `standalone.py` of this package, word for word
README.md                 model card
"""

from __future__ import annotations

import importlib.util
import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from ariigcn_jax.data.normalisation import CLIP, FLOOR
from ariigcn_jax.files import write_atomically
from ariigcn_jax.inference import model_card
from ariigcn_jax.inference.prediction import forward
from ariigcn_jax.nn.graph import WHOLE_DIALOGUE
from ariigcn_jax.objective import tasks
from ariigcn_jax.types import PADDING, UNLABELED, Array, Batch, UserError

if TYPE_CHECKING:
    from ariigcn_jax.inference.model import TrainedModel
    from ariigcn_jax.nn.model import Model

PLATFORMS = ("cpu", "cuda", "tpu")
LOADER = Path(__file__).with_name("standalone.py")
BLOCK = 16
LONGEST = 512  # utterances of a conversation, where each hears all others


def write(
    model: TrainedModel, folder: str | Path, *, longest: int = LONGEST, platforms: Sequence[str] = PLATFORMS
) -> Path:
    """Writes the artefact.

    Args:
      model: what to export.
      folder: new or empty.
      longest: most utterances of a conversation, at least 1; only for a model whose graph spans the whole dialogue.
        A window has no limit.
      platforms: what the network is lowered for.

    Returns:
      The folder.

    Raises:
      UserError: the folder is not empty or cannot be written, or safetensors is not installed.
    """
    if importlib.util.find_spec("safetensors") is None:
        raise UserError("Exporting needs safetensors: install it, or this package with its extra `export`.")
    from safetensors.numpy import save

    folder = Path(folder).expanduser()
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
        "emotions.py": LOADER.read_bytes(),
        "README.md": model_card.text(model, limit).encode(),
        "model.json": (json.dumps(about, indent=2) + "\n").encode(),  # last: a folder without it is no artefact
    }
    try:
        for name, content in contents.items():
            write_atomically(folder / name, content)
    except UserError:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    return folder


def parameters(model: TrainedModel) -> dict[str, np.ndarray]:
    """All numbers of the artefact by name: "params/…", "normalisation/<modality>/mean", "…/scale" and, of
    ranks, "…/quantiles", and "temperature".

    Generators and contrast heads, which no answer needs, are left out.
    """
    used = {k: v for k, v in model.params.items() if not k.startswith(("generator_", "contrast_"))}
    leaves = jax.tree.leaves_with_path({"params": used})
    flat = {jax.tree_util.keystr(path, simple=True, separator="/"): np.asarray(x) for path, x in leaves}
    flat |= {f"normalisation/{name}": np.asarray(x) for name, x in model.normalisation.to_arrays().items()}
    return flat | {"temperature": np.array(model.temperature, np.float32)}


def lower(
    model: TrainedModel, network: Model, weights: Mapping[str, np.ndarray], platforms: Sequence[str]
) -> jax.export.Exported:
    """(weights, input as `standalone.pack` makes it, for B conversations) -> answers [B, T, O]; B and T open."""
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
    """Answers [T, O] of one conversation, as `tasks.Task.decode` gives them."""
    real, speaker = conversation["real"], conversation["speaker"]
    present = {m: conversation["present"][m] & real for m in model.modalities}
    features = {}
    for m in model.modalities:
        raw = conversation["features"][m]
        groups = {"dialogue": jnp.zeros_like(speaker), "speaker": speaker}
        copies = [_within(raw, groups[within], present[m]) for within in model.copies[m]]
        ranks = _rank(raw, weights[f"normalisation/{m}/quantiles"]) if m in model.normalisation.quantiles else raw
        x = jnp.concatenate([ranks, *copies], axis=-1)
        x = (x - weights[f"normalisation/{m}/mean"]) / weights[f"normalisation/{m}/scale"]
        features[m] = jnp.where(present[m][:, None], jnp.clip(x, -CLIP, CLIP), 0)
    batch = Batch(
        features={m: x[None] for m, x in features.items()},
        present={m: x[None] for m, x in present.items()},
        dialogue=jnp.where(real, 0, PADDING)[None],
        speaker=jnp.where(real, speaker, 0)[None],
        label=jnp.full_like(speaker, UNLABELED)[None],
        n_node=jnp.stack([real.sum(), (~real).sum()])[None],
        row=jnp.zeros(1, jnp.int32),
        utterance=jnp.where(real, 0, PADDING)[None],
    )
    outputs = forward(network, model.task, model.members)(_nested(weights), batch)
    return tasks.get(model.task).decode(outputs.logits[0] / weights["temperature"])


def _rank(x: Array, quantiles: Array) -> Array:
    """As `corpus.normalisation.rank`, traced: x [T, d] between quantiles [K, d]."""
    last = len(quantiles) - 1

    def one(x: Array, known: Array) -> Array:
        low, high = (jnp.searchsorted(known, x, side) for side in ("left", "right"))
        after = jnp.clip(low, 1, last)
        start, end = known[after - 1], known[after]
        between = after - 1 + (x - start) / jnp.maximum(end - start, jnp.finfo(x.dtype).tiny)
        share = jnp.where(high > low, (low + high - 1) / 2, jnp.clip(between, 0, last)) / last
        return jnp.where(known[0] == known[-1], 0.5, share)

    return jax.vmap(one, in_axes=1, out_axes=1)(x, quantiles)


def _within(x: Array, group: Array, present: Array) -> Array:
    """As a copy of `corpus.normalisation.with_copies`, traced: x [T, d] standardised over each group's present rows."""
    same = ((group[:, None] == group[None, :]) & present[:, None] & present[None, :]).astype(x.dtype)
    share = same / jnp.maximum(same.sum(axis=1, keepdims=True), 1)
    mean = jnp.matmul(share, x, precision="highest")
    centred = x - mean
    # A deviation is that of each row's own group, so squares of rows are averaged as they stand.
    deviation = jnp.sqrt(jnp.matmul(share, jnp.square(centred), precision="highest"))
    constant = deviation < FLOOR * (1 + jnp.abs(mean))  # relative too: float32 leaves a rest where float64 leaves none
    return jnp.where(present[:, None], jnp.clip(centred / jnp.where(constant, 1, deviation), -CLIP, CLIP), 0)


def _nested(weights: Mapping[str, Array]) -> dict[str, Any]:
    """Parameters by name -> the tree that linen takes."""
    tree: dict[str, Any] = {}
    for name, x in weights.items():
        if name.startswith("params/"):
            *folders, leaf = name.split("/")[1:]
            node = tree
            for folder in folders:
                node = node.setdefault(folder, {})
            node[leaf] = x
    return tree


def _any_length(network: Model, longest: int) -> tuple[Model, int | None]:
    """The network in a form that leaves the length open, and the longest conversation where there is a limit.

    The band kernel over blocks never asks how long a row is; a whole dialogue becomes a window that reaches as far.
    """
    window = network.options.graph
    whole = window.layers > 0 and WHOLE_DIALOGUE in (window.past, window.future)
    reaches = (window.past, window.future) if window.layers else (0, 0)
    past, future = (longest - 1 if reach == WHOLE_DIALOGUE else reach for reach in reaches)
    changes = {"past": past, "future": future, "kernel": "band", "block": window.block or BLOCK}
    network = network.with_options({f"graph.{name}": value for name, value in changes.items()})
    return network.clone(further=frozenset()), longest if whole else None


def _shortest(network: Model) -> int:
    """Fewest slots for which the window and a block fit into a row, whatever its length."""
    window = network.options.graph
    least = max(window.past, window.future, window.block) + 1
    return -(-least // BLOCK) * BLOCK
