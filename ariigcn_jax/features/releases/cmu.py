"""Read CMU-MOSI and CMU-MOSEI: monologues in segments with a sentiment in [-3, 3].

Two layouts are read. MMSA's: label.csv (video_id, clip_id, text, label, mode) and Raw/<video>/<clip>.mp4. And the
original folders: Transcript/, Audio/, Video/ or Videos/, with Labels/OpinionLevelSentiment.csv (MOSI) or
CMU_MOSEI_Labels.csd (MOSEI), which name no splits.

The class is the sign of the sentiment: negative, neutral, positive.
"""

from __future__ import annotations

import ast
import csv
import json
import re
from pathlib import Path

from ariigcn_jax.features.manifest import SPLIT_NAMES
from ariigcn_jax.features.packages import require
from ariigcn_jax.features.releases.files import Row, existing, first, table, text
from ariigcn_jax.types import UserError

LABELS = ("negative", "neutral", "positive")
EMOTIONS = ("happy", "sad", "anger", "surprise", "disgust", "fear")  # MOSEI's, each from 0 to 3


def mosi_rows(root: Path, notes: list[str], folds: Path | None = None) -> list[Row]:
    """Return the rows of CMU-MOSI's manifest."""
    if labels := first(root, "label.csv"):
        return _mmsa(labels, folds)
    path = first(root, "OpinionLevelSentiment.csv")
    if path is None:
        raise UserError(f"{root}: there is neither label.csv nor Labels/OpinionLevelSentiment.csv in it.")
    rows = []
    spoken: dict[str, dict[int, str]] = {}  # video -> segment -> transcript
    for line in csv.reader(text(path).splitlines()):
        try:
            video, segment, times, sentiment = line[2], int(line[3]), (float(line[0]), float(line[1])), float(line[4])
        except (ValueError, IndexError):
            raise UserError(f"{path}: {','.join(line)!r} is not START,END,VIDEO,SEGMENT,SENTIMENT.") from None
        if video not in spoken:
            script = first(root, f"{video}.annotprocessed")
            lines = [part.partition("_DELIM_") for part in text(script).splitlines()] if script else []
            spoken[video] = {int(number): words for number, _, words in lines if number.strip().isdigit()}
        name = f"{video}_{segment}"
        row = _row(video, name, sentiment, spoken[video].get(segment, ""), *times)
        row["audio"] = _media(root, f"WAV_16000/Segmented/{name}.wav", fragment="#t=0")
        row["audio"] = row["audio"] or _media(root, f"WAV_16000/Full/{video}.wav")
        row["video"] = _media(root, f"Video/Segmented/{name}.mp4", fragment="#t=0")
        row["video"] = row["video"] or _media(root, f"Video/Full/{video}.mp4")
        rows.append(row)
    return _in_order(rows, folds)


def mosei_rows(root: Path, notes: list[str], folds: Path | None = None) -> list[Row]:
    """Return the rows of CMU-MOSEI's manifest; add to the notes."""
    if labels := first(root, "label.csv"):
        return _mmsa(labels, folds)
    path = first(root, "CMU_MOSEI_Labels.csd")
    scripts = sorted(path for path in root.rglob("Transcript/Segmented/Combined/*.txt") if path.name[0] != ".")
    if path is None or not scripts:
        raise UserError(
            f"{root}: there is neither label.csv, nor CMU_MOSEI_Labels.csd with Transcript/Segmented/Combined/*.txt."
        )
    annotations = _mosei_labels(path)
    rows, unmatched = [], 0
    for line in (line for script in scripts for line in text(script).splitlines()):
        parts = line.strip().split("___", 4)
        if len(parts) != 5:
            continue
        video, segment, start, end = parts[0], int(parts[1]), float(parts[2]), float(parts[3])
        # The label of a segment is the one whose interval begins and ends with it, to the labels' rounding.
        near = [v for s, e, v in annotations.get(video, ()) if abs(s - start) < 0.05 and abs(e - end) < 0.05]
        unmatched += not near
        row = _row(video, f"{video}_{segment}", near[0][0] if near else None, parts[4], start, end)
        row |= dict(zip(EMOTIONS, near[0][1:], strict=True)) if near else {}
        row["audio"] = _media(root, f"Audio/Full/WAV_16000/{video}.wav", f"WAV_16000/{video}.wav")
        row["video"] = _media(root, f"Videos/Full/Combined/{video}.mp4")
        rows.append(row)
    if unmatched:
        notes.append(f"{unmatched} segments have no label at their times")
    return _in_order(rows, folds)


