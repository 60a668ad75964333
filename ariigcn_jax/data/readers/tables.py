"""Reads tables: CSV, TSV, JSON and JSON Lines, one row an utterance, alone or one table for each split in a folder.

Columns are known by the names that the field uses, whatever their case; features are a column of vectors (a JSON list,
or numbers with spaces between), columns `<modality>_0 … <modality>_<d-1>`, or a column `<modality>_file` of .npy paths.
"""

from __future__ import annotations

import contextlib
import csv
import io
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ariigcn_jax.data import labels, targets
from ariigcn_jax.data.fields import Fields, count, is_named_like_a_modality, listed, text_array
from ariigcn_jax.data.values import Rows, ShapeError, is_integer, is_number, kind, load_array, short, text
from ariigcn_jax.types import UserError

SUFFIXES = (".csv", ".tsv", ".json", ".jsonl", ".ndjson")
ALIASES = {
    "dialogue_id": ("dialogue_id", "dialog_id", "conversation_id", "conv_id", "video_id", "dialogue", "dialog",
                    "conversation", "video"),
    "utterance_id": ("utterance_id", "utt_id", "uid", "clip_id", "name", "id"),
    "turn": ("turn", "turn_id", "utterance_index", "position"),
    "speaker": ("speaker", "speaker_id", "speaker_name", "actor"),
    "label": ("label", "emotion", "emo", "emotion_label", "class"),
    "split": ("split", "set", "partition", "subset"),
    "transcript": ("transcript", "utterance", "sentence", "raw_text", "transcription", "words"),
    "start_s": ("start_s", "start", "start_time", "begin"),
}  # fmt: skip
_TEXTS = ("dialogue_id", "utterance_id", "speaker", "label", "split", "transcript")
_LISTS = ("utterances", "turns", "dialogue", "conversation")  # where a JSON dialogue keeps its utterances
_NUMBERED = re.compile(r"(.+?)[_.\[](\d{1,6})\]?")
_FILE = re.compile(r"(.+)_(?:file|path|npy)")
_VECTOR = re.compile(r"\s*[-+\d.][^\s;|,]*(?:[\s;|,]+[-+\d.nN][^\s;|,]*)+\s*")
# "[1, 2]", and what Python prints for an array or a tensor, with or without quotes around
_LIST = re.compile(r"""\s*["']?(?:[\w.]+\()?\[([^\[\]]*)\](?:,[^\[\]]*)?\)?["']?\s*""")
_CUT = re.compile(r"""\s*["']?(?:[\w.]+\()?\[+\s*[-+\d.]""")
_DECIMAL = r"[-+]?\d+(?:,\d+)?(?:[eE][-+]?\d+)?"
_DECIMAL_COMMAS = re.compile(rf"\s*{_DECIMAL}(?:[\s;|]+{_DECIMAL})+\s*")
_COMMA_IN_A_NUMBER = re.compile(r"[\t;|]\s*[-+]?\d+,\d+\s*[\t;|\r\n]")  # in a table that no comma divides
_SPLIT_FILE = re.compile(r"(train|valid|val|dev|test)(?![a-z]).*|.*[_\-.](train|valid|val|dev|test)", re.IGNORECASE)
_TRUE, _FALSE = ("1", "true", "yes", "t", "y", "1.0"), ("0", "false", "no", "f", "n", "0.0", "")
VECTORS = (
    "In a table they are a column of JSON lists, `text` with [0.1, 0.2], columns `text_0`, `text_1`, …, or a column "
    "`text_file` with paths of .npy files; a single number is [0.3]."
)
_ZEROS = re.compile(r"0\d")  # of names in digits
LONGEST_VALUE = 200  # characters of a field that dialogues may be chosen by
Row = dict[str, Any]


def recognise(folder: Path) -> dict[str, Path]:
    """Split → its table, of a folder with a train table; {} where there is none."""
    found: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        match = _SPLIT_FILE.fullmatch(path.stem)
        if path.suffix.lower() in SUFFIXES and match and path.is_file():
            found.setdefault((match.group(1) or match.group(2)).lower(), path)
    order = sorted(found, key=lambda split: (split != "train", split == "test"))
    return {split: found[split] for split in order} if "train" in found else {}


