"""Write the manifest of a published raw release, from its folder as it is unpacked.

iemocap    IEMOCAP_full_release: transcriptions, EmoEvaluation, wav, avi
meld       MELD.Raw: the three csv files and the mp4 clips
mosi       CMU-MOSI: label.csv and Raw/, as MMSA lays it out, or the original folders
mosei      CMU-MOSEI: the same two; the original's labels (.csd) need the package h5py
urfunny    UR-FUNNY V2: language_sdk.pkl, humor_label_sdk.pkl, data_folds.pkl and the mp4 clips
"""

from __future__ import annotations

import argparse
import ast
import csv
import io
import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ariigcn_jax.data.readers import pickles, text
from ariigcn_jax.data.values import mended
from ariigcn_jax.extras import require
from ariigcn_jax.features import manifest
from ariigcn_jax.features.manifest import SPLIT_NAMES
from ariigcn_jax.types import UserError

Row = dict[str, Any]  # of a manifest: column -> value


def _table(path: Path, columns: Mapping[str, Callable[[str], Any]]) -> list[Row]:
    """Read columns of a CSV file, by name -> conversion of a cell."""
    reader = csv.DictReader(io.StringIO(text.read(path), newline=""), restval="")
    names = [name.strip() for name in reader.fieldnames or ()]
    if lacking := [name for name in columns if name not in names]:
        raise UserError(f"{path}: there is no column {lacking[0]!r} among {', '.join(names)}.")
    reader.fieldnames = names
    rows: list[Row] = []
    for line in reader:
        rows.append({})
        for name, convert in columns.items():
            try:
                rows[-1][name] = convert(mended(line[name].strip()))
            except ValueError:
                raise UserError(f"{path}: {name} = {line[name]!r} is no number.") from None
    return rows


def _lines(path: Path) -> list[str]:
    return text.lines(text.read(path))


def _below(root: Path, pattern: str) -> list[Path]:
    """Return the files below a folder that match, except for resource forks of macOS (._name)."""
    return sorted(path for path in root.rglob(pattern) if path.is_file() and not path.name.startswith("."))


def _first(paths: Iterable[Path]) -> Path | None:
    """Return the first path that is a file."""
    return next((path for path in paths if path.is_file()), None)


_IEMOCAP = {"hap": "happy", "sad": "sad", "neu": "neutral", "ang": "angry", "exc": "excited", "fru": "frustrated"}
_NUMBERS = ("start_s", "end_s", "valence", "arousal", "dominance")
_EVALUATION = re.compile(
    r"\[(?P<start_s>\d+\.?\d*) ?- ?(?P<end_s>\d+\.?\d*)\]\s+(?P<name>Ses\w+)\s+(?P<code>\w+)\s+"
    r"\[(?P<valence>[\d.]+), *(?P<arousal>[\d.]+), *(?P<dominance>[\d.]+)\]"
)
_SPOKEN = re.compile(r"(Ses\w+_[FM]\w*\d+) \[\d+\.?\d* ?- ?\d+\.?\d*\]: ?(.*)")


def _iemocap(root: Path, notes: list[str]) -> list[Row]:
    """Read Session1 … Session5, utterances in the order of the transcription files; session 5 is the test split."""
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
            evaluation = text.read(session / "dialog/EmoEvaluation" / script.name)
            annotated = {match["name"]: match for match in _EVALUATION.finditer(evaluation)}
            for match in filter(None, (_SPOKEN.match(mended(line.strip())) for line in _lines(script))):
                if match[1] in annotated:
                    found.append(_iemocap_row(session, script.stem, match[2].strip(), annotated[match[1]]))
                else:
                    unannotated += 1
    if unannotated:
        notes.append(f"{unannotated} transcribed turns are not in EmoEvaluation and are left out")
    return found


