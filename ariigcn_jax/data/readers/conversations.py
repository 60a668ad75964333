"""Make a corpus of conversations as a program has them: one dictionary, or one line of JSON, an utterance.

    {"dialogue_id": "d1", "speaker": "Ann", "features": {"text": [0.1, …], "audio": [0.3, …]}, "label": "happy"}

Only `features` is required. `dialogue_id`, `utterance_id`, `speaker`, `label` and `transcript` are text or whole
numbers; `label` is a name. A modality counts as missing in an utterance where it is absent, null or not finite, and
where its features, if there are several, are all zero: an extraction that failed (choice).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ariigcn_jax.data.readers import text
from ariigcn_jax.types import UNLABELED, Corpus, Modality, UserError

Utterance = Mapping[str, Any]
FIELDS = ("dialogue_id", "utterance_id", "speaker", "label", "transcript", "features")
ONLY_DIALOGUE = "conversation"
EXAMPLE = '{"speaker": "Ann", "features": {"text": [0.1, 0.2], "audio": [0.3]}}'


def from_utterances(utterances: Iterable[Utterance], *, name: str = ONLY_DIALOGUE) -> Corpus:
    """Make a corpus of utterances in time order.

    Args:
      utterances: see the module's docstring; dialogues may be interleaved.
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
    _check_widths(rows, name)
    number = {id: n for n, id in enumerate(dict.fromkeys(row["dialogue_id"] for row in rows))}
    rows = sorted(rows, key=lambda row: number[row["dialogue_id"]])  # stable: the order inside a dialogue stays
    features, present = _features(rows, name)
    labels = {name: n for n, name in enumerate(dict.fromkeys(r["label"] for r in rows if r["label"] is not None))}
    transcripts = [row["transcript"] for row in rows]
    return Corpus(
        name=name,
        features=features,
        present=present,
        dialogue=np.array([number[row["dialogue_id"]] for row in rows], np.int32),
        speaker=_speakers(rows),
        label=np.array([labels.get(row["label"], UNLABELED) for row in rows], np.int32),
        split=np.full(len(rows), "test"),
        label_names=tuple(labels),
        dialogue_ids=tuple(number),
        utterance_ids=_utterance_ids(rows),
        speaker_names=np.array([row["speaker"] for row in rows]),
        transcript=np.array([t or "" for t in transcripts]) if any(transcripts) else None,
    )


def read_jsonl(path: str | Path) -> Corpus:
    """Read a file with one utterance a line, as JSON; empty lines are skipped.

    Raises:
      UserError: the file cannot be read, or a line is not of the form above; names the line.
    """
    path = Path(path)
    rows = [checked(value, f"{path}, line {number}") for number, value in text.json_lines(path)]
    return from_utterances(rows, name=str(path))


def select(corpus: Corpus, dialogues: Sequence[int]) -> Corpus:
    """Some dialogues of a corpus, by their numbers, in the corpus's order."""
    rows, chosen = np.isin(corpus.dialogue, dialogues), set(dialogues)
    _, dialogue = np.unique(corpus.dialogue[rows], return_inverse=True)
    return dataclasses.replace(
        corpus,
        features={m: x[rows] for m, x in corpus.features.items()},
        present={m: x[rows] for m, x in corpus.present.items()},
        dialogue=dialogue.astype(np.int32),
        speaker=corpus.speaker[rows],
        label=corpus.label[rows],
        target=None if corpus.target is None else corpus.target[rows],
        ratings=None if corpus.ratings is None else corpus.ratings[rows],
        split=corpus.split[rows],
        dialogue_ids=tuple(name for d, name in enumerate(corpus.dialogue_ids) if d in chosen),
        utterance_ids=tuple(name for name, here in zip(corpus.utterance_ids, rows, strict=True) if here),
        speaker_names=None if corpus.speaker_names is None else corpus.speaker_names[rows],
        transcript=None if corpus.transcript is None else corpus.transcript[rows],
    )


