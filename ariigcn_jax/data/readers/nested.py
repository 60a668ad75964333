"""Flatten JSON to rows of one utterance each, however its dialogues are nested.

    [{…}, {…}]                                           utterances
    [[{…}, {…}], [{…}]]                                  dialogues
    {"d1": [{…}], "d2": {"u1": {…}, "u2": {…}}}          dialogues by name, utterances by name
    {"episodes": [{"scenes": [{"utterances": [{…}]}]}]}  what holds dialogues, to any depth; their names are joined
    {"train": …, "dev": …, "test": …}                    any of these for each split
    {"dialog": ["hi", "hey"], "emotion": [0, 1]}         a dialogue with a list for each column
    {"label": {"0": 3, "1": 5}, "text": {"0": …}}        a table by columns, as pandas writes it
    {"utterance": "no", "context": ["hi", "hey"]}        an utterance, and what was said before it

Numbers and texts that stand beside utterances, or further out, are said of each of them.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from ariigcn_jax.data.fields import SPLIT_NAMES, count, is_named_like_a_modality, listed
from ariigcn_jax.data.readers import columns
from ariigcn_jax.data.values import as_sequence, is_number, kind
from ariigcn_jax.types import UserError

Row = dict[str, Any]
Name = int | str | None  # of an entry: its number or its key; None for a whole file
_UTTERANCES = ("utterances", "turns", "dialogue", "dialog", "conversation")  # where a dialogue keeps them
_DIALOGUES = ("dialogues", "dialogs", "conversations", "scenes", "episodes", "seasons", "sessions", "data")
_CONTEXT = ("context", "context_sentences", "history")  # what was said before an utterance
_DEEPEST = 20  # lists and objects around a dialogue
_WORDS = (*columns.ALIASES["transcript"], "text")
_MEANT = {field: columns.ALIASES[field] for field in ("label", "speaker")} | {"transcript": (*_WORDS, *_UTTERANCES)}


class Flattener:
    """Make rows of what a file holds.

    `notes` gets what the user should know of them, after the last one. The numbers that are the names of dialogues
    without another count from `first`.
    """

    def __init__(self, path: Path, notes: list[str], first: int = 0):
        self._path, self._notes, self._first = path, notes, first
        self._sentences = 0  # of context
        self._lists: Row = {}  # the columns that dialogues have as lists

    def rows(self, value: Any) -> Iterator[Row]:
        """Yield the rows of a list or an object of JSON, or of an iterator of entries.

        Raises:
          UserError: it holds something other than utterances and dialogues.
        """
        yield from self._file(value, (), {})
        if self._sentences:
            said = count(self._sentences, "sentence")
            self._notes.append(f"{said} of context became unlabelled turns before their utterances")
        if self._lists:
            self._notes.append(f"read as lists with one value an utterance: {listed(self._lists)}")

    def _file(self, value: Any, above: tuple[str, ...], shared: Row) -> Iterator[Row]:
        """Yield the rows of a file, or of one of its splits, whose utterances need not be in dialogues."""
        if not isinstance(value, dict):
            yield from self._entries(enumerate(value), above, shared, self._first)
        elif not above and _are_splits(value):
            for split, part in value.items():
                yield from self._file(part, (split,), {"split": split})
        elif _are_columns(value):
            numbers = next(iter(value.values()))
            rows = ({name: cells[number] for name, cells in value.items()} for number in numbers)
            yield from self._entries(enumerate(rows), above, shared)
        elif _utterances(value) is not None or _lists(value):
            yield from self._entry(value, None, above, shared)
        elif isinstance(inner := _dialogues(value), dict) and inner.keys() <= value.keys():
            yield from self._entries(inner.items(), above, shared)
        elif inner is not None:
            yield from self._file(inner, above, shared)
        elif all(isinstance(part, dict) or _are_objects(part) for part in value.values()):
            yield from self._entries(value.items(), above, shared)
        else:
            yield from self._entry(value, None, above, shared)

    def _entries(
        self, entries: Iterable[tuple[Name, Any]], above: tuple[str, ...], shared: Row, first: int = 0
    ) -> Iterator[Row]:
        for name, entry in entries:
            if not isinstance(entry, dict) and not _are_objects(entry):
                raise UserError(f"{self._path}: entry {name} of the JSON is {kind(entry)}, not an object.")
            yield from self._entry(entry, name + first if isinstance(name, int) else name, above, shared)

    def _entry(self, entry: Any, name: Name, above: tuple[str, ...], shared: Row) -> Iterator[Row]:
        """Yield the rows of an utterance, of a dialogue, or of what holds dialogues.

        Args:
          entry: an object or a list.
          name: of it.
          above: the names of what it is in, from the outermost.
          shared: what is said there of every utterance.
        """
        if len(above) > _DEEPEST:
            raise UserError(f"{self._path}: its dialogues are inside more than {_DEEPEST} lists and objects.")
        if isinstance(entry, list):
            yield from self._members(entry, {}, name, above, shared)
            return
        own = {key: value for key, value in entry.items() if as_sequence(value) is None and not isinstance(value, dict)}
        if (inner := _utterances(entry)) is not None:
            yield from self._members(inner, own, name, above, shared)
        elif lists := _lists(entry):
            self._check_lengths(entry, lists, name)
            self._lists |= dict.fromkeys(lists)
            utterances = zip(*lists.values(), strict=True)
            rows = [dict(zip(map(_singular, lists), values, strict=True)) for values in utterances]
            yield from self._members(rows, own, name, above, shared)
        elif (inner := _dialogues(entry)) is not None:
            yield from self._members(inner, own, name, above, shared)
        else:
            yield from self._single(entry, name, above, shared)

    def _members(self, members: list | Row, own: Row, name: Name, above: tuple[str, ...], shared: Row) -> Iterator[Row]:
        """Yield the rows of a dialogue's utterances, or of what else is in an entry that says `own` of itself."""
        by_name = isinstance(members, dict)
        items: list[tuple[Name, Any]] = list(members.items() if isinstance(members, dict) else enumerate(members))
        if isinstance(name, str):
            own = {"dialogue_id": name, **own}
        if not all(isinstance(member, dict) and _is_utterance(member) for _, member in items):
            id = _name_of(own)
            if name is not None:
                above = (*above, str(own[id] if id else name))
            shared = shared | {k: v for k, v in own.items() if columns.plain(k) not in columns.NAMES}
            yield from self._entries(items, above, shared)
            return
        id = columns.find(own, "utterance_id")
        said = {key: value for key, value in own.items() if key != id}
        if columns.find(said, "dialogue_id") is None:
            id = id or (_name_of(own) if above else None)
            said["dialogue_id"] = str(own[id] if id else name or 0)
        for turn, (key, member) in enumerate(items):
            named = {"id": key} if by_name else {}
            yield _row({**shared, **said, "turn": turn, **named, **member}, above)

    def _single(self, entry: Row, name: Name, above: tuple[str, ...], shared: Row) -> Iterator[Row]:
        """Yield an utterance that is in no dialogue here, after its context where it names none either."""
        row = {**shared, **({"id": name} if isinstance(name, str) else {}), **entry}
        key = next((key for key in _CONTEXT if key in row), "")
        context = (row[key] or []) if key else None
        if not isinstance(context, list) or not _are_words(context) or columns.find(row, "dialogue_id"):
            yield _row(row, above)
            return
        self._sentences += len(context)
        names = {field: columns.find(row, field) for field in ("utterance_id", "speaker", "transcript")}
        id, speaker = names["utterance_id"], names["speaker"] or "speaker"
        words = names["transcript"] or ("text" if isinstance(row.get("text"), str) else "transcript")
        dialogue = {"dialogue_id": str(row[id] if id else name or 0)}
        speakers = row.pop("context_speakers", None)
        known = isinstance(speakers, list) and len(speakers) == len(context)
        for turn, said in enumerate(context):
            earlier = said if isinstance(said, dict) else {words: said, speaker: speakers[turn] if known else None}
            named = {id: f"{row[id]}_context{turn}"} if id else {}
            yield _row({**shared, **named, **earlier, **dialogue}, above)
        yield _row({k: v for k, v in row.items() if k not in (key, "turn")} | dialogue, above)

    def _check_lengths(self, entry: Row, lists: Row, name: Name) -> None:
        length = len(next(iter(lists.values())))
        for key in entry.keys() - lists.keys():
            needed = columns.find([_singular(key)], "label") or columns.find([key], "speaker")
            values = as_sequence(entry[key])
            if (needed or is_named_like_a_modality(key)) and values is not None and len(values):
                raise UserError(
                    f"{self._path}: dialogue {name or 0} has {count(length, 'utterance')}, but its `{key}` has "
                    f"{count(len(values), 'value')}. Give it one an utterance."
                )


