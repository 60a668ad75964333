"""Training: deterministic, resumable, the two players in their order, every row once an epoch."""

import dataclasses
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from ariigcn_jax import data as corpora
from ariigcn_jax.data import packing
from ariigcn_jax.objective import terms as objective
from ariigcn_jax.training import build, epoch, step
from ariigcn_jax.types import UNLABELED, TrainState, UserError
from experiments import base

TINY = {
    "num_epochs": 20,
    "batch_size": 3,
    "model.hidden": 8,
    "model.contrast_width": 4,
    "model.speakers": 2,
    "model.graph.layers": 1,
    "model.graph.heads": 2,
    "model.graph.past": 1,
    "model.graph.future": 2,
    "model.graph.block": 0,
    "model.gan.generator_hidden": 8,
    "model.gan.discriminator_hidden": 8,
    "optimizer.lr": 1e-2,
    "optimizer.warmup_epochs": 0.0,
}

LIGHT = {"model.graph.layers": 0, **{f"losses.{slot}.weight": 0.0 for slot in ("adversarial", "iccl", "imcl")}}

pytestmark = pytest.mark.usefixtures("quick_compilation")


def tiny(changes=()):
    config = base.get_config()
    config.update_from_flattened_dict(TINY | dict(changes))
    return config.lock()


def conversations(**changes):
    options = dict(dialogues=14, utterances=(2, 7), classes=3, widths={"text": 5, "audio": 3}, separation=4, noise=0.5)
    corpus = corpora.generate(**options | changes)
    return corpora.normalisation.apply(corpus, corpora.normalisation.fit(corpus))


@pytest.fixture(scope="module")
def experiment():
    """All terms, dropout, three steps an epoch, modalities missing here and there."""
    return build.make(tiny(), conversations(missing=0.1))


@pytest.fixture(scope="module")
def text_only():
    """One modality, one step an epoch, no dropout."""
    return build.make(tiny({"model.dropout": 0.0, "batch_size": 20}), conversations(widths={"text": 5}))


def continue_run(experiment, state, epochs):
    logs = []
    for _ in range(epochs):
        state, row = experiment.epoch(state, experiment.data["train"].rows)
        logs.append({name: float(value) for name, value in row.items()})
    return state, logs


def leaves(state):
    return [np.asarray(x) for x in jax.tree.leaves(state.replace(key=jax.random.key_data(state.key)))]


def assert_same_bits(a, b):
    for x, y in zip(leaves(a), leaves(b), strict=True):
        np.testing.assert_array_equal(x, y)


def probabilities(experiment, params, rows, split="train"):
    return np.asarray(experiment.evaluate[split](params, rows)["probabilities"])


# --- Determinism ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def four_epochs(experiment):
    return continue_run(experiment, experiment.init(0), 4)


def test_same_seed_same_bits(experiment, four_epochs):
    state, logs = continue_run(experiment, experiment.init(0), 4)
    assert logs == four_epochs[1]
    assert_same_bits(state, four_epochs[0])
    assert int(state.step) == 4 * experiment.steps


def test_another_seed_differs_from_the_first_epoch(experiment, four_epochs):
    _, (logs,) = continue_run(experiment, experiment.init(1), 1)
    assert all(logs[name] != four_epochs[1][0][name] for name in logs)


def test_resuming_from_numpy_is_exact(experiment, four_epochs):
    state, first = continue_run(experiment, experiment.init(0), 2)
    stored = jax.tree.map(np.array, state.replace(key=jax.random.key_data(state.key)))
    restored = jax.tree.map(jnp.array, stored)
    restored = restored.replace(key=jax.random.wrap_key_data(restored.key))
    state, second = continue_run(experiment, restored, 2)
    assert first + second == four_epochs[1]
    assert_same_bits(state, four_epochs[0])


def test_dropout_changes_with_the_step(experiment):
    """The same order of rows, one step on: only the masks differ."""
    one = experiment.init(0)
    other = experiment.init(0).replace(step=jnp.int32(1))
    _, one = experiment.epoch(one, experiment.data["train"].rows)
    _, other = experiment.epoch(other, experiment.data["train"].rows)
    assert float(one["emotion"]) != float(other["emotion"])


