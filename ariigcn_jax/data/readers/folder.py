"""Read and write the project's own format: a folder that any language can write, and whose features stay on disk.

    schema.json      what is here, below
    utterances.csv   one row an utterance, UTF-8, RFC 4180; or utterances.jsonl, one object an utterance
    <modality>.npy   [U, d] float32 (float16 and float64 are converted), C order, row i is the i-th utterance

Columns of utterances: `dialogue_id` (required), `turn`, `utterance_id`, `speaker`, `split`, `transcript`, a column for
each target (a class's name, empty where there is no label), and `<modality>_present` (true or false). Other columns are
passed over. The rows of a dialogue follow one another in the order of `turn`; where they do not, they are sorted while
reading, and the features are copied into memory.

    {"format": "ariigcn-corpus", "version": 1, "name": "mine", "utterances": 7433, "table": "utterances.csv",
     "targets": {"label": {"classes": ["sad", "happy"]}},
     "modalities": {"text": {"file": "text.npy", "width": 768}},
     "checksums": {"utterances.csv": "sha256:…", "text.npy": "sha256:…"},
     "notes": ["…"]}

A target that is no class is {"scores": [-3, 3]}, a number a cell, or {"labels": ["happy", "sad"]}, names with | between
or `none`; a cell without a label is empty. `checksums` and `notes` may be left out.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ariigcn_jax.data import targets as truths
from ariigcn_jax.data.fields import Fields, listed, text_array
from ariigcn_jax.data.labels import MOST
from ariigcn_jax.data.readers import tables, text
from ariigcn_jax.data.values import kind, load_array, short
from ariigcn_jax.types import UNLABELED, Corpus, UserError

FORMAT, VERSION = "ariigcn-corpus", 1
RANGE = [-MOST, MOST]
Target = tuple[np.ndarray, tuple[str, ...]]
SCHEMA, TABLE = "schema.json", "utterances.csv"
_FILE_NAME = re.compile(r"[^/\\\0]+\.(npy|csv|jsonl)")
_LARGEST_SCHEMA = 16 * 2**20


def recognise(folder: Path) -> bool:
    """Return whether a folder holds this format."""
    return (folder / SCHEMA).is_file()


def read_fields(folder: Path) -> Fields:
    """Return the fields of a folder, targets by their names; its features are memory-mapped.

    Raises:
      UserError: the folder is not what its schema says, or a file has another checksum.
    """
    schema = _read_schema(folder / SCHEMA)
    fields = Fields(folder, {}, name=schema["name"])
    fields.notes.extend(schema["notes"])
    _verify(folder, schema)
    if not schema["checksums"]:
        fields.note(f"{SCHEMA} has no checksums: damage to the files would not be seen")
    table, notes = tables.frame(folder / schema["table"], delimiter=",")
    fields.notes.extend(notes)
    table = table.where(table.notna(), None)
    utterances = schema["utterances"]
    if len(table) != utterances:
        raise UserError(f"{folder / schema['table']}: it has {len(table)} rows, but {SCHEMA} says {utterances}.")
    _read_columns(fields, {name: [_cell(v) for v in table[name].tolist()] for name in table}, schema)
    for modality, entry in schema["modalities"].items():
        array = load_array(folder / entry["file"], mmap=True)
        if array.shape != (utterances, entry["width"]) or array.dtype.kind != "f":
            said = f"{SCHEMA} says floats [{utterances}, {entry['width']}]"
            raise UserError(f"{folder / entry['file']}: it is {kind(array)}, but {said}.")
        fields.arrays[modality] = array
    return fields


def write(
    corpus: Corpus,
    folder: str | Path,
    *,
    targets: Mapping[str, Target] | None = None,
    overwrite: bool = False,
) -> Path:
    """Write a corpus, whole or not at all.

    Args:
      corpus: any corpus.
      folder: made; its parents too.
      targets: further ones, name -> ([U] int with -1 for none, names of the classes), or scores, name -> ([U] float
        with NaN for none, ()), or several labels, name -> ([U, O] float, O names).
      overwrite: whether a corpus that is there already is replaced. Nothing else ever is.

    Returns:
      The folder.

    Raises:
      UserError: it is there already, or cannot be written.
    """
    folder = Path(folder)
    check_place(folder, overwrite)
    temporary = folder.parent / f".{folder.name}.{os.getpid()}.tmp"
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir()
        _write_into(corpus, temporary, {"label": _truth(corpus), **(targets or {})})
        _replace(temporary, folder)
    except OSError as error:
        raise UserError(
            f"{folder}: cannot be written: {error.strerror or error}. Free space or permission there, or choose "
            "another place."
        ) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return folder


def check_place(folder: Path, overwrite: bool) -> None:
    """Refuse to write a corpus where something is.

    Args:
      folder: where it is to be written.
      overwrite: whether a corpus that is there may be replaced.

    Raises:
      UserError: it may not be written there.
    """
    if not os.path.lexists(folder) or (folder.is_dir() and not folder.is_symlink() and not any(folder.iterdir())):
        return
    if not folder.is_dir() or not recognise(folder):
        raise UserError(f"{folder}: something else is there already. Choose another place.")
    if not overwrite:
        raise UserError(f"{folder}: a corpus is there already. Choose another place, or --overwrite.")


# Reading


def _read_schema(path: Path) -> dict[str, Any]:
    try:
        if path.stat().st_size > _LARGEST_SCHEMA:
            raise UserError(f"{path}: {path.stat().st_size:,} bytes is no schema.")
        schema = json.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise text.unreadable(path, error) from None
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: is no JSON: {short(error)}. Write it again.") from None
    if not isinstance(schema, dict) or schema.get("format") != FORMAT:
        raise UserError(f'{path}: has no "format": "{FORMAT}", so this folder is something else.')
    version = schema.get("version")
    if type(version) is int and version > VERSION:
        raise UserError(f"{path}: version {version} of the format; this release reads up to {VERSION}. Update it.")
    defaults: dict[str, Any] = {"table": TABLE, "checksums": {}, "notes": [], "name": path.parent.name}
    schema = defaults | schema
    for key, (fits, need) in _NEEDS.items():
        if not fits(schema.get(key)):
            raise UserError(f'{path}: "{key}" is {short(json.dumps(schema.get(key)), 60)}; it must be {need}.')
    for target in schema["targets"].values():
        if problem := truths.unwritable(target.get("labels", ())):
            raise UserError(f'{path}: "targets": {problem}. {truths.WRITABLE}.')
    return schema


def _is_target(target: Any) -> bool:
    if not isinstance(target, dict) or target.get("scores") == RANGE:
        return isinstance(target, dict)
    classes: Any = target.get("classes", target.get("labels"))
    return _is_texts(classes) and all(classes) and len(set(classes)) == len(classes)


def _is_modality(entry: Any) -> bool:
    return isinstance(entry, dict) and _is_count(entry.get("width")) and _is_file(entry.get("file"), ".npy")


def _is_count(value: Any) -> bool:
    return type(value) is int and value >= 1


def _is_file(name: Any, *suffixes: str) -> bool:
    return isinstance(name, str) and _FILE_NAME.fullmatch(name) is not None and name.endswith(suffixes)


def _is_texts(values: Any) -> bool:
    return isinstance(values, list) and all(isinstance(value, str) for value in values)


_NEEDS = {  # key of a schema -> what it must be, as a test and in words
    "version": (_is_count, f"{VERSION}"),
    "utterances": (_is_count, "their number, at least 1"),
    "table": (lambda v: _is_file(v, ".csv", ".jsonl"), "the name of a .csv or .jsonl file in the folder"),
    "name": (lambda v: isinstance(v, str), "text"),
    "targets": (
        lambda v: isinstance(v, dict) and all(map(_is_target, v.values())),
        '{"label": {"classes": [names, each once]}}, or "labels" alike, or "scores": [-3, 3]',
    ),
    "modalities": (
        lambda v: isinstance(v, dict) and v and all(map(_is_modality, v.values())),
        '{"text": {"file": "text.npy", "width": 768}}, at least one',
    ),
    "checksums": (
        lambda v: isinstance(v, dict) and all(isinstance(s, str) and s.startswith("sha256:") for s in v.values()),
        '{"text.npy": "sha256:…"}',
    ),
    "notes": (_is_texts, "a list of texts"),
}


def _verify(folder: Path, schema: Mapping[str, Any]) -> None:
    known = {schema["table"], *(entry["file"] for entry in schema["modalities"].values())}
    for name in sorted(known & set(schema["checksums"])):
        found, said = checksum(folder / name), schema["checksums"][name].lower()
        if found != said:
            raise UserError(
                f"{folder / name}: it is not the file that {SCHEMA} was written for (SHA-256 {found[7:19]}… instead of "
                f"{said[7:19]}…). Copy it again; or, if it was changed on purpose, take its checksum out of the schema."
            )


def checksum(path: Path) -> str:
    """Return a file's SHA-256, as a schema has it."""
    try:
        with path.open("rb") as file:
            return f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"
    except OSError as error:
        raise text.unreadable(path, error) from None


