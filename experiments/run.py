"""Trains, evaluates and resumes one experiment:

    python -m experiments.run --config=experiments/iemocap.py --config.seed=3 --workdir=runs/seed3

Without --workdir a run gets a folder of its own under runs/. The same command with the same --workdir resumes.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from typing import Any

from absl import flags

from ariigcn_jax import corpus as corpora
from ariigcn_jax.types import Corpus
from experiments.command import define_config, flag, main


def load_corpus(config: Any) -> Corpus:
    """Reads or generates the corpus of a config, and says what reading found."""
    data = config.data
    if len(data.generate) and not data.path:
        return corpora.keep(corpora.generate(**data.generate.to_dict()), tuple(data.only))
    corpus = corpora.load(
        data.path or None,
        name=data.name or None,
        modalities=tuple(data.modalities),
        label=data.label,
        valid_fraction=data.valid_fraction,
    )
    for note in corpus.notes:
        print(f"note: {note}")
    corpus = corpora.normalisation.with_speaker_normalised(corpus, tuple(data.speaker_normalised))
    return corpora.keep(corpus, tuple(data.only))


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
    corpus = load_corpus(config)  # first: what is wrong with the data is said within a second or two
    from ariigcn_jax import compilation, objective, results, runner
    from ariigcn_jax import workdir as workdirs

    objective.check_overrides(config.losses.to_dict(), overrides)
    with workdirs.open(workdir, config.experiment, config.to_dict()) as directory:
        finished = directory.path / runner.RESULTS
        if finished.exists():
            content = json.loads(finished.read_text())
            print(f"{directory.path}: this run is finished; this is its result.\n")
        else:
            print(f"{directory.path}: the run's folder")
            cache = compilation.enable()
            content = runner.run(config, corpus, directory)
            print(f"Done in {content['seconds']['total']:.0f} s; {cache.words()}.\n")
        print(results.table(content))
        print(f"{directory.path}: results.json, predictions, pictures, checkpoints and logs are there.")
    return content


def command(overrides: Sequence[str]) -> None:
    """Runs what the flags say."""
    execute(flag("config"), flag("workdir"), overrides)


if __name__ == "__main__":
    define_config()
    flags.DEFINE_string("workdir", None, "folder of the run, made or resumed; by default a new one under runs/")
    sys.exit(main(command, __doc__, sys.argv))
