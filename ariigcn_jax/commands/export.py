"""Write a run's model as a folder that answers without this package: StableHLO, safetensors, a loader, a model card.

python -m tools.export --run runs/causal --out exported
python -m tools.export --refresh exported             make its program again, where a newer JAX does not read it
"""

from __future__ import annotations

import argparse
import sys

from ariigcn_jax.commands.command import call
from ariigcn_jax.commands.finished import parser
from ariigcn_jax.inference import export
from ariigcn_jax.inference import model as inference
from ariigcn_jax.runs import compilation
from ariigcn_jax.types import UserError


def arguments() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    made = parser(__doc__)
    source = made.add_mutually_exclusive_group(required=True)
    source.add_argument("--run", help="work directory of the run")
    source.add_argument("--refresh", metavar="FOLDER", help="a folder that was exported, to make its program again")
    made.add_argument("--out", help="a new or empty folder")
    made.add_argument("--seed", type=int, help="one of the run's seeds; by default the best on validation")
    text = "utterances of a conversation; only where the graph spans all of it"
    made.add_argument("--longest", type=int, default=512, help=text)
    return made


def execute(options: argparse.Namespace) -> None:
    """Load, export, and print what was written."""
    compilation.enable()
    if options.refresh:
        folder = export.refresh(options.refresh)
    elif options.out:
        folder = export.write(inference.load(options.run, seed=options.seed), options.out, longest=options.longest)
    else:
        raise UserError("--run needs --out, a new or empty folder.")
    sizes = {file: file.stat().st_size for file in sorted(folder.iterdir())}
    for file, size in sizes.items():
        print(f"{size:>12,} bytes  {file}")
    print(f"{sum(sizes.values()):>12,} bytes in all, for {', '.join(export.PLATFORMS)}")


if __name__ == "__main__":
    sys.exit(call(execute, arguments(), sys.argv[1:]))