def test_an_epoch_and_an_evaluation_lower_for_every_platform(experiment):
    """Without the hardware: what one of them cannot do shows when the program is lowered for it."""
    state = experiment.init(0)
    for function, arguments in (
        (experiment.epoch, (state, experiment.data["train"].rows)),
        (experiment.evaluate["valid"], (state.params, experiment.data["valid"].rows)),
    ):
        shapes = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), arguments)
        text = function.trace(*shapes).lower(lowering_platforms=("cpu", "cuda", "tpu")).as_text()
        assert "dot_general" in text


# --- Rows -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("devices", [1, 2, 4])
def test_epoch_order_has_every_row_once_and_pads_with_the_empty_row(devices):
    layout, key = packing.Layout(steps=4, rows=5, length=9), jax.random.key(0)
    orders = [np.asarray(epoch.epoch_order(key, jnp.int32(number), layout, devices)) for number in (0, 1, 0)]
    for order in orders:
        assert order.shape == (4, {1: 5, 2: 6, 4: 8}[devices])
        assert sorted(order[:, :5].ravel()) == list(range(20))
        assert (order[:, 5:] == 20).all()
    np.testing.assert_array_equal(orders[0], orders[2])
    assert (orders[0] != orders[1]).any()
    other = epoch.epoch_order(jax.random.key(1), jnp.int32(0), layout, devices)
    assert (orders[0] != other).any()


def test_epochs_take_every_row_once_in_another_order(monkeypatch):
    layout, batch = packing.pack(conversations(dialogues=30), "train", 4)
    assert layout.rows > 1 and layout.steps > 1

    def note_rows(players, state, batch, axis):
        return state.replace(step=state.step + 1, params=state.params.at[state.step].set(batch.row)), {}

    monkeypatch.setattr(epoch, "train_step", note_rows)
    seen = jnp.full((2 * layout.steps, layout.rows), -1)
    state = TrainState(jnp.int32(0), jax.random.key(0), seen, {}, {}, {}, {})
    rows = jax.tree.map(jnp.asarray, batch)
    for _ in range(2):
        order = epoch.run_order(state.key, state.step, layout, 1)
        state, _ = epoch.train_part(None, layout, 1, state, rows, order)
    first, second = np.asarray(state.params).reshape(2, -1)
    assert sorted(first) == sorted(second) == list(range(layout.steps * layout.rows))
    assert (first != second).any()


# --- The step ---------------------------------------------------------------------------------------------------------


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


def distance(a, b):
    return max(float(np.max(np.abs(x - y))) for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True))


@pytest.mark.parametrize("wiring", ["feature", "latent"])
def test_step_equals_two_gradients_with_the_discriminators_first(wiring):
    corpus = conversations(missing=0.1)
    players = plain_players(wiring, corpus)
    batch = jax.tree.map(jnp.asarray, packing.pack(corpus, "train", 20)[1])
    state = jax.jit(lambda b: step.init_state(players, b, jax.random.key(0)))(batch)
    after, logs = jax.jit(lambda s, b: step.train_step(players, s, b, None))(state, batch)
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
    batch = jax.tree.map(jnp.asarray, packing.pack(corpus, "train", 20)[1])
    state = jax.jit(lambda b: step.init_state(players, b, jax.random.key(0)))(batch)
    after, logs = jax.jit(lambda s, b: step.train_step(players, s, b, None))(state, batch)

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


def test_summed_players_share_the_optimizer_and_live_without_a_second_one():
    config = {"discriminator.game": "summed", "optimizer.lr": 1e-3}
    players = build.make_players(tiny(config), conversations().description, 1)
    assert players.summed and players.discriminator_optimizer is players.optimizer
    alone = build.make(tiny(LIGHT | config | {"losses.adversarial.weight": 0.1}), conversations(widths={"text": 5}))
    _, logs = continue_run(alone, alone.init(0), 1)
    assert np.isfinite(list(logs[0].values())).all()


