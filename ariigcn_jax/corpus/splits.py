"""Splits by dialogue that depend on the dialogues' names and on nothing else."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

from ariigcn_jax.types import UserError


def carve(dialogue_ids: Iterable[str], fraction: float, salt: str) -> frozenset[str]:
    """Picks a share of the dialogues, the same one in every process and for every order of the file.

    The dialogues with the smallest SHA-256 of salt and name are picked (choice): no random number generator, whose
    stream may change between versions, is in it.

    Args:
      dialogue_ids: names of the dialogues; a name that comes twice counts once.
      fraction: share to pick, in [0, 1).
      salt: what the share is for, such as "valid"; different salts pick independently.

    Returns:
      round(fraction * n) names, but at least one and never all. None if `fraction` is 0 or n is less than two.

    Raises:
      UserError: `fraction` is out of range.
    """
    if not 0 <= fraction < 1:
        raise UserError(
            f"The share of the dialogues for {salt!r} is {fraction}: it must be at least 0 and less than 1."
        )
    ranked = sorted(set(dialogue_ids), key=lambda name: (_digest(salt, name), name))
    if fraction == 0 or len(ranked) < 2:
        return frozenset()
    return frozenset(ranked[: min(max(round(fraction * len(ranked)), 1), len(ranked) - 1)])


def _digest(salt: str, name: str) -> str:
    return hashlib.sha256(f"{salt}/{name}".encode()).hexdigest()
