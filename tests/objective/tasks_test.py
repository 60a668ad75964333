"""Tasks besides classes: their metrics by hand, what files hold, and a run of each."""

import contextlib
import csv
import io
import json

import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from sklearn.metrics import f1_score

import ariigcn_jax
from ariigcn_jax import cli
from ariigcn_jax import data as corpora
from ariigcn_jax.commands import predict
from ariigcn_jax.data import prepare as preparation
from ariigcn_jax.data.readers import folder
from ariigcn_jax.objective import losses, metrics, tasks
from ariigcn_jax.options import ablations, base
from ariigcn_jax.runs import session
from ariigcn_jax.training import checks
from ariigcn_jax.types import UNLABELED, Description, UserError
from tests.support.layout_files import conversations, dump, mmsa

pytestmark = pytest.mark.usefixtures("quick_compilation")
NAN = float("nan")
ELSEWHERE = "of data.task=multilabel that the model knows, left out of comparisons"


# --- Metrics ----------------------------------------------------------------------------------------------------------


def test_sentiment_scores_against_other_implementations():
    random = np.random.default_rng(0)
    truth = np.round(random.uniform(-3, 3, 200) * 3) / 3
    truth[:30] = 0
    guess = truth + random.normal(size=200)
    found = metrics.sentiment_scores(guess, truth)
    assert found["mae"] == pytest.approx(sum(abs(g - t) for g, t in zip(guess, truth, strict=True)) / 200)
    assert found["correlation"] == pytest.approx(scipy.stats.pearsonr(guess, truth).statistic)
    seven = [round(max(-3, min(3, g))) == round(t) for g, t in zip(guess, truth, strict=True)]
    assert found["accuracy_7"] == pytest.approx(np.mean(seven))
    some = truth != 0
    assert found["accuracy_2"] == pytest.approx(
        np.mean([(g > 0) == (t > 0) for g, t in zip(guess[some], truth[some], strict=True)])
    )
    assert found["f1_2"] == pytest.approx(f1_score(truth[some] > 0, guess[some] > 0, average="weighted"))
    assert found["f1_2_with_zero"] == pytest.approx(f1_score(truth >= 0, guess >= 0, average="weighted"))
    assert found["accuracy_2_with_zero"] != found["accuracy_2"]


def test_sentiment_scores_by_hand():
    found = metrics.sentiment_scores(np.array([2.6, -0.2, 0.4, -4.0]), np.array([1.6, 0.0, -1.0, -3.0]))
    assert found["mae"] == pytest.approx((1 + 0.2 + 1.4 + 1) / 4)
    assert (found["accuracy_7"], found["accuracy_5"]) == (0.5, 0.75)  # 3 is not 2, but both are 2 when cut there
    assert (found["accuracy_2"], found["accuracy_2_with_zero"]) == (2 / 3, 0.5)
    assert metrics.sentiment_scores(np.ones(3), np.arange(3.0))["correlation"] == 0
    assert set(metrics.sentiment_scores(np.zeros(0), np.zeros(0)).values()) == {0.0}


def test_scores_of_labels_against_another_implementation():
    random = np.random.default_rng(1)
    truth, p = random.integers(0, 2, (50, 3)), random.random((50, 3))
    found, guess = metrics.multilabel_scores(p, truth), p > 0.5
    for average in ("micro", "macro", "weighted"):
        assert found[f"{average}_f1"] == pytest.approx(f1_score(truth, guess, average=average))
    assert found["hamming_accuracy"] == pytest.approx((truth == guess).mean())
    assert found["exact_accuracy"] == pytest.approx(
        np.mean([list(t) == list(g) for t, g in zip(truth, guess, strict=True)])
    )
    counts = metrics.confusion_by_label(jnp.asarray(truth), jnp.asarray(guess), jnp.arange(50) < 40)
    assert counts.sum(axis=(1, 2)).tolist() == [40] * 3
    by_label = metrics.scores_of_labels(counts)
    np.testing.assert_allclose(by_label["class_f1"], f1_score(truth[:40], guess[:40], average=None))
    np.testing.assert_array_equal(by_label["support"], truth[:40].sum(axis=0))