def read_folder(folder: Path, label: str = "label", task: str = "classification") -> Fields:
    """The fields of a folder with a table for each split."""
    tables = recognise(folder)
    rows, notes = [], []
    for split, path in tables.items():
        part, found = _rows(path, label, task)
        notes += found
        rows += [_apart(split, row) for row in part]
    fields = _fields(folder, rows, label, task, sum(p.stat().st_size for p in tables.values()))
    fields.notes[:0] = [f"read as tables: {', '.join(p.name for p in tables.values())}", *notes]
    return fields


def read_fields(path: Path, label: str = "label", task: str = "classification") -> Fields:
    """The fields of a table.

    Args:
      path: the file; what it is is told from its content.
      label: the column of the labels, text or numbers.
      task: what they are; names of several labels stand between `|` or `;`.

    Returns:
      Its fields. Text labels are numbered in the field's own order where they are those of a known corpus, else
      alphabetically.

    Raises:
      UserError: it cannot be read, or a cell is not what its column is.
    """
    rows, notes = _rows(path, label, task)
    fields = _fields(path, rows, label, task, path.stat().st_size)
    fields.notes[:0] = [f"read as a table of {count(len(rows), 'row')}", *notes]
    return fields


def numbered(names: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Text labels as numbers, [U] int with -1 for an empty one, and the names by number."""
    written = [name.strip() for name in names]
    there = sorted({name for name in written if name})
    known = (labels.IEMOCAP, labels.MELD, labels.MELD_SENTIMENT, labels.POLARITY)
    order = next((k for k in known if sorted(k) == sorted(n.lower() for n in there)), None)
    if order:
        there.sort(key=lambda name: order.index(name.lower()))
    number = {name: i for i, name in enumerate(there)} | {"": -1}
    return np.array([number[name] for name in written], np.int64), text_array(there)


def _apart(split: str, row: Row) -> Row:
    """A row with its split and a dialogue of that split alone: MELD counts dialogues from 0 in each of its tables."""
    dialogue, old = _find(row, "dialogue_id"), _find(row, "split")
    kept = {name: value for name, value in row.items() if name not in (dialogue, old)}
    return kept | {"split": split} | ({"dialogue_id": f"{split}_{row[dialogue]}"} if dialogue else {})


def _find(names: Iterable[str], field: str) -> str | None:
    """The column of a field."""
    lower = {_plain(name): name for name in reversed(list(names))}
    return next((lower[alias] for alias in ALIASES[field] if alias in lower), None)


def _plain(name: str) -> str:
    return re.sub(r"[\s\-]+", "_", name.strip()).lower()


# Rows


def _rows(path: Path, label: str, task: str) -> tuple[list[Row], list[str]]:
    target = targets.of(task)
    several = label if target and target.several else ""
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror or error}.") from None
    notes = []
    words, encoding = _decoded(raw)
    if encoding:
        notes.append(f"the table is not UTF-8 and was read as {encoding}")
    del raw
    start = words.lstrip()[:1]
    if not start:
        raise UserError(f"{path}: the file is empty.")
    rows = _json(path, words) if start in "[{" else list(_csv(path, words, several))
    if start not in "[{" and _COMMA_IN_A_NUMBER.search(words):
        notes.append("numbers such as 1,5 were read with a decimal comma")
    if not rows:
        raise UserError(f"{path}: the table has no rows.")
    return rows, notes


def _decoded(raw: bytes) -> tuple[str, str]:
    """The text, and the name of its encoding where that is not UTF-8."""
    encodings = {"utf-8-sig": "", "cp1252": "Windows-1252", "latin-1": "Latin-1"}
    if raw[:2] in (b"\xff\xfe", b"\xfe\xff"):
        encodings = {"utf-16": "UTF-16"} | encodings
    for encoding, name in encodings.items():
        with contextlib.suppress(UnicodeDecodeError):
            return raw.decode(encoding), name
    raise AssertionError("Latin-1 decodes all bytes")


def _csv(path: Path, words: str, several: str) -> Iterator[Row]:
    head = words.split("\n", 1)[0]
    delimiter = max(",\t;|", key=head.count)
    before = csv.field_size_limit(len(words) + 1)
    try:
        reader = csv.reader(io.StringIO(words, newline=""), delimiter=delimiter, strict=True)
        names = [name.strip() for name in next(reader)]
        _check_names(path, names)
        if len(set(names)) < len(names):
            raise UserError(f"{path}: a column's name comes twice in the first line: {short(', '.join(names))}.")
        groups = _groups(names, several)
        if twice := [stem for stem in groups if stem in names and (stem != "text" or _find(names, "transcript"))]:
            raise UserError(
                f"{path}: the columns `{twice[0]}` and `{groups[twice[0]][0]}`, … would both be `{twice[0]}`. Rename "
                "one."
            )
        for cells in reader:
            if not any(cells):
                continue
            if len(cells) != len(names):
                raise UserError(
                    f"{path}: line {reader.line_num} has {count(len(cells), 'cell')} where the first line names "
                    f"{count(len(names), 'column')}."
                )
            yield _compact(dict(zip(names, cells, strict=True)), groups)
    except csv.Error as error:
        raise UserError(f"{path}: line {reader.line_num} cannot be read: {error}.") from None
    finally:
        csv.field_size_limit(before)


def _check_names(path: Path, names: Sequence[str]) -> None:
    """Refuses a first line that names no columns."""
    if len(names) == 1:
        raise UserError(
            f"{path}: this is text and no table: its first line, {short(names[0], 80)!r}, has no comma, tab, semicolon "
            "or | between columns."
        )
    number = next((name for name in names if isinstance(_cell(name), np.ndarray) or np.isfinite(_number(name))), None)
    if number is not None and all(_find(names, field) is None for field in ALIASES):
        raise UserError(
            f"{path}: the first line must name the columns, and it has {short(number, 40)!r}. Put a line such as "
            "dialogue_id,speaker,label,split,transcript,text before it."
        )


def _groups(names: Sequence[str], several: str) -> dict[str, list[str]]:
    """Modality → its columns `<modality>_0 …` in their order.

    Columns such as label_1 and label_2 of annotators, beside one label or emotion, stay single ones; but not those of
    `several`, the name of several labels.
    """
    taken = {alias for field in ("label", "speaker", "transcript") if _find(names, field) for alias in ALIASES[field]}
    if _plain(several) not in map(_plain, names):
        taken.discard(_plain(several))
    found: dict[str, dict[int, str]] = {}
    for name in names:
        if (match := _NUMBERED.fullmatch(name)) and _plain(match.group(1)) not in taken:
            found.setdefault(match.group(1), {})[int(match.group(2))] = name
    first = {stem: min(columns) for stem, columns in found.items()}
    return {
        stem: [columns[i] for i in sorted(columns)]
        for stem, columns in found.items()
        if (len(columns) > 1 or is_named_like_a_modality(stem))
        and first[stem] <= 1
        and sorted(columns) == list(range(first[stem], first[stem] + len(columns)))
    }


def _compact(row: Row, groups: dict[str, list[str]]) -> Row:
    """Vectors as arrays, which take a fraction of their text."""
    for stem, columns in groups.items():
        cells = [row.pop(column) for column in columns]
        if stem in row:  # `text` beside text_0, …
            row["transcript"] = row.pop(stem)
        row[stem] = _numbers(cells) if any(c.strip() for c in cells) else None
    words = {name for field in _TEXTS if (name := _find(row, field))}
    for name, cell in row.items():
        if isinstance(cell, str) and name not in words:
            row[name] = _cell(cell)
    return row


def _numbers(cells: Sequence[str]) -> Any:
    try:
        return np.array([float(c.replace(",", ".")) if c.strip() else np.nan for c in cells], np.float32)
    except (ValueError, OverflowError):
        return list(cells)


def _cell(cell: str) -> Any:
    """A vector, where a cell holds one."""
    if match := _LIST.fullmatch(cell):
        values = _numbers(match.group(1).replace(",", " ").split())
        return values if isinstance(values, np.ndarray) else cell
    if _DECIMAL_COMMAS.fullmatch(cell):
        return _numbers(re.split(r"[\s;|]+", cell.strip()))
    if len(cell) > 2 and _VECTOR.fullmatch(cell):
        values = _numbers(re.split(r"[\s;|,]+", cell.strip()))
        return values if isinstance(values, np.ndarray) else cell
    return cell


def _json(path: Path, words: str) -> list[Row]:
    try:
        value = json.loads(words)
    except (ValueError, RecursionError) as error:
        value = _json_lines(path, words, error)
    return list(_flattened(path, value))


def _json_lines(path: Path, words: str, error: Exception) -> list[Any]:
    lines = [line for line in words.split("\n") if line.strip()]
    if len(lines) < 2 or not lines[0].strip().startswith("{") or not lines[0].strip().endswith("}"):
        raise UserError(f"{path}: the JSON is truncated or damaged: {short(error)}.") from None
    values = []
    for number, line in enumerate(lines, start=1):
        try:
            values.append(json.loads(line))
        except (ValueError, RecursionError) as wrong:
            raise UserError(f"{path}: line {number} is no JSON object: {short(wrong)}.") from None
    return values


def _flattened(path: Path, value: Any) -> Iterator[Row]:
    """Rows of a list of utterances, a list of dialogues, or a dictionary from dialogue to its utterances."""
    if isinstance(value, dict):
        inner = next((k for k in _LISTS if isinstance(value.get(k), list)), None)
        if inner:
            value = [value]
        elif value and all(isinstance(v, list) for v in value.values()):
            value = [{"dialogue_id": name, "utterances": rows} for name, rows in value.items()]
        elif value and all(isinstance(v, dict) for v in value.values()):
            value = [
                {"dialogue_id": name, **v} if any(isinstance(v.get(k), list) for k in _LISTS) else {"id": name, **v}
                for name, v in value.items()
            ]
        else:
            value = [value]
    if not isinstance(value, list):
        raise UserError(f"{path}: the JSON is {kind(value)}, not a list of utterances or of dialogues.")
    for number, item in enumerate(value):
        if not isinstance(item, dict):
            raise UserError(f"{path}: entry {number} of the JSON is {kind(item)}, not an object.")
        inner = next(
            (
                k
                for k in _LISTS
                if isinstance(item.get(k), list) and item[k] and all(isinstance(u, dict) for u in item[k])
            ),
            None,
        )
        if inner is None:
            yield _plain_row(item)
            continue
        shared = {k: v for k, v in item.items() if k != inner and not isinstance(v, list | dict)}
        if _find(shared, "dialogue_id") is None:
            key = _find(shared, "utterance_id")
            shared["dialogue_id"] = shared.pop(key) if key else str(number)
        for turn, utterance in enumerate(item[inner]):
            yield _plain_row({**shared, "turn": turn, **utterance})


def _plain_row(row: Row) -> Row:
    """Lists of numbers as arrays, NaN as nothing; features may lie one level deeper."""
    for key in ("features", "feature"):
        if isinstance(row.get(key), dict):
            others = {k: v for k, v in row.items() if k != key}
            if "text" in row[key] and isinstance(others.get("text"), str) and _find(others, "transcript") is None:
                others["transcript"] = others.pop("text")
            row = {**others, **row[key]}
    return {str(k): _plain_value(v) for k, v in row.items()}


def _plain_value(value: Any) -> Any:
    if isinstance(value, float) and np.isnan(value):
        return None
    if isinstance(value, list) and value and all(map(is_number, value)) and _small(value):
        return np.array(value, np.float64)
    return value


def _small(values: list[Any]) -> bool:
    return all(not isinstance(v, int) or abs(v) < 1 << 60 for v in values)


# Fields


def _fields(path: Path, rows: list[Row], label: str, task: str, size: int) -> Fields:
    fields = Fields(path, {})
    names = list(dict.fromkeys(name for row in rows for name in row))
    columns = {field: _find(names, field) for field in ALIASES}
    if columns["transcript"] is None and "text" in names and _are_words([row.get("text", "") for row in rows]):
        columns["transcript"] = "text"
    if label != "label":
        columns["label"] = next((n for n in names if _plain(n) == _plain(label)), None)
    for field in _TEXTS:
        if (column := columns[field]) is not None and field not in ("label", "utterance_id"):
            fields.arrays[field] = _text_column(path, rows, column)
    _read_order(fields, rows, columns)
    if columns["label"] is not None:
        _read_labels(fields, rows, columns["label"], label, task)
    if "dialogue_id" not in fields.arrays and "utterance_id" in fields.arrays:
        fields.note("there is no column `dialogue_id`: every utterance is a dialogue of its own")
        fields.arrays["dialogue_id"] = fields.arrays["utterance_id"]
    used = {column for column in columns.values() if column}
    passed = [name for name in names if name not in used and not _read_column(fields, rows, name, size)]
    if passed:
        for name in passed:
            _keep(fields, [row.get(name) for row in rows], name)
        fields.others.extend(name for name in passed if name not in fields.arrays)
        fields.note(f"passed over, as neither vectors nor known by name: {listed([n or '(no name)' for n in passed])}")
    return fields


def _keep(fields: Fields, values: list[Any], name: str) -> None:
    """Keeps what an option may ask for by name: ratings in numbers, or what `data.split` goes by in short words."""
    meant = any(_plain(name) in aliases for aliases in ALIASES.values()) or name.endswith(("_names", "_present"))
    if meant or name in fields.arrays or is_named_like_a_modality(name):
        return
    try:
        words = [text(value).strip() for value in values]
    except ShapeError:
        return
    if all(re.fullmatch(r"-?(0|[1-9]\d{0,8})", w) for w in words):
        fields.arrays[name] = np.array(words, np.int64)
        return
    numbers = np.array([_number(w) if w else np.nan for w in words])
    if all(not w or np.isfinite(x) for w, x in zip(words, numbers, strict=True)) and not any(map(_ZEROS.match, words)):
        fields.arrays[name] = numbers.astype(np.float32)
    elif max(map(len, words)) <= LONGEST_VALUE:
        fields.arrays[name] = text_array(words)


def _are_words(values: Sequence[Any]) -> bool:
    return all(isinstance(v, str) for v in values) and not all(_CUT.match(v) for v in values)


def _text_column(path: Path, rows: list[Row], column: str) -> np.ndarray:
    values = []
    for number, row in enumerate(rows):
        try:
            values.append(text(row.get(column)))
        except ShapeError as error:
            raise UserError(f"{path}: row {number}, `{column}`: {error}.") from None
    return text_array(values)


def _read_order(fields: Fields, rows: list[Row], columns: dict[str, str | None]) -> None:
    """turn and utterance_id. Numbers that begin again in each dialogue, at 0 or 1 in most, are turns, as in MELD's
    tables."""
    if (column := columns["utterance_id"]) is not None:
        ids = _text_column(fields.path, rows, column)
        numbers = columns["turn"] is None and all(re.fullmatch(r"\d{1,9}", i) for i in ids.tolist())
        if numbers and columns["dialogue_id"] is not None and _begin_again(fields, ids.astype(np.int64)):
            fields.arrays["turn"] = ids.astype(np.int64)
        else:
            fields.arrays["utterance_id"] = ids
    order = columns["turn"] or (columns["start_s"] if "turn" not in fields.arrays else None)
    if order is None or "turn" in fields.arrays:
        return
    values = [_number(row.get(order)) for row in rows]
    if columns["turn"] is None and not np.isfinite(values).all():
        fields.note(f"`{order}` is not a number in every row: the rows' order counts")
        return
    fields.arrays["turn"] = np.array(values)


def _begin_again(fields: Fields, numbers: np.ndarray) -> bool:
    _, dialogue = np.unique(fields.arrays["dialogue_id"], return_inverse=True)
    first = np.full(dialogue.max() + 1, numbers.max())
    np.minimum.at(first, dialogue, numbers)
    return len(np.unique(numbers)) < len(numbers) and bool(np.median(first) <= 1)


def _number(value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError):
        return float("nan")


def _read_labels(fields: Fields, rows: list[Row], column: str, label: str, task: str) -> None:
    values, target = [row.get(column) for row in rows], targets.of(task)
    if target and target.several and any(isinstance(v, np.ndarray) for v in values):
        _read_column(fields, rows, column, fields.path.stat().st_size)
        fields.arrays[label] = fields.arrays.pop(column)
        return
    if target and target.several:  # a list of labels, which may be empty, is their set
        lists = [targets.APART.join(map(str, v)) or targets.NONE if isinstance(v, list) else v for v in values]
        rows = [{column: v} for v in lists]
    words = _text_column(fields.path, rows, column).tolist()
    if target is not None:
        _read_targets(fields, words, column, label, target)
        return
    cells = [w.strip() for w in words]
    if all(isinstance(v, str) or v is None or is_number(v) for v in values) and all(
        not c or re.fullmatch(r"-?\d{1,9}(\.0*)?|nan", c, re.IGNORECASE) for c in cells
    ):
        numbers = np.array([float(c) if c else np.nan for c in cells])
        if negative := int((numbers < 0).sum()):
            fields.note(
                f"`{column}`: {count(negative, 'negative number counts', 'negative numbers count')} as no label"
            )
        fields.arrays[label] = np.where(np.isnan(numbers), -1, numbers)
        return
    numbers = np.array([_number(c) if c else -1.0 for c in cells])
    if np.isfinite(numbers).all():  # scores, which are no classes, as whoever uses them will say
        fields.arrays[label] = numbers
        return
    fields.arrays[label], fields.arrays[f"{label}_names"] = numbered(words)


def _read_targets(fields: Fields, words: list[str], column: str, label: str, target: targets.Target) -> None:
    try:
        fields.arrays[label], names = target.parse(words)
    except UserError as error:
        raise UserError(f"{fields.path}: `{column}`: {error}") from None
    if names:
        fields.arrays[f"{label}_names"] = text_array(names)


def _read_column(fields: Fields, rows: list[Row], name: str, size: int) -> bool:
    """Reads a modality, or what says where one is present; whether it was one of these."""
    values = [row.get(name) for row in rows]
    if name.endswith("_present"):
        words = [text(v).strip().lower() if is_integer(v) or isinstance(v, str) else str(v).lower() for v in values]
        if all(w in _TRUE + _FALSE for w in words):
            fields.arrays[name] = np.array([w in _TRUE for w in words])
            return True
        return False
    match = _FILE.fullmatch(name)
    if match and all(v is None or isinstance(v, str) for v in values) and any(str(v).endswith(".npy") for v in values):
        _read_files(fields, match.group(1), values, size)
        return True
    there = [v for v in values if v is not None and not (isinstance(v, str) and not v.strip())]
    if not any(isinstance(v, np.ndarray | list) for v in there):
        if there and is_named_like_a_modality(name) and isinstance(there[0], str) and _CUT.match(there[0]):
            raise UserError(
                f"{fields.path}: `{name}`: {short(there[0], 60)!r} is no list of numbers, perhaps cut short "
                "by printing it. Write each vector whole, by json.dumps(vector.tolist())."
            )
        return False
    collected = Rows(len(rows), f"{fields.path}: `{name}`", size)
    for number, value in enumerate(values):
        value = None if isinstance(value, str) and not value.strip() else value
        collected.put(number, value, f"row {number}")
    array = collected.array()
    if array is not None:
        fields.arrays[name] = array
    return True


def _read_files(fields: Fields, modality: str, values: Sequence[str | None], size: int) -> None:
    folder = fields.path if fields.path.is_dir() else fields.path.parent
    paths = [folder / v.strip() if v and v.strip() else None for v in values]
    total = size + sum(p.stat().st_size for p in set(paths) if p is not None and p.is_file())
    collected = Rows(len(paths), f"{fields.path}: {modality}", total)
    for number, path in enumerate(paths):
        if path is not None and path.is_file():
            collected.put(number, np.squeeze(load_array(path)), str(path))
    if gone := sum(p is not None and not p.is_file() for p in paths):
        fields.note(f"{count(gone, 'file')} of {modality} are not there")
    array = collected.array()
    if array is not None:
        fields.arrays[modality] = array
