"""Read and write manifests: CSV files with one row an utterance, in the order of its dialogue.

    dialogue_id    required
    utterance_id   without it, dialogue_id and the turn
    speaker, transcript
    label          a number counted from 0, or a name; empty where there is none
    label_name     the class's name, where `label` is a number
    split          train, valid or test, the same for a whole dialogue; without it the reader holds dialogues out
    turn           a number that orders the utterances of a dialogue; without it the file's order counts
    start_s, end_s seconds, from the start of the dialogue's recording
    audio, video   paths, relative to the manifest; an empty `audio` means the sound track of `video`

start_s and end_s say which part of the media file is the utterance; where both are empty it is the whole file. A path
may carry a W3C media fragment instead, which then alone counts: clip.mp4#t=0 is a whole file although the times are
known, scene.avi#t=6.29,8.24 a part, and scene.avi#xywh=percent:0,0,50,100 the left half of the picture.

Any other column goes into the .npz as it is: numbers as floats, a pair `x` and `x_name` as `x` and `x_names`, the rest
as text.

`of_corpus` makes a manifest of an existing corpus, to encode its transcripts.
"""

from __future__ import annotations

import csv
import dataclasses
import io
import os
import re
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from ariigcn_jax.data import locate
from ariigcn_jax.data.fields import listed
from ariigcn_jax.data.readers import folder as columnar
from ariigcn_jax.data.readers import npz
from ariigcn_jax.files import write_atomically
from ariigcn_jax.types import SPLITS, UNLABELED, UserError

_WHO = ("dialogue_id", "turn", "utterance_id", "speaker")
COLUMNS = (*_WHO, "start_s", "end_s", "audio", "video", "transcript", "label", "label_name", "split")
_SPLITS = {name: name for name in SPLITS} | dict.fromkeys(("val", "dev", "validation"), "valid")
_FRAGMENT = re.compile(r"(?P<key>t|xywh)=(?P<unit>[a-z]+:)?(?P<value>[\d.,:]*)")


@dataclasses.dataclass(frozen=True)
class Clip:
    """Describe a part of a media file.

    Attributes:
      path: the file.
      start: seconds from the file's start, or None for the start.
      end: seconds, or None for the file's end.
      region: x, y, width, height of a part of the picture, in [0, 1] of its size, or None for all of it.
    """

    path: str
    start: float | None = None
    end: float | None = None
    region: tuple[float, float, float, float] | None = None


@dataclasses.dataclass(frozen=True)
class Manifest:
    """Hold the rows of a manifest.

    Attributes:
      path: the file, or a corpus's folder.
      fields: of the .npz beside the features: field -> array, [U] or the names of classes; of a corpus also its
        own features.
      transcript: U texts.
      audio: U clips, None where there is none.
      video: U clips, None where there is none.
      utterance_id: [U] the utterances' names.
      notes: remarks of the reader.
    """

    path: Path
    fields: dict[str, np.ndarray]
    transcript: tuple[str, ...]
    audio: tuple[Clip | None, ...]
    video: tuple[Clip | None, ...]
    utterance_id: np.ndarray
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.transcript)


def read(path: str | Path) -> Manifest:
    """Read and check a manifest.

    Raises:
      UserError: the file cannot be read or used; names the file, the line and what to do.
    """
    path = Path(path)
    columns, lines = _table(path)
    if "dialogue_id" not in columns:
        raise UserError(
            f"{path}: there is no column `dialogue_id` among {', '.join(columns) or 'none'}. "
            f"The columns are:\n{(__doc__ or '').split('order of its dialogue.')[-1]}"
        )
    if not lines:
        raise UserError(f"{path}: there are no rows below the header. Write one row an utterance.")
    table = _Table(path, columns, lines)
    start, end = table.seconds("start_s"), table.seconds("end_s")
    if (wrong := np.flatnonzero(end <= start)).size:
        raise table.refusal("end_s", int(wrong[0]), "is not after start_s", "Write both in seconds")
    video = tuple(table.clip("video", i, start[i], end[i]) for i in range(len(lines)))
    audio = tuple(table.clip("audio", i, start[i], end[i]) or video[i] for i in range(len(lines)))
    fields = _fields(table, start, end)
    return Manifest(path, fields, tuple(table.text("transcript")), audio, video, fields["utterance_id"])


def of_corpus(path: str | Path) -> Manifest:
    """Make a manifest of a corpus, whose transcripts can be encoded beside the features that it has.

    Args:
      path: an .npz file, or a folder of the project's own format.

    Returns:
      A manifest with the corpus's fields, in the order of its rows, and no recordings.

    Raises:
      UserError: the corpus cannot be read, is of another layout, or has no transcripts.
    """
    if not path:
        raise UserError("--corpus names nothing. Give an .npz file, or a folder that convert wrote.")
    place = locate(path)
    if columnar.recognise(place):
        corpus = columnar.read_fields(place)
    elif place.suffix == ".npz" or zipfile.is_zipfile(place):
        corpus = npz.read_fields(place)
    else:
        raise UserError(
            f"{place}: is no .npz file and no folder that convert wrote, and fields can be added to these alone. "
            f"Convert it first: python -m tools.prepare convert {place} OUT"
        )
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
    return Manifest(
        place, arrays, tuple(text.strip() for text in words.tolist()), nothing, nothing, names, tuple(corpus.notes)
    )


