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


SLOW = """
import jax, time
from ariigcn_jax.runs import compilation
compilation.SECONDS = 0.2
compilation.enable()
for name, words in (("evaluate", "the evaluation of a split"), ("other", "other")):
    jax.monitoring.record_scalar(compilation.COMPILE, 0.0, fun_name=f"jit({name})")
    time.sleep(1)
    jax.monitoring.record_event_duration_secs(compilation.COMPILE, 1.0, fun_name=f"jit({name})")
    time.sleep(0.5)
"""


def test_what_compiles_for_long_is_said():
    environment = os.environ | {"PYTHONPATH": os.getcwd(), files.CACHE: ""}
    done = subprocess.run([sys.executable, "-c", SLOW], env=environment, capture_output=True, text=True, check=True)
    lines = done.stderr.splitlines()
    assert len(lines) >= 4 and all(line.endswith(" s so far …") for line in lines)
    assert {line.partition(":")[0] for line in lines} == {
        "Compiling the evaluation of a split, program 1",
        "Compiling other, program 2",
    }


def test_names_of_a_real_program_are_those_that_jax_gives():
    code = """
import jax, time
from ariigcn_jax.runs import compilation
seen = []
jax.monitoring.register_scalar_listener(lambda event, *_, fun_name="", **__: seen.append((event, fun_name)))
def evaluate(x):
    return x + 1
jax.jit(evaluate)(1.0)
print((compilation.COMPILE, "jit(evaluate)") in seen)
"""
    environment = os.environ | {"PYTHONPATH": os.getcwd()}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout == "True\n"


def test_named_folder_that_cannot_be_made_is_an_error(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv(files.CACHE, str(tmp_path / "file" / "cache"))
    with pytest.raises(UserError, match=r"file/cache: .*ARIIGCN_CACHE"):
        compilation.enable()
