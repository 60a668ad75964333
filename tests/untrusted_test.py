"""Files of strangers: what tries to run something, or to reach outside of its folder, is refused.

Pickles are attacked in pickles_test.py, pages in report_test.py and conversation_page_test.py, exported programs in
export_test.py.
"""

import ast
import contextlib
import json
import pickle
from pathlib import Path

import numpy as np
import pytest

from ariigcn_jax import data as corpus
from ariigcn_jax.data.readers import folder
from ariigcn_jax.runs import checkpoint
from ariigcn_jax.types import UserError
from tests.support import runs
from tests.support.builders import corpus as make_corpus

ROOT = Path(__file__).resolve().parents[1]


class Hostile:
    def __reduce__(self):
        return (open, ("HACKED", "w"))


@pytest.fixture(autouse=True)
def unharmed(tmp_path, monkeypatch):
    """Whatever a test reads, nothing was run by it."""
    monkeypatch.chdir(tmp_path)
    yield
    assert not (tmp_path / "HACKED").exists()


def test_no_module_can_run_what_it_reads():
    """No reader of pickles, YAML or code is called or imported anywhere but where a user's own file is meant."""
    found = []
    for package in ("ariigcn_jax", "experiments", "tools"):
        for path in sorted((ROOT / package).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text())):
                names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
                names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
                if isinstance(node, ast.Call):
                    names += [node.func.id] if isinstance(node.func, ast.Name) else []
                    names += [f"{k.arg}={k.value.value}" for k in node.keywords if isinstance(k.value, ast.Constant)]
                for name in names:
                    if name.partition(".")[0] in {
                        *("pickle", "marshal", "shelve", "dill", "cloudpickle", "joblib", "yaml", "runpy", "code"),
                        *("eval", "exec", "compile", "__import__"),
                        *("allow_pickle=True", "trust_remote_code=True", "shell=True", "weights_only=False"),
                    }:
                        found.append(f"{path.relative_to(ROOT)}: {name}")
    assert found == ["ariigcn_jax/data/readers/pickles.py: pickle"]  # its restricted machine alone


def test_the_reader_of_pickles_uses_nothing_that_reads_them_unrestricted():
    tree = ast.parse((ROOT / "ariigcn_jax/data/readers/pickles.py").read_text())
    names = [node for node in ast.walk(tree) if isinstance(node, ast.Name) and node.id == "pickle"]
    used = [node for node in ast.walk(tree) if isinstance(node, ast.Attribute) and node.value in names]
    assert len(used) == len(names)  # the module itself goes nowhere
    assert {node.attr for node in used if not node.attr.isupper()} == {"_Unpickler"}  # instructions are in capitals


@pytest.mark.parametrize("name", ["../../outside", "..", "/outside", "sub/outside"])
def test_an_utterance_cannot_name_a_file_elsewhere(tmp_path, name):
    feature = tmp_path / "corpus" / "features" / "bert"
    feature.mkdir(parents=True)
    for place in (tmp_path / "outside.npy", feature.parent / "outside.npy", feature / "a_1.npy"):
        np.save(place, np.ones(2))
    np.savez(tmp_path / "corpus" / "label.npz", train_corpus=np.array({"a_1": 0, name: 1}, dtype=object))
    with pytest.raises(UserError, match="cannot be the name of a file"):
        corpus.load(tmp_path / "corpus")


@pytest.mark.parametrize("file", ["../outside.npy", "/outside.npy", "sub/../../outside.npy", "..", "outside.npy\n"])
def test_a_schema_cannot_name_a_file_elsewhere(tmp_path, file):
    made = folder.write(make_corpus([2, 2]), tmp_path / "corpus")
    np.save(tmp_path / "outside.npy", np.ones((4, 3), np.float32))
    schema = json.loads((made / folder.SCHEMA).read_text())
    schema["modalities"]["text"]["file"] = file
    (made / folder.SCHEMA).write_text(json.dumps(schema | {"checksums": {}}))
    with pytest.raises(UserError, match='"modalities" is'):
        corpus.load(made)


def test_a_feature_cannot_be_a_pickle(tmp_path):
    made = folder.write(make_corpus([2, 2]), tmp_path / "corpus")
    schema = json.loads((made / folder.SCHEMA).read_text())
    (made / folder.SCHEMA).write_text(json.dumps(schema | {"checksums": {}}))
    np.save(made / "text.npy", np.array([Hostile()] * 4, object), allow_pickle=True)
    with pytest.raises(UserError, match=r"text\.npy: cannot be read"):
        corpus.load(made)
    (made / "text.npy").write_bytes(pickle.dumps(Hostile()))
    with pytest.raises(UserError, match=r"text\.npy: cannot be read"):
        corpus.load(made)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A run, and the files of its checkpoint."""
    run = runs.make(tmp_path_factory.mktemp("untrusted") / "run")
    return run, [path for path in (run / "checkpoints").rglob("*") if path.is_file()]


def test_a_checkpoint_of_pickles_is_not_run(files):
    """Each of the files that say how to read the arrays, in turn, whatever orbax makes of it."""
    run, paths = files
    for sums in [path for path in paths if path.name == checkpoint.SUMS]:
        sums.unlink()  # a stranger would write ones that fit
    described = [path for path in paths if path.name.startswith("_")]
    assert "_METADATA" in {path.name for path in described}
    for path in described:
        whole = path.read_bytes()
        path.write_bytes(pickle.dumps(Hostile()))
        with contextlib.suppress(Exception):  # what damage is called is checkpoint_test.py's
            checkpoint.read_best(run)
        path.write_bytes(whole)
    checkpoint.read_best(run)
