"""Trains, evaluates and resumes one experiment:

    python -m experiments.run --config=experiments/iemocap.py --config.seed=3 --workdir=runs/seed3

Without --workdir a run gets a folder of its own under runs/. The same command with the same --workdir resumes. A
finished run is made again, in a new folder, and compared with what it was:

    python -m experiments.run --reproduce=runs/seed3
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from absl import flags

from ariigcn_jax import data as corpora
from ariigcn_jax.types import Corpus, UserError
from experiments.command import define_config, flag, main

# Where and how a run is computed, which may change when it is resumed.
MAY_DIFFER = ("num_devices", "seeds_by", "distributed", "data.device_megabytes", "data.wanted", "debug")


def load_corpus(config: Any, overrides: Sequence[str] = ()) -> Corpus:
    """Reads or generates the corpus of a config, and says what reading found.

    Args:
      config: as `experiments.base.get_config`.
      overrides: dotted keys that the user set by hand. A name there that no modality begins with is an error; in an
        experiment's file, which is for corpora that have less, too, it is a note.
    """
    data = config.data
    corpora.targets.of(data.task)  # refuses an unknown one before anything is read
    if len(data.generate) and not data.path:
        chosen = ("modalities", *corpora.normalisation.OPTIONS, "ratings", "leaky")
        if any(len(data[option]) for option in chosen):
            *most, last = (f"data.{option}" for option in chosen)
            raise UserError(
                f"{', '.join(most)} and {last} choose fields of a file, and these conversations are generated. "
                "data.only chooses among their modalities."
            )
        if data.relabel or data.split or data.without:
            raise UserError(
                "data.relabel, data.split and data.without are for the labels and dialogues of a file: leave them out."
            )
        made = corpora.generate(**data.generate.to_dict(), task=data.task)
        return _in_parts(config, corpora.keep(made, tuple(data.only)))
    if not data.path and not data.name:
        raise UserError(
            f"Which conversations? --config.data.path=PATH names them. What is read:\n{corpora.layouts.listing()}"
        )
    path = corpora.locate(data.path, data.name, data.wanted)
    try:
        corpus = corpora.load(
            path,
            name=(not data.path and data.name) or None,
            modalities=tuple(data.modalities),
            label=data.label,
            valid_fraction=0.0 if data.cross_validation else data.valid_fraction,
            task=data.task,
            ratings=tuple(data.ratings),
            relabel=data.relabel,
            split=data.split,
            without=data.without,
        )
    except UserError as error:
        if data.wanted and any(f"`{m}`" in str(error) for m in data.modalities):
            raise UserError(f"{error}\n\n{data.wanted}") from None
        raise
    for note in corpus.notes:
        print(f"note: {note}")
    shares = corpora.leakage.parse(tuple(data.leaky))
    for option, beginnings in {"leaky": shares, **{o: data[o] for o in corpora.normalisation.OPTIONS}}.items():
        _check_beginnings(option, beginnings, corpus, f"data.{option}" in overrides)
    kept = corpora.keep(corpus, tuple(data.only))
    if len(kept.modalities) < len(corpus.modalities):
        print(f"note: data.only keeps {', '.join(kept.modalities)} of {', '.join(corpus.modalities)}")
    kept = corpora.leakage.unsure(kept, shares)
    kept = corpora.normalisation.ranked(kept, data.ranked)
    return _in_parts(config, corpora.normalisation.with_copies(kept, data))


def _check_beginnings(option: str, beginnings: Iterable[str], corpus: Corpus, by_hand: bool) -> None:
    """Says which beginnings of modalities' names an option has that no modality of the corpus begins with."""
    for beginning in beginnings:
        if not isinstance(beginning, str) or not beginning:
            raise UserError(
                f"data.{option}={tuple(beginnings)}: {beginning!r} is no beginning of a modality's name. Write "
                f'--config.data.{option}="(\'{corpus.modalities[0]}\',)", or "()" for none.'
            )
        if not any(m.startswith(beginning) for m in corpus.modalities):
            have = ", ".join(corpus.modalities)
            words = f"data.{option} names {beginning!r}, but no modality begins so (there are {have})"
            if by_hand:
                raise UserError(f"{words}.")
            print(f"note: {words}")


