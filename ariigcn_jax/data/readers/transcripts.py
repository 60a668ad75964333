"""Read conversations as people have them: chats, subtitles, what recognisers write, and folders of these and of tables.

Each becomes a table of turns whose columns `columns` knows, so that it is read as all tables are. A file is a
conversation with the name of its stem. RTTM beside it, with the same stem, says who speaks where the file does not.
"""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ariigcn_jax.data.fields import Fields, count, listed
from ariigcn_jax.data.readers import chat, columns, recognisers, recordings, subtitles, tables, text
from ariigcn_jax.data.readers.chat import Turn
from ariigcn_jax.types import UserError

if TYPE_CHECKING:
    import pandas as pd

Conversations = dict[str, list[Turn]]  # by name; "" is that of a file with a single one
_CHATS = (".txt", ".text", ".chat")
_NO_CONVERSATIONS = ("readme", "license", "licence")  # which lie in many folders
# Of files with one stem the first is taken: a table may have labels, and a recogniser's JSON says more than its others
_PREFERRED = (*(suffix for suffix in tables.SUFFIXES if suffix != ".json"), ".json", ".vtt", ".srt", *_CHATS)
_READ = (
    "A run without a text encoder needs features. Give them, or choose a run that reads words (model.text.encoder), as "
    "experiments/own.py:words trains it."
)
_KEY = re.compile(r'"([^"\\]{1,40})"\s*:')
_LARGEST = 2**28  # bytes of what a recogniser writes; larger JSON is features
_BLOCK = 2**20  # characters that are searched at once


def form(path: Path) -> str:
    """Return what a file is: "subtitles", "chat", "recogniser" or "rttm"; "" for others, tables among them."""
    start = text.start(path)
    if b"\0" in start and not text.wide_codec(start):
        return ""
    begin = start.decode(text.wide_codec(start) or "utf-8", "replace").lstrip("\ufeff")
    if subtitles.is_subtitles(begin) or path.suffix.lower() in (".srt", ".vtt"):
        return "subtitles"
    if recognisers.is_rttm(begin):
        return "rttm"
    if path.suffix.lower() in _CHATS and not _names_columns(begin) and chat.is_chat(_opening(path)):
        return "chat"
    is_json = begin.lstrip()[:1] in ("{", "[") and path.stat().st_size < _LARGEST
    if is_json and _mentions(path, recognisers.KEYS):
        with contextlib.suppress(ValueError, RecursionError):  # the reader of tables says what is wrong
            return "recogniser" if recognisers.recognise(json.loads(text.read(path))) else ""
    return ""


def recognise(path: Path) -> bool:
    """Return whether a file, or the files in a folder, are conversations, and not a single table."""
    return bool(members(path) if path.is_dir() else form(path))


def members(folder: Path) -> dict[Path, str]:
    """Return the conversations in a folder, and the form of each, "table" among them; one of each stem.

    Its tables count if they have speakers and transcripts. A folder with tables for splits has none of these.
    """
    if tables.recognise(folder):
        return {}
    files = (path for path in sorted(folder.iterdir()) if path.suffix.lower() in _PREFERRED and path.is_file())
    found: dict[str, tuple[Path, str]] = {}
    for path in sorted(files, key=lambda path: _PREFERRED.index(path.suffix.lower())):
        if path.name.startswith(".") or path.stem in found or path.stem.lower() in _NO_CONVERSATIONS:
            continue
        what = form(path) or ("table" if path.suffix.lower() in tables.SUFFIXES and _says_who_speaks(path) else "")
        if what and what != "rttm":
            found[path.stem] = path, what
    return dict(sorted(found.values()))


def read_fields(path: Path, label: str = "label", task: str = "classification") -> Fields:
    """Return the fields of a file, or of a folder of files, that `recognise` accepts; arguments as of tables.

    Raises:
      UserError: a file cannot be read, or nobody speaks in it.
    """
    import pandas as pd

    files = members(path) if path.is_dir() else {path: form(path)}
    fields = Fields(path, {}, unlabelled="table" not in files.values())
    parts = []
    for file, what in files.items():
        part, notes = _table(file) if what == "table" else _transcript(file, what)
        parts.append(recordings.with_beside(part, file))
        for note in notes:
            fields.note(f"{file.name}: {note}" if path.is_dir() else note)
    if path.is_dir():
        others = [other.name for other in sorted(path.iterdir()) if other not in files and other.suffix != ".rttm"]
        sounds = {str(cell) for part in parts for name in columns.sounding(part) for cell in part[name]}
        if others := [name for name in others if not name.startswith(".") and name not in sounds]:
            fields.note(f"left out of the folder: {listed(others)}")
    table = pd.concat(parts, ignore_index=True)
    if "utterance_id" in table:  # of some of the files
        table["utterance_id"] = table["utterance_id"].fillna(table["dialogue_id"] + "_" + table["turn"].astype(str))
    fill(fields, table, label, task, sum(file.stat().st_size for file in files))
    return fields


