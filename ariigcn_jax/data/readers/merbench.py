"""Read MERBench's folders: one .npy (or a folder of them) for each utterance and feature, and a table of labels.

    features/<feature>/<utterance>.npy        [d], or [frames, d], which is averaged (choice)
    features/<feature>/<utterance>/*.npy      the same, one file for each face
    label.npz                                 train_corpus, val_corpus, test_corpus: utterance → {emo, val} or a class
    label.csv                                 the same as a table with a column of utterances (name) and labels
    transcription.csv                         utterance, words; optional

A feature is a modality. `audio`, `text` or `visual` is put before its name, as MERBench's names do not say the kind.
"""

from __future__ import annotations

import csv
import io
import re
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ariigcn_jax.data import labels
from ariigcn_jax.data.fields import Fields, count, listed, text_array
from ariigcn_jax.data.readers import columns, pickles, tables, text
from ariigcn_jax.data.values import Rows, class_numbers, is_number, kind, load_array, read_header, short
from ariigcn_jax.types import UserError

FEATURES = "features"
_FREE_BYTES = 16 * 2**20  # that label.npz may hold beyond 16 times its size
_SPLITS = {"train": "train", "val": "valid", "valid": "valid", "dev": "valid", "test": "test"}
_DIALOGUE = re.compile(r"(.+?)(?:\$_\$|_utt|_[FM](?=\d+$)|_)(\d+)")
_KINDS = {
    "audio": ("hubert", "wav2vec", "wavlm", "whisper", "data2vec-audio", "vggish", "opensmile", "egemaps", "is09",
              "is10", "compare", "is13", "audio", "emotion2vec", "imagebind-audio", "panns"),
    "text": ("bert", "glove", "gpt", "llama", "albert", "xlnet", "deberta", "bloom", "baichuan", "vicuna", "text",
             "sentence", "macbert", "electra", "chatglm", "pert", "lert", "opt-", "falcon", "stablelm", "moss"),
    "visual": ("clip", "resnet", "senet", "densenet", "manet", "face", "emonet", "ferplus", "dinov2", "videomae",
               "vit", "eva", "openface", "visual", "video", "imagenet", "affectnet", "data2vec-visual"),
}  # fmt: skip


def recognise(folder: Path) -> bool:
    """Return whether a folder has this layout."""
    return (folder / FEATURES).is_dir() and bool(_label_files(folder))


def read_fields(folder: Path, modalities: Sequence[str] = ()) -> Fields:
    """Return the fields of a folder, in the order of its table of labels.

    Args:
      folder: with `features` and a table of labels.
      modalities: the features to read, by their folders' names with or without the kind before them; () for all.

    Raises:
      UserError: the table or a feature cannot be read.
    """
    table = _label_files(folder)[0]
    fields = Fields(folder, {})
    fields.note(f"read as a MERBench folder, labels from {table.name}")
    names = (_read_archive if table.suffix == ".npz" else _read_table)(fields, table)
    _read_transcript(fields, folder, names)
    _read_features(fields, folder, names, modalities)
    return fields


def _label_files(folder: Path) -> list[Path]:
    """Return the tables of labels, the one with the most classes first: IEMOCAP has one of four and one of six."""
    found = [p for pattern in ("label*.npz", "label*.csv", "label*.tsv") for p in sorted(folder.glob(pattern))]
    return sorted(found, key=lambda p: ("6way" not in p.name, p.suffix != ".npz", p.name))


def _read_archive(fields: Fields, path: Path) -> list[str]:
    """Fill label, split and dialogue from label.npz; return the utterances' names."""
    rows = [
        (str(name), _SPLITS.get(corpus.removesuffix("_corpus").rstrip("0123456789")), value)
        for corpus, entries in _corpora(path).items()
        for name, value in entries.items()
    ]
    if not rows:
        raise UserError(f"{path}: it holds no utterances. It must have train_corpus, val_corpus and test_corpus.")
    names, splits, values = (list(column) for column in zip(*rows, strict=True))
    if len(set(names)) < len(names):
        raise UserError(f"{path}: an utterance is in it twice.")
    _read_emotions(fields, path, names, values)
    if any(splits):
        fields.arrays["split"] = text_array([split or "train" for split in splits])
    _read_names(fields, names)
    return names


