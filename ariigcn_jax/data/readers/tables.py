"""Read tables: CSV, TSV, JSON, JSON Lines, Parquet and Arrow, one row an utterance; one table, or some for each split.

Features are a column of vectors (a list, or numbers with spaces between), columns `<modality>_0 … <modality>_<d-1>`, or
a column `<modality>_file` with paths of .npy files. What the columns mean is in `columns`, how JSON is nested is in
`nested`.

`csv` and `json` parse, and pandas holds the columns: the parsers of pandas fill short rows, mend open quotes and make
floats of numbered ids without a word (choice).
"""

from __future__ import annotations

import contextlib
import itertools
import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ariigcn_jax.data import targets
from ariigcn_jax.data.fields import SPLIT_NAMES, Fields, count, is_named_like_a_modality
from ariigcn_jax.data.readers import columns, recordings, text
from ariigcn_jax.data.readers.nested import Flattener, Row
from ariigcn_jax.data.values import check_rows, check_size, is_missing, kind, short
from ariigcn_jax.types import SPLITS, UserError

if TYPE_CHECKING:
    import pandas as pd

SUFFIXES = (".csv", ".tsv", ".json", ".jsonl", ".ndjson", ".parquet", ".arrow", ".feather")
VECTORS = (
    "In a table they are a column of JSON lists, `text` with [0.1, 0.2], columns `text_0`, `text_1`, …, or a column "
    "`text_file` with paths of .npy files; a single number is [0.3]."
)
_PACKED = (".gz", ".bz2", ".xz", ".zip", ".zst", ".7z")
_ARROW = (b"PAR1", b"ARROW1", b"\xff\xff\xff\xff")  # Parquet; an Arrow file, which Feather is; an Arrow stream
_BLOCK = 2048  # rows that are made a frame together
_ROWS = 256  # of Parquet that are unpacked together
_USUAL, _SPLIT = "train|validation|valid|val|dev|test", "|".join(sorted(SPLIT_NAMES, key=len, reverse=True))
_SPLIT_FILES = [  # a split's name begins or ends a file's; where none of train does, it may be another word, or inside
    re.compile(form, re.IGNORECASE)
    for form in (
        rf"({_USUAL})(?![a-z]).*|.*[_\-.]({_USUAL})",
        rf"({_SPLIT})(?![a-z]).*|.*[_\-.]({_SPLIT})",
        rf".*[_\-.]({_SPLIT})[_\-.].*",
    )
]
_SHARD = re.compile(r".*-\d+-of-\d+")
_NUMBERED = re.compile(r"(.+?)[_.\[](\d{1,6})\]?")
# "[1, 2]", and what Python prints for an array or a tensor, with or without quotes around
_LIST = re.compile(r"""\s*["']?(?:[\w.]+\()?\[([^\[\]]*)\](?:,[^\[\]]*)?\)?["']?\s*""")
_VECTOR = re.compile(r"\s*[-+\d.][^\s;|,]*(?:[\s;|,]+[-+\d.nN][^\s;|,]*)+\s*")
_DECIMAL = r"[-+]?\d+(?:,\d+)?(?:[eE][-+]?\d+)?"
_DECIMAL_COMMAS = re.compile(rf"\s*{_DECIMAL}(?:[\s;|]+{_DECIMAL})+\s*")


def is_arrow(start: bytes) -> bool:
    """Return whether a file with this start is one of Parquet or Arrow."""
    return start.startswith(_ARROW)


def recognise(folder: Path) -> dict[str, list[Path]]:
    """Return split -> its tables in a folder with tables of train, or of `save_to_disk`; {} for other folders.

    Splits are told from the names of files, or of folders in it. All shards of a split are its tables; of other files,
    which may hold the same rows, only the first is.
    """
    if saved := _saved(folder):
        return saved
    inside = [path for path in sorted(folder.iterdir()) if path.is_dir() and not path.name.startswith(".")]
    # the Hugging Face hub keeps shards in data/, or in the only folder there is
    places = [folder, *[path for path in inside if path.name == "data" or len(inside) == 1]]
    for is_table, form, place in itertools.product((_is_table, _begins_as_table), _SPLIT_FILES, places):
        found: dict[str, list[Path]] = {}
        for path in filter(is_table, sorted(place.iterdir())):
            if match := form.fullmatch(path.stem):
                found.setdefault(next(filter(None, match.groups())).lower(), []).append(path)
        if chosen := _tables(found):
            return chosen
    for place in places:
        within = {path.name.lower(): path for path in place.iterdir() if path.name.lower() in SPLIT_NAMES}
        files = {split: sorted(filter(_is_table, path.iterdir())) for split, path in within.items() if path.is_dir()}
        if all(len(tables) < 2 or _are_shards(tables) for tables in files.values()) and (chosen := _tables(files)):
            return chosen
    return {}


