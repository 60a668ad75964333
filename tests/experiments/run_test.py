"""The command line: killed and resumed, finished, and its messages when something is wrong."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ariigcn_jax.commands import command
from ariigcn_jax.options import base
from ariigcn_jax.types import UserError
from tests.runs.runner_test import BOTH, EPOCHS, tiny
from tests.support.runs import assert_same_run, config_file, log_of, results_of

ROOT = Path(__file__).resolve().parents[2]
KILLED_AT = EPOCHS - 2
PROGRAM = ["-m", "experiments.run"]
# The same program, but killed once the epoch is in the log and before its checkpoint is begun.
PROGRAM_THAT_IS_KILLED = [
    "-c",
    f"""
import os, runpy, signal
from ariigcn_jax.runs.workdir import WorkDir

log = WorkDir.log

def log_and_die(self, epoch, row):
    log(self, epoch, row)
    if epoch == {KILLED_AT}:
        os.kill(os.getpid(), signal.SIGKILL)

WorkDir.log = log_and_die
runpy.run_module("experiments.run", run_name="__main__", alter_sys=True)
""",
]


@pytest.fixture(scope="module")
def start(tmp_path_factory):
    """Return a function that runs the program in a folder, with the compilation cache of the runner's tests."""
    environment = os.environ | {
        "JAX_DISABLE_MOST_OPTIMIZATIONS": "1",
        "JAX_COMPILATION_CACHE_DIR": str(tmp_path_factory.getbasetemp() / "compiled"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "PYTHONPATH": str(ROOT),
    }
    environment.pop("ARIIGCN_DATA", None)

    def call(folder, program, *arguments, **variables):
        line = [sys.executable, *program, *arguments]
        options = dict(capture_output=True, text=True, timeout=300, check=False)
        return subprocess.run(line, cwd=folder, env=environment | variables, **options)

    return call


# --- Killed, resumed, finished ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def starts(tmp_path_factory, start):
    """Return the folder and the last of three starts: of a whole run, of one that is killed, and of that one again."""
    folder = tmp_path_factory.mktemp("starts")
    config = config_file(folder, tiny(BOTH))
    whole = start(folder, PROGRAM, config, "--workdir=whole")
    killed = start(folder, PROGRAM_THAT_IS_KILLED, config, "--workdir=cut")
    log = (folder / "cut" / "metrics.jsonl").read_text()
    resumed = start(folder, PROGRAM, config, "--workdir=cut")
    assert (whole.returncode, killed.returncode, resumed.returncode) == (0, -signal.SIGKILL, 0), resumed.stderr[-4000:]
    assert len(log.splitlines()) == KILLED_AT
    return folder, resumed


def test_resuming_starts_at_a_checkpoint(starts):
    _, resumed = starts
    assert f"Resuming cut after epoch {KILLED_AT - 1}." in resumed.stdout or (
        f"Resuming cut after epoch {KILLED_AT - 2}." in resumed.stdout
    )


def test_resumed_run_is_as_one_never_killed(starts):
    """Kill at a chosen moment; kill_test.py does it at random ones."""
    folder, _ = starts
    assert len(log_of(folder / "whole")) == EPOCHS
    assert_same_run(folder / "whole", folder / "cut")


def test_resumed_speed_is_that_of_the_epochs_it_trained(starts):
    content = results_of(starts[0] / "cut")
    nodes = content["speed"]["nodes_per_second"] * content["seconds"]["train"]
    assert nodes <= 2 * content["speed"]["nodes_per_epoch"] * (EPOCHS - KILLED_AT + 2)


def test_start_of_a_finished_run_shows_its_result(starts, start):
    folder, resumed = starts
    before = (folder / "cut" / "results.json").read_bytes()
    again = start(folder, PROGRAM, "--config=tiny.py", "--workdir=cut")
    assert again.returncode == 0
    assert "this run is finished" in again.stdout
    table = (folder / "cut" / "results.md").read_text()
    assert table in again.stdout
    assert table in resumed.stdout
    assert (folder / "cut" / "results.json").read_bytes() == before


def test_second_run_of_the_same_config_compiles_nothing(starts, start):
    folder, _ = starts
    again = start(folder, PROGRAM, "--config=tiny.py", "--workdir=again")
    assert again.returncode == 0, again.stderr[-4000:]
    assert "; nothing was compiled: all " in again.stdout


def test_run_on_a_terminal_without_unicode_in_a_notebook(starts, start):
    folder, _ = starts
    names = dict(PYTHONIOENCODING="ascii", MPLBACKEND="module://of_a_notebook.not_installed_here")
    done = start(folder, PROGRAM, "--config=tiny.py", "--workdir=odd", **names)
    assert done.returncode == 0, done.stderr[-4000:]
    assert done.stdout.startswith("experiments.run: loading JAX ?\n") and "Compiling ?" in done.stdout
    assert (folder / "odd" / "training_curves.png").read_bytes().startswith(b"\x89PNG")


# --- What goes wrong --------------------------------------------------------------------------------------------------


def test_interruption_that_python_drops_is_sent_again(monkeypatch):
    class Garbage:
        def __del__(self):
            raise KeyboardInterrupt

    before = signal.getsignal(signal.SIGTERM)
    monkeypatch.setattr(sys, "unraisablehook", sys.unraisablehook)  # given back after the test
    try:
        command._handle_signals()
        begun = time.perf_counter()
        with pytest.raises(KeyboardInterrupt):
            Garbage()
            time.sleep(20)
        assert time.perf_counter() - begun < 10  # it breaks the sleep off
    finally:
        signal.signal(signal.SIGTERM, before)


def test_missing_data_is_reported_at_once_and_leaves_nothing(tmp_path, start):
    config = base.get_config()
    config.data.name = "nowhere"
    begun = time.perf_counter()
    done = start(tmp_path, PROGRAM, config_file(tmp_path, config))
    assert time.perf_counter() - begun < 30
    assert done.returncode == 1
    assert done.stderr.startswith("error: ")
    assert "nowhere" in done.stderr
    assert str(Path("data") / "nowhere.npz") in done.stderr
    assert "experiments/synthetic.py" in done.stderr
    assert "Traceback" not in done.stderr
    assert {p.name for p in tmp_path.iterdir()} <= {"tiny.py", "__pycache__"}


@pytest.mark.parametrize(
    ("error", "status", "words"),
    [
        (KeyboardInterrupt(), 130, "--workdir resumes"),
        (BrokenPipeError(), 1, "--workdir resumes"),
        (UserError("mend it"), 1, "error: mend it\n"),
    ],
)
def test_status_and_message_of_a_run_that_stops(monkeypatch, capsys, error, status, words):
    def stops(_):
        raise error

    monkeypatch.setattr(command.signal, "signal", lambda *_: None)
    monkeypatch.setattr(command, "parse", lambda *_: [])
    monkeypatch.setattr("sys.stdout", sys.stdout)  # given back after the test, where the command lets go of it
    assert command.main(stops, "", ["run"]) == status
    assert words in capsys.readouterr().err
