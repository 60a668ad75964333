"""Ablations: what to take out of the model or to swap in it, as data in the command line's vocabulary.

    python -m experiments.run --config=experiments/iemocap.py:no_tgan+no_imcl
    python -m experiments.ablate --config=experiments/iemocap.py:single --ablations=no_tgan,no_imcl,no_tgan+no_imcl

A name stands for the options that it changes; `+` joins names. What is learnt, `task_…`, is laid below the others: in
task_regression+regression_mse the loss is that of regression_mse. An entry of one's own is one line of ABLATIONS.

Which modalities there are depends on the corpus, so those ablations are a pattern: `only_` and the beginnings of the
names of those to keep, as in `only_text` and `only_text_audio`.
"""

from __future__ import annotations

import difflib
import itertools
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ariigcn_jax.objective import tasks
from ariigcn_jax.objective.terms import TERMS
from ariigcn_jax.types import UserError

ONLY, TASK = "only_", "task_"
SINGLE: dict[str, Any] = {"members": 1, "data.cross_validation": False}
# What is ours beside the paper's parts: one by one here, all of it in `paper`
ADDITIONS: dict[str, dict[str, Any]] = {
    "no_unimodal": {"losses.unimodal.weight": 0.0},
    "no_ratings": {"losses.ratings.weight": 0.0},
    # features as ranks
    "no_ranked": {"data.ranked": ()},
    # copies of features standardised within the dialogue, or within it and the speaker
    "no_copies": {"data.speaker_normalised": (), "data.dialogue_normalised": ()},
    # modalities and features that go missing in training
    "no_modality_dropout": {"model.modality_dropout": 0.0, "model.dialogue_dropout": 0.0},
    "no_input_dropout": {"model.input_dropout": 0.0},
    # focal loss without its exponent is cross entropy
    "no_focal": {"losses.emotion.gamma": 0.0},
    # the context behind the encoders
    "no_context": {"model.context": "none"},
    # the parameters themselves in place of their moving average, so at a rate that falls to 0
    "no_average": {"optimizer.average": 0.0, "optimizer.schedule": "cosine"},
}
PAPER = SINGLE | {key: value for part in ADDITIONS.values() for key, value in part.items()}
# No auxiliary loss: encoders, graph and classifier with its own loss
NO_AUXILIARY = {f"losses.{slot}.weight": 0.0 for slot in TERMS if slot != "emotion"}
# What `paper` is held against: its encoders and classifier alone, and one way to hear the conversation, or none
BASELINES: dict[str, dict[str, Any]] = {
    "utterance_mlp": PAPER | NO_AUXILIARY | {"model.graph.layers": 0},
    "contextual_gru": PAPER | NO_AUXILIARY | {"model.graph.layers": 0, "model.context": "gru"},
    "windowed_attention": PAPER | NO_AUXILIARY,
}
# Names that set options of losses which not every experiment takes
WHOLE: dict[str, dict[str, Any]] = {"paper": PAPER, **BASELINES}
# Names that are no ablations, with the experiments whose files know them (base.finish)
OF_FILES = {"generated": "mosei, mustard and urfunny", "text_layers": "iemocap, meld and mosi"}
ABLATIONS: dict[str, dict[str, Any]] = {
    # The paper's components
    "no_tgan": {"losses.adversarial.weight": 0.0},
    "no_iccl": {"losses.iccl.weight": 0.0},
    "no_imcl": {"losses.imcl.weight": 0.0},
    "no_contrast": {"losses.iccl.weight": 0.0, "losses.imcl.weight": 0.0},
    "no_auxiliary": NO_AUXILIARY,
    # The additions to them
    **ADDITIONS,
    **WHOLE,
    # One model, or the answers of five averaged
    "single": SINGLE,
    "ensemble": {"members": 5},
    # Each of several models leaves out another part of train and validation, or all the same validation split
    "cross_validation": {"data.cross_validation": True},
    "no_cross_validation": {"data.cross_validation": False},
    # The graph
    "no_graph": {"model.graph.layers": 0},
    # a copy standardised by speaker knows who speaks
    "no_speaker": {"model.speakers": 0, "model.graph.speaker_relations": False, "data.speaker_normalised": ()},
    "no_edge_attention": {"model.graph.score": "uniform"},
    "dot_attention": {"model.graph.score": "dot"},
    "complete_graph": {"model.graph.past": -1, "model.graph.future": -1},
    # a context would hear the whole dialogue, and copies are standardised over all of it
    "causal_graph": {
        "model.graph.future": 0,
        "model.context": "none",
        "data.speaker_normalised": (),
        "data.dialogue_normalised": (),
    },
    # The functions of the loss slots
    "emotion_cross_entropy": {"losses.emotion.fn": "cross_entropy"},
    "emotion_weighted_cross_entropy": {"losses.emotion.fn": "weighted_cross_entropy"},
    "emotion_focal": {"losses.emotion.fn": "focal", "losses.emotion.gamma": 2.0},  # as it was published
    "regression_l1": {"losses.emotion.fn": "l1", "losses.unimodal.fn": "l1"},
    "regression_mse": {"losses.emotion.fn": "mse", "losses.unimodal.fn": "mse"},
    "regression_huber": {"losses.emotion.fn": "huber", "losses.unimodal.fn": "huber"},
    "ratings_mse": {"losses.ratings.fn": "mse"},
    "ratings_l1": {"losses.ratings.fn": "l1"},
    "ratings_huber": {"losses.ratings.fn": "huber"},
    "adversarial_bce": {"losses.adversarial.fn": "bce"},
    "adversarial_least_squares": {"losses.adversarial.fn": "least_squares"},
    "adversarial_hinge": {"losses.adversarial.fn": "hinge"},
    "iccl_supervised_nce": {"losses.iccl.fn": "supervised_nce"},
    "iccl_margin": {"losses.iccl.fn": "margin"},
    "imcl_supervised_nce": {"losses.imcl.fn": "supervised_nce"},
    "imcl_margin": {"losses.imcl.fn": "margin"},
    "contrast_supervised_nce": {"losses.iccl.fn": "supervised_nce", "losses.imcl.fn": "supervised_nce"},
    "contrast_margin": {"losses.iccl.fn": "margin", "losses.imcl.fn": "margin"},
    # The GAN
    "gan_feature": {"model.gan.wiring": "feature"},
    "gan_latent": {"model.gan.wiring": "latent"},
    "gan_summed": {"discriminator.game": "summed"},
    # As the journal version's code has it: on codes, both players' losses added up under one optimizer
    "gan_journal": {"model.gan.wiring": "latent", "discriminator.game": "summed"},
    # IEMOCAP's other protocol: four emotions, and frustration is context without a label
    "four_way": {"data.relabel": "excited=happy,frustrated="},
}
# Names for several; `modalities`, each kind alone and each pair of kinds, follows from the corpus.
GROUPS: dict[str, tuple[str, ...]] = {
    "components": tuple(
        f"no_{part}" for part in ("tgan", "iccl", "imcl", "contrast", "unimodal", "ratings", "auxiliary", "graph")
    ),
    "additions": tuple(ADDITIONS),
    "baselines": tuple(BASELINES),
    "graph": ("no_graph", "no_speaker", "no_edge_attention", "dot_attention", "complete_graph", "causal_graph"),
    "losses": tuple(name for name in ABLATIONS if name.startswith(("emotion_", "adversarial_", "iccl_", "imcl_"))),
    "gan": tuple(name for name in ABLATIONS if name.startswith("gan_")),
}
MODALITIES = "modalities"
# Options with which scores are of something else, and have no difference from those without.
MEASURED = ("data.task", "data.label", "data.relabel", "data.split", "data.without")


