"""Check options and corpora before anything is built."""

from __future__ import annotations

from typing import Any

from jax.typing import ArrayLike

from ariigcn_jax import rules
from ariigcn_jax.nn import model
from ariigcn_jax.objective import tasks, terms
from ariigcn_jax.rules import LIMIT, POSITIVE, RATE, Rule, at_least, one_of
from ariigcn_jax.types import Corpus, Description, UserError

# Options of training; those of the network are in `nn`, those of losses and metrics in `objective`.
RULES = {
    "seed": at_least(0),
    "num_seeds": at_least(1),
    "members": at_least(1),
    "num_epochs": at_least(1),
    "batch_size": at_least(1),
    "data.longest_row": LIMIT,
    "data.device_megabytes": LIMIT,
    "optimizer.lr": POSITIVE,
    "optimizer.schedule": one_of("cosine", "constant"),
    "optimizer.warmup_epochs": at_least(0),
    "optimizer.weight_decay": at_least(0),
    "optimizer.average": RATE,
    "optimizer.clip": at_least(0),
    "optimizer.accumulate": at_least(1),
    "optimizer.words.lr": POSITIVE,
    "optimizer.words.decay": Rule("be above 0 and at most 1", lambda x: 0 < x <= 1),
    "optimizer.words.warmup_epochs": at_least(0),
    "optimizer.words.weight_decay": at_least(0),
    "discriminator.lr": POSITIVE,
    "discriminator.b1": RATE,
    "discriminator.game": one_of("adversarial", "summed"),
    "eval.epoch": one_of("best", "last"),
    "diagnostics.every": at_least(0),
    "checkpoint.every_seconds": at_least(0),
    "checkpoint.keep": at_least(1),
}


def check_options(config: Any, description: Description) -> None:
    """Check the options of a run that decide what is built, for the description of a corpus.

    Raises:
      UserError: names an illegal option.
    """
    rules.check(config, RULES)
    model.check(config.model)
    if config.data.cross_validation and config.members < 2:
        raise UserError(
            "data.cross_validation=True takes two members at least, each without a fold of the dialogues: "
            "set --config.members=5, or --config.data.cross_validation=false."
        )
    tasks.check(config.data.task, config.losses.to_dict(), config.eval.select)
    judged = any(term.discriminator for term in active_terms(config, description).values())
    if judged and config.discriminator.game == "adversarial" and config.discriminator.lr > config.optimizer.lr:
        raise UserError(
            f"discriminator.lr={config.discriminator.lr} exceeds optimizer.lr={config.optimizer.lr}; "
            "the discriminators would run ahead of the generators. Lower the first or raise the second."
        )


def active_terms(config: Any, description: Description, class_weights: ArrayLike = 1.0) -> dict[str, terms.Term]:
    """Return the loss terms of a config that have a weight and truth in the corpus; class_weights: [C].

    Raises:
      UserError: an unknown loss, or no loss with a weight.
    """
    count, rated = len(description.modalities), description.ratings > 0
    active = terms.build(config.losses.to_dict(), class_weights, modalities=count, ratings=rated)
    if not active:
        raise UserError("Every loss has the weight 0: nothing would be learnt. Set losses.emotion.weight.")
    return active


def check_corpus(config: Any, corpus: Corpus) -> None:
    """Check that training and validation are possible on a corpus.

    Raises:
      UserError: says what is missing.
    """
    name = f"The corpus {corpus.name!r}"
    if corpus.task != config.data.task:
        raise UserError(f"{name} was read for data.task={corpus.task}, not {config.data.task}.")
    if corpus.target is None and corpus.num_classes < 2:
        only = ", ".join(corpus.label_names)
        raise UserError(
            f"{name} has only the class {only!r}: there is nothing to tell apart. Is its label another field?"
        )
    if not any(here[corpus.training].any() for here in corpus.present.values()):
        raise UserError(f"{name} has no features in its train split: all of them are missing, NaN or infinite.")
    if not corpus.labelled("valid").any():
        raise UserError(
            f"{name} has no labelled utterance in its validation split, which epoch and temperature are chosen on. "
            "Give some dialogues the split 'valid', or let data.valid_fraction carve them out of train."
        )
    if config.eval.report_best_test and not corpus.labelled("test").any():
        raise UserError(f"{name} has no labelled utterance in its test split: leave out eval.report_best_test=True.")
