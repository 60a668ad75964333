"""Read and write the project's own format: a folder that any language can write, and whose features stay on disk.

    schema.json      what is here, below
    utterances.csv   one row an utterance, UTF-8, RFC 4180; or utterances.jsonl, one object an utterance
    <modality>.npy   [U, d] float32 (float16 and float64 are converted), C order, row i is the i-th utterance

Columns of utterances: `dialogue_id` (required), `turn`, `utterance_id`, `speaker`, `split`, `transcript`, one for each
target, and `<modality>_present` (true or false). Others are ignored. The rows of a dialogue follow one another in
the order of `turn`; where they do not, they are sorted while reading, and the features are copied into memory.

    {"format": "ariigcn-corpus", "version": 1, "name": "mine", "utterances": 7433, "table": "utterances.csv",
     "targets": {"label": {"classes": ["sad", "happy"]}},
     "modalities": {"text": {"file": "text.npy", "width": 768}},
     "checksums": {"utterances.csv": "sha256:…", "text.npy": "sha256:…"},
     "notes": ["…"]}

A modality may also have a "recipe", an object that says how its features were made (`features.recordings`).

A cell of a target with classes is the name of one. A target may also be {"scores": [-3, 3]}, a number a cell, or
{"labels": ["happy", "sad"]}, names with | between or `none`. A cell without a label is empty. `table`, `name`,
`checksums` and `notes` may be left out.
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

from ariigcn_jax import files
from ariigcn_jax.data import targets as truths
from ariigcn_jax.data.fields import Fields, listed, text_array
from ariigcn_jax.data.labels import MOST
from ariigcn_jax.data.readers import tables, text
from ariigcn_jax.data.values import kind, load_array, short
from ariigcn_jax.types import UNLABELED, Corpus, UserError

FORMAT, VERSION = "ariigcn-corpus", 1
SCHEMA, TABLE = "schema.json", "utterances.csv"
Target = tuple[np.ndarray, tuple[str, ...]]
_RANGE = [-MOST, MOST]
_LARGEST_SCHEMA = 16 * 2**20


def recognise(folder: Path) -> bool:
    """Return whether a folder holds this format."""
    return (folder / SCHEMA).is_file()


# Reading


def read_fields(folder: Path) -> Fields:
    """Return the fields of a folder, targets by their names; its features are memory-mapped.

    Raises:
      UserError: the folder is not what its schema says, or a file has another checksum.
    """
    schema = _read_schema(folder / SCHEMA)
    table_path, utterances = folder / schema["table"], schema["utterances"]
    arrays = {modality: folder / entry["file"] for modality, entry in schema["modalities"].items()}
    for path in sorted({table_path, *arrays.values()}):
        expected, found = schema["checksums"].get(path.name, "").lower(), ""
        if expected and (found := checksum(path)) != expected:
            raise UserError(
                f"{path}: it is not the file that {SCHEMA} was written for (SHA-256 {found[7:19]}… instead of "
                f"{expected[7:19]}…). Copy it again; or, if it was changed on purpose, take its checksum out of the "
                "schema."
            )
    fields = Fields(folder, {}, name=schema["name"])
    fields.notes.extend(schema["notes"])
    if not schema["checksums"]:
        fields.note(f"{SCHEMA} has no checksums: damage to the files would not be seen")
    table, notes = tables.frame(table_path, delimiter=",")
    fields.notes.extend(notes)
    if len(table) != utterances:
        raise UserError(f"{table_path}: it has {len(table)} rows, but {SCHEMA} says {utterances}.")
    table = table.where(table.notna(), None)
    _read_columns(fields, {name: [_cell(v) for v in table[name].tolist()] for name in table}, schema)
    for modality, path in arrays.items():
        array, width = load_array(path, mmap=True), schema["modalities"][modality]["width"]
        if array.shape != (utterances, width) or array.dtype.kind != "f":
            raise UserError(f"{path}: it is {kind(array)}, but {SCHEMA} says floats [{utterances}, {width}].")
        fields.arrays[modality] = array
    if recipes := {m: entry["recipe"] for m, entry in schema["modalities"].items() if "recipe" in entry}:
        fields.arrays["provenance"] = np.array(json.dumps(recipes))
    return fields


def _read_schema(path: Path) -> dict[str, Any]:
    try:
        if path.stat().st_size > _LARGEST_SCHEMA:
            raise UserError(f"{path}: {path.stat().st_size:,} bytes is no schema.")
        schema = json.loads(text.read(path))
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: is no JSON: {short(error)}. Write it again.") from None
    if not isinstance(schema, dict) or schema.get("format") != FORMAT:
        raise UserError(f'{path}: has no "format": "{FORMAT}", so this folder is something else.')
    version = schema.get("version")
    if type(version) is int and version > VERSION:
        raise UserError(f"{path}: version {version} of the format; this release reads up to {VERSION}. Update it.")
    defaults: dict[str, Any] = {"table": TABLE, "checksums": {}, "notes": [], "name": path.parent.name}
    schema = defaults | schema
    for key, (form, need) in _NEEDS.items():
        if not _fits(schema.get(key), form):
            raise UserError(f'{path}: "{key}" is {short(json.dumps(schema.get(key)), 60)}; it must be {need}.')
    for target in schema["targets"].values():
        if problem := truths.unwritable(target.get("labels", ())):
            raise UserError(f'{path}: "targets": {problem}. {truths.WRITABLE}.')
    return schema


def _fits(value: Any, form: Any) -> bool:
    """Return whether a value has a form: a pattern, [form], {key: form}, {...: form} with any keys, or a test."""
    if isinstance(form, re.Pattern):
        return isinstance(value, str) and form.fullmatch(value) is not None
    if isinstance(form, list):
        return isinstance(value, list) and all(_fits(each, form[0]) for each in value)
    if isinstance(form, dict):
        keys = value if ... in form and isinstance(value, dict) else form
        return isinstance(value, dict) and all(_fits(value.get(key), form.get(..., form.get(key))) for key in keys)
    return form(value)


def _is_count(value: Any) -> bool:
    return type(value) is int and value >= 1


def _is_target(target: Any) -> bool:
    if not isinstance(target, dict) or target.get("scores") == _RANGE:
        return isinstance(target, dict)
    names: Any = target.get("classes", target.get("labels"))
    return _fits(names, [_TEXT]) and all(names) and len(set(names)) == len(names)


_TEXT, _TABLE, _ARRAY = map(re.compile, ("(?s:.*)", r"[^/\\\0]+\.(csv|jsonl)", r"[^/\\\0]+\.npy"))
_NEEDS: dict[str, tuple[Any, str]] = {  # key of a schema -> what it must be, as a form for `_fits` and in words
    "version": (_is_count, str(VERSION)),
    "utterances": (_is_count, "their number, at least 1"),
    "table": (_TABLE, "the name of a .csv or .jsonl file in the folder"),
    "name": (_TEXT, "text"),
    "targets": ({...: _is_target}, '{"label": {"classes": [names, each once]}}, or "labels", or "scores": [-3, 3]'),
    "modalities": (
        lambda entries: bool(entries) and _fits(entries, {...: {"file": _ARRAY, "width": _is_count}}),
        '{"text": {"file": "text.npy", "width": 768}}, at least one',
    ),
    "checksums": ({...: re.compile("sha256:.*")}, '{"text.npy": "sha256:…"}'),
    "notes": ([_TEXT], "a list of texts"),
}


def checksum(path: Path) -> str:
    """Return a file's SHA-256, as a schema has it."""
    with path.open("rb") as file:
        return f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"


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
    for name in [f"{modality}_present" for modality in schema["modalities"]]:
        if name in columns:
            if not set(columns[name]) <= {"true", "false"}:
                raise fields.refusal(name, "holds something else", "It must hold true and false")
            fields.arrays[name] = np.array(columns[name]) == "true"


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


