"""Read and write manifests: CSV files with one row an utterance, in the order of its dialogue.

    dialogue_id    required
    utterance_id   without it, dialogue_id and the turn
    speaker, transcript
    label          a number counted from 0, or a name; empty where there is none
    label_name     the class's name, where `label` is a number
    split          train, valid or test, the same for a whole dialogue; without it the reader holds dialogues out
    turn           a number that orders the utterances of a dialogue; without it the file's order counts
    start_s, end_s seconds, or a clock such as 0:01:05.3, from the start of the dialogue's recording
    audio, video   paths, relative to the manifest; an empty `audio` means the sound track of `video`

start_s and end_s say which part of the media file is the utterance; where both are empty it is the whole file. A path
may carry a W3C media fragment instead, which then alone counts: clip.mp4#t=0 is a whole file although the times are
known, scene.avi#t=6.29,8.24 a part, and scene.avi#xywh=percent:0,0,50,100 the left half of the picture.

Any other column goes into the .npz as it is: numbers as floats, a pair `x` and `x_name` as `x` and `x_names`, the rest
as text.
"""

from __future__ import annotations

import csv
import dataclasses
import io
import itertools
import os
import zipfile
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from ariigcn_jax.data import locate
from ariigcn_jax.data.fields import listed
from ariigcn_jax.data.readers import folder, layouts, recordings, text
from ariigcn_jax.data.readers.columns import seconds
from ariigcn_jax.data.values import mended
from ariigcn_jax.files import write_atomically
from ariigcn_jax.types import SPLITS, UNLABELED, Clip, UserError

_MEDIA = ("start_s", "end_s", "audio", "video")
COLUMNS = ("dialogue_id", "turn", "utterance_id", "speaker", *_MEDIA, "transcript", "label", "label_name", "split")
SPLIT_NAMES = {name: name for name in SPLITS} | dict.fromkeys(("val", "dev", "validation"), "valid")


@dataclasses.dataclass(frozen=True)
class Manifest:
    """Hold U rows of a manifest.

    Attributes:
      path: the file, or a corpus's folder.
      fields: what the .npz gets beside the new features: field -> [U, …], or the names of classes.
      transcript: U texts.
      audio: U clips, None where there is none; `video` likewise.
      utterance_id: [U] names for messages.
      notes: remarks of the reader.
    """

    path: Path
    fields: dict[str, np.ndarray]
    transcript: tuple[str, ...]
    audio: tuple[Clip | None, ...]
    video: tuple[Clip | None, ...]
    utterance_id: np.ndarray
    notes: tuple[str, ...] = ()


def read(path: str | Path) -> Manifest:
    """Read and check a manifest; raise UserError, with the line, if it cannot be used."""
    table = _read_table(Path(path))
    if "dialogue_id" not in table.cells:
        raise UserError(
            f"{path}: there is no column `dialogue_id` among {', '.join(table.cells) or 'none'}. "
            f"The columns are:\n{(__doc__ or '').split('order of its dialogue.')[-1]}"
        )
    if not table.lines:
        raise UserError(f"{path}: there are no rows below the header. Write one row an utterance.")
    start, end = table.seconds("start_s"), table.seconds("end_s")
    table.check(end <= start, "end_s", "is not after start_s", "Write both in seconds")
    video = tuple(table.clip("video", i, start[i], end[i]) for i in range(len(start)))
    audio = tuple(table.clip("audio", i, start[i], end[i]) or video[i] for i in range(len(start)))
    times = {"start_s": start.astype(np.float32), "end_s": end.astype(np.float32)}
    fields = _fields(table, {column: values for column, values in times.items() if not np.isnan(values).all()})
    transcript = tuple(table.text("transcript"))
    return Manifest(table.path, fields, transcript, audio, video, fields["utterance_id"], table.notes)


