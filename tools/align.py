"""Measure how far modalities lie apart: `python -m tools.align` is `ariigcn align`."""

import sys

from ariigcn_jax import cli

if __name__ == "__main__":
    sys.exit(cli.main(["align", *sys.argv[1:]]))
