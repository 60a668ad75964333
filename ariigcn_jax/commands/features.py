"""Run `ariigcn features {manifest,extract}`, which ariigcn_jax.features describes."""

from __future__ import annotations

import argparse

from ariigcn_jax import features
from ariigcn_jax.features import extract, releases


def execute(options: argparse.Namespace) -> None:
    """Run the command in `options.further`, a list: manifest or extract, and its arguments."""
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser("ariigcn features", description=features.__doc__, formatter_class=raw)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for name, module in (("manifest", releases), ("extract", extract)):
        summary = str(module.__doc__).partition("\n")[0]
        command = commands.add_parser(name, help=summary, description=module.__doc__, formatter_class=raw)
        module.add_arguments(command)
        command.set_defaults(run=module.run)
    args = parser.parse_args(options.further)
    args.run(args)