def _in_parts(config: Any, corpus: Corpus) -> Corpus:
    """Cuts what is not for testing into parts, where the config asks for it, and says so."""
    if not config.data.cross_validation:
        return corpus
    corpus = corpora.splits.cross_validated(corpus, config.members)
    count = len(np.unique(corpus.dialogue[corpus.training]))
    print(
        f"note: data.cross_validation: each of the {config.members} models leaves out another part of the {count} "
        "dialogues that are not for testing, and is validated on it"
    )
    return corpus


def execute(
    config: Any, workdir: str | None, overrides: Sequence[str] = (), corpus: Corpus | None = None
) -> dict[str, Any]:
    """Runs a config.

    Args:
      config: as `experiments.base.get_config`, locked.
      workdir: the run's folder, or None for a new one.
      overrides: dotted keys that the user set by hand; one that nothing would use is an error.
      corpus: of the config, where it is read already.

    Returns:
      The content of results.json.

    Raises:
      UserError: see the message.
    """
    if corpus is None:
        corpus = load_corpus(config, overrides)  # first: what is wrong with the data is said within a second or two
    from ariigcn_jax import parallel
    from ariigcn_jax.objective import terms as objective
    from ariigcn_jax.training import options, seeds

    objective.check_overrides(config.losses.to_dict(), overrides)
    options.check(config, corpus.description)  # what cannot be built is said before a folder is made
    options.check_corpus(config, corpus)
    seeds.check(config)
    if not config.distributed.coordinator:
        return _execute(config, corpus, workdir)
    parallel.join(**config.distributed.to_dict())
    with parallel.ending_together(), contextlib.ExitStack() as quiet:
        if not parallel.is_first():
            quiet.enter_context(contextlib.redirect_stdout(quiet.enter_context(open(os.devnull, "w"))))
        return _execute(config, corpus, workdir)


def _execute(config: Any, corpus: Corpus, workdir: str | None) -> dict[str, Any]:
    from ariigcn_jax import parallel
    from ariigcn_jax.runs import compilation, results, runner
    from ariigcn_jax.runs import workdir as workdirs

    def begin() -> workdirs.WorkDir:
        return workdirs.open(workdir, config.experiment, config.to_dict(), may_differ=MAY_DIFFER)

    otherwise: workdirs.WorkDir = workdirs.ReadOnlyWorkDir()
    with parallel.from_first(begin, otherwise) as directory:
        finished = directory.path / runner.RESULTS
        if parallel.broadcast(np.int32(finished.exists())):
            parallel.from_first(lambda: runner.check_corpus(directory, runner.describe(corpus)), otherwise=None)
            content = json.loads(finished.read_text()) if parallel.is_first() else {}
            print(f"{directory.path}: this run is finished; this is its result.\n")
        else:
            print(f"{directory.path}: the run's folder")
            cache = compilation.enable()
            content = runner.run(config, corpus, directory)
            if content:
                print(f"Done in {content['seconds']['total']:.0f} s; {cache.words()}.\n")
        if not content:
            return content  # this process does not write
        print(results.table(content))
        print(f"{directory.path}: results.json, predictions, pictures, checkpoints and logs are there.")
    return content


def command(overrides: Sequence[str]) -> None:
    """Runs what the flags say."""
    if flag("reproduce"):
        from experiments import reproduce

        reproduce.reproduce(flag("reproduce"), flag("workdir"), flag("tolerance"))
    else:
        execute(flag("config"), flag("workdir"), overrides)


if __name__ == "__main__":
    define_config()
    flags.DEFINE_string("workdir", None, "folder of the run, made or resumed; by default a new one under runs/")
    flags.DEFINE_string("reproduce", None, "instead of --config: folder of a finished run, to make again and compare")
    flags.DEFINE_float("tolerance", 0.0, "of --reproduce: difference of a score that is no error", lower_bound=0)
    sys.exit(main(command, __doc__, sys.argv, instead="reproduce"))
