"""A run that another version wrote is refused with one message, whatever would read it."""

import argparse
import json
import shutil

import pytest

import ariigcn_jax
from ariigcn_jax.commands import arguments, predict, robustness
from ariigcn_jax.options import base
from ariigcn_jax.runs import session, version, workdir
from ariigcn_jax.types import UserError
from experiments import reproduce
from tests.support import runs
from tests.support.runs import SMALL

MESSAGE = (
    r"run was written by version 0\.1\.0 of ariigcn_jax; this version \S+ reads format 4\. Use version 0\.1\.0 "
    r"\(git commit abc123\), or train again\.$"
)


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """A run of version 0.1.0."""
    folder = runs.make(tmp_path_factory.mktemp("version") / "run")
    for name, changes in (
        ("corpus.json", {"format": 3, "version": "0.1.0"}),
        ("environment.json", {"git": {"commit": "abc123", "dirty": False}}),
    ):
        content = json.loads((folder / name).read_text()) | changes
        (folder / name).write_text(json.dumps(content))
    for name in ("metrics.jsonl", "results.json"):
        (folder / name).write_text("{}")
    return folder


@pytest.fixture
def run(written, tmp_path):
    return shutil.copytree(written, tmp_path / "run")


def options(describe, *given):
    parser = argparse.ArgumentParser()
    describe(parser)
    return parser.parse_args([str(a) for a in given])


def config():
    made = base.get_config()
    made.update_from_flattened_dict(SMALL)
    made.data.generate = dict(dialogues=12, utterances=(3, 4), classes=2, widths=runs.WIDTHS)
    return made.lock()


@pytest.mark.parametrize(
    "entry",
    [
        lambda run: ariigcn_jax.load(run),
        lambda run: reproduce.reproduce(run, None, 0.0),
        lambda run: session.execute(config(), str(run)),
        lambda run: predict.execute(options(arguments.predict, "--run", run, run / "config.json")),
        lambda run: robustness.command(options(arguments.robustness, run)),
    ],
    ids=["load", "reproduce", "resume", "predict", "robustness"],
)
def test_one_message(run, entry):
    with pytest.raises(UserError, match=MESSAGE):
        entry(run)
    assert not (run / "robustness.json").exists()


def test_a_study_of_runs(run, tmp_path):
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(UserError, match=MESSAGE):
        workdir.open(tmp_path, "study", {}, tensorboard=False)


def test_the_report(run):
    pytest.importorskip("plotly", reason="plotly is not installed (extra: report)")
    from ariigcn_jax.commands.report import runs as report

    with pytest.raises(UserError, match=MESSAGE):
        report.read([run])


def test_a_run_without_description_is_of_an_earlier_version(run):
    (run / "corpus.json").unlink()
    with pytest.raises(UserError, match=r"by an earlier version of .* Use that version \(git commit abc123\), or"):
        ariigcn_jax.load(run)


def test_this_version_passes(tmp_path):
    version.check(runs.make(tmp_path / "run"))
    version.check(tmp_path / "nothing")
    assert ariigcn_jax.load(tmp_path / "run").epoch == 7
