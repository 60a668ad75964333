"""The forward pass: shapes under every swap, what an utterance's logits depend on, and refusals."""

import functools

import flax.linen as nn
import jax
import numpy as np
import pytest

from ariigcn_jax.nn import gan
from ariigcn_jax.nn import model as modeling
from ariigcn_jax.nn.layers import options_of
from ariigcn_jax.types import UserError
from tests.support import builders

CORPUS = builders.corpus([3, 1, 4], missing=0.2, seed=1)
BATCH = builders.place(CORPUS, [[0, 1], [2]], 5)


@functools.partial(builders.jit, static_argnums=(0, 3))
def apply(model, params, batch, train=False):
    return model.apply({"params": params}, batch, train, rngs={"dropout": jax.random.key(1)} if train else {})


def run(corpus, batch, train=False, **options):
    """Outputs of a model with random parameters."""
    module = builders.model(corpus, **options)
    shapes = jax.eval_shape(lambda b: module.init(jax.random.key(0), b, False), batch)["params"]
    return module, apply(module, builders.scattered(shapes), batch, train)


def assert_documented(module, outputs, batch):
    """Shapes of the glossary, and nothing that is not finite."""
    R, L = batch.dialogue.shape
    modalities, widths = module.description.modalities, dict(module.description.widths)
    options, graph = module.options, module.options.graph
    assert outputs.logits.shape == (R, L, module.description.outputs)
    for name, width in (("codes", options.hidden), ("hidden", options.hidden), ("contrast", options.contrast_width)):
        expected = {m: (R, L, width) for m in modalities} if name != "contrast" or name in module.further else {}
        assert {m: x.shape for m, x in getattr(outputs, name).items()} == expected, name
    space = widths if options.gan.wiring == "feature" else dict.fromkeys(modalities, options.hidden)
    pairs = gan.pairs(modalities) if "generated" in module.further else []
    assert {p: x.shape for p, x in outputs.generated.items()} == {(a, b): (R, L, space[b]) for a, b in pairs}
    slots = {n: min(n, L - 1) if n >= 0 else L - 1 for n in (graph.past, graph.future)}
    window = slots[graph.past] + 1 + slots[graph.future]
    there = modalities if graph.layers else ()
    weights = (graph.layers, R * L, window, graph.heads)
    assert {m: x.shape for m, x in outputs.attention.items()} == dict.fromkeys(there, weights)
    assert {m: x.shape for m, x in outputs.attention_entropy.items()} == dict.fromkeys(there, (graph.layers, R, L))
    assert all(np.isfinite(x).all() for x in jax.tree.leaves(outputs))
    for z in outputs.contrast.values():
        np.testing.assert_allclose(np.linalg.norm(z, axis=-1), 1, atol=1e-4)


BARE = dict(further=())  # where the way from features to logits is enough
SWAPS = [
    {},
    dict(context="gru", hidden=6, score="dot", **BARE),
    dict(context="attention", relation_values=False, **BARE),
    dict(context="speaker", **BARE),
    dict(score="uniform", block=2, past=1, **BARE),
    dict(kernel="edges", wiring="latent", past=-1, future=0),
    dict(layers=0, wiring="latent"),
    dict(layers=2, speakers=0, heads=1, past=50, future=50, **BARE),
    dict(further=("contrast", "unimodal")),
    dict(further=("generated", "unimodal"), speakers=1),
    dict(train=True, dropout=0.5, input_dropout=0.3, context="gru"),
    dict(train=True, context="attention", kernel="edges", dropout=0.2, **BARE),
]


@pytest.mark.parametrize("options", SWAPS, ids=str)
def test_every_swap_gives_finite_outputs_of_the_documented_shapes(options):
    assert_documented(*run(CORPUS, BATCH, **options), BATCH)


@pytest.mark.parametrize("count", [1, 5])
def test_any_number_of_modalities(count):
    corpus = builders.corpus([2, 3], builders.widths(count), missing=0.1)
    batch = builders.place(corpus, [[0, 1]], 6)
    assert_documented(*run(corpus, batch, relation_values=False, kernel="edges"), batch)


