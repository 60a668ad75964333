"""A run made again from its folder: the same bits, and messages where something differs."""

import contextlib
import io
import json
import re
import shutil

import jax
import pytest
from absl import flags
from ml_collections import ConfigDict, config_flags

from ariigcn_jax import files
from ariigcn_jax.commands import command
from ariigcn_jax.runs import session, workdir
from ariigcn_jax.types import UserError
from experiments import reproduce
from tests.runs.kill_test import LIGHT
from tests.runs.runner_test import tiny

pytestmark = pytest.mark.usefixtures("quick_compilation")


COMMIT = {"commit": "c", "dirty": False}


@pytest.fixture(scope="module")
def twice(tmp_path_factory):
    """Make a run, and make it again; keep what was printed in printed.txt."""
    folder = tmp_path_factory.mktemp("twice")
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(io.StringIO()) as out:
        patch.setattr(workdir, "_git_state", lambda: COMMIT)
        session.execute(tiny(LIGHT | {"num_epochs": 2, "num_seeds": 2}), str(folder / "run"))
        out.truncate(0)
        reproduce.reproduce(folder / "run", None, 0.0)
    (folder / "printed.txt").write_text(out.getvalue())
    return folder


def change(file, key, value):
    """Set a dotted key of a JSON file."""
    content = json.loads(file.read_text())
    *path, last = key.split(".")
    place = content
    for name in path:
        place = place[name]
    place[last] = value
    file.write_text(json.dumps(content))


def conditions(folder):
    config = reproduce._again(json.loads((folder / "config.json").read_text()))
    return reproduce.conditions(folder, config, session.load(config))


def judged(twice, folder, capsys, tolerance=0.0):
    """Return what comparing a run with the one that was made again prints."""
    capsys.readouterr()
    reproduce.judge(folder, twice / "run-reproduced", tolerance)
    return capsys.readouterr().out


def test_same_bits(twice):
    out = (twice / "printed.txt").read_text()
    assert "run was made with the same options, code, versions, device and corpus.\n" in out
    assert "are the same to the last bit\nparameters of the chosen epoch: all " in out
    assert out.endswith("log: all 2 epochs are the same to the last bit\nreproduced.\n")
    made = [json.loads((twice / name / "environment.json").read_text()) for name in ("run", "run-reproduced")]
    assert "earlier" not in made[0]  # the run itself was left alone


def test_a_folder_with_results_is_not_taken_for_the_run_made_again(twice):
    assert reproduce._new_folder(twice / "run", None) == twice / "run-reproduced-2"
    with pytest.raises(UserError, match="has results already"):
        reproduce._new_folder(twice / "run", str(twice / "run" / ".." / "run-reproduced"))


def test_unknown_code_is_reported(twice, monkeypatch):
    monkeypatch.setattr(workdir, "_git_state", lambda: COMMIT)
    assert conditions(twice / "run") == []
    monkeypatch.setattr(workdir, "_git_state", lambda: COMMIT | {"dirty": True})
    assert any("files differ from the commit" in line for line in conditions(twice / "run"))


def test_what_differs_is_listed_and_judged_by_the_tolerance(twice, tmp_path, capsys):
    other = shutil.copytree(twice / "run", tmp_path / "other")
    scores = json.loads((other / "results.json").read_text())["test"]["accuracy"]["per_seed"]
    change(other / "results.json", "test.accuracy.per_seed", [scores[0], scores[1] + 0.25])
    change(other / "environment.json", "versions.jax", "0.1")
    change(other / "corpus.json", "digest.label", "0")
    lines = (other / "metrics.jsonl").read_text().splitlines(keepends=True)
    (other / "metrics.jsonl").write_text(lines[0] + lines[1].replace('"total": [', '"total": [1'))
    with pytest.raises(UserError, match=r"not reproduced: a score differs by more than --tolerance=0\.2"):
        judged(twice, other, capsys, 0.2)
    out = judged(twice, other, capsys, 0.3)
    assert re.search(
        rf"scores: 1 of \d+ differ, by up to 0.25\n  test.accuracy of seed 1: {scores[1] + 0.25} → {scores[1]}\n", out
    )
    listed = "\n".join(conditions(other))
    assert "corpus.digest.label: " in listed and 'versions.jax: "0.1" → ' in listed
    assert "log: differs from epoch 2 on\nreproduced.\n" in out


def test_other_parameters_are_reported(twice, capsys, monkeypatch):
    read_best = reproduce.checkpoint.read_best

    def shifted(folder):
        best, data = read_best(folder)
        if folder.name == "run":
            best["params"]["classifier"] = jax.tree.map(lambda x: x + 1, best["params"]["classifier"])
        return best, data

    monkeypatch.setattr(reproduce.checkpoint, "read_best", shifted)
    out = judged(twice, twice / "run", capsys)
    assert re.search(r"parameters of the chosen epoch: \d of 16 arrays differ, by up to 1 where", out)


@pytest.mark.parametrize(
    ("broken", "words"),
    [("results.json", "has no results.json.*finished run"), ("config.json", "config.json"), ("", "is the run itself")],
)
def test_run_that_cannot_be_made_again(twice, tmp_path, broken, words):
    other = shutil.copytree(twice / "run", tmp_path / "other")
    if broken == "config.json":
        (other / broken).write_text("__import__('os')")
    elif broken:
        (other / broken).unlink()
    with pytest.raises(UserError, match=words):
        reproduce.reproduce(other, None if broken else other, 0.0)
    assert [p.name for p in tmp_path.iterdir()] == ["other"]


def test_config_comes_back_from_its_file():
    config = tiny({"data.only": ("text",), "num_devices": 64, "distributed.coordinator": "host:1"})
    stored = json.loads(json.dumps(files.json_safe(config.to_dict())))
    again = reproduce._again(stored)
    assert again.num_devices == 1 and again.distributed.coordinator == ""
    kept = [c.to_dict() for c in (config.unlock(), again.unlock())]
    for c in kept:
        del c["num_devices"], c["distributed"]
    assert kept[0] == kept[1]
    assert list(again.data.generate.widths) == list(config.data.generate.widths)  # the order of the modalities


def test_command_takes_no_config_beside_it():
    values = flags.FlagValues()
    config_flags.DEFINE_config_dict("config", ConfigDict({"seed": 0}), flag_values=values)
    flags.DEFINE_string("reproduce", None, "a run", flag_values=values)
    with pytest.raises(UserError, match="--reproduce has a config of its own"):
        command.parse(["run", "--reproduce=runs/x"], "reproduce", values)
