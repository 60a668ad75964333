"""Find the fields of a corpus in the columns of a table, by the names that the field uses."""

from __future__ import annotations

import datetime
import functools
import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ariigcn_jax.data import labels, targets
from ariigcn_jax.data.fields import Fields, count, is_named_like_a_modality, listed, text_array
from ariigcn_jax.data.values import Rows, ShapeError, is_integer, is_missing, is_number, load_array, short, text
from ariigcn_jax.types import UserError

if TYPE_CHECKING:
    import pandas as pd

ALIASES = {
    "dialogue_id": ("dialogue_id", "dialog_id", "conversation_id", "conv_id", "dialogueid", "dialogid", "dia_id",
                    "conversationid", "call_id", "chat_id", "meeting_id", "video_id", "dialogue", "dialog",
                    "conversation", "video"),
    "utterance_id": ("utterance_id", "utt_id", "uid", "utteranceid", "clip_id", "name", "id"),
    "turn": ("turn", "turn_id", "utterance_index", "turn_index", "turn_number", "position"),
    "speaker": ("speaker", "speaker_id", "speaker_name", "speaker_label", "speakerid", "spk", "spk_id", "actor",
                "character", "author", "sender", "participant", "role"),
    "label": ("label", "emotion", "emo", "emotion_label", "emotion_name", "major_emotion", "class"),
    "split": ("split", "set", "partition", "subset"),
    "transcript": ("transcript", "utterance", "sentence", "raw_text", "transcription", "utterance_text",
                   "to_translate", "message", "content", "words"),
    "start_s": ("start_s", "start", "start_time", "starttime", "begin", "begin_time", "start_sec", "start_seconds"),
    "end_s": ("end_s", "end", "end_time", "endtime", "end_sec", "end_seconds"),
}  # fmt: skip
# Columns with sound or video files, in the order in which they are looked at; of `recording` times cut the utterances
SOUND = ("recording", "audio_file", "audio_path", "audio", "wav_file", "wav_path", "wav", "sound_file", "sound",
         "video_file", "video_path", "video", "path", "file_path", "file", "file_name", "filename")  # fmt: skip
MEDIA = (".wav", ".mp3", ".m4a", ".flac", ".ogg", ".opus", ".mp4", ".mkv", ".avi", ".webm", ".mov")
_FILES = ("file", "file_name", "filename", "path", "wav", "titre")  # where copies of corpora keep an utterance's name
_TOLD = (  # names of utterances that tell the dialogue: of IEMOCAP with its speaker, and of MELD
    re.compile(r"(?:.*/)?(?P<dialogue>Ses\d\d[FM]_(?:impro|script)\w+)_(?P<speaker>[FM])[A-Z]*\d+"),
    re.compile(r"(?:.*/(?=[^/]*/))?(?P<dialogue>(?:[^/]*/)?[^/]*dia\d+)_utt(?P<turn>\d+)"),
)
_ABOVE_SCENES = (("season_id", "season"), ("episode_id", "episode"))  # in each of which scenes may count anew
TEXTS = ("dialogue_id", "utterance_id", "speaker", "label", "split", "transcript")
NAMES = ALIASES["dialogue_id"] + ALIASES["utterance_id"]
_LONGEST_VALUE = 200  # characters of a field by which dialogues may be chosen
_FILE = re.compile(r"(.+)_(?:file|path|npy)")
_CUT = re.compile(r"""\s*["']?(?:[\w.]+\()?\[+\s*[-+\d.]""")  # a printed vector's beginning
_CLOCK = re.compile(  # 00:01:05,003 and 1:05, also after a date or a number of days, as pandas writes them
    r"(?:(\d{4}-\d\d-\d\d)[ T]|(\d+) days?,? )?(?:(\d+):)?(\d+):(\d+(?:[.,]\d*)?)(?: ?([AP])M)?", re.IGNORECASE
)
_NUMBERS = re.compile(r"[\[(]*\s*[-+\d.][-+\d.,;|\seEnaN]*[\])]*")
_WHOLE = re.compile(r"(\d+)\.0+")  # of an id
_MONTH = "(?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec)"
_DAMAGED = re.compile(rf"\d(?:\.\d+)?E\+\d+|\d{{1,2}}-{_MONTH}|{_MONTH}-\d{{2}}|#(?:NAME\?|REF!|VALUE!|N/A)")
_TRUE, _FALSE = ("1", "true", "yes", "t", "y", "1.0"), ("0", "false", "no", "f", "n", "0.0", "")


