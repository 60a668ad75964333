"""Each loss against a hand number, a loop in numpy, its numerical gradient and its limits."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from ariigcn_jax.objective import losses

check = functools.partial(check_grads, order=1, modes=("fwd", "rev"), atol=2e-2, rtol=2e-2)


def normal(*shape, seed=0):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)


# --- Classification ---------------------------------------------------------------------------------------------------

LOGITS, LABELS = normal(3, 2, 4), jnp.array([[0, 3], [1, 1], [2, 0]])


def probabilities(z):
    z = [math.exp(v) for v in np.float64(z)]
    return [v / sum(z) for v in z]


def test_cross_entropy_by_hand():
    logits = jnp.log(jnp.array([[0.5, 0.25, 0.25], [0.1, 0.1, 0.8]])) + 7.0
    found = losses.cross_entropy(logits, jnp.array([0, 1]))
    np.testing.assert_allclose(found, [math.log(2), math.log(10)], rtol=1e-5)
    found = losses.cross_entropy(
        logits, jnp.array([0, 1]), smoothing=0.3
    )  # 0.3 / 3 on each class, 0.7 more on the label
    expected = 0.8 * math.log(2) + 0.2 * math.log(4), 0.9 * math.log(10) - 0.1 * math.log(0.8)
    np.testing.assert_allclose(found, expected, rtol=1e-5)


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.9])
def test_cross_entropy_against_a_loop(smoothing):
    found = losses.cross_entropy(LOGITS, LABELS, smoothing=smoothing)
    for place in np.ndindex(3, 2):
        target = [smoothing / 4 + (1 - smoothing) * (c == LABELS[place]) for c in range(4)]
        expected = -sum(t * math.log(p) for t, p in zip(target, probabilities(LOGITS[place]), strict=True))
        np.testing.assert_allclose(found[place], expected, rtol=1e-5)


@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
def test_focal_against_a_loop(gamma):
    found = losses.focal(LOGITS, LABELS, gamma=gamma)
    for place in np.ndindex(3, 2):
        p = probabilities(LOGITS[place])[LABELS[place]]
        np.testing.assert_allclose(found[place], -((1 - p) ** gamma) * math.log(p), rtol=1e-5)


def test_focal_by_hand():
    logits = jnp.log(jnp.array([[0.5, 0.5], [0.75, 0.25]]))
    found = losses.focal(logits, jnp.array([0, 0]), gamma=2.0)
    np.testing.assert_allclose(found, [0.25 * math.log(2), 0.0625 * math.log(4 / 3)], rtol=1e-5)


def test_focal_without_focus_is_cross_entropy():
    np.testing.assert_allclose(losses.focal(LOGITS, LABELS, gamma=0.0), losses.cross_entropy(LOGITS, LABELS), rtol=1e-6)


@pytest.mark.parametrize(
    "function", [losses.cross_entropy, functools.partial(losses.cross_entropy, smoothing=0.2),
                 functools.partial(losses.focal, gamma=2.0), functools.partial(losses.focal, gamma=0.5)]
)  # fmt: skip
def test_gradients_of_classification(function):
    check(lambda x: function(x, LABELS), (LOGITS,))


@pytest.mark.parametrize("logits", [[0.0, 0.0], [200.0, -200.0], [-200.0, 200.0]])
@pytest.mark.parametrize("function", [losses.cross_entropy, functools.partial(losses.focal, gamma=0.5)])
def test_classification_is_finite_when_sure_and_when_wrong(function, logits):
    value, gradient = jax.value_and_grad(lambda x: function(x, jnp.array(0)))(jnp.array(logits))
    assert np.isfinite(value) and np.isfinite(gradient).all()


def test_one_class():
    value, gradient = jax.value_and_grad(lambda x: losses.cross_entropy(x, jnp.array([0])).sum())(jnp.array([[3.0]]))
    assert value == 0 and not gradient.any()


# --- Scores and several labels ----------------------------------------------------------------------------------------


def test_bce_at_extreme_logits():
    logits, targets = jnp.array([1e4, -1e4, 1e4, -1e4]), jnp.array([1.0, 0.0, 0.0, 1.0])
    value, gradient = jax.vmap(jax.value_and_grad(lambda x, y: losses.bce(x[None], y[None])))(logits, targets)
    np.testing.assert_array_equal(value, [0, 0, 1e4, 1e4])
    np.testing.assert_array_equal(gradient, [0, 0, 1, -1])


@pytest.mark.parametrize("delta", [0.5, 1.0, 2.0])
def test_huber_at_delta_and_far_from_it(delta):
    error = jnp.array([delta, -delta, delta * (1 - 1e-3), delta * (1 + 1e-3), 0.0, 1e4, -1e4])
    value, gradient = jax.vmap(jax.value_and_grad(lambda e: losses.huber(e[None] + 1, jnp.ones(1), delta=delta)))(error)
    expected = [e**2 / 2 if abs(e) <= delta else delta * (abs(e) - delta / 2) for e in np.float64(error)]
    np.testing.assert_allclose(value, expected, rtol=1e-5)
    np.testing.assert_allclose(gradient, np.clip(error, -delta, delta), rtol=1e-5)


# --- Adversarial ------------------------------------------------------------------------------------------------------

JUDGED = jnp.array([-2.0, -0.5, 0.0, 0.3, 3.0])


def d(logit):
    """The discriminator's probability of real."""
    return 1 / (1 + math.exp(-logit))