def test_losses_by_hand():
    x, y = jnp.array([[0.5, -3.0]]), jnp.array([[0.0, 1.0]])
    assert losses.l1(x, y)[0] == pytest.approx((0.5 + 4) / 2)
    assert losses.mse(x, y)[0] == pytest.approx((0.25 + 16) / 2)
    assert losses.huber(x, y, delta=2.0)[0] == pytest.approx((0.125 + 2 * (4 - 1)) / 2)
    expected = [-np.log(1 - 1 / (1 + np.exp(-0.5))), -np.log(1 / (1 + np.exp(3)))]
    assert losses.bce(x, y)[0] == pytest.approx(np.mean(expected), rel=1e-5)


@pytest.mark.parametrize("name", tasks.TASKS)
def test_answers_can_be_read_back(name):
    task, logits = tasks.get(name), jnp.array([[0.5, -3.0, 2.0], [9.0, 8.0, -1.0]])
    answers = task.decode(logits)
    np.testing.assert_allclose(task.decode(task.encode(answers)), answers, rtol=1e-5)
    np.testing.assert_array_equal(jnp.isfinite(task.encode(jnp.array([0.0, 1.0]))), True)


# --- Files ------------------------------------------------------------------------------------------------------------


def archive(tmp_path, **fields):
    """A file of four dialogues of two utterances."""
    path = tmp_path / "corpus.npz"
    text = np.random.default_rng(0).normal(size=(8, 3)).astype(np.float32)
    split = np.repeat(["train", "train", "valid", "test"], 2)
    np.savez(path, dialogue_id=np.repeat(list("abcd"), 2), text=text, split=split, **fields)
    return path


def test_scores_and_their_levels(tmp_path):
    path = archive(tmp_path, score=[-3, -2.5, 0.4, NAN, 1.5, 3, 2.2, -0.6])
    corpus = corpora.load(path, label="score", task="regression")
    assert corpus.label.tolist() == [0, 1, 3, UNLABELED, 5, 6, 5, 2]  # halves to the even one, as numpy rounds
    np.testing.assert_allclose(corpus.target[:, 0], [-3, -2.5, 0.4, 0, 1.5, 3, 2.2, -0.6], rtol=1e-6)
    assert (corpus.output_names, corpus.label_names) == (("score",), ("-3", "-2", "-1", "0", "1", "2", "3"))


def test_an_utterance_s_class_is_its_rarest_label(tmp_path):
    several = np.array([[1, 0], [1, 1], [1, 0], [0, 0], [1, 1], [1, 0], [0, 1], [NAN, NAN]])
    path = archive(tmp_path, emotions=several, emotions_names=["joy", "fear"])
    corpus = corpora.load(path, label="emotions", task="multilabel")
    assert [corpus.label_names[c] if c >= 0 else None for c in corpus.label] == [
        *("joy", "fear", "joy", "none", "fear", "joy", "fear"),
        None,
    ]
    np.testing.assert_array_equal(corpus.target, np.nan_to_num(several))
    assert corpus.output_names == ("joy", "fear")


@pytest.mark.parametrize(
    ("task", "fields", "words"),
    [
        ("regression", {"label": [0.0, 7.25] * 4}, r"`label`: has the value 7\.25\. .*\[-3, 3\].*rescale"),
        ("regression", {"label": [0, 1] * 4, "label_names": ["no", "yes"]}, "holds classes, which `label_names` names"),
        ("multilabel", {"label": [0, 1] * 4}, r"is int64 \[8\]\. data\.task=multilabel needs \[utterances, labels\]"),
        ("multilabel", {"label": [[0.5, 1]] * 8}, r"has the value 0\.5.*intensities become labels by `> 0`"),
        ("multilabel", {"label": [[0, 1]] * 8, "label_names": ["a"]}, "`label_names`: are 1 for 2 columns"),
        ("classification", {"label": [0.5, 1] * 4}, r"scores are learnt with data\.task=regression"),
    ],
)
def test_what_does_not_fit_the_task_is_refused(tmp_path, task, fields, words):
    with pytest.raises(UserError, match=words):
        corpora.load(archive(tmp_path, **fields), task=task)


