"""Recognise how a corpus is stored, by what is in the file or folder and not by its name, and read it.

A new layout is a module with its reader and an entry in `READERS`.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import re
import shlex
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ariigcn_jax.data.fields import Fields, listed
from ariigcn_jax.data.readers import (
    columns,
    dialogue_tuples,
    folder,
    merbench,
    mmsa,
    npz,
    pickles,
    recordings,
    tables,
    text,
    transcripts,
)
from ariigcn_jax.data.values import as_sequence, is_number, kind, short
from ariigcn_jax.types import Modality, UserError

_CONVERT = """\
To convert: in Python, load what you have and write one .npz of plain arrays, which `python -m tools.prepare inspect`
then checks:

    numpy.savez("mine.npz", dialogue_id=…, turn=…, speaker=…, label=…, label_names=…, split=…, transcript=…,
                text=…, audio=…)    # one row an utterance; text and audio are [utterances, features] float32"""

_SOUND = "a sound or video file"
_PAGE = "a web page; the download may have asked for a sign-in or a confirmation, so fetch it with a browser"
_PYTORCH = "a PyTorch file; read it with torch.load and write its tensors as arrays with numpy.savez"
_MAGIC = (  # place in a file, what is there, and what the file then is
    (0, b"\x89HDF", "an HDF5 file (.h5, or .mat of MATLAB 7.3); read it with h5py and write it with numpy.savez"),
    (0, b"\x1f\x8b", "compressed by gzip; unpack it first"),
    (0, b"\xfd7zX", "compressed by xz; unpack it first"),
    (0, b"BZh", "compressed by bzip2; unpack it first"),
    (0, b"7z\xbc\xaf", "a 7z archive; unpack it first"),
    (0, b"Rar!", "a RAR archive; unpack it first"),
    (257, b"ustar", "a tar archive; unpack it first"),
    (0, b"SQLite format 3", "an SQLite database; write its table as CSV"),
    (0, b"\xd0\xcf\x11\xe0", "an Excel or other Office file; save the sheet as CSV UTF-8"),
    (0, b"\x93NUM", "a single .npy array; a corpus needs labels and dialogues too"),
    (0, b"MATL", "a MATLAB file; write its arrays with scipy.io.loadmat and numpy.savez"),
    (0, (b"RIFF", b"ID3", b"OggS", b"fLaC", b"\x1a\x45\xdf\xa3"), _SOUND),
    (4, b"ftyp", _SOUND),
    (0, (b"<!DOCTYPE", b"<!doctype", b"<html"), _PAGE),
    (4, b'\0\0\0\0{"', "a safetensors file; read it with safetensors.numpy and write its arrays with numpy.savez"),
    (0, b"version https://git-lfs", "a Git LFS pointer and not the file; fetch it by git lfs pull"),
)
_ZIPPED = {  # what a member's name tells of an archive that holds no arrays
    r"xl/.*": "an Excel workbook; save the sheet as CSV UTF-8",
    r"(word|ppt)/.*|mimetype": "an Office document; save the table as CSV UTF-8",
    r"[^/]+/data\.pkl": _PYTORCH,
}
_TORCH = 0x1950A86A20F9469CFC6C  # what torch.save wrote first before it wrote archives
_PICKLE_STARTS = (b"(d", b"(l", b"(S", b"(V", b"((", b"}q", b"]q", b"(]", b"(}", b"cnu", b"cco")  # of protocols 0 and 1
_TEXTS = (".txt", ".srt", ".vtt")
_MOST_LINES = 30  # of a description


@dataclasses.dataclass
class Source:
    """A file or folder that is to be read, and what is asked of it.

    Attributes:
      path: the file or folder.
      modalities: those asked for; some layouts hold more than they give unasked.
      label: the field of the labels, where it is the name of a column.
      task: what the labels are, where they are text.
    """

    path: Path
    modalities: Sequence[Modality] = ()
    label: str = "label"
    task: str = "classification"

    @functools.cached_property
    def start(self) -> bytes:
        """Return the first 4,096 bytes of a file; none of a folder."""
        return b"" if self.path.is_dir() else text.start(self.path)

    @property
    def is_pickle(self) -> bool:
        """Return whether the file is a pickle: protocols from 2 begin with 0x80, older ones are text."""
        if self.path.suffix.lower() in _TEXTS:  # which may begin with a bracket
            return False
        named = bool(self.start) and self.path.suffix.lower() in (".pkl", ".pickle", ".p", ".pk")
        return (named and not self.start.startswith(b"PK")) or self.start.startswith((b"\x80", *_PICKLE_STARTS))

    @functools.cached_property
    def content(self) -> Any:
        """Return what a pickle holds; None for other files."""
        return pickles.load(self.path) if self.is_pickle else None

    def take(self) -> Any:
        """Return what a pickle holds and forget it, so that its reader may free it part by part."""
        content = self.content
        del self.content
        return content


