"""Read IEMOCAP_full_release: Session1 … Session5, each with dialog/ (transcriptions, EmoEvaluation, wav, avi) and
sentences/wav.

The usual protocol: six emotions, session 5 as the test split, utterances in the order of the transcription file.
"""

from __future__ import annotations

import re
from pathlib import Path

from ariigcn_jax.features.releases.files import Row, existing, text
from ariigcn_jax.types import UserError

LABELS = ("happy", "sad", "neutral", "angry", "excited", "frustrated")
_CODES = {"hap": 0, "sad": 1, "neu": 2, "ang": 3, "exc": 4, "fru": 5}
_TIMES = r"(\d+\.?\d*) ?- ?(\d+\.?\d*)\]"
_EVALUATION = re.compile(rf"\[{_TIMES}\s+(Ses\w+)\s+(\w+)\s+\[([\d.]+), *([\d.]+), *([\d.]+)\]")
_SPOKEN = re.compile(rf"(Ses\w+_[FM]\w*\d+) \[{_TIMES}: ?(.*)")


def rows(root: Path) -> tuple[list[Row], list[str]]:
    """Return the rows of the manifest, and notes."""
    sessions = sorted(path for path in root.glob("Session[1-5]") if path.is_dir())
    if not sessions:
        raise UserError(f"{root}: there is no Session1 … Session5 in it. Give the folder IEMOCAP_full_release.")
    found: list[Row] = []
    notes = [] if len(sessions) == 5 else [f"only {len(sessions)} of 5 sessions are there"]
    unannotated = 0
    for session in sessions:
        scripts = [path for path in sorted((session / "dialog/transcriptions").glob("Ses*.txt"))]
        if not scripts:
            raise UserError(f"{session}/dialog/transcriptions: there is no transcription (Ses*.txt) in it.")
        for script in scripts:
            annotation = _annotation(session / "dialog/EmoEvaluation" / script.name)
            for line in text(script).splitlines():
                match = _SPOKEN.match(line.strip())
                if match is None:
                    continue
                if match[1] not in annotation:
                    unannotated += 1
                    continue
                found.append(_row(session, script.stem, match[1], match[4], annotation[match[1]]))
    if unannotated:
        notes.append(f"{unannotated} transcribed turns are not in EmoEvaluation and are left out")
    return found, notes


def _annotation(path: Path) -> dict[str, Row]:
    return {
        match[3]: {
            "start_s": float(match[1]),
            "end_s": float(match[2]),
            "code": match[4],
            "valence": float(match[5]),
            "arousal": float(match[6]),
            "dominance": float(match[7]),
        }
        for match in _EVALUATION.finditer(text(path))
    }


def _row(session: Path, dialogue: str, utterance: str, transcript: str, annotation: Row) -> Row:
    speaker = utterance.rsplit("_", 1)[1][0]
    label = _CODES.get(annotation.pop("code"))
    sentence = existing(session / "sentences/wav" / dialogue / f"{utterance}.wav")
    scene = existing(session / "dialog/avi/DivX" / f"{dialogue}.avi")
    # both actors share the picture; the one that the dialogue is named after (Ses01F…) is on the left
    side = "0,0,50,100" if dialogue[5:6] == speaker else "50,0,50,100"
    return {
        "dialogue_id": dialogue,
        "utterance_id": utterance,
        "speaker": speaker,
        "actor": f"{dialogue[:5]}{speaker}",
        "audio": f"{sentence}#t=0" if sentence else existing(session / "dialog/wav" / f"{dialogue}.wav"),
        "video": scene and f"{scene}#xywh=percent:{side}",
        "transcript": transcript.strip(),
        "label": label,
        "label_name": None if label is None else LABELS[label],
        "split": "test" if session.name == "Session5" else "train",
        **annotation,
    }