@pytest.mark.parametrize("options", [dict(missing=1.0), dict(unlabeled=1.0)])
def test_finite_for_one_utterance_and_for_none(options):
    batch = jax.tree.map(lambda x: x[:2], builders.batch([[1], [], [2]], length=2, **options))
    assert_documented(*run(builders.corpus([1]), batch), batch)


# --- What an utterance's outputs depend on ----------------------------------------------------------------------------

DEEP = dict(context="gru", past=1, future=2, block=2)


def assert_same_utterances(found, batch, expected, other):
    for name in ("logits", "codes", "hidden", "contrast", "generated"):
        for a, b in zip(*(jax.tree.leaves(getattr(x, name)) for x in (found, expected)), strict=True):
            a, b = builders.by_utterance(a, batch), builders.by_utterance(b, other)
            np.testing.assert_allclose(a, b, atol=2e-5, err_msg=name)
    for m in found.attention_entropy:
        for a, b in zip(found.attention_entropy[m], expected.attention_entropy[m], strict=True):
            np.testing.assert_allclose(builders.by_utterance(a, batch), builders.by_utterance(b, other), atol=2e-5)


@functools.cache
def packed():
    return run(CORPUS, BATCH, **DEEP)[1]


@pytest.mark.parametrize("rows, length", [([[2], [1, 0]], 5), ([[1], [0], [], [2]], 7)])
def test_place_of_dialogues_and_padding_change_nothing(rows, length):
    other = builders.place(CORPUS, rows, length)
    assert_same_utterances(packed(), BATCH, run(CORPUS, other, **DEEP)[1], other)


def test_what_lies_in_padding_changes_nothing():
    real = np.asarray(BATCH.real)
    filled = {m: np.where(real[..., None], x, 9.0).astype(np.float32) for m, x in BATCH.features.items()}
    other = BATCH.replace(features=filled, speaker=np.where(real, BATCH.speaker, 1))
    assert_same_utterances(packed(), BATCH, run(CORPUS, other, **DEEP)[1], other)


def changed_by(**fields):
    """Which utterances' logits change when fields of the batch do: [U] bool."""
    after = run(CORPUS, BATCH.replace(**fields), **DEEP)[1].logits
    return (np.abs(builders.by_utterance(after - packed().logits, BATCH)) > 1e-6).any(axis=-1)


def test_an_utterance_speaks_to_its_whole_dialogue_and_to_no_other():
    changed = changed_by(features={**BATCH.features, "audio": BATCH.features["audio"].at[0, 1].add(3.0)})
    np.testing.assert_array_equal(changed, CORPUS.dialogue == 0)


def test_speakers_matter():
    changed = changed_by(speaker=BATCH.speaker.at[1, 0].set(1 - BATCH.speaker[1, 0]))
    assert changed[4] and not changed[CORPUS.dialogue != 2].any()


def test_labels_do_not_leak():
    assert not changed_by(label=1 - BATCH.label).any()


@pytest.mark.parametrize("kernel", ["band", "edges"])
@pytest.mark.parametrize("known", [dict(speakers=0), dict(speaker_relations=False), None])
def test_speakers_matter_unless_embedding_and_relations_are_gone(kernel, known):
    options = dict(kernel=kernel, **BARE, **(known or dict(speakers=0, speaker_relations=False)))
    others = BATCH.replace(speaker=BATCH.speaker.at[1, 0].set(1 - BATCH.speaker[1, 0]))
    here, there = (run(CORPUS, batch, **options)[1].logits for batch in (BATCH, others))
    assert (np.abs(here - there).max() > 1e-3) == (known is not None)