def _corpora(path: Path) -> dict[str, dict[Any, Any]]:
    """Return the dictionaries of label.npz, which numpy pickled as arrays of one object."""
    found = {}
    with text.intact(f"{path}: the archive"), zipfile.ZipFile(path) as archive:
        sizes = {m.filename: m.file_size for m in archive.infolist()}
        members = {name.removesuffix(".npy"): name for name in sizes if name.removesuffix(".npy").endswith("_corpus")}
        if not members:
            others = listed([name.removesuffix(".npy") for name in list(sizes)[:20]])
            raise UserError(f"{path}: it has {others}; it must have train_corpus, val_corpus and test_corpus.")
        if (size := sum(sizes[name] for name in members.values())) > 16 * path.stat().st_size + _FREE_BYTES:
            raise UserError(f"{path}: claims to hold {size:,} bytes, which is no table of labels.")
        for corpus, name in members.items():
            file = io.BytesIO(archive.read(name))
            read_header(file)
            value = pickles.load_stream(file, f"{path}: `{corpus}`")
            found[corpus] = value.item() if isinstance(value, np.ndarray) and value.size == 1 else value
            if not isinstance(found[corpus], dict):
                raise UserError(f"{path}: `{corpus}` is {kind(value)}, not a dictionary from utterance to label.")
    return found


def _read_emotions(fields: Fields, path: Path, names: list[str], values: list[Any]) -> None:
    arrays = fields.arrays
    emotions = [v.get("emo") if isinstance(v, dict) else v for v in values]
    scores = [v.get("val") if isinstance(v, dict) else None for v in values]
    if all(isinstance(e, str) for e in emotions):
        arrays["label"], arrays["label_names"] = columns.numbered([str(e) for e in emotions])
    elif all(e is None or is_number(e) for e in emotions) and any(e is not None for e in emotions):
        numbers = class_numbers(emotions, f"{path}: emo")
        if (numbers[np.isfinite(numbers)] % 1).any():
            raise UserError(f"{path}: emo has values that are not whole numbers.")
        arrays["label"] = np.where(np.isfinite(numbers), numbers, -1)
        if all("_dia" in name for name in names) and numbers.max(initial=-1) == len(labels.MERBENCH_MELD) - 1:
            arrays["label_names"] = np.array(labels.MERBENCH_MELD)
        else:
            fields.note("the file does not name its classes: they are called by their numbers")
    elif any(is_number(s) for s in scores):
        numbers = class_numbers([s if is_number(s) else None for s in scores], f"{path}: val")
        arrays.update(columns.signs(numbers), sentiment_score=numbers)
        fields.note("the file has sentiment scores and no classes: they are the signs of its scores")
    else:
        raise UserError(f"{path}: its entries are {kind(values[0])}; they must be {{emo, val}}, a class or its number.")


def _read_names(fields: Fields, names: list[str]) -> None:
    """Fill what the utterances' names say of dialogue, turn and speaker."""
    fields.arrays["utterance_id"] = text_array(names)
    matches = [_DIALOGUE.fullmatch(name) for name in names]
    dialogues = [m.group(1) for m in matches if m]
    if len(dialogues) < len(names) or len(set(dialogues)) == 1:
        fields.arrays["dialogue_id"] = text_array(names)
        fields.note(
            "the utterances' names do not say to which dialogue they belong: every utterance is one of its own. Give "
            "a label.csv with the columns name, dialogue_id, turn, label to change that"
        )
        return
    fields.arrays["dialogue_id"] = text_array(dialogues)
    if any(re.search(r"_[FM]\d+$", name) for name in names):
        fields.note("the names number each speaker's utterances apart: their order is that of the table")
        fields.arrays["speaker"] = text_array([name[m.end(1) + 1] for name, m in zip(names, matches, strict=True) if m])
    else:
        fields.arrays["turn"] = np.array([float(m.group(2)) for m in matches if m])