def _cell(value: Any) -> str:
    """Return a cell as text; JSON Lines have null, true and numbers, too."""
    words = "" if value is None else str(value)
    return words.lower() if isinstance(value, bool) else words


def _read_columns(fields: Fields, columns: dict[str, list[str]], schema: Mapping[str, Any]) -> None:
    for name in ("dialogue_id", "utterance_id", "speaker", "split", "transcript"):
        if name in columns:
            fields.arrays[name] = text_array(columns[name])
    if "turn" in columns:
        try:
            fields.arrays["turn"] = np.array([float(cell) for cell in columns["turn"]])
        except ValueError as error:
            raise fields.refusal("turn", str(error), "It must hold numbers") from None
    for name, target in schema["targets"].items():
        if name not in columns:
            raise fields.refusal(name, f"is a target of {SCHEMA} and no column", f"There are {listed(list(columns))}")
        fields.arrays[name], names = _read_target(fields, name, columns[name], target)
        if names:
            fields.arrays[f"{name}_names"] = text_array(names)
    for modality in schema["modalities"]:
        cells = columns.get(f"{modality}_present")
        if cells is not None:
            if not set(cells) <= {"true", "false"}:
                raise fields.refusal(f"{modality}_present", "holds something else", "It must hold true and false")
            fields.arrays[f"{modality}_present"] = np.array(cells) == "true"


