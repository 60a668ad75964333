"""Define what every encoder has, and those that run a pretrained model of the transformers library."""

from __future__ import annotations

import dataclasses
import hashlib
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

import numpy as np

from ariigcn_jax.extras import require
from ariigcn_jax.features.manifest import Manifest
from ariigcn_jax.types import Clip, UserError

Input = str | Clip
Encode = Callable[[Sequence[Input]], list[np.ndarray]]
E = TypeVar("E", bound="Encoder")
Combine = Literal["mean", "concat"]
TimePooling = Literal["mean", "mean_std", "max"]
# Weights that a checkpoint may lack, because the hidden states do not depend on them.
_UNUSED_WEIGHTS = ("pooler", "masked_spec_embed", "mask_token", "position_ids")


def digest(path: str | Path) -> str:
    """Return the SHA-256 of a file's content."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@dataclasses.dataclass(frozen=True)
class Encoder:
    """Describe an encoder of one modality as plain data, which can be sent to worker processes.

    Attributes:
      model: a model's folder or hub name, or a feature set.
      name: of the field of the .npz; by default made from the modality and the model.
      batch: number of utterances that are encoded together.
    """

    model: str
    name: str = ""
    batch: int = 1

    modality = ""

    @property
    def field(self) -> str:
        """Return the field's name in the .npz."""
        stem = re.split(r"[/\\]", self.model.rstrip("/\\"))[-1].removesuffix(".conf")
        return self.name or f"{self.modality}_{re.sub('[^a-z0-9]+', '_', stem.lower()).strip('_')}"

    def inputs(self, manifest: Manifest) -> Sequence[Input | None]:
        """Return the inputs of U utterances; None where an utterance lacks this modality."""
        texts = tuple(text or None for text in manifest.transcript)
        return {"text": texts, "audio": manifest.audio, "visual": manifest.video}[self.modality]

    def workers(self, jobs: int, device: str) -> int:
        """Return the number of processes that should run it."""
        return jobs

    def identity(self) -> dict[str, Any]:
        """Return what the vectors depend on beside the input; raise UserError if the encoder is not available."""
        raise NotImplementedError

    def recipe(self) -> dict[str, Any]:
        """Return `identity` with the model by its name, and the checksum of a model file as `content`."""
        identity = self.identity()
        content = {} if identity["model"] in ("", self.model) else {"content": identity["model"]}
        return {**identity, "model": self.model, **content}

    def load(self, threads: int, device: str) -> Encode:
        """Load the encoder in this process; the function it returns raises for an input that it cannot encode."""
        raise NotImplementedError

    def options(self) -> dict[str, Any]:
        """Return the options that change the vectors."""
        return {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.name not in ("name", "batch")}


def parse(specification: str, kind: type[E]) -> E:
    """Parse MODEL[,OPTION=VALUE]…; raise UserError if an option is unknown or its value is not legal."""
    model, *pairs = specification.split(",")
    types = get_type_hints(kind)
    legal = [field.name for field in dataclasses.fields(kind) if field.name != "model"]
    where = f"--{kind.modality} {specification}"
    values: dict[str, Any] = {}
    for pair in pairs:
        key, equals, text = pair.partition("=")
        if key not in legal or not equals:
            options = ", ".join(legal)
            raise UserError(f"{where}: unrecognised option {pair!r}. Write OPTION=VALUE, with one of {options}.")
        convert, remedy = _conversion(types[key])
        try:
            values[key] = convert(text)
        except ValueError:
            raise UserError(f"{where}: {key} cannot be {text!r}. {remedy}") from None
    if not model:
        raise UserError(f"{where}: names no model. Write it first, before the options.")
    return kind(model=model, **values)


def _conversion(kind: Any) -> tuple[Callable[[str], Any], str]:
    """Return a function that parses an option of a type or raises ValueError, and what to write."""
    if kind is str:
        return str, ""
    if get_origin(kind) is tuple:
        integers = "Write whole numbers with / between them, such as -1/-4."
        return lambda text: tuple(int(number) for number in text.split("/")), integers
    if choices := get_args(kind):
        return lambda text: choices[choices.index(text)], f"It is one of {', '.join(choices)}."

    def number(text: str) -> float:
        if not 0 <= kind(text) < float("inf"):
            raise ValueError
        return kind(text)

    return number, f"Write a {kind.__name__}, not negative."


