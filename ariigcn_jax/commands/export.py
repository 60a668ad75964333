"""Write a run's model as a folder that answers without this package: StableHLO, safetensors, a loader, a model card."""

from __future__ import annotations

import argparse

from ariigcn_jax.inference import export
from ariigcn_jax.inference import model as inference
from ariigcn_jax.runs import compilation
from ariigcn_jax.types import UserError


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
