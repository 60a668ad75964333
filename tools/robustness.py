"""Measure what a model scores without modalities: `python -m tools.robustness` is `ariigcn robustness`."""

import sys

from ariigcn_jax import cli

if __name__ == "__main__":
    sys.exit(cli.main(["robustness", *sys.argv[1:]]))
