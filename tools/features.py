"""python -m tools.features {manifest,extract}: see the package's docstring."""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Sequence

from ariigcn_jax import features
from ariigcn_jax.features import extract, releases
from ariigcn_jax.types import UserError


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a command; the exit status is 0, 1 after what a user can mend, 130 after an interruption."""
    parser = argparse.ArgumentParser(
        "python -m tools.features",
        description=features.__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for name, module, text in (
        ("manifest", releases, "write the manifest of a published raw release"),
        ("extract", extract, "compute the features of a manifest's or a corpus's utterances"),
    ):
        command = commands.add_parser(
            name, help=text, description=module.__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
        )
        module.add_arguments(command)
        command.set_defaults(run=module.run)
    args = parser.parse_args(argv)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        args.run(args)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nStopped. What is computed is kept: the same command goes on from there.", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