def find(names: Iterable[str], field: str) -> str | None:
    """Return the column of a field, or None."""
    lower = {plain(name): name for name in reversed(list(names))}
    return next((lower[alias] for alias in ALIASES[field] if alias in lower), None)


@functools.lru_cache(4096)
def plain(name: str) -> str:
    """Return a column's name in lower case, with underscores in the place of blanks and hyphens."""
    return re.sub(r"[\s\-]+", "_", name.strip()).lower()


def sounding(table: pd.DataFrame) -> list[str]:
    """Return the columns of a table that name sound or video files, in the order of `SOUND`."""
    named = {plain(name): name for name in reversed(list(table)) if name != find(table, "dialogue_id")}
    found = [named[name] for name in SOUND if name in named]
    return [name for name in found if any(isinstance(cell, str) and _is_media(cell) for cell in table[name])]


def _is_media(cell: str) -> bool:
    return cell.partition("#")[0].strip().lower().endswith(MEDIA)


def dialogue_ids(table: pd.DataFrame, notes: list[str]) -> list[Any] | None:
    """Return the name of the dialogue of each row, None where the table has no column of them; `notes` grows.

    Scenes are dialogues where there are no others, and their names begin with those of season and episode.
    """
    if (column := find(table, "dialogue_id")) is not None:
        return _of_one_spelling(table[column].tolist(), column, notes)
    if not (scene := _scene(table)):
        return None
    notes.append(f"there is no column `dialogue_id`: {listed(scene)} say the dialogue")
    return ["_".join(row) for row in zip(*(texts(table[name].tolist(), f"`{name}`") for name in scene), strict=True)]


def _scene(table: pd.DataFrame) -> list[str]:
    """Return the columns that tell a scene from others; [] where none names scenes.

    A column `scene` may hold places: it names scenes only where nothing else names utterances.
    """
    names = {plain(name): name for name in table}
    scene = names.get("scene_id") or (names.get("scene") if find(table, "utterance_id") is None else None)
    above = [next((names[name] for name in options if name in names), None) for options in _ABOVE_SCENES]
    return [name for name in (*above, scene) if name is not None] if scene is not None else []


def _of_one_spelling(ids: list[Any], column: str, notes: list[str]) -> list[Any]:
    """Return ids with one spelling of each number: it may be 1 in one row and 1.0, or 01 in text, in another one."""
    simple = [str(id).strip() if isinstance(id, str) or is_number(id) else "" for id in ids]
    numbers = {id for id in ids if is_number(id)}
    spelled: dict[int, list[str]] = {}
    for spelling in sorted(set(simple), key=len):
        match = re.fullmatch(r"(\d{1,15})(\.0+)?", spelling)
        if match and (match[1] == str(int(match[1])) or int(match[1]) in numbers):
            spelled.setdefault(int(match[1]), []).append(spelling)
    several = [spellings for spellings in spelled.values() if len(spellings) > 1]
    if not several:
        return ids
    notes.append(f"`{column}`: {' and '.join(several[0])} name the same dialogue, and so do other such numbers")
    first = {spelling: spellings[0] for spellings in several for spelling in spellings}
    return [first.get(spelling, id) for spelling, id in zip(simple, ids, strict=True)]


def number(value: Any) -> float:
    """Return a value as a number, NaN for what is none."""
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError):
        return float("nan")


def seconds(value: Any) -> float:
    """Return a time in seconds, of a number or a clock; NaN for what is none."""
    written = str(value).strip()
    if not (match := _CLOCK.fullmatch(written)):
        return number(written.replace(",", ".") if isinstance(value, str) else value)
    date, days, hours, minutes, rest, half = match.groups()
    try:
        day = datetime.date.fromisoformat(date).toordinal() if date else int(days or 0)
        clock = int(hours or 0) % (12 if half else 10**9) + 12 * ((half or "").upper() == "P")
        return 86400.0 * day + 3600.0 * clock + 60.0 * int(minutes) + float(rest.replace(",", "."))
    except (ValueError, OverflowError):
        return float("nan")


def located(folder: Path, written: str) -> Path:
    """Return the file that a table in a folder names, as it is written or as on another system.

    Backslashes separate folders, and of an absolute path of another machine the last folders may lie beside the table.
    """
    if (path := folder / written).exists() or not re.match(r"[A-Za-z]:|.*\\|/", written):
        return path
    parts = [part for part in re.split(r"[\\/]+", written) if part]
    absolute = re.match(r"[A-Za-z]:|[\\/]", written) is not None
    tails = [folder.joinpath(*parts[first:]) for first in range(max(len(parts) - 1, 1) if absolute else 1)]
    return next((tail for tail in tails if tail.exists()), path if written.startswith("/") else tails[0])


