"""Make one self-contained page of predictions, for a person to read: the conversation, line by line, with its emotions.

The template conversation_page.html shows the course of the emotions above each conversation; a click on a line opens
what the model's answer rests on. All of it works without JavaScript, which adds playing a turn and a few keys. The page
fetches nothing, but for sound files that `html` is told to link. Strings of the predictions are text, never markup.
"""

from __future__ import annotations

import base64
import collections
import itertools
import mimetypes
import os
import re
import urllib.parse
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ariigcn_jax.commands import html_page
from ariigcn_jax.files import local
from ariigcn_jax.inference.prediction import Prediction, UtteranceEmotion
from ariigcn_jax.types import Corpus, UserError

TEMPLATE = Path(__file__).with_suffix(".html")
UNSURE = 0.5  # below this probability of the best emotion the model is wrong more often than right, and says "unsure"
CLOSE = 0.2  # the second-best emotion is named if it is less probable than the best by less than this
RARE = 0.2  # an emotion that is never found, and never this probable, has no row in the course
LANES = 8  # speakers at most, with a row each below the course
# Colours of emotions by how their names begin; others take those of PALETTE that are left. Both are after Okabe and Ito
# and stay apart for every common kind of colour blindness. Marks and names say the same without colour.
FAMILIAR = {
    **{"neutral": "#8a919c", "calm": "#8a919c", "joy": "#e69f00", "happ": "#e69f00", "excite": "#f0d000"},
    **{"sad": "#0072b2", "ang": "#d55e00", "frustrat": "#8c4a00", "fear": "#7a5195", "disgust": "#009e73"},
    **{"surpris": "#56b4e9", "positive": "#e69f00", "negative": "#0072b2"},
}
PALETTE = ("#0072b2", "#e69f00", "#009e73", "#d55e00", "#cc79a7", "#56b4e9", "#7a5195", "#f0d000", "#8c4a00", "#8a919c")


class Sound(NamedTuple):
    """Name the sound of a turn.

    Attributes:
      source: a quoted URL relative to the page, or a data URI; the page's policy refuses other addresses.
      start: in seconds, where the turn begins; None at the begin of the file.
      end: in seconds; None at the end of the file.
    """

    source: str
    start: float | None = None
    end: float | None = None


def html(
    prediction: Prediction, title: str, *, transcripts: bool = False, sound: Mapping[int, Sound] | None = None
) -> str:
    """Return the page of predictions as a complete HTML document.

    Args:
      prediction: by a model of classes.
      title: words about the model.
      transcripts: whether the page shows what was said; else it is not in the file.
      sound: index of an utterance in the prediction -> its sound, for those that have one.

    Raises:
      UserError: the model has no classes, or a package of the extra `report` is not installed.
    """
    corpus = prediction.corpus
    if corpus.task != "classification":
        raise UserError(f"The page shows classes, and this model has data.task={corpus.task}. Use --csv FILE.")
    sound = sound or {}
    said = None if corpus.transcript is None else list(map(str, corpus.transcript))
    names = _speakers(prediction)
    rows = itertools.groupby(range(len(prediction)), key=lambda u: corpus.dialogue[u])
    found = []
    for d, own in rows:
        turns = [_turn(prediction[u], names[u], said[u] if transcripts and said else None, sound.get(u)) for u in own]
        found.append(_dialogue(corpus.dialogue_ids[d], turns, corpus.label_names))
    return html_page.render(
        TEMPLATE,
        filters={"percent": percent, "points": points, "listed": listed},
        title=title,
        emotions=[
            dict(name=name, mark=mark, colour=colour, ink=ink(colour))
            for name, mark, colour in zip(
                corpus.label_names, marks(corpus.label_names), colours(corpus.label_names), strict=True
            )
        ],
        notes=corpus.notes,
        dialogues=found,
        silent=said is not None and any(said) and not transcripts,
        has_sound=bool(sound),
        unsure=UNSURE,
        rare=RARE,
    )


def sound_of(corpus: Corpus, page: str | Path, embedded: bool) -> dict[int, Sound]:
    """Return index of an utterance -> its sound, for those whose recording is there.

    Args:
      corpus: as predicted.
      page: the file of the page, to which sources are relative.
      embedded: whether the recordings are within the page, as data URIs.
    """
    clips: Sequence[Any] | np.ndarray = () if corpus.clips is None else corpus.clips
    files = {clip.path for clip in clips if clip is not None and clip.path and Path(clip.path).is_file()}
    sources = {file: _embedded(Path(file)) if embedded else _linked(Path(file), local(page)) for file in sorted(files)}
    return {
        u: Sound(sources[clip.path], clip.start, clip.end)
        for u, clip in enumerate(clips)
        if clip is not None and clip.path in sources
    }


def _embedded(file: Path) -> str:
    kind = mimetypes.guess_type(file.name)[0] or "application/octet-stream"
    return f"data:{kind};base64,{base64.b64encode(file.read_bytes()).decode()}"


def _linked(file: Path, page: Path) -> str:
    try:
        return urllib.parse.quote(Path(os.path.relpath(file.resolve(), page.resolve().parent)).as_posix())
    except ValueError:  # on another drive of Windows
        return file.resolve().as_uri()


def _speakers(prediction: Prediction) -> list[str]:
    """Return who speaks each utterance, in words."""
    corpus = prediction.corpus
    if corpus.speaker_names is None:
        return [f"Speaker {number + 1}" for number in corpus.speaker]
    return [str(name) or "Speaker" for name in corpus.speaker_names]


