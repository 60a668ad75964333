"""Loading a run's model: the numbers that the run wrote, other corpora, other shapes, and folders that are no run."""

import contextlib
import csv
import dataclasses
import io
import json
import shutil
import subprocess
import sys

import jax
import numpy as np
import pytest
from ml_collections import ConfigDict, FrozenConfigDict

import ariigcn_jax
from ariigcn_jax import data as corpora
from ariigcn_jax.inference import model as inference
from ariigcn_jax.options import base
from ariigcn_jax.runs import session
from ariigcn_jax.types import UserError

pytestmark = pytest.mark.usefixtures("quick_compilation")


def tiny():
    """Two seeds of a small network, all terms off but the classification: they change nothing here."""
    config = base.get_config()
    options = {
        "experiment": "tiny",
        "num_epochs": 2,
        "num_seeds": 2,
        "batch_size": 4,
        "model.hidden": 8,
        "model.contrast_width": 4,
        "model.graph.layers": 1,
        "model.graph.heads": 2,
        "model.graph.past": 2,
        "model.graph.future": 2,
        "model.gan.generator_hidden": 8,
        "model.gan.discriminator_hidden": 8,
        "optimizer.lr": 0.05,
        "diagnostics.every": 0,
        **{f"losses.{term}.weight": 0.0 for term in ("adversarial", "iccl", "imcl")},
    }
    config.update_from_flattened_dict(options)
    config.data.generate = dict(dialogues=24, utterances=(2, 6), classes=3, valid=0.3)
    return config.lock()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A finished run, whose training also learnt ratings."""
    path = tmp_path_factory.mktemp("runs") / "tiny"
    corpus = corpus_of(tiny())
    corpus = dataclasses.replace(corpus, ratings=np.ones((len(corpus), 2), np.float32))
    with contextlib.redirect_stdout(io.StringIO()), pytest.MonkeyPatch.context() as patch:
        patch.setattr(session, "load", lambda *_, **__: corpus)
        session.execute(tiny(), str(path))
    assert json.loads((path / "metrics.jsonl").read_text().splitlines()[-1])["train"]["ratings"][0] < 1
    return path


@pytest.fixture(scope="module")
def model(folder):
    return ariigcn_jax.load(folder)


@pytest.fixture
def copy(folder, tmp_path):
    return shutil.copytree(folder, tmp_path / "copy")


def corpus_of(config):
    return corpora.generate(**config.data.generate.to_dict())


def probabilities(model, corpus):
    result = np.full((len(corpus), len(model.label_names)), np.nan)
    for batch in model.batches(model.prepare(corpus)):
        real = batch.utterance >= 0
        result[batch.utterance[real]] = np.asarray(jax.nn.softmax(model.outputs(batch).logits / model.temperature))[
            real
        ]
    return result


@pytest.mark.parametrize("seed", [0, 1])
def test_gives_what_the_run_predicted(folder, seed):
    model = ariigcn_jax.load(folder, seed=seed)
    with (folder / "predictions" / f"seed_{seed}.csv").open() as file:
        rows = list(csv.DictReader(file))
    written = [[float(row[f"p_{name}"]) for name in model.label_names] for row in rows]
    np.testing.assert_allclose(probabilities(model, corpus_of(tiny())), written, atol=2e-6)
    results = json.loads((folder / "results.json").read_text())
    assert model.temperature == results["temperature"][seed] != 1
    assert (model.seed, model.epoch, model.finished) == (seed, results["selected_epochs"][seed], True)


def test_the_seed_is_the_one_with_the_best_validation_score(folder, model):
    scores = json.loads((folder / "results.json").read_text())["valid"]["weighted_f1"]["per_seed"]
    assert scores[0] != scores[1]
    assert model.seed == int(np.argmax(scores))


def test_order_of_modalities_is_that_of_training(model):
    assert list(model.widths.items()) == [("text", 48), ("audio", 24), ("visual", 16)]  # sorting would lose it


def test_rows_come_in_few_lengths_and_padding_changes_nothing(model):
    corpus = model.prepare(corpora.generate(dialogues=40, utterances=(1, 30), classes=3))
    alone = {}
    shapes = set()
    for d in range(len(corpus.dialogue_ids)):
        one = select(corpus, d)
        (batch,) = model.batches(one)
        shapes.add(batch.dialogue.shape)
        alone[d] = np.asarray(model.outputs(batch).logits)[0, : len(one)]
    assert shapes == {(1, 16), (1, 24), (1, 32)}
    for batch in model.batches(corpus):
        logits = np.asarray(model.outputs(batch).logits)
        for place, u in np.ndenumerate(batch.utterance):
            if u >= 0:
                d = corpus.dialogue[u]
                np.testing.assert_allclose(logits[place], alone[d][u - np.argmax(corpus.dialogue == d)], atol=1e-5)


def select(corpus, d):
    """One dialogue of a corpus."""
    rows = corpus.dialogue == d
    return dataclasses.replace(
        corpus,
        features={m: x[rows] for m, x in corpus.features.items()},
        present={m: x[rows] for m, x in corpus.present.items()},
        dialogue=np.zeros(rows.sum(), np.int32),
        speaker=corpus.speaker[rows],
        label=corpus.label[rows],
        split=corpus.split[rows],
        dialogue_ids=corpus.dialogue_ids[d : d + 1],
        utterance_ids=tuple(np.array(corpus.utterance_ids)[rows]),
        speaker_names=None,
    )


def test_missing_and_unknown_modalities_are_said_and_left_out(model):
    corpus = corpus_of(tiny())
    other = dataclasses.replace(
        corpus,
        features={"smell": np.ones((len(corpus), 2), np.float32), "text": corpus.features["text"]},
        present={"smell": np.ones(len(corpus), bool), "text": corpus.present["text"]},
    )
    prepared = model.prepare(other)
    assert prepared.notes == (
        "smell: not used, the model was not trained on it",
        "audio, visual: missing, the model predicts from the others",
    )
    assert prepared.modalities == ("text", "audio", "visual")
    assert not prepared.present["audio"].any() and not prepared.features["audio"].any()
    nobody = np.zeros(len(corpus), bool)
    without = dataclasses.replace(corpus, present={**corpus.present, "audio": nobody, "visual": nobody})
    np.testing.assert_allclose(probabilities(model, other), probabilities(model, without), atol=1e-6)
    with pytest.raises(UserError, match="knows only text, audio, visual"):
        model.prepare(dataclasses.replace(other, features={"smell": other.features["smell"]}))


def test_widths_are_said_as_a_user_gives_them(model):
    """Not with the copy that is appended, and a modality that some utterances lack is a note."""
    config = ConfigDict(model.config)
    config.data.speaker_normalised = ("audio",)
    copied = dataclasses.replace(model, config=FrozenConfigDict(config), widths={"text": 2, "audio": 4})
    rows = [{"features": {"text": [1.0, 2.0]}}, {"features": {"audio": [1.0, 2.0, 3.0]}}]
    with pytest.raises(UserError, match=r"audio has 3 features an utterance, but this model was trained on 2\."):
        copied(rows)
    full = corpus_of(tiny())
    present = {**full.present, "text": np.arange(len(full)) > 1}
    notes = model.prepare(dataclasses.replace(full, present=present)).notes
    assert f"text: missing in 2 of {len(full)} utterances" in notes


def test_labels_are_matched_by_name(model):
    corpus = corpus_of(tiny())
    names = ("emotion_2", "boredom", "emotion_0")
    prepared = model.prepare(dataclasses.replace(corpus, label_names=names))
    expected = {0: 2, 1: -1, 2: 0}
    assert [expected[c] for c in corpus.label] == prepared.label.tolist()
    assert prepared.label_names == model.label_names
    assert prepared.notes == ("labels boredom: not among the model's, left out of comparisons",)


def test_a_run_without_checkpoint_is_refused(copy):
    shutil.rmtree(copy / "checkpoints")
    with pytest.raises(UserError, match="has no checkpoint yet"):
        ariigcn_jax.load(copy)


def test_a_run_under_way_is_used_as_it_stands(copy):
    (copy / "results.json").unlink()
    (copy / "checkpoints" / "9.orbax-checkpoint-tmp").mkdir()
    before = sorted(copy.rglob("*"))
    assert not ariigcn_jax.load(copy).finished
    assert sorted(copy.rglob("*")) == before


def test_a_damaged_checkpoint_is_named(copy):
    shutil.rmtree(copy / "checkpoints" / "2" / "best")
    with pytest.raises(UserError, match=r"no checkpoint there is intact \(2: best/.* is missing\)"):
        ariigcn_jax.load(copy)


def change(file, function):
    content = json.loads(file.read_text())
    function(content)
    file.write_text(json.dumps(content))


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda c: c["model"].pop("hidden"), "the options in its config.json do not fit this version .*hidden"),
        (lambda c: c["model"].update(hidden=16), "its parameters differ"),
    ],
)
def test_a_config_of_another_run_is_refused(copy, function, message):
    change(copy / "config.json", function)
    with pytest.raises(UserError, match=message):
        ariigcn_jax.load(copy)


def test_a_seed_that_was_not_run_is_refused(folder):
    with pytest.raises(UserError, match="has the seeds 0, 1, not 5"):
        ariigcn_jax.load(folder, seed=5)


def test_temperature_of_the_seed_is_taken(copy):
    change(copy / "results.json", lambda c: c.update(temperature=[1.5, 2.5]))
    assert [ariigcn_jax.load(copy, seed=s).temperature for s in (0, 1)] == [1.5, 2.5]
    change(copy / "results.json", lambda c: c.update(temperature=0.5))
    assert ariigcn_jax.load(copy, seed=1).temperature == 0.5


def test_importing_the_package_does_not_import_jax():
    code = "import sys, ariigcn_jax; assert 'jax' not in sys.modules; ariigcn_jax.UserError; dir(ariigcn_jax)"
    subprocess.run([sys.executable, "-c", code], check=True)
    assert ariigcn_jax.TrainedModel is inference.TrainedModel
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = ariigcn_jax.nothing