def fill(fields: Fields, table: pd.DataFrame, label: str, task: str, size: int = 0) -> None:
    """Read a table of turns, of one conversation where it names none, into fields, as `columns.fill` does."""
    table = columns.with_told(table.astype(object), fields.notes)
    table = table.where(table.notna(), None)
    columns.fill(fields, table, label, task, size)
    recordings.fill(fields, table)


def check(fields: Fields, words: bool, recorded: bool = False) -> None:
    """Note what conversations without features hold.

    Args:
      fields: of the conversations; their notes grow.
      words: whether a text encoder reads transcripts.
      recorded: whether features are made of recordings.

    Raises:
      UserError: there is nothing to learn from or to predict by.
    """
    if any(array.ndim >= 2 for array in fields.arrays.values()):
        return
    spoken = "transcript" in fields.arrays
    if (spoken and words) or (recorded and recordings.heard(fields)):
        fields.notes.insert(0, understood(fields, recorded))
        return
    found = "".join(f" {note[:1].upper()}{note[1:]}." for note in fields.notes)
    there = f"there are words in it, and no features. {_READ}" if spoken else "there are no features in it."
    remedy = "" if spoken else " A column `transcript` is enough for a model with a text encoder (model.text.encoder)."
    raise UserError(
        f"{fields.path}: {there} By name are known {listed(fields.arrays)}.{found} {tables.VECTORS} "
        f"Features are extracted from words, sound and video by `python -m tools.features`.{remedy}"
    )


def understood(fields: Fields, recorded: bool = False) -> str:
    """Say in a line what conversations without features hold; `recorded` is as in `check`."""
    arrays = fields.arrays
    dialogues = arrays.get("dialogue_id", np.zeros(0, str))
    said = arrays.get("transcript", np.full(len(fields.clips), ""))
    speakers = arrays.get("speaker", said[:0])
    pairs = {pair for pair in zip(dialogues.tolist(), speakers.tolist(), strict=False) if pair[1]}
    several = len(set(dialogues.tolist()))
    where = f" in {several:,} conversations" if several > 1 else ""
    who = f"of {count(len(pairs), 'speaker')}" if pairs else "without speakers"
    silent = sum(not str(words).strip() for words in said.tolist())
    words = f"words of {len(said) - silent:,}" if silent else "words"
    heard = recordings.heard(fields)
    there = [words] if "transcript" in arrays else []
    there += ["times"] if "start_s" in arrays else []
    there += [f"sound of {heard:,}" if heard < len(said) else "sound"] if heard and recorded else []
    listing = " and ".join(filter(None, [", ".join(there[:-1]), there[-1]]))
    silence = "" if heard and recorded else "; its sound is not used" if heard else "; no sound"
    return f"{count(len(said), 'turn')} {who}{where}, {listing}{silence}"


def frame(found: Conversations, name: str = "") -> pd.DataFrame:
    """Return one row a turn. Dialogues are called `name`, and with several of them their own names follow it."""
    import pandas as pd

    rows = [
        (f"{name}_{dialogue}" if name and dialogue else name or dialogue, n, *turn)
        for dialogue, turns in found.items()
        for n, turn in enumerate(turns)
    ]
    table = pd.DataFrame(rows, columns=["dialogue_id", "turn", "speaker", "transcript", "start_s", "end_s"])
    unknown = [name for name in ("start_s", "end_s") if not np.isfinite(table[name].to_numpy(float)).any()]
    return table.drop(columns=unknown + ([] if any(table["speaker"]) else ["speaker"])).astype(object)


def of_recogniser(value: Any, where: str) -> Conversations:
    """Return the turns of what a recogniser wrote, those of each conversation in the order of time."""
    return {name: _by_time(turns) for name, turns in recognisers.turns(value, where).items()}


