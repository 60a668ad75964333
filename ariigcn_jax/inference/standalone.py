"""Predict emotions in a conversation with the exported model in this folder. Needs jax, numpy and safetensors only.

    from emotions import load

    answer = load("FOLDER")
    answer([{"speaker": "Ann", "features": {"text": [0.1, ...], "audio": [0.3, ...]}}, ...])

model.json lists the modalities and their widths. A modality is missing in an utterance if it is left out, None, not
finite, or several features that are all zero. Give features as extracted: the model standardises them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax import export
from safetensors.numpy import load_file

HARMLESS = re.compile(r"shape_assertion|stablehlo\.\w+")  # operations of the program's own language
TASKS = ("classification", "regression", "multilabel")  # whose answers `_record` can write


def load(folder: str | Path) -> Callable[[Sequence[Mapping[str, Any]]], list[dict[str, Any]]]:
    """Load the model from a folder with model.json, model.stablehlo and parameters.safetensors.

    Returns:
      A function from the utterances of one conversation in time order, each with `speaker` and `features`, to `emotion`
      and `probabilities` of each; for several labels `labels`, for a sentiment `score`.

    Raises:
      ValueError: this version of JAX cannot read the program; or it would call code outside of itself, as no exported
        network does.
    """
    folder = Path(folder)
    about = json.loads((folder / "model.json").read_text(encoding="utf-8"))
    parameters = jax.device_put(load_file(folder / "parameters.safetensors"))
    try:
        program = export.deserialize(bytearray((folder / "model.stablehlo").read_bytes()))
        text = program.mlir_module()
    except Exception as error:  # versions of JAX refuse in different ways
        raise ValueError(_refusal(about, error)) from error
    _check_calls(text)
    forward = jax.jit(program.call)

    def answer(utterances: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        if not utterances:
            return []
        answers = np.asarray(forward(parameters, pack(about, utterances)))[0, : len(utterances)]
        return [_record(about, values) for values in answers]

    return answer


def _refusal(about: Mapping[str, Any], error: Exception) -> str:
    """Say what to do where JAX does not read the program."""
    made = about.get("made", {})
    version, date = made.get("jax", "(unknown)"), made.get("date", "(unknown)")
    return (
        f"JAX {jax.__version__} cannot read model.stablehlo, which JAX {version} made on {date} ({error}). JAX reads "
        f"such a file for six months. Install jax=={version}, or make the file again from the parameters beside it: "
        "python -m tools.export --refresh FOLDER, of ARIIGCN-JAX"
    )


def _check_calls(program: str) -> None:
    """Refuse a program, as text, that calls into this process, where it could run any linked code."""
    called = [name.strip('"') for name in re.findall(r'custom_call\s*@("[^"]*"|[\w.$-]+)', program)]
    foreign = sorted({name for name in called if not HARMLESS.fullmatch(name)})
    if program.count("custom_call") > len(called) or foreign:
        names = ", ".join(foreign) or "something without a name"
        raise ValueError(f"model.stablehlo calls {names} outside of itself, as no exported network does; not loaded")


def _record(about: Mapping[str, Any], values: np.ndarray) -> dict[str, Any]:
    names = about["label_names"]
    if about["task"] == "regression":
        return {"score": float(values[0])}
    probabilities = dict(zip(names, values.tolist(), strict=True))
    if about["task"] == "multilabel":
        return {"labels": [name for name, p in probabilities.items() if p > 0.5], "probabilities": probabilities}
    return {"emotion": names[int(values.argmax())], "probabilities": probabilities}


def pack(about: Mapping[str, Any], utterances: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return one conversation as the model's input; its length is rounded up so that few lengths compile.

    Returns:
      "features", modality -> [1, T, d] float32; "present", modality -> [1, T] bool; "speaker", [1, T] int32 by first
      appearance; "real", [1, T] bool, False after the conversation's end.
    """
    count, longest = len(utterances), about["longest"]
    if longest and count > longest:
        raise ValueError(f"{count} utterances, but this model was exported for at most {longest}")
    length = -(-max(count, about["shortest"]) // 16) * 16
    numbers: dict[Any, int] = {}
    speaker = np.zeros((1, length), np.int32)
    speaker[0, :count] = [numbers.setdefault(u.get("speaker"), len(numbers)) for u in utterances]
    features, present = {}, {}
    for modality in about["modalities"]:
        name, width = modality["name"], modality["width"]
        rows, here = np.zeros((1, length, width), np.float32), np.zeros((1, length), bool)
        for turn, utterance in enumerate(utterances):
            given = utterance["features"].get(name)
            if given is not None:
                if np.shape(given) != (width,):
                    raise ValueError(f"utterance {turn}: {name} must be {width} numbers, not {np.shape(given)}")
                rows[0, turn] = given
                here[0, turn] = np.isfinite(given).all() and (np.any(given) or width == 1)
        features[name], present[name] = np.where(here[..., None], rows, np.float32(0)), here
    return {"features": features, "present": present, "speaker": speaker, "real": np.arange(length)[None] < count}