ADVERSARIAL = [  # function, its value for one logit by the definition
    (lambda x: losses.bce_discriminator(x, True), lambda x: -math.log(d(x))),
    (lambda x: losses.bce_discriminator(x, False), lambda x: -math.log(1 - d(x))),
    (losses.bce_generator, lambda x: -math.log(d(x))),
    (lambda x: losses.least_squares_discriminator(x, True), lambda x: (x - 1) ** 2 / 2),
    (lambda x: losses.least_squares_discriminator(x, False), lambda x: x**2 / 2),
    (losses.least_squares_generator, lambda x: (x - 1) ** 2 / 2),
    (lambda x: losses.hinge_discriminator(x, True), lambda x: max(0, 1 - x)),
    (lambda x: losses.hinge_discriminator(x, False), lambda x: max(0, 1 + x)),
    (losses.hinge_generator, lambda x: -x),
]


@pytest.mark.parametrize("function, reference", ADVERSARIAL)
def test_adversarial_against_definition_and_numerical_gradient(function, reference):
    np.testing.assert_allclose(function(JUDGED), [reference(float(x)) for x in JUDGED], rtol=1e-5, atol=1e-6)
    check(function, (JUDGED,))


def test_adversarial_by_hand():
    logits = jnp.array([0.0, math.log(3)])  # D = 1/2 and 3/4
    np.testing.assert_allclose(losses.bce_discriminator(logits, True), [math.log(2), math.log(4 / 3)], rtol=1e-5)
    np.testing.assert_allclose(losses.bce_discriminator(logits, False), [math.log(2), math.log(4)], rtol=1e-5)
    np.testing.assert_allclose(losses.bce_generator(logits), [math.log(2), math.log(4 / 3)], rtol=1e-5)
    np.testing.assert_allclose(losses.hinge_discriminator(jnp.array([3.0, -3.0]), True), [0, 4])
    np.testing.assert_allclose(losses.hinge_discriminator(jnp.array([3.0, -3.0]), False), [4, 0])
    np.testing.assert_allclose(losses.least_squares_discriminator(jnp.array([1.0, 3.0]), True), [0, 2])


@pytest.mark.parametrize("function", [f for f, _ in ADVERSARIAL])
def test_adversarial_is_finite_at_extreme_logits(function):
    value, gradient = jax.vmap(jax.value_and_grad(function))(jnp.array([-1e4, 1e4]))
    assert np.isfinite(value).all() and np.isfinite(gradient).all()


# --- Contrast ---------------------------------------------------------------------------------------------------------


def unit(x):
    return x / jnp.linalg.norm(x, axis=-1, keepdims=True)


def nce(*args, temperature=0.5, similarity_margin=-1.0):
    return losses.supervised_nce(*args, temperature=temperature, similarity_margin=similarity_margin)


def hinge(*args, margin=0.5):
    return losses.margin(*args, margin=margin)


def loop_nce(anchors, candidates, positive, negative, temperature, similarity_margin=-1.0):
    """−mean_p log( exp(s_p/τ) / Σ_a exp(s_a/τ) ) with negatives at max(s, β); None for an anchor without a positive."""
    values = []
    for i, anchor in enumerate(np.float64(anchors)):
        s = [float(anchor @ c) for c in np.float64(candidates)]
        positives = [k for k in range(len(s)) if positive[i, k]]
        powers = [math.exp(s[k] / temperature) for k in positives]
        powers += [math.exp(max(s[k], similarity_margin) / temperature) for k in range(len(s)) if negative[i, k]]
        logs = [-math.log(math.exp(s[k] / temperature) / sum(powers)) for k in positives]
        values.append(sum(logs) / len(logs) if logs else None)
    return values


