"""A config and a corpus → compiled epochs that can be timed. The one place here that knows how a run trains."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np

from ariigcn_jax import runner, train
from ariigcn_jax.types import Corpus, TrainState, UserError
from tools.bench import clock, machine
from tools.bench.clock import Seconds

MARGIN = 1.2  # free memory over what the compiler says it needs, below which a program is not started


class TooLargeError(UserError):
    """A program needs more memory than is free."""


class Trainer:
    """An experiment whose epoch and validation are compiled.

    Attributes:
      corpus: standardised.
      experiment: as `train.make`.
      compiled: seconds of compiling epoch, validation and diagnosis.
      needs: bytes that the epoch's program takes beside its arguments.
    """

    def __init__(self, config: Any, corpus: Corpus):
        """Compiles.

        Raises:
          UserError: the config cannot be built on this corpus.
          TooLargeError: an epoch would not fit into the free memory.
        """
        self.config = config
        self.corpus = runner.prepare(corpus)[0]
        self.experiment = train.make(config, self.corpus)
        self.states: list[TrainState] = [self.experiment.init(config.seed)]
        self.compiled, self._epoch = clock.once(self._compile)
        analysis = self._epoch.memory_analysis()
        self.needs = 0 if analysis is None else int(analysis.temp_size_in_bytes)
        check_fits(self.needs, machine.free_memory())

    def _compile(self) -> jax.stages.Compiled:
        data = self.experiment.data["train"]
        epoch = self.experiment.epoch.lower(self.states[0], data).compile()
        self.experiment.evaluation("valid", self.states[0].weights)
        if self.config.diagnostics.every:
            self._data = runner._plain(self.experiment, data)
            state = runner._plain(self.experiment, self.states[0])
            self._diagnose = self.experiment.diagnose.lower(state, self._data).compile()
        return epoch

    def seeds(self, count: int) -> None:
        """Trains this many seeds from now on, each from its start."""
        self.states = [self.experiment.init(self.config.seed + s) for s in range(count)]

    def train(self) -> list[dict[str, Any]]:
        """An epoch of every seed, as a run does it; returns their logs."""
        data = self.experiment.data["train"]
        done = runner._each(self.experiment.num_devices, lambda state: self._epoch(state, data), self.states)
        self.states = [state for state, _ in done]
        return [jax.tree.map(np.asarray, logs) for _, logs in done]

    def validate(self) -> list[dict[str, np.ndarray]]:
        """Validation of every seed, as a run does it."""
        return runner._evaluate(self.experiment, "valid", [s.weights for s in self.states])

    def diagnose(self) -> list[dict[str, Any]]:
        """A look at the failure signatures of every seed, as a run does it; nothing where the config has none."""
        if not self.config.diagnostics.every:
            return []
        plain = runner._plain
        return runner._each(
            self.experiment.num_devices,
            lambda s: self._diagnose(plain(self.experiment, s), self._data),
            self.states,
        )

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