def _iemocap_row(session: Path, dialogue: str, transcript: str, annotation: re.Match[str]) -> Row:
    utterance = annotation["name"]
    speaker = utterance.rsplit("_", 1)[1][0]
    sentence = session / "sentences/wav" / dialogue / f"{utterance}.wav"
    scene = session / "dialog/avi/DivX" / f"{dialogue}.avi"
    # both actors share the picture; the one that the dialogue is named after (Ses01F…) is on the left
    side = "0,0,50,100" if dialogue[5:6] == speaker else "50,0,50,100"
    return {
        "dialogue_id": dialogue,
        "utterance_id": utterance,
        "speaker": speaker,
        "actor": f"{dialogue[:5]}{speaker}",
        "audio": f"{sentence}#t=0" if sentence.is_file() else _first([session / "dialog/wav" / f"{dialogue}.wav"]),
        "video": f"{scene}#xywh=percent:{side}" if scene.is_file() else None,
        "transcript": transcript,
        "label_name": _IEMOCAP.get(annotation["code"]),
        "split": "test" if session.name == "Session5" else "train",
        **{name: float(annotation[name]) for name in _NUMBERS},
    }


_MELD = ("neutral", "surprise", "fear", "sadness", "joy", "disgust", "anger")
_SENTIMENTS = ("neutral", "positive", "negative")
# The folders as the archives unpack; "repeated" tells the test clips from a second set of the same names.
_FOLDERS = {"train": "train_splits", "dev": "dev_splits_complete", "test": "output_repeated_splits_test"}
_TEXTS = dict.fromkeys(("Utterance", "Speaker", "Emotion", "Sentiment"), str)
_CLIP = re.compile(r"dia(\d+)_utt(\d+)\.mp4")


def _meld(root: Path, notes: list[str]) -> list[Row]:
    """Read MELD.Raw without times: they are the episode's, while each clip is one utterance."""
    found: list[Row] = []
    for split, folder in _FOLDERS.items():
        tables = _below(root, f"{split}_sent_emo.csv")
        if not tables:
            notes.append(f"there is no {split}_sent_emo.csv")
            continue
        clips = _clips(root, folder) or _clips(root, split)
        lines = _table(tables[0], {**_TEXTS, "Dialogue_ID": int, "Utterance_ID": int})
        for line in sorted(lines, key=lambda line: (line["Dialogue_ID"], line["Utterance_ID"])):
            found.append(_meld_row(split, line, clips))
    if not found:
        raise UserError(f"{root}: there is no train_sent_emo.csv in it. Give the folder MELD.Raw, with the csv files.")
    return found


def _clips(root: Path, folder: str) -> dict[tuple[int, int], Path]:
    """Find the clips of (dialogue, utterance) in the first folder of a name that has some."""
    for directory in sorted(path for path in root.rglob(folder) if path.is_dir()):
        clips = {(int(m[1]), int(m[2])): path for path in directory.iterdir() if (m := _CLIP.fullmatch(path.name))}
        if clips:
            return clips
    return {}


def _meld_row(split: str, line: Row, clips: dict[tuple[int, int], Path]) -> Row:
    dialogue, utterance = line["Dialogue_ID"], line["Utterance_ID"]
    emotion, sentiment = line["Emotion"].lower(), line["Sentiment"].lower()
    return {
        "dialogue_id": f"{split}_{dialogue}",
        "turn": utterance,
        "utterance_id": f"{split}_dia{dialogue}_utt{utterance}",
        "speaker": line["Speaker"],
        "video": clips.get((dialogue, utterance)),
        "transcript": line["Utterance"],
        "label_name": emotion if emotion in _MELD else None,
        "sentiment": _SENTIMENTS.index(sentiment) if sentiment in _SENTIMENTS else None,
        "sentiment_name": sentiment if sentiment in _SENTIMENTS else None,
        "split": SPLIT_NAMES[split],
    }


_FOLDS = """the *_std_folds.py of CMU's SDK, or a JSON file {"train": [VIDEO, …], "valid": […], "test": […]}"""
_CMU = ("negative", "neutral", "positive")
_MOSEI = ("happy", "sad", "anger", "surprise", "disgust", "fear")  # beside the sentiment, each from 0 to 3