def loop_margin(anchors, candidates, positive, negative, margin):
    """mean_n max(0, β + d(i, pos) − d(i, n)); None for an anchor without a positive or without a negative."""
    values = []
    for i, anchor in enumerate(np.float64(anchors)):
        distance = [1 - float(anchor @ c) for c in np.float64(candidates)]
        near = [distance[k] for k in range(len(distance)) if positive[i, k]]
        far = [distance[k] for k in range(len(distance)) if negative[i, k]]
        hinges = [max(0.0, margin + sum(near) / len(near) - f) for f in far] if near else []
        values.append(sum(hinges) / len(hinges) if hinges else None)
    return values


CLASSES = 4
# Two anchors are among the candidates; the third is alone in its class, the fourth counts nowhere.
ANCHOR_LABELS, CANDIDATE_LABELS, OWN = [0, 1, 3, -1, 2, 0], [0, 1, 0, 1, 2, -1, 0, 2, 1], [0, 3, -1, -1, -1, -1]


def one_hot(labels):
    return jnp.asarray(np.eye(CLASSES, dtype=np.float32)[labels] * (np.array(labels) >= 0)[:, None])


def sets(anchor_labels, candidate_labels, own):
    """Positives and negatives [A, Q] as booleans, by the definition."""
    pairs = [
        [(a >= 0 and c >= 0 and k != o, a == c) for k, c in enumerate(candidate_labels)]
        for a, o in zip(anchor_labels, own, strict=True)
    ]
    counts, same = (np.array([[pair[i] for pair in row] for row in pairs]) for i in (0, 1))
    return counts & same, counts & ~same


def arguments(anchor_labels, candidate_labels, own):
    return one_hot(anchor_labels), one_hot(candidate_labels), jnp.array(own)


EXAMPLE = ANCHOR_LABELS, CANDIDATE_LABELS, OWN
ONE_CLASS = [0, 0, 1], [0, 0, -1, 0], [-1, 1, -1]  # no negative, and an anchor without a positive


def vectors(labels, seed=0):
    """Unit vectors of anchors and candidates; an anchor that is a candidate has one vector."""
    anchor_labels, candidate_labels, own = labels
    anchors, candidates = (
        normal(len(anchor_labels), 3, seed=seed),
        unit(normal(len(candidate_labels), 3, seed=seed + 1)),
    )
    own = jnp.array(own)
    return jnp.where((own >= 0)[:, None], candidates[own], unit(anchors)), candidates


