"""Read CMU-MOSI and CMU-MOSEI: monologues in segments with a sentiment in [-3, 3].

Two layouts are read. MMSA's: label.csv (video_id, clip_id, text, label, mode) and Raw/<video>/<clip>.mp4. And the
original folders: Transcript/, Audio/, Video/ or Videos/, with Labels/OpinionLevelSentiment.csv (MOSI) or
CMU_MOSEI_Labels.csd (MOSEI), which name no splits.

`label` is the sign of the sentiment: negative, neutral, positive.
"""

from __future__ import annotations

import ast
import csv
import functools
import json
import re
from pathlib import Path

from ariigcn_jax.features.packages import require
from ariigcn_jax.features.releases.files import Row, existing, first, table, text
from ariigcn_jax.types import UserError

LABELS = ("negative", "neutral", "positive")
EMOTIONS = ("happy", "sad", "anger", "surprise", "disgust", "fear")  # MOSEI's, each from 0 to 3
_SPLITS = {"train": "train", "valid": "valid", "validation": "valid", "val": "valid", "dev": "valid", "test": "test"}


def mosi_rows(root: Path, folds: Path | None = None) -> tuple[list[Row], list[str]]:
    """Return the rows of CMU-MOSI's manifest, and notes."""
    if labels := _mmsa(root, folds):
        return labels
    path = first(root, "OpinionLevelSentiment.csv")
    if path is None:
        raise UserError(f"{root}: there is neither label.csv nor Labels/OpinionLevelSentiment.csv in it.")
    rows = []
    for line in csv.reader(text(path).splitlines()):
        try:
            start, end, video, segment, sentiment = float(line[0]), float(line[1]), line[2], int(line[3]), line[4]
            rows.append(_row(video, segment, float(sentiment), _mosi_spoken(root, video).get(segment), start, end))
        except (ValueError, IndexError):
            raise UserError(f"{path}: {','.join(line)!r} is not START,END,VIDEO,SEGMENT,SENTIMENT.") from None
    for row in rows:
        name = row["utterance_id"]
        _add_media(row, root, (f"WAV_16000/Segmented/{name}.wav",), (f"Video/Segmented/{name}.mp4",), whole=True)
        video = row["dialogue_id"]
        _add_media(row, root, (f"WAV_16000/Full/{video}.wav",), (f"Video/Full/{video}.mp4",), whole=False)
    return _split(rows, folds), []


def mosei_rows(root: Path, folds: Path | None = None) -> tuple[list[Row], list[str]]:
    """Return the rows of CMU-MOSEI's manifest, and notes."""
    if labels := _mmsa(root, folds):
        return labels
    path = first(root, "CMU_MOSEI_Labels.csd")
    scripts = sorted(path for path in root.rglob("Transcript/Segmented/Combined/*.txt") if path.name[0] != ".")
    if path is None or not scripts:
        raise UserError(
            f"{root}: there is neither label.csv, nor CMU_MOSEI_Labels.csd with Transcript/Segmented/Combined/*.txt."
        )
    annotations = _mosei_labels(path)
    rows, unmatched = [], 0
    for script in scripts:
        for line in text(script).splitlines():
            parts = line.strip().split("___", 4)
            if len(parts) != 5:
                continue
            video, segment, start, end = parts[0], int(parts[1]), float(parts[2]), float(parts[3])
            # The label of a segment is the one whose interval begins and ends with it, to the labels' rounding.
            near = [v for s, e, v in annotations.get(video, ()) if abs(s - start) < 0.05 and abs(e - end) < 0.05]
            row = _row(video, segment, near[0][0] if near else None, parts[4], start, end)
            unmatched += not near
            row |= dict(zip(EMOTIONS, near[0][1:], strict=True)) if near else {}
            audio = (f"Audio/Full/WAV_16000/{video}.wav", f"WAV_16000/{video}.wav")
            _add_media(row, root, audio, (f"Videos/Full/Combined/{video}.mp4",), whole=False)
            rows.append(row)
    return _split(rows, folds), [f"{unmatched} segments have no label at their times"] if unmatched else []