def checked(utterance: Any, where: str) -> dict[str, Any]:
    """Return an utterance with all fields, names as text, features [d_m] float32 or None where missing.

    Args:
      utterance: as in the module's docstring.
      where: how errors name it.

    Raises:
      UserError: it is not of this form.
    """
    if not isinstance(utterance, Mapping):
        raise UserError(f"{where}: is {type(utterance).__name__}, not an object such as {EXAMPLE}.")
    if unknown := [str(key) for key in utterance if key not in FIELDS]:
        raise UserError(f"{where}: unknown field {', '.join(unknown)}; the fields are {', '.join(FIELDS)}.")
    features = utterance.get("features")
    if not isinstance(features, Mapping):
        raise UserError(f"{where}: `features` must be an object with one list of numbers a modality, as in {EXAMPLE}.")
    return {
        "dialogue_id": _text(utterance, "dialogue_id", where) or ONLY_DIALOGUE,
        "utterance_id": _text(utterance, "utterance_id", where),
        "speaker": _text(utterance, "speaker", where) or "",
        "label": _text(utterance, "label", where),
        "transcript": _text(utterance, "transcript", where),
        "features": {str(m): _vector(values, f"{where}: features of {m}") for m, values in features.items()},
    }


def _text(utterance: Utterance, field: str, where: str) -> str | None:
    value = utterance.get(field)
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, int | np.integer) and not isinstance(value, bool):
        return str(value)
    raise UserError(f"{where}: `{field}` is {type(value).__name__}; it must be text or a whole number.")


def _vector(values: Any, where: str) -> np.ndarray | None:
    """Return [d] float32, or None where the features are missing."""
    if values is None:
        return None
    try:
        vector = np.asarray(values, np.float32)
    except (TypeError, ValueError, OverflowError):
        vector = np.zeros((0, 0), np.float32)
    if vector.ndim != 1 or not vector.size:
        raise UserError(f"{where} must be a list of numbers, or null where the modality is missing.")
    return vector if np.isfinite(vector).all() and (vector.any() or vector.size == 1) else None


def _check_widths(rows: Sequence[Mapping[str, Any]], name: str) -> None:
    """Refuse a modality that has several widths; name the first utterances that show it."""
    first: dict[Modality, tuple[int, int]] = {}
    for n, row in enumerate(rows, start=1):
        for m, vector in row["features"].items():
            if vector is None:
                continue
            width, before = first.setdefault(m, (len(vector), n))
            if len(vector) != width:
                raise UserError(
                    f"{name}, utterance {n}: {m} has {len(vector)} features, but {width} in utterance {before}."
                )


def _features(rows: Sequence[Mapping[str, Any]], name: str) -> tuple[dict[Modality, np.ndarray], ...]:
    features, present = {}, {}
    for m in dict.fromkeys(m for row in rows for m in row["features"]):
        vectors = [row["features"].get(m) for row in rows]
        zero = next((np.zeros_like(v) for v in vectors if v is not None), None)
        if zero is not None:  # a modality that is null throughout counts as absent
            features[m] = np.stack([zero if v is None else v for v in vectors])
            present[m] = np.array([v is not None for v in vectors])
    if not features:
        raise UserError(f"{name}: no utterance has features of any modality; null, NaN and infinity count as missing.")
    return features, present


def _speakers(rows: Sequence[Mapping[str, Any]]) -> np.ndarray:
    """Return speakers [U] int32, numbered inside each dialogue by first appearance."""
    numbers: dict[str, dict[str, int]] = {}
    speakers = []
    for row in rows:
        there = numbers.setdefault(row["dialogue_id"], {})
        speakers.append(there.setdefault(row["speaker"], len(there)))
    return np.array(speakers, np.int32)


def _utterance_ids(rows: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
    turns: dict[str, int] = {}
    ids = []
    for row in rows:
        turn = turns[row["dialogue_id"]] = turns.get(row["dialogue_id"], -1) + 1
        ids.append(row["utterance_id"] or f"{row['dialogue_id']}_{turn}")
    return tuple(ids)
