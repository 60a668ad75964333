"""The sweep command: what it tries, that validation alone chooses, and what it writes."""

import csv
import json

import numpy as np
import pytest
from absl import flags
from ml_collections import config_flags

from ariigcn_jax import data as corpora
from ariigcn_jax.options import ablations
from ariigcn_jax.runs import session
from ariigcn_jax.types import UserError
from experiments import study, sweep, synthetic
from tests.experiments.ablate_test import content
from tests.runs.runner_test import tiny

GRID = sweep.grid_axis("optimizer.lr=0.01,0.1")


def validated(f1, **options):
    """Return results without a test split."""
    made = content(f1, **options)
    made["valid"] = made.pop("test")
    return made | {"selected_epochs": [1, 2, 3, 4]}


# --- What is tried ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("a.b=0,0.1,1e-3", (0, 0.1, 0.001)),
        ("a.b=gru, none", ("gru", "none")),
        ("a.b=margin,1", ("margin", 1)),
        ("a.b=True,False", (True, False)),
        ("a.b=('x','y'),()", (("x", "y"), ())),
        ("a.b=['x','y'],[]", (("x", "y"), ())),
        ("a.b=-1", (-1,)),
    ],
)
def test_values_of_a_grid(text, values):
    assert sweep.grid_axis(text) == sweep.Axis("a.b", values)


@pytest.mark.parametrize(
    ("text", "words"),
    [("a.b", "KEY=VALUES"), ("=1", "KEY=VALUES"), ("a.b=", "KEY=VALUES"), ("a.b=1,2,1", "twice")],
)
def test_grid_that_is_written_otherwise(text, words):
    with pytest.raises(UserError, match=words):
        sweep.grid_axis(text)


@pytest.mark.parametrize(
    "text", ["a=log:0:1", "a=log:1", "a=log:2:1", "a=int:0.5:2", "a=normal:0:1", "a=uniform:x:1", "a=log:1:inf"]
)
def test_range_that_is_written_otherwise(text):
    with pytest.raises(UserError, match="log:LOW:HIGH"):
        sweep.random_axis(text)


def test_draws_lie_in_their_range_and_depend_on_their_number_seed_and_option_alone():
    log, uniform, whole, choice = map(sweep.random_axis, ("a=log:1e-4:1", "b=uniform:-1:1", "c=int:2:4", "d=x,y"))
    drawn = {axis.label: [axis.at(trial, 0) for trial in range(300)] for axis in (log, uniform, whole, choice)}
    assert 1e-4 <= min(drawn["a"]) < 2e-4 and 0.5 < max(drawn["a"]) <= 1
    assert np.median(drawn["a"]) == pytest.approx(1e-2, rel=0.7)
    assert -1 <= min(drawn["b"]) < -0.9 and 0.9 < max(drawn["b"]) <= 1
    assert set(drawn["c"]) == {2, 3, 4} and set(drawn["d"]) == {"x", "y"}
    assert all(float(f"{v:.3g}") == v for v in drawn["a"] + drawn["b"])
    few, more = (sweep.settings([log], trials, 0) for trials in (5, 8))
    assert more[:5] == few
    assert [s[0] for s in sweep.settings([log, uniform], 5, 0)] == [s[0] for s in few]
    assert sweep.settings([log], 5, 1) != few


def test_settings_are_all_combinations_each_once():
    other = sweep.grid_axis("b=1,2")
    assert sweep.settings([GRID, other], 7, 0) == [(0.01, 1), (0.01, 2), (0.1, 1), (0.1, 2)]
    mixed = sweep.settings([GRID, sweep.random_axis("c=log:1:9")], 3, 0)
    assert len(mixed) == 6 and [s[0] for s in mixed] == [0.01, 0.1] * 3 and len({s[1] for s in mixed}) == 3
    assert len(sweep.settings([sweep.random_axis("c=x,y")], 50, 0)) == 2
    with pytest.raises(UserError, match="No option is named"):
        sweep.settings([], 1, 0)
    with pytest.raises(UserError, match="a: swept twice"):
        sweep.settings([sweep.grid_axis("a+b=1"), sweep.grid_axis("a=2")], 1, 0)


