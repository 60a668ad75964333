"""Reads the pickled tuples of dictionaries that DialogueRNN began and most codes of the field have kept.

Each element is a dictionary from dialogue to a list over its utterances, or a collection of dialogues that is a split.
The orders differ from code to code; they are told apart by what the elements hold, not by the file's name.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ariigcn_jax.data import labels
from ariigcn_jax.data.fields import Fields, count, text_array
from ariigcn_jax.data.values import (
    ShapeError,
    as_sequence,
    check_size,
    class_numbers,
    is_number,
    kind,
    short,
    text,
    vector,
)
from ariigcn_jax.types import UserError

LAYERS = ("text_layer1", "text_layer2", "text_layer3", "text_layer4")
_RICH = ("ids", "speaker", "label", *LAYERS, "audio", "visual", "transcript", "train", "test")
_ROBERTA = (*LAYERS, "transcript", "train", "test", "valid")

# Name of a layout -> what its elements are, in order.
LAYOUTS: dict[str, tuple[str, ...]] = {
    "DialogueRNN, DialogueGCN, MMGCN, MM-DFN, COGMEN: IEMOCAP": (
        *("ids", "speaker", "label", "text", "audio", "visual", "transcript", "train", "test"),
    ),
    "DialogueRNN: MELD": ("ids", "speaker", "label", "text", "audio", "transcript", "train", "test", "sentiment"),
    "MMGCN, MM-DFN: MELD": (
        *("ids", "speaker", "label", "text", "audio", "visual", "transcript", "train", "test", "sentiment"),
    ),
    "COGMEN: MOSEI": (*("ids", "speaker", "label", "text", "audio", "visual", "transcript", "train", "valid", "test"),),
    "M3NET, SDT, GraphSmile, AGF-IB: IEMOCAP": _RICH,
    "M3NET, SDT, AGF-IB: MELD": (*_RICH, "sentiment"),
    "GraphSmile: MELD": (*_RICH[:3], "sentiment", *_RICH[3:], "valid"),
    "COSMIC, DAG-ERC": ("speaker", "label", *_ROBERTA),
    "COSMIC, DAG-ERC: MELD": ("speaker", "label", "sentiment", *_ROBERTA),
}
_MODALITIES = ("text", *LAYERS, "audio", "visual")
_SPLITS = ("train", "valid", "test")
_IEMOCAP_DIALOGUE = re.compile(r"Ses0\d[FM]_(impro|script)\w+")
_MELD_SIZES = (1152, 280, 114, 1109)  # train and validation dialogues, test; validation dialogues, their utterances


def recognise(data: Any) -> str | None:
    """The name in `LAYOUTS` of what a pickle holds, or None."""
    if not isinstance(data, list | tuple):
        return None
    kinds = [_kind(element) for element in data]
    return next((name for name, roles in LAYOUTS.items() if _fits(roles, kinds)), None)


def read_fields(path: Path, data: Sequence[Any], layout: str, modalities: Sequence[str] = ()) -> Fields:
    """The fields of a pickle.

    Args:
      path: the file.
      data: what it holds; emptied while it is read, so that it is not in memory twice.
      layout: what `recognise` found.
      modalities: those asked for; LAYERS give single layers of RoBERTa instead of their mean.

    Returns:
      Fields in the order train, validation, test.

    Raises:
      UserError: lengths or widths do not agree; says in which dialogue.
    """
    size = path.stat().st_size
    parts = dict(zip(LAYOUTS[layout], data, strict=True))
    columns = {role: _by_name(part) for role, part in parts.items() if isinstance(part, dict)}
    splits = {name: _names(parts[name]) for name in _SPLITS if name in parts}
    ordered = not isinstance(parts["train"], set | frozenset)
    del parts, data
    reader = _Reader(path, size, columns, splits, ordered)
    reader.fields.note(f"read as the layout of {layout}")
    reader.read(tuple(modalities))
    return reader.fields


def _fits(roles: Sequence[str], kinds: Sequence[str]) -> bool:
    if len(roles) != len(kinds):
        return False
    return all(found in _ACCEPTED.get(role, ("vectors",)) for role, found in zip(roles, kinds, strict=True))


_ACCEPTED = {
    "ids": ("texts", "numbers", "empty"),
    "speaker": ("texts", "numbers", "vectors"),
    "label": ("numbers", "singles"),
    "sentiment": ("numbers", "texts", "empty"),
    "transcript": ("texts", "words"),
    **dict.fromkeys(_SPLITS, ("dialogues",)),
}


def _kind(element: Any) -> str:
    """What an element is, by its first utterance."""
    if isinstance(element, dict):
        lists = (v for v in element.values() if as_sequence(v) is not None)
        first = next((u for values in lists for u in values if not _is_missing(u)), None)
        return "empty" if first is None else _kind_of_utterance(first)
    if isinstance(element, list | tuple | set | frozenset) or (isinstance(element, np.ndarray) and element.ndim == 1):
        return "dialogues" if all(isinstance(d, str | bytes | int | np.generic) for d in element) else "other"
    return "other"


def _is_missing(value: Any) -> bool:
    return value is None or (not isinstance(value, str) and as_sequence(value) is not None and not len(value))


def _kind_of_utterance(value: Any) -> str:
    if isinstance(value, str | bytes):
        return "texts"
    if is_number(value):
        return "numbers"
    inner = as_sequence(value)
    if inner is None or not len(inner):
        return "other"
    if isinstance(inner[0], str | bytes):
        return "words"
    if is_number(inner[0]):
        return "vectors" if len(inner) > 1 else "singles"
    return "vectors" if as_sequence(inner[0]) is not None else "other"


def _name(dialogue: Any) -> str:
    return dialogue.decode("latin-1") if isinstance(dialogue, bytes) else str(dialogue)


def _names(split: Any) -> list[str]:
    """A set's order changes from process to process."""
    names = [_name(d) for d in split]
    return sorted(names) if isinstance(split, set | frozenset) else names


