"""Configurations, and the commands that run them."""

import sys

from ariigcn_jax.commands import start

if sys.argv[:1] == ["-m"]:  # as long as `python -m` imports the package of a command
    start.prepare()