def _are_objects(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(each, list | dict) for each in value)


def _are_words(values: list) -> bool:
    return all(isinstance(each, str | dict) for each in values)


def _are_splits(value: Row) -> bool:
    found = {SPLIT_NAMES.get(key.strip().lower()) for key in value}
    return "train" in found and None not in found and all(isinstance(part, list | dict) for part in value.values())


def _are_columns(value: Row) -> bool:
    """Return whether an object has columns whose cells are by number of the row."""
    meant = sum(columns.find(value, field) is not None for field in columns.TEXTS)
    numbers = [cells.keys() if isinstance(cells, dict) else {} for cells in value.values()]
    first = numbers[0] if meant > 1 else {}
    return bool(first) and all(keys == first for keys in numbers) and all(key.isdecimal() for key in first)


def _utterances(entry: Row) -> list | Row | None:
    """Return what a dialogue keeps under one of the names for its utterances; None for other objects."""
    lists = (inner for key in _UTTERANCES if isinstance(inner := entry.get(key), list) and inner)
    objects = next((inner for inner in lists if all(isinstance(each, dict) for each in inner)), None)
    return objects or next((entry[key] for key in _UTTERANCES if _holds(entry.get(key))), None)


def _dialogues(entry: Row) -> list | Row | None:
    """Return what holds the dialogues in an object, or its utterances by name; None for an utterance."""
    if _has_content(entry):
        return None
    if inner := next((entry[key] for key in _DIALOGUES if _holds(entry.get(key))), None):
        return inner
    held = {key: value for key, value in entry.items() if key not in _CONTEXT and _holds(value)}
    if len(held) == 1 < len(entry):
        return next(iter(held.values()))
    return held or (entry if _holds(entry) else None)