def _transcript(path: Path, what: str) -> tuple[pd.DataFrame, list[str]]:
    """Return the turns of a file of some form, and what the user should know of it."""
    if what == "rttm":
        raise UserError(
            f"{path}: this is RTTM, which says who speaks when, but no words. It is read beside a transcript with the "
            f"same stem and times, {path.stem}.srt, .vtt or .json: give the path of that."
        )
    codec = text.encoding(path)[1]
    notes = [f"it is not UTF-8 and was read as {codec}"] if codec else []
    written = text.read(path).lstrip("\ufeff")
    if what == "chat":
        turns, said = chat.turns(written)
        found, notes = {"": turns}, [*notes, *said]
    elif what == "subtitles":
        turns, said = subtitles.turns(written)
        found, notes = {"": _by_time(turns)}, [*notes, *said]
    else:
        found = of_recogniser(json.loads(written), str(path))
    if not any(found.values()):
        raise UserError(f"{path}: there is no turn in it: nobody says anything.")
    beside = path.with_suffix(".rttm")
    if beside.is_file() and len(found) == 1:
        before = next(iter(found.values()))
        found = {"": recognisers.with_speakers(before, beside)}
        named = sum(one != other for one, other in zip(before, found[""], strict=True))
        notes.append(f"{beside.name} says who speaks in {count(named, 'turn')}")
    return frame(found, path.stem), notes


def _table(path: Path) -> tuple[pd.DataFrame, list[str]]:
    """Return the rows of a table in a folder; the names of its dialogues follow the file's."""
    table, notes = tables.frame(path)
    table = columns.with_told(table, notes)
    ids = columns.dialogue_ids(table, notes)
    column = columns.find(table, "dialogue_id")
    table = table.drop(columns=[column] if column else [])
    table["dialogue_id"] = path.stem if ids is None else [f"{path.stem}_{id}" for id in ids]
    table = table.rename(columns=_usual(table))
    if "utterance_id" in table:
        table["utterance_id"] = [f"{path.stem}_{id}" for id in table["utterance_id"]]
    if "turn" not in table:
        if "start_s" in table:
            table = table.iloc[_order(map(columns.seconds, table["start_s"]))]
        table["turn"] = range(len(table))
    return table.astype(object), notes


def _usual(table: pd.DataFrame) -> dict[str, str]:
    """Return column -> the usual name of its field, so that tables with other names go together."""
    found = {columns.find(table, field): field for field in columns.ALIASES} | {columns.spoken(table): "transcript"}
    return {column: field for column, field in found.items() if column is not None and field not in table}


def _by_time(turns: list[Turn]) -> list[Turn]:
    """Return turns in the order of their beginnings; one without a time stays after the one before it."""
    return [turns[n] for n in _order([turn.start for turn in turns])]


def _order(times: Iterable[float]) -> list[int]:
    begins, last = [], -np.inf
    for time in times:
        last = time if np.isfinite(time) else last
        begins.append(last)
    return np.argsort(begins, kind="stable").tolist()


def _opening(path: Path) -> str:
    with text.opened(path, text.encoding(path)[0]) as file:
        return file.read(2**16).lstrip("\ufeff")


def _mentions(path: Path, keys: tuple[str, ...]) -> bool:
    """Return whether a JSON file has one of some keys; it is not read as a whole."""
    kept = ""
    with text.opened(path, text.encoding(path)[0]) as file:
        while block := file.read(_BLOCK):
            kept = kept[-20:] + block
            if any(f'"{key}"' in kept for key in keys):
                return True
    return False


def _names_columns(begin: str) -> bool:
    """Return whether a text that begins so is a table: its first line has names of columns and no sentence."""
    line = next((line for line in text.lines(begin) if line.strip()), "")
    cells = [cell.strip() for cell in re.split(r"[,\t;|]", line)]
    known = [field for field in columns.ALIASES if columns.find(cells, field)]
    return len(cells) > 1 and bool(known) and ": " not in line


def _says_who_speaks(path: Path) -> bool:
    """Return whether a table that is text has columns, or keys, of speakers and transcripts."""
    start = text.start(path)
    if tables.is_arrow(start) or (b"\0" in start and not text.wide_codec(start)):
        return False
    begin = start.decode(text.wide_codec(start) or "utf-8", "replace").lstrip("\ufeff")
    names = [cell.strip(' "') for cell in re.split(r"[,\t;|]", next(iter(text.lines(begin.lstrip())), ""))]
    if begin.lstrip()[:1] in ("{", "["):
        names = _KEY.findall(begin)
    spoken = columns.find(names, "transcript") or any(columns.plain(name) == "text" for name in names)
    return bool(spoken) and columns.find(names, "speaker") is not None
