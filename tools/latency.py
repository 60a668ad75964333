"""Measure how long a model takes to answer: `python -m tools.latency` is `ariigcn latency`."""

import sys

from ariigcn_jax import cli

if __name__ == "__main__":
    sys.exit(cli.main(["latency", *sys.argv[1:]]))
