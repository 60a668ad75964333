"""Read IEMOCAP_full_release: Session1 … Session5, each with dialog/ (transcriptions, EmoEvaluation, wav, avi) and
sentences/wav.

The usual protocol: six emotions, session 5 as the test split, utterances in the order of the transcription file.
"""

from __future__ import annotations

import re
from pathlib import Path

from ariigcn_jax.features.releases.files import Row, existing, text
from ariigcn_jax.types import UserError

EMOTIONS = {"hap": "happy", "sad": "sad", "neu": "neutral", "ang": "angry", "exc": "excited", "fru": "frustrated"}
_NUMBERS = ("start_s", "end_s", "valence", "arousal", "dominance")
_EVALUATION = re.compile(
    r"\[(?P<start_s>\d+\.?\d*) ?- ?(?P<end_s>\d+\.?\d*)\]\s+(?P<name>Ses\w+)\s+(?P<code>\w+)\s+"
    r"\[(?P<valence>[\d.]+), *(?P<arousal>[\d.]+), *(?P<dominance>[\d.]+)\]"
)
_SPOKEN = re.compile(r"(Ses\w+_[FM]\w*\d+) \[\d+\.?\d* ?- ?\d+\.?\d*\]: ?(.*)")


def rows(root: Path, notes: list[str]) -> list[Row]:
    """Return the rows of the manifest; add to the notes."""
    sessions = sorted(path for path in root.glob("Session[1-5]") if path.is_dir())
    if not sessions:
        raise UserError(f"{root}: there is no Session1 … Session5 in it. Give the folder IEMOCAP_full_release.")
    if len(sessions) < 5:
        notes.append(f"only {len(sessions)} of 5 sessions are there")
    found: list[Row] = []
    unannotated = 0
    for session in sessions:
        scripts = sorted((session / "dialog/transcriptions").glob("Ses*.txt"))
        if not scripts:
            raise UserError(f"{session}/dialog/transcriptions: there is no transcription (Ses*.txt) in it.")
        for script in scripts:
            evaluation = text(session / "dialog/EmoEvaluation" / script.name)
            annotated = {match["name"]: match for match in _EVALUATION.finditer(evaluation)}
            spoken = [match for line in text(script).splitlines() if (match := _SPOKEN.match(line.strip()))]
            turns = [_row(session, script.stem, m[1], m[2], annotated[m[1]]) for m in spoken if m[1] in annotated]
            unannotated += len(spoken) - len(turns)
            found += turns
    if unannotated:
        notes.append(f"{unannotated} transcribed turns are not in EmoEvaluation and are left out")
    return found


def _row(session: Path, dialogue: str, utterance: str, transcript: str, annotation: re.Match[str]) -> Row:
    speaker = utterance.rsplit("_", 1)[1][0]
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
        "label_name": EMOTIONS.get(annotation["code"]),
        "split": "test" if session.name == "Session5" else "train",
        **{name: float(annotation[name]) for name in _NUMBERS},
    }
