"""Predict emotions in conversations: `python -m tools.predict` is `ariigcn predict`."""

import sys

from ariigcn_jax import cli

if __name__ == "__main__":
    sys.exit(cli.main(["predict", *sys.argv[1:]]))
