"""Read UR-FUNNY V2: language_sdk.pkl, humor_label_sdk.pkl, data_folds.pkl, and clips <id>.mp4.

Every clip is a dialogue of one speaker: the context's sentences, which have no label, and the punchline, which is
humorous or not. A sentence lasts from its first word to its last, counted from the clip's first word (choice).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from ariigcn_jax.data.readers import pickles
from ariigcn_jax.features.manifest import SPLIT_NAMES
from ariigcn_jax.features.releases.files import Row, existing, first
from ariigcn_jax.types import UserError

LABELS = ("not_humorous", "humorous")


def rows(root: Path, notes: list[str]) -> list[Row]:
    """Return the rows of the manifest; add to the notes."""
    spoken = _pickle(root, "language_sdk.pkl", "langauge_sdk.pkl")
    labels = _pickle(root, "humor_label_sdk.pkl")
    folds = _pickle(root, "data_folds.pkl")
    try:
        splits = {str(clip): SPLIT_NAMES[name] for name, clips in folds.items() for clip in clips}
        humor = {str(clip): int(value) for clip, value in labels.items()}
        folder = next((path.parent for path in root.rglob("*.mp4") if path.stem in splits), root)
        clips = {str(clip): content for clip, content in spoken.items()}
        found = [
            row | {"split": splits[clip]}
            for clip, content in clips.items()
            if clip in splits
            for row in _dialogue(clip, content, humor.get(clip), folder)
        ]
    except (AttributeError, KeyError, TypeError, ValueError, IndexError) as error:
        raise UserError(
            f"{root}: the pickles are not those of UR-FUNNY V2 ({type(error).__name__}: {error}). "
            "Give the folder with language_sdk.pkl, humor_label_sdk.pkl and data_folds.pkl of version 2."
        ) from None
    if unassigned := len(clips.keys() - splits.keys()):
        notes.append(f"{unassigned} clips are in no fold and are left out")
    return found


def _pickle(root: Path, *names: str) -> Any:
    path = first(root, *names)
    if path is None:
        raise UserError(f"{root}: there is no {names[0]} in it.")
    return pickles.load(path)


def _dialogue(clip: str, content: dict[str, Any], humor: int | None, folder: Path) -> list[Row]:
    sentences = [*content["context_sentences"], content["punchline_sentence"]]
    spans = [_span(words) for words in (*content["context_intervals"], content["punchline_intervals"])]
    begin = min((start for start, _ in filter(None, spans)), default=0.0)
    path = existing(folder / f"{clip}.mp4")
    found: list[Row] = [
        {
            "dialogue_id": clip,
            "utterance_id": f"{clip}_{turn}",
            "speaker": clip,
            "start_s": span and span[0] - begin,
            "end_s": span and span[1] - begin,
            "video": path if span else None,
            "transcript": sentence if isinstance(sentence, str) else " ".join(map(str, sentence)),
        }
        for turn, (sentence, span) in enumerate(zip(sentences, spans, strict=True))
    ]
    found[-1]["label_name"] = None if humor is None else LABELS[humor]
    return found


def _span(intervals: Any) -> tuple[float, float] | None:
    """Return the start of the first word and the end of the last, or None where there are none."""
    times = np.asarray(intervals, np.float64).reshape(-1, 2)
    times = times[np.isfinite(times).all(axis=1)]
    return (float(times[:, 0].min()), float(times[:, 1].max())) if len(times) and np.ptp(times) > 0 else None
