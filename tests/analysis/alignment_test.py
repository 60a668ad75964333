"""Distances between distributions: hand numbers, loops, other formulas, and what must not matter."""

import itertools
import math

import numpy as np
import pytest
from scipy import linalg

from ariigcn_jax.analysis import alignment
from ariigcn_jax.types import Outputs, UserError
from tests.support import builders


def samples(shift=0.0, count=60, width=4, seed=0):
    random = np.random.default_rng(seed)
    return random.normal(size=(count, width)), random.normal(size=(count, width)) + shift


DIALOGUES = np.repeat(np.arange(12), 5)


def vectors(shift=0.0, seed=0, **changes):
    x, y = samples(shift, seed=seed)
    fields = dict(
        code={"text": x, "audio": y}, generated={}, real={}, hidden={"text": x, "audio": x + 1e-9}, contrast={}
    )
    fields |= dict(present={m: np.ones(60, bool) for m in ("text", "audio")}, dialogue=DIALOGUES)
    return alignment.Vectors(**fields | dict(label=np.arange(60) % 3) | changes)


# --- Distances --------------------------------------------------------------------------------------------------------


def test_mmd_is_that_of_loops_over_pairs():
    x, y = samples(0.5, count=7)
    rows = np.concatenate([x, y])
    distances = [np.linalg.norm(a - b) for a, b in itertools.combinations(rows, 2)]
    sigma = np.sqrt(np.median(np.square(distances)))

    def k(a, b):
        return math.exp(-sum((p - q) ** 2 for p, q in zip(a, b, strict=True)) / (2 * sigma**2))

    within = [np.mean([k(a, b) for i, a in enumerate(s) for j, b in enumerate(s) if i != j]) for s in (x, y)]
    wanted = sum(within) - 2 * np.mean([k(a, b) for a in x for b in y])
    sides = np.repeat([[1.0], [-1.0]], 7, axis=0)
    assert alignment.mmd2(alignment.kernel(x, y), sides) == pytest.approx([wanted])


def test_mean_mmd_is_over_pairs_and_the_utterances_that_have_both():
    x, y = samples(0.5)
    z, _ = samples(2.0, seed=1)
    there = np.arange(60) < 40
    present = {"text": np.ones(60, bool), "audio": np.ones(60, bool), "visual": there}
    sides = np.repeat([[1.0], [-1.0]], 60, axis=0)
    fewer = np.repeat([[1.0], [-1.0]], 40, axis=0)
    wanted = [alignment.mmd2(alignment.kernel(*alignment.common_scale(x, y)), sides)]
    for other in (x, y):
        scaled = alignment.common_scale(other[there], z[there])
        wanted.append(alignment.mmd2(alignment.kernel(*scaled), fewer))
    given = {"text": x, "audio": y, "visual": np.where(there[:, None], z, 99.0)}
    assert alignment.mean_mmd2(given, present) == pytest.approx(np.mean(wanted))


def test_frechet_is_that_of_the_matrix_square_root():
    x, y = samples(1.0)
    y = y @ np.diag([1, 2, 3, 0.5])
    cx, cy = np.cov(x.T), np.cov(y.T)
    wanted = np.sum((x.mean(0) - y.mean(0)) ** 2) + np.trace(cx + cy - 2 * linalg.sqrtm(cx @ cy).real)
    assert alignment.frechet(x, y) == pytest.approx(wanted)


def test_distances_by_hand_in_one_dimension():
    """Variances 2 and 8, means 0 and 3: Fréchet 9 + (√8 − √2)², CORAL (8 − 2)² / 4."""
    x, y = np.array([[-1.0], [1.0]]), np.array([[1.0], [5.0]])
    assert alignment.frechet(x, y) == pytest.approx(9 + 2)
    assert alignment.coral(x, y) == pytest.approx(9.0)


def test_scale_and_place_of_both_do_not_matter():
    x, y = samples(0.7)
    for a, b in zip(alignment.common_scale(x, y), alignment.common_scale(40 * x + 3, 40 * y + 3), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-9)


def test_classifiers_guess_equal_samples_and_know_distant_ones():
    near, far = (alignment.classifiers(*samples(shift), DIALOGUES) for shift in (0.0, 8.0))
    assert near[0] < 0.6 and 0.3 < near[1] < 0.7
    assert far == (2.0, 1.0)


def test_curved_classifier_sees_what_the_linear_one_does_not():
    """A ball and the shell around it."""
    x, y = samples()
    y = 6 * y / np.linalg.norm(y, axis=1, keepdims=True)
    distance, accuracy = alignment.classifiers(x, y, DIALOGUES)
    assert distance < 0.6 and accuracy > 0.95


def test_classifiers_are_tested_on_dialogues_not_seen():
    """In each dialogue the modalities lie apart, in a direction that tells nothing of the other dialogues."""
    random = np.random.default_rng(0)
    place = 3 * random.normal(size=(12, 30))[DIALOGUES]
    apart = random.normal(size=(12, 30))[DIALOGUES]
    x, y = (place + sign * apart + 0.1 * random.normal(size=(60, 30)) for sign in (1, -1))
    assert alignment.classifiers(x, y, DIALOGUES)[1] < 0.75
    assert alignment.classifiers(x, y, np.arange(60))[1] > 0.9


