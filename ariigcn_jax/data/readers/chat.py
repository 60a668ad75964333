"""Read the words of a chat, one line a turn, and tell who speaks in a line.

    Ann: I can't believe it.               Ann (00:01:05): Sorry!              [00:01:05] Ann: Sorry!
    [12/03/2024, 14:05:33] Ann: Sorry!     12/03/24, 2:05 pm - Ann: Sorry!     as WhatsApp exports them

A line that names nobody belongs to the turn before. In ordinary lines a speaker is a name before a colon and a blank:
up to four words that begin with capitals, so that neither a link nor a sentence with a colon is one (choice).
"""

from __future__ import annotations

import datetime
import itertools
import math
import re
from collections.abc import Sequence
from typing import NamedTuple

from ariigcn_jax.data.fields import count
from ariigcn_jax.data.readers import columns, text

CLOCK = r"\d{1,4}:\d{2}(?::\d{2})?(?:[.,]\d{1,3})?"
_SPAN = rf"{CLOCK}(?:\s*(?:-->|-|–)\s*{CLOCK})?"
_WHEN = re.compile(rf"(?:\[{_SPAN}\]|\({_SPAN}\)|{_SPAN}(?=\s))\s*(?:[-–]\s)?\s*")
_BRACKETS = re.compile(r"\[([^\[\]:：]{1,60})\](\s*:|(?=\s))\s*")
_NAMED = re.compile(rf"([^:：\[\]]{{1,60}}?)\s*((?:\[{_SPAN}\]|\({_SPAN}\))?)\s*(?::(?=\s|$)|：)\s*")
_WORD = re.compile(r"[^\W_][\w.'’@#*+\-]*|&")
_PARTICLES = {"al", "and", "bin", "da", "de", "del", "den", "der", "di", "el", "ibn", "la", "of", "van", "von", "y"}
_NO_SPEAKERS = re.compile("https?|ftp|mailto|note|ps|nb|fyi|re|fwd|subject|update|edit|todo|tip|remember|warning")
_SOUNDS = re.compile(  # between brackets
    ".*(?:music|noise|applause)|laugh(?:s|ter|ing)?|chuckles|sigh(?:s|ing)?|crying|sob(?:s|bing)|gasps|coughs|cheering|"
    "silence|pause|beep|inaudible|unintelligible|crosstalk"
)
_FIRST_LINES = 10  # among which a chat begins
_MOST_LETTERS = 200  # of a line, in which a speaker is looked for

# WhatsApp's lines
_DAY = r"(\d{1,4})[./-](\d{1,2})[./-](\d{1,4})\.?,?\s+"
_TIME = r"(\d{1,2})[:.](\d{2})(?:[:.](\d{2}))?(?:\s?([AaPp])\.?\s?[Mm]\.?)?"
_STAMP = re.compile(rf"\[{_DAY}{_TIME}\]\s*|{_DAY}{_TIME}\s+[-–]\s+")
_SENDER = re.compile(r"([^:\"“”„«»]{1,80}):(?:\s+|$)")
_MARKS = dict.fromkeys([0x200E, 0x200F, *range(0x202A, 0x202F), *range(0x2066, 0x206A)])  # of the writing's direction
_WORDLESS = re.compile(  # what stands in the place of words: media, and what was deleted
    r"<[^<>]{1,80}>|(?:image|photo|video|audio|voice message|sticker|GIF|document|Contact card) omitted"
    r"|.{1,200} \(file attached\)|(?:This message was|You) deleted(?: this message)?\.?|null",
    re.IGNORECASE,
)
_EDITED = "<This message was edited>"


class Turn(NamedTuple):
    """Hold what one speaker says; the speaker is "" and times, in seconds from the beginning, are NaN if not known."""

    speaker: str
    text: str
    start: float = math.nan
    end: float = math.nan


def is_chat(written: str) -> bool:
    """Return whether one of the first lines of a text says who speaks."""
    first = [line for line in text.lines(written[: 2**16]) if line.strip()][:_FIRST_LINES]
    return any(_stamped(line) or ((turn := said(line, lower=True)) and turn.speaker) for line in first)


def turns(written: str) -> tuple[list[Turn], list[str]]:
    """Return the turns of a chat, and what the user should know of them.

    Where no line says who speaks, every line that is not blank is a turn.
    """
    lines = [line.strip() for line in text.lines(written)]
    if any(_stamped(line) for line in [line for line in lines if line][:_FIRST_LINES]):
        return _exported(lines)
    named = (turn.speaker for line in lines if (turn := said(line, lower=True)) and turn.speaker)
    lower = next(named, "")[:1].islower()  # people write all names of a chat alike
    found: list[tuple[Turn, list[str]]] = []  # and the lines of each turn
    before = 0
    for line in lines:
        if turn := said(line, lower):
            found.append((turn, [turn.text]))
        elif found:
            found[-1][1].append(line)
        else:
            before += bool(line)
    if not found:
        return [Turn("", line) for line in lines if line], []
    notes = [f"{count(before, 'line')} before the first turn left out"] if before else []
    return [turn._replace(text="\n".join(words).strip()) for turn, words in found], notes