def assert_weighted(found, expected):
    value, weight = (np.asarray(x) for x in found)
    np.testing.assert_array_equal(weight, [0 if v is None else 1 for v in expected])
    np.testing.assert_allclose(value, [0 if v is None else v for v in expected], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("temperature", [0.02, 0.05, 0.2, 1.0, 10.0])
@pytest.mark.parametrize("similarity_margin", [-1.0, 0.0, 0.4, 1.0])
@pytest.mark.parametrize("labels", [EXAMPLE, ONE_CLASS])
def test_supervised_nce_against_a_loop(labels, temperature, similarity_margin):
    options = dict(temperature=temperature, similarity_margin=similarity_margin)
    found = nce(*vectors(labels), *arguments(*labels), **options)
    assert_weighted(found, loop_nce(*vectors(labels), *sets(*labels), **options))


def exact_nce(positive, negative, temperature):
    """Value of a positive at one cosine and a negative at another, and its derivatives by both, in Python's numbers."""
    pull = (negative - positive) / temperature
    value = pull + math.log1p(math.exp(-pull)) if pull > 0 else math.log1p(math.exp(pull))
    pushed = 1 / (1 + math.exp(-pull)) if pull > 0 else math.exp(pull) / (1 + math.exp(pull))
    return value, -pushed / temperature, pushed / temperature


@pytest.mark.parametrize("temperature", [0.002, 0.01, losses.WITHOUT_PEAK, 1.001 * losses.WITHOUT_PEAK, 0.05])
@pytest.mark.parametrize(
    "cosines", [(1.0, 0.999), (-0.999, -1.0), (-1.0, -0.98), (0.0, 0.03), (1.0, -1.0), (-1.0, 1.0)]
)
@pytest.mark.parametrize("mutual", [False, True])
def test_supervised_nce_is_exact_at_low_temperatures(cosines, temperature, mutual):
    """Where exp(s / τ) of all candidates is infinite, or none of it is left in float32."""
    classes = one_hot([0]), one_hot([0, 1])

    def value(cosines):
        candidates = jnp.stack([cosines, jnp.sqrt(jnp.maximum(1 - jax.lax.stop_gradient(cosines) ** 2, 0))], axis=1)
        options = dict(temperature=temperature, similarity_margin=-1.0)
        sides = jnp.array([[1.0, 0.0]]), candidates
        found = losses.mutual_supervised_nce(*sides, *classes, **options)[0] if mutual else None
        return (found or nce(*sides, *classes, jnp.array([-1]), **options))[0][0]

    cosines = jnp.array(cosines, jnp.float32)
    found, gradient = jax.value_and_grad(value)(cosines)
    expected, *derivatives = exact_nce(*np.float64(cosines), temperature)
    np.testing.assert_allclose(found, expected, rtol=2e-4, atol=1e-5 / temperature)
    np.testing.assert_allclose(gradient, derivatives, rtol=2e-3, atol=1e-5 / temperature)


@pytest.mark.parametrize("temperature", [0.02, 0.05, 0.2])
@pytest.mark.parametrize("similarity_margin", [-1.0, 0.3])
def test_mutual_supervised_nce_is_both_ways(temperature, similarity_margin):
    options = dict(temperature=temperature, similarity_margin=similarity_margin)
    sides, classes = vectors(EXAMPLE, 3), (one_hot(ANCHOR_LABELS), one_hot(CANDIDATE_LABELS))

    def total(function):
        return lambda *sides: jax.tree.reduce(lambda a, b: a + jnp.sum(b * b), function(*sides), 0.0)

    def apart(left, right):
        nowhere = [jnp.full(len(x), -1) for x in (left, right)]
        there = nce(left, right, *classes, nowhere[0], **options)
        return there, nce(right, left, *classes[::-1], nowhere[1], **options)

    def mutual(left, right):
        return losses.mutual_supervised_nce(left, right, *classes, **options)

    close = functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-5)
    for found, these, labels in zip(mutual(*sides), (sides, sides[::-1]), (EXAMPLE, EXAMPLE[1::-1]), strict=True):
        pairs = sets(*labels[:2], [-1] * len(labels[0]))
        assert_weighted(found, loop_nce(*these, *pairs, **options))
    jax.tree.map(close, mutual(*sides), apart(*sides))
    jax.tree.map(close, *(jax.grad(total(f), argnums=(0, 1))(*sides) for f in (mutual, apart)))


@pytest.mark.parametrize("beta", [0.0, 0.5, 2.0])
@pytest.mark.parametrize("labels, uncounted", [(EXAMPLE, 2), (ONE_CLASS, 3)])
def test_margin_against_a_loop(labels, uncounted, beta):
    expected = loop_margin(*vectors(labels, 1), *sets(*labels), beta)
    assert expected.count(None) == uncounted
    assert_weighted(hinge(*vectors(labels, 1), *arguments(*labels), margin=beta), expected)


SIDES = jnp.array([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]])  # cosine to the first: 1, 0, −1


def first(candidate_labels):
    """The first of SIDES, of class 0 and not itself a candidate, against all three."""
    return SIDES[:1], SIDES, *arguments([0], candidate_labels, [-1])


def test_supervised_nce_by_hand():
    value, weight = nce(*first([0, 1, 1]), temperature=1.0)
    np.testing.assert_allclose(value, [math.log((math.e + 1 + 1 / math.e) / math.e)], rtol=1e-5)
    assert weight.tolist() == [1]
    value, _ = nce(*first([0, 0, 1]), temperature=1.0)  # the mean over positives is outside the log
    log_sum = math.log(math.e + 1 + 1 / math.e)
    np.testing.assert_allclose(value, [(log_sum - 1 + log_sum - 0) / 2], rtol=1e-5)
    value, _ = nce(*first([0, 1, 1]), temperature=1.0, similarity_margin=0.5)
    np.testing.assert_allclose(value, [math.log((math.e + 2 * math.exp(0.5)) / math.e)], rtol=1e-5)