def _is_utterance(entry: Row) -> bool:
    return _utterances(entry) is None and not _lists(entry) and _dialogues(entry) is None


def _holds(value: Any, depth: int = 0) -> bool:
    """Return whether a list, or an object by names, leads to utterances; its first member stands for all."""
    if depth > _DEEPEST or not value or not isinstance(value, list | dict):
        return False
    members = value if isinstance(value, list) else [*value.values()]
    first = next((member for member in members if member), None)
    if not _are_objects(members) or first is None or (isinstance(value, dict) and _has_content(value)):
        return False
    if isinstance(first, list):
        return _holds(first, depth + 1)
    return bool(_has_content(first) or _lists(first)) or any(_holds(inner, depth + 1) for inner in first.values())


def _has_content(entry: Row) -> bool:
    """Return whether an object has words or features, as an utterance does."""
    if isinstance(entry.get("features"), dict):
        return True
    if any(isinstance(value, str) and columns.plain(key) in _WORDS for key, value in entry.items()):
        return True
    vectors = [key for key, value in entry.items() if _is_vector(value)]
    known = any(map(is_named_like_a_modality, vectors))
    return known or (bool(vectors) and any(columns.find(entry, field) for field in _MEANT))


def _is_vector(value: Any) -> bool:
    values = as_sequence(value)
    return values is not None and len(values) > 0 and is_number(values[0])


