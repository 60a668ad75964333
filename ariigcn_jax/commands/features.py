"""Run `python -m tools.features {manifest,extract}`, which ariigcn_jax.features describes."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from ariigcn_jax import features
from ariigcn_jax.commands.command import guarded
from ariigcn_jax.features import extract, releases


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; return the exit status: 0, 1 after a UserError, 130 after an interruption."""
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser("python -m tools.features", description=features.__doc__, formatter_class=raw)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for name, module in (("manifest", releases), ("extract", extract)):
        summary = str(module.__doc__).partition("\n")[0]
        command = commands.add_parser(name, help=summary, description=module.__doc__, formatter_class=raw)
        module.add_arguments(command)
        command.set_defaults(run=module.run)
    args = parser.parse_args(argv)
    return guarded(lambda: args.run(args), "What is computed is kept: the same command goes on from there.")


if __name__ == "__main__":
    sys.exit(main())