def _is_table(path: Path) -> bool:
    return path.suffix.lower() in SUFFIXES and not path.name.startswith(".") and path.is_file()


def _begins_as_table(path: Path) -> bool:
    """Return whether another ending follows that of a table, as in DAG-ERC's .json.feature."""
    named = Path(path.stem).suffix.lower() in SUFFIXES and path.suffix.lower() not in _PACKED
    return named and not path.name.startswith(".") and path.is_file()


def _tables(found: dict[str, list[Path]]) -> dict[str, list[Path]]:
    """Return the tables of each split, train first and test last; {} where train has none."""
    order = sorted(filter(found.get, found), key=lambda split: SPLITS.index(SPLIT_NAMES[split]))
    if not order or SPLIT_NAMES[order[0]] != "train":
        return {}
    return {split: found[split] if _are_shards(found[split]) else found[split][:1] for split in order}


def _are_shards(paths: list[Path]) -> bool:
    return all(path.suffix.lower() == ".parquet" or _SHARD.fullmatch(path.stem) for path in paths)


def _saved(folder: Path) -> dict[str, list[Path]]:
    """Return split -> its files in a folder of `save_to_disk`, "" for a data set without splits; {} for others."""
    if (folder / "dataset_dict.json").is_file():
        return {place.name: files for place in sorted(folder.iterdir()) if (files := _saved(place).get(""))}
    if not (folder / "state.json").is_file() or not (folder / "dataset_info.json").is_file():
        return {}
    files = [path for path in sorted(folder.glob("*.arrow")) if not path.name.startswith("cache-")]
    return {"": files} if files else {}


def read_fields(path: Path, label: str = "label", task: str = "classification") -> Fields:
    """Return the fields of a table, or of a folder with tables for each split; the format is told from the content.

    Args:
      path: the file or folder.
      label: the column of the labels, text or numbers.
      task: what they are; names of several labels stand between `|` or `;`.

    Raises:
      UserError: a file cannot be read, or a cell is not what its column is.
    """
    import pandas as pd

    tables = recognise(path) if path.is_dir() else {"": [path]}
    target = targets.of(task)
    several = label if target and target.several else ""
    every = [(split, file) for split, files in tables.items() for file in files]
    frames, notes = [], []
    for split, files in tables.items():
        parts: list[pd.DataFrame] = []
        for file in files:
            part, found = frame(file, several=several, first=sum(len(part) for part in parts))
            parts.append(columns.with_told(part, found))
            notes += found
        part = pd.concat(parts, ignore_index=True)
        frames.append(_with_split(split, part, notes) if split else part)
    table = pd.concat(frames, ignore_index=True)
    table = table.where(table.notna(), None)
    del frames, parts, part
    rows = f"a table of {count(len(table), 'row')}"
    what = f"tables: {', '.join(file.name for _, file in every)}" if path.is_dir() else rows
    fields = Fields(path, {})
    table = table if path.is_dir() else recordings.with_beside(table, path)
    columns.fill(fields, table, label, task, sum(file.stat().st_size for _, file in every))
    recordings.fill(fields, table)
    fields.notes[:0] = dict.fromkeys([f"read as {what}", *notes])
    return fields


def _with_split(split: str, table: pd.DataFrame, notes: list[str]) -> pd.DataFrame:
    """Return the rows with a split, whose name begins those of dialogues: MELD counts them from 0 in each table."""
    old = [columns.find(table, field) for field in ("dialogue_id", "split")]
    kept = table.drop(columns=[name for name in old if name]).assign(split=split)
    if (dialogues := columns.dialogue_ids(table, notes)) is not None:
        kept["dialogue_id"] = [f"{split}_{value}" for value in dialogues]
    return kept.astype(object)


