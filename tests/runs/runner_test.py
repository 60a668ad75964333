"""A run on the host's side: its files, the choice of the epoch, seeds, the untouched test split, and divergence."""

import contextlib
import csv
import dataclasses
import io
import json
import shutil
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
import pytest

import ariigcn_jax
from ariigcn_jax.commands.finished import as_read
from ariigcn_jax.inference import model_card
from ariigcn_jax.options import base
from ariigcn_jax.runs import outcome, results, runner, session
from ariigcn_jax.runs.workdir import WorkDir
from ariigcn_jax.training import build, seeds, step
from ariigcn_jax.training import epoch as epochs
from ariigcn_jax.types import TrainState, UserError
from tests.support.runs import assert_same_run

EPOCHS = 5
TERMS = {"total", "emotion", "unimodal", "adversarial", "iccl", "imcl", "discriminator"}
LIGHT = {  # what takes long to compile is left out, and with it nothing that the host does
    "model.graph.layers": 0,
    **{f"losses.{slot}.weight": 0.0 for slot in ("adversarial", "iccl", "imcl")},
    "diagnostics.every": 0,
}
BOTH = LIGHT | {"num_seeds": 2, "eval.report_best_test": True}


pytestmark = pytest.mark.usefixtures("quick_compilation")


def tiny(changes=()):
    """All terms and dropout on a few short conversations; a learning rate that makes the scores jump about."""
    config = base.get_config()
    options = {
        "experiment": "tiny",
        "num_epochs": EPOCHS,
        "batch_size": 4,
        "model.hidden": 8,
        "model.contrast_width": 4,
        "model.speakers": 2,
        "model.graph.layers": 1,
        "model.graph.heads": 2,
        "model.graph.past": 2,
        "model.graph.future": 2,
        "model.graph.block": 0,
        "model.gan.generator_hidden": 8,
        "model.gan.discriminator_hidden": 8,
        "optimizer.lr": 0.05,
        "optimizer.warmup_epochs": 0.0,
        "checkpoint.every_seconds": 0.0,
    }
    config.update_from_flattened_dict(options | dict(changes))
    widths = {"text": 5, "audio": 3}
    config.data.generate = dict(dialogues=24, utterances=(2, 6), classes=3, widths=widths, valid=0.3, noise=2.0)
    return config.lock()


def execute(folder, changes=()):
    """The result of a run and what it printed."""
    with contextlib.redirect_stdout(io.StringIO()) as out:
        content = session.execute(tiny(changes), str(folder))
    return content, out.getvalue()


