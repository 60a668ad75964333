"""The table of terms, the law that adds them, and what a config may say about them."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict

from ariigcn_jax.nn import gan
from ariigcn_jax.objective import pairing, tasks
from ariigcn_jax.objective import terms as objective
from ariigcn_jax.options import base
from ariigcn_jax.training import build as building
from ariigcn_jax.types import UserError
from tests.support import builders

HYPER = {
    "cross_entropy": {"smoothing": 0.1},
    "weighted_cross_entropy": {"smoothing": 0.1},
    "focal": {"gamma": 2.0},
    "huber": {"delta": 1.0},
    "supervised_nce": {"temperature": 0.3, "similarity_margin": -0.2},
    "margin": {"margin": 0.5},
}
ENTRIES = [(slot, name) for slot, (forms, *_) in objective.TERMS.items() for name in forms]
CLASS_WEIGHTS = np.array([0.5, 2.0, 1.0], np.float32)


def options(name, weight=1.0):
    return {"fn": name, "weight": weight, **HYPER.get(name, {})}


def built(config):
    return objective.build(config, CLASS_WEIGHTS, modalities=2, ratings=True)


def build(slot, name, weight=1.0):
    return built({slot: options(name, weight)})


def with_candidates(outputs, batch):
    return outputs.replace(candidates=pairing.contrast_set(outputs, batch, None))


def with_target(batch, outputs):
    """Targets as wide as the outputs, for the terms that want some: the classes one-hot, which serve as ratings too."""
    target = jax.nn.one_hot(batch.label, outputs.logits.shape[-1])
    return batch.replace(target=target, ratings=target, rated=batch.label >= 0)


def real_logits(outputs):
    """What discriminators would say of real input: for these tests any logit of the target will do."""
    return {b: x + 0.5 for (_, b), x in outputs.fake_logits.items()}


def values(terms, outputs, batch, real=None):
    """Share, each term's value and L_D."""
    outputs, batch = with_candidates(outputs, batch), with_target(batch, outputs)
    outputs = outputs.replace(ratings=outputs.logits)
    real = real_logits(outputs) if real is None else real
    judged = objective.discriminator_total(terms, real, outputs, batch, None)
    return *objective.total(terms, outputs, batch, None), judged


@builders.jit
def every_value_and_gradient(outputs, real, batch):
    """For every entry of TERMS: (value, L_D) and their gradients by outputs and real logits; compiled together."""

    def both(entry, parts):
        share, _, judged = values(build(*entry), parts[0], batch, parts[1])
        return share, judged

    parts = outputs, real
    return {entry: (both(entry, parts), jax.jacrev(both, argnums=1)(entry, parts)) for entry in ENTRIES}


# --- Every term -------------------------------------------------------------------------------------------------------


@functools.cache
def forward(wiring):
    """What every term makes of a model's and discriminators' outputs; how a gradient by them reaches all parameters."""
    corpus = builders.corpus([3, 2, 4], missing=0.2, unlabeled=0.2, seed=3)
    batch = builders.place(corpus, [[0, 1], [2], []], 6)
    model = builders.model(corpus, wiring=wiring, layers=0)  # any path from the parameters to the outputs will do
    judges = gan.Discriminators(corpus.modalities, 4)
    outputs, params = builders.init(model, batch, False)
    _, judge = builders.init(judges, batch.features if wiring == "feature" else outputs.codes, outputs.generated)
    params = {"model": builders.scattered(params), "judges": builders.scattered(judge)}

    def run(params):
        outputs = model.apply({"params": params["model"]}, batch, False)
        real = batch.features if wiring == "feature" else outputs.codes
        real, fake = judges.apply({"params": params["judges"]}, real, outputs.generated)
        outputs = outputs.replace(fake_logits=fake, codes={}, hidden={}, generated={})  # what no term reads
        return outputs.replace(attention={}, attention_entropy={}), real

    pull = builders.jit(lambda params, cotangent: jax.vjp(run, params)[1](cotangent)[0])
    return every_value_and_gradient(*builders.jit(run)(params), batch), functools.partial(pull, params)