def test_plus_gives_options_the_same_value():
    axes = [sweep.grid_axis("a+b=1,2"), GRID]
    assert sweep.changes(axes, (2, 0.1)) == {"a": 2, "b": 2, "optimizer.lr": 0.1}
    assert sweep.run_name(axes, (2, 0.1)) == "a+b=2,optimizer.lr=0.1"


@pytest.mark.parametrize("name", sweep.SWEEPS)
def test_ready_made_sweep_changes_what_takes_effect(name):
    (axis,), fixed = sweep.axes_of([name], [], [])
    corpus = corpora.generate(dialogues=6, utterances=(2, 4), classes=3, widths={"text": 4, "audio": 3})
    config = synthetic.get_config()
    ablations.override(config, fixed)
    for setting in sweep.settings([axis], 1, 0):
        changed = config.copy_and_resolve_references()
        ablations.override(changed, sweep.changes([axis], setting))
        study.check(changed, corpus, [*fixed, *sweep.changes([axis], setting)])
    assert len(axis.values) >= 5


def test_sweeps_that_contradict_and_unknown_ones_are_refused():
    with pytest.raises(UserError, match=r"margin and temperature do not go together: losses\.iccl\.fn"):
        sweep.axes_of(["margin", "temperature"], [], [])
    with pytest.raises(UserError, match=r"no sweep 'beta'\. Known: margin, "):
        sweep.axes_of(["beta"], [], [])
    axes, fixed = sweep.axes_of(["window"], ["a=1"], ["b=log:1:2"])
    assert [a.label for a in axes] == ["model.graph.past+model.graph.future", "a", "b"] and fixed == {}


# --- What is chosen ---------------------------------------------------------------------------------------------------


def test_highest_mean_on_validation_is_selected_and_the_first_of_equals():
    contents = {
        (0.01,): validated([0.5, 0.5, 0.5, 0.9]),
        (0.1,): validated([0.7, 0.6, 0.7, 0.6]),
        (1.0,): validated([0.6, 0.7, 0.6, 0.7]),
    }
    rows, selected = sweep.rows([GRID], contents)
    assert selected == (0.1,)
    assert [row["selected"] for row in rows] == [False, True, False]
    assert rows[0]["values"] == {"optimizer.lr": 0.01}
    assert rows[0]["behind"]["mean"] == pytest.approx(-0.05)
    assert rows[0]["behind"]["per_seed"] == pytest.approx([-0.2, -0.1, -0.2, 0.3])
    assert "behind" not in rows[1]


def test_table_by_hand():
    contents = {(0.01,): validated([0.5, 0.5, 0.5, 0.9]), (0.1,): validated([0.7, 0.6, 0.7, 0.6])}
    header, *cells = sweep.table(contents, sweep.rows([GRID], contents)[0])
    first, second = (dict(zip(header, row, strict=True)) for row in cells)
    assert first["optimizer.lr"] == "0.01" and first["weighted F1"] == "60.00 ± 20.00" and first["Δ"] == "−5.00"
    assert second["Δ"] == "selected" and second["F1 joy"] == "50.00 ± 0.00" and second["F1 a_b"].startswith("65.00")


# --- The command ------------------------------------------------------------------------------------------------------


@pytest.fixture
def start(monkeypatch, tmp_path):
    """Return a function that runs the command; results favour a learning rate of 0.05."""
    trained = []

    def execute(config, workdir):
        assert not config.eval.test and not config.eval.report_best_test
        trained.append(config.optimizer.lr)
        if config.optimizer.lr > 0.5:
            raise UserError("diverged")
        offset = -abs(config.optimizer.lr - 0.05)
        return validated([0.5 + offset, 0.6 + offset, 0.7 + offset, 0.5 + offset])

    def call(config, **given):
        values = {"config": config, "seeds": None, "workdir": str(tmp_path / "out"), "sweep": [], "grid": []}
        values |= {"random": [], "trials": 20} | given
        for module in (sweep, study):
            monkeypatch.setattr(module, "flag", values.get)
        sweep.command([])
        return trained

    monkeypatch.setattr(session, "execute", execute)
    holder = flags.FlagValues()
    config_flags.DEFINE_config_file("config", "experiments/mine.py:no_tgan", flag_values=holder)
    monkeypatch.setattr(sweep.flags, "FLAGS", {"config": holder["config"]})
    return call