def frame(path: Path, several: str = "", delimiter: str = "", first: int = 0) -> tuple[pd.DataFrame, list[str]]:
    """Return the rows of a table, objects that are text in a CSV file and values elsewhere, and notes for the user.

    Args:
      path: the file.
      several: the column of several labels, whose numbered columns are these labels.
      delimiter: what is between the columns of a CSV file, whose cells then stay text; "" guesses it, and makes arrays
        of cells and numbered columns that hold vectors.
      first: the number that is the name of the first dialogue, where dialogues have no others.

    Raises:
      UserError: the file cannot be read, or has no rows.
    """
    import pandas as pd

    if is_arrow(text.start(path)):
        return _arrow(path, first)
    codec, name = text.encoding(path)
    notes = [f"the table is not UTF-8 and was read as {name}"] if name else []
    with text.opened(path, codec) as file:
        begins = next((line for line in file if line.strip()), "").lstrip()[:1]
    if not begins:
        raise UserError(f"{path}: the file is empty.")
    blocks: Iterator[Any] = _csv_blocks(path, codec, several, delimiter, notes)
    if begins in "[{":
        blocks = _json_blocks(path, codec, notes, first)
    parts = [pd.DataFrame(block, dtype=object) for block in blocks]
    if not parts:
        raise UserError(f"{path}: the table has no rows.")
    return pd.concat(parts, ignore_index=True), notes


# CSV


def _csv_blocks(path: Path, codec: str, several: str, delimiter: str, notes: list[str]) -> Iterator[Row]:
    """Yield column -> its cells, for a block of rows after the other."""
    rows = text.csv_rows(path, codec, delimiter)
    _, first = next(rows, (0, []))
    if not first:
        raise UserError(f"{path}: the table has no rows.")
    names = [name.strip() for name in first]
    groups = {} if delimiter else _checked_groups(path, names, several)
    if len(set(names)) < len(names):
        raise UserError(f"{path}: a column's name comes twice in the first line: {short(', '.join(names))}.")
    while block := [cells for _, cells in itertools.islice(rows, _BLOCK)]:
        if delimiter:
            yield dict(zip(names, zip(*block, strict=True), strict=True))
        else:
            yield _with_vectors(names, block, groups, notes)


def _checked_groups(path: Path, names: Sequence[str], several: str) -> dict[str, list[str]]:
    """Return the numbered columns of a first line; refuse one that names no columns, or two for one modality."""
    if len(names) == 1:
        line = f"its first line, {short(names[0], 80)!r}, has no comma, tab, semicolon or | between columns"
        chat = "Nor is it a chat, whose lines begin with who speaks, as `Ann: Oh no!` does"
        raise UserError(f"{path}: this is text and no table: {line}. {chat}.")
    number = next((n for n in names if isinstance(_cell(n), np.ndarray) or np.isfinite(columns.number(n))), None)
    if number is not None and all(columns.find(names, field) is None for field in columns.ALIASES):
        raise UserError(
            f"{path}: the first line must name the columns, and it has {short(number, 40)!r}. Put a line such as "
            "dialogue_id,speaker,label,split,transcript,text before it."
        )
    groups = _groups(names, several)
    for stem, members in groups.items():
        if stem in names and (stem != "text" or columns.find(names, "transcript")):
            raise UserError(f"{path}: the columns `{stem}` and `{members[0]}`, … would both be `{stem}`. Rename one.")
    return groups


def _groups(names: Sequence[str], several: str) -> dict[str, list[str]]:
    """Return modality -> its columns `<modality>_0 …` in their order.

    Columns such as label_1 and label_2 of annotators, beside one label or emotion, stay single ones; but not those of
    `several`, the name of several labels.
    """
    single = [columns.ALIASES[field] for field in ("label", "speaker", "transcript") if columns.find(names, field)]
    taken = set(itertools.chain.from_iterable(single))
    if columns.plain(several) not in map(columns.plain, names):
        taken.discard(columns.plain(several))
    found: dict[str, dict[int, str]] = {}
    for name in names:
        if (match := _NUMBERED.fullmatch(name)) and columns.plain(match.group(1)) not in taken:
            found.setdefault(match.group(1), {})[int(match.group(2))] = name
    return {
        stem: [members[i] for i in sorted(members)]
        for stem, members in found.items()
        if (len(members) > 1 or is_named_like_a_modality(stem))
        and min(members) <= 1
        and max(members) - min(members) + 1 == len(members)
    }


