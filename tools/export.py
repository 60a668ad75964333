"""Write a model as a folder: `python -m tools.export` is `ariigcn export`."""

import sys

from ariigcn_jax import cli

if __name__ == "__main__":
    sys.exit(cli.main(["export", *sys.argv[1:]]))
