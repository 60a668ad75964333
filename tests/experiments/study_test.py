"""Several runs below one folder: their lines, what is finished, what fails."""

import json

import pytest

from ariigcn_jax import data as corpora
from ariigcn_jax.objective import tasks
from ariigcn_jax.types import UserError
from experiments import ablations, run, study, synthetic

CORPUS = corpora.generate(dialogues=6, utterances=(2, 4), classes=3, widths={"text": 4, "audio": 3})


def content(name, value):
    summary = {"mean": value, "std": 0.01, "per_seed": [value - 0.01, value + 0.01]}
    return {"experiment": name, "select": "macro_f1", "seeds": [0, 1], "test": {"macro_f1": summary}}


@pytest.fixture
def started(monkeypatch):
    """Runs that write their result at once, and the names of those that were started."""
    names = []

    def execute(config, workdir):
        print("chatter")
        if config == "bad":
            raise UserError("mend it")
        names.append(workdir.rsplit("/", 1)[1])
        made = content(names[-1], config)
        (study.Path(workdir)).mkdir(exist_ok=True)
        (study.Path(workdir) / "results.json").write_text(json.dumps(made))
        return made

    monkeypatch.setattr(run, "execute", execute)
    return names


def test_one_line_a_run_with_the_time_left(started, monkeypatch, capsys, tmp_path):
    clock = iter([0, 100, 100, 400, 400, 410])
    monkeypatch.setattr(study.time, "perf_counter", lambda: next(clock))
    contents, failures = study.run_all({"full": 0.5, "no_a": 0.25, "no_b": 1.0}, tmp_path)
    assert list(contents) == started == ["full", "no_a", "no_b"] and not failures
    assert capsys.readouterr().out.splitlines() == [
        "[1/3] full: test macro F1 50.00 ± 1.00, 100 s; about 3 min left",
        "[2/3] no_a: test macro F1 25.00 ± 1.00, 300 s; about 3 min left",
        "[3/3] no_b: test macro F1 100.00 ± 1.00, 10 s",
    ]


def test_finished_runs_do_not_count_into_the_time_left(started, monkeypatch, capsys, tmp_path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "results.json").write_text("{}")
    clock = iter([0, 1, 1, 21, 21, 41])
    monkeypatch.setattr(study.time, "perf_counter", lambda: next(clock))
    study.run_all({"full": 0.5, "no_a": 0.25, "no_b": 0.25}, tmp_path)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].endswith("full: test macro F1 50.00 ± 1.00, finished before")


def test_run_that_fails_is_named_and_the_others_go_on(started, capsys, tmp_path):
    contents, failures = study.run_all({"a": 0.5, "worse": "bad", "b": 0.25}, tmp_path)
    assert list(contents) == ["a", "b"] and failures == {"worse": "mend it"}
    assert "[2/3] worse: mend it" in capsys.readouterr().out
    with pytest.raises(UserError, match=r"1 of the runs.*\n  worse: mend it"):
        study.complain(failures, tmp_path)
    study.complain({}, tmp_path)


def test_numbers_for_people():
    summary = {"mean": [0.5, 0.25], "std": [0.1, 0.02], "per_seed": [[0, 0], [0, 0]]}
    assert study.percent(summary, 1) == "25.00 ± 2.00"
    assert study.percent({"mean": 0.5, "std": 0.0, "per_seed": [0.5]}) == "50.00"
    assert tasks.difference("macro_f1", -0.012, -0.02, 0.001) == ["−1.20", "−2.00 to +0.10"]
    assert tasks.difference("mae", -0.0123, -0.02, 0.001) == ["−0.012", "−0.020 to +0.001"]
    assert tasks.difference("macro_f1", 0.01, float("nan"), float("nan")) == ["+1.00", "–"]
    assert tasks.difference("correlation", 0.01, None, None) == ["+0.010", "–"]
    assert [study.p_value(p) for p in (0.04, 1e-5, float("nan"))] == ["0.040", "< 0.001", "–"]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"losses.iccl.margin": 0.2}, r"losses\.iccl\.margin has no effect"),
        ({"optimizer.lr": 1e-5}, r"discriminator\.lr.*exceeds"),
        ({"model.graph.heads": 3}, r"model\.graph\.heads=3"),
        ({"data.only": ("face",)}, "begins with 'face'"),
        ({"losses.imcl.fn": "cosine"}, r"losses\.imcl\.fn='cosine'"),
    ],
)
def test_what_cannot_be_built_is_refused_before_anything_runs(changes, words):
    config = synthetic.get_config()
    study.check(config, CORPUS, ())
    ablations.override(config, changes)
    with pytest.raises(UserError, match=words):
        study.check(config, CORPUS, changes)