def write(
    corpus: Corpus, folder: str | Path, *, targets: Mapping[str, Target] | None = None, overwrite: bool = False
) -> Path:
    """Write a corpus, whole or not at all, and return the folder.

    Args:
      corpus: any corpus.
      folder: made; its parents too.
      targets: further ones, name -> ([U] int with -1 for none, names of the classes), or scores, name -> ([U] float
        with NaN for none, ()), or several labels, name -> ([U, O] float, O names).
      overwrite: whether a corpus that is there already is replaced. Nothing else ever is.

    Raises:
      UserError: something is there already, or the folder cannot be written.
    """
    folder = Path(folder)
    check_place(folder, overwrite)
    temporary, aside = (folder.parent / f".{folder.name}.{os.getpid()}.{end}" for end in ("tmp", "old"))
    try:
        with files.explaining(folder):
            folder.parent.mkdir(parents=True, exist_ok=True)
            shutil.rmtree(temporary, ignore_errors=True)
            temporary.mkdir()
            _write_into(corpus, temporary, targets or {})
            replaced = recognise(folder)
            if replaced:
                os.rename(folder, aside)
            try:
                os.rename(temporary, folder)
            except OSError:
                if replaced:
                    os.rename(aside, folder)
                raise
            shutil.rmtree(aside, ignore_errors=True)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return folder