def rows_of(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def stored(folder, item):
    with ocp.StandardCheckpointer() as reader:
        return reader.restore(folder / "checkpoints" / str(EPOCHS) / item)


def assert_same_bits(a, b):
    jax.tree.map(np.testing.assert_array_equal, a, b)


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """Folder, result and output of seed 0, and the splits that were evaluated, in order."""
    folder, splits = tmp_path_factory.mktemp("runs") / "alone", []
    evaluation = build.Experiment.evaluation

    def noted(experiment, split, params):
        compiled = evaluation(experiment, split, params)

        def evaluate(*arguments):
            splits.append(split)
            return compiled(*arguments)

        return evaluate

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(build.Experiment, "evaluation", noted)
        content, output = execute(folder)
    return folder, content, output, splits


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    """Folder, result and output of seeds 0 and 1 together, with the best test epoch reported too."""
    folder = tmp_path_factory.mktemp("runs") / "both"
    return folder, *execute(folder, BOTH)


# --- Files ------------------------------------------------------------------------------------------------------------


def test_folder_holds_config_environment_and_log(alone):
    folder, *_ = alone
    assert json.loads((folder / "config.json").read_text())["model"]["hidden"] == 8
    assert json.loads((folder / "environment.json").read_text())["versions"]["jax"] == jax.__version__
    rows = rows_of(folder)
    assert [row["epoch"] for row in rows] == [1, 2, 3, 4, 5]
    for row in rows:
        assert row["train"].keys() >= TERMS
        assert row["valid"].keys() >= {"weighted_f1", "accuracy", "macro_f1", "confusion"}
        assert row["seconds"] > 0
        assert row["diagnostics"]["gradient_norm"].keys() == TERMS - {"total", "discriminator"}
        total = sum(tiny().losses[name].weight * row["train"][name] for name in TERMS - {"total", "discriminator"})
        assert row["train"]["total"] == pytest.approx(total, rel=1e-5)


def test_folder_holds_the_newest_checkpoints(alone):
    names = {p.name for p in (alone[0] / "checkpoints").iterdir() if p.is_dir()}
    assert names == {str(EPOCHS - 1), str(EPOCHS)}


def test_pictures_and_curves_are_there(alone):
    for name in ("training_curves.png", "confusion_matrix.png", "reliability.png"):
        assert (alone[0] / name).read_bytes().startswith(b"\x89PNG\r\n\x1a\n")
    (events,) = (alone[0] / "tensorboard").iterdir()
    assert b"train/imcl" in events.read_bytes()


def test_result_is_what_results_json_says(alone):
    folder, content, output, _ = alone
    assert json.loads((folder / "results.json").read_text()) == json.loads(json.dumps(content))
    summary = content["test"]["weighted_f1"]
    assert summary.keys() == {"mean", "std", "per_seed"}
    assert summary["per_seed"] == [summary["mean"]]
    assert content["seeds"] == [0]
    assert content["seconds"]["total"] > content["seconds"]["train"] > 0
    table = (folder / "results.md").read_text()
    assert table == results.table(content)
    assert table in output
    assert str(folder) in output


def test_speed_counts_nodes(alone):
    _, content, *_ = alone
    train_split = (session.load(tiny()).split == "train").sum()
    speed, seconds = content["speed"], content["seconds"]
    assert speed["nodes_per_epoch"] == 2 * train_split <= speed["slots_per_epoch"]
    trained = EPOCHS * speed["nodes_per_epoch"]
    assert speed["nodes_per_second"] * seconds["train"] == pytest.approx(trained)
    assert 0 <= speed["share_outside_compiled"] < 1


def test_predictions_name_every_utterance_once_and_give_the_scores(alone):
    folder, content, *_ = alone
    corpus = session.load(tiny())
    with (folder / "predictions" / "seed_0.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["utterance_id"] for row in rows] == list(corpus.utterance_ids)
    assert [row["split"] for row in rows] == corpus.split.tolist()
    assert [row["label"] for row in rows] == [corpus.label_names[c] for c in corpus.label]
    for row in rows:
        p = {name: float(row[f"p_{name}"]) for name in corpus.label_names}
        assert sum(p.values()) == pytest.approx(1, abs=1e-5)
        assert p[row["prediction"]] == max(p.values())
    for split in ("valid", "test"):
        hits = [row["label"] == row["prediction"] for row in rows if row["split"] == split]
        assert content[split]["accuracy"]["mean"] == pytest.approx(np.mean(hits), rel=1e-6)


# --- The choice of the epoch ------------------------------------------------------------------------------------------


def test_selected_epoch_is_the_first_best_on_validation(both):
    folder, content, _ = both
    rows = rows_of(folder)
    scores = np.array([row["valid"]["weighted_f1"] for row in rows])
    assert content["selected_epochs"] == (scores.argmax(axis=0) + 1).tolist()
    for seed, epoch in enumerate(content["selected_epochs"]):
        assert content["valid"]["weighted_f1"]["per_seed"][seed] == pytest.approx(scores[epoch - 1, seed], rel=1e-6)
        assert content["valid"]["confusion"][seed] == rows[epoch - 1]["valid"]["confusion"][seed]
        assert content["test"]["confusion"][seed] == rows[epoch - 1]["test"]["confusion"][seed]


ONE_DEVICE = build.Experiment(
    init=None,
    epoch=None,
    evaluate={},
    score=None,
    count=None,
    diagnose=None,
    step=None,
    data={},
    layout={},
    index={},
    steps=1,
    num_devices=1,
)


def states_with(*values):
    """[S] states whose parameters are the values."""
    one, keys = jnp.zeros(len(values), jnp.int32), jax.random.split(jax.random.key(0), len(values))
    return TrainState(one, keys, {"w": jnp.array(values, jnp.float32)[:, None]}, {}, {}, {}, {})


@pytest.mark.parametrize("kind", [seeds.Separate, seeds.Together])
def test_earliest_of_equals_is_kept_for_each_seed(kind):
    both = kind("", (0, 1), ONE_DEVICE)
    progress = runner.Progress(
        0, None, both.place({"w": np.zeros((2, 1), np.float32)}), np.zeros(2, np.int32), np.full(2, -1.0, np.float32)
    )
    for epoch, scores in enumerate([[0.0, 0.3], [0.7, 0.3], [0.7, float("nan")], [0.4, 0.8]], start=1):
        progress.states = both.place(states_with(epoch, -epoch))
        progress.choose(both, epoch, np.array(scores, np.float64))  # 0.7 is more than its float32
    assert progress.best_epoch.tolist() == [2, 4]
    assert both.host(progress.best)["w"].tolist() == [[2], [-4]]


def test_members_of_a_seed_are_kept_together():
    pairs = seeds.Members(seeds.Separate("", range(4), ONE_DEVICE), range(2))
    new, old = (pairs.weights(pairs.place(states_with(*values))) for values in ((1, 2, 3, 4), (5, 6, 7, 8)))
    assert pairs.members == 2
    assert pairs.host(pairs.keep(np.array([False, True]), new, old))["w"].tolist() == [[5], [6], [3], [4]]


@pytest.mark.parametrize(("first", "chosen"), [(1, 2), (2, 2), (3, 4), (4, 4), (9, 4)])
def test_no_epoch_before_the_first_allowed_one_is_chosen(first, chosen):
    alone = seeds.Separate("sequence", [0], ONE_DEVICE)
    states = [alone.place(states_with(value)) for value in range(5)]
    progress = runner.Progress(0, states[0], alone.weights(states[0]), np.zeros(1, np.int32), np.array([-1.0]))
    for epoch, score in enumerate([0.5, 0.9, 0.3, 0.4], start=1):
        progress.states = states[epoch]
        progress.choose(alone, epoch, np.array([score]), min(first, 4))
        assert progress.best_epoch[0] >= min(epoch, first, 4)  # a run that is stopped has something trained
    assert (progress.best_epoch[0], float(progress.best[0]["w"][0])) == (chosen, chosen)


def test_test_split_is_read_once_at_the_end(alone):
    folder, content, _, splits = alone
    before_the_end = EPOCHS + 1  # once before the first epoch, outside the clock
    assert splits[:before_the_end] == ["valid"] * before_the_end
    assert sorted(splits[before_the_end:]) == ["test", "train", "valid"]
    assert not any("test" in row for row in rows_of(folder))
    assert "best_test_epoch" not in content


def test_test_split_may_be_left_unread(tmp_path, monkeypatch):
    evaluation, splits = build.Experiment.evaluation, set()

    def noted(experiment, split, params):
        splits.add(split)
        return evaluation(experiment, split, params)

    monkeypatch.setattr(build.Experiment, "evaluation", noted)
    content, _ = execute(tmp_path, LIGHT | {"num_epochs": 1, "eval.test": False, "num_seeds": 2})
    assert splits == {"train", "valid"}
    assert "test" not in content and len(content["valid"]["weighted_f1"]["per_seed"]) == 2
    rows = list(csv.DictReader((tmp_path / "predictions" / "seed_1.csv").read_text().splitlines()))
    assert {row["split"] for row in rows} == {"train", "valid"}
    assert (tmp_path / "confusion_matrix.png").exists()
    with pytest.raises(UserError, match=r"report_best_test=True needs eval\.test=True"):
        execute(tmp_path / "other", BOTH | {"eval.test": False})


def test_corpus_without_a_test_split_ends_with_its_validation_scores(tmp_path, monkeypatch):
    load = session.load

    def without_test(config, *_, **__):
        corpus = load(config)
        return dataclasses.replace(corpus, split=np.where(corpus.split == "test", "train", corpus.split))

    monkeypatch.setattr(session, "load", without_test)
    with pytest.raises(UserError, match=r"no labelled utterance in its test split: leave out eval\.report_best_test"):
        execute(tmp_path / "other", BOTH)
    assert not (tmp_path / "other").exists()
    content, output = execute(tmp_path, LIGHT | {"num_epochs": 1, "data.device_megabytes": 1})
    assert content["calibration_error"].keys() == {"valid"} and content["temperature"][0] > 0
    assert "test" not in content and "valid, epoch chosen on validation" in output


def test_results_are_written_after_the_checkpoints_are_complete(tmp_path, monkeypatch):
    def fails(_):
        raise UserError("the disk is full")

    monkeypatch.setattr(runner.Checkpoints, "wait", fails)
    with pytest.raises(UserError, match="the disk is full"):
        execute(tmp_path, LIGHT | {"num_epochs": 1})
    assert not (tmp_path / runner.RESULTS).exists()


def test_best_test_epoch_is_reported_on_demand_with_its_note(both):
    folder, content, output = both
    block, rows = content["best_test_epoch"], rows_of(folder)
    scores = np.array([row["test"]["weighted_f1"] for row in rows])
    assert block["epochs"] == (scores.argmax(axis=0) + 1).tolist()
    assert block["test"]["weighted_f1"]["per_seed"] == pytest.approx(scores.max(axis=0).tolist(), rel=1e-6)
    assert block["note"] == results.BEST_TEST_NOTE
    assert results.BEST_TEST_NOTE in output
    assert "best test epoch" in output


# --- Seeds ------------------------------------------------------------------------------------------------------------


def test_second_seed_of_two_is_its_run_alone(both, tmp_path):
    content, _ = execute(tmp_path, LIGHT | {"seed": 1})
    assert content["seeds"] == [1]
    for row, single in zip(rows_of(both[0]), rows_of(tmp_path), strict=True):
        for part in ("train", "valid"):
            assert {name: value[1] for name, value in row[part].items()} == single[part]
    for name in ("weighted_f1", "accuracy", "macro_f1"):
        per_seed = both[1]["test"][name]["per_seed"]
        assert len(per_seed) == 2
        assert content["test"][name]["per_seed"] == [per_seed[1]]
    assert content["selected_epochs"] == [both[1]["selected_epochs"][1]]
    one, several = stored(tmp_path, "last"), stored(both[0], "last")
    assert_same_bits(jax.tree.map(lambda x: x[0], one), jax.tree.map(lambda x: x[1], several))
    name = "predictions/seed_1.csv"
    assert (tmp_path / name).read_bytes() == (both[0] / name).read_bytes()


def test_members_train_as_seeds_do_and_answer_together(both, tmp_path):
    content, output = execute(tmp_path, LIGHT | {"members": 2})
    assert "2 models by threads" in output and content["seeds"] == [0]
    assert_same_bits(stored(tmp_path, "last"), stored(both[0], "last"))
    for row, single in zip(rows_of(tmp_path), rows_of(both[0]), strict=True):
        for name, values in single["train"].items():
            assert row["train"][name] == pytest.approx(np.mean(values), rel=1e-6)
    model = ariigcn_jax.load(tmp_path)
    corpus = session.load(tiny())
    prediction = model(corpus)
    with (tmp_path / "predictions" / "seed_0.csv").open() as file:
        rows = list(csv.DictReader(file))
    written = np.array([[float(row[f"p_{name}"]) for name in corpus.label_names] for row in rows])
    np.testing.assert_allclose(prediction.probabilities, written, atol=2e-6)
    for split in ("valid", "test"):
        chosen = (corpus.split == split) & (corpus.label >= 0)
        right = (prediction.probabilities.argmax(axis=1) == corpus.label)[chosen].mean()
        assert content[split]["accuracy"]["mean"] == pytest.approx(right)
    at_best = rows_of(tmp_path)[content["selected_epochs"][0] - 1]["valid"]
    assert at_best["confusion"] == content["valid"]["confusion"][0]


def test_members_are_validated_on_what_they_leave_out(tmp_path):
    changes = LIGHT | {"members": 3, "data.cross_validation": True, "seed": 2}
    content, output = execute(tmp_path, changes)
    assert (
        "average of 3 models; valid: of the one that left the utterance out" in output and content["cross_validation"]
    )
    model, corpus = ariigcn_jax.load(tmp_path), session.load(tiny(changes))
    out = corpus.split != "test"
    assert set(corpus.split) == {"train", "valid", "test"} and set(corpus.fold[out]) == {0, 1, 2}
    members = [
        dataclasses.replace(model, members=1, params=jax.tree.map(lambda x: x[k], model.params))(corpus)  # noqa: B023
        for k in range(3)
    ]
    every = np.stack([found.probabilities for found in members])
    mine = every[np.maximum(corpus.fold, 0), np.arange(len(corpus))]
    wanted = np.where(out[:, None], mine, model(corpus).probabilities)
    with (tmp_path / "predictions" / "seed_2.csv").open() as file:
        rows = list(csv.DictReader(file))
    written = np.array([[float(row[f"p_{name}"]) for name in corpus.label_names] for row in rows])
    assert [row["split"] for row in rows] == np.where(out, "valid", "test").tolist()
    np.testing.assert_allclose(written, wanted, atol=2e-6)
    chosen = out & (corpus.label >= 0)
    assert content["valid"]["accuracy"]["mean"] == pytest.approx((wanted.argmax(1) == corpus.label)[chosen].mean())
    described = json.loads((tmp_path / "corpus.json").read_text())
    assert described["splits"]["train"] == described["splits"]["valid"] and described["cross_validation"]
    card = model_card.text(model, None)
    assert "Each network left out another fold" in card and "calibrated on validation of single networks" in card
    with pytest.raises(UserError, match="most of its 3 models were trained"):
        as_read(model, "valid")
    assert as_read(model, "train").utterance_ids == tuple(
        u for u, s in zip(corpus.utterance_ids, corpus.split, strict=True) if s != "test"
    )


def test_a_run_in_parts_goes_on_where_it_was_stopped(tmp_path, monkeypatch):
    changes = LIGHT | {"members": 2, "data.cross_validation": True, "checkpoint.every_seconds": 0.0}
    execute(tmp_path / "whole", changes)

    def stops(self, epoch, row):
        if epoch == 2:
            raise KeyboardInterrupt
        log(self, epoch, row)

    log = WorkDir.log
    monkeypatch.setattr(WorkDir, "log", stops)
    with pytest.raises(KeyboardInterrupt):
        execute(tmp_path / "stopped", changes)
    monkeypatch.undo()
    _, output = execute(tmp_path / "stopped", changes)
    assert "after epoch 1" in output
    assert_same_bits(stored(tmp_path / "whole", "last"), stored(tmp_path / "stopped", "last"))


@pytest.mark.slow
def test_run_goes_on_in_another_way(both, tmp_path):
    shutil.copytree(both[0], tmp_path / "run")
    (tmp_path / "run" / "results.json").unlink()
    shutil.rmtree(tmp_path / "run" / "checkpoints" / str(EPOCHS))
    content, output = execute(tmp_path / "run", BOTH | {"seeds_by": "vmap"})
    assert "2 seeds by threads" in both[2] and "2 seeds by vmap" in output
    assert f"after epoch {EPOCHS - 1}" in output
    assert json.loads((tmp_path / "run" / "config.json").read_text())["seeds_by"] == "vmap"
    for row, before in zip(rows_of(tmp_path / "run"), rows_of(both[0]), strict=True):
        for name, values in before["train"].items():
            np.testing.assert_allclose(row["train"][name], values, rtol=1e-3, err_msg=name)
    assert content["seeds"] == [0, 1] and content["selected_epochs"] == both[1]["selected_epochs"]
    last, expected = stored(tmp_path / "run", "last"), stored(both[0], "last")
    assert_same_bits(last["key"], expected["key"])
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=0.02), last["params"], expected["params"])