def numbered(names: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Return text labels as numbers, [U] int with -1 for an empty one, and the names by number.

    Names are in the usual order where they are those of a known corpus, else in alphabetical order.
    """
    written = [name.strip() for name in names]
    there = sorted({name for name in written if name})
    known = (labels.IEMOCAP, labels.MELD, labels.MELD_SENTIMENT, labels.POLARITY)
    order = next((k for k in known if sorted(k) == sorted(n.lower() for n in there)), None)
    if order:
        there.sort(key=lambda name: order.index(name.lower()))
    numbers = {name: i for i, name in enumerate(there)} | {"": -1}
    return np.array([numbers[name] for name in written], np.int64), text_array(there)


def signs(scores: np.ndarray) -> dict[str, np.ndarray]:
    """Return the fields of classes that sentiment scores [U] give: `label`, and `binary` without a neutral class."""
    return {
        "label": labels.by_sign(scores),
        "label_names": np.array(labels.POLARITY),
        "binary": labels.without_neutral(scores),
        "binary_names": np.array(labels.POLARITY[::2]),
    }


def texts(values: Iterable[Any], what: str, as_text: Callable[[Any], str] = text) -> np.ndarray:
    """Return U values as text, [U] str.

    Raises:
      UserError: `as_text` raised `ShapeError`; the message begins with `what` and names the row.
    """
    words: list[str] = []
    try:
        words.extend(map(as_text, values))
    except ShapeError as error:
        raise UserError(f"{what}, row {len(words)}: {error}.") from None
    return text_array(words)


def keep(fields: Fields, modality: str, rows: Rows, absent: str = "") -> None:
    """Keep the rows of a modality as a field; note `absent` where no utterance has one."""
    if (array := rows.array()) is not None:
        fields.arrays[modality] = array
    elif absent:
        fields.note(absent)


def fill(fields: Fields, table: pd.DataFrame, label: str, task: str, size: int) -> None:
    """Read the columns of a table into fields, and note those that are left out.

    Args:
      fields: of the table's file; their arrays and notes grow.
      table: one row an utterance, of objects, None where there is nothing.
      label: as in `layouts.Source`, like `task`.
      task: what the labels are.
      size: bytes of the files that the table comes from.

    Raises:
      UserError: a cell is not what its column is.
    """
    columns = {field: find(table, field) for field in ALIASES} | {"transcript": spoken(table)}
    if label != "label":
        columns["label"] = next((name for name in table if plain(name) == plain(label)), None)
    for field in TEXTS:
        if (column := columns[field]) is not None and field not in ("dialogue_id", "label", "utterance_id"):
            fields.arrays[field] = _column(fields, table, column)
    if (ids := dialogue_ids(table, fields.notes)) is not None:
        name = columns["dialogue_id"] or "dialogue_id"
        fields.arrays["dialogue_id"] = _names(fields, texts(ids, f"{fields.path}: `{name}`"), name)
    elif columns["transcript"] and (columns["speaker"] or not columns["label"]) and not _are_several(columns):
        fields.arrays["dialogue_id"] = text_array([fields.path.stem] * len(table))
        fields.note("there is no column `dialogue_id`: the rows are one conversation")
    for field in ("start_s", "end_s"):
        if (column := columns[field]) is not None:
            times = np.array([seconds(value) for value in table[column]], np.float64)
            if np.isfinite(times).any():
                fields.arrays[field] = np.where(np.isfinite(times), times, np.nan)
    _read_order(fields, table, columns)
    if (column := columns["label"]) is not None:
        read_labels(fields, table[column].tolist(), column, label, task, size)
    taken = {*columns.values(), *sounding(table)}
    others = [name for name in table if name not in taken]
    left = [name for name in others if not _read_column(fields, table[name].tolist(), name, size)]
    for name in left:
        _keep_others(fields, table[name].tolist(), name)
    fields.others.extend(name for name in left if name not in fields.arrays)
    known = _scene(table)
    if unknown := [name or "(no name)" for name in left if name not in known]:
        fields.note(f"ignored columns (no vectors, unknown names): {listed(unknown)}")


def _are_several(columns: dict[str, str | None]) -> bool:
    """Return whether a table without dialogues may well be of several, as one with splits or names of utterances."""
    return columns["split"] is not None or columns["utterance_id"] is not None


def spoken(table: pd.DataFrame) -> str | None:
    """Return the column of what was said, None where there is none; `text` is one unless it holds features."""
    if (column := find(table, "transcript")) is not None:
        return column
    named = next((name for name in table if plain(name) == "text"), None)
    return named if named is not None and _are_words(table[named]) else None


def _are_words(values: Iterable[Any]) -> bool:
    there = ["" if v is None else v for v in values]
    words = [v for v in there if isinstance(v, str)]
    others = [v for v in there if not isinstance(v, str)]
    lists = all(isinstance(v, list) and all(isinstance(word, str) for word in v) for v in others)
    filled = [v for v in words if not is_missing(v)]
    return lists and not (words and all(_CUT.match(v) for v in words)) and (not filled or are_said(filled))


def are_said(cells: Iterable[str]) -> bool:
    """Return whether some of the cells are words, and not all of them numbers."""
    return any(not is_missing(cell) and not _NUMBERS.fullmatch(cell) for cell in cells)


def with_told(table: pd.DataFrame, notes: list[str]) -> pd.DataFrame:
    """Return a table with the dialogues, and speakers or turns, that the names of its utterances tell.

    Copies of IEMOCAP and MELD on the Hugging Face hub have them in the names of files alone.
    """
    if find(table, "dialogue_id") is not None or _scene(table):
        return table
    named = [find(table, "utterance_id"), *(name for name in table if plain(name) in _FILES)]
    for column in filter(None, named):
        stems = [re.sub(r"\.\w{2,4}$", "", str(value).strip()[:_LONGEST_VALUE]) for value in table[column]]
        form = next((form for form in _TOLD if stems and form.fullmatch(stems[0])), None)
        found = [form.fullmatch(stem) for stem in stems] if form else []
        if not found or not all(found):
            continue
        told = {name: [match[name] for match in found if match] for name in form.groupindex} if form else {}
        told = {f"{name}_id" if name == "dialogue" else name: values for name, values in told.items()}
        told = {name: values for name, values in told.items() if find(table, name) is None}
        ordered = any(find(table, field) or field in told for field in ("turn", "start_s"))
        order = "" if ordered else ", and the rows' order counts"
        notes.append(f"`{column}` tells {listed(list(told))} of each utterance{order}")
        if find(table, "utterance_id") is None:
            table = table.drop(columns=[column]).assign(utterance_id=stems)
        return table.assign(**told)
    return table


def _column(fields: Fields, table: pd.DataFrame, name: str) -> np.ndarray:
    """Return a column as text [U] str."""
    said = texts(table[name].tolist(), f"{fields.path}: `{name}`")
    return said if name == spoken(table) else _names(fields, said, name)


def _names(fields: Fields, words: np.ndarray, name: str) -> np.ndarray:
    """Return a column of names [U] str with whole numbers as ids are written, and note what a spreadsheet damaged."""
    given = [word for word in words.tolist() if word.strip()]
    if damaged := [word for word in given if _DAMAGED.fullmatch(word.strip())]:
        fields.note(
            f"`{name}` has {count(len(damaged), 'cell')} such as {damaged[0]!r}, which a spreadsheet makes of numbers, "
            "dates and formulas: what was written there is lost, and ids that differed may be one"
        )
    if given and all(re.fullmatch(r"\d+(\.0+)?", word) for word in given):
        return text_array([_WHOLE.sub(r"\1", word) for word in words.tolist()])
    return words


def _read_order(fields: Fields, table: pd.DataFrame, columns: dict[str, str | None]) -> None:
    """Read turn and utterance_id, and the dialogues that they tell where nothing else does.

    Ids in digits that begin again in each dialogue are turns, as in MELD's tables. Without dialogues one begins where
    such ids do, and else every utterance is one.
    """
    turn, start, arrays = columns["turn"], columns["start_s"], fields.arrays
    if (column := columns["utterance_id"]) is not None:
        ids = _column(fields, table, column)
        begins_again = "dialogue_id" in arrays and _are_turns(arrays["dialogue_id"], ids)
        if "dialogue_id" not in arrays:
            begins_again = _name_dialogues(fields, ids, column)
        if turn is None and begins_again:
            arrays["turn"] = ids.astype(np.int64)
            return
        arrays["utterance_id"] = ids
    if (order := turn or start) is None:
        return
    values = np.array([number(value) if turn else seconds(value) for value in table[order]])
    known = np.isfinite(values)
    if turn is None and not known.any():
        fields.note(f"`{order}` is a time in no row: the rows' order counts")
        return
    if turn is None and not known.all():
        values = _after_the_row_before(values, fields.arrays.get("dialogue_id"))
        fields.note(f"`{order}` is no time in {count(int((~known).sum()), 'row')}, which stay after the row before")
    fields.arrays["turn"] = values


def _after_the_row_before(times: np.ndarray, dialogues: np.ndarray | None) -> np.ndarray:
    """Return times [U] in which a row without one has that of the row before it in its dialogue."""
    import pandas as pd

    given = pd.Series(np.where(np.isfinite(times), times, np.nan))
    filled = given.ffill() if dialogues is None else given.groupby(dialogues).ffill()
    return filled.fillna(given.min() - 1).to_numpy()


def _name_dialogues(fields: Fields, ids: np.ndarray, column: str) -> bool:
    """Name the dialogues of a table without such a column; return whether one begins where ids [U] str begin again.

    Else every utterance is a dialogue; in each split another one, as ids may count from the same number there.
    """
    none, split = "there is no column `dialogue_id`", fields.arrays.get("split", np.full(len(ids), ""))
    if _are_turns(split, ids):
        numbers = ids.astype(np.int64)
        begins = np.append(True, (numbers[1:] <= numbers[:-1]) | (split[1:] != split[:-1]))
        if (numbers[begins] <= 1).all():
            fields.arrays["dialogue_id"] = np.cumsum(begins).astype(str)
            number = count(int(begins.sum()), "dialogue")
            fields.note(f"{none}: a dialogue begins wherever `{column}` begins again, which makes {number}")
            return True
    fields.note(f"{none}: every utterance is a dialogue of its own")
    here = [f"{name}_{id}" for name, id in zip(split, ids, strict=True)]
    fields.arrays["dialogue_id"] = text_array(here) if len(set(here)) > len(set(ids.tolist())) else ids
    return False


def _are_turns(dialogues: np.ndarray, ids: np.ndarray) -> bool:
    """Return whether ids are numbers, repeat, and begin at 0 or 1 in most dialogues."""
    import pandas as pd

    if not all(re.fullmatch(r"\d{1,9}", id) for id in ids.tolist()):
        return False
    numbers = pd.Series(ids.astype(np.int64))
    return bool(numbers.duplicated().any() and numbers.groupby(dialogues).min().median() <= 1)


def read_labels(fields: Fields, values: list[Any], column: str, label: str, task: str, size: int) -> None:
    """Read the cells of a column into the field `label`, numbered where they are text; arguments as in `fill`.

    Where classes have names already, `<label>_names` in the fields, these number them.
    """
    target = targets.of(task)
    if target and target.several:
        if any(isinstance(v, np.ndarray) for v in values):
            _read_column(fields, values, column, size)
            fields.arrays[label] = fields.arrays.pop(column)
            return
        # a list of labels, which may be empty, is their set
        values = [targets.APART.join(map(str, v)) or targets.NONE if isinstance(v, list) else v for v in values]
    what = f"{fields.path}: `{column}`"
    cells = [word.strip() for word in texts(values, what).tolist()]
    if target is not None:
        try:
            fields.arrays[label], names = target.parse(cells)
        except UserError as error:
            raise UserError(f"{what}: {error}") from None
        if names:
            fields.arrays[f"{label}_names"] = text_array(names)
        return
    given = [c for c in cells if not is_missing(c)] or [c for c in cells if c and c.lower() != "nan"]
    numbers = np.array([np.nan if is_missing(c) else number(c) for c in cells])
    whole = all(re.fullmatch(r"-?\d{1,9}(\.0*)?", c) for c in given)
    if whole and all(isinstance(v, str) or v is None or is_number(v) for v in values):
        if negative := int((numbers < 0).sum()):
            counted = count(negative, "negative number counts", "negative numbers count")
            fields.note(f"`{column}`: {counted} as no label")
        fields.arrays[label] = np.where(np.isnan(numbers), -1, numbers)
    elif given and np.isfinite([number(c) for c in given]).all():
        fields.arrays[label] = np.where(np.isnan(numbers), -1.0, numbers)  # scores, which `assemble` refuses
    elif (listing := fields.names(f"{label}_names")) is not None:
        number_of = {"": -1} | {name.strip(): number for number, name in enumerate(listing.tolist())}
        if unknown := sorted(set(cells) - set(number_of)):
            problem = f"has the value {short(unknown[0], 60)!r}, which `{label}_names` does not list"
            raise fields.refusal(label, problem, "Add it there, or leave the names out")
        fields.arrays[label] = np.array([number_of[cell] for cell in cells])
    else:
        fields.arrays[label], fields.arrays[f"{label}_names"] = numbered(cells)
        if words := sorted({c for c in cells if c and c != "none" and is_missing(c)}):
            fields.note(f"`{column}` has the class {words[0]!r}; where it means that there is no label, leave it empty")


def _read_column(fields: Fields, values: list[Any], name: str, size: int) -> bool:
    """Read a modality, or where one is present; return whether the column is one of these."""
    what = f"{fields.path}: `{name}`"
    if name.endswith("_present"):
        words = [text(v).strip().lower() if is_integer(v) or isinstance(v, str) else str(v).lower() for v in values]
        if known := all(word in _TRUE + _FALSE for word in words):
            fields.arrays[name] = np.array([word in _TRUE for word in words])
        return known
    match = _FILE.fullmatch(name)
    if match and all(v is None or isinstance(v, str) for v in values) and any(str(v).endswith(".npy") for v in values):
        _read_files(fields, match.group(1), values, size)
        return True
    vectors = [None if is_missing(v) else v for v in values]
    there = [v for v in vectors if v is not None]
    if not any(_holds_numbers(v) for v in there):
        if there and is_named_like_a_modality(name) and isinstance(there[0], str) and _CUT.match(there[0]):
            raise UserError(
                f"{what}: {short(there[0], 60)!r} is no list of numbers, perhaps cut short by printing it. "
                "Write each vector whole, by json.dumps(vector.tolist())."
            )
        return False
    rows = Rows(len(vectors), what, size)
    for row, value in enumerate(vectors):
        rows.put(row, value, f"row {row}")
    keep(fields, name, rows)
    return True


def _holds_numbers(value: Any) -> bool:
    """Return whether a value is an array, or a list that begins with a number; words and objects are no features."""
    while isinstance(value, list) and value and not is_number(value[0]):
        value = value[0]
    return isinstance(value, np.ndarray) or (isinstance(value, list) and bool(value))


def _read_files(fields: Fields, modality: str, values: Sequence[str | None], size: int) -> None:
    folder = fields.path if fields.path.is_dir() else fields.path.parent
    paths = [None if v is None or is_missing(v) else located(folder, v.strip()) for v in values]
    sizes = {path: path.stat().st_size for path in set(paths) if path is not None and path.is_file()}
    rows = Rows(len(paths), f"{fields.path}: {modality}", size + sum(sizes.values()))
    for row, path in enumerate(paths):
        if path in sizes:
            rows.put(row, np.squeeze(load_array(path)), str(path))
    if gone := [(v, path) for v, path in zip(values, paths, strict=True) if path is not None and path not in sizes]:
        verb = "is" if len(gone) == 1 else "are"
        where = f"`{gone[0][0]}`, looked for as {gone[0][1]}"
        fields.note(f"{count(len(gone), 'file')} of {modality} {verb} not there, such as {short(where)}")
    keep(fields, modality, rows)
    fields.gone.extend([modality] if modality not in fields.arrays else [])


def _keep_others(fields: Fields, values: list[Any], name: str) -> None:
    """Keep what an option may ask for by name: ratings in numbers, or short words by which dialogues are chosen."""
    meant = any(plain(name) in aliases for aliases in ALIASES.values()) or name.endswith(("_names", "_present"))
    if meant or name in fields.arrays or is_named_like_a_modality(name):
        return
    try:
        words = [text(value).strip() for value in values]
    except ShapeError:
        return
    numbers = np.array([number(word) for word in words])
    no_numbers = (
        not is_missing(w) and (re.match(r"0\d", w) or not np.isfinite(x)) for w, x in zip(words, numbers, strict=True)
    )
    if all(re.fullmatch(r"-?(0|[1-9]\d{0,8})", word) for word in words):
        fields.arrays[name] = numbers.astype(np.int64)
    elif not any(no_numbers):
        fields.arrays[name] = numbers.astype(np.float32)
    elif max(map(len, words)) <= _LONGEST_VALUE:
        fields.arrays[name] = text_array(words)
