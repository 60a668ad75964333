"""List the ablations: options that take parts out of the model or swap them, under names for the command line.

    python -m experiments.run --config=experiments/iemocap.py:no_tgan+no_imcl
    python -m experiments.ablate --config=experiments/iemocap.py:single --ablations=no_tgan,no_imcl,no_tgan+no_imcl

A name stands for the options that it changes; `+` joins names. Other names override a task's options (`task_…`): in
task_regression+regression_mse the loss is that of regression_mse. To add an ablation, add a line to ABLATIONS.
`only_` and beginnings of names keep those modalities, as in `only_text` and `only_text_audio`.
"""

import difflib
import itertools
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ariigcn_jax.files import flatten
from ariigcn_jax.objective import tasks
from ariigcn_jax.objective.terms import TERMS
from ariigcn_jax.types import UserError

ONLY, TASK = "only_", "task_"
SINGLE: dict[str, Any] = {"members": 1, "data.cross_validation": False}
# Our additions to the paper's parts, one by one; `paper` takes all of them out
ADDITIONS: dict[str, dict[str, Any]] = {
    "no_unimodal": {"losses.unimodal.weight": 0.0},
    "no_ratings": {"losses.ratings.weight": 0.0},
    "no_ranked": {"data.ranked": ()},
    "no_copies": {"data.speaker_normalised": (), "data.dialogue_normalised": ()},
    "no_modality_dropout": {"model.modality_dropout": 0.0, "model.dialogue_dropout": 0.0},
    "no_input_dropout": {"model.input_dropout": 0.0},
    "no_focal": {"losses.emotion.gamma": 0.0},  # focal loss without its exponent is cross entropy
    "no_context": {"model.context": "none"},
    "no_average": {"optimizer.average": 0.0, "optimizer.schedule": "cosine"},  # without it, the rate has to fall to 0
}
PAPER = SINGLE | {key: value for part in ADDITIONS.values() for key, value in part.items()}


def _no_auxiliary() -> dict[str, Any]:
    return {f"losses.{slot}.weight": 0.0 for slot in TERMS if slot != "emotion"}


NO_AUXILIARY = _no_auxiliary()
# Baselines for `paper`: its encoders and classifier, with one kind of context or none
BASELINES: dict[str, dict[str, Any]] = {
    "utterance_mlp": PAPER | NO_AUXILIARY | {"model.graph.layers": 0},
    "contextual_gru": PAPER | NO_AUXILIARY | {"model.graph.layers": 0, "model.context": "gru"},
    "windowed_attention": PAPER | NO_AUXILIARY,
}
# Names whose options may have no effect on some losses, which is no error
WHOLE: dict[str, dict[str, Any]] = {"paper": PAPER, **BASELINES}
# Names that belong to experiments' files and are no ablations (base.finish)
OF_FILES = {
    "generated": "mosei, mustard and urfunny",
    "words": "iemocap, meld, mosi and own",
    "frozen_words": "iemocap, meld, mosi and own",
}
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
    # Each of several models is validated on a fold of its own, or all on the same validation split
    "cross_validation": {"data.cross_validation": True},
    "no_cross_validation": {"data.cross_validation": False},
    # The graph
    "no_graph": {"model.graph.layers": 0},
    "no_speaker": {"model.speakers": 0, "model.graph.speaker_relations": False, "data.speaker_normalised": ()},
    "no_edge_attention": {"model.graph.score": "uniform"},
    "dot_attention": {"model.graph.score": "dot"},
    "complete_graph": {"model.graph.past": -1, "model.graph.future": -1},
    # a context and copies standardised over the dialogue would see later utterances
    "causal_graph": {"model.graph.future": 0, "model.context": "none"} | ADDITIONS["no_copies"],
    # The functions of the loss slots
    "emotion_cross_entropy": {"losses.emotion.fn": "cross_entropy"},
    "emotion_weighted_cross_entropy": {"losses.emotion.fn": "weighted_cross_entropy"},
    "emotion_focal": {"losses.emotion.fn": "focal", "losses.emotion.gamma": 2.0},  # the published γ
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
    "gan_journal": {"model.gan.wiring": "latent", "discriminator.game": "summed"},  # the journal's code
    # IEMOCAP's other protocol: four emotions, and frustration is context without a label
    "four_way": {"data.relabel": "excited=happy,frustrated="},
    # The text encoder
    "turns": {"model.text.turns": 2},
    "utterance": {"model.graph.layers": 0, "model.speakers": 0, "model.context": "none"} | NO_AUXILIARY,
}
# Names for several ablations. `modalities`, each kind alone and each pair of kinds, follows from the corpus.
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
# Options that change what is measured, so that scores with and without cannot be compared
MEASURED = ("data.task", "data.label", "data.relabel", "data.split", "data.without")