def options(names: str) -> dict[str, Any]:
    """What ablations change.

    Args:
      names: names joined by `+`; "" changes nothing.

    Returns:
      Dotted key of the config -> value. A task's options give way to those of other names.

    Raises:
      UserError: an unknown name, or two that want different values of one option.
    """
    listed = [name for name in names.split("+") if name]
    learnt = [name for name in listed if name.startswith(TASK)]
    return _joined(learnt) | _joined([name for name in listed if name not in learnt])


def _joined(names: Iterable[str]) -> dict[str, Any]:
    """What names change that stand beside each other."""
    changes: dict[str, Any] = {}
    owner: dict[str, str] = {}
    for name in names:
        for key, value in _changes(name).items():
            if changes.setdefault(key, value) != value:
                raise UserError(
                    f"The ablations {owner[key]} and {name} do not go together: {key} would be {changes[key]!r} and "
                    f"{value!r}. Leave one out."
                )
            owner.setdefault(key, name)
    return changes


def apply(config: Any, names: str) -> None:
    """Changes a config's options, locked or not, and adds the ablations to the experiment's name.

    Args:
      config: as `experiments.base.get_config`.
      names: names joined by `+`; "" changes nothing.

    Raises:
      UserError: as `options` and `override`.
    """
    if names:
        override(config, options(names))
        config.experiment += ("+" if ":" in config.experiment else ":") + names


