"""pyproject.toml, the lock and the package agree, and no file names a machine."""

import pathlib
import re
import subprocess
import tomllib

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import ariigcn_jax

ROOT = pathlib.Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
DIRECT = [Requirement(line) for line in PROJECT["dependencies"] + PROJECT["optional-dependencies"]["test"]]
LOCK = (ROOT / "requirements.lock").read_text()
PINS = re.findall(r"^(\S+)==(\S+)(.*\n(?: .*\n)*)", LOCK, re.MULTILINE)  # name, version, marker and hashes


@pytest.mark.parametrize("requirement", DIRECT, ids=str)
def test_lock_pins_direct_dependency_in_range(requirement):
    versions = {canonicalize_name(name): version for name, version, _ in PINS}
    version = versions.get(canonicalize_name(requirement.name))
    assert version is not None, "not in requirements.lock"
    assert requirement.specifier.contains(version, prereleases=True), f"the lock has {version}"


def test_lock_has_a_hash_for_each_pin():
    assert len(PINS) == len(re.findall(r"^\w", LOCK, re.MULTILINE))
    assert [name for name, _, rest in PINS if "--hash=sha256:" not in rest] == []


def test_lock_names_no_address():
    assert re.findall(r"://|file:|--\w*index|--find-links|@", LOCK) == []


def test_versions_agree():
    citation = (ROOT / "CITATION.cff").read_text()
    assert ariigcn_jax.__version__ == PROJECT["version"]
    assert re.search(r"^version: (.*)$", citation, re.MULTILINE).group(1) == PROJECT["version"]


def test_no_tracked_file_holds_a_path_of_a_machine():
    listing = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True)
    if listing.returncode:
        pytest.skip("not a git checkout")
    machine = re.compile(rb"(?<![\w.~}])/(?:home|root|Users|work|opt)/")
    paths = [ROOT / name for name in listing.stdout.decode().split("\0") if name]
    texts = {path: path.read_bytes() for path in paths if path.is_file()}
    assert [str(path) for path, text in texts.items() if b"\0" not in text and machine.search(text)] == []
