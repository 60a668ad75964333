"""What the tools that read finished runs share: their options, and a run's model with its conversations."""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ariigcn_jax.data import normalisation
from ariigcn_jax.inference.model import TrainedModel
from ariigcn_jax.runs import runner, workdir
from ariigcn_jax.types import SPLITS, Corpus, Outputs, UserError


def parser(doc: str | None, split: str) -> argparse.ArgumentParser:
    """A parser with what both tools take: runs and a split."""
    made = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="work directory of a run")
    made.add_argument("--split", choices=SPLITS, default=split, help=f"whose conversations (default: {split})")
    return made


def as_read(model: TrainedModel, split: str) -> Corpus:
    """A split of the corpus that a run was trained on, as `TrainedModel.prepare` takes it.

    Args:
      model: of the run.
      split: one of SPLITS.

    Raises:
      UserError: the corpus is not where the run found it, or it has no such split, or none that it can be measured on.
    """
    from experiments import base
    from experiments.run import load_corpus

    config = base.get_config()
    config.update(model.config.to_dict())  # an option that is newer than the run stays at its default
    data = {option: tuple(config.data[option]) for option in normalisation.OPTIONS}
    for option in normalisation.OPTIONS:
        config.data[option] = ()  # the model does so itself
    check_split(model, split)
    config.data.cross_validation = False
    corpus = load_corpus(config)
    _check_same(model, corpus, data)
    corpus = as_trained(model, corpus)
    if split not in corpus.split:
        raise UserError(f"{model.path}: its corpus {corpus.name!r} has no {split} split. Choose another --split.")
    return only(corpus, corpus.split == split)


def _check_same(model: TrainedModel, corpus: Corpus, data: Mapping[str, Any]) -> None:
    """Raises a UserError where labels or features are not those that the run was trained on."""
    described = runner.describe(normalisation.with_copies(corpus, data))
    found = runner.changed(workdir.read_json(model.path / runner.CORPUS), described)
    differing = [name for name in found if name not in ("split", "part")]  # which are the tool's
    if differing:
        raise UserError(
            f"{model.path}: its corpus {corpus.name!r} has changed since it was trained on ({', '.join(differing)}). "
            "Put the one of then in its place."
        )


def check_split(model: TrainedModel, split: str | None) -> None:
    """Raises a UserError for the validation split of a model whose members were trained on most of it."""
    if split == "valid" and model.config.data.get("cross_validation"):
        raise UserError(
            f"{model.path}: most of its {model.members} models were trained on any one validation dialogue "
            "(data.cross_validation), so together they cannot be measured on it. Choose --split=test; the answers of "
            "those that were not are in its predictions/."
        )


def as_trained(model: TrainedModel, corpus: Corpus) -> Corpus:
    """A corpus with the splits of its file → with those that the members together were trained on."""
    if not model.config.data.get("cross_validation"):
        return corpus
    return dataclasses.replace(corpus, split=np.where(corpus.split == "test", corpus.split, "train"))


def conversations(model: TrainedModel, split: str) -> Corpus:
    """The same in the model's form.

    Raises:
      UserError: as `as_read`, or the corpus has changed its shape.
    """
    return model.prepare(as_read(model, split))


def only(corpus: Corpus, chosen: np.ndarray) -> Corpus:
    """The utterances `chosen` [U] bool of a corpus; whole dialogues, or the rest is no conversation."""
    rows = {
        f.name: value[chosen]
        for f in dataclasses.fields(corpus)
        if isinstance(value := getattr(corpus, f.name), np.ndarray)
    }
    return dataclasses.replace(
        corpus,
        features={m: x[chosen] for m, x in corpus.features.items()},
        present={m: x[chosen] for m, x in corpus.present.items()},
        utterance_ids=tuple(np.asarray(corpus.utterance_ids, object)[chosen]),
        **rows,
    )


def forward(model: TrainedModel, corpus: Corpus) -> tuple[list[Outputs], list[np.ndarray]]:
    """Outputs of a corpus that went through `conversations`, and where its utterances are ([R, L] for each batch)."""
    outputs, utterances = [], []
    for batch in model.batches(corpus):
        outputs.append(model.outputs(batch))
        utterances.append(np.asarray(batch.utterance))
    return outputs, utterances


def seeds(model: TrainedModel) -> range:
    """The seeds of a model's run."""
    return range(model.config.seed, model.config.seed + model.config.num_seeds)