def _by_name(part: dict[Any, Any]) -> dict[str, Any]:
    return {_name(dialogue): values for dialogue, values in part.items()}


class _Reader:
    """Turns columns, dialogue → list over utterances, into fields."""

    def __init__(
        self,
        path: Path,
        size: int,
        columns: dict[str, dict[str, Any]],
        splits: dict[str, list[str]],
        ordered: bool,
    ):
        self.fields = Fields(path, {})
        self._ordered = ordered  # whether the train split has an order, from which validation can be taken
        self._path, self._size, self._columns = path, size, columns
        self._splits = self._settle(splits)
        self._dialogues = [d for names in self._splits.values() for d in names]
        if not self._dialogues:
            raise UserError(f"{path}: none of its splits names a dialogue that has labels.")
        self._lengths = self._measure()

    def _settle(self, splits: dict[str, list[str]]) -> dict[str, list[str]]:
        """The dialogues of each split, once each; says which were left out."""
        known = self._columns["label"]
        settled: dict[str, list[str]] = {}
        for name in _SPLITS:
            unknown = [d for d in splits.get(name, []) if d not in known]
            if unknown:
                self.fields.note(
                    f"{count(len(unknown), 'dialogue')} of the {name} list, such as {short(unknown[0])!r}, has no "
                    "utterances and is left out"
                )
            settled[name] = [d for d in dict.fromkeys(splits.get(name, [])) if d in known]
        in_test, in_valid = set(settled["test"]), set(settled["valid"])
        for name in ("train", "valid"):
            if both := [d for d in settled[name] if d in in_test]:
                raise UserError(
                    f"{self._path}: the dialogue {short(both[0])!r} is in both the {name} and the test list. "
                    "Context would leak: take it out of one of them."
                )
        if both := [d for d in settled["train"] if d in in_valid]:
            self.fields.note(
                f"{count(len(both), 'dialogue')} of the train list is also in the valid list and counts as validation"
            )
            settled["train"] = [d for d in settled["train"] if d not in in_valid]
        if unused := len(known) - len(set().union(*settled.values())):
            self.fields.note(f"{count(unused, 'dialogue')} in none of the file's splits is left out")
        return settled

    def _measure(self) -> list[int]:
        """Utterances of each dialogue, the same in every column."""
        lengths = []
        for dialogue in self._dialogues:
            each = {role: self._length(role, dialogue) for role in self._columns if role != "ids"}
            found = {role: n for role, n in each.items() if n is not None}
            if len(set(found.values())) > 1:
                numbers = ", ".join(f"{n} in {role}" for role, n in found.items())
                raise UserError(
                    f"{self._path}: the dialogue {short(dialogue)!r} has {numbers}. Every list must have one "
                    "entry for each utterance."
                )
            lengths.append(found["label"])
        check_size(64 * sum(lengths), self._size, str(self._path))
        return lengths

    def _length(self, role: str, dialogue: str) -> int | None:
        """Entries of a column for a dialogue; None where an optional column lacks it."""
        values = self._columns[role].get(dialogue)
        sequence = as_sequence(values)
        if sequence is None:
            if role in ("sentiment", "ids", "transcript") and values is None:
                return None
            raise UserError(
                f"{self._path}: the dialogue {short(dialogue)!r} has {kind(values)} in the place of its {role}."
            )
        return len(sequence)

    def read(self, modalities: tuple[str, ...]) -> None:
        """Fills the fields."""
        arrays, dialogues, lengths = self.fields.arrays, self._dialogues, self._lengths
        arrays["dialogue_id"] = np.repeat(text_array(dialogues), lengths)
        arrays["turn"] = np.concatenate([np.arange(n) for n in lengths])
        split = [name for name in _SPLITS for _ in self._splits[name]]
        arrays["split"] = np.repeat(np.array(split), lengths)
        arrays["speaker"] = self._speakers()
        if ids := self._texts("ids"):
            arrays["utterance_id"] = text_array(ids)
        if words := self._texts("transcript"):
            arrays["transcript"] = text_array(words)
        self._labels()
        self._sentiment()
        self._features(modalities)
        self._validation()

    def _flat(self, role: str) -> list[Any]:
        column = self._columns[role]
        return [value for dialogue in self._dialogues for value in column[dialogue]]

    def _texts(self, role: str) -> list[str] | None:
        """Text of every utterance; None where the column is not there for all."""
        if role not in self._columns:
            return None
        if any(self._length(role, d) != n for d, n in zip(self._dialogues, self._lengths, strict=True)):
            self.fields.note(f"{role} does not have one entry for each utterance and is left out")
            return None
        try:
            return [text(value) for value in self._flat(role)]
        except ShapeError as error:
            raise UserError(f"{self._path}: {role}: {error}.") from None

    def _speakers(self) -> np.ndarray:
        """Names as they are; the place of the one in one-hot rows."""
        values = self._flat("speaker")
        if all(as_sequence(v) is None for v in values):
            return text_array([text(v) for v in values])
        if any(as_sequence(v) is None for v in values):
            raise UserError(f"{self._path}: speaker: one-hot rows and names are mixed.")
        return text_array([f"speaker {int(n)}" for n in class_numbers(values, f"{self._path}: speaker")])

    def _labels(self) -> None:
        arrays = self.fields.arrays
        scores = class_numbers(self._flat("label"), f"{self._path}: label")
        whole = np.isnan(scores) | (np.isfinite(scores) & (scores == np.round(scores)) & (scores >= -1))
        if not whole.all():
            self.fields.note(
                "the labels are sentiment scores: the classes are negative, neutral (exactly zero) and "
                "positive; `binary` has no neutral one"
            )
            arrays["label"], arrays["label_names"] = labels.by_sign(scores), np.array(labels.POLARITY)
            arrays["binary"], arrays["binary_names"] = labels.without_neutral(scores), np.array(labels.POLARITY[::2])
            return
        arrays["label"] = np.where(np.isnan(scores), -1, scores)
        names = self._class_names(int(np.nanmax(scores, initial=-1)) + 1)
        if names:
            arrays["label_names"] = np.array(names)
        else:
            self.fields.note("the file does not name its classes: they are called by their numbers")

    def _class_names(self, classes: int) -> tuple[str, ...] | None:
        if all(_IEMOCAP_DIALOGUE.fullmatch(d) for d in self._dialogues) and classes <= len(labels.IEMOCAP):
            return labels.IEMOCAP if classes > 4 else labels.IEMOCAP[:4]
        if "sentiment" in self._columns and classes <= len(labels.MELD) and classes > len(labels.MELD_SENTIMENT):
            return labels.MELD
        return None

    def _sentiment(self) -> None:
        if "sentiment" not in self._columns or _kind(self._columns["sentiment"]) != "numbers":
            return
        if any(self._length("sentiment", d) is None for d in self._dialogues):
            return
        scores = class_numbers(self._flat("sentiment"), f"{self._path}: sentiment")
        known = np.isfinite(scores) & (scores == np.round(scores)) & (scores < len(labels.MELD_SENTIMENT))
        if known.all():
            self.fields.arrays["sentiment"] = scores
            self.fields.arrays["sentiment_names"] = np.array(labels.MELD_SENTIMENT)

    def _features(self, modalities: tuple[str, ...]) -> None:
        there = [m for m in _MODALITIES if m in self._columns]
        layers = [m for m in LAYERS if m in there]
        offered = (["text"] if layers else []) + there
        chosen = [m for m in offered if m in modalities] if modalities else [m for m in offered if m not in LAYERS]
        single = [m for m in chosen if m in LAYERS]
        for modality in single:  # before their mean, which uses them up
            self._put(modality, [modality], keep="text" in chosen)
        if layers and "text" in chosen:
            self.fields.note(
                "text is the mean of RoBERTa's four layers; data.modalities may ask for text_layer1 … text_layer4"
            )
            self._put("text", layers)
        for layer in layers:
            del self._columns[layer]
        for modality in chosen:
            if modality not in self.fields.arrays:
                self._put(modality, [modality])

    def _put(self, modality: str, roles: Sequence[str], keep: bool = False) -> None:
        """A modality that is the mean of columns, which are used up."""
        columns = [self._columns[role] for role in roles]
        take: Callable[[dict[str, Any], str], Any] = dict.get if keep else dict.pop
        rows: np.ndarray | None = None
        start = 0
        for dialogue, length in zip(self._dialogues, self._lengths, strict=True):
            parts = [self._matrix(modality, dialogue, take(column, dialogue)) for column in columns]
            part = parts[0] if len(parts) == 1 else _mean(parts)
            if part is not None and rows is None:
                what = f"{self._path}: {modality}"
                check_size(4 * sum(self._lengths) * part.shape[1], self._size, what)
                rows = np.full((sum(self._lengths), part.shape[1]), np.nan, np.float32)
            if part is not None and rows is not None:
                if part.shape[1] != rows.shape[1]:
                    raise UserError(
                        f"{self._path}: {modality}: the dialogue {short(dialogue)!r} has vectors of "
                        f"{part.shape[1]} where those before it have {rows.shape[1]}. All vectors of a modality "
                        "must have one width."
                    )
                with np.errstate(over="ignore", invalid="ignore"):
                    rows[start : start + length] = part
            start += length
        if rows is None:
            self.fields.note(f"{modality} is empty in every dialogue and is left out")
        else:
            self.fields.arrays[modality] = rows

    def _matrix(self, modality: str, dialogue: str, values: Any) -> np.ndarray | None:
        """[T, d], NaN where there is no vector; None where there is none at all."""
        if isinstance(values, np.ndarray) and values.ndim == 2 and values.dtype.kind in "fiub":
            return values if values.size else None
        try:
            vectors = [vector(v) for v in values]
        except ShapeError as error:
            raise UserError(f"{self._path}: {modality}: the dialogue {short(dialogue)!r}: {error}.") from None
        widths = {len(v) for v in vectors if v is not None}
        if len(widths) > 1:
            raise UserError(
                f"{self._path}: {modality}: the dialogue {short(dialogue)!r} has vectors of {min(widths)} and of "
                f"{max(widths)}. All vectors of a modality must have one width."
            )
        if not widths:
            return None
        missing = np.full(widths.pop(), np.nan)
        return np.stack([missing if v is None else v for v in vectors])

    def _validation(self) -> None:
        """MELD's own validation dialogues where the file has them in train; else published codes' custom."""
        train = self._splits["train"]
        if self._splits["valid"]:
            return
        total, test, held, utterances = _MELD_SIZES
        if len(train) == total and len(self._splits["test"]) == test and all(d.isdecimal() for d in train):
            last = set(sorted(train, key=int)[-held:])
            if sum(n for d, n in zip(self._dialogues, self._lengths, strict=True) if d in last) == utterances:
                rows = np.isin(self.fields.arrays["dialogue_id"], sorted(last))
                self.fields.arrays["split"] = np.where(rows, "valid", self.fields.arrays["split"])
                self.fields.note("the last 114 train dialogues are MELD's own validation split and are used as it")
                return
        if self._ordered:
            self.fields = dataclasses.replace(self.fields, train_order=tuple(train))


def _mean(parts: Sequence[np.ndarray | None]) -> np.ndarray | None:
    there = [p for p in parts if p is not None]
    if not there:
        return None
    if len({p.shape for p in there}) > 1:
        widths = sorted({p.shape[1] for p in there})
        raise UserError(f"the four layers of the text have different widths, {widths[0]} and {widths[-1]}.")
    mean = there[0].astype(np.float32)
    for part in there[1:]:
        mean += part
    return mean / len(there)
