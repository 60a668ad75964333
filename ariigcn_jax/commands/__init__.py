"""The subcommands of `ariigcn`, which `python -m experiments.run` and `python -m tools.…` also are."""
