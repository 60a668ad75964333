"""Killed at random moments, or stopped by a full disk, and resumed, a run ends with the bits of one left alone.

    KILLS=100 python -m pytest -n 0 -s -m slow tests/kill_test.py

kills so many times, prints where the kills landed and how many epochs were repeated; without KILLS there are a few. The
processes are forked from one that has imported everything, which is what a start spends most of its time on.
"""

import atexit
import collections
import json
import multiprocessing
import os
import random
import re
import runpy
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ariigcn_jax.runs import checkpoint
from tests.runs.runner_test import tiny
from tests.support.runs import assert_same_run, config_file
from tests.training.distributed_test import free_address, rows_of

FORKS = multiprocessing.get_context("forkserver")
KILLS = int(os.environ.get("KILLS", "6"))
SHARES = {"run": 1.0, "ablate": 0.1, "two processes": 0.06}  # of KILLS
PER_STORY = 10  # kills of one run, at most; then it is left alone until it is finished
EPOCHS = 8
TIMEOUT_SECONDS = 600
LIGHT = {  # dropout and a cosine schedule; what takes long to trace is left out, so that a start is cheap
    "num_epochs": EPOCHS,
    "diagnostics.every": 0,
    "losses.adversarial.weight": 0.0,
    "losses.iccl.weight": 0.0,
    "losses.imcl.weight": 0.0,
    "losses.unimodal.weight": 0.0,
    "model.graph.layers": 0,
    "data.only": ("text",),
    "distributed.patience": 5,
}


@pytest.fixture(scope="module", autouse=True)
def forks(tmp_path_factory):
    """What the processes inherit: what JAX compiles, and quickly."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JAX_PLATFORMS", "cpu")
        patch.setenv("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")
        patch.setenv("ARIIGCN_CACHE", str(tmp_path_factory.mktemp("compiled")))
        FORKS.set_forkserver_preload(
            ["tests.runs.kill_test", "experiments.ablate", "ariigcn_jax.runs.figures", "tensorboardX"]
        )
        yield


def command(folder, line):
    """`python -m *line` in a folder, in a process of its own."""
    os.chdir(folder)
    with open("output.txt", "a") as out:
        os.dup2(out.fileno(), 1), os.dup2(out.fileno(), 2)
    sys.argv = line
    sys.modules.pop(line[0], None)
    try:
        runpy.run_module(line[0], run_name="__main__", alter_sys=True)
    finally:
        atexit._run_exitfuncs()  # a forked process would end without; several processes take leave of each other there


class Start:
    """One start of the command: its processes, and what they printed."""

    def __init__(self, kind, folder, name):
        self.kind, self.path = kind, folder / name
        self.rows = len(rows_of(self.path))
        self.began = time.time()
        common = ["--config=tiny.py", f"--workdir={name}"]
        lines = [["experiments.run", *common]]
        if kind == "ablate":
            ablations = "--ablations=emotion_focal,emotion_weighted_cross_entropy"
            lines = [["experiments.ablate", *common, ablations, "--seeds=2"]]
        if kind == "two processes":
            address = free_address()
            together = [f"--config.distributed.coordinator={address}", "--config.distributed.processes=2"]
            lines = [[*lines[0], *together, f"--config.distributed.process={k}"] for k in range(2)]
        self._log = folder / "output.txt"
        self._log.write_bytes(b"")
        self.processes = [FORKS.Process(target=command, args=(folder, line)) for line in lines]
        for process in self.processes:
            process.start()

    @property
    def output(self):
        return self._log.read_text(errors="replace")

    @property
    def resumed_after(self):
        """The epoch of the checkpoint that it went on from; 0 without one, None before it is known."""
        found = re.search(r"after epoch (\d+)\.", self.output)
        return int(found[1]) if found else 0 if "Compiling" in self.output else None

    def ended(self):
        return all(process.exitcode is not None for process in self.processes)

    def until(self, condition):
        """Waits until the condition holds or the command has ended."""
        end = time.monotonic() + TIMEOUT_SECONDS
        while not condition() and not self.ended():
            assert time.monotonic() < end, self.output
            time.sleep(0.005)

    def finish(self):
        self.until(lambda: False)
        assert [process.exitcode for process in self.processes] == [0] * len(self.processes), self.output

    def kill(self, processes):
        for process in processes:
            process.kill()
        self.until(lambda: False)

    def phase(self):
        """Where the kill landed, told by what is there now."""
        if self.kind == "ablate":
            return f"in run {len(list(self.path.glob('*/config.json')))} of 3"
        done = self.resumed_after
        writing = [p for p in self.path.glob("checkpoints/*tmp*") if p.stat().st_mtime > self.began]
        if done is None:
            return "before the first compilation"
        if writing:
            return "while a checkpoint was written"
        if len(rows_of(self.path)) == EPOCHS:
            return "while results were written"
        return "in an epoch" if len(rows_of(self.path)) > done else "while compiling"


def timed(start):
    """Seconds of the parts of a start that nothing interrupts."""
    seconds, begun = {}, time.monotonic()
    for name, condition in {
        "start": lambda: rows_of(start.path),
        "epochs": lambda: len(rows_of(start.path)) == EPOCHS,
        "results": lambda: False,
    }.items():
        start.until(condition)
        seconds[name], begun = time.monotonic() - begun, time.monotonic()
    return seconds


def wait_for_a_moment(start, draw, seconds):
    """Of a kind that is drawn, so that the rare ones are met too; earlier if the command ends."""
    kind = draw.choice(["start", "epoch", "checkpoint", "checkpoint", "results"])
    if kind == "start" or start.kind == "ablate":  # whose log is in its runs: the start is all of it
        longest = seconds["start"]
    elif kind == "epoch":
        further = start.rows + draw.randint(1, 3)
        start.until(lambda: len(rows_of(start.path)) >= min(further, EPOCHS))
        longest = seconds["epochs"] / EPOCHS
    elif kind == "checkpoint":
        further = draw.randint(1, 3)
        seen = set()

        def several():
            seen.update(p.name for p in start.path.glob("checkpoints/*tmp*") if p.stat().st_mtime > start.began)
            return len(seen) >= further

        start.until(several)
        longest = seconds["epochs"] / EPOCHS / 2
    else:
        start.until(lambda: len(rows_of(start.path)) == EPOCHS and start.resumed_after is not None)
        longest = seconds["results"]
    pause = time.monotonic() + draw.uniform(0, longest)
    start.until(lambda: time.monotonic() >= pause)


def assert_readable(folder):
    """Whatever is there is whole: every JSON file, the log's complete lines, the newest checkpoints."""
    for file in folder.glob("*.json"):
        json.loads(file.read_bytes())
    if (folder / "metrics.jsonl").exists():
        lines = (folder / "metrics.jsonl").read_bytes().split(b"\n")[:-1]
        assert [json.loads(line)["epoch"] for line in lines] == list(range(1, len(lines) + 1))
    complete = sorted(int(p.name) for p in folder.glob("checkpoints/*") if p.name.isdigit())
    for epoch in complete[-2:]:  # an older one may have been killed while it was deleted
        assert checkpoint._damage(folder / "checkpoints" / str(epoch)) is None
        assert (folder / "checkpoints" / str(epoch) / checkpoint.SUMS).exists()
    if complete:
        checkpoint.read_best(folder)