def finite(tree):
    return all(np.isfinite(x).all() for x in jax.tree.leaves(tree))


def some(tree):
    return any(np.asarray(x).any() for x in jax.tree.leaves(tree))


@pytest.mark.parametrize("wiring", gan.WIRINGS)
@pytest.mark.parametrize("slot, name", ENTRIES)
def test_every_term_takes_a_finite_value_and_gradient(slot, name, wiring):
    results, pull = forward(wiring)
    (value, judged), (cotangent, judged_cotangent) = results[slot, name]
    assert np.isfinite(value) and value != 0
    gradient = pull(cotangent)
    assert finite(gradient) and some(gradient["model"])
    gradient = pull(judged_cotangent)
    assert np.isfinite(judged) and finite(gradient)
    assert (judged > 0) == some(gradient["judges"]) == (slot == "adversarial")


LIMITS = {
    "nothing labelled": dict(rows=[[3, 2]], unlabeled=1.0),
    "all missing": dict(rows=[[3, 2]], missing=1.0),
    "one class": dict(rows=[[3, 2]], classes=1),
    "one utterance": dict(rows=[[1, 0]]),
    "all-zero outputs": dict(rows=[[3, 2]]),
}


@pytest.mark.parametrize("case", LIMITS)
def test_every_term_is_finite_in_the_limit(case):
    batch = builders.batch(**LIMITS[case], length=5)
    outputs = builders.outputs(batch)
    if case == "all-zero outputs":
        outputs = jax.tree.map(jnp.zeros_like, outputs)
    for entry, found in every_value_and_gradient(outputs, real_logits(outputs), batch).items():
        assert finite(found), entry
        if case == "nothing labelled" and entry[0] != "adversarial":
            assert not some(found), entry


CORPUS = builders.corpus([3, 2, 4], missing=0.2, unlabeled=0.2, seed=3)
PLACES = [([[0, 1], [2]], 5), ([[2], [1, 0]], 5), ([[1], [], [0, 2], []], 9)]


@builders.jit
def every_value(outputs, batch):
    return {f"{slot} {name}": values(build(slot, name), outputs, batch)[::2] for slot, name in ENTRIES}


@pytest.mark.parametrize("rows, length", PLACES[1:])
def test_order_of_dialogues_and_padding_change_no_term(rows, length):
    batches = [builders.place(CORPUS, *place) for place in ((rows, length), PLACES[0])]
    found, expected = (every_value(builders.outputs(batch), batch) for batch in batches)
    for entry, value in expected.items():
        np.testing.assert_allclose(found[entry], value, rtol=1e-5, err_msg=entry)
        assert value[0] != 0


# --- The law ----------------------------------------------------------------------------------------------------------


def test_total_is_the_weighted_sum_of_weighted_means():
    batch = builders.batch([[2]])
    outputs = builders.outputs(batch)
    first = jnp.array([1.0, 2.0, 4.0]), jnp.array([1.0, 0.0, 3.0])  # (1 + 12) / 4
    second = jnp.array([[3.0], [5.0]]), jnp.array([[0.5], [0.5]])  # 4
    empty = jnp.array([7.0, 8.0]), jnp.zeros(2)  # nothing counts
    terms = {
        name: objective.Term(lambda outputs, batch, pair=pair: pair, weight)
        for name, pair, weight in (("a", first, 2.0), ("b", second, 0.5), ("c", empty, 9.0))
    }
    share, logs = objective.total(terms, outputs, batch, None)
    assert {k: float(v) for k, v in logs.items()} == {"a": 3.25, "b": 4.0, "c": 0.0}
    assert float(share) == 2 * 3.25 + 0.5 * 4
    assert objective.discriminator_total(terms, {}, outputs, batch, None) == 0


def test_no_terms_are_nothing():
    batch = builders.batch([[2]])
    share, logs = objective.total({}, builders.outputs(batch), batch, None)
    assert share == 0 and logs == {}