def _mosi(root: Path, notes: list[str], folds: Path | None = None) -> list[Row]:
    """Read CMU-MOSI; folds are for the original folders, which name no splits."""
    if labels := _below(root, "label.csv"):
        return _mmsa(labels[0], folds)
    path = _first(_below(root, "OpinionLevelSentiment.csv"))
    if path is None:
        raise UserError(f"{root}: there is neither label.csv nor Labels/OpinionLevelSentiment.csv in it.")
    rows = []
    spoken: dict[str, dict[int, str]] = {}  # video -> segment -> transcript
    for line in csv.reader(_lines(path)):
        try:
            video, segment, times, sentiment = line[2], int(line[3]), (float(line[0]), float(line[1])), float(line[4])
        except (ValueError, IndexError):
            raise UserError(f"{path}: {','.join(line)!r} is not START,END,VIDEO,SEGMENT,SENTIMENT.") from None
        if video not in spoken:
            scripts = _below(root, f"{video}.annotprocessed")[:1]
            lines = [line.partition("_DELIM_") for script in scripts for line in _lines(script)]
            spoken[video] = {int(number): mended(words) for number, _, words in lines if number.strip().isdigit()}
        name = f"{video}_{segment}"
        row = _cmu_row(video, name, sentiment, spoken[video].get(segment, ""), *times)
        for kind, folder, suffix in (("audio", "WAV_16000", "wav"), ("video", "Video", "mp4")):
            whole = _near(root, f"{folder}/Segmented/{name}.{suffix}")
            row[kind] = f"{whole}#t=0" if whole else _near(root, f"{folder}/Full/{video}.{suffix}")
        rows.append(row)
    return _in_order(rows, folds)


def _mosei(root: Path, notes: list[str], folds: Path | None = None) -> list[Row]:
    """Read CMU-MOSEI, like `_mosi`."""
    if labels := _below(root, "label.csv"):
        return _mmsa(labels[0], folds)
    scripts, labels = _below(root, "Transcript/Segmented/Combined/*.txt"), _below(root, "CMU_MOSEI_Labels.csd")
    if not scripts or not labels:
        original = "CMU_MOSEI_Labels.csd with Transcript/Segmented/Combined/*.txt"
        raise UserError(f"{root}: there is neither label.csv, nor {original}.")
    annotations = _mosei_labels(labels[0])
    rows, unmatched = [], 0
    for line in (line for script in scripts for line in _lines(script)):
        parts = line.strip().split("___", 4)
        if len(parts) != 5:
            continue
        video, segment, start, end = parts[0], int(parts[1]), float(parts[2]), float(parts[3])
        # The label of a segment is the one whose interval begins and ends with it, to the labels' rounding.
        near = [x for (s, e), x in annotations.get(video, ()) if abs(s - start) < 0.05 and abs(e - end) < 0.05]
        unmatched += not near
        sentiment = near[0][0] if near else None
        row = _cmu_row(video, f"{video}_{segment}", sentiment, mended(parts[4]), start, end)
        row |= dict(zip(_MOSEI, near[0][1:], strict=True)) if near else {}
        row["audio"] = _near(root, f"Audio/Full/WAV_16000/{video}.wav", f"WAV_16000/{video}.wav")
        row["video"] = _near(root, f"Videos/Full/Combined/{video}.mp4")
        rows.append(row)
    if unmatched:
        notes.append(f"{unmatched} segments have no label at their times")
    return _in_order(rows, folds)


