"""Find, identify and load pretrained models with the transformers library, and pool their hidden states."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from ariigcn_jax.features.media import digest
from ariigcn_jax.features.packages import require
from ariigcn_jax.types import UserError

Combine = Literal["mean", "concat"]
TimePooling = Literal["mean", "mean_std", "max"]
# Weights that a checkpoint may lack, because the hidden states do not depend on them.
_UNUSED_WEIGHTS = ("pooler", "masked_spec_embed", "mask_token", "position_ids")


def config(model: str, extra: str) -> Any:
    """Return a model's configuration; raise UserError if there is no such model."""
    transformers = require("transformers", extra)
    return _reading(model, lambda: transformers.AutoConfig.from_pretrained(model))


def identity(model: str, extra: str) -> dict[str, str]:
    """Identify a model's weights, by content (a folder) or by the hub's revision, and the library's version."""
    settings = config(model, extra)
    revision = getattr(settings, "_commit_hash", None)
    if Path(model).is_dir():
        files = sorted(path for path in Path(model).rglob("*") if path.is_file() and path.suffix not in (".md", ".h5"))
        sums = "".join(f"{path.relative_to(model)} {digest(path)}\n" for path in files)
        revision = hashlib.sha256(sums.encode()).hexdigest()
    return {"weights": str(revision), "transformers": require("transformers", extra).__version__}


def load(model: str, extra: str, threads: int, device: str) -> Any:
    """Load a model without a task's head, for inference; of an encoder-decoder the encoder.

    Raises:
      UserError: there is no such model, its checkpoint lacks weights, or there is no such device.
    """
    torch, transformers = require("torch", extra), require("transformers", extra)
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    torch.set_num_threads(max(threads, 1))
    network, report = _reading(
        model, lambda: transformers.AutoModel.from_pretrained(model, output_loading_info=True, dtype=torch.float32)
    )
    missing = sorted(key for key in report["missing_keys"] if not any(part in key for part in _UNUSED_WEIGHTS))
    if missing:
        raise UserError(
            f"{model}: the checkpoint lacks {len(missing)} weights, {missing[0]} for one: features would be random. "
            "Choose a checkpoint of this architecture, or copy it again."
        )
    if network.config.is_encoder_decoder:
        network = network.get_encoder()
    try:
        return network.eval().to(device)
    except (RuntimeError, AssertionError) as error:
        raise UserError(f"--device {device}: cannot be used ({str(error).splitlines()[0]}).") from None


def part(model: str, extra: str, kind: str) -> Any:
    """Return a model's tokenizer or processor, by the name of its Auto class."""
    transformers = require("transformers", extra)
    return _reading(model, lambda: getattr(transformers, kind).from_pretrained(model))


def file(model: str, name: str) -> Path | None:
    """Return the path of a file of a model; None if it has no such file."""
    if Path(model).is_dir():
        return path if (path := Path(model) / name).is_file() else None
    transformers = require("transformers", "text")
    found = transformers.utils.cached_file(model, name, _raise_exceptions_for_missing_entries=False)
    return Path(found) if found else None


def _reading(model: str, read: Any) -> Any:
    try:
        return read()
    except (OSError, ValueError, KeyError) as error:
        where = "the folder" if Path(model).is_dir() else "neither a folder here nor a model that the hub gives:"
        reason = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
        raise UserError(
            f"{model}: {where} cannot be read as a transformers model ({reason}). "
            "Give a folder with config.json, the weights and the tokenizer or processor, or a model's name on the hub."
        ) from None


def check_layers(model: str, layers: Sequence[int], extra: str) -> None:
    """Raise UserError if a model has no such layer."""
    settings = config(model, extra)
    for part in ("text_config", "vision_config", "encoder"):
        settings = getattr(settings, part, settings)
    depth = getattr(settings, "encoder_layers", None) or getattr(settings, "num_hidden_layers", None)
    if depth is None and (depths := getattr(settings, "depths", None)):
        depth = len(depths)
    if depth is not None and (wrong := [layer for layer in layers if not -depth - 1 <= layer <= depth]):
        raise UserError(
            f"{model}: there is no layer {wrong[0]}. Layers count from 0 (the embeddings) to {depth}, or back from -1."
        )


def hidden(outputs: Any, layers: Sequence[int], combine: str) -> Any:
    """Return the hidden states of chosen layers, averaged or concatenated.

    Args:
      outputs: a model's outputs.
      layers: their numbers; (-1,) is the model's final output, after its last normalisation.
      combine: "mean" or "concat".

    Returns:
      [B, T, D], or for an image network [B, D, height, width].
    """
    torch = require("torch", "text")
    if tuple(layers) == (-1,):
        return outputs.last_hidden_state
    states = [outputs.hidden_states[layer] for layer in layers]
    if combine == "concat":
        return torch.cat(states, dim=1 if states[0].ndim == 4 else -1)
    return functools.reduce(torch.add, states) / len(states)


def over_time(steps: Any, how: TimePooling) -> Any:
    """Pool [T, D] to [D], or to [2 D] by "mean_std" (the population's standard deviation)."""
    torch = require("torch", "audio")
    if how == "max":
        return steps.max(dim=0).values
    if how == "mean_std":
        return torch.cat([steps.mean(dim=0), steps.std(dim=0, correction=0)])
    return steps.mean(dim=0)