def _read_target(fields: Fields, name: str, cells: list[str], target: Mapping[str, Any]) -> Target:
    if "classes" not in target:
        try:
            return (truths.LABELS if "labels" in target else truths.SCORE).parse(cells, target.get("labels"))
        except UserError as error:
            raise fields.refusal(name, str(error).rstrip("."), "Correct it") from None
    number = {c: i for i, c in enumerate(target["classes"])} | {"": UNLABELED}
    if unknown := sorted(set(cells) - set(number)):
        problem = f"has the value {unknown[0][:60]!r}, which {SCHEMA} does not list"
        raise fields.refusal(name, problem, "Add it to the classes, or leave the cell empty")
    return np.array([number[cell] for cell in cells]), tuple(target["classes"])


# Writing


def _truth(corpus: Corpus) -> Target:
    target = truths.of(corpus.task)
    if target is None or corpus.target is None:
        return corpus.label, corpus.label_names
    known = np.where((corpus.label >= 0)[:, None], corpus.target, np.nan)
    return target.column(known, corpus.target_names)


def _target(values: np.ndarray, names: tuple[str, ...]) -> tuple[dict[str, Any], list[str]]:
    """Return a target's entry in the schema, and its column."""
    if values.ndim == 2:
        cells = ["" if np.isnan(row).any() else truths.joined(row, names) for row in values]
        return {"labels": list(names)}, cells
    if values.dtype.kind == "f":
        return {"scores": RANGE}, ["" if np.isnan(v) else repr(v) for v in values.tolist()]
    return {"classes": list(names)}, [names[v] if v >= 0 else "" for v in values.tolist()]


def _write_into(corpus: Corpus, folder: Path, targets: Mapping[str, Target]) -> None:
    files = {m: f"{re.sub(r'[^A-Za-z0-9_.-]+', '-', m)}.npy" for m in corpus.modalities}
    if len(set(files.values())) < len(files):
        files = {m: f"modality{i}.npy" for i, m in enumerate(corpus.modalities)}
    for name, (_, classes) in targets.items():
        if "" in classes:
            raise UserError(f"the target {name!r} has a class without a name, which means no label in this format.")
    described = {name: _target(np.asarray(values), names) for name, (values, names) in targets.items()}
    _write_table(corpus, folder / TABLE, {name: cells for name, (_, cells) in described.items()})
    for modality, file in files.items():
        _write_array(folder / file, corpus.features[modality])
    schema = {
        "format": FORMAT,
        "version": VERSION,
        "name": corpus.name,
        "utterances": len(corpus),
        "table": TABLE,
        "targets": {name: entry for name, (entry, _) in described.items()},
        "modalities": {m: {"file": files[m], "width": corpus.widths[m]} for m in corpus.modalities},
        "checksums": {name: checksum(folder / name) for name in (TABLE, *files.values())},
        "notes": list(corpus.notes),
    }
    (folder / SCHEMA).write_text(json.dumps(schema, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    for path in folder.iterdir():
        with path.open("rb") as written:
            os.fsync(written.fileno())


def _write_table(corpus: Corpus, path: Path, targets: Mapping[str, list[str]]) -> None:
    import pandas as pd

    dialogue = pd.Series(corpus.dialogue)
    columns: dict[str, Any] = {
        "dialogue_id": [corpus.dialogue_ids[d] for d in corpus.dialogue.tolist()],
        "turn": dialogue.groupby(dialogue).cumcount(),
        "utterance_id": list(corpus.utterance_ids),
        "split": corpus.split,
        "speaker": corpus.speaker_names,
        **targets,
        **{f"{m}_present": np.where(present, "true", "false") for m, present in corpus.present.items()},
        "transcript": corpus.transcript,
    }
    table = pd.DataFrame({name: column for name, column in columns.items() if column is not None})
    table.to_csv(path, index=False, lineterminator="\r\n", encoding="utf-8", errors="backslashreplace")


def _write_array(path: Path, array: np.ndarray) -> None:
    np.save(path, np.ascontiguousarray(array, "<f4"), allow_pickle=False)  # no copy of a memory-mapped one


def _replace(temporary: Path, folder: Path) -> None:
    """Move a folder to its place. What was there goes only once the new one is there."""
    aside = folder.parent / f".{folder.name}.{os.getpid()}.old"
    if not recognise(folder):
        os.rename(temporary, folder)  # over nothing, or an empty folder
        return
    os.rename(folder, aside)
    try:
        os.rename(temporary, folder)
    except OSError:
        os.rename(aside, folder)
        raise
    shutil.rmtree(aside, ignore_errors=True)
