"""Folds: one run for each, refused before any runs where they overlap or test nothing; the tables by hand."""

import csv
import json
import pathlib

import numpy as np
import pytest

from ariigcn_jax.objective import tasks
from ariigcn_jax.runs import session
from ariigcn_jax.types import UserError
from experiments import folds, study
from tests.runs.runner_test import tiny

NAMES = ("joy", "anger")


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    """Write three sessions of three dialogues; the last one of the third has no label."""
    path = tmp_path_factory.mktemp("corpus") / "acted.npz"
    dialogues = [f"Ses0{s}_{d}" for s in (1, 2, 3) for d in range(3)]
    label = np.where(np.arange(36) < 32, np.arange(36) % 2, -1)
    features = np.random.default_rng(0).normal(size=(36, 3))
    np.savez(path, dialogue_id=np.repeat(dialogues, 4), label=label, label_names=NAMES, text=features, audio=features)
    return path


def block(confusions):
    """Return the test scores of seeds with these confusion matrices."""
    scores = [tasks.get("classification").by_class(np.array(counts)) for counts in confusions]
    found = {name: {"per_seed": [np.asarray(s[name]).tolist() for s in scores]} for name in scores[0]}
    return {
        "experiment": "tiny",
        "label_names": list(NAMES),
        "seeds": [0, 1],
        "select": "accuracy",
        "test": found | {"confusion": confusions},
    }


# Accuracies: 1/2 and 3/4 of four, then 7/8 and 7/8 of eight.
CONTENTS = {
    "session1": block([[[1, 1], [1, 1]], [[1, 1], [0, 2]]]),
    "session2": block([[[4, 0], [1, 3]], [[4, 0], [1, 3]]]),
}
TESTED = {"session1": 4, "session2": 8}


def test_mean_of_folds_and_all_utterances_by_hand():
    rows = {(row["fold"], row["score"]): row for row in folds.rows(CONTENTS, TESTED)}
    mean, pooled = rows[folds.MEAN, "accuracy"], rows[folds.POOLED, "accuracy"]
    assert mean["per_seed"] == pytest.approx([(1 / 2 + 7 / 8) / 2, (3 / 4 + 7 / 8) / 2])
    assert pooled["per_seed"] == pytest.approx([9 / 12, 10 / 12])
    assert pooled["std"] == pytest.approx(1 / 12 / 2**0.5) and pooled["mean"] == pytest.approx(19 / 24)
    assert (rows["session1", "accuracy"]["utterances"], mean["utterances"], pooled["utterances"]) == (4, 12, 12)
    assert rows["session1", "f1 of anger"]["per_seed"] == pytest.approx([0.5, 0.8])
    header, *cells = folds.table(CONTENTS, list(rows.values()))
    assert header[:3] == ["test split", "utterances", "accuracy"]
    assert [line[:3] for line in cells] == [
        ["session1", "4", "62.50 ± 17.68"],
        ["session2", "8", "87.50 ± 0.00"],
        ["mean of folds", "12", "75.00 ± 8.84"],
        ["all utterances", "12", "79.17 ± 5.89"],
    ]
    assert "standard deviation 17.68" in folds.caption(CONTENTS, list(rows.values()))


def test_a_class_counts_in_the_folds_that_test_it():
    contents = CONTENTS | {"session2": block([[[4, 0], [0, 0]], [[4, 0], [0, 0]]])}
    rows = {(row["fold"], row["score"]): row for row in folds.rows(contents, TESTED)}
    assert rows[folds.MEAN, "f1 of anger"]["per_seed"] == pytest.approx([0.5, 0.8])
    assert rows[folds.MEAN, "f1 of joy"]["per_seed"] == pytest.approx([(0.5 + 1) / 2, (2 / 3 + 1) / 2])


def start(monkeypatch, folder, file, splits, changes=(), **flags):
    config = tiny({"data.path": str(file), "data.valid_fraction": 0.3, "num_seeds": 2} | dict(changes))
    values = {"config": config, "splits": splits, "seeds": None, "workdir": str(folder)} | flags
    for module in (folds, study):
        monkeypatch.setattr(module, "flag", values.get)
    folds.command(["num_seeds"])


@pytest.fixture
def started(monkeypatch):
    """Let runs write a result at once; return the list of their configs."""
    configs = []

    def execute(config, workdir):
        configs.append(config)
        content = list(CONTENTS.values())[len(configs) % 2]
        content = content | {"valid": content["test"]}
        content["test"]["accuracy"] |= {"mean": 0.5, "std": 0.1}
        pathlib.Path(workdir).mkdir(exist_ok=True)
        (pathlib.Path(workdir) / "results.json").write_text(json.dumps(content))
        return content

    monkeypatch.setattr(session, "execute", execute)
    return configs


def test_command_holds_out_each_and_writes_the_tables(started, monkeypatch, capsys, tmp_path, file):
    start(monkeypatch, tmp_path, file, ["session1", "dialogue_id=Ses02*"])
    out = capsys.readouterr().out
    assert [config.data.split for config in started] == ["session1", "dialogue_id=Ses02*"]
    assert [config.experiment for config in started] == ["tiny:session1", "tiny:dialogue_id=Ses02*"]
    assert out.count("data.split=session1: 3 of 9 dialogues became the test split") == 1
    assert out.count("there is no field `speaker`") == 1
    folders = {path.name for path in tmp_path.iterdir() if path.is_dir()}
    assert folders == {"session1", study.folder_name("dialogue_id=Ses02*")}
    assert (tmp_path / "folds.md").read_text() in out
    rows = list(csv.DictReader((tmp_path / "folds.csv").read_text().splitlines()))
    assert {row["fold"] for row in rows} == {"session1", "dialogue_id=Ses02*", folds.MEAN, folds.POOLED}
    assert {row["utterances"] for row in rows} == {"12", "24"}
    assert json.loads((tmp_path / "folds.json").read_text())["seeds"] == [0, 1]


@pytest.mark.parametrize(
    ("splits", "changes", "words"),
    [
        ([], {}, "--splits names the folds"),
        (["session1"], {"data.split": "session2"}, "--splits names the folds"),
        (["session1"], {"eval.test": False}, r"eval\.test=True"),
        (["session1", "dialogue_id=Ses01_1"], {}, "session1 and dialogue_id=Ses01_1 both test the dialogue 'Ses01_1'"),
        (["session1", "dialogue_id=Ses03_2"], {}, "has no labelled utterance in its test split"),
        (["session1", "session4"], {}, "nothing is held out"),
    ],
)
def test_folds_that_cannot_be_run_are_refused_before_any_run(
    started, monkeypatch, tmp_path, file, splits, changes, words
):
    with pytest.raises(UserError, match=words):
        start(monkeypatch, tmp_path, file, splits, changes)
    assert not started and not list(tmp_path.iterdir())