def log_softmax(z):
    z = np.float64(z)
    return z - math.log(sum(math.exp(v) for v in z))


@pytest.mark.parametrize("name", tasks.TASKS["classification"].losses)
def test_emotion_terms_against_a_loop_over_labelled_utterances(name):
    batch = builders.batch([[3, 2], [4]], unlabeled=0.4, seed=1)
    outputs = builders.outputs(batch)
    total = count = 0.0
    for place, label in np.ndenumerate(batch.label):
        if label >= 0:
            log_p = log_softmax(outputs.logits[place])
            smoothed = -0.9 * log_p[label] - 0.1 * sum(log_p) / 3
            value = -((1 - math.exp(log_p[label])) ** 2) * log_p[label] if name == "focal" else smoothed
            weight = CLASS_WEIGHTS[label] if name == "weighted_cross_entropy" else 1.0
            total, count = total + weight * value, count + weight
    assert 0 < (np.asarray(batch.label) >= 0).sum() < 9
    _, logs, _ = values(build("emotion", name), outputs, batch)
    np.testing.assert_allclose(logs["emotion"], total / count, rtol=1e-5)


def test_adversarial_terms_count_pairs_that_are_both_there():
    batch = builders.batch([[3, 2], [4]], missing=0.4)
    outputs = builders.outputs(batch)
    real, fooled, judged = real_logits(outputs), [], []
    for place in np.ndindex(*batch.dialogue.shape):
        for (a, b), logits in outputs.fake_logits.items():
            if batch.present[a][place] and batch.present[b][place]:
                fooled.append(math.log(1 + math.exp(-logits[place])))
                judged.append(math.log(1 + math.exp(logits[place])))
        judged += [math.log(1 + math.exp(-x[place])) for m, x in real.items() if batch.present[m][place]]
    assert len(fooled) < 18
    share, _, found = values(build("adversarial", "bce", 3.0), outputs, batch)
    np.testing.assert_allclose(share, 3 * np.mean(fooled), rtol=1e-5)
    np.testing.assert_allclose(found, np.mean(judged), rtol=1e-5)


def test_unimodal_cross_entropy_counts_a_modality_where_it_is():
    batch = builders.batch([[3, 2]], length=7, missing=0.4, seed=1)
    outputs = builders.outputs(batch)
    expected = []
    for m, logits in outputs.unimodal.items():
        for place in zip(*np.nonzero(np.asarray(batch.present[m] & (batch.label >= 0))), strict=True):
            p = np.exp(np.float64(logits[place]))
            smooth = 0.9 * np.eye(3)[batch.label[place]] + 0.1 / 3
            expected.append(-(smooth * np.log(p / p.sum())).sum())
    assert 0 < len(expected) < 5 * len(outputs.unimodal)
    _, logs, _ = values(build("unimodal", "cross_entropy"), outputs, batch)
    np.testing.assert_allclose(logs["unimodal"], np.mean(expected), rtol=1e-5)


@pytest.mark.parametrize("slot", ["emotion", "unimodal", "ratings"])
def test_terms_of_targets_count_what_is_labelled_and_there(slot):
    batch = builders.batch([[3, 2], [4]], missing=0.4, unlabeled=0.4, seed=1)
    outputs = builders.outputs(batch)
    heads = outputs.unimodal if slot == "unimodal" else {None: outputs.logits}
    expected = [
        np.abs(np.asarray(logits[place]) - np.eye(3)[label]).mean()
        for m, logits in heads.items()
        for place, label in np.ndenumerate(batch.label)
        if label >= 0 and (m is None or batch.present[m][place])
    ]
    assert 0 < len(expected) < 9 * len(heads)
    _, logs, _ = values(build(slot, "l1"), outputs, batch)
    np.testing.assert_allclose(logs[slot], np.mean(expected), rtol=1e-5)


# --- Contrast: who is pulled and who is pushed ------------------------------------------------------------------------