def test_moving_average_follows_the_parameters_and_is_what_is_evaluated():
    params, average = {"w": jnp.array([1.0])}, {"w": jnp.array([5.0])}
    early, late = (step.moving_average(average, params, 0.9, jnp.int32(number))["w"][0] for number in (0, 1000))
    assert float(early) == pytest.approx(0.1 * 5 + 0.9 * 1)
    assert float(late) == pytest.approx(0.9 * 5 + 0.1 * 1)
    plain, averaged = (build.make(tiny(LIGHT | {"optimizer.average": v}), conversations()) for v in (0.0, 0.5))
    state = plain.init(0)
    assert state.average == {}
    assert state.weights is state.params
    (after, _), (other, _) = (continue_run(e, e.init(0), 1) for e in (plain, averaged))
    assert distance(after.params, other.params) == 0
    assert other.weights is other.average
    begun = averaged.init(0)
    assert distance(begun.average, begun.params) == 0
    assert 0 < distance(other.average, other.params) < distance(begun.params, other.params)


def test_average_of_one_is_refused():
    with pytest.raises(UserError, match=r"optimizer\.average=1\.0"):
        build.make(tiny({"optimizer.average": 1.0}), conversations())


def test_step_warns_of_nothing():
    corpus = conversations()
    players = plain_players("feature", corpus)
    batch = jax.tree.map(jnp.asarray, packing.pack(corpus, "train", 20)[1])
    state = jax.eval_shape(lambda b: step.init_state(players, b, jax.random.key(0)), batch)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        jax.eval_shape(lambda s, b: step.train_step(players, s, b, None), state, batch)


def test_states_of_all_seeds_are_traced_once(monkeypatch):
    traced, original = [], step.init_state
    monkeypatch.setattr(build, "init_state", lambda *given: traced.append(1) or original(*given))
    experiment = build.make(tiny(LIGHT), conversations())
    states = [experiment.init(seed) for seed in (0, 1)]
    assert len(traced) == 1
    assert not np.array_equal(*(jax.tree.leaves(state.params)[-1] for state in states))


def test_without_the_adversarial_term_there_is_no_second_player():
    config = tiny({"losses.adversarial.weight": 0})
    corpus = conversations()
    players = build.make_players(config, corpus.description, 1)
    batch = jax.tree.map(jnp.asarray, packing.pack(corpus, "train", 3)[1])
    state = jax.eval_shape(lambda b: step.init_state(players, b, jax.random.key(0)), batch)
    assert not jax.tree.leaves(state.discriminators)
    assert not any(name.startswith("generator") for name in state.params)
    _, logs = jax.eval_shape(lambda s, b: step.train_step(players, s, b, None), state, batch)
    assert logs.keys() == {"total", "emotion", "unimodal", "iccl", "imcl", "gradient_norm"}


def test_loss_falls_on_separable_conversations(experiment):
    _, logs = continue_run(experiment, experiment.init(0), 20)
    assert logs[-1]["emotion"] < 0.5 * logs[0]["emotion"]
    assert logs[-1]["total"] < 0.7 * logs[0]["total"]


# --- One modality, unlabeled utterances -------------------------------------------------------------------------------


def test_one_modality_trains_without_pairs(text_only):
    state = text_only.init(0)
    assert not jax.tree.leaves(state.discriminators)
    _, logs = continue_run(text_only, state, 10)
    assert np.isfinite([list(row.values()) for row in logs]).all()
    assert logs[-1]["emotion"] < 0.9 * logs[0]["emotion"]
    assert logs[0].get("adversarial", 0) == logs[0].get("imcl", 0) == 0
    assert logs[0]["iccl"] > 0


def test_unlabeled_utterances_are_in_no_loss(text_only):
    """The loss of a first step, made before any update, is the mean of −log p over the labels that are left."""
    rows, params = text_only.data["train"].rows, text_only.init(0).params
    p = probabilities(text_only, params, rows)
    label = np.array(rows.label)
    for hide in (label == 0, np.zeros_like(label, bool), np.arange(label.size).reshape(label.shape) % 3 == 0):
        left = np.where(hide, UNLABELED, label)
        chosen = [p[i, j, left[i, j]] for i, j in np.argwhere(left[:-1] >= 0)]
        _, logs = text_only.epoch(text_only.init(0), rows.replace(label=jnp.asarray(left)))
        assert float(logs["emotion"]) == pytest.approx(-np.log(chosen).mean(), rel=1e-5)


