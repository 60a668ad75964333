"""Differences paired by seed: intervals, tests and the correction, against scipy, hand numbers and simulation."""

import numpy as np
import pytest
from scipy import stats

from ariigcn_jax.analysis import statistics

RANDOM = np.random.default_rng(5)


def test_differences_by_hand():
    compared = statistics.compare([0.5, 0.6, 0.4, 0.5], {"a": [0.4, 0.7, 0.4, 0.1], "b": [0.5, 0.6, 0.4, 0.5]})
    assert compared["a"].mean == pytest.approx(-0.1)
    np.testing.assert_allclose(compared["a"].per_seed, [-0.1, 0.1, 0.0, -0.4], atol=1e-12)
    assert compared["a"].low < -0.1 < compared["a"].high
    b = compared["b"].to_dict()
    assert b == {"mean": 0, "low": 0, "high": 0, "p": 1, "corrected": 1, "per_seed": [0, 0, 0, 0]}
    assert compared["a"].corrected == pytest.approx(2 * compared["a"].p)
    assert statistics.compare([0.5], {}) == {}


def test_half_an_interval_is_that_of_scipy():
    values = RANDOM.normal(size=6)
    ends = stats.ttest_1samp(values, 0).confidence_interval(0.9)
    assert statistics.half_interval(values, level=0.9) == pytest.approx((ends.high - ends.low) / 2)
    assert np.isnan(statistics.half_interval([0.5]))


def test_p_is_that_of_scipy():
    a, b = RANDOM.normal(size=(2, 6, 7))
    b[0] += 1
    np.testing.assert_allclose(statistics.paired_t_test(a - b), stats.ttest_rel(a, b, axis=1).pvalue, rtol=1e-10)


@pytest.mark.parametrize(("difference", "p"), [([0.0, 0.0], 1), ([0.1, 0.1, 0.1], 0), ([0.3], np.nan)])
def test_p_where_nothing_varies(difference, p):
    np.testing.assert_equal(float(statistics.paired_t_test(np.array(difference))), float(p))


def test_holm_by_hand():
    # In order 0.01, 0.02, 0.03, 0.5: times 4, 3, 2, 1, and never below the one before.
    np.testing.assert_allclose(statistics.holm([0.03, 0.5, 0.01, 0.02]), [0.06, 0.5, 0.04, 0.06])
    np.testing.assert_allclose(statistics.holm([0.4, 0.5, 0.6]), [1, 1, 1])
    np.testing.assert_allclose(statistics.holm([0.03, np.nan, 0.02]), [0.04, np.nan, 0.04])
    assert statistics.holm([]).shape == (0,)


def test_holm_rejects_what_the_step_down_procedure_does():
    """The textbook's procedure: from the smallest on, reject while p <= level / (tests left)."""
    for p in RANDOM.uniform(0, 0.1, (50, 6)):
        rejected, left = set(), len(p)
        for index in np.argsort(p):
            if p[index] > 0.05 / left:
                break
            rejected.add(index)
            left -= 1
        assert set(np.flatnonzero(statistics.holm(p) <= 0.05)) == rejected


def test_interval_is_that_of_a_loop():
    values = RANDOM.normal(2, 1, 8)
    chosen = np.random.default_rng(3).integers(0, 8, (500, 8))
    mean, error = np.mean(values), np.std(values, ddof=1) / 8**0.5
    ts = sorted(
        (np.mean(values[c]) - mean) / (np.std(values[c], ddof=1) / 8**0.5) for c in chosen if len(set(c.tolist())) > 1
    )
    assert len(ts) == 500
    expected = [mean - ts[474] * error, mean - ts[24] * error]  # the 475th and the 25th of 500
    found = statistics.bootstrap_interval(values, level=0.9, resamples=500, seed=3)
    np.testing.assert_allclose(found, expected, rtol=1e-10)


def test_interval_covers_the_truth_as_often_as_it_says_and_the_percentile_bootstrap_does_not():
    samples = np.random.default_rng(0).exponential(size=(400, 5))
    low, high = statistics.bootstrap_interval(samples, resamples=1000)
    covered = np.mean((low <= 1) & (high >= 1))
    plain = stats.bootstrap((samples,), np.mean, axis=1, n_resamples=500, method="percentile", rng=0)
    assert np.mean((plain.confidence_interval.low <= 1) & (plain.confidence_interval.high >= 1)) < 0.82
    assert 0.89 <= covered <= 0.98


def test_interval_of_many_numbers_is_that_of_the_normal_distribution():
    values = np.random.default_rng(1).normal(size=2000)
    low, high = statistics.bootstrap_interval(values, resamples=4000)
    assert high - low == pytest.approx(2 * 1.96 * values.std(ddof=1) / 2000**0.5, rel=0.05)


def test_interval_moves_and_scales_with_the_values_and_not_with_its_neighbours():
    values = RANDOM.normal(size=(2, 3, 6))
    ends = np.array(statistics.bootstrap_interval(values))
    assert ends.shape == (2, 2, 3)
    np.testing.assert_allclose(statistics.bootstrap_interval(5 + 2 * values), 5 + 2 * ends, rtol=1e-9)
    np.testing.assert_array_equal(statistics.bootstrap_interval(values[1, 2]), ends[:, 1, 2])


def test_interval_of_few_or_equal_values():
    assert np.isnan(statistics.bootstrap_interval(np.array([1.0, 2.0, 3.0]))).all()
    np.testing.assert_array_equal(statistics.bootstrap_interval(np.full(5, 0.1)), [0.1, 0.1])
    # All but one equal: a third of the resamples are all 0, which says nothing of the upper end; Student's t does.
    low, high = statistics.bootstrap_interval(np.array([0.0, 0.0, 0.0, 0.0, 1.0]))
    assert high == pytest.approx(stats.ttest_1samp([0, 0, 0, 0, 1], 0).confidence_interval().high)
    assert -2 < low < 0.2
