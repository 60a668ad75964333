"""Make a corpus of conversations as a program has them: one dictionary, or one line of JSON, an utterance.

    {"dialogue_id": "d1", "speaker": "Ann", "features": {"text": [0.1, …], "audio": [0.3, …]}, "label": "happy"}

Only `features` is required, and for a model with a text encoder `text` is enough: {"speaker": "Ann", "text": "Oh no!"}.
`dialogue_id`, `utterance_id`, `speaker`, `label` and `text`, which may also be called `transcript`, are text or whole
numbers; `label` is a name. A modality counts as missing in an utterance where it is absent, null or not finite, and
where its features, if there are several, are all zero: an extraction that failed (choice).

`turns_of` takes what else a conversation may be in Python: a chat, pairs of speaker and text, a pandas DataFrame.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ariigcn_jax.data.assemble import assemble
from ariigcn_jax.data.fields import Fields, text_array
from ariigcn_jax.data.readers import chat, columns, recognisers, text, transcripts
from ariigcn_jax.data.readers.chat import Turn
from ariigcn_jax.data.values import is_integer, mended
from ariigcn_jax.types import UNLABELED, WORDS, Corpus, Modality, UserError

if TYPE_CHECKING:
    import pandas as pd

Utterance = Mapping[str, Any]
Line = Utterance | str | Sequence[str]  # an utterance, a line of a chat, or a speaker and words
FIELDS = ("dialogue_id", "utterance_id", "speaker", "label", "transcript", "text", "features")
ONLY_DIALOGUE = "conversation"
EXAMPLE = '{"speaker": "Ann", "features": {"text": [0.1, 0.2], "audio": [0.3]}}'


def from_utterances(utterances: Iterable[Line], *, name: str = ONLY_DIALOGUE, words: bool = False) -> Corpus:
    """Make a corpus of utterances in time order, whose dialogues may be interleaved.

    Args:
      utterances: see the module's docstring.
      name: what the corpus is called, and how utterances are named in errors.
      words: whether transcripts are a modality, WORDS, whose features [U, 0] a text encoder is to make.

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
    rows = [checked(utterance, f"{name}, utterance {n}", words) for n, utterance in enumerate(utterances, start=1)]
    if not rows:
        raise UserError(f"{name}: there is no utterance. Give one for each turn, such as {EXAMPLE}.")
    named = dict.fromkeys(m for row in rows for m in row["features"])
    features = {m: array for m in named if (array := _features(rows, m, name)) is not None}
    spoken, words = words, words and WORDS not in features and any(row["transcript"] for row in rows)
    if not features and not words:
        also = " or words" if spoken else ""
        problem = f"no utterance has features of any modality{also}; null, NaN and infinity count as missing"
        raise UserError(f"{name}: {problem}.")
    first = {id: n for n, id in enumerate(dict.fromkeys(row["dialogue_id"] for row in rows))}
    order = sorted(range(len(rows)), key=lambda u: first[rows[u]["dialogue_id"]])
    rows = [rows[u] for u in order]
    turns: Counter[str] = Counter()
    for row in rows:
        row["utterance_id"] = row["utterance_id"] or f"{row['dialogue_id']}_{turns[row['dialogue_id']]}"
        turns[row["dialogue_id"]] += 1
    labels = {name: n for n, name in enumerate(dict.fromkeys(r["label"] for r in rows if r["label"] is not None))}
    texts = {field: [row[field] or "" for row in rows] for field in FIELDS[:-2] if field != "label"}
    arrays = {m: array[order] for m, array in features.items()}
    arrays |= {field: text_array(values) for field, values in texts.items() if field != "transcript" or any(values)}
    arrays["label"] = np.array([labels.get(row["label"], UNLABELED) for row in rows])
    arrays["label_names"] = text_array(list(labels))
    modalities = (*([WORDS] if words else []), *features)
    fields = Fields(Path(name), arrays)
    corpus = assemble(fields, name=name, modalities=modalities, training=False, words=words)
    return dataclasses.replace(corpus, notes=() if features else (transcripts.understood(fields),))


def read_jsonl(path: str | Path, *, words: bool = False) -> Corpus:
    """Read a file with one utterance a line, as JSON; empty lines are skipped. `words` is as in `from_utterances`.

    Raises:
      UserError: the file cannot be read, or a line is not of the form above; names the line.
    """
    path = Path(path)
    rows = [checked(value, f"{path}, line {number}", words) for number, value in text.json_lines(path)]
    return from_utterances(rows, name=str(path), words=words)