# --- Permutation test -------------------------------------------------------------------------------------------------


def p_value(shift, seed, permutations=99):
    x, y = alignment.common_scale(*samples(shift, seed=seed))
    return alignment.permutation_test(alignment.kernel(x, y), DIALOGUES, np.random.default_rng(seed), permutations)[1]


def test_distant_samples_reach_the_smallest_p():
    assert p_value(3.0, 0) == pytest.approx(1 / 100)


def test_p_is_small_as_seldom_as_it_says_where_nothing_differs():
    found = np.array([p_value(0.0, seed) for seed in range(200)])
    assert 0.02 < np.mean(found <= 0.1) < 0.18
    assert 0.4 < found.mean() < 0.6


def test_whole_dialogues_are_swapped():
    """With one dialogue, the only swap is that of everything, which changes nothing."""
    x, y = samples(3.0)
    value, p = alignment.permutation_test(alignment.kernel(x, y), np.zeros(60), np.random.default_rng(0), 50)
    assert value > 0.1 and p == 1.0


# --- Models -----------------------------------------------------------------------------------------------------------


def test_rows_cover_the_comparable_stages_and_order_shifts():
    near, far = (alignment.measure(vectors(shift)) for shift in (0.5, 3.0))
    assert [(r["stage"], r["first"], r["second"]) for r in near] == [
        ("code", "text", "audio"),
        ("hidden", "text", "audio"),
    ]
    assert near[0]["utterances"] == 60
    for name in ("mmd2", "frechet", "a_distance", "accuracy"):
        assert far[0][name] > near[0][name], name
    assert near[1]["frechet"] == pytest.approx(0, abs=1e-6) and near[1]["p"] == pytest.approx(1, abs=0.5)


def test_generated_is_held_against_the_targets_own_and_missing_rows_are_left_out():
    _, y = samples()
    there = np.arange(60) % 4 > 0
    given = vectors(
        generated={("text", "audio"): np.where(there[:, None], y, 99.0)},
        real={"audio": y},
        present={"text": there, "audio": np.ones(60, bool)},
    )
    (row,) = [r for r in alignment.measure(given) if r["stage"] == "generated"]
    assert (row["first"], row["second"], row["utterances"]) == ("G(text)", "audio", 45)
    assert row["frechet"] == pytest.approx(0, abs=1e-9) and row["p"] > 0.9


def test_too_little_to_compare_is_refused():
    with pytest.raises(UserError, match="1 dialogues; a comparison needs at least 8 utterances of 2"):
        alignment.measure(vectors(dialogue=np.zeros(60, int)))


def test_collect_brings_packed_rows_into_the_corpus_order():
    corpus = builders.corpus([3, 2, 4])
    batch = builders.place(corpus, [[2], [1, 0]], 6)
    values = np.arange(9.0)[:, None]
    codes = {m: builders.put(values * (k + 1), batch.utterance) for k, m in enumerate(corpus.modalities)}
    codes = dict(sorted(codes.items()))  # as JAX gives dictionaries back
    outputs = Outputs(np.zeros((2, 6, 3)), codes, codes, {}, {("text", "audio"): codes["text"]})
    found = alignment.collect([outputs], [batch.utterance], corpus, "feature")
    assert list(found.code) == list(found.hidden) == list(corpus.modalities) != sorted(corpus.modalities)
    np.testing.assert_array_equal(found.code["audio"], 2 * values)
    np.testing.assert_array_equal(found.generated["text", "audio"], values)
    np.testing.assert_array_equal(found.real["text"], corpus.features["text"])
    np.testing.assert_array_equal(found.dialogue, corpus.dialogue)
    latent = alignment.collect([outputs], [batch.utterance], corpus, "latent")
    np.testing.assert_array_equal(latent.real["audio"], 2 * values)


def test_one_modality_has_nothing_to_be_aligned_with():
    with pytest.raises(UserError, match="has only one, text"):
        alignment.collect([], [], builders.corpus([3], widths={"text": 2}), "feature")


def test_models_are_compared_over_seeds():
    assert alignment.compare([1.0, 2.0], [4.0, 5.0]) == (-3.0, None)
    difference, p = alignment.compare([1.0, 2.0, 1.5, 1.2, 1.1], [4.0, 5.0, 4.5, 4.2, 4.1])
    assert difference == pytest.approx(-3.0)
    assert p == pytest.approx(2 / math.comb(10, 5), rel=0.01)


def test_projection_keeps_neighbours_and_leaves_missing_points_out():
    present = {"text": np.ones(60, bool), "audio": np.arange(60) < 40}
    found = alignment.project(vectors(20.0, present=present), "code")
    assert np.bincount(found["modality"]).tolist() == [60, 40]
    np.testing.assert_array_equal(found["label"][60:], np.arange(40) % 3)
    centre = [found["point"][found["modality"] == m].mean(0) for m in (0, 1)]
    spread = found["point"][found["modality"] == 0].std()
    assert np.linalg.norm(centre[0] - centre[1]) > 2 * spread
