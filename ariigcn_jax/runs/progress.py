"""The parts of a run, its progress, and the checkpoints of both."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from ariigcn_jax.data import Normalisation
from ariigcn_jax.objective import tasks
from ariigcn_jax.objective.tasks import Task
from ariigcn_jax.runs.checkpoint import Checkpoints
from ariigcn_jax.runs.workdir import WorkDir
from ariigcn_jax.training.seeds import Seeds
from ariigcn_jax.types import WORDS, Corpus, UserError


@dataclasses.dataclass(frozen=True)
class Run:
    """Hold a run: its config, standardised corpus with statistics, models, checkpoints and open work directory."""

    config: Any
    corpus: Corpus
    normalisation: Normalisation
    seeds: Seeds
    checkpoints: Checkpoints
    directory: WorkDir

    @property
    def task(self) -> Task:
        """Return what is to be predicted."""
        return tasks.get(self.corpus.task)

    @property
    def sign(self) -> int:
        """Return 1 if a higher value of the selection metric is better, else -1."""
        return self.task.better(self.config.eval.select)

    def scores(self, split: str, outcome: Mapping[str, np.ndarray]) -> list[dict[str, Any]]:
        """Return each seed's scores from the result of `Seeds.evaluate`."""
        count = len(self.seeds.numbers)
        return [self.seeds.experiment.score(split, {k: x[s] for k, x in outcome.items()}) for s in range(count)]

    def items(self, progress: Progress) -> dict[str, Any]:
        """Return the content of a checkpoint: numpy copies with a leading axis of seeds."""
        return {
            "last": self.seeds.host(progress.states),
            "best": dict(params=self.seeds.host(progress.best), epoch=progress.best_epoch, score=progress.best_score),
            "data": self.normalisation.to_arrays(),
        }

    def save(self, progress: Progress) -> None:
        """Save the progress as a checkpoint."""
        self.checkpoints.save(progress.epoch, self.items(progress))

    def restore(self, epoch: int, like: Progress) -> Progress:
        """Return the progress after an epoch from its checkpoint; raise a UserError if the corpus has changed."""
        items = self.checkpoints.restore(epoch, self.items(like))
        for name, value in self.normalisation.to_arrays().items():
            known = items["data"][name]
            same = np.array_equal(known, value)
            if name.startswith(f"{WORDS}/"):  # what an encoder computes may differ in the last bits
                same = known.shape == value.shape and np.allclose(known, value, rtol=1e-3, atol=1e-5)
            if not same:
                raise UserError(
                    f"The corpus has changed since this run began: {name} differs from that in its checkpoint. "
                    "Use the same file, or another --workdir."
                )
        last, best = items["last"], items["best"]
        states = self.seeds.place(last.replace(key=jax.random.wrap_key_data(last.key)))
        params = self.seeds.place(best["params"])
        return Progress(epoch, states, params, np.array(best["epoch"]), np.array(best["score"]))

    def start(self) -> Progress:
        """Return fresh states, or those of the newest checkpoint, and cut the log to the same epoch."""
        count, states = len(self.seeds.numbers), self.seeds.init()
        best = self.seeds.place(self.seeds.host(self.seeds.weights(states)))
        progress = Progress(0, states, best, np.zeros(count, np.int32), np.full(count, -np.inf, np.float32))
        epoch = self.checkpoints.latest()
        if epoch is not None:
            progress = self.restore(epoch, progress)
            print(f"Resuming {self.directory.path} after epoch {epoch}.", flush=True)
        self.directory.truncate_after(progress.epoch)
        return progress

    def trained_until(self, epoch: int, like: Progress) -> Any:
        """Return the states after an earlier epoch by training again from the newest checkpoint."""
        self.checkpoints.wait()
        done = self.checkpoints.latest()
        states = self.seeds.init() if done is None else self.restore(done, like).states
        for _ in range(done or 0, epoch):
            states, _ = self.seeds.train(states)
        return states


@dataclasses.dataclass
class Progress:
    """Hold the progress of a run with S seeds."""

    epoch: int  # epochs done
    states: Any  # as `Seeds` holds them
    best: Any  # parameters of the epochs chosen so far
    best_epoch: np.ndarray  # [S], from 1; 0 before the first
    best_score: np.ndarray  # [S], on validation; negated if less is better

    def choose(self, seeds: Seeds, epoch: int, scores: np.ndarray, first: int = 0) -> None:
        """Keep the parameters of each seed whose validation score, more is better, is the highest so far.

        Of equal scores the earliest counts. Until the epoch `first` the newest parameters are kept.
        """
        scores = scores.astype(np.float32)  # as the best one is kept, or an equal one could seem better
        better = (scores > self.best_score) | (epoch <= first)
        self.best_score = np.where(better, scores, self.best_score)
        self.best_epoch = np.where(better, epoch, self.best_epoch).astype(np.int32)
        self.best = seeds.keep(better, seeds.weights(self.states), self.best)