def write(path: str | Path, rows: Iterable[Mapping[str, object]]) -> int:
    """Write a manifest, whole or not at all; media paths become relative to it.

    Args:
      path: the file.
      rows: column -> value; None and NaN are written as empty.

    Returns:
      The number of rows.
    """
    path = Path(path)
    rows = list(rows)
    extra = dict.fromkeys(key for row in rows for key in row if key not in COLUMNS)
    used = [key for key in (*COLUMNS, *extra) if any(_cell(row.get(key)) for row in rows)]
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, used, lineterminator="\n")
    writer.writeheader()
    for row in rows:
        cells = {key: _cell(row.get(key)) for key in used}
        for key in ("audio", "video"):
            if cells.get(key):
                cells[key] = Path(os.path.relpath(cells[key], path.parent)).as_posix()
        writer.writerow(cells)
    write_atomically(path, text.getvalue().encode())
    return len(rows)


def _cell(value: object) -> str:
    if value is None or (isinstance(value, float) and np.isnan(value)):
        return ""
    return f"{value:.9g}" if isinstance(value, float) else str(value)


def _table(path: Path) -> tuple[list[str], list[tuple[int, dict[str, str]]]]:
    """Return the columns, and for each row its line in the file and its cells, stripped."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: is not UTF-8 (byte {error.start}). Save it as CSV in UTF-8.") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror or error}.") from None
    if "\0" in text:
        raise UserError(f"{path}: contains zero bytes, so it is not text. Give a CSV file.")
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    rows: list[tuple[int, dict[str, str]]] = []
    try:
        columns = [name.strip() for name in next(reader, [])]
        for cells in reader:
            if not any(cells):
                continue
            if len(cells) != len(columns):
                raise UserError(
                    f"{path}, line {reader.line_num}: has {len(cells)} cells, the header has {len(columns)}. "
                    'Put text with a comma into "quotes".'
                )
            rows.append((reader.line_num, dict(zip(columns, (cell.strip() for cell in cells), strict=True))))
    except csv.Error as error:
        raise UserError(f"{path}, line {reader.line_num}: is no CSV ({error}). Close the quotes.") from None
    if len(set(columns)) < len(columns):
        raise UserError(f"{path}: has a column twice: {', '.join(columns)}. Name each once.")
    return columns, rows


@dataclasses.dataclass(frozen=True)
class _Table:
    path: Path
    columns: Sequence[str]
    lines: Sequence[tuple[int, dict[str, str]]]

    def text(self, column: str) -> list[str]:
        return [cells.get(column, "") for _, cells in self.lines]

    def refusal(self, column: str, row: int, problem: str, remedy: str) -> UserError:
        line, cells = self.lines[row]
        return UserError(f"{self.path}, line {line}: `{column}` = {cells[column]!r} {problem}. {remedy}.")

    def numbers(self, column: str) -> np.ndarray | None:
        """Return [U] float64, NaN where empty; None if a cell is not a number."""
        try:
            return np.array([float(cell) if cell else np.nan for cell in self.text(column)])
        except ValueError:
            return None

    def seconds(self, column: str) -> np.ndarray:
        values = self.numbers(column)
        wrong = next((i for i, cell in enumerate(self.text(column)) if not _is_time(cell)), None)
        if values is None or wrong is not None:
            raise self.refusal(column, wrong or 0, "is no time", "Write seconds, such as 6.29, or leave it empty")
        return values

    def clip(self, column: str, row: int, start: float, end: float) -> Clip | None:
        text = self.lines[row][1].get(column, "")
        if not text:
            return None
        path, _, fragment = text.rpartition("#")
        if not path or (self.path.parent / text).exists():  # a file's name may hold a #
            path, fragment = text, ""
        first, last, region = _bound(start), _bound(end), None
        for part in filter(None, fragment.split("&")):
            match = _FRAGMENT.fullmatch(part)
            try:
                if match and match["key"] == "t" and match["unit"] in (None, "npt:"):
                    first, last = _times(match["value"])
                    continue
                if match and match["key"] == "xywh" and match["unit"] == "percent:":
                    x, y, width, height = (float(number) / 100 for number in match["value"].split(","))
                    if width > 0 and height > 0 and x + width <= 1 and y + height <= 1:
                        region = (x, y, width, height)
                        continue
            except ValueError:
                pass
            remedy = "Write #t=START,END in seconds, or #xywh=percent:X,Y,WIDTH,HEIGHT inside the picture"
            raise self.refusal(column, row, f"has a fragment that is not understood: {part}", remedy)
        return Clip(str(self.path.parent / path), first, last, region)


def _is_time(cell: str) -> bool:
    try:
        return not cell or 0 <= float(cell) < float("inf")
    except ValueError:
        return False


def _times(text: str) -> tuple[float | None, float | None]:
    first, _, last = text.partition(",")
    start, end = float(first) if first else 0.0, float(last) if last else None
    if end is not None and end <= start:
        raise ValueError
    return start, end


def _bound(seconds: float) -> float | None:
    return None if np.isnan(seconds) else float(seconds)


def _fields(table: _Table, start: np.ndarray, end: np.ndarray) -> dict[str, np.ndarray]:
    dialogues = table.text("dialogue_id")
    if (row := next((i for i, name in enumerate(dialogues) if not name), None)) is not None:
        raise table.refusal("dialogue_id", row, "is empty", "Name the dialogue of each utterance")
    turn = _turns(table, dialogues)
    fields = {"dialogue_id": np.array(dialogues), "turn": turn}
    names = [
        given or f"{dialogue}_{number:g}"
        for given, dialogue, number in zip(table.text("utterance_id"), dialogues, turn, strict=True)
    ]
    seen: dict[str, int] = {}
    for row, name in enumerate(names):
        if name in seen:
            line = table.lines[seen[name]][0]
            where = f"{table.path}, line {table.lines[row][0]}"
            raise UserError(f"{where}: the utterance {name!r} is named in line {line} already. Name each once.")
        seen[name] = row
    fields["utterance_id"] = np.array(names)
    for column, values in (("start_s", start), ("end_s", end)):
        if not np.isnan(values).all():
            fields[column] = values.astype(np.float32)
    if "split" in table.columns and any(table.text("split")):
        fields["split"] = _splits(table, dialogues)
    fields |= _classes(table, "label")
    done = {*COLUMNS} - {"speaker", "transcript"}
    for column in table.columns:
        if column in done or column in fields or not any(table.text(column)):
            continue
        if column.endswith("_name") and column.removesuffix("_name") in table.columns:
            fields |= _classes(table, column.removesuffix("_name"))
        elif f"{column}_name" not in table.columns:
            numbers = None if column in ("speaker", "transcript") else table.numbers(column)
            fields[column] = np.array(table.text(column)) if numbers is None else numbers.astype(np.float32)
    return fields


def _turns(table: _Table, dialogues: Sequence[str]) -> np.ndarray:
    if "turn" in table.columns:
        turn = table.numbers("turn")
        cells = table.text("turn")
        if turn is None or not np.isfinite(turn).all():
            row = next(i for i, cell in enumerate(cells) if not cell.replace(".", "", 1).lstrip("-").isdigit())
            raise table.refusal("turn", row, "is no number", "Number the utterances, or leave the column out")
        return turn.astype(np.int32) if (turn == np.round(turn)).all() else turn
    count: dict[str, int] = {}
    turns = []
    for dialogue in dialogues:
        turns.append(count.get(dialogue, 0))
        count[dialogue] = turns[-1] + 1
    return np.array(turns, np.int32)


def _splits(table: _Table, dialogues: Sequence[str]) -> np.ndarray:
    splits = []
    first: dict[str, str] = {}
    for row, (cell, dialogue) in enumerate(zip(table.text("split"), dialogues, strict=True)):
        split = _SPLITS.get(cell.lower())
        if split is None:
            raise table.refusal("split", row, "is no split", f"Write one of {', '.join(_SPLITS)} in every row")
        if first.setdefault(dialogue, split) != split:
            problem = f"but the dialogue {dialogue!r} began in {first[dialogue]}"
            raise table.refusal("split", row, problem, "Context would leak: give a dialogue's rows one split")
        splits.append(split)
    return np.array(splits)


def _classes(table: _Table, column: str) -> dict[str, np.ndarray]:
    """Return `column` as numbers counted from 0, and `column`_names."""
    cells = table.text(column)
    if not any(cells):
        return {column: np.full(len(cells), UNLABELED, np.int32)} if column == "label" else {}
    numbers = table.numbers(column)
    if numbers is None:
        if any(table.text(f"{column}_name")):
            row = next(i for i, cell in enumerate(cells) if cell and not cell.lstrip("-").isdigit())
            raise table.refusal(column, row, "is no number", f"`{column}_name` names numbers; or leave it out")
        names = sorted(set(filter(None, cells)))
        return {
            column: np.array([names.index(cell) if cell else UNLABELED for cell in cells], np.int32),
            f"{column}_names": np.array(names),
        }
    known = ~np.isnan(numbers) & (numbers >= 0)
    if (wrong := np.flatnonzero(known & (numbers != np.round(numbers)))).size:
        remedy = "Write classes as whole numbers or names; a graded value goes into a column of another name"
        raise table.refusal(column, int(wrong[0]), "is not whole", remedy)
    values = np.where(known, numbers, UNLABELED).astype(np.int32)
    coded = {column: values}
    given: dict[int, str] = {}
    for row, (value, name) in enumerate(zip(values.tolist(), table.text(f"{column}_name"), strict=True)):
        if value >= 0 and name and given.setdefault(value, name) != name:
            raise table.refusal(column, row, f"is {name!r} here and {given[value]!r} above", "Give a number one name")
    if given:
        coded[f"{column}_names"] = np.array([given.get(c, str(c)) for c in range(max(int(values.max()), *given) + 1)])
    return coded
