"""Turn transcripts into tokens: each utterance alone, or with the turns around it in the text."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ariigcn_jax.extras import require
from ariigcn_jax.types import UserError, Words, first_line


def tokenizer(path: str | Path) -> Any:
    """Load a tokenizer.json.

    Raises:
      UserError: the package `tokenizers` is not installed, or the file is none.
    """
    library = require("tokenizers", "words")
    try:
        made = library.Tokenizer.from_file(str(path))
    except Exception as error:  # of the Rust library
        raise UserError(f"{path}: cannot be read ({first_line(error)}). Copy the encoder's folder again.") from None
    made.no_truncation()
    made.no_padding()
    return made


def tokens(
    tokenizer: Any,
    texts: Sequence[str],
    *,
    limit: int,
    pooling: str = "mean",
    first_position: int = 0,
    speakers: Sequence[str] = (),
    dialogue: np.ndarray | None = None,
    turns: tuple[int, int] = (0, 0),
) -> tuple[Words, np.ndarray]:
    """Tokenize the transcripts of U utterances, dialogue by dialogue in time order.

    Args:
      tokenizer: of `tokenizer`.
      texts: the transcripts; "" where there is none, which gives no tokens.
      limit: most tokens of an utterance, with those of other turns and the marks; what is longer is cut at its end.
      pooling: "mean", "max" or "cls", which pools the first mark alone.
      first_position: position of an utterance's first token.
      speakers: who speaks; only used where turns are joined: "Ann: I see".
      dialogue: [U] int, number of the dialogue; needed where turns are joined.
      turns: how many turns before and after an utterance are in its text, as far as they fit whole (choice).

    Returns:
      The tokens, and how many of each text's own tokens were cut, [U] int.
    """
    marks = tokenizer.encode("").ids
    begin, end = (marks[0], marks[-1]) if len(marks) > 1 else (None, None)
    room = limit - len(marks)
    joined = any(turns)
    said = [f"{who}: {text}" if joined and who else text for who, text in zip(speakers or texts, texts, strict=True)]
    said = [one if text.strip() else "" for one, text in zip(said if joined else texts, texts, strict=True)]
    every = [encoding.ids for encoding in tokenizer.encode_batch(list(said), add_special_tokens=False)]
    own = [ids[:room] for ids in every]
    cut = np.array([len(whole) - len(kept) for whole, kept in zip(every, own, strict=True)], np.int64)
    made: list[list[int]] = []
    pooled: list[np.ndarray] = []
    for u, ids in enumerate(own):
        before, after = _around(own, u, dialogue, turns, room - len(ids)) if joined and ids else ([], [])
        pieces = [*(own[t] for t in before), ids, *(own[t] for t in after)]
        whole = [] if begin is None or not ids else [begin]
        begins = len(whole)
        for n, piece in enumerate(pieces):
            begins = len(whole) if n == len(before) else begins
            whole += [*piece, *([end] if end is not None and ids else [])]
        here = np.zeros(len(whole), bool)
        if pooling == "cls":
            here[:1] = True
        elif joined:
            here[begins : begins + len(ids)] = True
        else:
            here[:] = True
        made.append(whole)
        pooled.append(here)
    start = np.concatenate([[0], np.cumsum([len(whole) for whole in made])]).astype(np.int64)
    ids_of_all = np.fromiter((t for whole in made for t in whole), np.int32, start[-1])
    return Words(ids_of_all, start, np.concatenate([*pooled, np.zeros(0, bool)]), first_position), cut


def _around(
    own: Sequence[Sequence[int]], u: int, dialogue: np.ndarray | None, turns: tuple[int, int], room: int
) -> tuple[list[int], list[int]]:
    """Return the turns before and after the turn u that fit whole into `room` tokens with a mark each, nearest first
    taken, in time order."""
    taken: tuple[list[int], list[int]] = ([], [])
    open_sides = [0, 1]
    for distance in range(1, max(turns) + 1):
        for side in list(open_sides):
            other = u - distance if side == 0 else u + distance
            inside = 0 <= other < len(own) and (dialogue is None or dialogue[other] == dialogue[u])
            if distance > turns[side] or not inside or len(own[other]) + 1 > room:
                open_sides.remove(side)
            elif own[other]:
                taken[side].append(other)
                room -= len(own[other]) + 1
    return taken[0][::-1], taken[1]