def options(names: str) -> dict[str, Any]:
    """Return dotted key -> value that names joined by `+` set, others over a task; raise UserError where two differ."""
    listed = [name for name in names.split("+") if name]
    learnt = [name for name in listed if name.startswith(TASK)]
    return _joined(learnt) | _joined([name for name in listed if name not in learnt])


def _joined(names: Iterable[str]) -> dict[str, Any]:
    """Return the options of names that may not contradict each other."""
    changes: dict[str, Any] = {}
    first: dict[str, str] = {}  # option -> the first name that changes it
    for name in names:
        for key, value in _changes(name).items():
            other = first.setdefault(key, name)
            if changes.setdefault(key, value) != value:
                raise UserError(
                    f"The ablations {other} and {name} do not go together: {key} would be {changes[key]!r} and "
                    f"{value!r}. Leave one out."
                )
    return changes


def apply(config: Any, names: str) -> None:
    """Change and lock a config by ablations joined by `+`, and add them to its name; raise UserError as `options`."""
    if names:
        override(config, options(names))
        config.experiment += ("+" if ":" in config.experiment else ":") + names


def override(config: Any, changes: Mapping[str, Any]) -> None:
    """Change options of a config, dotted key -> value, and lock it; raise UserError where a key or a type is wrong."""
    config.lock()
    for key, value in changes.items():
        try:
            config.update_from_flattened_dict({key: value})
        except KeyError as error:
            meant = nearest(key, flatten(config.to_dict()))
            known = "ariigcn_jax/options/base.py lists them"
            raise UserError(f"The config has no option {key}.{meant} {known}.") from error
        except TypeError as error:
            leaves = flatten(config.to_dict())
            kind = f"of type {type(leaves[key]).__name__}" if key in leaves else "a group of options"
            raise UserError(f"{key} cannot be {value!r}: it is {kind}.") from error


def expand(names: Iterable[str], modalities: Sequence[str]) -> list[str]:
    """Return ablations with each group's members in its place, each once, in order; raise UserError for unknown names.

    The group `modalities` has the corpus's kinds: the part of a modality's name before the first underscore.
    """
    kinds = list(dict.fromkeys(m.partition("_")[0] for m in modalities))
    sets = [s for size in (1, 2) if size < len(kinds) for s in itertools.combinations(kinds, size)]
    groups = GROUPS | {MODALITIES: tuple(ONLY + "_".join(s) for s in sets)}
    found = dict.fromkeys(member for name in names for member in groups.get(name, (name,)))
    for name in found:
        options(name)
    return list(found)


def _changes(name: str) -> dict[str, Any]:
    if name.startswith(ONLY) and name != ONLY:
        return {"data.only": tuple(filter(None, name.removeprefix(ONLY).split("_")))}
    if name in OF_FILES:
        file = f"experiments/{OF_FILES[name].split(',')[0]}.py:{name}"
        raise UserError(f"{name} is no ablation, but a name of {OF_FILES[name]}, as in --config={file}.")
    # task_NAME is what is learnt: the head with its losses and its metric; data.label names the field
    known = ABLATIONS | {f"{TASK}{task}": tasks.options(task) for task in tasks.TASKS}
    if name not in known:
        raise UserError(
            f"There is no ablation {name!r}.{nearest(name, [*known, *OF_FILES])} Known: {', '.join(known)}; "
            f"{ONLY}MODALITY and {ONLY}MODALITY_MODALITY keep those whose names begin so; "
            f"for experiments.ablate also the groups {', '.join([*GROUPS, MODALITIES])}."
        )
    later = _no_auxiliary() if known[name].keys() >= NO_AUXILIARY.keys() else {}  # slots added since the import
    return known[name] | later


def nearest(word: str, known: Iterable[str]) -> str:
    """Return " Did you mean …?" with the known word that is most like another; "" where none is like it."""
    close = difflib.get_close_matches(word, list(known), 1)
    return f" Did you mean {close[0]}?" if close else ""