def test_mean_and_spread_are_those_of_the_seeds(both):
    summary = both[1]["test"]["weighted_f1"]
    assert summary["mean"] == pytest.approx(np.mean(summary["per_seed"]))
    assert summary["std"] == pytest.approx(np.std(summary["per_seed"], ddof=1))


# --- Again ------------------------------------------------------------------------------------------------------------


def test_finished_run_says_so_and_gives_its_result(alone, monkeypatch):
    folder, content, *_ = alone
    before = {p: p.read_bytes() for p in folder.rglob("*") if p.is_file() and p.name != "environment.json"}
    monkeypatch.setattr(build, "make", lambda *_: pytest.fail("trains again"))
    again, said = execute(folder)
    assert again == json.loads(json.dumps(content))
    assert "finished" in said
    assert results.table(content) in said
    assert {p: p.read_bytes() for p in folder.rglob("*") if p.is_file() and p.name != "environment.json"} == before


def test_run_killed_before_its_report_only_reports(both, tmp_path, monkeypatch):
    folder, content, _ = both
    shutil.copytree(folder, tmp_path / "run")
    for name in ("results.json", "results.md", "training_curves.png"):
        (tmp_path / "run" / name).unlink()
    monkeypatch.setattr(epochs, "train_step", lambda *_: pytest.fail("trains again"))
    again, output = execute(tmp_path / "run", BOTH)
    assert f"after epoch {EPOCHS}" in output
    for name in ("test", "valid", "selected_epochs", "best_test_epoch"):
        assert again[name] == content[name]
    assert (tmp_path / "run" / "training_curves.png").exists()
    assert rows_of(tmp_path / "run") == rows_of(folder)


