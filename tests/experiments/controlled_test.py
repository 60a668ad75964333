"""Controlled checks: with the truth known, losses move what they are to move, where there is something to find.

The margins of the slow tests are about half of what three seeds found.
"""

import json

import numpy as np
import pandas as pd
import pytest

from experiments import controlled

pytestmark = pytest.mark.usefixtures("quick_compilation")


@pytest.fixture(scope="module")
def measured():
    """Return a function (study, value) -> means over three seeds without the loss, and with it."""
    programs = {}

    def look(name, value):
        study, found = controlled.STUDIES[name], []
        for on in (False, True):
            corpora = [controlled.conversations(study, value, seed) for seed in range(3)]
            key = (study.slot, study.weight) if on else ()
            if key not in programs:
                programs[key] = controlled.compiled(controlled.model_config(study, on), corpora[0])
            rows = [programs[key](corpus, seed) for seed, corpus in enumerate(corpora)]
            found.append({k: np.mean([row[k] for row in rows]) for k in rows[0]})
        return found

    return look


@pytest.mark.slow
def test_iccl_draws_classes_apart_where_there_are_classes(measured):
    off, on = measured("iccl_separation", 3.0)
    assert on["hidden silhouette"] > off["hidden silhouette"] + 0.02
    assert on["hidden ratio"] > off["hidden ratio"] + 0.1
    assert on["contrast silhouette"] > off["hidden silhouette"] + 0.15


@pytest.mark.slow
def test_iccl_without_classes_separates_only_the_modalities(measured):
    off, on = measured("iccl_separation", 0.0)
    assert max(off["f1"], on["f1"]) < 0.3  # of four classes
    assert abs(on["hidden silhouette"] - off["hidden silhouette"]) < 0.01 and on["contrast silhouette"] < 0.01
    assert on["hidden modality gap"] > off["hidden modality gap"] + 0.15


@pytest.mark.slow
def test_imcl_brings_classes_of_all_modalities_together_if_all_show_them(measured):
    _, on = measured("imcl_shared", 1.0)
    _, iccl = measured("iccl_separation", 1.5)  # of the same conversations
    assert on["contrast silhouette across"] > iccl["contrast silhouette across"] + 0.015
    assert on["contrast modality gap"] < iccl["contrast modality gap"] - 0.1
    _, apart = measured("imcl_shared", 0.0)
    assert apart["contrast silhouette across"] < 0.01


@pytest.mark.slow
def test_tgan_of_a_large_weight_blurs_the_classes(measured):
    off, on = measured("tgan_rotation", 0.0)
    assert on["hidden silhouette"] < off["hidden silhouette"] - 0.01
    assert on["f1"] < off["f1"] - 0.015


# --- Bookkeeping ------------------------------------------------------------------------------------------------------


def rows(study, seeds=2):
    varied = controlled.STUDIES[study]
    return [
        {
            "study": study,
            "vary": varied.vary,
            "value": v,
            "loss": loss,
            "seed": s,
            "f1": 0.5 + k + 0.1 * s + 0.02 * s * k,
        }
        | {"features silhouette": 0.25, "hidden silhouette": 0.5 - 0.1 * s * k}
        for v in varied.values
        for k, loss in enumerate(("none", varied.slot))
        for s in range(seeds)
    ]


def test_table_holds_the_means_and_what_the_loss_changes():
    found = pd.DataFrame(rows("iccl_label_noise"))
    text = controlled.table(found)
    words = " ".join(text.split())
    assert "## iccl_label_noise: losses.iccl.weight from 0 to 1" in words
    # changes of 1 and 1.02, whose interval is 1.01 ± 12.706 · 0.0141 / √2, and of 0 and −0.1
    assert "| 0.3 | 0.250 | 0.550 + 1.010 ± 0.127 * | 0.500 − 0.050 ± 0.635 |" in words
    assert "| 0.550 + 1.000 |" not in words
    alone = " ".join(controlled.table(pd.DataFrame(rows("iccl_label_noise", 1))).split())
    assert "| 0.500 + 1.000 |" in alone
    both = pd.concat([found, pd.DataFrame(rows("tgan_shift"))])
    assert controlled.chart(both).startswith(b"\x89PNG")


