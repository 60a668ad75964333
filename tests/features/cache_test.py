"""The cache finds what was computed from the same content in the same way, and nothing else."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from ariigcn_jax.features.cache import Cache
from ariigcn_jax.features.manifest import Clip
from ariigcn_jax.types import UserError

IDENTITY = {"kind": "x", "layers": (1, 2)}


def test_key_is_of_content_and_encoder(tmp_path):
    (tmp_path / "a.wav").write_bytes(b"one")
    (tmp_path / "b.wav").write_bytes(b"one")
    (tmp_path / "c.wav").write_bytes(b"two")
    a, b, c = (str(tmp_path / name) for name in ("a.wav", "b.wav", "c.wav"))
    with Cache(tmp_path / "cache.sqlite") as cache:
        base = cache.key(IDENTITY, Clip(a, 1.0, 2.0))
        assert cache.key(IDENTITY, Clip(b, 1.0, 2.0)) == base
        different = {
            cache.key(IDENTITY, Clip(c, 1.0, 2.0)),
            cache.key(IDENTITY, Clip(a, 1.0, 2.5)),
            cache.key(IDENTITY, Clip(a, 1.0, None)),
            cache.key(IDENTITY, Clip(a, 1.0, 2.0, (0.0, 0.0, 0.5, 1.0))),
            cache.key(IDENTITY | {"layers": (1,)}, Clip(a, 1.0, 2.0)),
            cache.key(IDENTITY, "one"),
        }
        assert len(different | {base}) == 7
        with pytest.raises(OSError):
            cache.key(IDENTITY, Clip(str(tmp_path / "gone.wav")))


def test_a_changed_file_is_read_again(tmp_path):
    path = tmp_path / "a.wav"
    path.write_bytes(b"one")
    with Cache(tmp_path / "cache.sqlite") as cache:
        first = cache.digest(str(path))
        path.write_bytes(b"two")
        os.utime(path, ns=(1, 1))
        assert cache.digest(str(path)) != first


def test_vectors_are_found_in_a_later_run(tmp_path):
    vector = np.array([1.5, -2.0, 1e-7], np.float32)
    with Cache(tmp_path / "new/cache.sqlite") as cache:
        cache.put("k", vector)
    with Cache(tmp_path / "new/cache.sqlite") as cache:
        found = cache.get(["k", "other"])
    assert list(found) == ["k"]
    np.testing.assert_array_equal(found["k"], vector)


def test_a_killed_run_loses_a_second_at_most(tmp_path):
    program = (
        "import sys, time, os, signal, pathlib, numpy as np\n"
        "from ariigcn_jax.features.cache import Cache\n"
        "cache = Cache(pathlib.Path(sys.argv[1]))\n"
        "cache.put('early', np.ones(3)); time.sleep(1.1)\n"
        "cache.put('middle', np.ones(3)); cache.put('late', np.ones(3))\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    path = tmp_path / "cache.sqlite"
    root = Path(__file__).resolve().parents[2]
    assert subprocess.run([sys.executable, "-c", program, str(path)], cwd=root).returncode == -9
    with Cache(path) as cache:
        assert set(cache.get(["early", "middle", "late"])) == {"early", "middle"}


def test_another_file_is_refused_and_left_alone(tmp_path):
    path = tmp_path / "cache.sqlite"
    path.write_bytes(b"precious " * 1000)
    with pytest.raises(UserError, match="cannot be used as the cache"):
        Cache(path)
    assert path.read_bytes() == b"precious " * 1000
