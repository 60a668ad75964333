"""Read what recognisers of speech write, JSON of whisper, WhisperX and FunASR, and who speaks when, in RTTM.

    {"segments": [{"start": 0.0, "end": 1.5, "text": "Oh no.", "speaker": "SPEAKER_00", "words": [{"word": …}]}]}
    [{"key": "call", "sentence_info": [{"text": "你好", "start": 0, "end": 900, "spk": 0}]}]
    SPEAKER call 1 0.00 1.50 <NA> <NA> SPEAKER_00 <NA> <NA>

Times are seconds, and milliseconds in FunASR.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ariigcn_jax.data.readers import columns, text
from ariigcn_jax.data.readers.chat import Turn
from ariigcn_jax.data.values import ShapeError
from ariigcn_jax.data.values import text as as_text
from ariigcn_jax.types import UserError

KEYS = ("segments", "sentence_info")
_RTTM = re.compile(r"SPEAKER\s+\S+\s+\S+\s+(\S+)\s+(\S+)\s+\S+\s+\S+\s+(\S+)")
_MOST_SPEAKERS = 200  # of one recording


def recognise(value: Any) -> bool:
    """Return whether a value of JSON is what a recogniser writes."""
    if isinstance(value, list):
        return bool(value) and all(isinstance(one, Mapping) and _is_funasr(one) for one in value)
    return isinstance(value, Mapping) and (_is_funasr(value) or are_segments(value.get("segments")))


def are_segments(value: Any) -> bool:
    """Return whether a value is a list of segments, with words and times and without labels."""
    if not isinstance(value, list) or not all(isinstance(one, Mapping) for one in value):
        return False
    labelled = bool(value) and columns.find(map(str, value[0]), "label") is not None
    timed = not value or any("start" in one or "words" in one for one in value)
    return timed and not labelled and all("text" in one and isinstance(one["text"], str | None) for one in value)


def _is_funasr(value: Mapping[str, Any]) -> bool:
    inside = value.get("sentence_info")
    return isinstance(inside, list) and all(isinstance(one, Mapping) for one in inside)


def turns(value: Any, where: str) -> dict[str, list[Turn]]:
    """Return the turns of each conversation in a value that `recognise` accepts, by name; "" is that of a single one.

    Raises:
      UserError: a segment is of another form; the message begins with `where`.
    """
    if isinstance(value, Mapping) and not _is_funasr(value):
        segments = enumerate(value["segments"])
        return {"": [turn for n, one in segments for turn in _segment(one, f"{where}: segment {n}")]}
    every = value if isinstance(value, list) else [value]
    found: dict[str, list[Turn]] = {}
    for n, one in enumerate(every):
        said = _text(one, "key", f"{where}: recording {n}") or str(n)
        sentences = enumerate(one["sentence_info"])
        found.setdefault(said if len(every) > 1 else "", []).extend(
            _sentence(sentence, f"{where}: sentence {k}") for k, sentence in sentences
        )
    return found


def _sentence(sentence: Mapping[str, Any], where: str) -> Turn:
    """Return a sentence of FunASR, whose times are milliseconds."""
    words = _text(sentence, "text", where) or _text(sentence, "sentence", where)
    times = (columns.number(sentence.get(field)) / 1000 for field in ("start", "end"))
    return Turn(_text(sentence, "spk", where), words, *times)


def _segment(segment: Mapping[str, Any], where: str) -> Iterator[Turn]:
    """Yield a segment, in one turn for each run of words of one speaker."""
    whole, speaker = _text(segment, "text", where).strip(), _text(segment, "speaker", where)
    start, end = (columns.number(segment.get(field)) for field in ("start", "end"))
    words = segment.get("words")
    spoken = words if isinstance(words, list) and all(isinstance(word, Mapping) for word in words) else []
    names = [_text(word, "speaker", where) for word in spoken]
    known = next(filter(None, names), speaker)
    names = [known := name or known for name in names]  # a word without a speaker is of the one before
    if len(set(names)) < 2:
        yield Turn(speaker or next(iter(names), ""), whole, start, end)
        return
    begins = [n for n, name in enumerate(names) if not n or name != names[n - 1]]
    cuts = _places(whole, [_text(word, "word", where).strip() for word in spoken])
    for first, last in itertools.pairwise([*begins, len(names)]):
        said = whole[cuts[first] if first else 0 : cuts[last] if last < len(names) else None].strip()
        times = (columns.number(spoken[n].get(field)) for n, field in ((first, "start"), (last - 1, "end")))
        began, ended = times
        if first == 0 and math.isnan(began):
            began = start
        if last == len(names) and math.isnan(ended):
            ended = end
        yield Turn(names[first], said, began, ended)


def _places(whole: str, words: list[str]) -> list[int]:
    """Return where each word begins in a text; one that is not there, where the one before ended."""
    found, at = [], 0
    for word in words:
        place = whole.find(word, at, at + len(word) + 100)
        found.append(at if place < 0 else place)
        at = at if place < 0 else place + len(word)
    return found


def _text(value: Mapping[str, Any], field: str, where: str) -> str:
    try:
        return as_text(value.get(field)).strip()
    except ShapeError as error:
        raise UserError(f"{where}: `{field}`: {error}.") from None


def is_rttm(begin: str) -> bool:
    """Return whether a text that begins so is RTTM."""
    first = next((line for line in text.lines(begin) if line.strip() and not line.startswith(";;")), "")
    found = _RTTM.match(first)
    return found is not None and not math.isnan(columns.number(found[1]) + columns.number(found[2]))


def with_speakers(turns: list[Turn], path: Path) -> list[Turn]:
    """Return turns in which those without a speaker have the one of an RTTM file who speaks longest meanwhile.

    Raises:
      UserError: the file cannot be read, or has more speakers than a conversation.
    """
    spans: dict[str, list[tuple[float, float]]] = {}
    for line in text.lines(text.read(path)):
        if found := _RTTM.match(line[:1000]):
            start, length = columns.number(found[1]), columns.number(found[2])
            if math.isfinite(start) and math.isfinite(length) and length > 0:
                spans.setdefault(found[3], []).append((start, start + length))
    if not spans:
        raise UserError(f"{path}: no line says who speaks, as `SPEAKER call 1 0.00 1.50 <NA> <NA> ANN <NA> <NA>` does.")
    if len(spans) > _MOST_SPEAKERS:
        raise UserError(f"{path}: has {len(spans):,} speakers, and {_MOST_SPEAKERS} are the most. It is damaged.")
    begins, ends = np.array([[turn.start, turn.end] for turn in turns], np.float64).reshape(-1, 2).T
    overlap = np.nan_to_num([_spoken(own, ends) - _spoken(own, begins) for own in spans.values()])
    names, longest = list(spans), overlap.argmax(axis=0)
    return [
        turn._replace(speaker=names[k]) if not turn.speaker and overlap[k, n] > 0 else turn
        for n, (turn, k) in enumerate(zip(turns, longest.tolist(), strict=True))
    ]


def _spoken(spans: list[tuple[float, float]], times: np.ndarray) -> np.ndarray:
    """Return for how long somebody speaks before each time."""
    apart: list[list[float]] = []
    for start, end in sorted(spans):
        if apart and start <= apart[-1][1]:
            apart[-1][1] = max(apart[-1][1], end)
        else:
            apart.append([start, end])
    edges = np.array(apart)
    total = np.concatenate([[0.0], np.cumsum(edges[:, 1] - edges[:, 0])])
    # the total stays as it is between one end and the next start
    return np.interp(times, edges.ravel(), np.stack([total[:-1], total[1:]], axis=1).ravel())
