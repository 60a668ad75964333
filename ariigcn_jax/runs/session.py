"""Load the corpus of a config, and run a config: what every command that trains or measures begins with."""

import contextlib
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ariigcn_jax import data
from ariigcn_jax.data import prepare, targets
from ariigcn_jax.features import recordings
from ariigcn_jax.files import local
from ariigcn_jax.types import WORDS, Corpus, UserError

# Where and how a run is computed, which may change when it is resumed.
MAY_DIFFER = ("num_devices", "seeds_by", "distributed", "data.device_megabytes", "debug")


def load(
    config: Any, overrides: Sequence[str] = (), given: Corpus | None = None, run: str | Path | None = None
) -> Corpus:
    """Read or generate the corpus that a run of a config trains on, not standardised, and print its notes.

    Args:
      config: as `options.base.get_config`.
      overrides: dotted keys that the user set by hand.
      given: a corpus that is taken as read.
      run: the folder of a run that was begun, whose copy of the text encoder is taken; None for a new run.

    Raises:
      UserError: an option does not fit, or the corpus cannot be used.
    """
    corpus = read(config, strict="data.sound" in overrides) if given is None else given
    only = tuple(config.data.only)
    spoken = WORDS in corpus.features and not corpus.features[WORDS].shape[1]
    if spoken and (not only or WORDS.startswith(tuple(map(str, only)))):
        from ariigcn_jax.features import words
        from ariigcn_jax.runs import runner

        folder = runner.text_encoder(local(run)) if run else None
        corpus = words.attach(corpus, config.model.text, words.looks_ahead(config.model), folder)
    corpus = prepare.arrange(corpus, config.data, config.members, overrides)
    for note in corpus.notes:
        print(f"note: {note}")
    return corpus


def read(config: Any, strict: bool = False) -> Corpus:
    """Return the corpus of a config as it is in the file, with features of its recordings.

    `strict` is whether it is an error where these cannot be made; else they are left out with a note.

    Raises:
      UserError: there is no such corpus, or an option does not fit.
    """
    options = config.data
    targets.of(options.task)  # refuses an unknown one before anything is read
    if len(options.generate) and not options.path:
        of_files = ("modalities", *data.normalisation.OPTIONS, "ratings", "relabel", "split", "without")
        if given := [f"data.{option}" for option in of_files if options[option]]:
            raise UserError(
                f"{', '.join(given)}: for files alone, and these conversations are generated. Leave it out; data.only "
                "chooses among their modalities."
            )
        return data.generate(**options.generate.to_dict(), task=options.task)
    if not options.path and not options.name:
        raise UserError(
            f"--config.data.path=PATH, with the conversations, is missing. What is read:\n{data.layouts.listing()}"
        )
    path = data.locate(options.path, options.name)
    fields: dict[str, Any] = {"modalities": tuple(options.modalities), "ratings": tuple(options.ratings)}
    name = None if options.path else options.name
    fields["words"] = bool(config.model.text.encoder) and (not fields["modalities"] or WORDS in fields["modalities"])
    encoders = recordings.of_option(options.sound)
    only = tuple(map(str, options.only))
    fields["recorded"] = tuple(m for m in encoders if not only or m.startswith(only))
    corpus = data.load(path, name=name, **fields, **reading(options), **splitting(options))
    return recordings.attach(corpus, encoders, strict)


def reading(options: Any) -> dict[str, Any]:
    """Return the keywords of `data.load` for the labels, of the options `data` of a config."""
    return {"label": options.label, "task": options.task, "relabel": options.relabel}


def splitting(options: Any) -> dict[str, Any]:
    """Return the keywords of `data.load` for the splits, of the options `data` of a config."""
    # Under cross-validation every model holds out a fold, so no validation split is carved.
    fraction = 0.0 if options.cross_validation else options.valid_fraction
    return {"split": options.split, "without": options.without, "valid_fraction": fraction}


def execute(
    config: Any, workdir: str | None, overrides: Sequence[str] = (), corpus: Corpus | None = None
) -> dict[str, Any]:
    """Run a config, and return the content of results.json.

    Args:
      config: as `options.base.get_config`, locked.
      workdir: the run's folder, or None for a new one.
      overrides: dotted keys that the user set by hand; one that has no effect is an error.
      corpus: of the config, where `load` was called before.

    Raises:
      UserError: an option, the corpus or the folder is wrong, or the training ended early.
    """
    if corpus is None:
        corpus = load(
            config, overrides, run=workdir
        )  # first, so that an error in the data is shown within a second or two
    from ariigcn_jax import parallel
    from ariigcn_jax.objective import terms
    from ariigcn_jax.runs import compilation, results, runner
    from ariigcn_jax.runs import workdir as workdirs
    from ariigcn_jax.training import checks, seeds

    terms.check_overrides(config.losses.to_dict(), overrides)
    checks.check_options(config, corpus.description)  # before a folder is made
    checks.check_corpus(config, corpus)
    seeds.check(config)

    def begin() -> workdirs.WorkDir:
        return workdirs.open(workdir, config.experiment, config.to_dict(), may_differ=MAY_DIFFER)

    with contextlib.ExitStack() as stack:
        if config.distributed.coordinator:
            parallel.join(**config.distributed.to_dict())
            stack.enter_context(parallel.ending_together())
            if not parallel.is_first():
                stack.enter_context(contextlib.redirect_stdout(stack.enter_context(open(os.devnull, "w"))))
        otherwise: workdirs.WorkDir = workdirs.ReadOnlyWorkDir()
        directory = stack.enter_context(parallel.from_first(begin, otherwise))
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
        if content:  # this process writes
            print(results.table(content))
            print(f"{directory.path}: results.json, predictions, pictures, checkpoints and logs are there.")
    return content
