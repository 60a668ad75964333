"""Whatever an input does to its encoder, the others are encoded."""

import dataclasses
import os

import numpy as np
import pytest

from ariigcn_jax.features.encoder import Encoder
from ariigcn_jax.features.media import MediaError
from ariigcn_jax.features.parallel import Failure, encode
from ariigcn_jax.types import UserError


@dataclasses.dataclass(frozen=True)
class Numbers(Encoder):
    """Text to the number that it is; some words do harm."""

    batch: int = 3

    def load(self, threads, device):
        if self.model == "broken":
            raise UserError("no such model")

        def one(text):
            if text == "crash":
                os._exit(9)
            if text == "mend":
                raise UserError("install it")
            if text == "refuse":
                raise MediaError("not wanted")
            return np.array([float(text), len(text)])

        return lambda texts: [one(text) for text in texts]


def test_what_the_user_can_mend_ends_the_job():
    with pytest.raises(UserError, match="install it"):
        list(encode(Numbers("m"), ["1", "mend"], jobs=0, device="cpu"))


def test_failures_are_of_their_inputs_alone():
    inputs = ["1", "refuse", "nan", "22", "xyz", "inf", "4"]
    results = dict(encode(Numbers("m"), inputs, jobs=0, device="cpu"))
    assert sorted(results) == [*range(7)]
    assert {i: r.reason for i, r in results.items() if isinstance(r, Failure)} == {
        1: "not wanted",
        2: "1 of 2 values are NaN or Inf",
        4: "ValueError: could not convert string to float: 'xyz'",
        5: "1 of 2 values are NaN or Inf",
    }
    assert {i: r.tolist() for i, r in results.items() if isinstance(r, np.ndarray)} == {
        0: [1.0, 1.0],
        3: [22.0, 2.0],
        6: [4.0, 1.0],
    }


def test_a_crash_takes_only_its_own_input_along():
    results = dict(encode(Numbers("m"), ["1", "2", "crash", "4", "5"], jobs=1, device="cpu"))
    assert "ended the process" in results.pop(2).reason
    assert {i: r.tolist() for i, r in results.items()} == {i: [i + 1.0, 1.0] for i in (0, 1, 3, 4)}


@pytest.mark.parametrize("jobs", [0, 1])
def test_an_encoder_that_cannot_be_loaded_ends_the_job(jobs):
    with pytest.raises(UserError, match="no such model"):
        list(encode(Numbers("broken"), ["1", "2"], jobs=jobs, device="cpu"))
