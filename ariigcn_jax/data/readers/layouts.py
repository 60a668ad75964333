"""Recognises how a corpus is stored, by what is in the file or folder and not by its name, and reads it."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ariigcn_jax.data.fields import Fields, listed
from ariigcn_jax.data.readers import dialogue_tuples, merbench, mmsa, npz, tables
from ariigcn_jax.data.readers import folder as columnar
from ariigcn_jax.data.readers import pickles as unpickle
from ariigcn_jax.data.values import as_sequence, is_number, kind, short
from ariigcn_jax.types import Modality, UserError

LAYOUTS = """\
  .npz of plain arrays, one row an utterance
  pickles of DialogueRNN, DialogueGCN, MMGCN, MM-DFN, COGMEN, M3NET, SDT, GraphSmile, AGF-IB, COSMIC and DAG-ERC
  pickles of MMSA: {train, valid, test} → {id, raw_text, text, audio, vision, …_labels}
  folders of MERBench: features/<feature>/<utterance>.npy and label.npz or label.csv
  tables: .csv, .tsv, .json, .jsonl, one row an utterance; or a folder with train, dev and test tables
  folders of this project's own format (python -m tools.prepare convert writes them)"""

_CONVERT = """\
To convert: in Python, load what you have and write one .npz of plain arrays, which `python -m tools.prepare inspect`
then checks:

    numpy.savez("mine.npz", dialogue_id=…, turn=…, speaker=…, label=…, label_names=…, split=…, transcript=…,
                text=…, audio=…)    # one row an utterance; text and audio are [utterances, features] float32"""

_MAGIC = {
    (0, b"\x89HDF"): "an HDF5 file (.h5, or .mat of MATLAB 7.3); read it with h5py and write it with numpy.savez",
    (0, b"\x1f\x8b"): "compressed by gzip; unpack it first",
    (0, b"\xfd7zX"): "compressed by xz; unpack it first",
    (0, b"BZh"): "compressed by bzip2; unpack it first",
    (0, b"7z\xbc\xaf"): "a 7z archive; unpack it first",
    (0, b"Rar!"): "a RAR archive; unpack it first",
    (257, b"ustar"): "a tar archive; unpack it first",
    (0, b"PAR1"): "a Parquet file; write it as CSV or .npz",
    (0, b"ARROW1"): "a Feather file; write it as CSV or .npz",
    (0, b"SQLite format 3"): "an SQLite database; write its table as CSV",
    (0, b"\xd0\xcf\x11\xe0"): "an Excel or other Office file; save the sheet as CSV UTF-8",
    (0, b"\x93NUM"): "a single .npy array; a corpus needs labels and dialogues too",
    (0, b"MATL"): "a MATLAB file; write its arrays with scipy.io.loadmat and numpy.savez",
    **dict.fromkeys(
        ((0, b"RIFF"), (4, b"ftyp"), (0, b"ID3"), (0, b"OggS"), (0, b"fLaC"), (0, b"\x1a\x45\xdf\xa3")),
        "a sound or video file; features are extracted by python -m tools.features",
    ),
    **dict.fromkeys(
        ((0, b"<!DOCTYPE"), (0, b"<!doctype"), (0, b"<html")),
        "a web page; the download may have asked for a sign-in or a confirmation, so fetch it with a browser",
    ),
    (4, b'\0\0\0\0{"'): "a safetensors file; read it with safetensors.numpy and write its arrays with numpy.savez",
    (0, b"version https://git-lfs"): "a Git LFS pointer and not the file; fetch it by git lfs pull",
}
_PYTORCH = "a PyTorch file; read it with torch.load and write its tensors as arrays with numpy.savez"
_ZIPPED = {  # what a member's name tells of an archive that holds no arrays
    r"xl/.*": "an Excel workbook; save the sheet as CSV UTF-8",
    r"(word|ppt)/.*|mimetype": "an Office document; save the table as CSV UTF-8",
    r"[^/]+/data\.pkl": _PYTORCH,
}
_TORCH = 0x1950A86A20F9469CFC6C  # what torch.save wrote first before it wrote archives
_UTF16 = (b"\xff\xfe", b"\xfe\xff")
_MOST_LINES = 30  # of a description
_MEDIA = (".wav", ".mp3", ".flac", ".ogg", ".m4a", ".mp4", ".avi", ".mkv", ".webm", ".mov")


