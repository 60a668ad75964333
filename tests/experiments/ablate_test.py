"""The ablation command: which runs it makes, its numbers by hand, and that a finished run is not made again."""

import csv
import dataclasses
import json
import math

import numpy as np
import pytest

from ariigcn_jax.runs import runner, session
from ariigcn_jax.types import UNLABELED, UserError
from experiments import ablate, study
from tests.runs.runner_test import LIGHT, tiny

pytestmark = pytest.mark.usefixtures("quick_compilation")
ONE_EPOCH = LIGHT | {"num_epochs": 1}


def summary(values):
    return {
        "mean": np.mean(values, axis=0).tolist(),
        "std": np.std(values, axis=0, ddof=1).tolist(),
        "per_seed": np.asarray(values).tolist(),
    }


def content(f1, joy=(0.5, 0.5, 0.5, 0.5)):
    """Return results of four seeds and two classes; the other scores are 0.1 and 0.2 below; validation is at 0.9."""
    block = {
        "weighted_f1": summary(f1),
        "accuracy": summary(np.asarray(f1) - 0.1),
        "macro_f1": summary(np.asarray(f1) - 0.2),
        "unweighted_accuracy": summary(np.asarray(f1) - 0.2),
        "class_f1": summary(np.stack([joy, f1], axis=1)),
    }
    valid = {name: summary(np.full(np.shape(value["per_seed"]), 0.9)) for name, value in block.items()}
    result = {"experiment": "toy", "label_names": ["joy", "a_b"], "seeds": [3, 4, 5, 6], "select": "weighted_f1"}
    return result | {"test": block, "valid": valid}


CONTENTS = {
    "full": content([0.60, 0.62, 0.64, 0.66]),
    "no_tgan": content([0.59, 0.62, 0.62, 0.65]),
    "no_graph": content([0.40, 0.41, 0.45, 0.46], joy=[0.1, 0.2, 0.3, 0.2]),
}


# --- Which runs -------------------------------------------------------------------------------------------------------


def test_variants_are_the_full_model_and_each_ablation_of_it():
    config = tiny({"losses.iccl.fn": "margin"})
    corpus = session.load(config)
    configs = ablate.variants(config, ["no_tgan+no_graph", "losses", "no_graph"], corpus)
    assert list(configs)[:2] == ["full", "no_tgan+no_graph"] and list(configs)[-1] == "no_graph"
    assert "iccl_supervised_nce" in configs
    # Members of the group that are as the full model is.
    assert not {"iccl_margin", "imcl_supervised_nce", "emotion_cross_entropy", "adversarial_bce"} & configs.keys()
    changed = configs["no_tgan+no_graph"]
    assert (changed.losses.adversarial.weight, changed.model.graph.layers) == (0, 0)
    assert changed.experiment == "tiny:no_tgan+no_graph"
    assert configs["full"] is config and config.losses.adversarial.weight > 0
    assert configs["no_graph"].losses.iccl.fn == "margin"


def test_other_cross_validation_has_no_difference():
    parts = {"members": 10, "cross_validation": True}
    contents = {
        "full": CONTENTS["full"] | parts,
        "no_tgan": CONTENTS["no_tgan"] | parts,
        "no_graph": CONTENTS["no_graph"],
    }
    compared = {(row["split"], row["ablation"]) for row in ablate.rows(contents) if "difference" in row}
    assert compared == {("test", "no_tgan"), ("test", "no_graph"), ("valid", "no_tgan")}
    assert "differ in what they are of" in ablate.caption(contents)
    assert "differ in what" not in ablate.caption(CONTENTS)


def test_copies_that_the_corpus_lacks_change_nothing():
    config = tiny({"model.modality_dropout": 0.5})
    corpus = session.load(config)
    config.data.speaker_normalised = config.data.ranked = ("vocal",)
    assert list(ablate.variants(config, ["additions"], corpus)) == ["full", "no_unimodal", "no_modality_dropout"]
    config.data.speaker_normalised = ("audio",)
    config.data.ranked = ("text", "smell")
    assert {"no_copies", "no_ranked"} <= ablate.variants(config, ["additions"], corpus).keys()