@dataclasses.dataclass(frozen=True)
class PretrainedEncoder(Encoder):
    """Encode by a model of the transformers library."""

    kind = ""  # in the identity
    extra = ""  # that installs what it needs

    def workers(self, jobs: int, device: str) -> int:
        return jobs if device == "cpu" else min(jobs, 1)

    def identity(self) -> dict[str, Any]:
        """Identify the options, the library's version, and the weights by content (a folder) or the hub's revision."""
        config = self.part("AutoConfig")
        self._check_layers(config)
        revision = getattr(config, "_commit_hash", None)
        folder = Path(self.model)
        if folder.is_dir():
            files = sorted(path for path in folder.rglob("*") if path.is_file() and path.suffix not in (".md", ".h5"))
            sums = "".join(f"{path.relative_to(folder)} {digest(path)}\n" for path in files)
            revision = hashlib.sha256(sums.encode()).hexdigest()
        version = require("transformers", self.extra).__version__
        return {"kind": self.kind, **self.options(), "weights": str(revision), "transformers": version, "model": ""}

    def part(self, kind: str, **options: Any) -> Any:
        """Load a part of the model, by the name of its Auto class; raise UserError if there is no such model."""
        transformers = require("transformers", self.extra)
        try:
            return getattr(transformers, kind).from_pretrained(self.model, **options)
        except (OSError, ValueError, KeyError) as error:
            local = Path(self.model).is_dir()
            where = "the folder" if local else "neither a folder here nor a model that the hub gives:"
            reason = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
            remedy = "Give a folder with config.json, weights and tokenizer or processor, or a model's name on the hub."
            problem = f"{where} cannot be read as a transformers model ({reason})"
            raise UserError(f"{self.model}: {problem}. {remedy}") from None

    def network(self, threads: int, device: str) -> Any:
        """Load the model without a task's head, of an encoder-decoder the encoder; raise UserError if it cannot run."""
        torch, transformers = require("torch", self.extra), require("transformers", self.extra)
        transformers.utils.logging.set_verbosity_error()
        transformers.utils.logging.disable_progress_bar()
        torch.set_num_threads(max(threads, 1))
        network, report = self.part("AutoModel", output_loading_info=True, dtype=torch.float32)
        missing = sorted(key for key in report["missing_keys"] if not any(part in key for part in _UNUSED_WEIGHTS))
        if missing:
            problem = f"the checkpoint lacks {len(missing)} weights, {missing[0]} for one: features would be random"
            raise UserError(f"{self.model}: {problem}. Choose a checkpoint of this architecture, or copy it again.")
        if network.config.is_encoder_decoder:
            network = network.get_encoder()
        try:
            return network.eval().to(device)
        except (RuntimeError, AssertionError) as error:
            raise UserError(f"--device {device}: cannot be used ({str(error).splitlines()[0]}).") from None

    def _check_layers(self, config: Any) -> None:
        """Raise UserError if one of the option `layers` does not exist."""
        config = getattr(config, "encoder", config)
        depth = getattr(config, "encoder_layers", None) or getattr(config, "num_hidden_layers", None)
        layers = getattr(self, "layers", ())
        if depth is not None and (wrong := [layer for layer in layers if not -depth - 1 <= layer <= depth]):
            legal = f"Layers count from 0 (the embeddings) to {depth}, or back from -1."
            raise UserError(f"{self.model}: there is no layer {wrong[0]}. {legal}")


def hidden(outputs: Any, layers: Sequence[int], combine: Combine) -> Any:
    """Return [B, T, D], the hidden states of layers, averaged or concatenated."""
    if tuple(layers) == (-1,):  # after the model's last normalisation, unlike the last of `hidden_states`
        return outputs.last_hidden_state
    states = [outputs.hidden_states[layer] for layer in layers]
    if combine == "concat":
        return require("torch", "speech").cat(states, dim=-1)
    return sum(states[1:], start=states[0]) / len(states)


def over_time(steps: Any, how: TimePooling) -> Any:
    """Pool [T, D] to [D], or to [2 D] by "mean_std" (the population's standard deviation)."""
    if how == "max":
        return steps.max(dim=0).values
    if how == "mean_std":
        return require("torch", "speech").cat([steps.mean(dim=0), steps.std(dim=0, correction=0)])
    return steps.mean(dim=0)
