"""Find the recordings of utterances: a sound or video file each, or one of a conversation that its times cut.

A table names them in a column of `columns.SOUND`. Those of `recording`, and files that several rows name, hold whole
conversations, of which `start_s` and `end_s` cut the utterances. A path may carry a W3C media fragment, which then
alone counts: call.wav#t=0 is the whole file, scene.avi#t=6.29,8.24 a part, and scene.avi#xywh=percent:0,0,50,100 the
left half of the picture.
"""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ariigcn_jax.data.fields import Fields, count
from ariigcn_jax.data.readers import columns
from ariigcn_jax.data.values import is_missing, short
from ariigcn_jax.types import Clip, UserError

if TYPE_CHECKING:
    import pandas as pd

RECORDING = columns.SOUND[0]
FRAGMENTS = "Write #t=START,END in seconds, or #xywh=percent:X,Y,WIDTH,HEIGHT inside the picture"
_TIMES = re.compile(r"t=(?:npt:)?([\d.]*),?([\d.]*)")
_REGION = re.compile(r"xywh=percent:([\d.]+),([\d.]+),([\d.]+),([\d.]+)")


class FragmentError(ValueError):
    """Name the part of a media fragment that is not understood."""


def clip(folder: Path, written: str, start: float = np.nan, end: float = np.nan) -> Clip:
    """Return the clip that a table in a folder names.

    Args:
      folder: of the table.
      written: a path, perhaps with a media fragment.
      start: seconds, which a fragment replaces; NaN for the file's start.
      end: the same of its end.

    Raises:
      FragmentError: the fragment is not understood.
    """
    path, _, fragment = written.rpartition("#")
    if not path or (folder / written).exists():  # a file's name may hold a #
        path, fragment = written, ""
    first, last = (None if np.isnan(time) else float(time) for time in (start, end))
    made = Clip(str(columns.located(folder, path)), first, last)
    for part in filter(None, fragment.split("&")):
        if (found := _fragment(part)) is None:
            raise FragmentError(part)
        made = made._replace(**found)
    return made


def _fragment(part: str) -> dict[str, Any] | None:
    """Parse a part of a media fragment into attributes of a Clip; None if it is not understood."""
    try:
        if times := _TIMES.fullmatch(part):
            start, end = float(times[1] or 0), float(times[2]) if times[2] else None
            return {"start": start, "end": end} if end is None or start < end else None
        if region := _REGION.fullmatch(part):
            x, y, width, height = box = tuple(float(number) / 100 for number in region.groups())
            return {"region": box} if width > 0 and height > 0 and x + width <= 1 and y + height <= 1 else None
    except ValueError:
        return None
    return None


def with_beside(table: pd.DataFrame, path: Path) -> pd.DataFrame:
    """Return the turns of a file with the recording of the same stem that lies beside it, where they have times.

    A table that names recordings, or has several dialogues, is returned as it is.
    """
    dialogue = columns.find(table, "dialogue_id")
    several = dialogue is not None and table[dialogue].nunique() > 1
    if several or columns.find(table, "start_s") is None or columns.sounding(table):
        return table
    endings = (ending for suffix in columns.MEDIA for ending in (suffix, suffix.upper()))
    found = next((file for ending in endings if (file := path.with_suffix(ending)).is_file()), None)
    return table if found is None else table.assign(**{RECORDING: found.name})


def fill(fields: Fields, table: pd.DataFrame) -> None:
    """Find the recordings of a table of turns, whose other columns `columns.fill` has read; clips and notes grow.

    Where a table names none, clips have the times alone.

    Raises:
      UserError: a fragment is not understood.
    """
    names = columns.sounding(table)
    start, end = _times(fields, len(table))
    if not names and not np.isfinite(start).any():
        return
    cells = zip(*(table[name].tolist() for name in names), strict=True) if names else [()] * len(table)
    written = [next((v.strip() for v in row if isinstance(v, str) and not is_missing(v)), "") for row in cells]
    rows = Counter(written)
    first = table[names[0]].tolist() if names and columns.plain(names[0]) == RECORDING else []
    whole = {cell.strip() for cell in first if isinstance(cell, str)} | {name for name, n in rows.items() if n > 1}
    folder = fields.path if fields.path.is_dir() else fields.path.parent
    timeless = 0
    for row, (name, begin, stop) in enumerate(zip(written, start.tolist(), end.tolist(), strict=True)):
        if np.isnan(begin) and (not name or rows[name] > 1):
            timeless += bool(name)
            fields.clips.append(None)
        elif not name:
            fields.clips.append(Clip("", begin, None if np.isnan(stop) else stop))
        else:
            try:
                fields.clips.append(clip(folder, name, *((begin, stop) if name in whole else ())))
            except FragmentError as error:
                problem = f"{fields.path}: row {row}: {short(name)!r} has a fragment that is not understood: {error}"
                raise UserError(f"{problem}. {FRAGMENTS}.") from None
    if timeless:
        fields.note(f"{count(timeless, 'turn')} of recordings have no times: their sound counts as missing")
    _check(fields)


def take(fields: Fields, recording: Path) -> None:
    """Cut the conversation of some fields out of a recording, by its times.

    Raises:
      UserError: there is no such file, the fields have several conversations, or no times.
    """
    if not recording.is_file():
        raise UserError(f"{recording}: there is no such file. Give the recording of the conversation.")
    dialogues = len(set(fields.arrays.get("dialogue_id", np.zeros(1)).tolist()))
    if dialogues > 1:
        problem = f"{recording}: is one recording, and {fields.path} has {dialogues} conversations"
        raise UserError(f"{problem}. Name the recording of each in a column `{RECORDING}`.")
    if not any(one and one.start is not None for one in fields.clips):
        problem = f"{recording}: {fields.path} has no times by which to cut it"
        raise UserError(f"{problem}. Give subtitles, a recogniser's JSON, or a table with start and end.")
    fields.clips[:] = [one and one._replace(path=str(recording)) for one in fields.clips]


def heard(fields: Fields) -> int:
    """Return how many utterances have a recording."""
    return sum(one is not None and bool(one.path) for one in fields.clips)


def _times(fields: Fields, length: int) -> tuple[np.ndarray, np.ndarray]:
    """Return start and end [U] in seconds, NaN where not known; a turn without an end ends where the next begins."""
    unknown = np.full(length, np.nan)
    start, end = (fields.arrays.get(name, unknown) for name in ("start_s", "end_s"))
    start = np.where(start >= 0, start, np.nan)
    end = np.where(end > start, end, np.nan)
    dialogues = fields.arrays.get("dialogue_id", np.zeros(length))
    for row in np.flatnonzero(np.isfinite(start) & np.isnan(end)):
        later = start[(dialogues == dialogues[row]) & (start > start[row])]
        end[row] = later.min() if later.size else np.nan
    return start, end


def _check(fields: Fields) -> None:
    """Note files that are not there; their utterances have no sound."""
    gone = {path: not Path(path).is_file() for path in {one.path for one in fields.clips if one and one.path}}
    absent = [row for row, one in enumerate(fields.clips) if one and gone.get(one.path)]
    if absent:
        first = fields.clips[absent[0]]
        where = short(first.path if first else "")
        fields.note(f"the recordings of {count(len(absent), 'turn')} are not there, such as {where}")
    for row in absent:
        fields.clips[row] = None
