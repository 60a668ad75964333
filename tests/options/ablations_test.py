"""Ablations: each removes or swaps what its name says, they compose, and no typo passes."""

import dataclasses
import importlib
import pathlib

import numpy as np
import pytest

from ariigcn_jax.commands import command
from ariigcn_jax.data import generate, prepare
from ariigcn_jax.files import flatten
from ariigcn_jax.nn import gan
from ariigcn_jax.objective import tasks
from ariigcn_jax.objective import terms as objective
from ariigcn_jax.options import ablations, base
from ariigcn_jax.runs import session
from ariigcn_jax.training import build
from ariigcn_jax.types import UserError
from tests.support import builders
from tests.support.encoders import WIDTH, tiny_encoder

ROOT = pathlib.Path(__file__).resolve().parents[2]
EXPERIMENTS = ("iemocap", "meld", "mosi", "mosei", "urfunny", "mustard", "synthetic")
CORPUS = generate(dialogues=6, utterances=(2, 4), classes=3, widths={"text_a": 4, "audio": 3, "vocal_b_c": 2})


def config(names="", experiment="synthetic"):
    return importlib.import_module(f"experiments.{experiment}").get_config(names)


def players(names):
    return build.make_players(config(names), dataclasses.replace(CORPUS.description, ratings=2), 1)


# --- What is taken out ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "gone"),
    [
        ("no_tgan", {"adversarial"}),
        ("no_iccl", {"iccl"}),
        ("no_imcl", {"imcl"}),
        ("no_contrast", {"iccl", "imcl"}),
        ("no_unimodal", {"unimodal"}),
        ("no_ratings", {"ratings"}),
        ("no_auxiliary", {"unimodal", "ratings", "adversarial", "iccl", "imcl"}),
    ],
)
def test_component_is_out_of_the_loss_and_of_the_network(name, gone):
    made = players(name)
    assert made.terms.keys() == {"emotion", "unimodal", "ratings", "adversarial", "iccl", "imcl"} - gone
    heads = {
        "ratings": {"ratings"},
        "unimodal": {"unimodal"},
        "generated": {"adversarial"},
        "contrast": {"iccl", "imcl"},
    }
    assert made.model.further == {name for name, slots in heads.items() if not slots <= gone}


@pytest.mark.parametrize(
    ("name", "fields"),
    [
        ("no_graph", {"graph.layers": 0}),
        ("no_speaker", {"speakers": 0, "graph.speaker_relations": False}),
        ("no_edge_attention", {"graph.score": "uniform"}),
        ("dot_attention", {"graph.score": "dot"}),
        ("complete_graph", {"graph.past": -1, "graph.future": -1}),
        ("causal_graph", {"graph.past": 10, "graph.future": 0}),
        ("gan_latent", {"gan.wiring": "latent"}),
    ],
)
def test_network_differs_in_what_the_name_says_alone(name, fields):
    plain, changed = (players(n).model for n in ("", name))
    assert (plain.description, plain.further) == (changed.description, changed.further)
    plain, changed = (flatten(m.options.as_configdict().to_dict()) for m in (plain, changed))
    different = {key: changed[key] for key in plain if plain[key] != changed[key]}
    expected = {key: value for key, value in fields.items() if plain[key] != value}
    assert expected and different == expected


@pytest.mark.parametrize(
    ("name", "left"), [("no_speaker", [(), ("audio",)]), ("causal_graph", [(), ()]), ("dot_attention", None)]
)
def test_copies_go_where_they_would_leak_past_the_graph(name, left):
    copies = {"data.speaker_normalised": ("text",), "data.dialogue_normalised": ("audio",)}
    changed = copies | ablations.ABLATIONS[name]
    assert [changed[key] for key in copies] == (left or list(copies.values()))


def test_journal_gan_is_latent_and_has_one_loss():
    assert (players("gan_journal").summed, players("gan_journal").wiring) == (True, "latent")
    assert (players("gan_summed").summed, players("gan_summed").wiring) == (True, "feature")
    assert not players("").summed


def test_every_function_of_every_slot_and_every_wiring_has_a_name():
    for name, slot in objective.TERMS.items():
        fit = tasks.get("classification").losses if slot.truth == "answer" else tuple(slot.forms)
        functions = [function for function in slot.forms if function in fit]
        for function in functions if len(functions) > 1 else ():
            assert config(f"{name}_{function}").losses[name].fn == function
    for function in tasks.get("regression").losses:
        losses = config(f"regression_{function}").losses
        assert losses.emotion.fn == losses.unimodal.fn == function
    for function in objective.TERMS["iccl"].forms:
        changed = config(f"contrast_{function}")
        assert changed.losses.iccl.fn == changed.losses.imcl.fn == function
    for wiring in gan.WIRINGS:
        assert config(f"gan_{wiring}").model.gan.wiring == wiring