def override(config: Any, changes: Mapping[str, Any]) -> None:
    """Changes options that a config has; one that it has not is an error, or a typo would measure nothing.

    Args:
      config: as `experiments.base.get_config`; locked from here on.
      changes: dotted key -> value.

    Raises:
      UserError: there is no such option, or its value is of another type.
    """
    config.lock()
    for key, value in changes.items():
        try:
            config.update_from_flattened_dict({key: value})
        except KeyError as error:
            raise UserError(
                f"The config has no option {key}.{nearest(key, _leaves(config))} experiments/base.py has them all."
            ) from error
        except TypeError as error:
            leaves = _leaves(config)
            kind = f"of type {type(leaves[key]).__name__}" if key in leaves else "a group of options"
            raise UserError(f"{key} cannot be {value!r}: it is {kind}.") from error


def expand(names: Iterable[str], modalities: Sequence[str]) -> list[str]:
    """Names with each group in place of its name, each once, in order.

    Args:
      names: ablations and groups.
      modalities: names of the corpus' modalities, for the group `modalities`. What stands before the first underscore
        is a modality's kind.

    Raises:
      UserError: an unknown name.
    """
    kinds = list(dict.fromkeys(m.partition("_")[0] for m in modalities))
    sets = [s for size in (1, 2) if size < len(kinds) for s in itertools.combinations(kinds, size)]
    groups = GROUPS | {MODALITIES: tuple(ONLY + "_".join(s) for s in sets)}
    found = [member for name in names for member in groups.get(name, (name,))]
    for name in found:
        options(name)
    return list(dict.fromkeys(found))


def _changes(name: str) -> dict[str, Any]:
    if name.startswith(ONLY) and name != ONLY:
        return {"data.only": tuple(filter(None, name.removeprefix(ONLY).split("_")))}
    if name in OF_FILES:
        raise UserError(
            f"{name} is no ablation. It stands behind the file of an experiment that has it, as in "
            f"--config=experiments/{OF_FILES[name].split(',')[0]}.py:{name}; {OF_FILES[name]} do."
        )
    # task_NAME is what is learnt: the head with its losses and its metric; data.label names the field
    known = ABLATIONS | {f"{TASK}{task}": tasks.options(task) for task in tasks.TASKS}
    if name not in known:
        raise UserError(
            f"There is no ablation {name!r}.{nearest(name, [*known, *OF_FILES])} Known: {', '.join(known)}; "
            f"{ONLY}MODALITY and {ONLY}MODALITY_MODALITY keep those whose names begin so; "
            f"for experiments.ablate also the groups {', '.join([*GROUPS, MODALITIES])}."
        )
    return known[name]


def nearest(word: str, known: Iterable[str]) -> str:
    """ " Did you mean …?", with the known word that is most like another; "" where none is like it."""
    close = difflib.get_close_matches(word, list(known), 1)
    return f" Did you mean {close[0]}?" if close else ""


def _leaves(config: Any) -> dict[str, Any]:
    from ariigcn_jax.files import flatten

    return flatten(config.to_dict())
