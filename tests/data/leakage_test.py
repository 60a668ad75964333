"""Directions that tell the classes apart, and how wide test is along them."""

import dataclasses

import numpy as np
import pytest

from ariigcn_jax.data import leakage, synthetic
from ariigcn_jax.types import UNLABELED


def test_directions_are_those_that_the_means_differ_in():
    on_a_line = np.array([[0, 0, 0], [1, 1, 0], [2, 2, 0], [9, 9, 9]], np.float64)
    (axis,) = leakage.directions(on_a_line, np.array([0, 1, 2, UNLABELED]))
    np.testing.assert_allclose(np.abs(axis), [np.sqrt(0.5), np.sqrt(0.5), 0], atol=1e-12)
    assert leakage.directions(np.ones((4, 3)), np.array([0, 1, 0, 1])).shape == (0, 3)
    assert leakage.directions(on_a_line, np.zeros(4, int)).shape == (0, 3)


def test_test_is_narrower_where_train_was_told_its_labels():
    made = synthetic.generate(dialogues=120, utterances=(8, 12), classes=2, separation=1.0, missing=0.1)
    name, told = made.modalities[0], made.split != "test"
    known = made.present[name] & told & (made.label != UNLABELED)
    assert leakage.relative_width(made, name, known) == pytest.approx(1, abs=0.1)
    x = made.features[name].copy()
    x[told] += 6 * np.eye(x.shape[1])[made.label[told]]
    leaky = dataclasses.replace(made, features={**made.features, name: x})
    assert leakage.relative_width(leaky, name, known) < 0.9
    # though 400 directions fit the labels of their own rows
    noise = np.random.default_rng(0).normal(size=(len(made), 400)).astype(np.float32)
    wide = dataclasses.replace(made, features={**made.features, name: noise})
    assert leakage.relative_width(wide, name, known) == pytest.approx(1, abs=0.1)
    assert leakage.relative_width(made, name, np.zeros(len(made), bool)) == 1
