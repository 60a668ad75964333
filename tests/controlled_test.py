"""Controlled checks: with the truth known, losses move what they are to move, where there is something to find."""

import json

import numpy as np
import pytest

from experiments import controlled

pytestmark = pytest.mark.usefixtures("quick_compilation")


@pytest.fixture(scope="module")
def measured():
    """(study, value, loss on) -> means over two seeds; trained when first asked for."""
    kept = {}

    def look(name, value, on):
        if (name, value, on) not in kept:
            study = controlled.STUDIES[name]
            config = controlled.model_config(study, on)
            rows = controlled.train_and_measure(config, controlled.conversations(study, value), range(2))
            kept[name, value, on] = {k: np.mean([row[k] for row in rows]) for k in rows[0]}
        return kept[name, value, on]

    return look


@pytest.mark.slow
def test_iccl_draws_classes_apart_where_there_are_classes(measured):
    off, on = (measured("iccl_separation", 2.0, state) for state in (False, True))
    assert on["hidden silhouette"] > off["hidden silhouette"]


@pytest.mark.slow
def test_iccl_finds_nothing_where_there_is_nothing(measured):
    on = measured("iccl_separation", 0.0, True)
    assert on["f1"] < 0.4
    assert on["contrast silhouette"] < 0.02


@pytest.mark.slow
def test_imcl_brings_the_modalities_classes_into_one_space(measured):
    off, on = (measured("imcl_rotation", 1.0, state) for state in (False, True))
    assert on["hidden silhouette across"] > off["hidden silhouette across"]


# --- Bookkeeping ------------------------------------------------------------------------------------------------------


def rows(study, seeds=2):
    varied = controlled.STUDIES[study]
    return [
        {"study": study, "vary": varied.vary, "value": v, "loss": loss, "seed": s, "f1": 0.5 + k + 0.1 * s}
        | {"features silhouette": 0.25, "hidden silhouette": 0.5}
        for v in varied.values
        for k, loss in enumerate(("none", varied.slot))
        for s in range(seeds)
    ]


def test_table_and_file_hold_the_means_without_and_with_the_loss():
    found = rows("iccl_label_noise")
    words = controlled.table(found)
    assert "## iccl_label_noise: losses.iccl.weight 0 → 1" in words
    assert "| 0.4 | 0.250 | 0.550 → 1.550 | 0.500 → 0.500 |" in words
    text = controlled.comma_separated(found).splitlines()
    assert text[0].startswith("study,vary,value,loss,seed,f1") and len(text) == 1 + len(found)
    assert controlled.picture(found + rows("tgan_shift")).startswith(b"\x89PNG")


def test_only_what_is_missing_is_trained(tmp_path, monkeypatch):
    asked = []

    def train(config, corpus, seeds):
        asked.append((config.losses.adversarial.weight, tuple(seeds)))
        return [{"f1": float(seed)} for seed in seeds]

    monkeypatch.setattr(controlled, "train_and_measure", train)
    assert len(controlled.run(["tgan_warp"], 2, tmp_path)) == 3 * 2 * 2
    assert asked == [(0.0, (0, 1)), (1.0, (0, 1))] * 3
    asked.clear()
    with (tmp_path / controlled.KEPT).open("a") as file:
        file.write('{"made": 1, "se')  # a killed writer's
    found = controlled.run(["tgan_warp"], 3, tmp_path)
    assert asked == [(0.0, (2,)), (1.0, (2,))] * 3
    assert [row["f1"] for row in found[:3]] == [0.0, 1.0, 2.0]
    assert len((tmp_path / controlled.KEPT).read_text().splitlines()) == 18
    assert all(json.loads(line) for line in (tmp_path / controlled.KEPT).read_text().splitlines())


def test_what_the_models_share_is_trained_once(tmp_path, monkeypatch):
    """Without its loss, a study's model is that of any other study on the same conversations."""
    asked = []
    monkeypatch.setattr(
        controlled, "train_and_measure", lambda config, corpus, seeds: asked.append(1) or [{"f1": 0.0}] * len(seeds)
    )
    controlled.run(["imcl_rotation", "tgan_rotation"], 1, tmp_path)
    assert len(asked) == 3 * 3


def test_every_study_generates_what_it_says():
    for name, study in controlled.STUDIES.items():
        for value in study.values:
            corpus = controlled.conversations(study, value)
            assert {"train", "test"} <= set(corpus.split), name
        assert controlled.model_config(study, True).losses[study.slot].weight == study.weight
