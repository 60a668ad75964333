"""Make a corpus of conversations as a program has them: one dictionary, or one line of JSON, an utterance.

    {"dialogue_id": "d1", "speaker": "Ann", "features": {"text": [0.1, …], "audio": [0.3, …]}, "label": "happy"}

Only `features` is required. `dialogue_id`, `utterance_id`, `speaker`, `label` and `transcript` are text or whole
numbers; `label` is a name. A modality counts as missing in an utterance where it is absent, null or not finite, and
where its features, if there are several, are all zero: an extraction that failed (choice).
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ariigcn_jax.data.assemble import assemble
from ariigcn_jax.data.fields import Fields, text_array
from ariigcn_jax.data.readers import text
from ariigcn_jax.data.values import is_integer
from ariigcn_jax.types import UNLABELED, Corpus, Modality, UserError

Utterance = Mapping[str, Any]
FIELDS = ("dialogue_id", "utterance_id", "speaker", "label", "transcript", "features")
ONLY_DIALOGUE = "conversation"
EXAMPLE = '{"speaker": "Ann", "features": {"text": [0.1, 0.2], "audio": [0.3]}}'


def from_utterances(utterances: Iterable[Utterance], *, name: str = ONLY_DIALOGUE) -> Corpus:
    """Make a corpus of utterances in time order, whose dialogues may be interleaved.

    Args:
      utterances: see the module's docstring.
      name: what the corpus is called, and how utterances are named in errors.

    Example:
      >>> ann = {"speaker": "Ann", "features": {"text": [0.1, 0.2], "audio": [0.3]}}
      >>> bob = {"speaker": "Bob", "features": {"text": [0.4, 0.5]}}
      >>> corpus = from_utterances([ann, bob])
      >>> corpus.widths, corpus.present["audio"].tolist()
      ({'text': 2, 'audio': 1}, [True, False])

    Returns:
      A corpus whose dialogues come in the order of their first utterances, all in the split "test", features as given
      (not standardised). Its `label_names` are those that occur.

    Raises:
      UserError: an utterance is not of this form; says which one and why.
    """
    rows = [checked(utterance, f"{name}, utterance {n}") for n, utterance in enumerate(utterances, start=1)]
    if not rows:
        raise UserError(f"{name}: there is no utterance. Give one for each turn, such as {EXAMPLE}.")
    modalities = dict.fromkeys(m for row in rows for m in row["features"])
    features = {m: array for m in modalities if (array := _features(rows, m, name)) is not None}
    if not features:
        raise UserError(f"{name}: no utterance has features of any modality; null, NaN and infinity count as missing.")
    first = {id: n for n, id in enumerate(dict.fromkeys(row["dialogue_id"] for row in rows))}
    order = sorted(range(len(rows)), key=lambda u: first[rows[u]["dialogue_id"]])
    rows = [rows[u] for u in order]
    turns: Counter[str] = Counter()
    for row in rows:
        row["utterance_id"] = row["utterance_id"] or f"{row['dialogue_id']}_{turns[row['dialogue_id']]}"
        turns[row["dialogue_id"]] += 1
    labels = {name: n for n, name in enumerate(dict.fromkeys(r["label"] for r in rows if r["label"] is not None))}
    texts = {field: [row[field] or "" for row in rows] for field in FIELDS if field not in ("label", "features")}
    arrays = {m: array[order] for m, array in features.items()}
    arrays |= {field: text_array(values) for field, values in texts.items() if field != "transcript" or any(values)}
    arrays["label"] = np.array([labels.get(row["label"], UNLABELED) for row in rows])
    arrays["label_names"] = text_array(list(labels))
    corpus = assemble(Fields(Path(name), arrays), name=name, modalities=tuple(features), training=False)
    return dataclasses.replace(corpus, notes=())


def read_jsonl(path: str | Path) -> Corpus:
    """Read a file with one utterance a line, as JSON; empty lines are skipped.

    Raises:
      UserError: the file cannot be read, or a line is not of the form above; names the line.
    """
    path = Path(path)
    rows = [checked(value, f"{path}, line {number}") for number, value in text.json_lines(path)]
    return from_utterances(rows, name=str(path))


def checked(utterance: Any, where: str) -> dict[str, Any]:
    """Return an utterance with all fields: names as text, features [d_m] float32 or None where missing.

    Raises:
      UserError: it is not of the form in the module's docstring; the message begins with `where`.
    """
    if not isinstance(utterance, Mapping):
        raise UserError(f"{where}: is {type(utterance).__name__}, not an object such as {EXAMPLE}.")
    if unknown := [str(key) for key in utterance if key not in FIELDS]:
        raise UserError(f"{where}: unknown field {', '.join(unknown)}; the fields are {', '.join(FIELDS)}.")
    features = utterance.get("features")
    if not isinstance(features, Mapping):
        raise UserError(f"{where}: `features` must be an object with one list of numbers a modality, as in {EXAMPLE}.")
    row: dict[str, Any] = {field: _text(utterance, field, where) for field in FIELDS[:-1]}
    row["features"] = {str(m): _vector(values, f"{where}: features of {m}") for m, values in features.items()}
    return row | {"dialogue_id": row["dialogue_id"] or ONLY_DIALOGUE, "speaker": row["speaker"] or ""}


def _text(utterance: Utterance, field: str, where: str) -> str | None:
    value = utterance.get(field)
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, float | np.floating) and np.isnan(value):  # pandas writes it where there is nothing
        return None
    if is_integer(value) and not isinstance(value, bool | np.bool_):
        return str(int(value))
    raise UserError(f"{where}: `{field}` is {type(value).__name__}; it must be text or a whole number.")


def _vector(values: Any, where: str) -> np.ndarray | None:
    if values is None:
        return None
    try:
        vector = np.asarray(values, np.float32)
    except (TypeError, ValueError, OverflowError):
        vector = np.zeros((0, 0), np.float32)
    if vector.ndim != 1 or not vector.size:
        raise UserError(f"{where} must be a list of numbers, or null where the modality is missing.")
    return vector if np.isfinite(vector).all() and (vector.any() or vector.size == 1) else None


def _features(rows: Sequence[Mapping[str, Any]], modality: Modality, name: str) -> np.ndarray | None:
    """Return [U, d] float32 with NaN where a modality is missing; None where it is missing throughout."""
    vectors = {n: v for n, row in enumerate(rows) if (v := row["features"].get(modality)) is not None}
    if not vectors:
        return None
    first = next(iter(vectors))
    features = np.full((len(rows), len(vectors[first])), np.nan, np.float32)
    for n, vector in vectors.items():
        if len(vector) != features.shape[1]:
            raise UserError(
                f"{name}, utterance {n + 1}: {modality} has {len(vector)} features, but {features.shape[1]} in "
                f"utterance {first + 1}."
            )
        features[n] = vector
    return features
