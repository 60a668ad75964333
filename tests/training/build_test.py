"""An experiment: deterministic, resumable, and what of the corpus counts in it."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ariigcn_jax import data as corpora
from ariigcn_jax.training import build, step
from ariigcn_jax.types import UNLABELED, UserError
from tests.support.training import LIGHT, continue_run, conversations, distance, tiny

pytestmark = pytest.mark.usefixtures("quick_compilation")


@pytest.fixture(scope="module")
def experiment():
    """All terms, dropout, three steps an epoch, modalities missing here and there."""
    return build.make(tiny(), conversations(missing=0.1))


@pytest.fixture(scope="module")
def light():
    """No graph, and the losses of the label alone."""
    return build.make(tiny(LIGHT), conversations())


@pytest.fixture(scope="module")
def text_only():
    """One modality, one step an epoch, no dropout."""
    return build.make(tiny({"model.dropout": 0.0, "batch_size": 20}), conversations(widths={"text": 5}))


def leaves(state):
    return [np.asarray(x) for x in jax.tree.leaves(state.replace(key=jax.random.key_data(state.key)))]


def assert_same_bits(a, b):
    for x, y in zip(leaves(a), leaves(b), strict=True):
        np.testing.assert_array_equal(x, y)


def probabilities(experiment, params, rows, split="train"):
    return np.asarray(experiment.evaluate[split](params, rows)["probabilities"])


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


def test_summed_players_share_the_optimizer_and_live_without_a_second_one():
    config = {"discriminator.game": "summed", "optimizer.lr": 1e-3}
    players = build.make_players(tiny(config), conversations().description, 1)
    assert players.summed and players.discriminator_optimizer is players.optimizer
    alone = build.make(tiny(LIGHT | config | {"losses.adversarial.weight": 0.1}), conversations(widths={"text": 5}))
    _, logs = continue_run(alone, alone.init(0), 1)
    assert np.isfinite(list(logs[0].values())).all()


def test_moving_average_follows_the_parameters_and_is_what_is_evaluated(light):
    params, average = {"w": jnp.array([1.0])}, {"w": jnp.array([5.0])}
    early, late = (step.moving_average(average, params, 0.9, jnp.int32(number))["w"][0] for number in (0, 1000))
    assert float(early) == pytest.approx(0.1 * 5 + 0.9 * 1)
    assert float(late) == pytest.approx(0.9 * 5 + 0.1 * 1)
    plain, averaged = light, build.make(tiny(LIGHT | {"optimizer.average": 0.5}), conversations())
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


def test_states_of_all_seeds_are_traced_once(monkeypatch):
    traced, original = [], step.init_state
    monkeypatch.setattr(build, "init_state", lambda *given: traced.append(1) or original(*given))
    experiment = build.make(tiny(LIGHT), conversations())
    states = [experiment.init(seed) for seed in (0, 1)]
    assert len(traced) == 1
    assert not np.array_equal(*(jax.tree.leaves(state.params)[-1] for state in states))


def test_loss_falls_on_separable_conversations(experiment):
    _, logs = continue_run(experiment, experiment.init(0), 20)
    assert logs[-1]["emotion"] < 0.5 * logs[0]["emotion"]
    assert logs[-1]["total"] < 0.7 * logs[0]["total"]


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


def test_modality_dropout_is_for_training_alone_and_checked(light):
    with pytest.raises(UserError, match=r"model\.modality_dropout=1\.0"):
        build.make(tiny({"model.modality_dropout": 1.0}), conversations())
    plain, dropping = light, build.make(tiny(LIGHT | {"model.modality_dropout": 0.5}), conversations())
    state = plain.init(0)
    one, two = (e.evaluate["valid"](state.params, e.data["valid"].rows) for e in (plain, dropping))
    np.testing.assert_array_equal(one["probabilities"], two["probabilities"])
    (after, _), (other, _) = (continue_run(e, e.init(0), 1) for e in (plain, dropping))
    assert distance(after.params, other.params) > 1e-4


def test_more_devices_than_there_are_are_refused():
    with pytest.raises(UserError, match="num_devices=99"):
        build.make(tiny({"num_devices": 99}), conversations())
