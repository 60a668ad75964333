"""Compute features: `python -m tools.features` is `ariigcn features`."""

import sys

from ariigcn_jax import cli

if __name__ == "__main__":
    sys.exit(cli.main(["features", *sys.argv[1:]]))