@pytest.mark.parametrize("name", ["", " ", " a", "a\t", "a|b", "a;b", ";"])
def test_names_of_labels_that_could_not_be_read_again_are_refused(tmp_path, name):
    several = np.array([[0, 1]] * 8)
    with pytest.raises(UserError, match=r"`label_names`: has the name .*Labels are written with \| between"):
        corpora.load(archive(tmp_path, label=several, label_names=np.array(["sad", name])), task="multilabel")
    corpus = corpora.load(archive(tmp_path, label=several, label_names=["sad", "x (y), z"]), task="multilabel")
    made = folder.write(corpus, tmp_path / "folder")
    assert corpora.load(made, task="multilabel").target_names == ("sad", "x (y), z")
    schema = made / "schema.json"
    schema.write_text(schema.read_text().replace("x (y), z", name.replace("\t", "\\t")))
    with pytest.raises(UserError, match=r"schema\.json: \"targets\""):
        corpora.load(made, task="multilabel")


def test_scores_of_mmsa_and_of_tables_and_what_convert_keeps(tmp_path, capsys):
    path = dump(tmp_path / "mosi.pkl", mmsa(conversations(classes=3)))
    read = corpora.load(path, label="sentiment_score", task="regression")
    assert cli.main(["convert", str(path), str(tmp_path / "folder")]) == 0
    again = corpora.load(tmp_path / "folder", label="sentiment_score", task="regression")
    np.testing.assert_array_equal(again.target, read.target)
    np.testing.assert_array_equal(again.label, read.label)
    (tmp_path / "t.csv").write_text("dialogue,mood,text_0,text_1\na,1,.1,.2\na,,.1,.3\nb,-1.5,.2,.2\nc,0,.5,.1\n")
    table = corpora.load(tmp_path / "t.csv", label="mood", task="regression", valid_fraction=0, test_fraction=0)
    assert (table.target[:, 0].tolist(), (table.label >= 0).tolist()) == ([1, 0, -1.5, 0], [True, False, True, True])


def test_labels_of_tables_and_what_convert_keeps(tmp_path, capsys):
    rows = "dialogue,label,text_0,text_1\na,joy|fear,.1,.2\na,,.1,.3\nb,none,.2,.2\nc, fear ,.5,.1\n"
    (tmp_path / "t.csv").write_text(rows)
    options = ["--task=multilabel", "--valid-fraction=0", "--test-fraction=0"]
    assert cli.main(["convert", str(tmp_path / "t.csv"), str(tmp_path / "folder"), *options]) == 0
    assert "2 labels" in (said := capsys.readouterr().out) and "own.py:task_multilabel" in said
    for path in (tmp_path / "t.csv", tmp_path / "folder"):
        corpus = corpora.load(path, task="multilabel", valid_fraction=0, test_fraction=0)
        assert corpus.output_names == ("fear", "joy")
        assert corpus.target.tolist() == [[1, 1], [0, 0], [0, 0], [1, 0]]
        assert (corpus.label >= 0).tolist() == [True, False, True, True]


@pytest.mark.parametrize(
    ("names", "target", "notes"),
    [
        (("joy", "fear"), [[0, 1, 0], [0, 1, 1]], []),
        (("joy", "anger"), [[0, 1, 0], [0, 1, 0]], ["labels anger: not among the model's, left out of comparisons"]),
        (("awe", "anger"), None, [f"labels: not those {ELSEWHERE}"]),
    ],
)
def test_labels_of_another_file_are_matched_by_name(tmp_path, names, target, notes):
    several = np.array([[1, 0], [1, 1]] * 4)
    corpus = corpora.load(archive(tmp_path, label=several, label_names=names), task="multilabel")
    known = ("calm", "joy", "fear")
    matched, label, found = preparation._match_targets(corpus, "multilabel", known, corpus.label)
    assert matched.target_names == known and found == notes
    np.testing.assert_array_equal(label >= 0, target is not None)
    np.testing.assert_array_equal(matched.target, np.zeros((8, 3)) if target is None else target * 4)


