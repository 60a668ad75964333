"""The tables of results say how a run's models were trained, and keep what does not compare apart."""

import json

import numpy as np

from ariigcn_jax.objective import tasks
from ariigcn_jax.runs import results
from tools import results as command

COMMAND = ["somewhere/experiments/run.py", "--config=experiments/mosi.py:single", "--config.data.only=('a',)"]


def scores(value):
    numbers = dict.fromkeys(tasks.get("classification").metrics, value)
    numbers |= {name: np.full(2, value) for name in ("class_accuracy", "class_f1")}
    return numbers | dict(support=np.full(2, 5), confusion=np.full((2, 2), 2))


def make_run(folder, name, test=0.75, environment=None, **options):
    """Write what the table reads of a finished run: validation 60 and 61 %, test a quarter of a point apart."""
    about = dict(experiment=name, task="classification", label_names=("calm", "angry"), seeds=(0, 1), members=1)
    about |= dict(cross_validation=False, select="weighted_f1", epoch="best", selected_epochs=(3, 3)) | options
    tested = None if test is None else [scores(test), scores(test)]
    content = results.results(about, [scores(0.60), scores(0.61)], tested, {"total": 1234.4})
    folder.mkdir()
    (folder / "results.json").write_text(json.dumps(content))
    if environment is not None:
        (folder / "environment.json").write_text(json.dumps(environment))
    return folder


def rows(text):
    """The tables' rows as lists of cells, without the rules."""
    lines = [line for line in text.splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in line.strip("| ").split(" | ")] for line in lines if "---" not in line]


def test_a_row_has_validation_beside_test_and_where_the_numbers_come_from(tmp_path):
    environment = {
        "command": [*COMMAND, "--workdir=runs/x", "--workdir", "runs/y"],
        "git": {"commit": "b" * 40, "dirty": True},
        "device": {"kind": "cpu", "count": 2},
        "earlier": [{"git": {"commit": "a" * 40, "dirty": False}}, {"git": None}],
    }
    header, row = rows(command.markdown([make_run(tmp_path / "a", "mosi", environment=environment)]))
    assert header[:5] == ["run", "models", "seeds", "validation weighted F1", "test weighted F1"]
    assert row[:5] == ["mosi", "1", "2", "60.50 ± 0.71", "75.00 ± 0.00"]
    wanted = "`python -m experiments.run --config=experiments/mosi.py:single '--config.data.only=('\"'\"'a'\"'\"',)'`"
    assert row[-4:] == ["1,234", wanted, "aaaaaaa, bbbbbbb+", "2 × cpu"]


def test_single_averaged_and_cross_validated_models_are_in_tables_of_their_own(tmp_path):
    runs = [
        make_run(tmp_path / "a", "one"),
        make_run(tmp_path / "b", "ten", members=10),
        make_run(tmp_path / "c", "crossed", members=10, cross_validation=True),
        make_run(tmp_path / "d", "another"),
    ]
    text = command.markdown(runs)
    tables = {part.split(",")[0]: [row[0] for row in rows(part)[1:]] for part in text.split("### ")[1:]}
    assert tables == {
        "One model": ["one", "another"],
        "Average of models": ["ten"],
        "Average of cross-validated models": ["crossed"],
    }


def test_what_a_run_did_not_record_is_a_dash(tmp_path):
    _, row = rows(command.markdown([make_run(tmp_path / "a", "unread", test=None)]))
    assert row[3:5] == ["60.50 ± 0.71", "–"] and row[-3:] == ["–"] * 3


def test_unfinished_run_is_one_message(tmp_path, capsys):
    assert command.call(command.execute, command.arguments(), [str(tmp_path)]) == 1
    assert capsys.readouterr().err.startswith(f"error: {tmp_path}: no results.json in it.")


def test_tables_go_to_a_file(tmp_path, capsys):
    run = make_run(tmp_path / "a", "mosi")
    assert command.call(command.execute, command.arguments(), [str(run), f"--out={tmp_path / 'table.md'}"]) == 0
    assert (tmp_path / "table.md").read_text() == command.markdown([run])