def _read_table(fields: Fields, path: Path) -> list[str]:
    table = tables.read_fields(path)
    if "utterance_id" not in table.arrays:
        raise UserError(f"{path}: it needs a column name (or utterance_id) that names the files of the features.")
    names = table.arrays["utterance_id"].tolist()
    fields.notes.extend(table.notes[1:])
    fields.arrays.update(table.arrays)
    if "dialogue_id" not in table.arrays:
        _read_names(fields, names)
    return names


def _read_transcript(fields: Fields, folder: Path, names: list[str]) -> None:
    path = folder / "transcription.csv"
    if "transcript" in fields.arrays or not path.is_file():
        return
    try:
        with text.opened(path, text.encoding(path)[0], newline="") as file:
            rows = [row for row in csv.reader(file) if len(row) > 1]
    except (OSError, ValueError, csv.Error) as error:
        fields.note(f"transcription.csv cannot be read and is left out: {short(error)}")
        return
    head = [cell.strip().lower() for cell in rows[0]] if rows else []
    column = next((head.index(c) for c in ("english", "sentence", "chinese", "text") if c in head), 1)
    words = {row[0]: row[column] for row in rows[1:] if len(row) > column}
    fields.arrays["transcript"] = text_array([words.get(name, "") for name in names])


def _read_features(fields: Fields, folder: Path, names: list[str], modalities: Sequence[str]) -> None:
    folders = {modality_name(p.name): p for p in sorted((folder / FEATURES).iterdir()) if p.is_dir()}
    if not folders:
        raise UserError(f"{folder / FEATURES}: it has no folders; each must be a feature with one .npy an utterance.")
    chosen = {m: p for m, p in folders.items() if not modalities or m in modalities or p.name in modalities}
    for modality, place in chosen.items():
        rows = Rows(len(names), str(place), sum(file.stat().st_size for file in place.rglob("*.npy")))
        missing = 0
        for row, name in enumerate(names):
            value = _utterance(place, name)
            missing += value is None
            rows.put(row, value, repr(short(name)))
        wanted = place.name if place.name in modalities and modality not in modalities else modality
        columns.keep(fields, wanted, rows, f"{place.name} has no file of any utterance and is left out")
        if missing and wanted in fields.arrays:
            fields.note(f"{place.name} has no file of {count(missing, 'utterance')}")


def modality_name(feature: str) -> str:
    """Return the name of a feature, with its kind before it."""
    lower = feature.lower()
    if lower.startswith(tuple(f"{prefix}_" for prefix in _KINDS)):
        return feature
    prefixes = [f"{prefix}_" for prefix, parts in _KINDS.items() if any(part in lower for part in parts)]
    return (prefixes or [""])[0] + feature


def _utterance(place: Path, name: str) -> Any:
    """Return [d] or [frames, d]; None where there is no file."""
    if Path(name).name != name or name == "..":
        raise UserError(f"{place}: the utterance {short(name)!r} cannot be the name of a file.")
    single, several = place / f"{name}.npy", place / name
    if single.is_file():
        return np.atleast_1d(np.squeeze(load_array(single)))
    if not several.is_dir():
        return None
    read = (np.atleast_2d(np.squeeze(load_array(p))) for p in sorted(several.glob("*.npy")))
    frames = [frame for frame in read if frame.size]
    if len({f.shape[1:] for f in frames}) > 1:
        raise UserError(f"{several}: its files have different numbers of features.")
    return np.concatenate(frames) if frames else None