def _mmsa(path: Path, folds: Path | None) -> list[Row]:
    if folds:
        raise UserError(f"--folds: {path} names the splits itself, in `mode`. Leave the option out.")
    texts = dict.fromkeys(("video_id", "clip_id", "text", "mode"), str)
    rows = []
    for line in table(path, {**texts, "label": lambda cell: float(cell) if cell else None}):
        video, clip, mode = line["video_id"], line["clip_id"], line["mode"].lower()
        if mode not in SPLIT_NAMES:
            raise UserError(f"{path}: mode = {line['mode']!r} is none of {', '.join(SPLIT_NAMES)}.")
        files = [folder / video / f"{clip}.mp4" for folder in (path.parent / "Raw", path.parent)]
        row = _row(video, f"{video}$_${clip}", line["label"], line["text"])
        rows.append(row | {"video": existing(*files), "split": SPLIT_NAMES[mode]})
    return _in_order(rows, None)


def _row(
    video: str, name: str, sentiment: float | None, words: str, start: float | None = None, end: float | None = None
) -> Row:
    return {
        "dialogue_id": video,
        "utterance_id": name,
        "speaker": video,
        "start_s": start,
        "end_s": end,
        "transcript": words.strip(),
        "label_name": None if sentiment is None else LABELS[1 + (sentiment > 0) - (sentiment < 0)],
        "sentiment": sentiment,
    }


def _media(root: Path, *names: str, fragment: str = "") -> str | None:
    """Find the first of some files in the release's folder, or in a folder one level below."""
    folders = [root, *sorted(path for path in root.iterdir() if path.is_dir())]
    path = existing(*(folder / name for folder in folders for name in names))
    return f"{path}{fragment}" if path else None


def _mosei_labels(path: Path) -> dict[str, list[tuple[float, float, list[float]]]]:
    """Read video -> (start, end, [sentiment, six emotions]) of its segments."""
    h5py = require("h5py", "releases")
    try:
        with h5py.File(path) as file:
            return {
                video: [
                    (float(start), float(end), [float(value) for value in values])
                    for (start, end), values in zip(group["intervals"][:], group["features"][:], strict=True)
                ]
                for video, group in file["All Labels/data"].items()
            }
    except (OSError, KeyError, ValueError) as error:
        raise UserError(f"{path}: cannot be read as CMU-MOSEI's labels ({error}).") from None


def _in_order(rows: list[Row], folds: Path | None) -> list[Row]:
    """Sort rows by video and segment; with a file of folds, give their videos splits and leave out the others."""
    if folds:
        splits = _folds(folds)
        rows = [row | {"split": splits[row["dialogue_id"]]} for row in rows if row["dialogue_id"] in splits]
        if not rows:
            raise UserError(f"{folds}: names none of the release's videos.")

    def key(row: Row) -> tuple[str, list[int], str]:
        name = row["utterance_id"]
        return row["dialogue_id"], [int(number) for number in re.findall(r"\d+$", name)], name

    return sorted(rows, key=key)


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
        return {str(video): SPLIT_NAMES[name] for name, videos in lists.items() for video in videos}
    except (ValueError, SyntaxError, KeyError, AttributeError, TypeError) as error:
        raise UserError(
            f"{path}: does not name splits ({error}). Give the *_std_folds.py of CMU's SDK, or a JSON file "
            '{"train": [VIDEO, …], "valid": […], "test": […]}.'
        ) from None