def _mmsa(root: Path, folds: Path | None) -> tuple[list[Row], list[str]] | None:
    path = first(root, "label.csv")
    if path is None:
        return None
    if folds:
        raise UserError(f"--folds: {path} names the splits itself, in `mode`. Leave the option out.")
    rows = []
    for line in table(path, ("video_id", "clip_id", "text", "label", "mode")):
        try:
            sentiment = float(line["label"]) if line["label"] else None
        except ValueError:
            raise UserError(f"{path}: label = {line['label']!r} is no number.") from None
        video, clip = line["video_id"], line["clip_id"]
        number = int(clip) if clip.isdigit() else clip
        row = _row(video, number, sentiment, line["text"])
        row["utterance_id"] = f"{video}$_${clip}"
        row["video"] = existing(*(folder / video / f"{clip}.mp4" for folder in (path.parent / "Raw", path.parent)))
        row["split"] = _SPLITS.get(line["mode"].lower())
        if row["split"] is None:
            raise UserError(f"{path}: mode = {line['mode']!r} is none of {', '.join(_SPLITS)}.")
        rows.append(row)
    return _sorted(rows), []


def _row(
    video: str,
    segment: int | str,
    sentiment: float | None,
    transcript: str | None,
    start: float | None = None,
    end: float | None = None,
) -> Row:
    label = None if sentiment is None else 1 + (sentiment > 0) - (sentiment < 0)
    return {
        "dialogue_id": video,
        "utterance_id": f"{video}_{segment}",
        "segment": segment,
        "speaker": video,
        "start_s": start,
        "end_s": end,
        "transcript": (transcript or "").strip(),
        "label": label,
        "label_name": None if label is None else LABELS[label],
        "sentiment": None if sentiment is None else float(sentiment),
    }


def _sorted(rows: list[Row]) -> list[Row]:
    def key(row: Row) -> tuple[str, float, str]:
        segment = row["segment"]
        return row["dialogue_id"], float(segment) if isinstance(segment, int) else 0.0, str(segment)

    return [{name: value for name, value in row.items() if name != "segment"} for row in sorted(rows, key=key)]


def _add_media(row: Row, root: Path, audio: tuple[str, ...], video: tuple[str, ...], *, whole: bool) -> None:
    for kind, names in (("audio", audio), ("video", video)):
        if not row.get(kind):
            folders = [root, *sorted(path for path in root.iterdir() if path.is_dir())]
            path = existing(*(folder / name for folder in folders for name in names))
            row[kind] = f"{path}#t=0" if path and whole else path


@functools.cache
def _mosi_spoken(root: Path, video: str) -> dict[int, str]:
    path = first(root, f"{video}.annotprocessed")
    lines = [line.partition("_DELIM_") for line in text(path).splitlines()] if path else []
    return {int(number): spoken for number, _, spoken in lines if number.strip().isdigit()}


def _mosei_labels(path: Path) -> dict[str, list[tuple[float, float, tuple[float, ...]]]]:
    """Read video -> (start, end, (sentiment, six emotions)) of its segments."""
    h5py = require("h5py", "releases")
    try:
        with h5py.File(path) as file:
            data = file["All Labels/data"]
            return {
                video: [
                    (float(start), float(end), tuple(float(value) for value in values))
                    for (start, end), values in zip(group["intervals"][:], group["features"][:], strict=True)
                ]
                for video, group in data.items()
            }
    except (OSError, KeyError, ValueError) as error:
        raise UserError(f"{path}: cannot be read as CMU-MOSEI's labels ({error}).") from None


def _split(rows: list[Row], folds: Path | None) -> list[Row]:
    if folds:
        splits = _folds(folds)
        for row in rows:
            row["split"] = splits.get(row["dialogue_id"])
        rows = [row for row in rows if row["split"]]
        if not rows:
            raise UserError(f"{folds}: names none of the release's videos.")
    return _sorted(rows)


def _folds(path: Path) -> dict[str, str]:
    """Read video -> split from JSON, or from the assignments `…train_fold = […]` of a Python file, which is not run."""
    content = text(path)
    try:
        if path.suffix == ".json":
            lists = json.loads(content)
        else:
            lists = {
                match[1]: ast.literal_eval(node.value)
                for node in ast.parse(content).body
                if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name)
                if (match := re.search(r"(train|valid|dev|test)_fold", node.targets[0].id))
            }
        return {str(video): _SPLITS[name] for name, videos in lists.items() for video in videos}
    except (ValueError, SyntaxError, KeyError, AttributeError, TypeError) as error:
        raise UserError(
            f"{path}: does not name splits ({error}). Give the *_std_folds.py of CMU's SDK, or a JSON file "
            '{"train": [VIDEO, …], "valid": […], "test": […]}.'
        ) from None
