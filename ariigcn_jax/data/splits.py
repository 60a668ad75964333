"""Split a corpus by dialogue, by names in the corpus and nothing else.

What is held out for testing (`data.split`), while all other dialogues are trained on, or left out of the corpus
(`data.without`), is written in one of three ways:

    FIELD=PATTERN       the dialogues with an utterance whose FIELD fits: speaker=Ann, dialogue_id=Ses01*
    fold2of5            the second of five parts of the dialogues
    fold2of5:FIELD      the same, dialogues that share a value of FIELD staying together: fold2of5:speaker
    session1            to session5, IEMOCAP's: short for dialogue_id=Ses01*
"""

from __future__ import annotations

import dataclasses
import fnmatch
import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from ariigcn_jax.types import UNLABELED, Corpus, UserError

SESSIONS = {f"session{n}": f"dialogue_id=Ses{n:02}*" for n in range(1, 6)}
PEOPLE = ("actor", "speaker")  # fields that say who speaks; the first one in a file identifies people
RECORDINGS = (*PEOPLE, "session")  # fields by which corpora are split officially
MOST_GROUPED = 1 / 3  # share of the dialogues that a single group of `carve_groups` has at most
DIALOGUE = "dialogue_id"
EXAMPLES = "speaker=Ann, dialogue_id=Ses01*, fold1of5, fold1of5:speaker or session1"


class HeldOut(NamedTuple):
    """Say which dialogues are held out; made by `parse`."""

    written: str  # option and its value, for messages
    field: str = DIALOGUE  # whose values count
    pattern: str = ""  # that one of a dialogue's values has to fit; "" for a fold
    fold: int = 1  # its number, from 1
    folds: int = 0  # how many there are


def parse(text: str, option: str = "data.split") -> HeldOut:
    """Read what is held out, written as in the module's docstring; `option` is for messages.

    Raises:
      UserError: it is written otherwise.
    """
    written = f"{option}={text}"
    if found := re.fullmatch(r"fold(\d+)of(\d+)(?::(\w+))?", text):
        fold, folds = int(found[1]), int(found[2])
        if not 1 <= fold <= folds or folds < 2:
            raise UserError(f"{written}: folds count from 1, and there are at least two, as in fold1of5.")
        return HeldOut(written, found[3] or DIALOGUE, fold=fold, folds=folds)
    field, equals, pattern = SESSIONS.get(text, text).partition("=")
    if not (field and equals and pattern):
        raise UserError(f"{written}: write what is held out as {EXAMPLES}.")
    return HeldOut(written, field, pattern)


def sessions(dialogue_ids: Sequence[str]) -> np.ndarray | None:
    """Return [dialogues] str, the sessions in names such as IEMOCAP's Ses01F_impro01; None where a name has none."""
    found = [re.match(r"Ses\d\d", name) for name in dialogue_ids]
    return np.array([match[0] for match in found if match]) if all(found) else None


def expand(names: Iterable[str]) -> list[str]:
    """Return what is held out in turn, each once.

    `sessions` stands for IEMOCAP's five, `5folds` and `5folds:FIELD` for the folds.
    """
    found: list[str] = []
    for name in names:
        if folds := re.fullmatch(r"(\d+)folds(:\w+)?", name):
            found += [f"fold{n}of{folds[1]}{folds[2] or ''}" for n in range(1, int(folds[1]) + 1)]
        else:
            found += list(SESSIONS) if name == "sessions" else [name]
    return list(dict.fromkeys(found))


def hold_out(what: HeldOut, dialogue: np.ndarray, values: np.ndarray, dialogue_ids: Sequence[str]) -> np.ndarray:
    """Return [dialogues] bool, those that are held out.

    Folds are dealt, one group of dialogues after the other, in the order of the SHA-256 of their first names (choice).

    Utterances have `values` [U] str of the field `what.field` and `dialogue` [U] int, index into `dialogue_ids`.

    Raises:
      UserError: nothing would be held out, or all.
    """
    known, value = np.unique(values, return_inverse=True)
    if what.pattern:
        fits = np.array([fnmatch.fnmatchcase(name, what.pattern) for name in known.tolist()])
        held = np.zeros(len(dialogue_ids), bool)
        held[dialogue[fits[value]]] = True
        if held.all() or not held.any():
            field, problem = f"`{what.field}`", f"no `{what.field}` fits {what.pattern}, so nothing is held out"
            if held.all():
                problem = f"every dialogue has a {field} that fits {what.pattern}, so nothing is left to train on"
            few = ", ".join(known[:3].tolist()) + (" …" if len(known) > 3 else "")
            raise UserError(f"{what.written}: {problem}. It has {few}")
        return held
    there = known[value] != ""  # an empty speaker groups nothing
    group = _groups(dialogue[there], value[there], len(dialogue_ids), len(known))
    first: dict[int, str] = {}  # of each group, the name that comes first in the alphabet
    for name, number in sorted(zip(dialogue_ids, group.tolist(), strict=True)):
        first.setdefault(number, name)
    if len(first) < what.folds:
        raise UserError(
            f"{what.written}: the dialogues fall into {len(first)} group(s) that share no `{what.field}`, fewer than "
            f"{what.folds} folds. Ask for fewer, or for another field."
        )
    order = sorted(first, key=lambda g: (_digest("fold", first[g]), first[g]))
    return np.isin(group, order[what.fold - 1 :: what.folds])


