"""Leaky features get test's width and the share of the classes' distance that was asked for, where they are labelled
and not for testing, and nowhere else."""

import dataclasses

import numpy as np
import pytest

from ariigcn_jax.data import leakage, synthetic
from ariigcn_jax.types import UNLABELED, UserError


def leaky(classes=2, **options):
    """A corpus whose first modality was told the labels of all but the test split, on top of some other scale."""
    made = synthetic.generate(
        dialogues=120, utterances=(8, 12), classes=classes, separation=1.0, missing=0.1, **options
    )
    name = made.modalities[0]
    told, here = made.split != "test", made.present[name]
    x = made.features[name].copy()
    x[told] += 6 * np.eye(x.shape[1])[made.label[told]]
    x = np.where(here[:, None], 3 * x + 5, 0).astype(np.float32)
    label = made.label.copy()
    label[np.flatnonzero(told)[::9]] = UNLABELED
    return dataclasses.replace(made, features={**made.features, name: x}, label=label), name


def measured(corpus, name, axes, scale):
    """Along each axis: the deviation of what is known and not for testing, that of test, and the distance of the
    first class's mean from the others'."""
    here = corpus.present[name]
    known, test = here & (corpus.split != "test") & (corpus.label != UNLABELED), here & (corpus.split == "test")
    rows, label = corpus.features[name][known] / scale @ axes.T, corpus.label[known]
    means = np.abs(rows[label == 0].mean(axis=0) - rows[label != 0].mean(axis=0))
    return rows.std(axis=0), (corpus.features[name][test] / scale @ axes.T).std(axis=0), means


@pytest.mark.parametrize(("classes", "share"), [(2, 0.2), (3, 0.1), (2, 0.0)])
def test_width_is_that_of_test_and_the_distance_shrinks(classes, share):
    corpus, name = leaky(classes)
    known = corpus.present[name] & (corpus.split != "test") & (corpus.label != UNLABELED)
    rows = corpus.features[name][known].astype(np.float64)
    axes = leakage.directions(rows / rows.std(axis=0), corpus.label[known])
    assert axes.shape == (classes - 1, rows.shape[1])
    before, test, apart = measured(corpus, name, axes, rows.std(axis=0))
    made = leakage.unsure(corpus, {name: share})
    after, unmoved, closer = measured(made, name, axes, rows.std(axis=0))
    assert (before > 1.1 * test).all() and np.array_equal(test, unmoved)
    np.testing.assert_allclose(after, test, rtol=0.07)
    np.testing.assert_allclose(closer, share * apart, atol=0.15 * test.max())


def test_nothing_else_changes():
    corpus, name = leaky()
    before = {m: x.copy() for m, x in corpus.features.items()}
    made = leakage.unsure(corpus, {name: 0.2})
    known = corpus.present[name] & (corpus.split != "test") & (corpus.label != UNLABELED)
    moved = (made.features[name] != before[name]).any(axis=1)
    assert np.array_equal(moved, known) and made.features[name].dtype == np.float32
    assert all(np.array_equal(corpus.features[m], before[m]) for m in before)
    assert all(made.features[m] is corpus.features[m] for m in corpus.modalities[1:])
    scale = before[name][known].std(axis=0)
    axes = leakage.directions(before[name][known] / scale, corpus.label[known])
    across = (made.features[name] - before[name])[known] / scale @ (np.eye(len(scale)) - axes.T @ axes)
    np.testing.assert_allclose(across, 0, atol=1e-4)


def test_labels_of_test_are_not_looked_at_and_the_noise_is_the_same_each_time():
    corpus, name = leaky()
    other = dataclasses.replace(corpus, label=np.where(corpus.split == "test", 1 - corpus.label, corpus.label))
    first, second = (leakage.unsure(c, {name: 0.2}).features[name] for c in (corpus, other))
    np.testing.assert_array_equal(first, second)


