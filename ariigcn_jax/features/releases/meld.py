"""Read MELD.Raw: {train,dev,test}_sent_emo.csv and clips dia<D>_utt<U>.mp4 in a folder for each split.

Times are left out: MELD's are times of the episode, while each clip is one utterance.
"""

from __future__ import annotations

import re
from pathlib import Path

from ariigcn_jax.features.manifest import SPLIT_NAMES
from ariigcn_jax.features.releases.files import Row, first, table
from ariigcn_jax.types import UserError

LABELS = ("neutral", "surprise", "fear", "sadness", "joy", "disgust", "anger")
SENTIMENTS = ("neutral", "positive", "negative")
# The folders as the archives unpack; "repeated" tells the test clips from a second set of the same names.
_FOLDERS = {
    "train": ("train_splits", "train"),
    "dev": ("dev_splits_complete", "dev"),
    "test": ("output_repeated_splits_test", "test"),
}
_TEXTS = dict.fromkeys(("Utterance", "Speaker", "Emotion", "Sentiment"), str)
_CLIP = re.compile(r"dia(\d+)_utt(\d+)\.mp4")


def rows(root: Path, notes: list[str]) -> list[Row]:
    """Return the rows of the manifest; add to the notes."""
    found: list[Row] = []
    for split, folders in _FOLDERS.items():
        path = first(root, f"{split}_sent_emo.csv")
        if path is None:
            notes.append(f"there is no {split}_sent_emo.csv")
            continue
        clips = _clips(root, folders)
        lines = table(path, {**_TEXTS, "Dialogue_ID": int, "Utterance_ID": int})
        for line in sorted(lines, key=lambda line: (line["Dialogue_ID"], line["Utterance_ID"])):
            found.append(_row(split, line, clips))
    if not found:
        raise UserError(f"{root}: there is no train_sent_emo.csv in it. Give the folder MELD.Raw, with the csv files.")
    return found


def _clips(root: Path, folders: tuple[str, ...]) -> dict[tuple[int, int], Path]:
    """Find the clips of dialogues and utterances."""
    for folder in folders:
        for directory in sorted(path for path in root.rglob(folder) if path.is_dir()):
            clips = {(int(m[1]), int(m[2])): path for path in directory.iterdir() if (m := _CLIP.fullmatch(path.name))}
            if clips:
                return clips
    return {}


def _row(split: str, line: Row, clips: dict[tuple[int, int], Path]) -> Row:
    dialogue, utterance = line["Dialogue_ID"], line["Utterance_ID"]
    emotion, sentiment = line["Emotion"].lower(), line["Sentiment"].lower()
    return {
        "dialogue_id": f"{split}_{dialogue}",
        "turn": utterance,
        "utterance_id": f"{split}_dia{dialogue}_utt{utterance}",
        "speaker": line["Speaker"],
        "video": clips.get((dialogue, utterance)),
        "transcript": line["Utterance"],
        "label_name": emotion if emotion in LABELS else None,
        "sentiment": SENTIMENTS.index(sentiment) if sentiment in SENTIMENTS else None,
        "sentiment_name": sentiment if sentiment in SENTIMENTS else None,
        "split": SPLIT_NAMES[split],
    }