def test_contrast_space_is_shown_where_a_study_has_it():
    found = rows("iccl_label_noise")
    for row in found:
        if row["loss"] != "none":
            row["contrast silhouette"] = 0.75
    text = " ".join(controlled.table(pd.DataFrame(found + rows("tgan_shift"))).split())
    first, second = text.split("## tgan_shift")
    assert "| contrast space: silhouette |" in first and "| 0.750 |" in first
    assert "contrast" not in second and "nan" not in second


@pytest.fixture
def trained(monkeypatch):
    """List (weights of ICCL, IMCL and TGAN; seed) of every model trained; "compiled" where one is compiled."""
    asked = []

    def compiled(config, corpus):
        asked.append("compiled")
        weights = tuple(config.losses[slot].weight for slot in ("iccl", "imcl", "adversarial"))

        def train_and_measure(corpus, seed):
            asked.append((weights, seed))
            return {"f1": float(seed)}

        return train_and_measure

    monkeypatch.setattr(controlled, "compiled", compiled)
    return asked


def test_only_what_is_missing_is_trained(tmp_path, trained):
    assert len(controlled.run(["tgan_warp"], 2, tmp_path)) == 3 * 2 * 2
    off, on = (0, 0, 0), (0, 0, 1)
    once = [(off, 0), (off, 1), (on, 0), (on, 1)]
    assert trained == ["compiled", *once[:2], "compiled", *once[2:], *once, *once]
    trained.clear()
    with (tmp_path / controlled.KEPT).open("a") as file:
        file.write('{"made": 1, "se')  # a killed writer's
    found = controlled.run(["tgan_warp"], 3, tmp_path)
    assert [asked for asked in trained if asked != "compiled"] == [(off, 2), (on, 2)] * 3
    assert [row["f1"] for row in found[:3]] == [0.0, 1.0, 2.0]
    assert len((tmp_path / controlled.KEPT).read_text().splitlines()) == 18
    assert all(json.loads(line) for line in (tmp_path / controlled.KEPT).read_text().splitlines())


def test_what_the_studies_share_is_compiled_and_trained_once(tmp_path, trained):
    """Check that models without the loss are shared by studies on the same conversations."""
    controlled.run(["imcl_rotation", "tgan_rotation"], 1, tmp_path)
    assert trained.count("compiled") == 3 and len(trained) == 3 + 3 * 2


def test_a_study_that_is_named_twice_counts_once(tmp_path, monkeypatch):
    pytest.importorskip("sklearn", reason="scikit-learn is not installed (extra: report)")
    asked = []
    monkeypatch.setattr(controlled, "run", lambda names, seeds, folder: asked.append(names) or rows("tgan_warp"))
    monkeypatch.setattr(controlled, "chart", lambda rows: b"")
    chosen = ["--studies=tgan_warp,tgan_shift,tgan_warp", f"--workdir={tmp_path}"]
    controlled.command(controlled.options().parse_args(chosen))
    assert asked == [["tgan_warp", "tgan_shift"]]
    lines = (tmp_path / "controlled.csv").read_text().splitlines()
    assert lines[0].startswith("study,vary,value,loss,seed,f1") and len(lines) == 1 + len(rows("tgan_warp"))


def test_corpora_of_every_study_have_one_shape():
    first = controlled.conversations(controlled.STUDIES["iccl_inertia"], 0.0, 0)
    for name, study in controlled.STUDIES.items():
        for value in study.values:
            corpus = controlled.conversations(study, value, 3)
            assert np.array_equal(corpus.split, first.split) and np.array_equal(corpus.dialogue, first.dialogue), name
            assert corpus.widths == first.widths and not np.array_equal(corpus.label, first.label)
        assert controlled.model_config(study, True).losses[study.slot].weight == study.weight


def test_a_displacement_is_not_standardised_away():
    rotated, shifted = (
        controlled.conversations(controlled.STUDIES[n], v, 0) for n, v in (("tgan_rotation", 1.0), ("tgan_shift", 6.0))
    )
    assert np.abs(rotated.features["audio"].mean(axis=0)).max() < 0.5
    assert np.abs(shifted.features["audio"].mean(axis=0)).max() > 1.5
