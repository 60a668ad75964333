"""Means over seeds, results.json, its table, and the predictions' CSV."""

import csv
import dataclasses
import json

import numpy as np
import pytest

from ariigcn_jax import files
from ariigcn_jax.objective import tasks
from ariigcn_jax.runs import results
from ariigcn_jax.types import UNLABELED, Corpus

NAMES = ("joy", "an|gry")


def scores(accuracy, confusion=((3, 1), (2, 4))):
    single = dict.fromkeys(
        ("weighted_f1", "accuracy", "weighted_accuracy", "unweighted_accuracy", "macro_f1"), accuracy
    )
    vectors = {"class_accuracy": np.array([accuracy, 0.5]), "class_f1": np.array([0.25, accuracy])}
    return {**single, **vectors, "support": np.array([4, 6]), "confusion": np.array(confusion), "extra": 1.0}


def content(accuracies=(0.5, 0.7, 0.6), members=1, cross_validation=False, **options):
    per_seed = [scores(a) for a in accuracies]
    about = dict(
        experiment="toy",
        task="classification",
        label_names=list(NAMES),
        seeds=list(range(len(per_seed))),
        members=members,
        cross_validation=cross_validation,
        select="weighted_f1",
        epoch="best",
        selected_epochs=list(range(4, 4 + len(per_seed))),
    )
    valid = [scores(a + 0.1) for a in accuracies]
    return results.results(about, **dict(valid=valid, test=per_seed, seconds={"total": 12.5}) | options)


def test_summary_by_hand():
    summary = results.summarise([{"f1": 1.0, "class": [0.0, 2.0]}, {"f1": 3.0, "class": [0.0, 4.0]}])
    assert summary["f1"] == {"mean": 2.0, "std": pytest.approx(2**0.5), "per_seed": [1.0, 3.0]}
    assert summary["class"]["mean"] == [0.0, 3.0]
    assert summary["class"]["std"] == [0.0, pytest.approx(2**0.5)]
    assert summary["class"]["per_seed"] == [[0.0, 2.0], [0.0, 4.0]]


def test_one_seed_has_no_spread():
    summary = results.summarise([{"f1": np.float32(0.5), "class": np.array([0.25, 1])}])
    assert summary["f1"] == {"mean": 0.5, "std": 0.0, "per_seed": [0.5]}
    assert summary["class"]["std"] == [0.0, 0.0]


def test_content_is_json_with_the_promised_keys():
    found = content()
    assert json.loads(json.dumps(found)) == found == files.json_safe(found)
    assert found["selected_epochs"] == [4, 5, 6]
    assert found["seeds"] == [0, 1, 2]
    assert (
        found["test"].keys()
        == {*tasks.get("classification").metrics, *tasks.BY_CLASS, "confusion"}
        == found["valid"].keys()
    )
    assert found["test"]["accuracy"]["mean"] == pytest.approx(0.6)
    assert found["test"]["accuracy"]["std"] == pytest.approx(0.1)
    assert found["valid"]["accuracy"]["mean"] == pytest.approx(0.7)
    assert found["test"]["confusion"] == [[[3, 1], [2, 4]]] * 3
    assert "best_test_epoch" not in found


def test_last_epoch_is_not_called_chosen():
    text = results.table(content() | {"epoch": "last"})
    assert "**test, last epoch: weighted F1 60.00" in text
    assert "chosen" not in text


def test_best_test_epoch_is_apart_and_marked():
    best = content(best_test=([7, 8, 9], [scores(0.9)] * 3))
    block = best.pop("best_test_epoch")
    assert best == content()
    assert block["epochs"] == [7, 8, 9]
    assert "test split" in block["note"]
    assert block["test"]["accuracy"]["mean"] == pytest.approx(0.9)


