"""Separation of classes: hand numbers and what must not matter."""

import numpy as np
import pytest

from ariigcn_jax.analysis import separation


def test_distances_by_hand():
    """Two classes on a line, ±1 around ±3; the standard deviation of all is √10."""
    x = np.array([[2.0], [4.0], [-2.0], [-4.0]])
    found = separation.measure(x, np.array([0, 0, 5, 5]))
    assert found["intra"] == pytest.approx(1 / np.sqrt(10))
    assert found["inter"] == pytest.approx(6 / np.sqrt(10))
    assert found["ratio"] == pytest.approx(6)
    # for 2: its neighbour lies at 2, the others at 4 and 6 away; for 4 at 2, and at 6 and 8
    assert found["silhouette"] == pytest.approx(np.mean([1 - 2 / 5, 1 - 2 / 7]))


def test_scale_and_place_do_not_matter():
    x, label = np.random.default_rng(0).normal(size=(40, 3)), np.arange(40) % 4
    assert separation.measure(x, label) == pytest.approx(separation.measure(70 * x - 9, label))


def test_classes_on_top_of_each_other_have_no_silhouette():
    x = np.random.default_rng(0).normal(size=(400, 3))
    found = separation.measure(x, np.arange(400) % 4)
    assert abs(found["silhouette"]) < 0.05 and found["ratio"] < 0.3