def of_corpus(path: str | Path) -> Manifest:
    """Make a manifest of a corpus, to encode its transcripts beside the fields that it has.

    Args:
      path: an .npz file, or a folder of the project's own format.

    Raises:
      UserError: the corpus cannot be read, is of another layout, or has no transcripts.
    """
    if not path:
        raise UserError("--corpus names nothing. Give an .npz file, or a folder that convert wrote.")
    place = locate(path)
    if not folder.recognise(place) and place.suffix != ".npz" and not zipfile.is_zipfile(place):
        raise UserError(
            f"{place}: is no .npz file and no folder that convert wrote, and fields can be added to these alone. "
            f"Convert it first: python -m tools.prepare convert {place} OUT"
        )
    corpus = layouts.read_fields(place)
    dialogues = corpus.names("dialogue_id")
    if dialogues is None:
        raise corpus.absent("dialogue_id", "Add it: [U] text or integers, the dialogue of each utterance")
    rows = np.arange(len(dialogues))
    corpus.get("label_names")  # refuses, as below, what only pickle could read
    for name in COLUMNS:
        if (values := corpus.get(name)) is not None and values.ndim < 2:  # several labels have two dimensions
            corpus.column(name, rows)  # refuses another length, which training would do hours later
    words = corpus.names("transcript", rows)
    if words is None:
        raise corpus.absent("transcript", "Add it: [U] text, what was said")
    names = corpus.names("utterance_id", rows)
    if names is None:
        names = np.array([f"{dialogue}, row {row + 1}" for row, dialogue in enumerate(dialogues.tolist())])
    if corpus.opaque:
        corpus.note(f"left out, for only pickle could read it: {listed(corpus.opaque)}")
    nothing = (None,) * len(rows)
    # A converted folder's long texts are objects, which an .npz cannot hold
    arrays = {name: x.astype(str) if x.dtype == object else x for name, x in corpus.arrays.items()}
    transcript = tuple(each.strip() for each in words.tolist())
    return Manifest(place, arrays, transcript, nothing, nothing, names, tuple(corpus.notes))


def write(path: str | Path, rows: Iterable[Mapping[str, object]]) -> int:
    """Write rows, column -> value, and return their number; media paths become relative to the file.

    None and NaN are written as empty.
    """
    path = Path(path)
    cells = [{column: _cell(value) for column, value in row.items()} for row in rows]
    columns = dict.fromkeys((*COLUMNS, *itertools.chain(*cells)))
    used = [column for column in columns if any(row.get(column) for row in cells)]
    table = io.StringIO(newline="")
    # of these line ends, both make the writer quote a cell
    writer = csv.DictWriter(table, used, extrasaction="ignore", lineterminator="\r\n")
    writer.writeheader()
    for row in cells:
        media = {kind: os.path.relpath(row[kind], path.parent) for kind in ("audio", "video") if row.get(kind)}
        writer.writerow(row | {kind: Path(relative).as_posix() for kind, relative in media.items()})
    write_atomically(path, table.getvalue().encode())
    return len(cells)


def _cell(value: object) -> str:
    if value is None or (isinstance(value, float) and np.isnan(value)):
        return ""
    return f"{value:.9g}" if isinstance(value, float) else str(value)


def _read_table(path: Path) -> _Table:
    with text.reading(path):
        codec, name = text.encoding(path)
        rows = [(line, [mended(cell.strip()) for cell in cells]) for line, cells in text.csv_rows(path, codec, ",")]
    columns = rows[0][1] if rows else []
    if any("\0" in cell for _, cells in rows for cell in cells):
        raise UserError(f"{path}: contains zero bytes, so it is not text. Give a CSV file.")
    if len(set(columns)) < len(columns):
        raise UserError(f"{path}: has a column twice: {', '.join(columns)}. Name each once.")
    notes = (f"the manifest is not UTF-8 and was read as {name}",) if name else ()
    cells = {column: [row[i] for _, row in rows[1:]] for i, column in enumerate(columns)}
    return _Table(path, [line for line, _ in rows[1:]], cells, notes)


class _Table(NamedTuple):
    path: Path
    lines: list[int]  # where the rows begin in the file
    cells: dict[str, list[str]]  # by column, stripped
    notes: tuple[str, ...]

    def text(self, column: str) -> list[str]:
        return self.cells.get(column) or [""] * len(self.lines)

    def refusal(self, column: str, row: int, problem: str, remedy: str) -> UserError:
        cell = self.text(column)[row]
        return UserError(f"{self.path}, line {self.lines[row]}: `{column}` = {cell!r} {problem}. {remedy}.")

    def check(self, wrong: ArrayLike, column: str, problem: str, remedy: str) -> None:
        """Raise UserError for the first row that is wrong, by a mask [U]."""
        for row in np.flatnonzero(wrong):
            raise self.refusal(column, int(row), problem, remedy)

    def numbers(self, column: str) -> list[float | None]:
        return [_number(cell) for cell in self.text(column)]

    def seconds(self, column: str) -> np.ndarray:
        """Return [U] float64, NaN where empty."""
        values = np.array([seconds(cell) for cell in self.text(column)], np.float64)
        given = np.array([bool(cell) for cell in self.text(column)])
        wrong = given & ~((values >= 0) & (values < np.inf))
        self.check(wrong, column, "is no time", "Write seconds, such as 6.29, or 0:00:06.29, or leave it empty")
        return values

    def clip(self, column: str, row: int, start: float, end: float) -> Clip | None:
        cell = self.text(column)[row]
        if not cell:
            return None
        try:
            return recordings.clip(self.path.parent, cell, start, end)
        except recordings.FragmentError as error:
            problem = f"has a fragment that is not understood: {error}"
            raise self.refusal(column, row, problem, recordings.FRAGMENTS) from None


