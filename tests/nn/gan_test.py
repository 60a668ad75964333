"""Generators and discriminators: who translates what, who judges it, and whose parameters learn from which loss."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from ariigcn_jax.nn import gan
from ariigcn_jax.options import base
from ariigcn_jax.training import build
from ariigcn_jax.training.step import init_state, train_step
from tests.support import builders

CORPUS = builders.corpus([3, 2], builders.widths(3), missing=0.2)
BATCH = builders.place(CORPUS, [[0], [1]], 3)
MODALITIES = CORPUS.modalities


def test_pairs_are_all_ordered_pairs_of_different_modalities():
    found = gan.pairs(("text", "audio", "visual"))
    assert len(found) == 6
    assert set(found) == {(a, b) for a in MODALITIES for b in MODALITIES if a != b}
    assert gan.pairs(("text",)) == gan.pairs(()) == []


@pytest.mark.parametrize("wiring", gan.WIRINGS)
def test_generated_has_the_width_of_its_targets_space(wiring):
    model = builders.model(CORPUS, wiring=wiring, hidden=6, layers=0)
    outputs, params = jax.eval_shape(lambda b: model.init_with_output(jax.random.key(0), b, True), BATCH)
    params = params["params"]
    assert set(outputs.generated) == set(gan.pairs(MODALITIES))
    for (_, target), x in outputs.generated.items():
        assert x.shape == (2, 3, CORPUS.widths[target] if wiring == "feature" else 6)
    assert sum(name.startswith("generator") for name in params) == 3


def test_one_generator_serves_all_sources_of_a_target():
    model = builders.model(CORPUS, layers=0)
    outputs, params = builders.init(model, BATCH, False)
    generator = gan.Generator(model.options.gan.generator_hidden, CORPUS.widths["audio"])
    for source in ("text", "visual"):
        alone = generator.apply({"params": params["generator_audio"]}, outputs.codes[source])
        np.testing.assert_allclose(outputs.generated[source, "audio"], alone, atol=1e-6)


def test_one_modality_has_no_second_player():
    corpus = builders.corpus([3], {"text": 2})
    batch = builders.place(corpus, [[0]], 3)
    outputs, params = builders.init(builders.model(corpus, layers=0), batch, True)
    assert outputs.generated == {} and not any(name.startswith("generator") for name in params)
    (real, fake), judges = builders.init(gan.Discriminators(("text",), 4), batch.features, {})
    assert real == fake == judges == {}


# --- Discriminators ---------------------------------------------------------------------------------------------------


@functools.cache
def judged():
    """Discriminators of feature wiring: module, parameters, real features and fakes."""
    fakes = {
        (a, b): jnp.asarray(np.random.default_rng(k).normal(size=(2, 3, CORPUS.widths[b])), jnp.float32)
        for k, (a, b) in enumerate(gan.pairs(MODALITIES))
    }
    module = gan.Discriminators(MODALITIES, 4)
    _, params = builders.init(module, BATCH.features, fakes)
    return module, builders.scattered(params), BATCH.features, fakes


def test_each_modality_has_one_discriminator_for_real_and_fake():
    module, params, real, fakes = judged()
    real_logits, fake_logits = module.apply({"params": params}, real, fakes)
    assert set(params) == set(real_logits) == set(MODALITIES) and set(fake_logits) == set(fakes)
    for (source, target), x in fakes.items():
        as_real, nothing = module.apply({"params": params}, {target: x}, {})
        assert nothing == {} and x.shape[:2] == fake_logits[source, target].shape
        np.testing.assert_allclose(as_real[target], fake_logits[source, target], atol=1e-6)


def test_fakes_may_be_judged_without_real_input():
    module, params, _, fakes = judged()
    real_logits, fake_logits = module.apply({"params": params}, {}, fakes)
    assert real_logits == {} and set(fake_logits) == set(fakes)


def test_a_logit_depends_on_its_own_utterance_alone():
    module, params, real, _ = judged()
    x = real["visual"]
    before, after = (module.apply({"params": params}, {"visual": v}, {})[0]["visual"] for v in (x, x.at[1, 0].add(1)))
    changed = np.abs(np.asarray(after - before)) > 1e-6
    np.testing.assert_array_equal(changed, [[False] * 3, [True, False, False]])


# --- Two players ------------------------------------------------------------------------------------------------------

TWO = builders.corpus([3, 2], missing=0.2)
ROWS = builders.place(TWO, [[0], [1]], 3)
RATES = {"model": 0.5, "judges": 0.25}  # of plain gradient descent, so that a step shows its gradient


def adversaries(wiring):
    """The players of a run with nothing but the adversarial term, λ_G = 2, under plain gradient descent."""
    config = base.get_config()
    for slot in config.losses:
        config.losses[slot].weight = 2.0 if slot == "adversarial" else 0.0
    config.model.update(hidden=4, dropout=0.0, speakers=2)
    config.model.graph.update(layers=1, heads=2, kernel="edges", score="uniform", relation_values=False)
    config.model.gan.update(wiring=wiring, generator_hidden=5, discriminator_hidden=4)
    players = build.make_players(config, TWO.description, 1)
    optimizers = {"optimizer": optax.sgd(RATES["model"]), "discriminator_optimizer": optax.sgd(RATES["judges"])}
    return dataclasses.replace(players, **optimizers)


@functools.cache
def one_step(wiring):
    """A train step from random parameters: players, state before and after."""
    players = adversaries(wiring)
    before = builders.jit(lambda: init_state(players, ROWS, jax.random.key(0)))()
    random = builders.scattered(before.params), builders.scattered(before.discriminators, seed=2)
    before = before.replace(params=random[0], discriminators=random[1])
    after, _ = builders.jit(lambda state: train_step(players, state, ROWS, None))(before)
    return players, before, after


def expected_losses(players, params, judges):
    """L_D and L_G (λ_G included) of given parameters, summed over pairs and real utterances by a loop."""
    outputs = players.model.apply({"params": params}, ROWS, True)
    real = ROWS.features if players.wiring == "feature" else outputs.codes
    real, fake = players.discriminators.apply({"params": judges}, real, outputs.generated)
    own = [(-jax.nn.log_sigmoid(real[m]), ROWS.present[m]) for m in TWO.modalities]
    pairs = [(fake[a, b], ROWS.present[a] & ROWS.present[b]) for a, b in gan.pairs(TWO.modalities)]
    judged = own + [(-jax.nn.log_sigmoid(-x), there) for x, there in pairs]
    fooled = [(-jax.nn.log_sigmoid(x), there) for x, there in pairs]
    return mean(judged), 2.0 * mean(fooled)


def mean(parts):
    return sum(jnp.sum(jnp.where(there, x, 0)) for x, there in parts) / sum(there.sum() for _, there in parts)


def stepped(params, gradient, rate):
    return jax.tree.map(lambda p, g: p - rate * g, params, gradient)


def assert_close(found, expected):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), found, expected)


@pytest.mark.parametrize("wiring", gan.WIRINGS)
def test_discriminators_descend_their_loss_and_the_model_its_own_against_the_new_ones(wiring):
    players, before, after = one_step(wiring)
    losses = functools.partial(expected_losses, players)
    gradient = builders.jit(jax.grad(lambda judges: losses(before.params, judges)[0]))(before.discriminators)
    assert_close(after.discriminators, stepped(before.discriminators, gradient, RATES["judges"]))
    gradient = builders.jit(jax.grad(lambda params: losses(params, after.discriminators)[1]))(before.params)
    assert_close(after.params, stepped(before.params, gradient, RATES["model"]))


@pytest.mark.parametrize("wiring", gan.WIRINGS)
def test_the_adversarial_term_teaches_encoders_and_generators_alone(wiring):
    _, before, after = one_step(wiring)
    for name, params in before.params.items():
        changed = jax.tree.map(lambda a, b: not np.array_equal(a, b), params, after.params[name])
        assert any(jax.tree.leaves(changed)) == name.startswith(("encoder", "generator")), name


def test_real_codes_carry_no_gradient_to_the_encoders():
    """Latent wiring: the encoders are taught by the fakes of their codes, not by their codes being real."""
    players, before, _ = one_step("latent")
    fakes = {pair: jnp.ones((2, 3, players.model.options.hidden)) for pair in gan.pairs(TWO.modalities)}
    codes = {m: jnp.ones((2, 3, players.model.options.hidden)) for m in TWO.modalities}

    def judged(codes):
        outputs = builders.outputs(ROWS, TWO.widths).replace(codes=codes, generated=fakes)
        real, _ = players.judge(before.discriminators, outputs, ROWS)
        return sum(x.sum() for x in real.values())

    value, gradient = jax.value_and_grad(judged)(codes)
    assert value != 0 and not any(np.asarray(x).any() for x in gradient.values())
