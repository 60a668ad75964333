"""Read subtitles, SubRip (.srt) and WebVTT (.vtt): a cue is a turn, and so is what each of its speakers says.

Speakers are voices, `<v Ann>`, or names at a line's beginning, `ANN: `, `Ann: ` or `[Ann] `, which hold until another
one comes. Without any names a dash changes between two speakers (choice).
"""

from __future__ import annotations

import html
import re
from typing import NamedTuple

from ariigcn_jax.data.fields import count
from ariigcn_jax.data.readers import chat, columns, text
from ariigcn_jax.data.readers.chat import Turn

_TIMING = re.compile(r"\s*(\d{1,4}:\d{2}(?::\d{2})?[.,]\d{1,3})\s*-->\s*(\d{1,4}:\d{2}(?::\d{2})?[.,]\d{1,3})(?:\s|$)")
_VOICE = re.compile(r"<v(?:\.[^\s<>]{0,100})?\s{1,9}([^<>]{1,200})>")
_TAG = re.compile(r"</?(?:[A-Za-z][^<>]{0,200}|\d[\d:.]{0,20})>|\{\\[^{}]{0,200}\}")
_SUNG = re.compile(r"<\d[\d:.]{4,20}>")  # the time of a word, as in captions that roll
_BLOCKS = re.compile(r"(?:WEBVTT|NOTE|STYLE|REGION)(?:\s|$)")
_FIRST_LINES = 10  # among which the first cue begins
_DASH = re.compile(r"[-–—](?:\s+|(?=[^\W\d]))")


class Cue(NamedTuple):
    """Hold the lines that are shown from a start to an end, in seconds."""

    start: float
    end: float
    lines: list[str]


class _Line(NamedTuple):
    """Hold what a line says: its words, its speaker or None, and whether it begins with a dash.

    A speaker is sure in capitals, in brackets or as a voice; another name may as well begin a sentence: "Look: a bird".
    """

    words: str
    speaker: str | None = None
    dashed: bool = False
    sure: bool = True


def is_subtitles(begin: str) -> bool:
    """Return whether a text that begins so is WebVTT or SubRip: the times of a cue are one of its first lines."""
    first = [line for line in text.lines(begin) if line.strip()][:_FIRST_LINES]
    return begin.startswith("WEBVTT") or any(map(_TIMING.match, first))


def turns(written: str) -> tuple[list[Turn], list[str]]:
    """Return the turns of subtitles, in the order of the file, and what the user should know of them.

    A cue without words is a turn, too.
    """
    shown, outside = cues(written)
    shown = _unrolled(shown) if _SUNG.search(written) else shown
    lines = [_spoken(cue) for cue in shown]
    if 3 * sum(not all(one.sure for one in of_cue) for of_cue in lines) < len(lines):  # few, so they are sentences
        lines = [[one if one.sure else _unnamed(one) for one in of_cue] for of_cue in lines]
    named = any(one.speaker for of_cue in lines for one in of_cue)
    dashed = any(one.dashed for of_cue in lines for one in of_cue)
    found: list[Turn] = []
    speaker = "1" if dashed and not named else ""
    for cue, of_cue in zip(shown, lines, strict=True):
        pieces: list[tuple[str, list[str]]] = []  # speaker and lines
        for one in of_cue:
            if one.speaker is not None:
                speaker = one.speaker
            elif one.dashed and (found or pieces):
                speaker = "" if named else "2" if speaker == "1" else "1"
            if pieces and one.speaker is None and not one.dashed:
                pieces[-1][1].append(one.words)
            else:
                pieces.append((speaker, [one.words]))
        for who, words in pieces or [(speaker, [])]:
            found.append(Turn(who, " ".join(words).strip(), cue.start, cue.end))
    return found, [f"{count(outside, 'line')} outside of any cue left out"] if outside else []


def cues(written: str) -> tuple[list[Cue], int]:
    """Return the cues, and how many lines stand outside; notes and styles of WebVTT are none of these.

    In SubRip, words after a blank line belong to the cue before, and a blank line between cues may be missing.
    """
    is_vtt = written.startswith("WEBVTT")
    found: list[Cue] = []
    apart: list[str] = []  # lines after a blank one, before which no time came yet
    inside, outside = False, 0

    def keep_apart(last: int | None = None) -> None:
        nonlocal outside
        if found and not is_vtt:
            found[-1].lines.extend(apart[:last])
        elif not (is_vtt and apart and _BLOCKS.match(apart[0])):
            outside += len(apart[:last])
        apart.clear()

    for line in text.lines(written):
        if time := _TIMING.match(line):
            if found and inside and found[-1].lines and found[-1].lines[-1].isdigit():
                found[-1].lines.pop()  # the number of this cue
            keep_apart(-1 if apart and (is_vtt or apart[-1].isdigit()) else None)
            found.append(Cue(columns.seconds(time[1]), columns.seconds(time[2]), []))
            inside = True
        elif not line.strip():
            inside = False
            keep_apart()
        else:
            (found[-1].lines if inside else apart).append(line.strip())
    keep_apart()
    return found, outside


def _unrolled(shown: list[Cue]) -> list[Cue]:
    """Return cues without lines that only stay on the screen while the next one is spoken."""
    found, last = [], ""
    for cue in shown:
        fresh = [line for line in cue.lines if line != last]
        if fresh or not cue.lines:
            found.append(cue._replace(lines=fresh))
        last = _TAG.sub("", cue.lines[-1]).strip() if cue.lines else last
    return found


def _spoken(cue: Cue) -> list[_Line]:
    """Return the lines of a cue, without tags, and who speaks each."""
    found = []
    before, *voices = _VOICE.split("\n".join(cue.lines))
    for speaker, words in [(None, before), *zip(voices[::2], voices[1::2], strict=True)]:
        for line in _TAG.sub("", words).split("\n"):
            line = html.unescape(line).strip()
            dash = _DASH.match(line)
            line = line[dash.end() :] if dash else line
            if speaker:
                found.append(_Line(line, html.unescape(speaker.strip())))
            elif turn := _named(line):
                found.append(_Line(turn.text, turn.speaker, bool(dash), turn.speaker.isupper() or line[0] == "["))
            elif line:
                found.append(_Line(line, dashed=bool(dash)))
            speaker = None  # the voice's next lines go on
    return found


def _named(line: str) -> Turn | None:
    turn = chat.said(line)
    return turn if turn and turn.speaker else None


def _unnamed(line: _Line) -> _Line:
    return _Line(f"{line.speaker}: {line.words}", dashed=line.dashed)