# Four utterances of classes a, a, b, b; the third has no audio. Anchor -> (positives, negatives), by hand.
INTRA = {
    ("text", "text"): {0: ([1], [2, 3]), 1: ([0], [2, 3]), 2: ([3], [0, 1]), 3: ([2], [0, 1])},
    ("audio", "audio"): {0: ([1], [3]), 1: ([0], [3]), 3: ([], [0, 1])},
}
CROSS = {
    ("text", "audio"): {0: ([0, 1], [3]), 1: ([0, 1], [3]), 2: ([3], [0, 1]), 3: ([3], [0, 1])},
    ("audio", "text"): {0: ([0, 1], [2, 3]), 1: ([0, 1], [2, 3]), 3: ([2, 3], [0, 1])},
}


def four(labels=(0, 0, 1, 1)):
    batch = builders.batch([[2, 2]], length=6)
    audio = jnp.array([[True, True, False, True, False, False]])
    return batch.replace(label=jnp.array([[*labels, -1, -1]]), present={"text": batch.real, "audio": audio})


def by_sets(sets, outputs, value):
    """Mean over anchors with positives of `value`(similarity by candidate, positives, negatives)."""
    found = []
    for (a, b), anchors in sets.items():
        for i, (positives, negatives) in anchors.items():
            anchor = np.float64(outputs.contrast[a][0, i])
            similarity = {k: anchor @ np.float64(outputs.contrast[b][0, k]) for k in (*positives, *negatives)}
            if positives:
                found.append(value(similarity, positives, negatives))
    return np.mean(found)


def nce(similarity, positives, negatives):
    pushed = [math.exp(max(similarity[k], -0.2) / 0.3) for k in negatives]
    everything = sum(pushed) + sum(math.exp(similarity[k] / 0.3) for k in positives)
    return np.mean([-math.log(math.exp(similarity[k] / 0.3) / everything) for k in positives])


def margin(similarity, positives, negatives):
    near = np.mean([1 - similarity[k] for k in positives])
    return np.mean([max(0, 0.5 + near - (1 - similarity[k])) for k in negatives])


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("name, value", [("supervised_nce", nce), ("margin", margin)])
@pytest.mark.parametrize("slot, sets", [("iccl", INTRA), ("imcl", CROSS)])
def test_positives_and_negatives_of_four_utterances(slot, sets, name, value, seed):
    batch = four()
    outputs = builders.outputs(batch, seed=seed)
    _, logs, _ = values(build(slot, name), outputs, batch)
    np.testing.assert_allclose(logs[slot], by_sets(sets, outputs, value), rtol=1e-4)


def test_an_utterance_is_no_positive_of_itself_but_its_other_modality_is():
    """All classes differ: within a modality no anchor has a positive, across them each has its own utterance."""
    batch = four(labels=(0, 1, -1, 2))
    outputs = with_candidates(builders.outputs(batch), batch)
    _, weight = build("iccl", "supervised_nce")["iccl"].function(outputs, batch)
    assert not weight.any()
    _, weight = build("imcl", "supervised_nce")["imcl"].function(outputs, batch)
    np.testing.assert_array_equal(weight, [[1, 1, 0, 1, 0, 0]] * 2)


@pytest.mark.parametrize("slot", ["iccl", "imcl"])
@pytest.mark.parametrize("fn", [options("supervised_nce"), {**options("margin"), "margin": 2.0}])
def test_missing_and_unlabelled_nodes_are_neither_anchors_nor_candidates(slot, fn):
    batch = builders.batch([[3, 5]], length=10)
    text = batch.real.at[0, 6].set(False)
    label = jnp.array([[0, 0, 0, 1, 1, 1, 0, -1, -1, -1]])
    batch = batch.replace(label=label, present={"text": text, "audio": batch.real})
    terms = built({slot: fn})
    gradient = jax.grad(lambda o: values(terms, o, batch)[0])(builders.outputs(batch)).contrast
    taught = {m: np.asarray(g).any(axis=-1)[0].tolist() for m, g in gradient.items()}
    assert taught["text"] == [True] * 6 + [False] * 4
    assert taught["audio"] == [True] * 7 + [False] * 3


