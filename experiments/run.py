"""Train, evaluate and resume one experiment:

    python -m experiments.run --config=experiments/iemocap.py --config.seed=3 --workdir=runs/seed3

Without --workdir a run gets a folder of its own under runs/. The same command with the same --workdir resumes. A
finished run is made again, in a new folder, and compared with what it was:

    python -m experiments.run --reproduce=runs/seed3
"""

import sys
from collections.abc import Sequence

from absl import flags

from ariigcn_jax.commands.command import define_config, flag, main
from ariigcn_jax.runs import session


def command(overrides: Sequence[str]) -> None:
    """Run what the flags say."""
    if flag("reproduce"):
        from experiments import reproduce

        reproduce.reproduce(flag("reproduce"), flag("workdir"), flag("tolerance"))
    else:
        session.execute(flag("config"), flag("workdir"), overrides)


if __name__ == "__main__":
    define_config()
    flags.DEFINE_string("workdir", None, "folder of the run, made or resumed; by default a new one under runs/")
    flags.DEFINE_string("reproduce", None, "instead of --config: folder of a finished run, to make again and compare")
    flags.DEFINE_float("tolerance", 0.0, "of --reproduce: difference of a score that is no error", lower_bound=0)
    sys.exit(main(command, __doc__, sys.argv, instead="reproduce"))
