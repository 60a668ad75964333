"""Read the conversations that a run was trained on, and the models of its seeds."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from ariigcn_jax.data import prepare
from ariigcn_jax.inference import model as inference
from ariigcn_jax.runs import runner, session, workdir
from ariigcn_jax.types import Corpus, UserError


def as_read(model: inference.TrainedModel, split: str) -> Corpus:
    """Read a split of the corpus that a run was trained on, as `TrainedModel.prepare` takes it.

    Raises:
      UserError: the corpus is missing or has changed, has no such split, or the model cannot be measured on it.
    """
    wanted = splits_of(model, split)
    corpus = session.read(model.config, strict=True)
    if model.words is not None:
        known = model.words.encoder.pretrained
        corpus = dataclasses.replace(corpus, encoder=(known.folder, known.digest))
    described = runner.describe(prepare.arrange(corpus, model.config.data, model.config.members))
    if differing := runner.changed(workdir.read_json(model.path / runner.CORPUS), described):
        raise UserError(
            f"{model.path}: its corpus {corpus.name!r} has changed since it was trained on ({', '.join(differing)}). "
            "Put the original one in its place."
        )
    chosen = prepare.dialogues_in(corpus, wanted)
    if not chosen.any():
        raise UserError(f"{model.path}: its corpus {corpus.name!r} has no {split} split. Choose another --split.")
    return prepare.dialogues(corpus, chosen)


def by_vectors(
    models: Sequence[inference.TrainedModel], corpus: Corpus
) -> list[tuple[Sequence[inference.TrainedModel], Corpus]]:
    """Return a corpus, as read, with vectors of its words, for the models of a run that share them.

    Those that have trained a text encoder have vectors of their own, all others the same.
    """
    if models[0].words is None:
        return [(models, corpus)]
    groups = [models] if models[0].words.encoder.frozen else [[model] for model in models]
    return [(group, group[0].words.attach(corpus)) for group in groups if group[0].words]


def splits_of(model: inference.TrainedModel, split: str) -> tuple[str, ...]:
    """Return the splits of the file that hold what a model calls a split; cross-validation trains on two.

    Raises:
      UserError: it is the validation split, and most members were trained on each of its dialogues.
    """
    if not model.config.data.cross_validation or split == "test":
        return (split,)
    if split == "valid":
        raise UserError(
            f"{model.path}: most of its {model.members} models were trained on any one validation dialogue "
            "(data.cross_validation). Choose --split=test; the answers of the models that left a dialogue out are in "
            "predictions/."
        )
    return ("train", "valid")


def models(run: Path) -> list[inference.TrainedModel]:
    """Return the model of every seed of a run."""
    config = inference.load(run).config
    return [inference.load(run, seed=seed) for seed in range(config.seed, config.seed + config.num_seeds)]