def test_contrast_goes_by_classes_where_the_outputs_are_something_else():
    batch = four()
    outputs = builders.outputs(batch)
    score = outputs.replace(logits=outputs.logits[..., :1])
    expected = values(build("iccl", "supervised_nce"), outputs, batch)[0]
    assert values(build("iccl", "supervised_nce"), score, batch.replace(classes=3))[0] == expected


def test_contrast_with_one_modality():
    batch = builders.batch([[4]], widths={"text": 2})
    outputs = with_candidates(builders.outputs(batch, widths={"text": 2}), batch)
    for name in ("supervised_nce", "margin"):
        value, weight = build("imcl", name)["imcl"].function(outputs, batch)
        assert value.shape == weight.shape and weight.sum() == 0
    for slot, name in (("imcl", "supervised_nce"), ("adversarial", "bce")):
        share, logs, judged = values(build(slot, name), outputs, batch)
        assert share == judged == logs[slot] == 0


@pytest.mark.parametrize("limit, stride", [(5, 3), (6, 2), (11, 2), (12, 1), (1, 12)])
def test_sampled_candidates_are_every_kth_node_from_the_offset(limit, stride):
    batch = builders.batch([[3, 2], [4]], length=6, missing=0.2)
    outputs = builders.outputs(batch)
    everyone = pairing.contrast_set(outputs, batch, None)
    for offset in (0, 5, 11, 12_345):
        sample = pairing.contrast_set(outputs, batch, None, limit, offset)
        nodes = [(offset + stride * k) % 12 for k in range(12 // stride)] if stride > 1 else list(range(12))
        assert len(nodes) <= limit
        assert sample.own.tolist() == [nodes.index(n) if n in nodes else -1 for n in range(12)]
        for m in outputs.contrast:
            np.testing.assert_array_equal(sample.vectors[m], everyone.vectors[m][np.array(nodes)])
            np.testing.assert_array_equal(sample.classes[m], everyone.classes[m][np.array(nodes)])


@pytest.mark.parametrize("slot, fn", [(slot, fn) for slot in ("iccl", "imcl") for fn in objective.TERMS[slot].forms])
def test_anchors_in_chunks_change_no_value_and_no_gradient(slot, fn, monkeypatch):
    batch = builders.batch([[3, 2], [4]], length=6, missing=0.2)
    outputs = builders.outputs(batch)

    def value(vectors):
        changed = outputs.replace(contrast=vectors)
        changed = changed.replace(candidates=pairing.contrast_set(changed, batch, None, 6, 1))
        return objective.total(build(slot, fn), changed, batch, None)[0]

    whole = builders.jit(jax.value_and_grad(value))(outputs.contrast)
    assert "f32[12,6]" in str(jax.make_jaxpr(jax.grad(value))(outputs.contrast))
    monkeypatch.setattr(pairing, "MOST_SIMILARITIES", 32)  # three chunks of the 12 anchors, or of 5 of them
    text = str(jax.make_jaxpr(jax.grad(lambda c: value(c)))(outputs.contrast))
    assert "f32[4,6]" in text and "f32[12,6]" not in text
    chunked = builders.jit(jax.value_and_grad(lambda c: value(c)))(outputs.contrast)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), whole, chunked)


@pytest.mark.parametrize("slot, fn", [(slot, fn) for slot in ("iccl", "imcl") for fn in objective.TERMS[slot].forms])
def test_anchors_are_their_own_candidates_where_none_are_given(slot, fn):
    batch = builders.batch([[3, 2], [4]], length=6, missing=0.2)
    outputs = builders.outputs(batch)
    assert pairing.other_candidates(outputs, batch, None, 0, 0) is None
    assert pairing.other_candidates(outputs, batch, None, 12, 0) is None
    assert pairing.other_candidates(outputs, batch, None, 6, 0) is not None

    def value(vectors, given):
        changed = outputs.replace(contrast=vectors)
        changed = with_candidates(changed, batch) if given else changed
        return objective.total(build(slot, fn), changed, batch, None)[0]

    found, expected = (
        builders.jit(jax.value_and_grad(functools.partial(value, given=given)))(outputs.contrast)
        for given in (False, True)
    )
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), found, expected)


