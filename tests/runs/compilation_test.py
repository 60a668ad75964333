"""The compilation cache: a second process compiles nothing and says so; where it lies; what happens where it cannot."""

import os
import subprocess
import sys

import pytest

from ariigcn_jax import files
from ariigcn_jax.runs import compilation
from ariigcn_jax.types import UserError

PROGRAM = """
import jax
from ariigcn_jax.runs import compilation
cache = compilation.enable()
jax.jit(lambda x: x * 2 + 1)(1.0)
print(cache.words())
"""


def words(folder, **environment):
    variables = {k: v for k, v in os.environ.items() if k not in (files.CACHE, "JAX_COMPILATION_CACHE_DIR")}
    variables |= {"PYTHONPATH": os.getcwd(), "XDG_CACHE_HOME": str(folder), **environment}
    done = subprocess.run([sys.executable, "-c", PROGRAM], env=variables, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_second_process_compiles_nothing(tmp_path):
    first, second = words(tmp_path), words(tmp_path)
    assert "programs were compiled and 0 came from the cache" in first
    assert second.startswith("nothing was compiled")
    assert str(tmp_path / "ariigcn_jax") in second


def test_folder_that_is_named_is_used(tmp_path):
    assert str(tmp_path / "here") in words(tmp_path, ARIIGCN_CACHE=str(tmp_path / "here"))
    assert list((tmp_path / "here").iterdir())
    assert not (tmp_path / "ariigcn_jax").exists()


def test_empty_name_switches_it_off(tmp_path):
    assert words(tmp_path, ARIIGCN_CACHE="") == "the compilation cache is off"


def test_folder_of_the_user_that_cannot_be_made_switches_it_off(tmp_path):
    (tmp_path / "file").write_text("")
    assert words(tmp_path / "file") == "the compilation cache is off"


def test_named_folder_that_cannot_be_made_is_an_error(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv(files.CACHE, str(tmp_path / "file" / "cache"))
    with pytest.raises(UserError, match=r"file/cache: .*ARIIGCN_CACHE"):
        compilation.enable()