def _number(cell: str) -> float | None:
    """Parse a number; return NaN for an empty cell, None for text."""
    try:
        return float(cell or "nan")
    except ValueError:
        return None


def _fields(table: _Table, times: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    dialogues = table.text("dialogue_id")
    table.check([not name for name in dialogues], "dialogue_id", "is empty", "Name the dialogue of each utterance")
    fields = {"dialogue_id": np.array(dialogues), "turn": _turns(table)}
    parts = zip(table.text("utterance_id"), dialogues, fields["turn"], strict=True)
    names = [given or f"{dialogue}_{number:g}" for given, dialogue, number in parts]
    seen: dict[str, int] = {}
    for line, name in zip(table.lines, names, strict=True):
        if seen.setdefault(name, line) != line:
            where = f"{table.path}, line {line}"
            raise UserError(f"{where}: the utterance {name!r} is named in line {seen[name]} already. Name each once.")
    fields |= {"utterance_id": np.array(names), **times}
    if any(table.text("split")):
        fields["split"] = _splits(table)
    fields |= _classes(table, "label")
    parsed = {*COLUMNS} - {"speaker", "transcript"}
    for column in table.cells:
        if column in parsed or column in fields or not any(table.text(column)):
            continue
        if column.endswith("_name") and column.removesuffix("_name") in table.cells:
            fields |= _classes(table, column.removesuffix("_name"))
        elif f"{column}_name" not in table.cells:
            numbers = [None] if column in ("speaker", "transcript") else table.numbers(column)
            fields[column] = np.array(table.text(column)) if None in numbers else np.array(numbers, np.float32)
    return fields


def _turns(table: _Table) -> np.ndarray:
    if "turn" not in table.cells:
        counters: dict[str, Iterator[int]] = defaultdict(itertools.count)
        return np.array([next(counters[dialogue]) for dialogue in table.text("dialogue_id")], np.int32)
    numbers = table.numbers("turn")
    wrong = [value is None or not np.isfinite(value) for value in numbers]
    table.check(wrong, "turn", "is no number", "Number the utterances, or leave the column out")
    turn = np.array(numbers, np.float64)
    return turn.astype(np.int32) if (turn == np.round(turn)).all() else turn


def _splits(table: _Table) -> np.ndarray:
    splits = np.array([SPLIT_NAMES.get(cell.lower(), "") for cell in table.text("split")])
    table.check(splits == "", "split", "is no split", f"Write one of {', '.join(SPLIT_NAMES)} in every row")
    first: dict[str, str] = {}
    for row, (split, dialogue) in enumerate(zip(splits.tolist(), table.text("dialogue_id"), strict=True)):
        if first.setdefault(dialogue, split) != split:
            problem = f"but the dialogue {dialogue!r} began in {first[dialogue]}"
            raise table.refusal("split", row, problem, "Context would leak: give a dialogue's rows one split")
    return splits


def _classes(table: _Table, column: str) -> dict[str, np.ndarray]:
    """Return the field `column`, numbers counted from 0, and `column`_names."""
    cells, given = table.text(column), table.text(f"{column}_name")
    if not any(cells):
        return {column: np.full(len(cells), UNLABELED, np.int32)} if column == "label" else {}
    numbers = table.numbers(column)
    if None in numbers:
        if any(given):
            wrong = [number is None for number in numbers]
            table.check(wrong, column, "is no number", f"`{column}_name` names numbers; or leave it out")
        known_names = sorted({*cells} - {""})
        classes = np.array([known_names.index(cell) if cell else UNLABELED for cell in cells], np.int32)
        return {column: classes, f"{column}_names": np.array(known_names)}
    values = np.array(numbers, np.float64)
    known = values >= 0
    remedy = "Write classes as whole numbers or names; a graded value goes into a column of another name"
    table.check(known & (values != np.round(values)), column, "is not whole", remedy)
    classes = np.where(known, values, UNLABELED).astype(np.int32)
    names: dict[int, str] = {}
    for row, (value, name) in enumerate(zip(classes.tolist(), given, strict=True)):
        if value >= 0 and name and names.setdefault(value, name) != name:
            raise table.refusal(column, row, f"is {name!r} here and {names[value]!r} above", "Give a number one name")
    if not names:
        return {column: classes}
    return {column: classes, f"{column}_names": np.array([names.get(c, str(c)) for c in range(max(classes) + 1)])}
