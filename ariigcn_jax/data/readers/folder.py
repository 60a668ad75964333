"""The project's own format: a folder that any language can write, without pickle, whose features stay on disk.

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
or `none`; a cell without a label is empty.

`checksums` and `notes` may be left out. A reader refuses a version that is higher than the one it knows.
"""

from __future__ import annotations

import csv
import hashlib
import io
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
from ariigcn_jax.data.values import kind, load_array, short
from ariigcn_jax.types import UNLABELED, Corpus, UserError

FORMAT, VERSION = "ariigcn-corpus", 1
RANGE = [-MOST, MOST]
Target = tuple[np.ndarray, tuple[str, ...]]
SCHEMA, TABLE = "schema.json", "utterances.csv"
_TEXTS = ("dialogue_id", "utterance_id", "speaker", "split", "transcript")
_FILE_NAME = re.compile(r"[^/\\\0]+\.(npy|csv|jsonl)")
_LARGEST_SCHEMA = 16 * 2**20
_BLOCK_ROWS = 4096


def recognise(folder: Path) -> bool:
    """Whether a folder holds this format."""
    return (folder / SCHEMA).is_file()


def read_fields(folder: Path, *, verify: bool = True) -> Fields:
    """The fields of a folder; its features are memory-mapped.

    Args:
      folder: as above.
      verify: whether to hold each file against its checksum.

    Returns:
      Its fields. Targets other than `label` are fields by their names.

    Raises:
      UserError: the folder is not what its schema says.
    """
    schema = _read_schema(folder / SCHEMA)
    fields = Fields(folder, {}, name=schema["name"])
    fields.notes.extend(f"{note}" for note in schema["notes"])
    if verify:
        _verify(folder, schema)
    if not schema["checksums"]:
        fields.note(f"{SCHEMA} has no checksums: damage to the files would not be seen")
    columns = _read_table(folder / schema["table"])
    utterances = len(next(iter(columns.values()), []))
    if utterances != schema["utterances"]:
        raise UserError(
            f"{folder / schema['table']}: it has {utterances} rows, but {SCHEMA} says {schema['utterances']}."
        )
    _read_columns(fields, columns, schema)
    for modality, entry in schema["modalities"].items():
        array = load_array(folder / entry["file"], mmap=True)
        if array.shape != (utterances, entry["width"]) or array.dtype.kind != "f":
            raise UserError(
                f"{folder / entry['file']}: it is {kind(array)}, but {SCHEMA} says floats "
                f"[{utterances}, {entry['width']}]."
            )
        fields.arrays[modality] = array
    return fields


def write(
    corpus: Corpus,
    folder: str | Path,
    *,
    targets: Mapping[str, Target] | None = None,
    overwrite: bool = False,
) -> Path:
    """Writes a corpus, whole or not at all.

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
    """Holds the place of a new corpus against what is there.

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
        raise UserError(f"{path}: cannot be read: {error.strerror or error}.") from None
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: is no JSON: {short(error)}. Write it again.") from None
    if not isinstance(schema, dict) or schema.get("format") != FORMAT:
        raise UserError(f'{path}: has no "format": "{FORMAT}", so this folder is something else.')
    version = schema.get("version")
    if type(version) is not int or version < 1:
        raise UserError(f'{path}: "version" is {_short(version)}; it must be {VERSION}.')
    if version > VERSION:
        raise UserError(f"{path}: version {version} of the format; this release reads up to {VERSION}. Update it.")
    return _checked(path, schema)


def _checked(path: Path, schema: dict[str, Any]) -> dict[str, Any]:
    def wrong(key: str, need: str) -> UserError:
        return UserError(f'{path}: "{key}" is {_short(schema.get(key))}; it must be {need}.')

    schema = {"table": TABLE, "checksums": {}, "notes": [], "name": path.parent.name} | schema
    if type(schema.get("utterances")) is not int or schema["utterances"] < 1:
        raise wrong("utterances", "their number, at least 1")
    if not isinstance(schema["table"], str) or not _FILE_NAME.fullmatch(schema["table"]):
        raise wrong("table", "the name of a .csv or .jsonl file in the folder")
    if not isinstance(schema["name"], str):
        raise wrong("name", "text")
    targets = schema.get("targets")
    if not isinstance(targets, dict) or not all(_is_target(t) for t in targets.values()):
        raise wrong("targets", '{"label": {"classes": [names, each once]}}, or "labels" alike, or "scores": [-3, 3]')
    for name, target in targets.items():
        if problem := truths.unwritable(target.get("labels", ())):
            raise UserError(f'{path}: "targets": {short(name)!r} {problem}. {truths.WRITABLE}.')
    modalities = schema.get("modalities")
    if not isinstance(modalities, dict) or not modalities or not all(_is_modality(m) for m in modalities.values()):
        raise wrong("modalities", '{"text": {"file": "text.npy", "width": 768}}, at least one')
    sums = schema["checksums"]
    if not isinstance(sums, dict) or not all(isinstance(s, str) and s.startswith("sha256:") for s in sums.values()):
        raise wrong("checksums", '{"text.npy": "sha256:…"}')
    if not isinstance(schema["notes"], list) or not all(isinstance(n, str) for n in schema["notes"]):
        raise wrong("notes", "a list of texts")
    return schema