def test_table_of_several_seeds():
    text = results.table(content())
    lines = text.splitlines()
    assert lines[2].startswith(
        "**test, epoch chosen on validation: weighted F1 60.00 ± 10.00, accuracy 60.00 ± 10.00** (mean ± std of 3 seeds"
    )
    assert "epochs 4–6" in lines[2]
    assert "best test" not in text
    cells = [[c.strip() for c in line.strip("|").split(" | ")] for line in lines if line.startswith("|")]
    assert ["weighted F1", "60.00 ± 10.00", "70.00 ± 10.00"] in cells
    assert ["joy", "60.00 ± 10.00", "25.00 ± 0.00", "4"] in cells
    assert ["an\\|gry", "50.00 ± 0.00", "60.00 ± 10.00", "6"] in cells


def test_table_is_aligned():
    for block in results.table(content(best_test=([7] * 3, [scores(0.9)] * 3))).split("\n\n"):
        if block.startswith("|"):
            assert len({len(line) for line in block.splitlines()}) == 1


def test_table_of_one_seed_and_of_null():
    found = content(accuracies=(0.5,))
    found["test"]["macro_f1"]["mean"] = None
    text = results.table(found)
    assert "weighted F1 50.00, accuracy 50.00** (seed 0, in %; chosen by weighted_f1, epoch 4)" in text
    assert "±" not in text
    assert any(line.split() == ["|", "macro", "F1", "|", "–", "|", "60.00", "|"] for line in text.splitlines())


def test_table_shows_best_test_epoch_with_its_note():
    found = content(best_test=([7] * 3, [scores(0.9)] * 3))
    text = results.table(json.loads(json.dumps(found)))
    assert "best test epoch (*)" in text
    assert "90.00 ± 0.00" in text
    assert text.endswith(f"(*) {results.BEST_TEST_NOTE}\n")


@pytest.fixture
def corpus():
    return Corpus(
        name="toy",
        features={"text": np.zeros((3, 1), np.float32)},
        present={"text": np.ones(3, bool)},
        dialogue=np.array([0, 0, 1], np.int32),
        speaker=np.array([0, 1, 0], np.int32),
        label=np.array([1, UNLABELED, 0], np.int32),
        split=np.array(["train", "train", "test"]),
        label_names=NAMES,
        dialogue_ids=('d,"1"', "d\r2"),
        utterance_ids=("u\n0", "ü;1", "=u2"),
        speaker_names=np.array(["Ann, B.", "", "\ud800"]),
    )


def test_predictions_come_back_as_written(tmp_path, corpus):
    utterance = np.array([[2, 0, -1], [1, -1, -1]])
    probabilities = np.array([[[0.75, 0.25], [0.4, 0.6], [9, 9]], [[1, 0], [9, 9], [9, 9]]], np.float32)
    path = results.write_predictions(tmp_path / "predictions-0.csv", corpus, utterance, probabilities)
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["utterance_id"] for row in rows] == ["u\n0", "ü;1", "=u2"]
    assert [row["dialogue_id"] for row in rows] == ['d,"1"', 'd,"1"', "d\r2"]
    assert [row["speaker"] for row in rows] == ["Ann, B.", "", "\\ud800"]
    assert [row["split"] for row in rows] == ["train", "train", "test"]
    assert [row["label"] for row in rows] == ["an|gry", "", "joy"]
    assert [row["prediction"] for row in rows] == ["an|gry", "joy", "joy"]
    assert [float(row["p_joy"]) for row in rows] == pytest.approx([0.4, 1.0, 0.75])
    assert [float(row["p_an|gry"]) for row in rows] == pytest.approx([0.6, 0.0, 0.25])


def test_speakers_without_names_are_numbers(corpus):
    nameless = dataclasses.replace(corpus, speaker_names=None)
    rows = list(results.predictions_rows(nameless, np.array([1, 0]), np.full((2, 2), 0.5)))
    assert [row[3] for row in rows] == ["speaker", 0, 1]


def test_test_split_left_unread_leaves_validation_as_the_headline():
    made = content(test=None)
    assert "test" not in made and results.reported_split(made) == "valid"
    assert results.reported_split(content()) == "test"
    text = results.table(made)
    assert "**valid, epoch chosen on validation: weighted F1 70.00 ± 10.00" in text
    assert "class, on valid" in text and "test" not in text