@pytest.mark.slow
@pytest.mark.parametrize("kind", SHARES)
def test_killed_anywhere_it_ends_with_the_same_bits(kind, tmp_path):
    config_file(tmp_path, tiny(LIGHT))
    Start(kind, tmp_path, "first").finish()  # compiles
    whole = Start(kind, tmp_path, "whole")
    seconds = timed(whole)
    whole.finish()
    left, stories = max(1, round(SHARES[kind] * KILLS)), 0
    landed, repeated = collections.Counter(), collections.Counter()
    while left:
        stories += 1
        draw, folder = random.Random(f"{kind}/{stories}"), tmp_path / f"cut{stories}"
        for _ in range(min(left, PER_STORY)):
            start = Start(kind, tmp_path, folder.name)
            wait_for_a_moment(start, draw, seconds)
            if start.ended():
                break
            rows, first = len(rows_of(folder)), draw.randrange(len(start.processes))
            start.kill(draw.choice([start.processes, start.processes[first : first + 1]]))
            landed[start.phase()] += 1
            left -= 1
            for path in [folder, *(p.parent for p in folder.glob("*/config.json"))]:
                assert_readable(path)
            if kind == "run" and start.resumed_after is not None:
                repeated[start.rows - start.resumed_after] += 1
                assert start.rows - start.resumed_after <= 1
            print(kind, f"killed after {rows} epochs {start.phase()}; {left} kills left", flush=True)
        Start(kind, tmp_path, folder.name).finish()
        names = [p.parent.relative_to(folder) for p in folder.glob("*/config.json")] or [Path()]
        for name in names:
            assert_same_run(tmp_path / "whole" / name, folder / name)
        for table in (tmp_path / "whole").glob("ablations.*"):
            assert table.read_bytes() == (folder / table.name).read_bytes()
        assert not list(folder.rglob("*tmp*"))
    words = ", ".join(f"{count} {phase}" for phase, count in landed.most_common())
    print(f"{kind}: {sum(landed.values())} kills of {stories} runs: {words}; epochs done again: {dict(repeated)}")


FULL_DISK = """
mount -t tmpfs -o size=360k tmpfs disk || exit 77
"$@" >full.txt 2>&1; echo $? >status.txt
cp -r disk/cut full
mount -o remount,size=64m disk
"$@" >output.txt 2>&1 && cp -r disk/cut cut
"""  # in a namespace of its own; 360 KiB are full while the third checkpoint is written


@pytest.mark.slow
def test_stopped_by_a_full_disk_it_ends_with_the_same_bits(tmp_path):
    config_file(tmp_path, tiny(LIGHT))
    Start("run", tmp_path, "whole").finish()
    (tmp_path / "disk").mkdir()
    line = [sys.executable, "-m", "experiments.run", "--config=tiny.py", "--workdir=disk/cut"]
    private = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", FULL_DISK, "sh", *line]
    if not shutil.which("unshare"):
        pytest.skip("there is no unshare here")
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(private, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    if not (tmp_path / "status.txt").exists():
        pytest.skip(f"mounting is not permitted here: {done.stderr}")
    said = (tmp_path / "full.txt").read_text()
    assert (tmp_path / "status.txt").read_text() == "1\n"
    assert "error: " in said and "No space left on device" in said and "Traceback" not in said, said
    assert_readable(tmp_path / "full")
    assert not (tmp_path / "full" / "results.json").exists()
    assert "Resuming" in (tmp_path / "output.txt").read_text()
    assert_same_run(tmp_path / "whole", tmp_path / "cut")
