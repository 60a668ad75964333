"""tools.align: tables of what was measured, runs against each other, and (slow) a trained run from end to end."""

import argparse
import json
from pathlib import Path

import pytest

from ariigcn_jax import cli
from ariigcn_jax.commands import align
from ariigcn_jax.options import base
from ariigcn_jax.runs import session
from ariigcn_jax.types import UserError


def content(name, shift, seeds=2, second="audio"):
    values = dict(mmd2=0.2, coral=0.1, a_distance=1.5, frechet=9.0, accuracy=0.9, p=0.004)
    row = dict(stage="code", first="te|xt", second=second, utterances=9)
    row |= {k: [v + shift + 0.01 * s for s in range(seeds)] for k, v in values.items()}
    return dict(run=name, split="test", modalities=["te|xt", second], seeds=list(range(seeds)), rows=[row])


def test_table_has_means_and_spread_over_seeds():
    lines = align.table(content("full", 0.0)).splitlines()
    assert "full, test split, 2 seed(s)" in lines[0]
    assert " ".join(lines[-1].split()).startswith(
        "| code | te\\|xt – audio | 0.205 ± 0.0071 | 0.105 ± 0.0071 | 1.5 ± 0.0071 | 9 ± 0.0071 |"
    )
    assert "0.004 … 0.014" in lines[-1]
    assert "±" not in align.table(content("full", 0.0, seeds=1))


def test_comparison_subtracts_and_tests_over_seeds():
    few = align.comparison(content("full", 0.0), content("no_tgan", 0.1))
    assert "full minus no_tgan" in few and "takes four seeds" in few
    assert "| -0.1 | -0.1 | -0.1 |" in " ".join(few.split())
    many = align.comparison(content("full", 0.0, 5), content("no_tgan", 0.1, 5))
    assert "| -0.1* |" in " ".join(many.split()) and "permutation of seeds" in many


def test_pair_that_one_run_lacks_is_left_out():
    assert "code" not in align.comparison(content("full", 0.0), content("other", 0.0, second="visual"))


@pytest.mark.slow
def test_trained_run_is_aligned_and_reported(tmp_path, capsys):
    config = base.get_config()
    config.update_from_flattened_dict(
        {"num_epochs": 2, "num_seeds": 2, "model.hidden": 8, "model.graph.layers": 1, "model.graph.heads": 2}
    )
    config.data.generate = dict(dialogues=24, utterances=(3, 6), classes=3, widths=dict(text=5, audio=3), test=0.3)
    session.execute(config.lock(), str(tmp_path / "run"))
    assert cli.main(["align", str(tmp_path / "run")]) == 0
    found = json.loads((tmp_path / "run" / "alignment.json").read_text())
    stages = [row["stage"] for row in found["rows"]]
    assert stages == ["code", "generated", "generated", "hidden", "contrast"]
    assert all(len(row["mmd2"]) == 2 for row in found["rows"])
    assert (tmp_path / "run" / "alignment.png").read_bytes().startswith(b"\x89PNG")

    pytest.importorskip("plotly")

    page = tmp_path / "page.html"
    assert cli.main(["report", str(tmp_path / "run"), f"--output={page}", "--count=1"]) == 0
    assert "lines are attention" in page.read_text()
    wrong = [str(tmp_path / "run"), f"--output={page}", "--dialogue=nobody"]
    assert cli.main(["report", *wrong]) == 1
    assert "There is no dialogue 'nobody'" in capsys.readouterr().err


def test_runs_of_other_modalities_are_not_compared(monkeypatch, tmp_path):
    contents = {"a": content("a", 0.0), "b": content("b", 0.0, second="visual")}
    monkeypatch.setattr(align, "align", lambda run, split: contents[run.name])
    monkeypatch.setattr(align.inference, "load", lambda run: None)
    monkeypatch.setattr(align.compilation, "enable", lambda: None)
    options = argparse.Namespace(runs=[Path("a"), Path("b")], split="test")
    with pytest.raises(UserError, match="b has other modalities than a"):
        align.command(options)
