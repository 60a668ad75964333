"""Read UR-FUNNY V2: language_sdk.pkl, humor_label_sdk.pkl, data_folds.pkl, and clips <id>.mp4.

Every clip is a dialogue of one speaker: the context's sentences, which have no label, and the punchline, which is
humorous or not. A sentence lasts from its first word to its last, counted from the clip's first word (choice).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from ariigcn_jax.data.readers import pickles
from ariigcn_jax.features.releases.files import Row, existing, first
from ariigcn_jax.types import UserError

LABELS = ("not_humorous", "humorous")
_SPLITS = {"train": "train", "dev": "valid", "valid": "valid", "test": "test"}


def rows(root: Path) -> tuple[list[Row], list[str]]:
    """Return the rows of the manifest, and what was noticed."""
    spoken = _pickle(root, "language_sdk.pkl", "langauge_sdk.pkl")
    labels = _pickle(root, "humor_label_sdk.pkl")
    folds = _pickle(root, "data_folds.pkl")
    found: list[Row] = []
    unassigned = 0
    try:
        splits = {str(clip): _SPLITS[name] for name, clips in folds.items() for clip in clips}
        humor = {str(clip): int(value) for clip, value in labels.items()}
        folder = next((path.parent for path in root.rglob("*.mp4") if path.stem in splits), root)
        for clip, content in spoken.items():
            if str(clip) in splits:
                found += _dialogue(str(clip), content, humor.get(str(clip)), splits[str(clip)], folder)
            else:
                unassigned += 1
    except (AttributeError, KeyError, TypeError, ValueError, IndexError) as error:
        raise UserError(
            f"{root}: the pickles are not those of UR-FUNNY V2 ({type(error).__name__}: {error}). "
            "Give the folder with language_sdk.pkl, humor_label_sdk.pkl and data_folds.pkl of version 2."
        ) from None
    return found, [f"{unassigned} clips are in no fold and are left out"] if unassigned else []


def _pickle(root: Path, *names: str) -> Any:
    path = first(root, *names)
    if path is None:
        raise UserError(f"{root}: there is no {names[0]} in it.")
    return pickles.load(path)


def _dialogue(clip: str, content: dict[str, Any], humor: int | None, split: str, folder: Path) -> list[Row]:
    sentences = [*content["context_sentences"], content["punchline_sentence"]]
    words = [*content["context_intervals"], content["punchline_intervals"]]
    spans = [_span(intervals) for intervals in words]
    begin = min((start for start, _ in filter(None, spans)), default=0.0)
    path = existing(folder / f"{clip}.mp4")
    found: list[Row] = []
    for turn, (sentence, span) in enumerate(zip(sentences, spans, strict=True)):
        label = humor if turn == len(sentences) - 1 else None
        found.append(
            {
                "dialogue_id": clip,
                "utterance_id": f"{clip}_{turn}",
                "speaker": clip,
                "start_s": span and span[0] - begin,
                "end_s": span and span[1] - begin,
                "video": path if span else None,
                "transcript": sentence if isinstance(sentence, str) else " ".join(map(str, sentence)),
                "label": label,
                "label_name": None if label is None else LABELS[label],
                "split": split,
            }
        )
    return found


def _span(intervals: Any) -> tuple[float, float] | None:
    """Return the start of the first word and the end of the last, or None where there are none."""
    times = np.asarray(intervals, np.float64).reshape(-1, 2)
    times = times[np.isfinite(times).all(axis=1)]
    return (float(times[:, 0].min()), float(times[:, 1].max())) if len(times) and np.ptp(times) > 0 else None