def test_unlabeled_utterances_are_context(text_only):
    """Its features reach the neighbours whose window holds it (one after it back, two before it ahead), no further."""
    rows, params = text_only.data["train"].rows, text_only.init(0).params
    six = np.lib.stride_tricks.sliding_window_view(np.asarray(rows.dialogue), 6, axis=1)
    row, slot = np.argwhere((six == six[..., :1]).all(axis=-1) & (six[..., 0] >= 0))[0] + [0, 3]
    unlabeled = rows.replace(label=rows.label.at[row, slot].set(UNLABELED))
    louder = unlabeled.replace(features={"text": unlabeled.features["text"].at[row, slot].add(1.0)})
    before, after = (probabilities(text_only, params, r) for r in (unlabeled, louder))
    changed = np.argwhere((before != after).any(axis=-1)).tolist()
    assert changed == [[row, slot + offset] for offset in (-2, -1, 0, 1)]


# --- Folds of the corpus that a model leaves out ----------------------------------------------------------------------


def test_what_a_model_leaves_out_does_not_reach_it():
    """All terms; the left-out dialogues' labels and features are others."""
    corpus = corpora.splits.cross_validated(conversations(missing=0.1), 2)
    out = corpus.fold == 1
    features = {m: np.where(out[:, None], x[::-1], x) for m, x in corpus.features.items()}
    other = dataclasses.replace(corpus, features=features, label=np.where(out, (corpus.label + 1) % 3, corpus.label))
    made = [build.make(tiny({"members": 2}), c) for c in (corpus, other)]
    for seed, same in ((3, True), (2, False)):  # the second member of seed 1, and the first
        ends = [continue_run(e, e.init(seed), 2) for e in made]
        assert (ends[0][1] == ends[1][1]) == same
        if same:
            assert_same_bits(ends[0][0], ends[1][0])
            found = [made[0].diagnose(ends[0][0], e.data["train"].rows) for e in made]
            np.testing.assert_array_equal(*map(jax.tree.leaves, found))


# --- Evaluation -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("split", ["train", "valid", "test"])
def test_confusion_counts_what_the_probabilities_say(experiment, split):
    params, rows = experiment.init(0).params, experiment.data[split].rows
    rows = rows.replace(label=jnp.where(rows.utterance % 5 == 0, UNLABELED, rows.label))
    outcome = experiment.evaluate[split](params, rows)
    guess, label = np.asarray(outcome["probabilities"]).argmax(axis=-1), np.asarray(rows.label)[:-1]
    counts = np.zeros((3, 3), int)
    for truth, prediction in zip(label.ravel(), guess.ravel(), strict=True):
        if truth >= 0:
            counts[truth, prediction] += 1
    assert counts.sum() > 0
    np.testing.assert_array_equal(outcome["confusion"], counts)
    np.testing.assert_allclose(outcome["probabilities"].sum(axis=-1), 1, rtol=1e-5)


# --- From a config ----------------------------------------------------------------------------------------------------


def test_class_weights_by_hand():
    corpus = conversations(dialogues=4, utterances=(3, 3), classes=4, valid=0.25, test=0.25)
    label = np.array([0, 0, 0, 3, -1, -1, *[1] * 6], np.int32)
    weights = build.class_weights(dataclasses.replace(corpus, label=label))
    np.testing.assert_allclose(weights, [4 / (2 * 3), 0, 0, 4 / 2], rtol=1e-6)


def decays(changes, steps):
    """What zero gradients change in a matrix and a vector of ones: the weight decay, which shows the learning rate."""
    optimizer = build.make_optimizer(tiny(changes).optimizer, 6, steps)
    params = {"matrix": jnp.ones((1, 1)), "vector": jnp.ones(1)}
    state, seen = optimizer.init(params), []
    for _ in range(6 * steps + 1):
        updates, state = optimizer.update(jax.tree.map(jnp.zeros_like, params), state, params)
        assert float(updates["vector"][0]) == 0
        seen.append(-float(updates["matrix"][0, 0]))
    return seen


