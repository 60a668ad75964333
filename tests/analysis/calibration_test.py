"""Calibration: the temperature is found again, decisions stay, and the error is that of a hand count."""

import numpy as np
import pytest

from ariigcn_jax.analysis import calibration


def drawn(temperature, count=20000):
    """Probabilities, and labels drawn as if their logits were over `temperature`."""
    random = np.random.default_rng(0)
    logits = random.normal(size=(count, 3)) * 2
    p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    true = np.exp(logits / temperature) / np.exp(logits / temperature).sum(axis=1, keepdims=True)
    labels = np.array([random.choice(3, p=row) for row in true])
    return p, labels


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_temperature_is_found_and_mends_the_error(temperature):
    p, labels = drawn(temperature)
    found = calibration.fit_temperature(p, labels)
    assert found == pytest.approx(temperature, rel=0.05)
    scaled = calibration.scale(p, found)
    np.testing.assert_array_equal(scaled.argmax(axis=1), p.argmax(axis=1))
    np.testing.assert_allclose(scaled.sum(axis=1), 1)
    assert calibration.expected_calibration_error(scaled, labels) < 0.015
    if temperature != 1:
        assert calibration.expected_calibration_error(p, labels) > 0.05


def test_error_by_hand():
    p = np.array([[0.9, 0.1], [0.9, 0.1], [0.6, 0.4], [0.5, 0.5]])
    labels = np.array([0, 1, 0, -1])  # bins [0.5, 0.75) and [0.75, 1]: |0.6 - 1| and |1.8 - 1|, over 3
    assert calibration.expected_calibration_error(p, labels, bins=4) == pytest.approx((0.4 + 0.8) / 3)
    bins = calibration.reliability(p, labels, bins=4)
    assert bins["count"].tolist() == [0, 0, 1, 2]
    np.testing.assert_allclose(bins["confidence"], [np.nan, np.nan, 0.6, 0.9])
    np.testing.assert_allclose(bins["accuracy"], [np.nan, np.nan, 1, 0.5])


@pytest.mark.parametrize(
    ("confidence", "place"),
    [(0.25, 1), (np.nextafter(0.5, 0), 1), (0.5, 2), (np.nextafter(0.75, 0), 2), (0.75, 3), (1, 3)],
)
def test_a_confidence_on_an_edge_is_in_the_bin_that_begins_there(confidence, place):
    p = np.array([[confidence, *[(1 - confidence) / 3] * 3]])
    assert calibration.reliability(p, np.array([0]), bins=4)["count"].tolist() == np.eye(4, dtype=int)[place].tolist()


def test_without_labels_nothing_is_scaled():
    p = np.full((2, 3), 1 / 3)
    assert calibration.fit_temperature(p, np.array([-1, -1])) == 1
    assert calibration.expected_calibration_error(p, np.array([-1, -1])) == 0


def test_certain_probabilities_stay_finite():
    p = np.array([[1.0, 0.0], [0.0, 1.0]])
    assert np.isfinite(calibration.fit_temperature(p, np.array([0, 0])))
    assert np.isfinite(calibration.scale(p, 0.05)).all()