def _lists(entry: Row) -> Row:
    """Return the lists of a dialogue that has one for each column, of one value an utterance; {} for other objects.

    One of words or of speakers is among them, and another one of labels, speakers, words or vectors. An utterance may
    have a list of its tokens and one of its labels, too; but then its speaker, label or features are single ones.
    """
    lists = {key: value for key, value in entry.items() if (values := as_sequence(value)) is not None and len(values)}
    if not any(isinstance(value[0], str) for value in lists.values()) or isinstance(entry.get("features"), dict):
        return {}
    meant = {key: _meaning(key) for key in entry}
    texts = {key for key, value in lists.items() if all(isinstance(each, str) for each in value)}
    anchors = [key for field in ("transcript", "speaker") for key in lists if meant[key] == field and key in texts]
    if not anchors:
        return {}
    found = {key: value for key, value in lists.items() if len(value) == len(lists[anchors[0]])}
    others = [key for key, v in found.items() if key != anchors[0] and (meant[key] or as_sequence(v[0]) is not None)]
    single = {meant[key] for key, value in entry.items() if key not in lists and value is not None}
    of_one = "transcript" in single or (anchors[0] not in _UTTERANCES and single & {"label", "speaker"})
    vectors = any(is_named_like_a_modality(key) and _is_vector(lists[key]) for key in lists.keys() - found.keys())
    return found if others and not of_one and not vectors else {}


@functools.lru_cache(4096)
def _meaning(key: str) -> str:
    """Return the field that a list of this name holds, of labels, speakers and transcripts; "" for none of these."""
    return next((field for field, names in _MEANT.items() if _singular(key) in (field, *names)), "")


@functools.lru_cache(4096)
def _singular(key: str) -> str:
    """Return the name of a column for the name of a list of its values; utterances are transcripts."""
    name = columns.plain(key)
    if name in _UTTERANCES:
        return "transcript"
    single = name.removesuffix("s")
    return single if any(single in names for names in (*columns.ALIASES.values(), ("text",))) else key


def _name_of(own: Row) -> str | None:
    """Return the key of the name of what holds dialogues."""
    ids = (key for key in own if columns.plain(key).endswith("_id") and columns.find([key], "speaker") is None)
    return columns.find(own, "dialogue_id") or columns.find(own, "utterance_id") or next(ids, None)


def _row(row: Row, above: tuple[str, ...]) -> Row:
    """Return a row with lists of numbers as arrays, features in the row itself, and the whole name of its dialogue."""
    for key in ("features", "feature"):
        if isinstance(features := row.get(key), dict):
            row = {k: v for k, v in row.items() if k != key}
            if "text" in features and isinstance(row.get("text"), str) and not columns.find(row, "transcript"):
                row["transcript"] = row.pop("text")
            row |= features
    if isinstance(speakers := row.get("speakers"), list) and columns.find(row, "speaker") is None:
        row = {k: v for k, v in row.items() if k != "speakers"} | {"speaker": ", ".join(map(str, speakers))}
    if above and (dialogue := columns.find(row, "dialogue_id")) is not None:
        row = row | {dialogue: _joined((*above, str(row[dialogue])))}
    return {name: _array(name, v) if isinstance(v, list) else v for name, v in row.items()}


def _joined(names: tuple[str, ...]) -> str:
    """Return s1_e1_c1 of s1, e1 and c1, and of s1, s1_e1 and s1_e1_c1."""
    joined = names[0]
    for name in names[1:]:
        joined = name if name.startswith((f"{joined}_", f"{joined}-")) else f"{joined}_{name}"
    return joined


def _array(name: str, values: list[Any]) -> Any:
    """Return [d] float64, or a list that holds something other than numbers of a usual size."""
    if len(values) > 1 and is_named_like_a_modality(name) and all(isinstance(v, str) for v in values):
        with contextlib.suppress(ValueError):
            return np.array([float(v) for v in values])
    if values and all(is_number(v) and (not isinstance(v, int) or abs(v) < 1 << 60) for v in values):
        return np.array(values, np.float64)
    return values
