"""Define what every encoder has: options, a name, an identity for the cache, and a function from inputs to vectors."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Sequence
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

import numpy as np

from ariigcn_jax.features.manifest import Clip, Manifest
from ariigcn_jax.types import UserError

Input = str | Clip
Encode = Callable[[Sequence[Input]], list[np.ndarray]]
E = TypeVar("E", bound="Encoder")


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
        if self.name:
            return self.name
        stem = re.split(r"[/\\]", self.model.rstrip("/\\"))[-1].removesuffix(".conf")
        return f"{self.modality}_{re.sub('[^a-z0-9]+', '_', stem.lower()).strip('_')}"

    def inputs(self, manifest: Manifest) -> Sequence[Input | None]:
        """Return the inputs of U utterances; None where an utterance lacks this modality."""
        raise NotImplementedError

    def workers(self, jobs: int, device: str) -> int:
        """Return the number of processes that should run it."""
        return jobs

    def identity(self) -> dict[str, Any]:
        """Return what the vectors depend on beside the input.

        Raises:
          UserError: the encoder is not available.
        """
        raise NotImplementedError

    def load(self, threads: int, device: str) -> Encode:
        """Load the encoder in this process; the function it returns raises for an input that it cannot encode."""
        raise NotImplementedError

    def options(self) -> dict[str, Any]:
        """Return the options that change the vectors."""
        return {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.name not in ("name", "batch")}


def parse(specification: str, kind: type[E]) -> E:
    """Parse an encoder, MODEL[,OPTION=VALUE]….

    Raises:
      UserError: an option is unknown or its value is not legal.
    """
    model, *pairs = specification.split(",")
    types = get_type_hints(kind)
    legal = [field.name for field in dataclasses.fields(kind) if field.name != "model"]
    values: dict[str, Any] = {}
    for pair in pairs:
        key, equals, text = pair.partition("=")
        if key not in legal or not equals:
            raise UserError(
                f"--{kind.modality} {specification}: unrecognised option {pair!r}. Write OPTION=VALUE after a comma, "
                f"where OPTION is one of {', '.join(legal)}."
            )
        try:
            values[key] = _value(text, types[key])
        except ValueError:
            raise UserError(
                f"--{kind.modality} {specification}: {key} cannot be {text!r}. {_legal(types[key])}"
            ) from None
    if not model:
        raise UserError(f"--{kind.modality} {specification}: names no model. Write it first, before the options.")
    return kind(model=model, **values)


def _value(text: str, kind: Any) -> Any:
    if get_origin(kind) is tuple:
        return tuple(int(number) for number in text.split("/"))
    if kind is bool:
        return {"true": True, "false": False}[text.lower()] if text.lower() in ("true", "false") else int("?")
    if choices := get_args(kind):
        if text not in choices:
            raise ValueError
        return text
    value = kind(text)
    if kind in (int, float) and not 0 <= value < float("inf"):
        raise ValueError
    return value


def _legal(kind: Any) -> str:
    if get_origin(kind) is tuple:
        return "Write whole numbers with / between them, such as -1/-4."
    if kind is bool:
        return "Write true or false."
    return f"It is one of {', '.join(get_args(kind))}." if get_args(kind) else f"Write a {kind.__name__}, not negative."
