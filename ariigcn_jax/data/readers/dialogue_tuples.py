"""Read the pickled tuples of dictionaries that DialogueRNN began and most codes of the field have kept.

Each element is a dictionary from dialogue to a list over its utterances, or a collection of dialogues that is a split.
Codes differ in the elements' order. They are told apart by what the elements hold, not by the file's name.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ariigcn_jax.data import labels
from ariigcn_jax.data.fields import Fields, count, text_array
from ariigcn_jax.data.readers import columns
from ariigcn_jax.data.values import Rows, ShapeError, as_sequence, check_rows, class_numbers, is_number, kind, short
from ariigcn_jax.data.values import vector as as_vector
from ariigcn_jax.types import UserError

LAYERS = ("text_layer1", "text_layer2", "text_layer3", "text_layer4")
_WHO = ("ids", "speaker", "label")
_PLAIN = (*_WHO, "text", "audio", "visual", "transcript", "train")
_RICH = (*LAYERS, "audio", "visual", "transcript", "train", "test")
_ROBERTA = (*LAYERS, "transcript", "train", "test", "valid")
LAYOUTS: dict[str, tuple[str, ...]] = {  # name of a layout -> what its elements are, in order
    "DialogueRNN, DialogueGCN, MMGCN, MM-DFN, COGMEN: IEMOCAP": (*_PLAIN, "test"),
    "DialogueRNN: MELD": (*_WHO, "text", "audio", "transcript", "train", "test", "sentiment"),
    "MMGCN, MM-DFN: MELD": (*_PLAIN, "test", "sentiment"),
    "COGMEN: MOSEI": (*_PLAIN, "valid", "test"),
    "M3NET, SDT, GraphSmile, AGF-IB: IEMOCAP": (*_WHO, *_RICH),
    "M3NET, SDT, AGF-IB: MELD": (*_WHO, *_RICH, "sentiment"),
    "GraphSmile: MELD": (*_WHO, "sentiment", *_RICH, "valid"),
    "COSMIC, DAG-ERC": ("speaker", "label", *_ROBERTA),
    "COSMIC, DAG-ERC: MELD": ("speaker", "label", "sentiment", *_ROBERTA),
}
_MODALITIES = ("text", *LAYERS, "audio", "visual")
_SPLITS = ("train", "valid", "test")
_OPTIONAL = ("ids", "sentiment", "transcript")  # a dialogue may lack them
_ACCEPTED = {  # what an element in a place may hold; vectors in all others
    "ids": ("texts", "numbers", "empty"),
    "speaker": ("texts", "numbers", "vectors"),
    "label": ("numbers", "singles"),
    "sentiment": ("numbers", "texts", "empty"),
    "transcript": ("texts", "words"),
    **dict.fromkeys(_SPLITS, ("dialogues",)),
}
_IEMOCAP_DIALOGUE = re.compile(r"Ses0\d[FM]_(impro|script)\w+")
_MELD_TRAIN, _MELD_VALID, _MELD_TEST = 1152, 114, 280  # dialogues; train has those of the validation split too
_MELD_VALID_UTTERANCES = 1109


def recognise(data: Any) -> str | None:
    """Return the name in `LAYOUTS` of what a pickle holds, or None."""
    if not isinstance(data, list | tuple):
        return None
    kinds = [_kind(element) for element in data]
    for name, roles in LAYOUTS.items():
        accepted = [_ACCEPTED.get(role, ("vectors",)) for role in roles]
        if len(roles) == len(kinds) and all(k in some for k, some in zip(kinds, accepted, strict=True)):
            return name
    return None


def read_fields(path: Path, data: list[Any], modalities: Sequence[str] = ()) -> Fields:
    """Return the fields of a pickle, in the order train, validation, test.

    Args:
      path: the file.
      data: what it holds; emptied, so that it is not in memory twice.
      modalities: those asked for; LAYERS give single layers of RoBERTa instead of their mean.

    Raises:
      UserError: lengths or widths do not agree; says in which dialogue.
    """
    layout = recognise(data) or ""
    parts = dict(zip(LAYOUTS[layout], data, strict=True))
    data.clear()
    named = {
        role: {_name(dialogue): values for dialogue, values in part.items()}
        for role, part in parts.items()
        if isinstance(part, dict)
    }
    splits = {name: [_name(dialogue) for dialogue in parts.get(name, ())] for name in _SPLITS}
    unordered = [name for name in splits if isinstance(parts.get(name), set | frozenset)]
    for name in unordered:
        splits[name].sort()  # a set's order changes from process to process
    parts.clear()
    fields = Fields(path, {})
    fields.note(f"read as the layout of {layout}")
    reader = _Reader(fields, named, splits)
    reader.read(modalities)
    if reader.splits["valid"] or reader.has_validation_of_meld() or "train" in unordered:
        return fields
    return dataclasses.replace(fields, train_order=tuple(reader.splits["train"]))


def _kind(element: Any) -> str:
    """Return what an element is, by its first utterance that is not missing."""
    if not isinstance(element, dict):
        names = element if isinstance(element, set | frozenset) else as_sequence(element)
        is_split = names is not None and all(isinstance(name, str | bytes | int | np.generic) for name in names)
        return "dialogues" if is_split else "other"
    lists = (values for values in element.values() if as_sequence(values) is not None)
    for utterance in (utterance for values in lists for utterance in values):
        values = as_sequence(utterance)
        if utterance is None or (values is not None and not len(values)):
            continue
        inner = utterance if values is None else values[0]
        if isinstance(inner, str | bytes):
            return "texts" if values is None else "words"
        if is_number(inner):
            return "numbers" if values is None else "vectors" if len(values) > 1 else "singles"
        return "other" if as_sequence(inner) is None else "vectors"
    return "empty"


def _name(dialogue: Any) -> str:
    return dialogue.decode("latin-1") if isinstance(dialogue, bytes) else str(dialogue)


class _Reader:
    """Turn columns, role -> dialogue -> list over its utterances, into fields; columns of features are emptied."""

    def __init__(self, fields: Fields, values: dict[str, dict[str, Any]], splits: dict[str, list[str]]):
        self._fields, self._columns, self._path = fields, values, fields.path
        self._size = fields.path.stat().st_size
        self.splits = self._settle(splits)
        self._dialogues = [d for names in self.splits.values() for d in names]
        if not self._dialogues:
            raise UserError(f"{self._path}: none of its splits names a dialogue that has labels.")
        self._lengths = [self._measure(dialogue) for dialogue in self._dialogues]
        check_rows(sum(self._lengths), self._size, str(self._path))

    def _settle(self, splits: dict[str, list[str]]) -> dict[str, list[str]]:
        """Return the dialogues of each split, once each; note which are left out."""
        known, note = self._columns["label"], self._fields.note
        for name, names in splits.items():
            if unknown := [d for d in names if d not in known]:
                listed = f"{count(len(unknown), 'dialogue')} of the {name} list, such as {short(unknown[0])!r}"
                note(f"{listed}, has no utterances and is left out")
        settled = {name: [d for d in dict.fromkeys(names) if d in known] for name, names in splits.items()}
        test, valid = set(settled["test"]), set(settled["valid"])
        for name in ("train", "valid"):
            if both := [d for d in settled[name] if d in test]:
                what = f"{self._path}: the dialogue {short(both[0])!r} is in both the {name} and the test list"
                raise UserError(f"{what}. Context would leak: take it out of one of them.")
        if both := [d for d in settled["train"] if d in valid]:
            note(f"{count(len(both), 'dialogue')} of the train list is also in the valid list and counts as validation")
            settled["train"] = [d for d in settled["train"] if d not in valid]
        if unused := len(known) - len(set().union(*settled.values())):
            note(f"{count(unused, 'dialogue')} in none of the file's splits is left out")
        return settled

    def _measure(self, dialogue: str) -> int:
        """Return the number of a dialogue's utterances, which is the same in every column."""
        lengths = {role: self._length(role, dialogue) for role in self._columns if role != "ids"}
        found = {role: n for role, n in lengths.items() if n is not None}
        if len(set(found.values())) > 1:
            numbers = ", ".join(f"{n} in {role}" for role, n in found.items())
            what = f"{self._path}: the dialogue {short(dialogue)!r}"
            raise UserError(f"{what} has {numbers}. Every list must have one entry for each utterance.")
        return found["label"]

    def _length(self, role: str, dialogue: str) -> int | None:
        """Return the entries of a column for a dialogue; None where an optional column lacks it."""
        values = self._columns[role].get(dialogue)
        if values is None and role in _OPTIONAL:
            return None
        if (sequence := as_sequence(values)) is None:
            where = f"{self._path}: the dialogue {short(dialogue)!r}"
            raise UserError(f"{where} has {kind(values)} in the place of its {role}.")
        return len(sequence)

    def read(self, modalities: Sequence[str]) -> None:
        arrays, lengths = self._fields.arrays, self._lengths
        arrays["dialogue_id"] = np.repeat(text_array(self._dialogues), lengths)
        arrays["turn"] = np.concatenate([np.arange(n) for n in lengths])
        arrays["split"] = np.repeat(np.array([s for s in _SPLITS for _ in self.splits[s]]), lengths)
        arrays["speaker"] = self._speakers()
        for role, field in (("ids", "utterance_id"), ("transcript", "transcript")):
            if (values := self._flat(role)) is not None:
                arrays[field] = columns.texts(values, f"{self._path}: {role}")
            elif role in self._columns:
                self._fields.note(f"{role} does not have one entry for each utterance and is left out")
        self._read_labels()
        if _kind(self._columns.get("sentiment")) == "numbers" and (values := self._flat("sentiment")) is not None:
            scores = class_numbers(values, f"{self._path}: sentiment")
            if (_is_whole(scores) & (scores < len(labels.MELD_SENTIMENT))).all():
                arrays.update(sentiment=scores, sentiment_names=np.array(labels.MELD_SENTIMENT))
        self._read_features(modalities)

    def _flat(self, role: str) -> list[Any] | None:
        """Return a column's values, one for each utterance; None where it does not have them all."""
        if role not in self._columns or [self._length(role, d) for d in self._dialogues] != self._lengths:
            return None
        return [value for dialogue in self._dialogues for value in self._columns[role][dialogue]]

    def _speakers(self) -> np.ndarray:
        """Return [U] names as they are; for one-hot rows, the place of the one."""
        values, what = self._flat("speaker") or [], f"{self._path}: speaker"
        one_hot = [as_sequence(value) is not None for value in values]
        if not any(one_hot):
            return columns.texts(values, what)
        if not all(one_hot):
            raise UserError(f"{what}: one-hot rows and names are mixed.")
        return text_array([f"speaker {int(n)}" for n in class_numbers(values, what)])

    def _read_labels(self) -> None:
        arrays = self._fields.arrays
        scores = class_numbers(self._flat("label") or [], f"{self._path}: label")
        if not (np.isnan(scores) | (_is_whole(scores) & (scores >= -1))).all():
            classes = "negative, neutral (exactly zero) and positive; `binary` has no neutral one"
            self._fields.note(f"the labels are sentiment scores: the classes are {classes}")
            arrays.update(columns.signs(scores))
            return
        arrays["label"] = np.where(np.isnan(scores), -1, scores)
        number = int(np.nanmax(scores, initial=-1)) + 1
        if all(_IEMOCAP_DIALOGUE.fullmatch(d) for d in self._dialogues) and number <= len(labels.IEMOCAP):
            arrays["label_names"] = np.array(labels.IEMOCAP if number > 4 else labels.IEMOCAP[:4])
        elif "sentiment" in self._columns and len(labels.MELD_SENTIMENT) < number <= len(labels.MELD):
            arrays["label_names"] = np.array(labels.MELD)
        else:
            self._fields.note("the file does not name its classes: they are called by their numbers")

    def _read_features(self, modalities: Sequence[str]) -> None:
        there = [m for m in _MODALITIES if m in self._columns]
        layers = [m for m in LAYERS if m in there]
        offered = (["text"] if layers else []) + there
        chosen = [m for m in offered if (m in modalities if modalities else m not in LAYERS)]
        if layers and "text" in chosen:
            single = f"{LAYERS[0]} … {LAYERS[-1]}"
            self._fields.note(f"text is the mean of RoBERTa's four layers; data.modalities may ask for {single}")
        for modality in sorted(chosen, key=lambda m: m not in LAYERS):  # layers before their mean, which uses them up
            roles = layers if layers and modality == "text" else [modality]
            self._read_modality(modality, roles, keep=modality in LAYERS and "text" in chosen)

    def _read_modality(self, modality: str, roles: Sequence[str], keep: bool) -> None:
        """Read the mean of columns, which are used up unless they are to be kept."""
        rows = Rows(sum(self._lengths), f"{self._path}: {modality}", self._size)
        row = 0
        for dialogue in self._dialogues:
            where = f"the dialogue {short(dialogue)!r}"
            for values in zip(*(self._columns[role][dialogue] for role in roles), strict=True):
                try:
                    rows.put(row, values[0] if len(values) == 1 else _mean(values), where)
                except ShapeError as error:
                    raise UserError(f"{self._path}: {modality}: {where}: {error}.") from None
                row += 1
            for role in () if keep else roles:
                del self._columns[role][dialogue]
        columns.keep(self._fields, modality, rows, f"{modality} is empty in every dialogue and is left out")

    def has_validation_of_meld(self) -> bool:
        """Make the last train dialogues validation where they are MELD's own; return whether they are."""
        train = self.splits["train"]
        if len(train) != _MELD_TRAIN or len(self.splits["test"]) != _MELD_TEST or not all(map(str.isdecimal, train)):
            return False
        valid = sorted(train, key=int)[-_MELD_VALID:]
        rows = np.isin(self._fields.arrays["dialogue_id"], valid)
        if rows.sum() != _MELD_VALID_UTTERANCES:
            return False
        self._fields.arrays["split"][rows] = "valid"
        self._fields.note("the last 114 train dialogues are MELD's own validation split and are used as it")
        return True


def _is_whole(numbers: np.ndarray) -> np.ndarray:
    return np.isfinite(numbers) & (numbers == np.round(numbers))


def _mean(values: Sequence[Any]) -> np.ndarray | None:
    """Return the mean of an utterance's vectors that are there ([d] each); None where none is."""
    there = [v for v in map(as_vector, values) if v is not None]
    if len(there) < 2:
        return there[0] if there else None
    if len({len(v) for v in there}) > 1:
        raise ShapeError(f"the layers of the text have {min(map(len, there))} and {max(map(len, there))} features")
    total = there[0].astype(np.float32)
    for each in there[1:]:
        total += each
    return total / len(there)