def test_candidates_may_be_more_than_the_batch():
    """As on several devices: the anchors of two halves of a batch, against all candidates, make up the whole."""
    corpus = builders.corpus([4, 4], seed=2)
    whole = builders.place(corpus, [[0], [1]], 4)
    outputs = with_candidates(builders.outputs(whole), whole)
    for slot in ("iccl", "imcl"):
        term = build(slot, "supervised_nce")[slot].function
        expected = sum(float((v * w).sum()) for v, w in [term(outputs, whole)])
        halves = []
        for rows in (slice(0, 1), slice(1, 2)):
            half, batch = jax.tree.map(lambda x, rows=rows: x[rows], (outputs.replace(candidates=None), whole))
            candidates = outputs.candidates.replace(own=outputs.candidates.own.reshape(2, -1)[rows].ravel())
            v, w = term(half.replace(candidates=candidates), batch)
            halves.append(float((v * w).sum()))
        np.testing.assert_allclose(sum(halves), expected, rtol=1e-5)


# --- From a config ----------------------------------------------------------------------------------------------------


def every_slot(**weights):
    config = {
        "emotion": "focal",
        "unimodal": "cross_entropy",
        "ratings": "huber",
        "adversarial": "hinge",
        "iccl": "margin",
        "imcl": "supervised_nce",
    }
    return {slot: options(name, weights.get(slot, 1.0)) for slot, name in config.items()}


def test_a_term_across_modalities_needs_nothing_of_one_and_ratings_need_a_corpus_that_has_some():
    several, single = (
        objective.build(every_slot(), CLASS_WEIGHTS, modalities=count, ratings=count > 1) for count in (2, 1)
    )
    assert several["imcl"].needs == several["iccl"].needs == single["iccl"].needs == {"contrast"}
    assert not single["imcl"].needs and not single["adversarial"].needs and not single["unimodal"].needs
    assert several["ratings"].needs == {"ratings"} and "ratings" not in single


def test_a_discriminator_s_boundary_is_where_its_two_targets_meet():
    for name, (least, boundary) in {"bce": (-9, 0.0), "least_squares": (-9, 0.5), "hinge": (-1, 0.0)}.items():
        judge = objective.TERMS["adversarial"].forms[name].discriminator
        x = jnp.linspace(least, 9, 10) if name == "bce" else boundary + jnp.array([-0.3, 0.3])
        term = build("adversarial", name)["adversarial"]
        assert term.boundary == boundary
        np.testing.assert_array_equal(judge(x, True) < judge(x, False), x > boundary)


@pytest.mark.parametrize("removed", objective.TERMS)
def test_weight_zero_removes_a_term(removed):
    terms = built(every_slot(**{removed: 0}))
    assert set(terms) == set(objective.TERMS) - {removed}
    assert all(term.weight == 1 for term in terms.values())


def players(**weights):
    config = base.get_config()
    config.model.hidden, config.model.contrast_width, config.model.graph.layers = 4, 2, 0
    for slot, weight in weights.items():
        config.losses[slot].weight = float(weight)
    return building.make_players(config, CORPUS.description, 1)


@pytest.mark.parametrize(
    "weights, gone",
    [
        ({}, ()),
        ({"adversarial": 0}, ("generator",)),
        ({"iccl": 0}, ()),
        ({"iccl": 0, "imcl": 0}, ("contrast",)),
        ({"adversarial": 0, "iccl": 0, "imcl": 0}, ("generator", "contrast")),
    ],
    ids=str,
)
def test_weight_zero_removes_what_only_the_term_needs(weights, gone):
    model = players(**weights).model
    assert ("generated" in model.further, "contrast" in model.further) == (
        "generator" not in gone,
        "contrast" not in gone,
    )
    batch = builders.place(CORPUS, [[0]], 3)
    params = jax.eval_shape(lambda b: model.init(jax.random.key(0), b, True), batch)["params"]
    for part in ("generator", "contrast"):
        assert any(name.startswith(part) for name in params) == (part not in gone)