def said(line: str, lower: bool = False) -> Turn | None:
    """Return the turn that a line begins: it says who speaks, or begins with a time in brackets; None for others.

    With `lower` a name may be a single word without a capital.
    """
    line = line.strip()
    head, rest = line[:_MOST_LETTERS], line[_MOST_LETTERS:]
    when = _WHEN.match(head)
    times = re.findall(CLOCK, when[0]) if when else []
    head = head[when.end() :] if when else head
    if (
        (found := _BRACKETS.match(head))
        and is_name(found[1], bool(found[2]))
        and not _SOUNDS.fullmatch(found[1].lower())
    ):
        pass
    elif (found := _NAMED.match(head)) and is_name(found[1], lower):
        times += re.findall(CLOCK, found[2])
    elif not when or line[0] not in "[(":
        return None
    else:
        found = None
    start, end = ([columns.seconds(time) for time in times] + [math.nan] * 2)[:2]
    return Turn(found[1].strip() if found else "", (head[found.end() :] if found else head) + rest, start, end)


def is_name(words: str, lower: bool = False) -> bool:
    """Return whether words look like the name of a speaker; with `lower` a single one needs no capital."""
    bare = re.sub(r"\s*\([^()]*\)$", "", words.strip())  # Ann (Sales)
    parts = bare.split()
    if not 1 <= len(parts) <= 4 or ".." in bare or _NO_SPEAKERS.fullmatch(bare.lower()):
        return False
    if not all(map(_WORD.fullmatch, parts)) or not re.search(r"[^\W\d_]", bare):
        return False
    capitals = all(not part[0].islower() or part in _PARTICLES for part in parts)
    return capitals or re.search(r"\d$", bare) is not None or (lower and len(parts) == 1)


def _stamped(line: str) -> re.Match[str] | None:
    return _STAMP.match(line.translate(_MARKS).strip()[:_MOST_LETTERS])


def _exported(lines: Sequence[str]) -> tuple[list[Turn], list[str]]:
    """Return the turns of an export, in which every message begins with its day and time."""
    found: list[tuple[str, list[str]]] = []  # sender and lines
    stamps: list[tuple[str, ...]] = []
    of_messenger, inside = 0, False
    for written in lines:
        line = written.translate(_MARKS).strip()
        if stamp := _STAMP.match(line[:_MOST_LETTERS]):
            rest = line[stamp.end() :]
            inside = (sender := _SENDER.match(rest[:_MOST_LETTERS])) is not None
            if sender:
                words = rest[sender.end() :].replace(_EDITED, "").strip()
                # in whatever language, a mark of direction comes before what an iPhone writes by itself
                silent = _WORDLESS.fullmatch(words) or ": \u200e" in written[:_MOST_LETTERS]
                found.append((sender[1].strip(" ~"), ["" if silent else words]))
                stamps.append(tuple(part or "" for part in (stamp.groups()[:7] if stamp[1] else stamp.groups()[7:])))
        elif inside:
            found[-1][1].append(line.replace(_EDITED, "").strip())
            continue
        of_messenger += not inside and bool(line)
    notes = [f"{count(of_messenger, 'line')} of the messenger itself left out"] if of_messenger else []
    times = _since_the_first(stamps)
    messages = zip(found, times, strict=True)
    return [Turn(sender, "\n".join(words).strip(), start) for (sender, words), start in messages], notes


def _since_the_first(stamps: Sequence[tuple[str, ...]]) -> list[float]:
    """Return seconds since the first message; NaN where in no order of day, month and year they are times that grow."""
    for day, month, year in ((0, 1, 2), (1, 0, 2), (2, 1, 0)):
        try:
            times = [_time(stamp, day, month, year) for stamp in stamps]
        except ValueError:
            continue
        if all(one <= other for one, other in itertools.pairwise(times)):
            return [time - times[0] for time in times]
    return [math.nan] * len(stamps)


def _time(stamp: tuple[str, ...], day: int, month: int, year: int) -> float:
    full = int(stamp[year]) + 2000 * (int(stamp[year]) < 100)
    hour = int(stamp[3]) % 12 + 12 * (stamp[6].lower() == "p") if stamp[6] else int(stamp[3])
    date = datetime.datetime(full, int(stamp[month]), int(stamp[day]), hour, int(stamp[4]), int(stamp[5] or 0))
    return 86400.0 * date.toordinal() + 3600.0 * hour + 60.0 * date.minute + date.second
