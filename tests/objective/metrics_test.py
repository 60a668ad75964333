"""Scores against a hand example and scikit-learn."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn import metrics as sklearn_metrics

from ariigcn_jax.objective import metrics

C = 5


def example(seed=0, num=200, absent=()):
    random = np.random.default_rng(seed)
    classes = [c for c in range(C) if c not in absent]
    return random.choice(classes, num), random.choice(classes, num)


def score(labels, predictions):
    weight = jnp.ones(len(labels), bool)
    return metrics.scores(metrics.confusion(jnp.asarray(labels), jnp.asarray(predictions), weight, C))


def test_hand_example():
    labels, predictions = jnp.array([0, 0, 0, 1, -1, 2]), jnp.array([0, 0, 1, 1, 0, 1])
    matrix = metrics.confusion(labels, predictions, jnp.array([1, 1, 1, 1, 0, 1]), 3)
    np.testing.assert_array_equal(matrix, [[2, 1, 0], [0, 1, 0], [0, 1, 0]])
    result = metrics.scores(matrix)
    # Class 0: recall 2/3, precision 1, F1 0.8. Class 1: recall 1, precision 1/3, F1 0.5. Class 2: never hit.
    np.testing.assert_allclose(result["class_accuracy"], [2 / 3, 1, 0], rtol=1e-6)
    np.testing.assert_allclose(result["class_precision"], [1, 1 / 3, 0], rtol=1e-6)
    np.testing.assert_allclose(result["class_f1"], [0.8, 0.5, 0], rtol=1e-6)
    np.testing.assert_allclose(result["accuracy"], 0.6, rtol=1e-6)
    np.testing.assert_allclose(result["unweighted_accuracy"], 5 / 9, rtol=1e-6)
    np.testing.assert_allclose(result["weighted_f1"], (3 * 0.8 + 0.5) / 5, rtol=1e-6)
    np.testing.assert_allclose(result["macro_f1"], 1.3 / 3, rtol=1e-6)
    np.testing.assert_array_equal(result["support"], [3, 1, 1])


def drop_from_truth(labels, predictions):
    return np.where(labels == 2, 0, labels), predictions


def drop_from_prediction(labels, predictions):
    return labels, np.where(predictions == 2, 0, predictions)


@pytest.mark.parametrize(
    "pair",
    [
        example(),
        example(seed=1, num=3),
        example(seed=2, absent=(1, 4)),
        drop_from_truth(*example(seed=3)),
        drop_from_prediction(*example(seed=4)),
        (np.array([3]), np.array([3])),
    ],
    ids=["all classes", "three examples", "two classes absent", "absent from truth", "never predicted", "one example"],
)
@pytest.mark.filterwarnings("ignore:y_pred contains classes not in y_true")
def test_agrees_with_scikit_learn(pair):
    labels, predictions = pair
    result = score(labels, predictions)
    precision, recall, f1, support = sklearn_metrics.precision_recall_fscore_support(
        labels, predictions, labels=range(C), zero_division=0
    )
    expected = {
        "accuracy": sklearn_metrics.accuracy_score(labels, predictions),
        "weighted_accuracy": np.sum(recall * support) / np.sum(support),
        "unweighted_accuracy": np.mean(recall[support > 0]),
        "weighted_f1": sklearn_metrics.f1_score(labels, predictions, average="weighted", zero_division=0),
        "macro_f1": sklearn_metrics.f1_score(labels, predictions, average="macro", zero_division=0),
        "class_accuracy": recall,
        "class_precision": precision,
        "class_f1": f1,
        "support": support,
    }
    assert result.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_allclose(result[name], value, rtol=1e-5, atol=1e-7, err_msg=name)


def test_balanced_accuracy_of_scikit_learn():
    labels, predictions = example(seed=5, absent=(0,))
    expected = sklearn_metrics.balanced_accuracy_score(labels, predictions)
    np.testing.assert_allclose(score(labels, predictions)["unweighted_accuracy"], expected, rtol=1e-6)


def test_padding_and_unlabeled_count_nowhere():
    labels, predictions = example(num=20)
    plain = metrics.confusion(jnp.asarray(labels), jnp.asarray(predictions), jnp.ones(20), C)
    labels = np.concatenate([labels, [-1, 3, -1, C]]).reshape(4, 6)
    predictions = np.concatenate([predictions, [0, 3, 1, 2]]).reshape(4, 6)
    weight = np.concatenate([np.ones(20), [0.0, 0.0, 1.0, 1.0]]).reshape(4, 6)
    padded = metrics.confusion(jnp.asarray(labels), jnp.asarray(predictions), jnp.asarray(weight), C)
    np.testing.assert_array_equal(padded, plain)


def test_no_examples_give_zeros():
    for name, value in metrics.scores(jnp.zeros((C, C))).items():
        np.testing.assert_array_equal(value, np.zeros_like(value), err_msg=name)


@pytest.mark.parametrize(("weight", "dtype"), [(np.ones(4, bool), jnp.int32), (np.full(4, 0.1), jnp.float32)])
def test_type_and_weight(weight, dtype):
    labels = jnp.array([1, 1, 1, 0])
    matrix = metrics.confusion(labels, labels, jnp.asarray(weight), 2)
    assert matrix.dtype == dtype
    np.testing.assert_allclose(matrix, np.diag([1, 3]) * weight[0].astype(np.float32), rtol=1e-6)


def test_jit_and_vmap_over_seeds():
    pairs = [example(seed=s, num=30) for s in range(3)]
    labels, predictions = (jnp.asarray(np.stack(x)) for x in zip(*pairs, strict=True))
    matrices = jax.jit(jax.vmap(lambda y, p: metrics.confusion(y, p, jnp.ones(30), C)))(labels, predictions)
    batched, mapped = metrics.scores(matrices), jax.jit(jax.vmap(metrics.scores))(matrices)
    for s, pair in enumerate(pairs):
        for name, value in score(*pair).items():
            np.testing.assert_allclose(batched[name][s], value, rtol=1e-6)
            np.testing.assert_allclose(mapped[name][s], value, rtol=1e-6)