def test_damaged_checkpoint_costs_an_epoch_and_no_bit(both, tmp_path, capsys):
    cut = shutil.copytree(both[0], tmp_path / "run")
    (cut / "results.json").unlink()
    file = max((cut / "checkpoints" / str(EPOCHS) / "last").rglob("*"), key=lambda p: p.stat().st_size * p.is_file())
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    _, output = execute(cut, BOTH)
    assert f"checkpoints/{EPOCHS}: this checkpoint is damaged" in capsys.readouterr().err
    assert f"after epoch {EPOCHS - 1}." in output
    assert_same_run(both[0], cut)


def test_another_corpus_is_refused_on_resuming(both, tmp_path, monkeypatch):
    shutil.copytree(both[0], tmp_path / "run")
    corpus, same = session.load(tiny()), session.load(tiny())
    corpus.features["text"][corpus.split == "train"] += 1
    monkeypatch.setattr(session, "load", lambda *_, **__: corpus)
    with pytest.raises(UserError, match=r"corpus has changed.*\(features of text\).*--workdir"):
        execute(tmp_path / "run", BOTH)  # what is finished is not of this corpus, either
    (tmp_path / "run" / "results.json").unlink()
    with pytest.raises(UserError, match=r"corpus has changed.*\(features of text\).*--workdir"):
        execute(tmp_path / "run", BOTH)
    renamed = dataclasses.replace(same, label_names=same.label_names[::-1])
    monkeypatch.setattr(session, "load", lambda *_, **__: renamed)
    with pytest.raises(UserError, match=r"corpus has changed.*\(label_names\)"):
        execute(tmp_path / "run", BOTH)
    monkeypatch.setattr(session, "load", lambda *_, **__: corpus)
    described = json.loads((tmp_path / "run" / "corpus.json").read_text())
    del described["digest"]  # as an earlier version wrote it
    (tmp_path / "run" / "corpus.json").write_text(json.dumps(described))
    with pytest.raises(UserError, match=r"corpus has changed.*text/mean.*--workdir"):
        execute(tmp_path / "run", BOTH)


