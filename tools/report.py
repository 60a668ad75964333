"""Make a page about runs: `python -m tools.report` is `ariigcn report`."""

import sys

from ariigcn_jax import cli

if __name__ == "__main__":
    sys.exit(cli.main(["report", *sys.argv[1:]]))