class Layout(NamedTuple):
    """A way to store a corpus: a line for people, a test of a source, and the fields of a source, not validated."""

    about: str
    recognise: Callable[[Source], bool]
    read: Callable[[Source], Fields]


def _is_table(source: Source) -> bool:
    if source.path.is_dir():
        return bool(tables.recognise(source.path))
    return tables.is_arrow(source.start) or _is_readable(source)


def _is_readable(source: Source) -> bool:
    """Return whether a source is a folder, or may be text."""
    return source.path.is_dir() or not (source.is_pickle or _unread_type(source))


def _merbench(source: Source) -> Path:
    """Return the folder of MERBench that a source may be, or be the label.npz of."""
    labels = source.start.startswith(b"PK") and source.path.name.startswith("label")
    return source.path.parent if labels else source.path


# The last one is asked first, so that a layout that is added need not know of the others.
READERS: dict[str, Layout] = {
    "tables": Layout(
        "tables: .csv, .tsv, .json, .jsonl, Parquet, Arrow, one row an utterance, or JSON nested by dialogue; or\n"
        "  folders with train, dev and test tables, or of Hugging Face's save_to_disk",
        _is_table,
        lambda source: tables.read_fields(source.path, source.label, source.task),
    ),
    "transcripts": Layout(
        "conversations: a chat (.txt, `Ann: …` a line), .srt, .vtt, JSON of whisper, WhisperX or FunASR, with .rttm\n"
        "  beside; or folders of these, or of tables with speakers and transcripts, one file a conversation",
        lambda source: _is_readable(source) and transcripts.recognise(source.path),
        lambda source: transcripts.read_fields(source.path, source.label, source.task),
    ),
    "npz": Layout(
        ".npz of plain arrays, one row an utterance",
        lambda source: source.start.startswith(b"PK") and not _unread_type(source),
        lambda source: npz.read_fields(source.path, source.label, source.task),
    ),
    "merbench": Layout(
        "folders of MERBench: features/<feature>/<utterance>.npy and label.npz or label.csv",
        lambda source: merbench.recognise(_merbench(source)),
        lambda source: merbench.read_fields(_merbench(source), source.modalities),
    ),
    "dialogue_tuples": Layout(
        "pickles of DialogueRNN, DialogueGCN, MMGCN, MM-DFN, COGMEN, M3NET, SDT, GraphSmile, AGF-IB, COSMIC, DAG-ERC",
        lambda source: dialogue_tuples.recognise(source.content) is not None,
        lambda source: dialogue_tuples.read_fields(source.path, list(source.take()), source.modalities),
    ),
    "mmsa": Layout(
        "pickles of MMSA: {train, valid, test} → {id, raw_text, text, audio, vision, …_labels}",
        lambda source: mmsa.recognise(source.content),
        lambda source: mmsa.read_fields(source.path, source.take()),
    ),
    "folder": Layout(
        "folders of this project's own format (python -m tools.prepare convert writes them)",
        lambda source: folder.recognise(source.path),
        lambda source: folder.read_fields(source.path),
    ),
}


def listing() -> str:
    """Return the layouts that are read, one a line."""
    return "\n".join(f"  {layout.about}" for layout in READERS.values())


@np.errstate(over="ignore", invalid="ignore")  # what is not finite becomes missing, and is noted
def read_fields(
    path: Path,
    *,
    modalities: Sequence[Modality] = (),
    label: str = "label",
    task: str = "classification",
    words: bool = False,
    recorded: Sequence[Modality] = (),
    recording: Path | None = None,
) -> Fields:
    """Recognise and read a corpus, and return its fields, not validated.

    The arguments are those of `Source`; with `words` transcripts are enough, without features, and with `recorded`,
    modalities that recordings give, so are these. `recording` is that of the only conversation, which its times cut.

    Raises:
      UserError: it is of no layout that is known (says what was found and how to convert), or cannot be read.
    """
    source = Source(path, modalities, label, task)
    with text.reading(path):
        if not path.is_dir() and not source.start:
            raise UserError(f"{path}: the file is empty. Copy it again.")
        layout = next((one for one in reversed(READERS.values()) if one.recognise(source)), None)
        if layout is None:
            raise UserError(f"{path}: {_refusal(source)}")
        fields = layout.read(source)
    if recording is not None:
        recordings.take(fields, recording)
    if layout is not READERS["npz"] or (words and "transcript" in fields.arrays):
        transcripts.check(fields, words, bool(recorded))
    return fields