@np.errstate(over="ignore", invalid="ignore")  # what is not finite becomes missing, and is said
def read_fields(
    path: Path, *, modalities: Sequence[Modality] = (), label: str = "label", task: str = "classification"
) -> Fields:
    """Recognises and reads a corpus.

    Args:
      path: a file or a folder.
      modalities: those asked for; some layouts hold more than they give unasked.
      label: the field of the labels, where it is the name of a column.
      task: what the labels are, where they are text.

    Returns:
      Its fields, not validated.

    Raises:
      UserError: it is of no layout that is known (says what was found and how to convert), or cannot be read.
    """
    fields = _read_folder(path, modalities, label, task) if path.is_dir() else _read_file(path, modalities, label, task)
    if not any(array.ndim >= 2 for array in fields.arrays.values()) and not fields.opaque and not _is_zip(path):
        found = "".join(f" {note[:1].upper()}{note[1:]}." for note in fields.notes)
        raise UserError(
            f"{path}: there are no features in it. By name are known {listed(fields.arrays)}.{found} {tables.VECTORS} "
            "Features are extracted from words, sound and video by `python -m tools.features`."
        )
    return fields


def _is_zip(path: Path) -> bool:
    return path.is_file() and _start(path).startswith(b"PK")


def _check_zip(path: Path) -> None:
    """Names an archive that holds no arrays; what is damaged is left to the reader."""
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.namelist()
    except Exception:  # zipfile raises many kinds
        return
    if not members or any(name.endswith(".npy") for name in members):
        return
    known = (what for form, what in _ZIPPED.items() if any(re.fullmatch(form, name) for name in members))
    what = next(known, f"a zip archive of {listed(members[:20])}; unpack it first")
    raise UserError(f"{path}: this is {what}. What is read:\n{LAYOUTS}\n{_CONVERT}")


def _read_folder(folder: Path, modalities: Sequence[Modality], label: str, task: str) -> Fields:
    try:
        if columnar.recognise(folder):
            return columnar.read_fields(folder)
        if merbench.recognise(folder):
            return merbench.read_fields(folder, modalities)
        if tables.recognise(folder):
            return tables.read_folder(folder, label, task)
        inside = sorted(p.name + ("/" if p.is_dir() else "") for p in folder.iterdir())
    except OSError as error:
        raise UserError(f"{folder}: cannot be read: {error.strerror or error}.") from None
    media = any(name.lower().endswith(_MEDIA) for name in inside)
    remedy = "Features are extracted from sound and video by python -m tools.features. " if media else ""
    raise UserError(
        f"{folder}: this is a folder, and of no layout that is known. It holds {listed(inside[:20])}"
        f"{' and more' if len(inside) > 20 else ''}. {remedy}Give the path of a file in it, or one of these:\n{LAYOUTS}"
    )


def _start(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(4096)
    except PermissionError:
        raise UserError(f"{path}: no permission to read this file. Change its permissions or its owner.") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror or error}.") from None


def _read_file(path: Path, modalities: Sequence[Modality], label: str, task: str) -> Fields:
    start = _start(path)
    if not start:
        raise UserError(f"{path}: the file is empty. Copy it again.")
    if start.startswith(b"PK"):
        if path.name.startswith("label") and merbench.recognise(path.parent):
            return merbench.read_fields(path.parent, modalities)
        _check_zip(path)
        return npz.read_fields(path)
    if _is_pickle(path, start):
        return _read_pickle(path, modalities)
    for (place, magic), what in _MAGIC.items():
        if start.startswith(magic, place):
            raise UserError(f"{path}: this is {what}. What is read:\n{LAYOUTS}\n{_CONVERT}")
    if b"\0" in start and not start.startswith(_UTF16):
        raise UserError(f"{path}: this is a binary file of no kind that is known. What is read:\n{LAYOUTS}\n{_CONVERT}")
    return tables.read_fields(path, label, task)