def test_learning_rate_warms_up_then_stays_or_falls():
    options = {"optimizer.lr": 0.4, "optimizer.weight_decay": 0.5, "optimizer.warmup_epochs": 2.0}
    cosine = decays(options, 2)
    np.testing.assert_allclose(cosine[:5], [0, 0.05, 0.1, 0.15, 0.2], rtol=1e-6)
    np.testing.assert_allclose([cosine[8], cosine[12]], [0.1, 0], atol=1e-7)
    constant = decays(options | {"optimizer.schedule": "constant"}, 2)
    np.testing.assert_allclose(constant, [0, 0.05, 0.1, 0.15, *[0.2] * 9], rtol=1e-6)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"num_epochs": 0}, "num_epochs=0"),
        ({"batch_size": 0}, "batch_size=0"),
        ({"num_seeds": 0}, "num_seeds=0"),
        ({"seed": -1}, "seed=-1"),
        ({"num_devices": 99}, "num_devices=99"),
        ({"optimizer.schedule": "linear"}, "optimizer.schedule='linear' must be one of cosine, constant"),
        ({"eval.select": "f1"}, r"eval\.select='f1' is no metric"),
        ({"eval.epoch": "first"}, r"eval\.epoch='first' must be one of best, last"),
        ({"checkpoint.keep": 0}, r"checkpoint\.keep=0 must be at least 1"),
        ({f"losses.{slot}.weight": 0.0 for slot in objective.TERMS}, "Every loss has the weight 0"),
        ({"optimizer.lr": 0.0}, r"optimizer.lr=0\.0 must be a positive number"),
        ({"optimizer.lr": float("nan")}, "optimizer.lr=nan"),
        ({"discriminator.lr": float("inf")}, "discriminator.lr=inf"),
        ({"discriminator.game": "sum"}, "discriminator.game='sum' must be one of adversarial, summed"),
        ({"discriminator.lr": 0.02}, "discriminator.lr=0.02 exceeds optimizer.lr=0.01"),
        ({"model.context": "lstm"}, "model.context='lstm'.*gru"),
        ({"model.graph.heads": 3}, "model.hidden=8.*model.graph.heads=3"),
        ({"model.dropout": 1.0}, "model.dropout=1.0"),
        ({"model.graph.past": -2}, "model.graph.past=-2"),
        ({"model.graph.layers": -1}, "model.graph.layers=-1"),
        ({"losses.iccl.fn": "supervised_ncee"}, "losses.iccl.fn.*Did you mean 'supervised_nce'"),
        ({"losses.imcl.weight": -0.1}, "losses.imcl.weight=-0.1"),
    ],
)
def test_options_that_cannot_be_built_are_named(changes, words):
    with pytest.raises(UserError, match=words):
        build.make(tiny(changes), conversations())


def test_modalities_are_dropped_at_their_rate_and_never_the_last_one():
    corpus = conversations(dialogues=80, missing=0.2)
    batch = jax.tree.map(jnp.asarray, packing.pack(corpus, "train", 40)[1])
    dropped = step.drop_modalities(jax.random.key(0), batch, (0.0, 0.5))
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
    alone = step.drop_modalities(jax.random.key(0), text, (0.5, 0.5))
    np.testing.assert_array_equal(alone.present["text"], batch.present["text"])


def test_dialogues_lose_a_modality_as_a_whole():
    batch = jax.tree.map(jnp.asarray, packing.pack(conversations(dialogues=80), "train", 40)[1])
    dropped = step.drop_modalities(jax.random.key(0), batch, (0.5, 0.0))
    left = np.stack([np.asarray(x) for x in dropped.present.values()], axis=-1)
    where = np.asarray(batch.row)[:, None] * left.shape[1] + np.asarray(batch.dialogue)
    kept = [left[(where == d) & np.asarray(batch.real)] for d in np.unique(where[np.asarray(batch.real)])]
    assert len(kept) > 40 and all((dialogue == dialogue[0]).all() for dialogue in kept)
    shares = np.mean([[*dialogue[0], dialogue[0].all()] for dialogue in kept], axis=0)
    np.testing.assert_allclose(shares, [0.75, 0.75, 0.5], atol=0.15)


def test_modality_dropout_is_for_training_alone_and_checked():
    with pytest.raises(UserError, match=r"model\.modality_dropout=1\.0"):
        build.make(tiny({"model.modality_dropout": 1.0}), conversations())
    plain, dropping = (build.make(tiny(LIGHT | {"model.modality_dropout": v}), conversations()) for v in (0.0, 0.5))
    state = plain.init(0)
    one, two = (e.evaluate["valid"](state.params, e.data["valid"].rows) for e in (plain, dropping))
    np.testing.assert_array_equal(one["probabilities"], two["probabilities"])
    (after, _), (other, _) = (continue_run(e, e.init(0), 1) for e in (plain, dropping))
    assert distance(after.params, other.params) > 1e-4
