"""One step: the two players in their order, what a loss counts, and what training removes from a batch."""

import dataclasses
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from ariigcn_jax.objective import pairing
from ariigcn_jax.objective import terms as objective
from ariigcn_jax.training import build
from ariigcn_jax.training.step import drop_modalities, init_state, train_step
from ariigcn_jax.types import PADDING, UNLABELED
from tests.support import builders
from tests.support.training import batch_of, conversations, distance, random_state, tiny

pytestmark = pytest.mark.usefixtures("quick_compilation")


# --- Two players ------------------------------------------------------------------------------------------------------


def plain_players(wiring, corpus):
    """Players without dropout, graph and contrast, and with optimizers that show the gradients."""
    off = {f"losses.{slot}.weight": 0.0 for slot in ("iccl", "imcl")} | {"model.graph.layers": 0, "model.dropout": 0.0}
    config = tiny(off | {"model.gan.wiring": wiring, "losses.adversarial.weight": 0.5})
    players = build.make_players(config, corpus.description, 1)
    one, two = (optax.sgd(rate, momentum=0.9) for rate in (0.1, 2.0))
    return dataclasses.replace(players, optimizer=one, discriminator_optimizer=two)


def reference_step(players, state, batch, rate):
    """Two forward passes, two gradients, each of its own player; the model faces the updated discriminators."""

    def judged(params, discriminators):
        outputs = players.model.apply({"params": params}, batch, True)
        real = batch.features if players.wiring == "feature" else outputs.codes
        real, fake = players.discriminators.apply({"params": discriminators}, real, outputs.generated)
        return real, outputs.replace(fake_logits=fake)

    def discriminators_lose(discriminators):
        real, outputs = judged(state.params, discriminators)
        return objective.discriminator_total(players.terms, real, outputs, batch, None)

    def model_loses(params, discriminators):
        return objective.total(players.terms, judged(params, discriminators)[1], batch, None)[0]

    gradient = jax.grad(discriminators_lose)(state.discriminators)
    discriminators = jax.tree.map(lambda x, g: x - rate * g, state.discriminators, gradient)
    gradient = jax.grad(model_loses)(state.params, discriminators)
    return jax.tree.map(lambda x, g: x - 0.1 * g, state.params, gradient), discriminators


@pytest.mark.parametrize("wiring", ["feature", "latent"])
def test_step_equals_two_gradients_with_the_discriminators_first(wiring):
    corpus = conversations(missing=0.1)
    players = plain_players(wiring, corpus)
    batch = batch_of(corpus)
    state = random_state(players, batch)
    after, logs = jax.jit(lambda s, b: train_step(players, s, b, None))(state, batch)
    reference = jax.jit(lambda s, b, rate: reference_step(players, s, b, rate))
    params, discriminators = reference(state, batch, 2.0)
    simultaneous, _ = reference(state, batch, 0.0)
    assert distance(after.discriminators, discriminators) < 1e-6 < 1e-3 < distance(state.discriminators, discriminators)
    assert distance(after.params, params) < 1e-6 < 1e-3 < distance(state.params, params)
    assert distance(after.params, simultaneous) > 1e-5
    total = sum(term.weight * float(logs[slot]) for slot, term in players.terms.items())
    assert float(logs["total"]) == pytest.approx(total, rel=1e-6)
    for player, optimizer, rate in (("params", "optimizer", 0.1), ("discriminators", "discriminator_optimizer", 2.0)):
        moved = jax.tree.map(lambda x, y, rate=rate: (x - y) / rate, getattr(state, player), getattr(after, player))
        assert distance(moved, getattr(after, optimizer)) < 1e-5  # the momentum, which the next step goes on from
    moved = jax.tree.map(lambda x, y: (x - y) / 0.1, state.params, after.params)
    norm = np.sqrt(sum(np.sum(np.square(x)) for x in jax.tree.leaves(moved)))
    assert float(logs["gradient_norm"]) == pytest.approx(norm, rel=1e-4)


@pytest.mark.parametrize("wiring", ["feature", "latent"])
def test_summed_players_descend_one_loss_together(wiring):
    """One gradient of L_CLS + λ (L_G + L_D) for both, through the fakes and the real codes too."""
    corpus = conversations(missing=0.1)
    players = dataclasses.replace(plain_players(wiring, corpus), summed=True)
    batch = batch_of(corpus)
    state = random_state(players, batch)
    after, logs = jax.jit(lambda s, b: train_step(players, s, b, None))(state, batch)

    def losses(params, discriminators):
        outputs = players.model.apply({"params": params}, batch, True)
        real = batch.features if wiring == "feature" else outputs.codes
        real, fake = players.discriminators.apply({"params": discriminators}, real, outputs.generated)
        outputs = outputs.replace(fake_logits=fake)
        theirs = objective.discriminator_total(players.terms, real, outputs, batch, None)
        return objective.total(players.terms, outputs, batch, None)[0] + 0.5 * theirs, theirs

    gradient = jax.jit(jax.grad(losses, (0, 1), has_aux=True))
    (params, discriminators), theirs = gradient(state.params, state.discriminators)
    params = jax.tree.map(lambda x, g: x - 0.1 * g, state.params, params)
    discriminators = jax.tree.map(lambda x, g: x - 2.0 * g, state.discriminators, discriminators)
    assert distance(after.params, params) < 1e-6 < 1e-3 < distance(state.params, params)
    assert distance(after.discriminators, discriminators) < 1e-6 < 1e-3 < distance(state.discriminators, discriminators)
    assert float(logs["discriminator"]) == pytest.approx(float(theirs), rel=1e-5)


