"""Every Python example of README.md and of the docstrings runs, and what they import is there."""

import doctest
import importlib
import pathlib
import pkgutil
import re

import pytest

import ariigcn_jax
from ariigcn_jax.data.synthetic import WIDTHS
from tests.support import runs, spoken

pytestmark = pytest.mark.usefixtures("quick_compilation")
ROOT = pathlib.Path(__file__).resolve().parents[1]
BLOCKS = re.findall(r"^```python\n(.*?)^```$", (ROOT / "README.md").read_text(), re.MULTILINE | re.DOTALL)
NAMES = [module.name for module in pkgutil.walk_packages(ariigcn_jax.__path__, "ariigcn_jax.")]
MODULES = [name for name in NAMES if not name.endswith("__main__")]


def test_readme_examples_run(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    runs.make(tmp_path / "runs" / "causal", {"model.graph.future": 0}, widths=WIDTHS)
    assert BLOCKS
    names: dict = {}
    for block in BLOCKS:
        exec(compile(block, "README.md", "exec"), names)
    assert "class" in capsys.readouterr().out  # the emotions of this run are called class 0, …


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with the run that examples load, runs/calls, of words and sound."""
    folder = tmp_path_factory.mktemp("place")
    (folder / "runs").mkdir()
    spoken.train(folder / "runs", {}).rename(folder / "runs" / "calls")
    return folder


@pytest.mark.parametrize("name", MODULES)
def test_docstring_examples_run(name, request, monkeypatch):
    if name in ("ariigcn_jax.inference.model", "ariigcn_jax.inference.prediction"):
        monkeypatch.chdir(request.getfixturevalue("place"))
    if name == "ariigcn_jax.inference.standalone":
        pytest.importorskip("safetensors", reason="safetensors is not installed (extra: export)")
    assert doctest.testmod(importlib.import_module(name)).failed == 0


def test_what_is_public_is_there_and_described():
    for name in ariigcn_jax.__all__:
        assert getattr(ariigcn_jax, name) is not None
        assert name == "__version__" or getattr(ariigcn_jax, name).__doc__
    assert set(ariigcn_jax.__all__) <= set(dir(ariigcn_jax))