def _groups(dialogue: np.ndarray, value: np.ndarray, dialogues: int, values: int) -> np.ndarray:
    """Return [dialogues] int, equal for those that are joined by values that they share, directly or through others."""
    group = np.arange(dialogues)
    while True:
        least, joined = np.full(values, dialogues), group.copy()
        np.minimum.at(least, value, group[dialogue])
        np.minimum.at(joined, dialogue, least[value])
        if np.array_equal(joined, group):
            return group
        group = joined


def carve(dialogue_ids: Iterable[str], fraction: float, salt: str) -> frozenset[str]:
    """Pick a share of the dialogues, the same one in every process and for every order of the file.

    The names with the smallest SHA-256 of salt and name are picked (choice); different salts pick independently. The
    stream of a random number generator may change between versions.

    Returns:
      round(fraction * n) names, but at least one and never all. None if `fraction` is 0 or n is less than two.

    Raises:
      UserError: `fraction` is out of range.
    """
    if not 0 <= fraction < 1:
        raise UserError(f"The share of the dialogues for {salt!r} is {fraction}, not at least 0 and less than 1.")
    ranked = sorted(set(dialogue_ids), key=lambda name: (_digest(salt, name), name))
    if fraction == 0 or len(ranked) < 2:
        return frozenset()
    return frozenset(ranked[: min(max(round(fraction * len(ranked)), 1), len(ranked) - 1)])


def grouped(dialogue: np.ndarray, values: np.ndarray, split: np.ndarray) -> np.ndarray | None:
    """Return [dialogues] int, equal for those that share values, where no value of the test split is in train.

    None where a value is in both, no dialogue of the test split has a value, or no two train dialogues share any. An
    empty value groups nothing.

    Args:
      dialogue: [U] int, index into `split`.
      values: [U] str: who speaks, or in which session.
      split: [dialogues] str.
    """
    known, value = np.unique(values, return_inverse=True)
    there = known[value] != ""
    tested, trained = (np.unique(value[there & (split[dialogue] == name)]) for name in ("test", "train"))
    if not len(tested) or np.isin(tested, trained).any():
        return None
    group = _groups(dialogue[there], value[there], len(split), len(known))
    train = group[split == "train"]
    return group if len(np.unique(train)) < len(train) else None


def carve_groups(group: Mapping[str, int], fraction: float, salt: str) -> frozenset[str]:
    """Pick whole groups of dialogues that together are about a share of them.

    They are picked in the order of the SHA-256 of salt and their first names (choice) while they have at most one and a
    half times the share. Where these are less than half of it, as with few large groups, the smallest group above it is
    picked instead.

    Args:
      group: name of a dialogue -> number of its group.
      fraction: share of the dialogues, in [0, 1).
      salt: different ones pick independently.

    Returns:
      Names; none where every group is too small or has more than MOST_GROUPED of the dialogues.
    """
    members: dict[int, list[str]] = {}
    for name in sorted(group):
        members.setdefault(group[name], []).append(name)
    wanted = max(round(fraction * len(group)), 1) if fraction else 0
    ranked = sorted(members.values(), key=lambda names: (_digest(salt, names[0]), names[0]))
    picked: list[str] = []
    for names in ranked:
        if len(picked) < wanted and len(picked) + len(names) <= min(1.5 * wanted, len(group) - 1):
            picked += names
    if len(picked) < wanted / 2:
        large = [names for names in ranked if wanted <= len(names) <= MOST_GROUPED * len(group)]
        picked = min(large, key=len, default=[])
    return frozenset(picked)


def cross_validated(corpus: Corpus, models: int) -> Corpus:
    """Return the corpus with `fold`: each of K >= 2 models leaves out its fold of train and validation.

    The model is validated on the dialogues of its fold. They are dealt in turn, those with a label first, in the order
    of the SHA-256 of their names (choice).

    Raises:
      UserError: there are fewer labelled dialogues than models.
    """
    dealt = np.unique(corpus.dialogue[corpus.split != "test"])
    labelled = np.unique(corpus.dialogue[(corpus.split != "test") & (corpus.label != UNLABELED)])
    if len(labelled) < models:
        raise UserError(
            f"data.cross_validation=True: {corpus.name} has {len(labelled)} labelled dialogue(s) to train and validate "
            f"on, fewer than members={models}, each of which leaves out a fold of them. Ask for fewer members."
        )
    names, first = corpus.dialogue_ids, set(labelled.tolist())
    # "part" salts the hash since there are folds; another word would deal other folds
    order = sorted(dealt.tolist(), key=lambda d: (d not in first, _digest("part", names[d]), names[d]))
    fold = np.full(len(names), -1, np.int32)
    fold[order] = np.arange(len(order)) % models
    return dataclasses.replace(corpus, fold=fold[corpus.dialogue])


def _digest(salt: str, name: str) -> str:
    return hashlib.sha256(f"{salt}/{name}".encode()).hexdigest()