@pytest.mark.parametrize("known", [True, False])
def test_the_speakers_mean_is_the_dialogues_where_all_count_as_the_same(known):
    options = dict(context="speaker", layers=0, speakers=0, speaker_relations=known, **BARE)
    others = BATCH.replace(speaker=BATCH.speaker.at[1, 0].set(1 - BATCH.speaker[1, 0]))
    here, there = (run(CORPUS, batch, **options)[1].logits for batch in (BATCH, others))
    assert (np.abs(here - there).max() > 1e-3) == known


def test_a_speaker_beyond_the_embedding_shares_its_last_row():
    options = dict(speakers=2, kernel="edges", context="none", **BARE)
    few, many = (BATCH.replace(speaker=BATCH.speaker * k) for k in (1, 6))
    logits = [run(CORPUS, batch, **options)[1].logits for batch in (few, many)]
    np.testing.assert_allclose(*logits, atol=1e-6)


def test_dropout_acts_in_training_alone():
    options = dict(dropout=0.5, further=())
    module = builders.model(CORPUS, **options)
    shapes = jax.eval_shape(lambda b: module.init(jax.random.key(0), b, False), BATCH)["params"]
    params = builders.scattered(shapes)
    off = apply(builders.model(CORPUS, **(options | dict(dropout=0.0))), params, BATCH).logits
    np.testing.assert_array_equal(apply(module, params, BATCH).logits, off)
    assert np.abs(apply(module, params, BATCH, True).logits - off).max() > 1e-2


# --- Refusals ---------------------------------------------------------------------------------------------------------


def test_check_accepts_what_runs():
    for options in SWAPS:
        modeling.check(builders.model_options({k: v for k, v in options.items() if k not in ("train", "further")}))


@pytest.mark.parametrize(
    "options, message",
    [
        (dict(context="lstm"), r"model\.context='lstm'.*none, gru, attention, speaker"),
        (dict(score="cosine"), r"model\.graph\.score='cosine'.*additive, dot, uniform"),
        (dict(kernel="dense"), r"model\.graph\.kernel='dense'.*band, edges"),
        (dict(wiring="pixel"), r"model\.gan\.wiring='pixel'.*feature, latent"),
        (dict(hidden=5, heads=2), r"model\.hidden=5 must be a positive multiple of model\.graph\.heads=2"),
        (dict(hidden=0), r"model\.hidden=0 must be at least 1"),
        (dict(heads=0), r"model\.graph\.heads=0 must be at least 1"),
        (dict(dropout=1.0), r"model\.dropout=1\.0 must lie in \[0, 1\)"),
        (dict(input_dropout=-0.1), r"model\.input_dropout=-0\.1 must lie in \[0, 1\)"),
        (dict(past=-2), r"model\.graph\.past=-2.*-1 for the whole dialogue"),
        (dict(future=-3), r"model\.graph\.future=-3"),
        (dict(layers=-1), r"model\.graph\.layers=-1 must be at least 0"),
        (dict(block=-4), r"model\.graph\.block=-4 must be at least 0"),
        (dict(speakers=-1), r"model\.speakers=-1 must be at least 0"),
    ],
    ids=str,
)
def test_check_says_what_cannot_be_built(options, message):
    with pytest.raises(UserError, match=message):
        modeling.check(builders.model_options(options))


# --- Outputs and options from outside ---------------------------------------------------------------------------------


def test_another_head_is_made_where_it_is_asked_for(monkeypatch):
    monkeypatch.setitem(modeling.HEADS, "length", lambda inner: {m: (h**2).sum(-1) for m, h in inner.hidden.items()})
    assert run(CORPUS, BATCH, further=())[1].extra == {}
    _, outputs = run(CORPUS, BATCH, further=("length",))
    for m, h in outputs.hidden.items():
        np.testing.assert_allclose(outputs.extra["length"][m], (h**2).sum(-1), rtol=1e-5)


def test_a_module_gets_the_options_that_it_has_attributes_for():
    class Scaled(nn.Module):
        block: int
        brightness: float
        dropout: float = 0.5

    options = {"block": 3, "brightness": 0.2, "window": 7}
    assert options_of(Scaled, options) == {"block": 3, "brightness": 0.2}