def _with_vectors(names: Sequence[str], rows: list[list[str]], groups: dict[str, list[str]], notes: list[str]) -> Row:
    """Return column -> its cells, with vectors as arrays, which take a fraction of their text."""
    commas = "numbers such as 1,5 were read with a decimal comma"
    place = {name: i for i, name in enumerate(names)}
    found: Row = {}
    for stem, members in groups.items():
        places = [place.pop(name) for name in members]
        vectors = [[row[i] for i in places] for row in rows]
        if commas not in notes and any("," in "".join(cells) for cells in vectors):
            notes.append(commas)
        found[stem] = [_numbers(cells) if not all(map(is_missing, cells)) else None for cells in vectors]
        if stem in place:  # `text` beside text_0, …
            place["transcript"] = place.pop(stem)
    words = {name for field in (*columns.TEXTS, "start_s", "end_s") if (name := columns.find(place, field))}
    if columns.find(place, "transcript") is None:  # what was said may be a number, too
        words |= {name for name, i in place.items() if columns.plain(name) == "text" and _are_said(rows, i)}
    return {name: [row[i] if name in words else _cell(row[i]) for row in rows] for name, i in place.items()} | found


def _are_said(rows: list[list[str]], i: int) -> bool:
    cells = (_cell(row[i]) for row in rows)
    return any(isinstance(cell, str) and not is_missing(cell) and columns.are_said([cell]) for cell in cells)


def _numbers(cells: Sequence[str]) -> Any:
    """Return [d] float32 with NaN for blank cells; the cells where one is no number."""
    has_digit = any(map(re.compile(r"\d").search, cells))
    for number in (float, _decimal)[: 1 + has_digit]:  # the fast one first
        with contextlib.suppress(ValueError):
            return np.fromiter(map(number, cells), np.float32, len(cells))
    return list(cells)


def _decimal(cell: str) -> float:
    return np.nan if is_missing(cell) else float(cell.replace(",", "."))


def _cell(cell: str) -> Any:
    """Return the vector that a cell holds, or the cell."""
    if match := _LIST.fullmatch(cell):
        parts = match.group(1).replace(",", " ").split()
    elif _DECIMAL_COMMAS.fullmatch(cell):
        parts = re.split(r"[\s;|]+", cell.strip())
    elif len(cell) > 2 and _VECTOR.fullmatch(cell):
        parts = re.split(r"[\s;|,]+", cell.strip())
    else:
        return cell
    values = _numbers(parts)
    return values if isinstance(values, np.ndarray) else cell


# JSON


def _json_blocks(path: Path, codec: str, notes: list[str], first_dialogue: int) -> Iterator[list[Row]]:
    """Yield rows of a JSON file, a block after the other; JSON Lines are never in memory as a whole."""
    with text.opened(path, codec) as file:
        filled = (line for line in file if line.strip())
        first, second = next(filled), next(filled, "")
    is_lines = False
    with contextlib.suppress(ValueError, RecursionError):
        is_lines = bool(second) and isinstance(json.loads(first), dict | list)
    value: Any = (value for _, value in text.json_lines(path, codec))
    if not is_lines:
        try:
            value = json.loads(text.read(path))
        except (ValueError, RecursionError) as error:
            raise UserError(f"{path}: the JSON is truncated or damaged: {short(error)}.") from None
    if not isinstance(value, list | dict | Iterator):
        raise UserError(f"{path}: the JSON is {kind(value)}, not a list of utterances or of dialogues.")
    rows = Flattener(path, notes, first_dialogue).rows(value)
    while block := list(itertools.islice(rows, _BLOCK)):
        yield block


# Parquet and Arrow, by pyarrow of the extra `parquet`