def _is_target(target: Any) -> bool:
    if not isinstance(target, dict) or target.get("scores") == RANGE:
        return isinstance(target, dict)
    classes = target.get("classes", target.get("labels"))
    return (
        isinstance(classes, list)
        and all(isinstance(c, str) and c for c in classes)
        and len(set(classes)) == len(classes)
    )


def _is_modality(entry: Any) -> bool:
    if not isinstance(entry, dict) or type(entry.get("width")) is not int or entry["width"] < 1:
        return False
    file = entry.get("file")
    return isinstance(file, str) and _FILE_NAME.fullmatch(file) is not None and file.endswith(".npy")


def _short(value: Any) -> str:
    words = json.dumps(value)
    return words if len(words) < 60 else words[:60] + "…"


def _verify(folder: Path, schema: Mapping[str, Any]) -> None:
    known = {schema["table"], *(entry["file"] for entry in schema["modalities"].values())}
    for name in sorted(known & set(schema["checksums"])):
        found = checksum(folder / name)
        if found != schema["checksums"][name].lower():
            raise UserError(
                f"{folder / name}: it is not the file that {SCHEMA} was written for (SHA-256 {found[7:19]}… instead of "
                f"{schema['checksums'][name][7:19]}…). Copy it again; or, if it was changed on purpose, take its "
                "checksum out of the schema."
            )


def checksum(path: Path) -> str:
    """A file's SHA-256, as a schema has it."""
    try:
        with path.open("rb") as file:
            return f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror or error}.") from None


def _read_table(path: Path) -> dict[str, list[str]]:
    """Column → its cells, as text."""
    try:
        words = path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror or error}.") from None
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: is not UTF-8 (byte {error.start}). Write it again.") from None
    return _json_columns(path, words) if path.suffix == ".jsonl" else _csv_columns(path, words)


def _csv_columns(path: Path, words: str) -> dict[str, list[str]]:
    before = csv.field_size_limit(len(words) + 1)
    try:
        rows = list(csv.reader(io.StringIO(words, newline=""), strict=True))
    except csv.Error as error:
        raise UserError(f"{path}: cannot be read as CSV: {error}.") from None
    finally:
        csv.field_size_limit(before)
    names = rows[0] if rows else []
    if len(set(names)) < len(names):
        raise UserError(f"{path}: a column's name comes twice: {short(', '.join(names))}.")
    wrong = next((i for i, row in enumerate(rows) if len(row) != len(names)), None)
    if wrong is not None:
        raise UserError(f"{path}: row {wrong} has {len(rows[wrong])} cells where the first names {len(names)} columns.")
    return dict(zip(names, ([*c] for c in zip(*rows[1:], strict=True)), strict=True)) if rows[1:] else {}


def _json_columns(path: Path, words: str) -> dict[str, list[str]]:
    rows = []
    for number, line in enumerate((s for s in words.split("\n") if s.strip()), start=1):
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise UserError(f"{path}: line {number} is no JSON object: {short(error)}.") from None
        if not isinstance(row, dict) or not all(v is None or isinstance(v, str | int | float) for v in row.values()):
            raise UserError(f"{path}: line {number} is no object of texts and numbers.")
        rows.append(row)
    names = dict.fromkeys(name for row in rows for name in row)
    return {name: [_cell(row.get(name)) for row in rows] for name in names}


def _cell(value: Any) -> str:
    if value is None:
        return ""
    return str(value).lower() if isinstance(value, bool) else str(value)


def _read_columns(fields: Fields, columns: dict[str, list[str]], schema: Mapping[str, Any]) -> None:
    for name in _TEXTS:
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
        if "classes" not in target:
            _read_target(fields, name, columns[name], target)
            continue
        number = {c: i for i, c in enumerate(target["classes"])} | {"": UNLABELED}
        unknown = next((cell for cell in columns[name] if cell not in number), None)
        if unknown is not None:
            problem = f"has the value {unknown[:60]!r}, which {SCHEMA} does not list"
            raise fields.refusal(name, problem, "Add it to the classes, or leave the cell empty")
        fields.arrays[name] = np.array([number[cell] for cell in columns[name]])
        fields.arrays[f"{name}_names"] = text_array(target["classes"])
    for modality in schema["modalities"]:
        cells = columns.get(f"{modality}_present")
        if cells is not None:
            if not set(cells) <= {"true", "false"}:
                raise fields.refusal(f"{modality}_present", "holds something else", "It must hold true and false")
            fields.arrays[f"{modality}_present"] = np.array([cell == "true" for cell in cells])


