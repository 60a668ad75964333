"""A config and a corpus → compiled epochs that can be timed. The one place here that knows how a run trains."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np

from ariigcn_jax.data import prepare
from ariigcn_jax.training import seeds
from ariigcn_jax.types import Corpus, UserError
from tools.bench import clock, machine
from tools.bench.clock import Seconds

MARGIN = 1.2  # free memory over what the compiler says it needs, below which a program is not started


class TooLargeError(UserError):
    """A program needs more memory than is free."""


class Trainer:
    """Seeds whose epoch, validation and diagnosis are compiled, as a run trains them.

    Attributes:
      corpus: standardised.
      seeds: as `seeds.make`.
      experiment: what one seed does.
      compiled: seconds of compiling epoch, validation and diagnosis.
      needs: bytes that the epoch's program takes beside its arguments.
    """

    def __init__(self, config: Any, corpus: Corpus, num_seeds: int = 1, way: str = seeds.AUTO):
        """Compiles.

        Args:
          config: as `experiments.base.get_config`; its seeds are not looked at.
          corpus: as read.
          num_seeds: how many.
          way: how they share the hardware.

        Raises:
          UserError: the config cannot be built on this corpus.
          TooLargeError: an epoch would not fit into the free memory.
        """
        self.config = config.copy_and_resolve_references()
        self.config.update(num_seeds=num_seeds, members=1, seeds_by=way)
        self.corpus = prepare.standardise(corpus)[0]
        self.seeds = seeds.make(self.config, self.corpus)
        self.experiment = self.seeds.experiment
        self.states = self.seeds.init()
        diagnosis = bool(config.diagnostics.every)
        self.compiled, epoch = clock.once(lambda: self.seeds.compile(self.states, ("valid",), diagnosis))
        analysis = epoch.memory_analysis() if isinstance(epoch, jax.stages.Compiled) else None
        self.needs = 0 if analysis is None else int(analysis.temp_size_in_bytes)
        check_fits(self.needs, machine.free_memory())

    def train(self) -> dict[str, np.ndarray]:
        """An epoch of every seed, as a run does it; returns their logs."""
        self.states, logs = self.seeds.train(self.states)
        return logs

    def validate(self) -> dict[str, np.ndarray]:
        """Validation of every seed, as a run does it."""
        return self.seeds.evaluate("valid", self.seeds.weights(self.states))

    def diagnose(self) -> dict[str, Any]:
        """A look at the failure signatures of every seed, as a run does it; nothing where the config has none."""
        return self.seeds.diagnose(self.states) if self.config.diagnostics.every else {}

    @property
    def utterances(self) -> int:
        """Of an epoch, one seed."""
        return int((self.corpus.split == "train").sum())

    @property
    def nodes(self) -> int:
        """Utterances times modalities of an epoch, one seed."""
        return self.utterances * len(self.corpus.modalities)


def check_fits(needs: int, free: int | None) -> None:
    """Raises TooLargeError for a program that needs more bytes than are free (None: not known)."""
    if free is not None and needs * MARGIN > free:
        raise TooLargeError(f"needs {needs / 2**30:.1f} GiB beside the data, {free / 2**30:.1f} GiB are free")


def epoch_seconds(trainer: Trainer, *, most: int, budget: float, warm: bool = False) -> dict[str, Seconds]:
    """Median seconds of an epoch's training, its validation, its share of the diagnoses, and all three, all seeds
    together; see `clock.samples`."""
    trained = clock.median(clock.samples(trainer.train, most=most, budget=budget, warm=warm))
    validated = clock.median(clock.samples(trainer.validate, most=most, budget=budget, warm=warm))
    every = trainer.config.diagnostics.every
    diagnosed = Seconds(0.0, 0.0)
    if every:
        diagnosed = clock.median(clock.samples(trainer.diagnose, most=most, budget=budget, warm=warm)) / every
    parts = {"train": trained, "validate": validated, "diagnose": diagnosed}
    return {**parts, "epoch": trained + validated + diagnosed}
