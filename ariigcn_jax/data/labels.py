"""Name the classes of published files, make classes of sentiment scores, and merge classes."""

from __future__ import annotations

import difflib
from collections.abc import Sequence

import numpy as np

from ariigcn_jax.types import UNLABELED, UserError

IEMOCAP = ("happy", "sad", "neutral", "angry", "excited", "frustrated")  # the field's numbering; the first four are
# also that of the files with four classes
MELD = ("neutral", "surprise", "fear", "sadness", "joy", "disgust", "anger")
MERBENCH_MELD = ("anger", "joy", "sadness", "neutral", "disgust", "fear", "surprise")
MELD_SENTIMENT = ("neutral", "positive", "negative")
POLARITY = ("negative", "neutral", "positive")
MOST = 3  # of a sentiment score's size
LEVELS = tuple(str(level) for level in range(-MOST, MOST + 1))  # seven, of a sentiment score


def by_sign(scores: np.ndarray) -> np.ndarray:
    """Return [U] int, the class in `POLARITY` of sentiment scores, neutral at zero; -1 where a score is not finite."""
    return np.where(np.isfinite(scores), np.sign(np.nan_to_num(scores)) + 1, -1).astype(np.int64)


def without_neutral(scores: np.ndarray) -> np.ndarray:
    """Return [U] int, 0 negative, 1 positive, -1 (no label) where a score is zero or not finite."""
    return np.where(np.isfinite(scores) & (scores != 0), scores > 0, -1).astype(np.int64)


def levels(scores: np.ndarray) -> np.ndarray:
    """Return [U] int, the number in `LEVELS` of the nearest whole sentiment score; -1 where a score is not finite."""
    rounded = np.round(np.clip(np.nan_to_num(scores), -MOST, MOST)) + MOST
    return np.where(np.isfinite(scores), rounded, -1).astype(np.int64)


def rarest(targets: np.ndarray, counted: np.ndarray) -> np.ndarray:
    """Return [U] int, the rarest of the labels [U, O] bool of each utterance among those `counted`; O for none."""
    often = np.where(targets, targets[counted].sum(axis=0), np.inf)
    return np.where(targets.any(axis=1), often.argmin(axis=1), targets.shape[1])


def renamings(text: str) -> dict[str, str]:
    """Read which classes get another name, as in "excited=happy, frustrated="; NAME= drops a class.

    Two classes with one new name are merged.

    Raises:
      UserError: it is written otherwise, or a name is renamed twice.
    """
    found: dict[str, str] = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        name, equals, new = (word.strip() for word in part.partition("="))
        if not (name and equals) or name in found:
            remedy = "Write NAME=NEW,NAME=NEW, each name once; NAME= drops a class, as in excited=happy,frustrated="
            raise UserError(f"data.relabel={text}: {part!r} is not one class and its new name. {remedy}")
        found[name] = new
    for name, new in found.items():
        if found.get(new, new) != new:
            raise UserError(
                f"data.relabel={text}: {name} becomes {new}, which becomes another. Write its final name directly."
            )
    return found


def relabel(
    label: np.ndarray, names: Sequence[str], text: str, *, partly: bool = False
) -> tuple[np.ndarray, tuple[str, ...]]:
    """Merge, rename and drop classes; doing so twice changes nothing more.

    Args:
      label: [U] int in [0, C), or UNLABELED, which a dropped class becomes.
      names: C names; those left keep the order of the first class that has each.
      text: as for `renamings`; "" changes nothing.
      partly: whether classes that are not there may be named.

    Raises:
      UserError: a class is not there, or fewer than two are left.
    """
    if not text:
        return label, tuple(names)
    renamed = renamings(text)
    for name in () if partly else renamed:
        if name not in names:
            close = difflib.get_close_matches(name, names, 1)
            hint = f" Did you mean {close[0]}?" if close else ""
            raise UserError(f"data.relabel={text}: there is no class {name!r}, only {', '.join(names)}.{hint}")
    new = [renamed.get(name, name) for name in names]
    left = tuple(dict.fromkeys(filter(None, new)))
    if len(left) < 2 and not partly:
        raise UserError(f"data.relabel={text} leaves {', '.join(left) or 'no class'}: keep at least two classes.")
    table = np.array([left.index(name) if name else UNLABELED for name in new] + [UNLABELED], np.int32)
    return table[label], left  # UNLABELED is the table's last
