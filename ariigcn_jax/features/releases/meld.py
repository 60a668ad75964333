"""Read MELD.Raw: {train,dev,test}_sent_emo.csv and clips dia<D>_utt<U>.mp4 in a folder for each split.

Times are left out: MELD's are times of the episode, while each clip is one utterance.
"""

from __future__ import annotations

import re
from pathlib import Path

from ariigcn_jax.features.releases.files import Row, first, table
from ariigcn_jax.types import UserError

LABELS = ("neutral", "surprise", "fear", "sadness", "joy", "disgust", "anger")
SENTIMENTS = ("neutral", "positive", "negative")
# The folders as the archives unpack; "repeated" tells the test clips from a second set of the same names.
_FOLDERS = {"train": ("train_splits", "train"), "dev": ("dev_splits_complete", "dev")}
_FOLDERS["test"] = ("output_repeated_splits_test", "test")
_COLUMNS = ("Utterance", "Speaker", "Emotion", "Sentiment", "Dialogue_ID", "Utterance_ID")
_CLIP = re.compile(r"dia(\d+)_utt(\d+)\.mp4")


def rows(root: Path) -> tuple[list[Row], list[str]]:
    """Return the rows of the manifest, and notes."""
    found: list[Row] = []
    notes = []
    for split, folders in _FOLDERS.items():
        path = first(root, f"{split}_sent_emo.csv")
        if path is None:
            notes.append(f"there is no {split}_sent_emo.csv")
            continue
        clips = _clips(root, folders)
        spoken = table(path, _COLUMNS)
        for line in sorted(spoken, key=lambda line: (_number(path, line, 0), _number(path, line, 1))):
            found.append(_row(path, split, line, clips))
    if not found:
        raise UserError(f"{root}: there is no train_sent_emo.csv in it. Give the folder MELD.Raw, with the csv files.")
    return found, notes


def _clips(root: Path, folders: tuple[str, ...]) -> dict[tuple[int, int], Path]:
    for folder in folders:
        for directory in sorted(path for path in root.rglob(folder) if path.is_dir()):
            clips = {(int(m[1]), int(m[2])): path for path in directory.iterdir() if (m := _CLIP.fullmatch(path.name))}
            if clips:
                return clips
    return {}


def _number(path: Path, line: dict[str, str], which: int) -> int:
    name = ("Dialogue_ID", "Utterance_ID")[which]
    if not line[name].isdigit():
        raise UserError(f"{path}: {name} = {line[name]!r} is no number.")
    return int(line[name])


def _row(path: Path, split: str, line: dict[str, str], clips: dict[tuple[int, int], Path]) -> Row:
    dialogue, utterance = _number(path, line, 0), _number(path, line, 1)
    emotion, sentiment = line["Emotion"].lower(), line["Sentiment"].lower()
    label = LABELS.index(emotion) if emotion in LABELS else None
    return {
        "dialogue_id": f"{split}_{dialogue}",
        "turn": utterance,
        "utterance_id": f"{split}_dia{dialogue}_utt{utterance}",
        "speaker": line["Speaker"],
        "video": clips.get((dialogue, utterance)),
        "transcript": line["Utterance"],
        "label": label,
        "label_name": None if label is None else emotion,
        "sentiment": SENTIMENTS.index(sentiment) if sentiment in SENTIMENTS else None,
        "sentiment_name": sentiment if sentiment in SENTIMENTS else None,
        "split": {"dev": "valid"}.get(split, split),
    }