@pytest.mark.parametrize("temperature", [0.01, 0.02, 0.5])
def test_supervised_nce_of_one_positive_alone_is_zero(temperature):
    value, weight = nce(*first([-1, -1, 0]), temperature=temperature)  # the positive lies opposite
    np.testing.assert_allclose(value, [0], atol=1e-3)
    assert weight.tolist() == [1]


def test_similarity_margin_minus_one_is_none():
    expected = loop_nce(*vectors(EXAMPLE), *sets(*EXAMPLE), 0.3, -math.inf)
    found = nce(*vectors(EXAMPLE), *arguments(*EXAMPLE), temperature=0.3, similarity_margin=-1.0)
    assert_weighted(found, expected)


def test_negatives_below_the_similarity_margin_are_not_pushed():
    anchors, candidates, labels = SIDES[:1], unit(normal(3, 2)), arguments([0], [0, 1, 1], [-1])
    for similarity_margin in (-0.5, 0.5):
        gradient = jax.grad(lambda c, b=similarity_margin: nce(anchors, c, *labels, similarity_margin=b)[0][0])
        pushed = np.asarray(gradient(candidates)).any(axis=1)[1:]
        np.testing.assert_array_equal(pushed, np.asarray(candidates @ anchors[0])[1:] > similarity_margin)


def test_margin_by_hand():
    found, weight = hinge(*first([0, 1, 1]), margin=1.5)
    np.testing.assert_allclose(found, [(0.5 + 0) / 2], rtol=1e-6)  # 0 to the positive, 1 and 2 to the negatives
    assert weight.tolist() == [1]
    found, _ = hinge(*first([0, 0, 1]), margin=2.0)
    np.testing.assert_allclose(found, [2 + 0.5 - 2], rtol=1e-6)


def test_margin_is_exactly_zero_and_flat_beyond_the_margin():
    example = first([0, 1, 1])
    value, gradient = jax.value_and_grad(lambda a: hinge(a, *example[1:], margin=0.9)[0].sum())(example[0])
    assert value == 0 and not gradient.any()


@pytest.mark.parametrize("function", [nce, functools.partial(nce, similarity_margin=0.1), hinge])
def test_gradients_of_contrast(function):
    """Of anchors that are no candidates: where one is, its two vectors must change together."""
    labels = arguments(ANCHOR_LABELS, CANDIDATE_LABELS, [-1] * len(OWN))
    check(lambda a, c: function(unit(a), unit(c), *labels)[0], vectors(EXAMPLE, 2), eps=1e-3)


@pytest.mark.parametrize("function", [nce, functools.partial(nce, similarity_margin=0.1), hinge])
def test_gradients_of_contrast_with_itself(function):
    labels = [0, 1, 0, 1, 2, -1]
    labels = arguments(labels, labels, range(6))
    check(lambda x: function(unit(x), unit(x), *labels)[0], (normal(6, 3),), eps=1e-3)


@pytest.mark.parametrize("function", [nce, functools.partial(nce, similarity_margin=0.3), hinge])
def test_anchors_without_positives_count_nothing(function):
    labels = arguments([0, 1], [2, 3, 2, -1], [-1, -1])

    def run(a, c):
        found = function(a, c, *labels)
        return found[0].sum(), found

    gradient, found = jax.grad(run, argnums=(0, 1), has_aux=True)(unit(normal(2, 3)), unit(normal(4, 3, seed=1)))
    assert not any(np.asarray(x).any() for x in (*found, *gradient))


@pytest.mark.parametrize("function", [nce, functools.partial(nce, similarity_margin=0.3), hinge])
@pytest.mark.parametrize("case", ["all-zero vectors", "one utterance", "one class", "equal vectors"])
def test_contrast_is_finite(function, case):
    count = 1 if case == "one utterance" else 4
    vectors = {"all-zero vectors": jnp.zeros((count, 3)), "equal vectors": jnp.ones((count, 3)) / math.sqrt(3)}
    x = vectors.get(case, unit(normal(count, 3)))
    label = [0] * count if case == "one class" else [k % 2 for k in range(count)]
    labels = arguments(label, label, range(count))
    for value in (x, *jax.grad(lambda a, c: function(a, c, *labels)[0].sum(), argnums=(0, 1))(x, x)):
        assert np.isfinite(value).all()
    value, weight = function(x, x, *labels)
    assert np.isfinite(value).all() and set(weight.tolist()) <= {0.0, 1.0}
