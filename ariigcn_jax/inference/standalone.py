"""Predict emotions in a conversation with the exported model in this folder. Needs jax, numpy and safetensors only, and
for a model that reads words `tokenizers`.

    from emotions import load

    answer = load("FOLDER")
    answer([{"speaker": "Ann", "features": {"text": [0.1, ...], "audio": [0.3, ...]}}, ...])

model.json lists the modalities and their widths. A modality is missing in an utterance if it is left out, None, not
finite, or several features that are all zero. Give features as extracted: the model standardises them. Where model.json
says so, it takes what was said instead of features: {"speaker": "Ann", "text": "Oh no!"}.
"""

from __future__ import annotations

import importlib
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
      A function from the utterances of one conversation in time order, each with `speaker` and `features` or `text`, to
      `emotion` and `probabilities` of each; for several labels `labels`, for a sentiment `score`.

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
    tokenizer = None
    if any("text" in modality for modality in about["modalities"]):
        tokenizer = importlib.import_module("tokenizers").Tokenizer.from_file(str(folder / "tokenizer.json"))
        tokenizer.no_truncation()
        tokenizer.no_padding()

    def answer(utterances: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        if not utterances:
            return []
        answers = np.asarray(forward(parameters, pack(about, utterances, tokenizer)))[0, : len(utterances)]
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


def pack(about: Mapping[str, Any], utterances: Sequence[Mapping[str, Any]], tokenizer: Any = None) -> dict[str, Any]:
    """Return one conversation as the model's input; its length is rounded up so that few lengths compile.

    Returns:
      "features", modality -> [1, T, d] float32, or of words what `tokens` returns; "present", modality -> [1, T] bool;
      "speaker", [1, T] int32 by first appearance; "real", [1, T] bool, False after the conversation's end.
    """
    count, longest = len(utterances), about["longest"]
    if longest and count > longest:
        raise ValueError(f"{count} utterances, but this model was exported for at most {longest}")
    length = -(-max(count, about["shortest"]) // 16) * 16
    numbers: dict[Any, int] = {}
    speaker = np.zeros((1, length), np.int32)
    speaker[0, :count] = [numbers.setdefault(u.get("speaker"), len(numbers)) for u in utterances]
    features: dict[str, Any] = {}
    present: dict[str, np.ndarray] = {}
    for modality in about["modalities"]:
        name, width = modality["name"], modality["width"]
        if "text" in modality:
            features[name] = tokens(modality["text"], tokenizer, utterances, length)
            present[name] = (features[name]["ids"] >= 0).any(axis=-1)
            continue
        rows, here = np.zeros((1, length, width), np.float32), np.zeros((1, length), bool)
        for turn, utterance in enumerate(utterances):
            if "features" not in utterance and tokenizer is None:
                raise ValueError(f"utterance {turn} has no features, and this model does not read text")
            given = (utterance.get("features") or {}).get(name)
            if given is not None:
                if np.shape(given) != (width,):
                    raise ValueError(f"utterance {turn}: {name} must be {width} numbers, not {np.shape(given)}")
                rows[0, turn] = given
                here[0, turn] = np.isfinite(given).all() and (np.any(given) or width == 1)
        features[name], present[name] = np.where(here[..., None], rows, np.float32(0)), here
    return {"features": features, "present": present, "speaker": speaker, "real": np.arange(length)[None] < count}


def tokens(
    text: Mapping[str, Any], tokenizer: Any, utterances: Sequence[Mapping[str, Any]], length: int
) -> dict[str, Any]:
    """Return the tokens of a conversation's utterances, as in training; their number is rounded up to a multiple of 16.

    Args:
      text: from model.json: the most tokens, how they are pooled, and the turns before and after that are read along.
      tokenizer: of the text encoder.
      utterances: with `text`, or `transcript`; no tokens where both are missing or empty.
      length: T.

    Returns:
      "ids" [1, T, S] int32, -1 at padding; "pooled" [1, T, S] bool, tokens that make the utterance's vector.
    """
    marks, joined, first = tokenizer.encode("").ids, any(text["turns"]), text["pooling"] == "cls"
    begin, end = (marks[:1], marks[-1:]) if len(marks) > 1 else ([], [])
    room, said = text["limit"] - len(marks), []
    for utterance in utterances:
        given = (utterance.get(name) for name in ("text", "transcript"))
        spoken = next((str(x) for x in given if x not in (None, "") and x == x), "")  # NaN is not itself
        speaker = utterance.get("speaker")
        tag = f"{speaker}: " if joined and speaker not in (None, "") else ""
        said.append(tag + spoken if spoken.strip() else "")
    own = [encoding.ids[:room] for encoding in tokenizer.encode_batch(said, add_special_tokens=False)]
    rows: list[tuple[list[int], list[bool]]] = []
    for turn, ids in enumerate(own):
        taken, left, sides = [turn], room - len(ids), dict(zip((-1, 1), text["turns"], strict=True))
        for distance in range(1, max(text["turns"]) + 1):
            for side, most in [*sides.items()]:
                other = turn + side * distance
                if distance > most or not 0 <= other < len(own) or len(own[other]) + 1 > left:
                    del sides[side]
                elif own[other]:
                    taken.append(other)
                    left -= len(own[other]) + 1
        row, pooled = [*begin], [not joined and not first] * len(begin)
        for other in sorted(taken):
            row += [*own[other], *end]
            pooled += [other == turn and not first] * len(own[other]) + [not joined and not first] * len(end)
        rows.append((row, [first, *pooled[1:]] if first else pooled) if ids else ([], []))
    size = -(-max(1, *(len(row) for row, _ in rows)) // 16) * 16
    made = {"ids": np.full((1, length, size), -1, np.int32), "pooled": np.zeros((1, length, size), bool)}
    for turn, (row, pooled) in enumerate(rows):
        made["ids"][0, turn, : len(row)], made["pooled"][0, turn, : len(row)] = row, pooled
    return made