def _unread_type(source: Source) -> str:
    """Return the type of a file that no layout reads; "" for others."""
    start = source.start
    if start.startswith(b"PK"):
        return _archive_type(source.path)
    found = next((what for place, magic, what in _MAGIC if start.startswith(magic, place)), "")
    is_binary = b"\0" in start and not text.wide_codec(start)
    if b"\0" in start and source.path.suffix.lower() in columns.MEDIA:
        return _SOUND
    return found or ("a binary file of no kind that is known" if is_binary else "")


def _archive_type(path: Path) -> str:
    """Return the type of an archive without arrays; "" for others, and for damaged ones, which the reader refuses."""
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.namelist()
    except Exception:  # zipfile raises many kinds
        return ""
    if not members or any(name.endswith(".npy") for name in members):
        return ""
    known = (what for form, what in _ZIPPED.items() if any(re.fullmatch(form, name) for name in members))
    return next(known, f"a zip archive of {listed(members[:20])}; unpack it first")


def _refusal(source: Source) -> str:
    if source.path.is_dir():
        inside = sorted(p.name + ("/" if p.is_dir() else "") for p in source.path.iterdir())
        media = any(name.lower().endswith(columns.MEDIA) for name in inside)
        remedy = "Features are extracted from sound and video by python -m tools.features. " if media else ""
        more = " and more" if len(inside) > 20 else ""
        return (
            f"this is a folder, and of no layout that is known. It holds {listed(inside[:20])}{more}. "
            f"{remedy}Give the path of a file in it, or one of these:\n{listing()}"
        )
    if (found := _unread_type(source)) == _SOUND:
        command = f"whisperx {shlex.quote(source.path.name)} --diarize --output_format json"
        return (
            f"this is {found}, and its words are not written down. What the recognisers WhisperX, whisper and FunASR "
            f"write is read: run `{command}`, and give {source.path.stem}.json."
        )
    what = f"{found}. "
    if source.is_pickle:
        torch = isinstance(source.content, int) and source.content == _TORCH
        unknown = f"a pickle of no layout that is known. It holds {describe(source.content)}\n"
        what = f"{_PYTORCH}. " if torch else unknown
    return f"this is {what}What is read:\n{listing()}\n{_CONVERT}"


def describe(value: Any, depth: int = 0) -> str:
    """Return what a container holds: types, lengths and widths, in a text whose length does not depend on the file's.

    Below two levels, which `depth` counts, the first item stands for all.
    """
    named = isinstance(value, dict)
    if not named and not isinstance(value, list | tuple):
        return kind(value)
    lines = [f"a {'dictionary' if named else type(value).__name__} of {len(value)}:"]
    for key, inner in itertools.islice(value.items() if named else enumerate(value), 16):
        # tables of a few names, or of dictionaries, such as the splits of a corpus, are shown one level deeper
        shown = isinstance(inner, dict) and inner and (len(inner) < 13 or isinstance(_first(inner), dict))
        about = describe(inner, depth + 1) if depth < 1 and shown else _nested(inner)
        lines.append(f"{repr(str(key)[:40]) if named else key}: {about}")
    if len(value) > 16:
        lines.append(f"… and {len(value) - 16} more")
    lines = "\n".join(lines).replace("\n", "\n  ").split("\n")  # one of an inner container is several
    return "\n".join([short(line, 120) for line in lines[:_MOST_LINES]] + ["  …"] * (len(lines) > _MOST_LINES))


def _first(value: Any) -> Any:
    return next(iter(value.values()))


def _nested(value: Any) -> str:
    """Return the likes of `list of 5 of list of 100 of float`, or `dictionary of 7, such as 'd1': list of 5 of str`."""
    if isinstance(value, dict) and value:
        about = kind(_first(value)) if isinstance(_first(value), dict) else _nested(_first(value))
        return f"dictionary of {len(value)}, such as {str(next(iter(value)))[:40]!r}: {about}"
    words = [kind(value)]
    while len(words) < 4 and (inner := as_sequence(value)) is not None and len(inner):
        if isinstance(inner, np.ndarray) and inner.dtype.kind != "O":
            break
        value = inner[0]
        words.append(type(value).__name__ if is_number(value) else kind(value))
    return " of ".join(words)