def test_terms_across_modalities_change_nothing_for_one_modality():
    config = tiny({"data.only": ("text",), "model.modality_dropout": 0.5})
    corpus = session.load(config)
    found = list(ablate.variants(config, ["components", "gan", "no_modality_dropout+no_graph"], corpus))
    assert found == ["full", "no_iccl", "no_contrast", "no_auxiliary", "no_graph", "no_modality_dropout+no_graph"]
    with pytest.raises(UserError, match="no_tgan changes nothing"):
        ablate.variants(config, ["no_tgan"], corpus)


def test_hyper_parameters_that_no_loss_takes_change_nothing():
    config = tiny()
    corpus = session.load(config)
    assert config.losses.emotion.fn == "cross_entropy" and config.losses.emotion.gamma > 0
    found = ablate.variants(config, ["additions", "paper", "utterance_mlp", "baselines"], corpus).keys()
    assert {"no_unimodal", "paper", "utterance_mlp", "contextual_gru", "windowed_attention"} <= found
    assert "no_focal" not in found
    with pytest.raises(UserError, match=r"gamma has no effect: .*cross_entropy takes smoothing"):
        ablate.variants(config, ["no_focal"], corpus)
    config.losses.emotion.fn = "focal"
    assert ablate.variants(config, ["no_focal"], corpus)["no_focal"].losses.emotion.gamma == 0


@pytest.mark.parametrize(
    ("names", "words"),
    [
        ([], "--ablations is missing"),
        (["adversarial_bce"], "adversarial_bce changes nothing"),
        (["no_tgan", "no_imlc"], "Did you mean no_imcl"),
        (["four_way"], "four_way changes what is measured"),
        (["only_face"], "begins with 'face'; it has audio, text"),
    ],
)
def test_ablations_that_cannot_be_run_are_refused_before_any_run(names, words):
    config = tiny()
    with pytest.raises(UserError, match=words):
        ablate.variants(config, names, session.load(config))


# --- Numbers ----------------------------------------------------------------------------------------------------------


def test_rows_by_hand():
    rows = {(r["ablation"], r["split"], r["score"]): r for r in ablate.rows(CONTENTS)}
    row = rows["no_tgan", "test", "weighted_f1"]
    assert row["mean"] == pytest.approx(0.62) and row["difference"] == pytest.approx(-0.01)
    # Differences −1, 0, −2, −1: mean −1, deviation √(2/3), t = −1 / (√(2/3) / 2) = −2.449, p of 3 degrees 0.0917.
    assert row["p"] == pytest.approx(0.0917, abs=1e-4)
    assert row["low"] < -0.01 < row["high"]
    assert row["corrected"] == pytest.approx(row["p"])  # the larger of two
    worse = rows["no_graph", "test", "weighted_f1"]
    assert worse["corrected"] == pytest.approx(2 * worse["p"])
    assert worse["high"] < 0
    assert rows["no_graph", "test", "f1 of joy"]["difference"] == pytest.approx(-0.3)
    assert rows["no_graph", "test", "f1 of a_b"]["per_seed"] == [0.40, 0.41, 0.45, 0.46]
    assert rows["no_graph", "valid", "weighted_f1"]["difference"] == 0
    assert "difference" not in rows["full", "test", "weighted_f1"]
    assert len(rows) == 3 * 2 * 6


def test_table_by_hand():
    header, *cells = ablate.table(CONTENTS, ablate.rows(CONTENTS))
    full, no_tgan, _ = (dict(zip(header, row, strict=True)) for row in cells)
    assert full["weighted F1"] == "63.00 ± 2.58" and full["Δ"] == full["p"] == ""
    assert no_tgan["Δ"] == "−1.00" and no_tgan["p"] == no_tgan["p (Holm)"] == "0.092"
    assert no_tgan["accuracy"].startswith("52.00") and no_tgan["valid weighted F1"] == "90.00 ± 0.00"