def _mmsa(path: Path, folds: Path | None) -> list[Row]:
    if folds:
        raise UserError(f"--folds: {path} names the splits itself, in `mode`. Leave the option out.")
    texts = dict.fromkeys(("video_id", "clip_id", "text", "mode"), str)
    rows = []
    for line in _table(path, {**texts, "label": lambda cell: float(cell) if cell else None}):
        video, clip, mode = line["video_id"], line["clip_id"], line["mode"].lower()
        if mode not in SPLIT_NAMES:
            raise UserError(f"{path}: mode = {line['mode']!r} is none of {', '.join(SPLIT_NAMES)}.")
        files = [folder / video / f"{clip}.mp4" for folder in (path.parent / "Raw", path.parent)]
        row = _cmu_row(video, f"{video}$_${clip}", line["label"], line["text"])
        rows.append(row | {"video": _first(files), "split": SPLIT_NAMES[mode]})
    return _in_order(rows, None)


def _cmu_row(
    video: str, name: str, sentiment: float | None, words: str, start: float | None = None, end: float | None = None
) -> Row:
    return {
        "dialogue_id": video,
        "utterance_id": name,
        "speaker": video,
        "start_s": start,
        "end_s": end,
        "transcript": words.strip(),
        "label_name": None if sentiment is None else _CMU[1 + (sentiment > 0) - (sentiment < 0)],
        "sentiment": sentiment,
    }


def _near(root: Path, *names: str) -> Path | None:
    """Find the first of some files in the release's folder, or in a folder one level below."""
    folders = [root, *sorted(path for path in root.iterdir() if path.is_dir())]
    return _first(folder / name for folder in folders for name in names)