def test_paper_leaves_the_papers_terms_and_no_addition():
    plain, changed = (config(names, "iemocap") for names in ("", "paper"))
    made = build.make_players(changed, CORPUS.description, 1)
    assert made.terms.keys() == {"emotion", "adversarial", "iccl", "imcl"} and "unimodal" not in made.model.further
    assert (made.average, made.modality_dropout, made.model.options.input_dropout) == (0, (0, 0), 0)
    assert plain.data.dialogue_normalised and not changed.data.dialogue_normalised
    assert plain.data.ranked and not changed.data.ranked


@pytest.mark.parametrize(
    ("name", "farthest"), [("utterance_mlp", 0), ("contextual_gru", 29), ("windowed_attention", 20)]
)
def test_baseline_has_the_classifiers_loss_alone_and_its_context(name, farthest):
    """Check the last of 30 utterances whose answer changes with the first one, `farthest`."""
    corpus = builders.corpus([30])
    made = build.make_players(config(name, "iemocap"), dataclasses.replace(corpus.description, ratings=3), 1)
    assert made.terms.keys() == {"emotion"} and made.average == 0 and made.modality_dropout == (0, 0)
    batch = builders.place(corpus, [[0]], 30)
    _, params = builders.init(made.model, batch, False)
    moved = batch.replace(features={m: x.at[0, 0].add(3.0) for m, x in batch.features.items()})
    before, after = (made.model.apply({"params": params}, b, False).logits[0] for b in (batch, moved))
    assert np.flatnonzero(np.abs(after - before).max(axis=-1))[-1] == farthest


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_every_ablation_fits_every_experiment(experiment):
    plain = config("", experiment)
    before = flatten(plain.to_dict())
    for name, changes in ablations.ABLATIONS.items():
        changed = plain.copy_and_resolve_references()
        ablations.apply(changed, name)
        assert flatten(changed.to_dict()) == before | changes | {"experiment": f"{experiment}:{name}"}


def test_groups_name_what_is_there():
    assert all(name in ablations.ABLATIONS for group in ablations.GROUPS.values() for name in group)


# --- Composition ------------------------------------------------------------------------------------------------------


def test_plus_joins():
    changed = config("no_tgan+no_imcl+only_text_audio")
    assert changed.experiment == "synthetic:no_tgan+no_imcl+only_text_audio"
    assert changed.losses.adversarial.weight == changed.losses.imcl.weight == 0
    assert changed.losses.iccl.weight == base.get_config().losses.iccl.weight
    assert changed.data.only == ("text", "audio")
    ablations.apply(changed, "no_graph")
    assert changed.experiment == "synthetic:no_tgan+no_imcl+only_text_audio+no_graph"


def test_same_value_twice_is_no_conflict_and_two_values_are():
    assert ablations.options("no_iccl+no_contrast") == ablations.options("no_contrast")
    with pytest.raises(UserError, match=r"complete_graph and causal_graph.*model\.graph\.future would be -1 and 0"):
        config("complete_graph+causal_graph")


@pytest.mark.parametrize("names", ["task_regression+regression_mse", "regression_mse+no_tgan+task_regression"])
def test_other_names_override_a_task(names):
    changed = config(names)
    assert (changed.data.task, changed.eval.select) == ("regression", "mae")
    assert changed.losses.emotion.fn == changed.losses.unimodal.fn == "mse"
    assert config("task_classification+emotion_focal").losses.emotion.fn == "focal"
    with pytest.raises(UserError, match=r"regression_l1 and regression_mse do not go together: losses\.emotion\.fn"):
        config("task_regression+regression_l1+regression_mse")
    with pytest.raises(UserError, match=r"task_regression and task_multilabel do not go together: data\.task would be"):
        config("task_regression+task_multilabel+emotion_focal")


def test_groups_expand_once_and_in_order():
    modalities = ("text_a", "text_b", "audio", "vocal_b_c")
    assert ablations.expand(["no_iccl", "components"], modalities)[:3] == ["no_iccl", "no_tgan", "no_imcl"]
    pairs = ["only_text_audio", "only_text_vocal", "only_audio_vocal"]
    assert ablations.expand(["modalities"], modalities) == ["only_text", "only_audio", "only_vocal", *pairs]
    assert ablations.expand(["modalities"], modalities[:3]) == ["only_text", "only_audio"]
    assert ablations.expand(["modalities", "no_tgan+no_graph"], modalities[:1]) == ["no_tgan+no_graph"]