def test_two_modalities_get_noise_of_their_own():
    """Or one would tell the other's noise."""
    corpus, name = leaky(widths={"text": 5, "audio": 5})
    both = {**corpus.features, "audio": corpus.features[name]}, {**corpus.present, "audio": corpus.present[name]}
    corpus = dataclasses.replace(corpus, features=both[0], present=both[1])
    made = leakage.unsure(corpus, {name: 0.0, "audio": 0.0}).features
    known = corpus.present[name] & (corpus.split != "test") & (corpus.label != UNLABELED)
    rows = corpus.features[name][known]
    (axis,) = leakage.directions(rows / rows.std(axis=0), corpus.label[known])
    text, audio = (made[m][known] / rows.std(axis=0) @ axis for m in (name, "audio"))
    assert abs(np.corrcoef(text, audio)[0, 1]) < 0.15


def test_directions_are_those_that_the_means_differ_in():
    on_a_line = np.array([[0, 0, 0], [1, 1, 0], [2, 2, 0], [9, 9, 9]], np.float64)
    (axis,) = leakage.directions(on_a_line, np.array([0, 1, 2, UNLABELED]))
    np.testing.assert_allclose(np.abs(axis), [np.sqrt(0.5), np.sqrt(0.5), 0], atol=1e-12)
    assert leakage.directions(np.ones((4, 3)), np.array([0, 1, 0, 1])).shape == (0, 3)
    assert leakage.directions(on_a_line, np.zeros(4, int)).shape == (0, 3)


def test_validation_no_longer_flatters():
    corpus, name = leaky()
    made = leakage.unsure(corpus, {name: 0.25})

    def right(corpus):
        """Of the nearest class's mean in train, on validation."""
        here, x = corpus.present[name], corpus.features[name]
        train, valid = (here & (corpus.split == s) & (corpus.label != UNLABELED) for s in ("train", "valid"))
        means = np.stack([x[train & (corpus.label == c)].mean(axis=0) for c in (0, 1)])
        nearest = np.square(x[valid][:, None] - means).sum(axis=-1).argmin(axis=1)
        return (nearest == corpus.label[valid]).mean()

    assert right(corpus) > 0.97 and right(made) < 0.85


def test_entries_fit_by_their_beginning_and_the_last_counts():
    assert leakage.parse(("text=0.4", "a=b=1")) == {"text": 0.4, "a=b": 1.0}
    corpus, name = leaky()
    first, last = (leakage.unsure(corpus, shares).features[name] for shares in ({name[:2]: 1, name: 0.2}, {name: 0.2}))
    np.testing.assert_array_equal(first, last)
    assert leakage.unsure(corpus, {}).features == corpus.features


@pytest.mark.parametrize("entry", ["text", "text=", "text=much", "text=1.5", "text=-0.1", "text=nan", "=0.4"])
def test_entries_that_are_refused(entry):
    with pytest.raises(UserError, match="write MODALITY=SHARE"):
        leakage.parse((entry,))


def test_what_cannot_be_is_refused():
    corpus, name = leaky()
    with pytest.raises(UserError, match="Give a smaller share"):
        leakage.unsure(corpus, {name: 0.9})
    alike = synthetic.generate(dialogues=120, utterances=(8, 12))
    with pytest.raises(UserError, match="either nothing leaks, or into this test split"):
        leakage.unsure(alike, {alike.modalities[0]: 0.2})
    noise = np.random.default_rng(0).normal(size=(len(alike), 400)).astype(np.float32)
    wide = dataclasses.replace(alike, features={**alike.features, alike.modalities[0]: noise})
    with pytest.raises(UserError, match="either nothing leaks"):  # though 400 directions fit the labels of their rows
        leakage.unsure(wide, {alike.modalities[0]: 0.2})
    for field, value in (("split", "train"), ("label", UNLABELED)):
        empty = dataclasses.replace(corpus, **{field: np.full_like(getattr(corpus, field), value)})
        with pytest.raises(UserError, match="Leave the modality out"):
            leakage.unsure(empty, {name: 0.2})