def test_caption_has_the_unit_of_differences():
    assert "seed by seed, in points; interval" in ablate.caption(CONTENTS)
    scores = {name: content | {"task": "regression", "select": "mae"} for name, content in CONTENTS.items()}
    assert "seed by seed, in the metric's unit; interval" in ablate.caption(scores)


def test_caption_warns_where_seeds_differ():
    assert "in name only" not in ablate.caption(CONTENTS)
    assert "in name only" in ablate.caption(CONTENTS | {"no_graph": CONTENTS["no_graph"] | {"members": 10}})


# --- The command ------------------------------------------------------------------------------------------------------


def start(monkeypatch, folder, config, **flags):
    values = {"config": config, "seeds": None, "workdir": str(folder)} | flags
    for module in (ablate, study):
        monkeypatch.setattr(module, "flag", values.get)
    ablate.command([])


def test_command_trains_writes_and_does_not_train_twice(monkeypatch, capsys, tmp_path):
    start(monkeypatch, tmp_path, tiny(ONE_EPOCH), ablations=["only_text"], seeds=2)
    first = capsys.readouterr().out
    assert first.splitlines()[1].startswith("[1/2] full: test weighted F1")
    assert "Compiling" not in first
    assert json.loads((tmp_path / "only_text" / "config.json").read_text())["data"]["only"] == ["text"]
    results = {n: json.loads((tmp_path / n / "results.json").read_text()) for n in ("full", "only_text")}
    read = list(csv.DictReader((tmp_path / "ablations.csv").read_text().splitlines()))
    for row in read:
        if row["score"] == "weighted_f1":
            expected = results[row["ablation"]][row["split"]]["weighted_f1"]["per_seed"]
            assert [float(row["seed_0"]), float(row["seed_1"])] == expected
    assert math.isnan(float(next(r["low"] for r in read if r["ablation"] == "only_text")))  # two seeds give none
    assert (tmp_path / "ablations.md").read_text() in first
    assert (tmp_path / "ablations.png").read_bytes()[1:4] == b"PNG"
    assert (tmp_path / "ablations.tex").read_text().count(r"\\") == 3
    assert [r["ablation"] for r in json.loads((tmp_path / "ablations.json").read_text())["rows"][:2]] == [
        "full",
        "only_text",
    ]

    def refuse(*_):
        raise AssertionError("trained again")

    monkeypatch.setattr(runner, "run", refuse)
    start(monkeypatch, tmp_path, tiny(ONE_EPOCH), ablations=["only_text"], seeds=2)
    again = capsys.readouterr().out
    assert again.count("finished before") == 2
    assert again.split("\n\n")[1:] == first.split("\n\n")[1:]
    with pytest.raises(UserError, match=r"other options[\s\S]*num_seeds: 2 → 10"):
        start(monkeypatch, tmp_path, tiny(ONE_EPOCH), ablations=["only_text"])


def test_ablations_need_a_test_split_that_may_be_read(monkeypatch, tmp_path):
    with pytest.raises(UserError, match=r"eval\.test=True"):
        start(monkeypatch, tmp_path, tiny(ONE_EPOCH | {"eval.test": False}), ablations=["only_text"])
    made = session.load(tiny())
    without = dataclasses.replace(made, label=np.where(made.split == "test", UNLABELED, made.label))
    monkeypatch.setattr(ablate, "load", lambda *_: without)
    with pytest.raises(UserError, match="no labelled utterance in it"):
        start(monkeypatch, tmp_path, tiny(ONE_EPOCH), ablations=["only_text"])
    assert not list(tmp_path.iterdir())
