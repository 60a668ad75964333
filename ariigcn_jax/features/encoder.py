"""What every encoder is: options, a name, an identity for the cache, and a function from inputs to vectors."""

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
    """An encoder of one modality; plain data, so that it can be sent to worker processes.

    Attributes:
      model: what encodes: a model's folder or hub name, or a feature set.
      name: the field of the .npz; without it, made from the modality and the model.
      batch: how many utterances are encoded together.
    """

    model: str
    name: str = ""
    batch: int = 1

    modality = ""

    @property
    def field(self) -> str:
        """The field's name in the .npz."""
        if self.name:
            return self.name
        stem = re.split(r"[/\\]", self.model.rstrip("/\\"))[-1].removesuffix(".conf")
        return f"{self.modality}_{re.sub('[^a-z0-9]+', '_', stem.lower()).strip('_')}"

    def inputs(self, manifest: Manifest) -> Sequence[Input | None]:
        """[U] what there is to encode; None where an utterance has nothing of this modality."""
        raise NotImplementedError

    def workers(self, jobs: int, device: str) -> int:
        """How many processes should run it."""
        return jobs

    def identity(self) -> dict[str, Any]:
        """What, beside the input, the vectors depend on. Raises UserError where the encoder cannot be had."""
        raise NotImplementedError

    def load(self, threads: int, device: str) -> Encode:
        """Loads the encoder in this process; its function raises for what it cannot encode."""
        raise NotImplementedError

    def options(self) -> dict[str, Any]:
        """The options that shape the vectors."""
        return {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.name not in ("name", "batch")}


def parse(specification: str, kind: type[E]) -> E:
    """An encoder from MODEL[,OPTION=VALUE]….

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
                f"--{kind.modality} {specification}: what is {pair!r}? Options are OPTION=VALUE behind a comma: "
                f"{', '.join(legal)}."
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
