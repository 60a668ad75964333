"""Missing modalities: exact shares, what is left, and scores that are those of the model on what is left."""

import csv
import json
import re
import shutil

import numpy as np
import pytest

from ariigcn_jax import cli
from ariigcn_jax import data as corpora
from ariigcn_jax.commands import robustness
from ariigcn_jax.runs import runner
from ariigcn_jax.runs.session import load
from tests.support import runs

WIDTHS = {"text": 3, "audio": 2, "visual": 4}


def entries(masks):
    return np.stack([*masks.values()], axis=1)


def test_exactly_the_share_is_missing_and_each_utterance_keeps_one():
    random = np.random.default_rng(0)
    present = {m: random.random(200) < 0.9 for m in WIDTHS}
    there = entries(present)
    before = there
    for share in (0.0, 0.1, 0.3, 0.6):
        left = entries(robustness.missing(present, share, draw=3))
        assert there.sum() - left.sum() == round(share * there.sum())
        assert not (left & ~before).any()  # a larger share removes more of the same
        np.testing.assert_array_equal(left.any(axis=1), there.any(axis=1))
        before = left
    alone = entries(robustness.missing(present, 1.0, draw=3))
    assert alone.sum() == there.any(axis=1).sum() and (alone.sum(axis=0) > 40).all()
    assert (alone != entries(robustness.missing(present, 1.0, draw=4))).any()


def test_shares_that_cannot_be_reached_are_left_out():
    two = robustness.conditions({m: np.ones(40, bool) for m in ("text", "audio")}, 2)
    assert list(two) == [f"{k}0% missing" if k else "0% missing" for k in range(6)] + ["only text", "only audio"]
    assert [len(masks) for masks in two.values()] == [1, 2, 2, 2, 2, 2, 1, 1]
    three = robustness.conditions({m: np.ones(40, bool) for m in WIDTHS}, 1)
    assert "67% missing" in three and entries(three["67% missing"][0]).sum() == 40
    assert not three["without audio"][0]["audio"].any() and three["without audio"][0]["text"].all()


def _trained_on(run, corpus):
    described = json.loads((run / runner.CORPUS).read_text())
    described |= {name: runner.describe(corpus)[name] for name in ("digest", "label_names")}
    (run / runner.CORPUS).write_text(json.dumps(described))


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    """A run, its corpus as a file, and what the command leaves; the programs that were compiled."""
    folder, random = tmp_path_factory.mktemp("run"), np.random.default_rng(1)
    features = {m: random.normal(size=(30, width)) for m, width in WIDTHS.items()}
    split = np.repeat(["train", "valid", "test"], [6, 6, 18])
    fields = dict(dialogue_id=np.repeat(list("abcde"), 6), split=split, speaker=list("xyxxyz") * 5)
    label = random.integers(-1, 3, 30)
    names = [f"class {c}" for c in range(3)]
    np.savez(folder / "corpus.npz", **fields, **features, label=label, label_names=names)
    copies = {"data.speaker_normalised": ("a", "vis"), "data.dialogue_normalised": ("audio",)}
    prepared = copies | {"data.ranked": ("a", "te")}
    run = runs.make(folder / "run", {"data.path": str(folder / "corpus.npz")} | prepared, widths=WIDTHS)
    _trained_on(run, load(robustness.inference.load(run).config))
    made = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ARIIGCN_CACHE", "")
        answers = robustness.answers
        patch.setattr(robustness, "answers", lambda model: made.append(answers(model)) or made[-1])
        assert cli.main(["robustness", str(run), "--draws=2"]) == 0
    return run, made


def test_a_model_is_given_what_it_was_trained_on(measured):
    """Ranks and copies, which training makes of the corpus and the model of what it is asked about."""
    model = robustness.inference.load(measured[0])
    trained = load(model.config)
    assert trained.ranked == {"text": 3, "audio": 2} and trained.widths == WIDTHS | {"audio": 6, "visual": 8}
    wanted = corpora.normalisation.apply(trained, model.normalisation)
    given = model.prepare(robustness.as_read(model, "test"))
    for m in WIDTHS:
        np.testing.assert_array_equal(given.features[m], wanted.features[m][trained.split == "test"])


def test_scores_are_those_of_the_model_on_what_is_left(measured):
    run, _ = measured
    content = json.loads((run / "robustness.json").read_text())
    rows = {row["condition"]: row for row in content["rows"]}
    model = robustness.inference.load(run)
    corpus = robustness.as_read(model, "test")
    assert len(corpus) == 18 and content["seeds"] == [0]
    for name, gone in (("0% missing", ()), ("only text", ("audio", "visual")), ("without audio", ("audio",))):
        kept = {m: x if m not in gone else np.zeros_like(x) for m, x in corpus.present.items()}
        prepared = model.prepare(robustness.dataclasses.replace(corpus, present=kept))
        right = []
        for batch in model.batches(prepared):
            real = (batch.utterance >= 0) & (batch.label >= 0)
            right += (np.asarray(model.outputs(batch).logits).argmax(axis=-1) == batch.label)[real].tolist()
        assert rows[name]["scores"]["accuracy"]["mean"] == pytest.approx(np.mean(right))
        assert rows[name]["missing"] == pytest.approx(len(gone) / 3)
    assert rows["30% missing"]["missing"] == pytest.approx(16 / 54)
    assert rows["30% missing"]["masks"] == 2


def test_one_program_for_all_masks_and_four_files(measured):
    run, (answer,) = measured
    assert answer._cache_size() == 1
    assert (run / "robustness.png").read_bytes()[1:4] == b"PNG"
    words = (run / "robustness.md").read_text()
    assert re.search(r"only visual +\| +66\.7 \|", words) and "of 2 mask(s)" in words
    rows = list(csv.DictReader((run / "robustness.csv").read_text().splitlines()))
    assert {row["condition"] for row in rows} > {"10% missing", "without text", "only audio"}


def test_what_cannot_be_measured_is_said(measured, capsys, monkeypatch, tmp_path):
    run, _ = measured
    monkeypatch.setenv("ARIIGCN_CACHE", "")
    file = run.parent / "corpus.npz"
    alone = runs.make(tmp_path / "alone", {"data.path": str(file)}, widths={"text": 3})
    described = json.loads((alone / runner.CORPUS).read_text())
    (alone / runner.CORPUS).write_text(json.dumps(described | {"digest": {}}))  # as runs of before have it
    for name, changed in (
        ("features of visual", lambda was: {"visual": was["visual"] + 1}),
        ("features of audio", lambda was: {"audio": was["audio"] + 1}),
        ("label_names", lambda was: {"label_names": was["label_names"][::-1]}),
    ):
        other = shutil.copytree(run, tmp_path / name)
        config = json.loads((other / "config.json").read_text())
        config["data"]["path"] = str(tmp_path / f"{name}.npz")
        (other / "config.json").write_text(json.dumps(config))
        with np.load(file) as was:
            np.savez(tmp_path / f"{name}.npz", **{**was, **changed(was)})
        assert cli.main(["robustness", str(other)]) == 1
        assert f"has changed since it was trained on ({name})" in capsys.readouterr().err
    for arguments, words in (
        ([run, "--draws=0"], "at least one mask"),
        ([run.parent], "is not the folder of a run"),
        ([alone], "The run has one modality, text"),
    ):
        assert cli.main(["robustness", *map(str, arguments)]) == 1
        assert words in capsys.readouterr().err