@pytest.mark.parametrize("kind", [float, np.int8])
def test_convert_keeps_labels_beside_classes(tmp_path, capsys, kind):
    several = np.array([[1, 0], [1, 1], [0, 0], [0, 1]] * 2, kind)
    if kind is float:
        several[2] = NAN
    fields = {"emotions": several, "emotions_names": ["joy", "fear"], "text_names": ["x", "y", "z"]}
    path = archive(tmp_path, label=[0, 1] * 4, turn=[1, 0] * 4, **fields)
    assert cli.main(["convert", str(path), str(tmp_path / "folder")]) == 0, capsys.readouterr().err
    assert corpora.load(tmp_path / "folder").label.tolist() == [1, 0] * 4
    read, again = (corpora.load(p, label="emotions", task="multilabel") for p in (path, tmp_path / "folder"))
    assert again.target_names == ("joy", "fear") and again.target.any()
    np.testing.assert_array_equal(again.target, read.target)
    np.testing.assert_array_equal(again.label, read.label)
    assert cli.main(["convert", str(tmp_path / "folder"), str(tmp_path / "second")]) == 0
    assert (tmp_path / "second" / "utterances.csv").read_text() == (tmp_path / "folder" / "utterances.csv").read_text()


# --- Options ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"data.task": "regresion"}, "data.task='regresion' is no task. Did you mean 'regression'"),
        (
            {"data.task": "regression"},
            r"emotion\.fn=cross_entropy does not fit .*l1 or mse or huber.*own\.py:task_regr",
        ),
        ({"losses.unimodal.fn": "bce"}, "unimodal.fn=bce does not fit data.task=classification"),
        (ablations.options("task_regression") | {"eval.select": "accuracy"}, "no metric of data.task=regression.*mae"),
    ],
)
def test_options_of_another_task_are_refused(changes, words):
    config = base.get_config()
    config.update_from_flattened_dict(changes)
    with pytest.raises(UserError, match=words):
        checks.check_options(config, Description((("text", 3),), outputs=3, classes=3))


# --- Runs -------------------------------------------------------------------------------------------------------------


def tiny(name):
    config = base.get_config()
    options = {
        "experiment": name,
        "members": 2,  # so that counts are those of averaged answers
        "num_epochs": 3,
        "batch_size": 6,
        "model.hidden": 8,
        "model.contrast_width": 4,
        "model.graph.layers": 0,  # what a task changes lies behind the graph, which takes long to compile
        "losses.adversarial.weight": 0.0,
        "losses.imcl.weight": 0.0,
        "optimizer.lr": 0.05,
        "eval.report_best_test": True,
        "diagnostics.every": 0,
    }
    config.update_from_flattened_dict(options | ablations.options(name))
    widths = {"text": 5, "audio": 3}
    # All splits are of one shape, so that evaluation is compiled once and read from the cache for the others.
    thirds = dict(dialogues=36, utterances=(4, 4), valid=1 / 3, test=1 / 3)
    config.data.generate = dict(classes=7, widths=widths, **thirds)
    return config.lock()


def predictions(folder):
    return list(csv.DictReader(io.StringIO((folder / "predictions" / "seed_0.csv").read_text())))


@pytest.fixture(scope="module", params=["regression", "multilabel"])
def finished(request, tmp_path_factory, quick_compilation):
    """Task, config, corpus, folder and result of a run of each."""
    config, folder = tiny(f"task_{request.param}"), tmp_path_factory.mktemp("runs") / request.param
    with contextlib.redirect_stdout(io.StringIO()):
        content = session.execute(config, str(folder))
        return request.param, config, session.load(config), folder, content


def test_epoch_is_chosen_by_the_task_s_metric(finished):
    task, config, _, folder, content = finished
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    best = min if task == "regression" else max
    scores = [row["valid"][config.eval.select] for row in rows]
    assert content["selected_epochs"] == [scores.index(best(scores)) + 1]
    assert content["valid"][config.eval.select]["mean"] == pytest.approx(best(scores), rel=1e-5)
    at_best = best(row["test"][config.eval.select] for row in rows)
    assert content["best_test_epoch"]["test"][config.eval.select]["mean"] == at_best
    assert "mean absolute error" in (folder / "results.md").read_text() or task == "multilabel"
    pictures = {"training_curves.png", "confusion_matrix.png"} | (
        {"reliability.png"} if task == "multilabel" else set()
    )
    assert {p.name for p in folder.glob("*.png")} == pictures