def _is_pickle(path: Path, start: bytes) -> bool:
    """Protocols from 2 begin with their number; older ones are text, and are known by the suffix or their first
    instructions."""
    if start[0] == 0x80:
        return True
    if path.suffix.lower() in (".pkl", ".pickle", ".p", ".pk"):
        return True
    return start[:2] in (b"(d", b"(l", b"(S", b"(V", b"((", b"}q", b"]q", b"(]", b"(}") or start[:3] in (b"cnu", b"cco")


def _read_pickle(path: Path, modalities: Sequence[Modality]) -> Fields:
    data = unpickle.load(path)
    if layout := dialogue_tuples.recognise(data):
        parts = list(data)
        del data  # the reader empties the parts
        return dialogue_tuples.read_fields(path, parts, layout, modalities)
    if mmsa.recognise(data):
        return mmsa.read_fields(path, data)
    if isinstance(data, int) and data == _TORCH:
        raise UserError(f"{path}: this is {_PYTORCH}. What is read:\n{LAYOUTS}\n{_CONVERT}")
    raise UserError(
        f"{path}: a pickle of no layout that is known. It holds {describe(data)}\nWhat is read:\n{LAYOUTS}\n{_CONVERT}"
    )


def describe(value: Any, depth: int = 0) -> str:
    """What a container holds: types, lengths and widths, two levels deep.

    Args:
      value: what was read.
      depth: how deep it lies in the whole.

    Returns:
      Lines of text, of a length that does not depend on the file's.
    """
    lines = _described(value, depth).split("\n")
    shown = [short(line, 120) for line in lines[:_MOST_LINES]]
    return "\n".join(shown + (["  …"] if len(lines) > _MOST_LINES else []))


def _described(value: Any, depth: int) -> str:
    indent = "\n" + "  " * (depth + 1)
    if isinstance(value, dict):
        keys = list(value)[:12]
        shown = "".join(f"{indent}{str(k)[:40]!r}: {_inner(value[k], depth)}" for k in keys)
        more = f"{indent}… and {len(value) - 12} more" if len(value) > 12 else ""
        return f"a dictionary of {len(value)}:{shown}{more}"
    if isinstance(value, list | tuple):
        shown = "".join(f"{indent}{i}: {_inner(v, depth)}" for i, v in enumerate(value[:16]))
        more = f"{indent}… and {len(value) - 16} more" if len(value) > 16 else ""
        return f"a {type(value).__name__} of {len(value)}:{shown}{more}"
    return kind(value)


def _inner(value: Any, depth: int) -> str:
    if depth < 1 and isinstance(value, dict) and value and all(isinstance(v, dict) for v in list(value.values())[:3]):
        return _described(value, depth + 1)
    if depth < 1 and isinstance(value, dict) and all(isinstance(k, str) for k in list(value)[:3]) and len(value) < 13:
        return _described(value, depth + 1)
    if isinstance(value, dict) and value:
        key, first = next(iter(value.items()))
        return f"dictionary of {len(value)}, such as {str(key)[:40]!r}: {_nested(first)}"
    return _nested(value)


def _nested(value: Any) -> str:
    """`list of 5 of list of 100 of float`."""
    words = []
    for _ in range(4):
        words.append(kind(value))
        inner = as_sequence(value)
        if inner is None or not len(inner) or (isinstance(inner, np.ndarray) and inner.dtype.kind != "O"):
            break
        value = inner[0]
        if is_number(value):
            words.append(type(value).__name__)
            break
    return " of ".join(words)
