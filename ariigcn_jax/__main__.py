"""Run `python -m ariigcn_jax COMMAND …`, which is `ariigcn COMMAND …`."""

import sys

from ariigcn_jax.cli import main

if __name__ == "__main__":
    sys.exit(main())