def test_a_slot_holds_the_hyper_parameters_of_all_its_functions():
    config = {"iccl": {"weight": 1.0, **HYPER["supervised_nce"], **HYPER["margin"]}}
    batch = four()
    outputs = builders.outputs(batch)
    for name in objective.TERMS["iccl"].forms:
        config["iccl"]["fn"] = name
        found = values(built(config), outputs, batch)[0]
        assert found == values(build("iccl", name), outputs, batch)[0]


def test_the_defaults_can_be_built():
    terms = built(base.get_config().losses.to_dict())
    assert set(terms) == set(objective.TERMS)


@pytest.mark.parametrize(
    "config, message",
    [
        (
            {"emotions": options("focal")},
            r"losses\.emotions: .*no such term.*Did you mean 'emotion'\?.*Known: emotion, unimodal, ra",
        ),
        ({"emotion": options("fokal")}, r"losses\.emotion\.fn='fokal'.*Did you mean 'focal'\?.*cross_entropy"),
        ({"iccl": options("focal")}, r"losses\.iccl\.fn='focal'.*supervised_nce, margin"),
        ({"iccl": {"weight": 1.0}}, r"losses\.iccl\.fn=None"),
        ({"iccl": {**options("margin"), "temprature": 1}}, r"losses\.iccl\.temprature: .*Did you mean 'temperature'\?"),
        ({"adversarial": {**options("bce"), "gamma": 1}}, r"losses\.adversarial\.gamma: no function.*Known: none"),
        ({"emotion": {**options("focal"), "class_weights": 1}}, r"losses\.emotion\.class_weights: no function"),
        ({"emotion": {"fn": "focal", "weight": 1.0}}, r"losses\.emotion: focal needs gamma"),
        ({"imcl": {"fn": "supervised_nce", "weight": 0.0}}, "supervised_nce needs similarity_margin, temperature"),
        (
            {"iccl": {**options("supervised_nce"), "temperature": 0}},
            r"iccl\.temperature=0 must be a positive number",
        ),
        ({"imcl": {**options("margin"), "margin": 2.5}}, r"losses\.imcl\.margin=2\.5 must lie in \[0, 2\]"),
        ({"emotion": {**options("cross_entropy"), "smoothing": 1.0}}, r"smoothing=1\.0 must lie in \[0, 1\)"),
        ({"emotion": options("focal", -0.1)}, r"losses\.emotion\.weight=-0\.1: a finite number >= 0"),
        ({"emotion": options("focal", math.nan)}, r"losses\.emotion\.weight=nan"),
        ({"emotion": options("focal", math.inf)}, r"losses\.emotion\.weight=inf"),
        ({"emotion": options("focal", "1")}, r"losses\.emotion\.weight='1'"),
        ({"emotion": options("focal", None)}, r"losses\.emotion\.weight=None"),
    ],
)
def test_build_says_what_is_wrong(config, message):
    with pytest.raises(UserError, match=message):
        built(config)


def test_overrides_without_effect_are_refused():
    config = ConfigDict({"emotion": options("cross_entropy"), "adversarial": options("bce")})
    for key, message in (
        (
            "losses.emotion.gamma",
            r"losses\.emotion\.gamma has no effect: losses\.emotion\.fn=cross_entropy takes smoothing",
        ),
        ("losses.adversarial.gamma", r"losses\.adversarial\.fn=bce takes no hyper-parameter"),
    ):
        with pytest.raises(UserError, match=message):
            objective.check_overrides(config, ["seed", key])


def test_overrides_with_effect_pass():
    config = ConfigDict({"emotion": options("cross_entropy"), "iccl": options("margin")})
    keys = ["losses.emotion.smoothing", "losses.emotion.fn", "losses.iccl.weight", "losses.iccl.margin", "model.hidden"]
    objective.check_overrides(config, [*keys, "model.graph.gamma"])