def test_scores_are_those_of_the_written_predictions(finished):
    task, _, corpus, folder, content = finished
    rows = predictions(folder)
    test = [row for row in rows if row["split"] == "test"]
    assert len(rows) == len(corpus) and len(content["temperature"]) == 1
    if task == "regression":
        found = metrics.sentiment_scores(*np.array([[row["prediction"], row["label"]] for row in test], float).T)
        assert "calibration_error" not in content and content["temperature"] == [1]
    else:
        sets = [[set(row[name].split("|")) for row in test] for name in ("prediction", "label")]
        found = metrics.multilabel_scores(*(np.array([[n in s for n in corpus.target_names] for s in x]) for x in sets))
        assert found["micro_f1"] and content["calibration_error"]["valid"]["after"]["mean"] < 0.5
    assert found.keys() == tasks.get(task).metrics.keys()
    assert found == pytest.approx({name: content["test"][name]["mean"] for name in found}, abs=1e-5)


def test_counts_are_those_of_the_written_predictions(finished):
    task, _, corpus, folder, content = finished
    test = [row for row in predictions(folder) if row["split"] == "test"]
    counts = np.zeros(np.shape(content["test"]["confusion"][0]), int)
    for row in test:
        if task == "regression":
            level = [round(min(max(float(row[name]), -3), 3)) + 3 for name in ("label", "prediction")]
            counts[level[0], level[1]] += 1
        else:
            sets = [row[name].split("|") for name in ("label", "prediction")]
            for o, name in enumerate(corpus.target_names):
                counts[o, int(name in sets[0]), int(name in sets[1])] += 1
    assert content["test"]["confusion"][0] == counts.tolist()


def test_trained_model_answers_in_the_task_s_terms(finished):
    task, _, corpus, folder, _ = finished
    model = ariigcn_jax.load(folder)
    prediction = model(corpora.prepare.dialogues(corpus, np.arange(len(corpus.dialogue_ids)) < 2))
    first = prediction[0]
    written = predictions(folder)[0]
    assert written["label"] == first.label
    if task == "regression":
        assert first.score == pytest.approx(float(first.emotion), rel=1e-5) and not first.probabilities
        assert float(written["prediction"]) == pytest.approx(first.score, rel=1e-4, abs=1e-5)
        assert f"  {first.score:.3f} " in predict.table(prediction)
    else:
        assert set(first.probabilities) == set(corpus.target_names) and first.score is None
        assert written["prediction"] == first.emotion
    assert predict.table(prediction) and predict.comma_separated(prediction) and predict.jsonl(prediction)
    features = {m: x[0].tolist() for m, x in corpus.features.items()}
    (result,) = model.stream().push({"speaker": corpus.speaker_names[0], "features": features})
    assert tasks.get(task).brief(result.emotion) == tasks.get(task).brief(first.emotion)


def test_exported_model_answers_in_the_task_s_terms(finished, tmp_path):
    pytest.importorskip("safetensors", reason="safetensors is not installed (extra: export)")
    from ariigcn_jax.inference import export, standalone

    task, _, corpus, folder, _ = finished
    model = ariigcn_jax.load(folder)
    answer = standalone.load(export.write(model, tmp_path / "out", platforms=("cpu",)))
    utterances = [{"speaker": 0, "features": {m: x[u] for m, x in corpus.features.items()}} for u in (0, 1)]
    (first, _), (expected, _) = answer(utterances), model([{**u, "speaker": "0"} for u in utterances])
    if task == "regression":
        assert first["score"] == pytest.approx(expected.score, abs=1e-4)
    else:
        assert first["probabilities"] == pytest.approx(expected.probabilities, abs=1e-5)
    assert "none" not in (tmp_path / "out" / "README.md").read_text().split("## Use")[0]


# --- Context without labels -------------------------------------------------------------------------------------------


def test_a_punchline_alone_is_labelled():
    from experiments import urfunny

    corpus = session.load(urfunny.get_config("generated"))
    last = np.diff(corpus.dialogue, append=-1) != 0
    np.testing.assert_array_equal(corpus.label >= 0, last)
    assert corpus.label_names == ("not_humorous", "humorous")