def _arrow(path: Path, first: int) -> tuple[pd.DataFrame, list[str]]:
    """Return the rows as objects, with names for the numbers of a Hugging Face class and without recordings, and notes.

    Rows that hold lists of text or of objects are flattened as those of JSON are.
    """
    import pandas as pd

    try:
        from pyarrow import types
    except ImportError:
        raise UserError(
            f"{path}: Parquet and Arrow are read by pyarrow. Install it: pip install 'ariigcn-jax[parquet]'. "
            "Or write each split as JSON Lines, by `to_json` of Hugging Face datasets."
        ) from None
    with text.intact(f"{path}: the file"):
        table = _arrow_table(path)
        if len(set(table.column_names)) < table.num_columns:
            raise ValueError("a column's name comes twice")
        about = json.loads((table.schema.metadata or {}).get(b"huggingface", b"{}"))
        described = about.get("info", {}).get("features", {})
        series: dict[str, Any] = {}
        nested = False
        for name, column in zip(table.column_names, table.columns, strict=True):
            form = column.type
            if types.is_struct(form) or types.is_binary(form) or types.is_large_binary(form):
                continue
            is_list = types.is_list(form) or types.is_large_list(form) or types.is_fixed_size_list(form)
            vectors = is_list and (types.is_floating(form.value_type) or types.is_integer(form.value_type))
            values = list(column.to_pandas()) if vectors else column.to_pylist()
            classes = _class_names(described.get(name))
            if classes and (types.is_integer(form) or (is_list and types.is_integer(form.value_type))):
                values = [_named(classes, value) for value in values]
            nested |= is_list and (
                any(test(form.value_type) for test in (types.is_string, types.is_large_string, types.is_struct))
            )
            series[name] = pd.Series(values, dtype=object)
        rows = pd.DataFrame(series, index=range(table.num_rows), dtype=object)
    notes: list[str] = []
    if nested:
        records = (dict(zip(series, row, strict=True)) for row in rows.itertuples(index=False, name=None))
        rows = pd.DataFrame(list(Flattener(path, notes, first).rows(records)), dtype=object)
    return rows, notes


def _class_names(described: Any) -> Sequence[str]:
    """Return the classes of a column of Hugging Face, whose values may be lists of them."""
    while isinstance(described, dict) and isinstance(inner := described.get("feature"), dict):
        described = inner
    names = described.get("names") if isinstance(described, dict) else None
    return names if isinstance(names, list) else ()


def _named(classes: Sequence[str], value: Any) -> Any:
    if isinstance(value, list | np.ndarray):
        return [_named(classes, each) for each in value]
    return classes[value] if value is not None and 0 <= value < len(classes) else None


def _arrow_table(path: Path) -> Any:
    import pyarrow as pa
    import pyarrow.parquet as pq

    size = path.stat().st_size
    with path.open("rb") as file:
        start = file.read(8)
        file.seek(0)
        if start.startswith(b"PAR1"):
            reader = pq.ParquetFile(file)
            check_rows(reader.metadata.num_rows, size, str(path))
            schema, parts = reader.schema_arrow, reader.iter_batches(_ROWS, use_threads=False)
        else:
            is_file = start.startswith(b"ARROW1")
            reader = (pa.ipc.open_file if is_file else pa.ipc.open_stream)(file)
            schema = reader.schema
            parts = map(reader.get_batch, range(reader.num_record_batches)) if is_file else reader
        batches, rows, taken = [], 0, 0
        for batch in parts:  # each is of few rows, or whole in memory already
            rows += len(batch)
            check_rows(rows, size, str(path))
            taken += sum(map(_memory, batch.columns))
            check_size(taken, size, str(path))
            batches.append(batch)
    table = pa.Table.from_batches(batches, schema)
    table.validate(full=True)
    return table


def _memory(column: Any) -> int:
    """Return the bytes of a column, with each repeated value written out, or 4 for each value if that is more."""
    from pyarrow import types

    if types.is_dictionary(column.type):
        column = column.dictionary_decode()
    size, values = column.nbytes, 0
    while types.is_list(column.type) or types.is_large_list(column.type) or types.is_fixed_size_list(column.type):
        column = column.flatten()
        values += len(column)
    return max(size, 4 * values)
