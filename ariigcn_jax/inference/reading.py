"""Read what a trained model is given: files in any layout that training reads, or conversations in Python."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ariigcn_jax import data as corpora
from ariigcn_jax.data.readers import conversations, text
from ariigcn_jax.types import Corpus, Modality, UserError


def corpus(
    conversation: Any, options: Any, modalities: Sequence[Modality], words: bool, recorded: Sequence[Modality] = ()
) -> Corpus:
    """Return a conversation in Python, or the conversations in the file or folder of a `Path`, as a corpus.

    Args:
      conversation: what `conversations.turns_of` or `from_utterances` take, or a path.
      options: those of the run for data, `config.data`.
      modalities: of the model.
      words: whether it has a text encoder.
      recorded: those of the modalities that are made of recordings.

    Raises:
      UserError: it cannot be read.
    """
    if isinstance(conversation, Path):
        return of_file(conversation, options, modalities, words, recorded)
    if not isinstance(conversation, Iterable):
        raise UserError(
            f"{type(conversation).__name__} is no conversation. Give a chat, such as 'Ann: Oh no!\\nBob: Sorry!'."
        )
    if not isinstance(conversation, str | Mapping) and not hasattr(conversation, "columns"):  # of a DataFrame
        conversation = list(conversation)
    table = conversations.turns_of(conversation)
    conversation = [conversation] if isinstance(conversation, Mapping) else conversation
    if table is None:
        return conversations.from_utterances(conversation, words=words)
    load = functools.partial(conversations.from_turns, table, words=words, recorded=recorded, **_labels(options))
    return _available(load, tuple(options.modalities) or modalities)


def of_file(
    path: str | Path,
    options: Any,
    modalities: Sequence[Modality],
    words: bool,
    recorded: Sequence[Modality] = (),
    recording: Path | None = None,
    **splits: Any,
) -> Corpus:
    """Read conversations as lines of JSON, or a corpus with the fields that training read.

    Args:
      path: the file or folder.
      options: as of `corpus`, like `modalities`, `words` and `recorded`.
      modalities: of the model.
      words: whether it has a text encoder.
      recorded: those of the modalities that are made of recordings.
      recording: of the only conversation, which its times cut.
      **splits: keywords of `data.load`, where dialogues are to be in the splits in which training had them.

    Raises:
      UserError: the file cannot be read.
    """
    sound: dict[str, Any] = {"recorded": recorded, "recording": recording}
    load = functools.partial(corpora.load, path, training=False, words=words, **sound, **_labels(options), **splits)
    wanted = tuple(options.modalities) or modalities
    lines = not splits and recording is None and Path(path).suffix in (".jsonl", ".ndjson")
    if lines and _mentions(path, *(("text", "transcript") if words else ()), "features"):
        try:
            return conversations.read_jsonl(path, words=words)
        except UserError:  # it may have more fields, as training reads them
            # the rows of a table with names of utterances alone would be one dialogue each
            if _mentions(path, "dialogue_id") or not _mentions(path, "utterance_id", "features"):
                with contextlib.suppress(UserError):
                    return _available(load, wanted)
            raise
    return _available(load, wanted)


def _labels(options: Any) -> dict[str, Any]:
    return {"label": options.label, "task": options.task, "relabel": options.relabel}


def _available(load: Callable[..., Corpus], wanted: Sequence[Modality]) -> Corpus:
    """Load the corpus with the wanted modalities that its file has, and all that it names like modalities."""
    with contextlib.suppress(UserError):
        return load(modalities=tuple(wanted))
    there = []
    for modality in wanted:
        with contextlib.suppress(UserError):
            load(modalities=(modality,))
            there.append(modality)
    try:
        named = load().modalities
    except UserError:  # it has none that is named so, or says what else is wrong
        if not there:
            raise
        named = ()
    return load(modalities=tuple(dict.fromkeys((*there, *named))))


def _mentions(path: str | Path, *fields: str) -> bool:
    with text.opened(Path(path), text.encoding(Path(path))[0]) as file:
        begin = file.read(2**16)
    return any(f'"{field}"' in begin for field in fields)