def _mosei_labels(path: Path) -> dict[str, list[tuple[list[float], list[float]]]]:
    """Read video -> ([start, end], [sentiment, six emotions]) of its segments."""
    h5py = require("h5py", "releases")
    try:
        with h5py.File(path) as file:
            return {
                video: list(zip(group["intervals"][:].tolist(), group["features"][:].tolist(), strict=True))
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
    content = text.read(path)
    try:
        if path.suffix == ".json":
            lists = json.loads(content)
        else:
            found = re.findall(r"(train|valid|dev|test)_fold\s*=\s*(\[.*?\]|.*)", content, re.DOTALL)
            lists = {name: ast.literal_eval(videos) for name, videos in found}
        return {str(video): SPLIT_NAMES[name] for name, videos in lists.items() for video in videos}
    except (ValueError, SyntaxError, KeyError, AttributeError, TypeError) as error:
        raise UserError(f"{path}: does not name splits ({error}). Give {_FOLDS}.") from None


_URFUNNY = ("not_humorous", "humorous")


def _urfunny(root: Path, notes: list[str]) -> list[Row]:
    """Read UR-FUNNY V2: every clip is a dialogue of one speaker, whose last sentence alone has a label.

    A sentence lasts from its first word to its last, counted from the clip's first word (choice).
    """
    spoken = _pickle(root, "language_sdk.pkl", "langauge_sdk.pkl")
    labels, folds = _pickle(root, "humor_label_sdk.pkl"), _pickle(root, "data_folds.pkl")
    try:
        splits = {str(clip): SPLIT_NAMES[name] for name, clips in folds.items() for clip in clips}
        humor = {str(clip): int(value) for clip, value in labels.items()}
        folder = next((path.parent for path in root.rglob("*.mp4") if path.stem in splits), root)
        clips = {str(clip): content for clip, content in spoken.items()}
        dialogues = {
            clip: _urfunny_dialogue(clip, x, humor.get(clip), folder) for clip, x in clips.items() if clip in splits
        }
        found = [row | {"split": splits[clip]} for clip, rows in dialogues.items() for row in rows]
    except (AttributeError, KeyError, TypeError, ValueError, IndexError) as error:
        remedy = "Give the folder with language_sdk.pkl, humor_label_sdk.pkl and data_folds.pkl of version 2"
        problem = f"the pickles are not those of UR-FUNNY V2 ({type(error).__name__}: {error})"
        raise UserError(f"{root}: {problem}. {remedy}.") from None
    if unassigned := len(clips.keys() - splits.keys()):
        notes.append(f"{unassigned} clips are in no fold and are left out")
    return found


def _pickle(root: Path, *names: str) -> Any:
    for path in (path for name in names for path in _below(root, name)):
        return pickles.load(path)
    raise UserError(f"{root}: there is no {names[0]} in it.")


def _urfunny_dialogue(clip: str, content: dict[str, Any], humor: int | None, folder: Path) -> list[Row]:
    sentences = [*content["context_sentences"], content["punchline_sentence"]]
    spans = [_span(words) for words in (*content["context_intervals"], content["punchline_intervals"])]
    begin = min((start for start, _ in filter(None, spans)), default=0.0)
    path = _first([folder / f"{clip}.mp4"])
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
    found[-1]["label_name"] = None if humor is None else _URFUNNY[humor]
    return found


def _span(intervals: Any) -> tuple[float, float] | None:
    """Return the start of the first word and the end of the last, or None where there are none."""
    times = np.asarray(intervals, np.float64).reshape(-1, 2)
    times = times[np.isfinite(times).all(axis=1)]
    return (float(times[:, 0].min()), float(times[:, 1].max())) if len(times) and np.ptp(times) > 0 else None


# Readers, and the names of the classes 0, 1, …
RELEASES: dict[str, tuple[Callable[..., list[Row]], tuple[str, ...]]] = {
    "iemocap": (_iemocap, tuple(_IEMOCAP.values())),
    "meld": (_meld, _MELD),
    "mosi": (_mosi, _CMU),
    "mosei": (_mosei, _CMU),
    "urfunny": (_urfunny, _URFUNNY),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `run`."""
    parser.add_argument("--release", required=True, choices=[*RELEASES], help="which release ROOT is")
    parser.add_argument("root", metavar="ROOT", help="the release's folder")
    parser.add_argument("--out", required=True, metavar="CSV", help="the manifest")
    unlabeled = "keep utterances without a label that the field's protocol leaves out (they are context, in no loss)"
    parser.add_argument("--keep-unlabeled", action="store_true", help=unlabeled)
    folds = f"the splits of CMU-MOSI's or CMU-MOSEI's original release: {_FOLDS}"
    parser.add_argument("--folds", metavar="FILE", help=folds)


def run(args: argparse.Namespace) -> None:
    """Write a manifest, by the options of `add_arguments`; raise UserError if the folder is not that release."""
    root = Path(args.root)
    if not root.is_dir():
        raise UserError(f"{root}: there is no such folder. Give the one that the release was unpacked to.")
    if args.folds and args.release not in ("mosi", "mosei"):
        raise UserError(f"--folds: {args.release} names its splits itself. Leave the option out.")
    read, names = RELEASES[args.release]
    notes: list[str] = []
    rows = read(root, notes, Path(args.folds)) if args.folds else read(root, notes)
    for row in rows:
        row["label"] = names.index(row["label_name"]) if row.get("label_name") else None
    labelled = [row for row in rows if row["label"] is not None]
    if not labelled:
        raise UserError(f"{root}: no utterance has a label. Give the whole release, annotation included.")
    if not args.keep_unlabeled and args.release != "urfunny":  # whose unlabelled context belongs to the labels
        if dropped := len(rows) - len(labelled):
            notes.append(f"{dropped} utterances without one of the labels are left out; --keep-unlabeled keeps them")
        rows = labelled
    for kind in ("audio", "video"):
        if missing := sum(not row.get(kind) for row in rows):
            notes.append(f"{missing} of {len(rows)} utterances have no {kind} file")
    manifest.write(args.out, rows)
    for note in notes:
        print(f"note: {note}")
    labels = Counter(row["label_name"] for row in labelled)
    splits = Counter(row.get("split") or "not given" for row in rows)
    for title, counts in (("labels", labels), ("splits", splits)):
        print(f"{title}: " + ", ".join(f"{name} {count}" for name, count in counts.most_common()))
    print(f"wrote {args.out}: {len(rows)} utterances, {len({row['dialogue_id'] for row in rows})} dialogues")