def test_command_selects_on_validation_and_prints_the_final_command(start, tmp_path, capsys):
    trained = start(tiny(), grid=["optimizer.lr=0.01,0.06,0.3"])
    assert trained == [0.01, 0.06, 0.3]
    out, folder = capsys.readouterr().out, tmp_path / "out"
    assert "3 runs of 3 seed(s)" in out
    assert "the test split has not been read" in out
    last = out.splitlines()[-1]
    assert last.startswith("python -m experiments.run --config=experiments/mine.py:no_tgan ")
    assert last.endswith("--config.num_seeds=3 --config.optimizer.lr=0.06")
    assert (folder / "sweep.md").read_text() in out
    content = json.loads((folder / "sweep.json").read_text())
    assert content["split"] == "valid" and [r["selected"] for r in content["rows"]] == [False, True, False]
    read = list(csv.DictReader((folder / "sweep.csv").read_text().splitlines()))
    assert len(read) == 3 * 6 * 4
    assert {r["optimizer.lr"] for r in read if r["selected"] == "True"} == {"0.06"}
    joy = next(r for r in read if r["score"] == "f1 of a_b" and r["optimizer.lr"] == "0.01" and r["seed"] == "5")
    assert float(joy["value"]) == pytest.approx(0.66)
    assert (folder / "sweep.tex").exists() and (folder / "sweep.png").read_bytes()[1:4] == b"PNG"


def test_setting_that_diverges_leaves_the_others(start, tmp_path, capsys):
    with pytest.raises(UserError, match=r"1 of the runs[\s\S]*optimizer.lr=0.9: diverged"):
        start(tiny(), grid=["optimizer.lr=0.01,0.9,0.06"])
    assert "--config.optimizer.lr=0.06" in capsys.readouterr().out


@pytest.mark.parametrize(
    "given",
    [
        dict(grid=["optimizer.lr=0.01,0.06", "model.hidden=8,16"]),
        dict(random=["optimizer.lr=log:0.01:0.3"], trials=5),
        dict(random=["optimizer.lr=log:0.01:0.3", "model.context=none,gru"], trials=4),
    ],
)
def test_every_kind_of_search_is_drawn(start, tmp_path, given):
    start(tiny(), **given)
    assert (tmp_path / "out" / "sweep.png").read_bytes()[1:4] == b"PNG"


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (dict(grid=["optimizer.lrr=1,2"]), "Did you mean optimizer.lr"),
        (dict(grid=["losses.iccl.margin=0.1,0.2"]), r"losses\.iccl\.margin has no effect"),
        (dict(grid=["optimizer.lr=fast,slow"]), "cannot be 'fast'"),
        (dict(grid=["model.graph=1,2"]), "model.graph cannot be 1: it is a group of options"),
        (dict(grid=["losses.iccl={'weight':0},{'weight':1}"]), "losses.iccl takes no value in braces"),
        (dict(grid=["data.label=emotion,sentiment"]), "data.label changes what is measured"),
        (dict(grid=["eval.test=True,False"]), "eval.test changes what is measured"),
        (dict(grid=["num_seeds=1,2"]), "num_seeds changes what is measured"),
        (dict(grid=["data.generate.seed=0,1"]), r"data\.generate\.seed changes what is measured"),
        (dict(random=["optimizer.lr=log:1e-6:1e-5"], trials=2), r"discriminator\.lr"),
    ],
)
def test_setting_that_cannot_run_is_refused_before_anything_does(start, tmp_path, given, words):
    with pytest.raises(UserError, match=words):
        start(tiny(), **given)
    assert not (tmp_path / "out").exists()
