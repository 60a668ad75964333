"""Share options, and a run's model with its conversations, among the tools that read finished runs."""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from ariigcn_jax.data import prepare
from ariigcn_jax.inference.model import TrainedModel
from ariigcn_jax.runs import runner, workdir
from ariigcn_jax.types import SPLITS, Corpus, Outputs, UserError


def parser(doc: str | None, split: str) -> argparse.ArgumentParser:
    """Make a parser with what all of them take: runs and a split."""
    made = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="work directory of a run")
    made.add_argument("--split", choices=SPLITS, default=split, help=f"whose conversations (default: {split})")
    return made


def as_read(model: TrainedModel, split: str) -> Corpus:
    """Read a split of the corpus that a run was trained on, as `TrainedModel.prepare` takes it.

    Args:
      model: of the run.
      split: one of SPLITS.

    Raises:
      UserError: the corpus is not where the run found it or has changed, or it has no such split, or the model cannot
        be measured on it.
    """
    from experiments import session

    config, wanted = model.config, splits_of(model, split)
    corpus = session.read(config)
    described = runner.describe(prepare.arrange(corpus, config.data, config.members))
    if differing := runner.changed(workdir.read_json(model.path / runner.CORPUS), described):
        raise UserError(
            f"{model.path}: its corpus {corpus.name!r} has changed since it was trained on ({', '.join(differing)}). "
            "Put the original one in its place."
        )
    chosen = prepare.dialogues_in(corpus, wanted)
    if not chosen.any():
        raise UserError(f"{model.path}: its corpus {corpus.name!r} has no {split} split. Choose another --split.")
    return prepare.dialogues(corpus, chosen)


def splits_of(model: TrainedModel, split: str) -> tuple[str, ...]:
    """Return the splits of a file that a model was trained on, or validated or tested by.

    Args:
      model: of a run.
      split: one of SPLITS.

    Raises:
      UserError: it is the validation split of members that were trained on most of it.
    """
    if not model.config.data.cross_validation or split == "test":
        return (split,)
    if split == "valid":
        raise UserError(
            f"{model.path}: most of its {model.members} models were trained on any one validation dialogue "
            "(data.cross_validation), so together they cannot be measured on it. Choose --split=test; the answers of "
            "those that were not are in its predictions/."
        )
    return ("train", "valid")


def conversations(model: TrainedModel, split: str) -> Corpus:
    """Read a split as `as_read` does, and bring it into the model's form."""
    return model.prepare(as_read(model, split))


def forward(model: TrainedModel, corpus: Corpus) -> tuple[list[Outputs], list[np.ndarray]]:
    """Return outputs of a corpus of `conversations`, and where its utterances are ([R, L] for each batch)."""
    outputs, utterances = [], []
    for batch in model.batches(corpus):
        outputs.append(model.outputs(batch))
        utterances.append(np.asarray(batch.utterance))
    return outputs, utterances


def seeds(model: TrainedModel) -> range:
    """Return the seeds of a model's run."""
    return range(model.config.seed, model.config.seed + model.config.num_seeds)