def _turn(record: UtteranceEmotion, speaker: str, words: str | None, clip: Sound | None) -> dict[str, Any]:
    """Return what the template shows of an utterance; emotions are indices, turns count from 1."""
    p = list(record.probabilities.values())
    order = sorted(range(len(p)), key=lambda k: -p[k])
    best, second = order[0], order[1] if len(p) > 1 else None
    names = list(record.probabilities)
    return dict(
        turn=record.turn + 1,
        speaker=speaker,
        initials="".join(word[0] for word in speaker.split()[:2]).upper(),
        words=words,
        clip=clip and Sound(*clip),
        p=p,
        order=order,
        best=best,
        unsure=p[best] < UNSURE,
        second=second if second is not None and (p[best] < UNSURE or p[best] - p[second] < CLOSE) else None,
        label=None if record.label is None else names.index(record.label),
        contribution=record.contribution,
        missing=record.missing,
        attended=record.attended,
    )


def _dialogue(name: str, turns: Sequence[dict[str, Any]], emotions: Sequence[str]) -> dict[str, Any]:
    """Return what the template shows of a dialogue; the course has a row an emotion, and paths of SVG."""
    counts = collections.Counter(turn["best"] for turn in turns)
    course, rare = [], []
    for k, emotion in enumerate(emotions):
        if not counts[k] and max(turn["p"][k] for turn in turns) < RARE:
            rare.append(emotion)
            continue
        won = [turn for turn in turns if turn["best"] == k]
        course.append(
            dict(
                emotion=k,
                count=counts[k],
                all=_bars((turn["turn"], turn["p"][k]) for turn in turns),
                sure=_bars((turn["turn"], turn["p"][k]) for turn in won if not turn["unsure"]),
                unsure=_bars((turn["turn"], turn["p"][k]) for turn in won if turn["unsure"]),
                where=spans([turn["turn"] for turn in won]),
            )
        )
    speakers = list(dict.fromkeys(turn["speaker"] for turn in turns))
    lanes = [
        dict(speaker=s, path=_bars((turn["turn"], 1.0) for turn in turns if turn["speaker"] == s)) for s in speakers
    ]
    uses = collections.Counter(turn["clip"].source for turn in turns if turn["clip"])
    return dict(
        name=name,
        turns=turns,
        course=course if len(turns) > 1 else [],
        rare=rare,
        lanes=lanes if 1 < len(lanes) <= LANES else [],
        speakers=speakers,
        most=[emotions[k] for k, count in counts.items() if count == max(counts.values())],
        unsure=sum(turn["unsure"] for turn in turns),
        recordings=[source for source, count in uses.items() if count > 1],  # others have their turn's alone
    )


def _bars(values: Iterable[tuple[int, float]]) -> str:
    """Return an SVG path of bars one unit wide, in a box one unit high, from turns that count from 1."""
    return "".join(f"M{turn - 0.94:g} 1v{-p:.2f}h.88v{p:.2f}z" for turn, p in values if p >= 0.01)


def spans(turns: Sequence[int]) -> str:
    """Return ascending numbers in words: `1, 3 to 5`."""
    parts = []
    for _, group in itertools.groupby(enumerate(turns), key=lambda item: item[1] - item[0]):
        run = [turn for _, turn in group]
        parts.append(f"{run[0]} to {run[-1]}" if len(run) > 1 else str(run[0]))
    return ", ".join(parts)


def marks(names: Sequence[str]) -> list[str]:
    """Return a short mark of each emotion: its first letter, or two, where no other begins so; else a number.

    The numbers are those at the ends of all names, `class 3`, if they are short and differ.
    """
    numbers = [re.sub(r".*?(\d{0,2})$", r"\1", name, flags=re.DOTALL) for name in names]
    if all(numbers) and len(set(numbers)) == len(names):
        return numbers
    found = []
    for k, name in enumerate(names):
        starts = (name[:length].capitalize() for length in (1, 2))
        same = (
            start for start in starts if start.strip() and sum(n.capitalize().startswith(start) for n in names) == 1
        )
        found.append(next(same, str(k + 1)))
    return found


def colours(names: Sequence[str]) -> list[str]:
    """Return a colour of each emotion, `#rrggbb`: one that people expect, or one that is left; no two the same."""
    found: dict[int, str] = {}
    for k, name in enumerate(names):
        known = next((c for start, c in FAMILIAR.items() if name.lower().startswith(start)), None)
        if known and known not in found.values():
            found[k] = known
    left = [colour for colour in PALETTE if colour not in found.values()]
    shades = itertools.chain(left, (f"#{(0x9E3779 * (k + 1)) % 0xFFFFFF:06x}" for k in itertools.count()))
    return [found.get(k) or next(shades) for k in range(len(names))]


def ink(colour: str) -> str:
    """Return black or white, whichever is read better on a colour, by the contrast that WCAG defines."""
    red, green, blue = (
        c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4
        for c in (x / 255 for x in bytes.fromhex(colour[1:]))
    )
    return "#000" if 0.2126 * red + 0.7152 * green + 0.0722 * blue > 0.179 else "#fff"


def percent(share: float) -> str:
    """Return a share in whole percent, with a blank that does not break."""
    return f"{100 * share:.0f}\u00a0%"


def points(share: float) -> str:
    """Return a difference of shares in whole points, with its sign."""
    return f"{100 * share:+.0f}".replace("-", "−")


def listed(words: Sequence[str]) -> str:
    """Return words with commas between, and `and` before the last."""
    return " and ".join(filter(None, [", ".join(words[:-1]), *words[-1:]]))
