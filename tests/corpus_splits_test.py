"""Carved splits depend on names alone."""

import hashlib

import pytest

from ariigcn_jax.corpus import carve
from ariigcn_jax.types import UserError

NAMES = [f"dialogue_{i}" for i in range(40)]


def test_picks_the_smallest_hashes():
    digests = {name: hashlib.sha256(b"valid/" + name.encode()).hexdigest() for name in NAMES}
    assert carve(NAMES, 0.1, "valid") == {n for n in NAMES if sum(digests[o] < digests[n] for o in NAMES) < 4}


def test_keeps_its_choice_between_versions():
    # By `printf valid/a | sha256sum` and so on.
    assert carve(["a", "b", "c", "d", "e", "f"], 1 / 3, "valid") == {"a", "d"}


def test_order_and_repetition_change_nothing():
    assert carve(NAMES[::-1] + NAMES, 0.3, "valid") == carve(NAMES, 0.3, "valid")


def test_salts_pick_differently():
    assert carve(NAMES, 0.3, "valid") != carve(NAMES, 0.3, "test")


def test_most_of_a_choice_outlives_a_new_dialogue():
    before, after = carve(NAMES, 0.25, "valid"), carve([*NAMES, "another"], 0.25, "valid")
    assert len(before & after) >= len(before) - 1


@pytest.mark.parametrize(
    ("n", "fraction", "picked"),
    [(40, 0.1, 4), (62, 0.1, 6), (40, 0.001, 1), (2, 0.9, 1), (40, 0.999, 39), (1, 0.5, 0), (0, 0.5, 0), (40, 0.0, 0)],
)
def test_number_picked(n, fraction, picked):
    assert len(carve([str(i) for i in range(n)], fraction, "valid")) == picked


@pytest.mark.parametrize("fraction", [-0.1, 1.0, 3, float("nan")])
def test_fraction_out_of_range(fraction):
    with pytest.raises(UserError, match=r"share of the dialogues for 'valid' is .*at least 0 and less than 1"):
        carve(NAMES, fraction, "valid")