def turns_of(conversation: Any) -> pd.DataFrame | None:
    """Return the turns of a conversation as a table, as `transcripts` makes it of files.

    Args:
      conversation: a chat in one text; a list of lines, of pairs (speaker, words), or of dictionaries whose keys are
        names of columns; what whisper, WhisperX or FunASR return; a pandas DataFrame.

    Returns:
      The table; None where `from_utterances` takes the conversation as it is.

    Raises:
      UserError: it is a text without words, or the name of a file.
    """
    import pandas as pd

    if isinstance(conversation, pd.DataFrame):
        return conversation.rename(columns=str)
    if isinstance(conversation, str):
        return transcripts.frame({"": _of_text(conversation)}, ONLY_DIALOGUE)
    if recognisers.are_segments(conversation) and any("words" in segment for segment in conversation):
        conversation = {"segments": conversation}
    if recognisers.recognise(conversation):
        return transcripts.frame(transcripts.of_recogniser(conversation, ONLY_DIALOGUE), ONLY_DIALOGUE)
    if not isinstance(conversation, list) or not conversation:
        return None
    if all(isinstance(line, str) for line in conversation):
        first = next((turn.speaker for line in conversation if (turn := chat.said(line, lower=True))), "")
        lines = [chat.said(line, first[:1].islower()) or Turn("", line) for line in conversation]
        return transcripts.frame({"": lines}, ONLY_DIALOGUE)
    if all(isinstance(pair, tuple | list) and len(pair) == 2 for pair in conversation):
        return pd.DataFrame(conversation, columns=["speaker", "transcript"])
    return pd.DataFrame(conversation) if _are_rows(conversation) else None


def _of_text(written: str) -> list[Turn]:
    if "\n" not in written and Path(written).suffix and len(written) < 1000 and Path(written).exists():
        raise UserError(f"{written!r} is the name of a file, and a text is a chat. Give pathlib.Path({written!r}).")
    if turns := chat.turns(written)[0]:
        return turns
    raise UserError("The conversation has no words. Give one line for each turn, such as 'Ann: Oh no!'.")


def _are_rows(utterances: list[Any]) -> bool:
    """Return whether dictionaries have other names of columns than `FIELDS`, and no features."""
    if not all(isinstance(one, Mapping) and "features" not in one for one in utterances):
        return False
    others = {columns.plain(str(key)) for one in utterances for key in one if key not in FIELDS}
    known = {*columns.SOUND, *(name for aliases in columns.ALIASES.values() for name in aliases)}
    return bool(others) and others <= known


def from_turns(table: pd.DataFrame, *, label: str = "label", task: str = "classification", **options: Any) -> Corpus:
    """Make a corpus of a table of turns; keywords are those of `data.load`, for a corpus that is not trained on.

    Raises:
      UserError: a cell is not what its column is, or there is no modality among the columns.
    """
    if not len(table):
        raise UserError("The conversation has no words: there is no turn in it.")
    fields = Fields(Path(ONLY_DIALOGUE), {})
    transcripts.fill(fields, table, label, task)
    transcripts.check(fields, options.get("words", False), bool(options.get("recorded")))
    return assemble(fields, label=label, task=task, training=False, **options)


def checked(utterance: Line, where: str, words: bool = False) -> dict[str, Any]:
    """Return an utterance with all fields: names as text, features [d_m] float32 or None where missing.

    `text` is there as `transcript`. With `words` one of it and `features` is enough. An utterance may also be a line of
    a chat, or a pair (speaker, words).

    Raises:
      UserError: it is not of the form in the module's docstring; the message begins with `where`.
    """
    if isinstance(utterance, str):
        said = chat.said(utterance) or Turn("", utterance)
        utterance = {"speaker": said.speaker, "text": said.text}
    elif isinstance(utterance, tuple | list) and len(utterance) == 2 and all(isinstance(x, str) for x in utterance):
        utterance = dict(zip(("speaker", "text"), utterance, strict=True))
    if not isinstance(utterance, Mapping):
        raise UserError(f"{where}: is {type(utterance).__name__}, not an object such as {EXAMPLE}.")
    if unknown := [str(key) for key in utterance if key not in FIELDS]:
        raise UserError(f"{where}: unknown field {', '.join(unknown)}; the fields are {', '.join(FIELDS)}.")
    row: dict[str, Any] = {field: _text(utterance, field, where) for field in FIELDS[:-1]}
    text, features = row.pop("text"), utterance.get("features")
    if text is not None and row["transcript"] not in (None, text):
        raise UserError(f"{where}: `text` and `transcript` are two names of the same, and differ. Give one of them.")
    row["transcript"] = row["transcript"] if text is None else text
    spoken = "text" in utterance or "transcript" in utterance
    if features is None and spoken:
        if not words:
            remedy = "give `features`, as in training, or choose a model that was trained with model.text.encoder"
            raise UserError(f"{where}: has words but no `features`, and no text encoder reads them here; {remedy}.")
        features = {}
    if not isinstance(features, Mapping):
        also = " (or `text`, what was said)" if words else ""
        problem = f"`features` must be an object with one list of numbers a modality{also}, as in {EXAMPLE}"
        raise UserError(f"{where}: {problem}.")
    row["features"] = {str(m): _vector(values, f"{where}: features of {m}") for m, values in features.items()}
    return row | {"dialogue_id": row["dialogue_id"] or ONLY_DIALOGUE, "speaker": row["speaker"] or ""}


def _text(utterance: Utterance, field: str, where: str) -> str | None:
    value = utterance.get(field)
    if value is None or isinstance(value, str):
        return value and mended(value)
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
