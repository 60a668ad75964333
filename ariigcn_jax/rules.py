"""Legal values of options: a rule for each, one message for a broken rule, and suggestions for misspelt names."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

from ariigcn_jax.types import UserError


class Rule(NamedTuple):
    """What a value must be."""

    words: str  # complete the message "PATH=VALUE must …"
    legal: Callable[[Any], bool]  # whether a value follows the rule


def at_least(least: float) -> Rule:
    """Return the rule of finite numbers >= `least`."""
    return Rule(f"be at least {least}", lambda x: least <= x < float("inf"))


def one_of(*names: str) -> Rule:
    """Return the rule of some names."""
    return Rule(f"be one of {', '.join(names)}", lambda x: x in names)


POSITIVE = Rule("be a positive number", lambda x: 0 < x < float("inf"))
RATE = Rule("lie in [0, 1)", lambda x: 0 <= x < 1)
LIMIT = Rule("be at least 0; 0 sets no limit", lambda x: 0 <= x < float("inf"))


def check(options: Mapping[str, Any], rules: Mapping[str, Rule], within: str = "") -> None:
    """Check options, nested as in a config, against rules of dotted paths.

    `within` precedes the paths in the message: "model." for example.

    Raises:
      UserError: names the first option that breaks its rule.
    """
    for path, rule in rules.items():
        value: Any = options
        for key in path.split("."):
            value = value[key]
        if not rule.legal(value):
            raise UserError(f"{within}{path}={value!r} must {rule.words}.")


def suggestion(word: str, known: Iterable[str]) -> str:
    """Return the known name that is closest to a misspelt one, and all known names, in words."""
    known = list(known)
    close = difflib.get_close_matches(word, known, 1)
    return (f"Did you mean {close[0]!r}? " if close else "") + f"Known: {', '.join(known) or 'none'}."
