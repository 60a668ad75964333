"""Run `ariigcn COMMAND …`: train a model on conversations, use it, and look at both.

A command's module is imported once its arguments are read, so that help and mistakes are answered at once.
"""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Callable, Sequence
from typing import NamedTuple

import ariigcn_jax
from ariigcn_jax.commands import arguments, start


class Command(NamedTuple):
    """Describe a subcommand."""

    describe: Callable[[argparse.ArgumentParser], None]  # adds its arguments
    run: str  # module of `commands`, and the function in it that takes the options
    interrupted: str = ""  # what the user should know after an interruption
    lasting: bool = False  # whether it goes on where nobody reads what it prints


RESUME = "The same command with the run's --workdir resumes from its last checkpoint."
WHOLE = "Nothing half-written was left."
COMMANDS = {
    "train": Command(arguments.train, "train:execute", RESUME, lasting=True),
    "predict": Command(arguments.predict, "predict:execute"),
    "stream": Command(arguments.stream, "stream:execute"),
    "inspect": Command(arguments.inspect_, "prepare:inspect", WHOLE),
    "validate": Command(arguments.validate, "prepare:validate", WHOLE),
    "convert": Command(arguments.convert, "prepare:convert", WHOLE),
    "features": Command(arguments.features, "features:execute", "What is computed is kept: the same command goes on."),
    "export": Command(arguments.export, "export:execute"),
    "report": Command(arguments.report, "report.command:command"),
    "align": Command(arguments.align, "align:command"),
    "robustness": Command(arguments.robustness, "robustness:command"),
    "latency": Command(arguments.latency, "latency:execute"),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run a subcommand; return the exit status, as `commands.command.guarded`.

    Args:
      argv: the subcommand and its arguments; None for those of this process, whose output is then made to suit it.

    Raises:
      SystemExit: an argument is wrong (2), or help was asked for (0).
    """
    options = read(sys.argv[1:] if argv is None else argv)
    chosen = COMMANDS[options.command]
    if argv is None:
        start.begin(f"ariigcn {options.command}", chosen.lasting)
    from ariigcn_jax.commands import command

    module, function = chosen.run.split(":")

    def run() -> None:
        getattr(importlib.import_module(f"ariigcn_jax.commands.{module}"), function)(options)

    return command.guarded(run, chosen.interrupted)


def read(argv: Sequence[str]) -> argparse.Namespace:
    """Return a subcommand's options: `command`, its own, and `further`, arguments that it reads itself."""
    given = list(argv)
    if given[:1] == ["features"] and given[1:2] in (["manifest"], ["extract"]):
        return argparse.Namespace(command="features", further=given[1:])  # their options are in heavy modules
    parser = _parser()
    options, further = parser.parse_known_args(given)
    if further and not (options.command == "train" and all(a.startswith("--config.") for a in further)):
        parser.error(f"unrecognized arguments: {' '.join(further)}")
    options.further = further
    return options


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "ariigcn", description="Emotions in conversations: train a model on your own, and use it.", allow_abbrev=False
    )
    parser.add_argument("--version", action="version", version=f"ariigcn-jax {ariigcn_jax.__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND", title="commands")
    for name, known in COMMANDS.items():
        made = commands.add_parser(name, help=arguments.summary(known.describe), allow_abbrev=False)
        arguments.fill(made, known.describe)
    return parser