def _read_target(fields: Fields, name: str, cells: list[str], target: Mapping[str, Any]) -> None:
    """Scores, or several labels."""
    try:
        found = (truths.LABELS if "labels" in target else truths.SCORE).parse(cells, target.get("labels"))
    except UserError as error:
        raise fields.refusal(name, str(error).rstrip("."), "Correct it") from None
    fields.arrays[name] = found[0]
    if found[1]:
        fields.arrays[f"{name}_names"] = text_array(found[1])


# Writing


def _truth(corpus: Corpus) -> Target:
    target = truths.of(corpus.task)
    if target is None or corpus.target is None:
        return corpus.label, corpus.label_names
    known = np.where((corpus.label >= 0)[:, None], corpus.target, np.nan)
    return target.column(known, corpus.target_names)


def _described(values: np.ndarray, names: tuple[str, ...]) -> dict[str, Any]:
    """A target's entry in the schema."""
    if values.ndim == 1 and values.dtype.kind == "f":
        return {"scores": RANGE}
    return {"classes" if values.ndim == 1 else "labels": list(names)}


def _cells(values: np.ndarray, names: tuple[str, ...]) -> list[str]:
    """A target's column."""
    if values.ndim == 2:
        return ["" if np.isnan(row).any() else truths.joined(row, names) for row in values]
    if values.dtype.kind == "f":
        return ["" if np.isnan(v) else repr(v) for v in values.tolist()]
    return [names[v] if v >= 0 else "" for v in values.tolist()]


def _write_into(corpus: Corpus, folder: Path, targets: Mapping[str, Target]) -> None:
    files = {m: f"{re.sub(r'[^A-Za-z0-9_.-]+', '-', m)}.npy" for m in corpus.modalities}
    if len(set(files.values())) < len(files):
        files = {m: f"modality{i}.npy" for i, m in enumerate(corpus.modalities)}
    for name, (_, classes) in targets.items():
        if "" in classes:
            raise UserError(f"the target {name!r} has a class without a name, which means no label in this format.")
    (folder / TABLE).write_text(_table(corpus, targets), encoding="utf-8", errors="backslashreplace", newline="")
    for modality, file in files.items():
        _write_array(folder / file, corpus.features[modality])
    schema = {
        "format": FORMAT,
        "version": VERSION,
        "name": corpus.name,
        "utterances": len(corpus),
        "table": TABLE,
        "targets": {name: _described(*target) for name, target in targets.items()},
        "modalities": {m: {"file": files[m], "width": corpus.widths[m]} for m in corpus.modalities},
        "checksums": {name: checksum(folder / name) for name in (TABLE, *files.values())},
        "notes": list(corpus.notes),
    }
    (folder / SCHEMA).write_text(json.dumps(schema, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    for path in folder.iterdir():
        with path.open("rb") as written:
            os.fsync(written.fileno())


def _table(corpus: Corpus, targets: Mapping[str, Target]) -> str:
    start = np.flatnonzero(np.diff(corpus.dialogue, prepend=-1))
    columns: dict[str, list[Any]] = {
        "dialogue_id": [corpus.dialogue_ids[d] for d in corpus.dialogue.tolist()],
        "turn": (np.arange(len(corpus)) - start[np.searchsorted(start, np.arange(len(corpus)), "right") - 1]).tolist(),
        "utterance_id": list(corpus.utterance_ids),
        "split": corpus.split.tolist(),
    }
    if corpus.speaker_names is not None:
        columns["speaker"] = corpus.speaker_names.tolist()
    for name, (values, classes) in targets.items():
        columns[name] = _cells(np.asarray(values), classes)
    for modality, present in corpus.present.items():
        columns[f"{modality}_present"] = ["true" if p else "false" for p in present.tolist()]
    if corpus.transcript is not None:
        columns["transcript"] = corpus.transcript.tolist()
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(columns)
    writer.writerows(zip(*columns.values(), strict=True))
    return text.getvalue()


def _write_array(path: Path, array: np.ndarray) -> None:
    """As numpy.save, without a copy of a memory-mapped array in memory."""
    with path.open("wb") as file:
        header = {"descr": "<f4", "fortran_order": False, "shape": array.shape}
        np.lib.format.write_array_header_1_0(file, header)
        for start in range(0, len(array), _BLOCK_ROWS):
            file.write(np.ascontiguousarray(array[start : start + _BLOCK_ROWS], "<f4").tobytes())


def _replace(temporary: Path, folder: Path) -> None:
    """Moves a folder to its place. What was there goes only once the new one is there."""
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