# --- Divergence -------------------------------------------------------------------------------------------------------


def test_divergence_of_one_seed_names_what_went_wrong_and_keeps_the_epoch_before(tmp_path, monkeypatch):
    """The second seed's loss overflows in its eighth step; no checkpoint has fallen due until then."""
    original = step.traced_step

    def overflows(players, state, batch, axis):
        state, logs, gradients = original(players, state, batch, axis)
        late = (state.step == 8) & (jax.random.key_data(state.key)[-1] == 1)
        return state, logs | {"emotion": logs["emotion"] * jnp.exp(jnp.where(late, 1e3, 0.0))}, gradients

    for module in (step, build):
        monkeypatch.setattr(module, "traced_step", overflows)
    rare = {"num_seeds": 2, "diagnostics.every": 0, "checkpoint.every_seconds": 1e9, "debug.nans": True}
    with pytest.raises(UserError) as error:
        execute(tmp_path, LIGHT | rare)
    message = str(error.value)
    assert "diverged in epoch 3, seed 1. In step 8 (update 2 of its epoch's 3) the loss emotion became" in message
    assert "The first operation to give it is exp" in message
    assert "Lower optimizer.lr or losses.emotion.weight" in message
    assert f"after epoch 2, is kept in {tmp_path / 'checkpoints' / '2'}." in message
    with ocp.StandardCheckpointer() as reader:
        assert reader.restore(tmp_path / "checkpoints" / "2" / "last")["step"].tolist() == [6, 6]
    assert [row["epoch"] for row in rows_of(tmp_path)] == [1, 2]
    assert not (tmp_path / "results.json").exists()


def test_answers_that_are_not_finite_stop_the_report_and_name_the_dialogue():
    corpus = session.load(tiny())
    where = np.flatnonzero(corpus.split == "test")[:4].reshape(1, 1, 4)
    index = {"test": SimpleNamespace(utterance=np.concatenate([where[0], where[0]]))}  # the last row pads
    one = SimpleNamespace(experiment=SimpleNamespace(index=index), numbers=range(3, 4))
    answers = np.full((1, 1, 4, 3), 0.3)
    outcome.check_answers(one, corpus, {"test": {"probabilities": answers}})
    answers[0, 0, 1, 2] = np.nan
    name = corpus.dialogue_ids[corpus.dialogue[where[0, 0, 1]]]
    with pytest.raises(UserError, match=rf"seed 3\) answers 1 dialogue\(s\) of the split test with NaN.*{name}"):
        outcome.check_answers(one, corpus, {"test": {"probabilities": answers}})