def check_place(folder: Path, overwrite: bool) -> None:
    """Raise `UserError` where a corpus may not be written; `overwrite` lets one that is there be replaced."""
    if not os.path.lexists(folder) or (folder.is_dir() and not folder.is_symlink() and not any(folder.iterdir())):
        return
    if not folder.is_dir() or not recognise(folder):
        raise UserError(f"{folder}: something else is there already. Choose another place.")
    if not overwrite:
        raise UserError(f"{folder}: a corpus is there already. Choose another place, or --overwrite.")


def _write_into(corpus: Corpus, folder: Path, targets: Mapping[str, Target]) -> None:
    import pandas as pd

    label, target = (corpus.label, corpus.label_names), truths.of(corpus.task)
    if target is not None and corpus.target is not None:
        known = np.where((corpus.label >= 0)[:, None], corpus.target, np.nan)
        label = target.column(known, corpus.target_names)
    entries, cells = {}, {}
    for name, (values, names) in {"label": label, **targets}.items():
        if "" in names:
            raise UserError(f"the target {name!r} has a class without a name, which means no label in this format.")
        entries[name], cells[name] = _target(np.asarray(values), names)
    dialogue = pd.Series(corpus.dialogue)
    columns: dict[str, Any] = {
        "dialogue_id": [corpus.dialogue_ids[d] for d in corpus.dialogue.tolist()],
        "turn": dialogue.groupby(dialogue).cumcount(),
        "utterance_id": list(corpus.utterance_ids),
        "split": corpus.split,
        "speaker": corpus.speaker_names,
        **cells,
        **{f"{m}_present": np.where(present, "true", "false") for m, present in corpus.present.items()},
        "transcript": corpus.transcript,
    }
    table = pd.DataFrame({name: column for name, column in columns.items() if column is not None})
    table.to_csv(folder / TABLE, index=False, lineterminator="\r\n", encoding="utf-8", errors="backslashreplace")
    arrays = {m: f"{re.sub(r'[^A-Za-z0-9_.-]+', '-', m)}.npy" for m in corpus.modalities}
    if len(set(arrays.values())) < len(arrays):
        arrays = {m: f"modality{i}.npy" for i, m in enumerate(corpus.modalities)}
    for modality, file in arrays.items():
        rows = np.ascontiguousarray(corpus.features[modality], "<f4")  # no copy of a memory-mapped array
        np.save(folder / file, rows, allow_pickle=False)
    schema = {
        "format": FORMAT,
        "version": VERSION,
        "name": corpus.name,
        "utterances": len(corpus),
        "table": TABLE,
        "targets": entries,
        "modalities": {
            m: {"file": arrays[m], "width": corpus.widths[m]}
            | ({"recipe": dict(corpus.recipes[m])} if m in corpus.recipes else {})
            for m in corpus.modalities
        },
        "checksums": {name: checksum(folder / name) for name in (TABLE, *arrays.values())},
        "notes": list(corpus.notes),
    }
    (folder / SCHEMA).write_text(json.dumps(schema, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    for path in folder.iterdir():
        with path.open("rb") as written:
            os.fsync(written.fileno())


def _target(values: np.ndarray, names: tuple[str, ...]) -> tuple[dict[str, Any], list[str]]:
    """Return a target's entry in the schema, and its column."""
    if values.ndim == 2:
        cells = ["" if np.isnan(row).any() else truths.joined(row, names) for row in values]
        return {"labels": list(names)}, cells
    if values.dtype.kind == "f":
        return {"scores": _RANGE}, ["" if np.isnan(v) else repr(v) for v in values.tolist()]
    return {"classes": list(names)}, [names[v] if v >= 0 else "" for v in values.tolist()]
