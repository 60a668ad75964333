"""Writes a run's model as a folder that answers without this package: StableHLO, safetensors, a loader, a model card.

python -m tools.export --run runs/causal --out exported
"""

from __future__ import annotations

import argparse
import sys

from experiments.command import call


def arguments() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", required=True, help="work directory of the run")
    parser.add_argument("--out", required=True, help="a new or empty folder")
    parser.add_argument("--seed", type=int, help="one of the run's seeds; by default the best on validation")
    parser.add_argument(
        "--longest", type=int, default=512, help="utterances of a conversation; only where the graph spans all of it"
    )
    return parser


def execute(options: argparse.Namespace) -> None:
    """Loads, exports, and says what was written."""
    from ariigcn_jax.inference import export
    from ariigcn_jax.inference import model as inference
    from ariigcn_jax.runs import compilation

    compilation.enable()
    model = inference.load(options.run, seed=options.seed)
    folder = export.write(model, options.out, longest=options.longest)
    files = sorted(folder.iterdir())
    for file in files:
        print(f"{file.stat().st_size:>12,} bytes  {file}")
    print(f"{sum(file.stat().st_size for file in files):>12,} bytes in all, for {', '.join(export.PLATFORMS)}")


if __name__ == "__main__":
    sys.exit(call(execute, arguments(), sys.argv[1:]))