def test_only_keeps_the_modalities_whose_names_begin_so():
    assert prepare.modalities(CORPUS, ("vocal", "text")).modalities == ("text_a", "vocal_b_c")
    assert prepare.modalities(CORPUS, ()).modalities == CORPUS.modalities
    kept = prepare.modalities(CORPUS, ("audio",))
    assert kept.features.keys() == kept.present.keys() == {"audio"}
    assert kept.features["audio"] is CORPUS.features["audio"] and len(kept) == len(CORPUS)
    with pytest.raises(UserError, match=r"begins with 'face'; it has text_a, audio, vocal_b_c"):
        prepare.modalities(CORPUS, ("text", "face"))


# --- Words -----------------------------------------------------------------------------------------------------------


WITH_WORDS = {
    "iemocap": ("words", "audio_egemaps", "vocal_prosody_disfluency"),
    "meld": ("words",),
    "mosi": ("words",),
}


@pytest.mark.parametrize("experiment", WITH_WORDS)
@pytest.mark.parametrize("train", ["words", "frozen_words"])
def test_words_take_the_place_of_text_features(experiment, train, tmp_path, monkeypatch):
    random = np.random.default_rng(0)
    fields = {
        "dialogue_id": np.repeat([f"d{k}" for k in range(24)], 3),
        "split": np.repeat(["train", "valid", "test"], 24),
        "label": np.arange(72) % 2,
        "transcript": np.array(["yes", "no", "well"] * 24),
    }
    for name in ("text_minilm", "text_cnn", "audio_egemaps", "vocal_prosody_disfluency", "visual_3dcnn"):
        fields[name] = random.normal(size=(72, 4)).astype(np.float32)
    np.savez(tmp_path / f"{experiment}.npz", **fields)
    monkeypatch.setenv("ARIIGCN_DATA", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    chosen = config(f"{train}+single", experiment)
    assert chosen.experiment == f"{experiment}:{train}+single" and chosen.members == 1
    chosen.data.ratings = ()
    chosen.model.text.encoder = str(tiny_encoder(tmp_path / "tiny"))
    chosen.model.text.train = chosen.model.text.train.replace("last_3", "last_1")
    chosen.model.text.layers = (-1, -2)
    chosen.model.text.max_tokens = 16
    if train == "words":
        chosen.model.text.layers = (-1,)
    corpus = session.load(chosen)
    assert corpus.modalities == WITH_WORDS[experiment]
    assert corpus.widths["words"] == WIDTH * len(chosen.model.text.layers)
    assert (corpus.words is None) == (train == "frozen_words")


@pytest.mark.parametrize("name", ablations.OF_FILES)
def test_message_names_the_experiments_whose_files_have_the_name(name):
    for experiment in EXPERIMENTS:
        if experiment in ablations.OF_FILES[name]:
            assert config(name, experiment).experiment == f"{experiment}:{name}"
        else:
            with pytest.raises(UserError, match="is no ablation"):
                config(name, experiment)


# --- Typos ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("names", "words"),
    [
        ("no_tgn", r"no ablation 'no_tgn'\. Did you mean no_tgan\? Known: .*causal_graph.*only_.*modalities"),
        ("no_tgan+nonsense", r"no ablation 'nonsense'\. Known: no_tgan"),
        ("only_", "no ablation 'only_'"),
        ("modalities", "no ablation 'modalities'"),
        ("frozen_word", r"no ablation 'frozen_word'\. Did you mean frozen_words"),
        ("frozen_words", r"no ablation.*of iemocap, meld, mosi and own.*experiments/iemocap\.py:frozen_words"),
    ],
)
def test_unknown_name_is_refused_with_the_known_ones(names, words):
    with pytest.raises(UserError, match=words):
        config(names)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"losses.adversarail.weight": 0.0}, r"no option losses\.adversarail\.weight\. Did you mean losses\.adversa"),
        ({"model.graph.layer": 0}, r"no option model\.graph\.layer\. Did you mean model\.graph\.layers"),
        ({"model.graph.layers.count": 0}, r"no option model\.graph\.layers\.count"),
        ({"nothing.like.it": 0}, r"no option nothing\.like\.it\. ariigcn_jax/options/base"),
        ({"model.graph.layers": "two"}, r"model\.graph\.layers cannot be 'two': it is of type int"),
    ],
)
def test_entry_that_sets_nothing_is_refused(monkeypatch, change, words):
    monkeypatch.setitem(ablations.ABLATIONS, "mine", change)
    with pytest.raises(UserError, match=words):
        config("mine")
    with pytest.raises(UserError, match=words):
        ablations.apply(base.get_config(), "mine")  # not locked yet


def test_command_line_shows_the_message_alone():
    error = UserError("There is no ablation 'x'.")
    assert command._parse_message(error, ["run", "--config=a.py:x"]) == "There is no ablation 'x'."