def test_step_warns_of_nothing():
    corpus = conversations()
    players = plain_players("feature", corpus)
    batch = batch_of(corpus)
    state = jax.eval_shape(lambda b: init_state(players, b, jax.random.key(0)), batch)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        jax.eval_shape(lambda s, b: train_step(players, s, b, None), state, batch)


def test_without_the_adversarial_term_there_is_no_second_player():
    config = tiny({"losses.adversarial.weight": 0})
    corpus = conversations()
    players = build.make_players(config, corpus.description, 1)
    batch = batch_of(corpus, 3)
    state = jax.eval_shape(lambda b: init_state(players, b, jax.random.key(0)), batch)
    assert not jax.tree.leaves(state.discriminators)
    assert not any(name.startswith("generator") for name in state.params)
    _, logs = jax.eval_shape(lambda s, b: train_step(players, s, b, None), state, batch)
    assert logs.keys() == {"total", "emotion", "unimodal", "iccl", "imcl", "gradient_norm"}


def test_modalities_are_dropped_at_their_rate_and_never_the_last_one():
    corpus = conversations(dialogues=80, missing=0.2)
    batch = batch_of(corpus, 40)
    dropped = drop_modalities(jax.random.key(0), batch, (0.0, 0.5))
    had = np.stack([np.asarray(batch.present[m]) for m in corpus.modalities])
    left = np.stack([np.asarray(dropped.present[m]) for m in corpus.modalities])
    assert not (left & ~had).any()
    assert left.any(axis=0)[had.any(axis=0)].all()
    both = had.all(axis=0)
    assert len(corpus.modalities) == 2 and both.sum() > 100
    # each of the two stays with probability 1/2, and where both would go, both stay
    np.testing.assert_allclose(left[:, both].mean(), 0.5 + 0.5**2, atol=0.06)
    for m in corpus.modalities:
        gone = np.asarray(batch.present[m]) & ~np.asarray(dropped.present[m])
        assert not np.asarray(dropped.features[m])[gone].any()
        kept = np.asarray(dropped.present[m])
        np.testing.assert_array_equal(np.asarray(dropped.features[m])[kept], np.asarray(batch.features[m])[kept])
    text = batch.replace(features={"text": batch.features["text"]}, present={"text": batch.present["text"]})
    alone = drop_modalities(jax.random.key(0), text, (0.5, 0.5))
    np.testing.assert_array_equal(alone.present["text"], batch.present["text"])


def test_dialogues_lose_a_modality_as_a_whole():
    batch = batch_of(conversations(dialogues=80), 40)
    dropped = drop_modalities(jax.random.key(0), batch, (0.5, 0.0))
    left = np.stack([np.asarray(x) for x in dropped.present.values()], axis=-1)
    where = np.asarray(batch.row)[:, None] * left.shape[1] + np.asarray(batch.dialogue)
    kept = [left[(where == d) & np.asarray(batch.real)] for d in np.unique(where[np.asarray(batch.real)])]
    assert len(kept) > 40 and all((dialogue == dialogue[0]).all() for dialogue in kept)
    shares = np.mean([[*dialogue[0], dialogue[0].all()] for dialogue in kept], axis=0)
    np.testing.assert_allclose(shares, [0.75, 0.75, 0.5], atol=0.15)


# --- What a loss counts -----------------------------------------------------------------------------------------------


def test_context_of_a_piece_is_in_no_loss():
    """Whatever the network and the discriminators say of it; all terms and L_D."""
    corpus = dataclasses.replace(builders.corpus([6, 5]), ratings=np.ones((11, 2), np.float32))
    every = builders.place(corpus, [[0], [1]], 6)
    first = builders.outputs(every)
    context = np.zeros((2, 6), bool)
    context[0, :2] = context[1, 4] = True
    batch = every.replace(
        label=jnp.where(context, UNLABELED, every.label),
        utterance=jnp.where(context, PADDING, every.utterance),
        ratings=jnp.ones((2, 6, 2)),
        rated=every.real & ~context,
    )
    terms = build.make_players(tiny(), corpus.description, 1).terms
    assert terms.keys() == objective.TERMS.keys()

    def values(seed):
        """With what another seed says of the context."""

        def mixed(a, b):
            return jnp.where(context.reshape(2, 6, *[1] * (a.ndim - 2)), b, a)

        outputs = jax.tree.map(mixed, first, builders.outputs(every, seed=seed))
        return jax.tree.map(float, jax.jit(judged)(outputs.replace(ratings=outputs.logits[..., :2])))

    def judged(outputs):
        real = {m: outputs.unimodal[m][..., 0] for m in outputs.unimodal}
        value = objective.discriminator_total(terms, real, outputs, batch, None)
        return objective.total(terms, outputs, batch, None)[1] | {"discriminator": value}

    one, two = values(0), values(1)
    assert one == pytest.approx(two, rel=1e-6) and all(one.values())


def test_the_sample_of_candidates_is_of_all_devices_together():
    """Two devices of 12 nodes each, at most 12 candidates: every second node of both."""
    batches = [builders.batch([[3, 2], [4]], length=6, seed=seed) for seed in (0, 1)]
    outputs = [builders.outputs(batch, seed=seed) for seed, batch in enumerate(batches)]
    both = jax.tree.map(lambda *x: jnp.stack(x), *zip(outputs, batches, strict=True))
    sample = jax.vmap(lambda o, b: pairing.contrast_set(o, b, "devices", 12, 5), axis_name="devices")(*both)
    for m in outputs[0].contrast:
        every_second = jnp.concatenate([o.contrast[m].reshape(12, -1)[(5 + 2 * np.arange(6)) % 12] for o in outputs])
        np.testing.assert_array_equal(sample.vectors[m], jnp.stack([every_second] * 2))
