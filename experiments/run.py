"""Trains, evaluates and resumes one experiment:

    python -m experiments.run --config=experiments/iemocap.py --config.seed=3 --workdir=runs/seed3

Without --workdir a run gets a folder of its own under runs/. The same command with the same --workdir resumes.
"""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Sequence
from typing import Any

from absl import flags, logging
from ml_collections import config_flags

from ariigcn_jax import corpus as corpora
from ariigcn_jax.types import Corpus, UserError

FLAGS = flags.FLAGS
config_flags.DEFINE_config_file("config", None, "The experiment's file; --config.<key>=<value> changes one of its options.")
flags.DEFINE_string("workdir", None, "Folder of the run, made or resumed; by default a new one under runs/.")


def load_corpus(config: Any) -> Corpus:
    """Reads or generates the corpus of a config, and says what reading found."""
    data = config.data
    if len(data.generate) and not data.path:
        return corpora.generate(**data.generate.to_dict())
    corpus = corpora.load(
        data.path or None,
        name=data.name or None,
        modalities=tuple(data.modalities),
        label=data.label,
        valid_fraction=data.valid_fraction,
    )
    for note in corpus.notes:
        print(f"note: {note}")
    return corpus


def execute(config: Any, workdir: str | None, overrides: Sequence[str] = ()) -> dict[str, Any]:
    """Runs a config.

    Args:
      config: as `experiments.base.get_config`, locked.
      workdir: the run's folder, or None for a new one.
      overrides: dotted keys that the user set by hand; one that nothing would use is an error.

    Returns:
      The content of results.json.

    Raises:
      UserError: see the message.
    """
    corpus = load_corpus(config)  # before jax is imported: what is wrong with the data is said within a second
    from ariigcn_jax import objective, results, runner
    from ariigcn_jax import workdir as workdirs

    objective.check_overrides(config.losses.to_dict(), overrides)
    with workdirs.open(workdir, config.experiment, config.to_dict()) as directory:
        finished = directory.path / runner.RESULTS
        if finished.exists():
            content = json.loads(finished.read_text())
            print(f"{directory.path}: this run is finished; this is its result.\n")
        else:
            print(f"{directory.path}: the run's folder")
            content = runner.run(config, corpus, directory)
        print(results.table(content))
        print(f"{directory.path}: results.json, predictions, pictures, checkpoints and logs are there.")
    return content


def main(argv: Sequence[str]) -> int:
    """The command line; returns the exit status."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    logging.set_verbosity(logging.ERROR)
    try:
        left = FLAGS(list(argv))[1:]
        if left:
            raise UserError(f"What is {left[0]!r}? Options begin with --, as in --config.seed=3.")
        if FLAGS.config is None:
            raise UserError("Which experiment? For example --config=experiments/synthetic.py")
        execute(FLAGS.config, FLAGS.workdir, list(config_flags.get_override_values(FLAGS["config"])))
    except (flags.Error, AttributeError, KeyError, ImportError, SyntaxError, FileNotFoundError) as error:
        raise
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nStopped. The same command with this run's --workdir resumes from its last checkpoint.", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv))
