"""Several runs below one folder: their lines, what is finished, what fails."""

import json

import pytest

from ariigcn_jax import data as corpora
from ariigcn_jax.objective import tasks
from ariigcn_jax.options import ablations
from ariigcn_jax.runs import session
from ariigcn_jax.types import UserError
from experiments import study, synthetic

CORPUS = corpora.generate(dialogues=6, utterances=(2, 4), classes=3, widths={"text": 4, "audio": 3})


def content(name, value):
    summary = {"mean": value, "std": 0.01, "per_seed": [value - 0.01, value + 0.01]}
    return {"experiment": name, "select": "macro_f1", "seeds": [0, 1], "test": {"macro_f1": summary}}


@pytest.fixture
def started(monkeypatch):
    """Let runs write their result at once; return the list of their names."""
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

    monkeypatch.setattr(session, "execute", execute)
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


@pytest.mark.parametrize("configs", [{"a": 0.5}, {"a": 0.5, "worse": "bad"}, {"worse": "bad"}])
def test_tables_are_written_of_the_runs_that_are_finished(started, monkeypatch, capsys, tmp_path, configs):
    monkeypatch.setattr(study, "flag", lambda name: str(tmp_path / "out"))
    given = []

    def write(contents, directory):
        given.append(list(contents))
        return "the table"

    config = synthetic.get_config()
    if "worse" in configs:
        with pytest.raises(UserError, match=r"1 of the runs.*\n  worse: mend it"):
            study.carry_out("toy", config, configs, write)
    else:
        study.carry_out("toy", config, configs, write)
    assert given == [["a"]] * ("a" in configs)
    assert ("the table" in capsys.readouterr().out) == ("a" in configs)


def test_folders_are_safe_short_and_apart(started, tmp_path):
    names = ["x/y", "x y", "x" * 300, "x" * 301]
    folders = [study.folder_name(name) for name in names]
    assert len(set(folders)) == 4
    assert all(len(name) <= 150 and not set(name) & set("/ ") for name in folders)
    assert study.folder_name("a+b=2,c.d=0.1") == "a+b=2,c.d=0.1"
    contents, _ = study.run_all(dict.fromkeys(names, 0.5), tmp_path)
    assert list(contents) == names and started == folders


def test_scores_by_seed():
    made = {"task": "classification", "select": "macro_f1", "label_names": ["joy", "anger"]}
    scores = {name: {"per_seed": [0.5, 0.75]} for name in study.scores(made)}
    made["test"] = scores | {"class_f1": {"per_seed": [[0.1, 0.2], [0.3, 0.4]]}}
    found = study.per_seed(made, "test")
    assert list(found) == [*scores, "f1 of joy", "f1 of anger"]
    assert found["f1 of anger"].tolist() == [0.2, 0.4] and found["accuracy"].tolist() == [0.5, 0.75]
    assert next(iter(study.titles(made))) == "macro_f1" and len(study.titles(made)) == len(scores)
    summary = study.summarise(found)["f1 of joy"]
    assert summary == {"mean": pytest.approx(0.2), "std": pytest.approx(0.2 / 2**0.5), "per_seed": [0.1, 0.3]}


def test_numbers_for_people():
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
def test_config_that_cannot_be_built_is_refused_before_anything_runs(changes, words):
    config = synthetic.get_config()
    study.check(config, CORPUS, ())
    ablations.override(config, changes)
    with pytest.raises(UserError, match=words):
        study.check(config, CORPUS, changes)
