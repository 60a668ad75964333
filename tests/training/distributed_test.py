"""Several processes give what one gives; when one is lost the others end soon, and another number of them goes on.

Run as a program, this file is one of the processes.
"""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest

from ariigcn_jax import parallel
from ariigcn_jax.options import base
from ariigcn_jax.runs import session
from ariigcn_jax.types import UserError

ROOT = Path(__file__).resolve().parents[2]
TIMEOUT_SECONDS = 300
SOON_SECONDS = 20
EPOCHS = 40


def config_for(coordinator="", process=0):
    """All terms with dropout, on ragged dialogues; rows of a step that two devices cannot share evenly."""
    config = base.get_config()
    options = {
        "num_epochs": EPOCHS,
        "batch_size": 8,
        "model.hidden": 8,
        "model.contrast_width": 4,
        "model.graph.layers": 1,
        "model.graph.heads": 2,
        "model.graph.past": 2,
        "model.graph.future": 2,
        "model.graph.block": 0,
        "model.gan.generator_hidden": 8,
        "model.gan.discriminator_hidden": 8,
        "checkpoint.every_seconds": 0.0,
        "distributed.coordinator": coordinator,
        "distributed.processes": 2 if coordinator else 1,
        "distributed.process": process,
    }
    config.update_from_flattened_dict(options)
    widths = {"text": 5, "audio": 3}
    config.data.generate = dict(dialogues=34, utterances=(2, 9), classes=3, widths=widths, missing=0.1)
    return config.lock()


def rows_of(folder):
    file = folder / "metrics.jsonl"
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


def start(folder, address, process):
    environment = os.environ | {
        "JAX_PLATFORMS": "cpu",
        "JAX_DISABLE_MOST_OPTIMIZATIONS": "1",
        "ARIIGCN_CACHE": str(folder.parent / "compiled"),
        "PYTHONPATH": str(ROOT),
    }
    command = [sys.executable, __file__, str(folder), address, str(process)]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def wait_for(condition, processes):
    end = time.monotonic() + TIMEOUT_SECONDS
    while not condition():
        assert time.monotonic() < end, "took too long"
        for process in processes:
            assert process.poll() is None, process.communicate()[1][-4000:]
        time.sleep(0.05)


def _go_on_with_two(begun, folder):
    """The last epoch of a run by one process again, by two."""
    shutil.copytree(begun, folder)
    (folder / "results.json").unlink()
    shutil.rmtree(folder / "checkpoints" / str(EPOCHS))
    address = free_address()
    processes = [start(folder, address, k) for k in range(2)]
    try:
        for process in processes:
            assert process.wait(TIMEOUT_SECONDS) == 0, process.communicate()[1][-4000:]
    finally:
        for process in processes:
            process.kill()
            process.communicate()


def free_address():
    with socket.create_server(("127.0.0.1", 0)) as free:
        return f"127.0.0.1:{free.getsockname()[1]}"


@pytest.fixture(scope="module")
def stories(tmp_path_factory):
    """Folders of a run by one process, and of one that began with two, lost one and went on with one; the survivor."""
    folder = tmp_path_factory.mktemp("distributed")
    address = free_address()
    processes = [start(folder / "two", address, k) for k in range(2)]
    try:
        wait_for(lambda: len(rows_of(folder / "two")) >= 2, processes)
        processes[1].send_signal(signal.SIGKILL)
        lost = time.monotonic()
        out, err = processes[0].communicate(timeout=TIMEOUT_SECONDS)
        survivor = {"seconds": time.monotonic() - lost, "status": processes[0].returncode, "out": out, "err": err}
    finally:
        for process in processes:
            process.kill()
            process.communicate()
    survivor["rows"] = rows_of(folder / "two")
    jax.config.update("jax_disable_most_optimizations", True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ARIIGCN_CACHE", str(folder / "compiled"))
        session.execute(config_for(), str(folder / "two"))
        session.execute(config_for(), str(folder / "one"))
    jax.config.update("jax_disable_most_optimizations", False)
    _go_on_with_two(folder / "one", folder / "grown")
    return folder / "one", folder / "two", survivor


@pytest.mark.slow
def test_a_lost_process_ends_the_other_soon_with_a_message(stories):
    *_, survivor = stories
    assert survivor["status"] == 1, survivor["err"][-4000:]
    assert survivor["seconds"] < SOON_SECONDS
    assert "error: process 0 of 2: another process was lost" in survivor["err"]
    assert "--workdir" in survivor["err"] and "Traceback" not in survivor["err"]
    assert 2 <= len(survivor["rows"]) < EPOCHS


@pytest.mark.slow
def test_two_processes_give_what_one_gives_and_another_number_goes_on(stories):
    one, two, survivor = stories
    ours, theirs = rows_of(one), rows_of(two)
    assert [row["epoch"] for row in theirs] == list(range(1, EPOCHS + 1))
    for a, b in zip(ours[:2], survivor["rows"], strict=False):
        for name, value in a["train"].items():
            np.testing.assert_allclose(b["train"][name], value, rtol=1e-4, err_msg=name)
        assert a["valid"]["confusion"] == b["valid"]["confusion"]
    assert theirs[0] == survivor["rows"][0]  # the resumed run did not begin again
    assert (two / "results.json").exists()
    np.testing.assert_allclose(theirs[-1]["train"]["total"], ours[-1]["train"]["total"], rtol=0.05)


@pytest.mark.slow
def test_a_run_of_one_process_goes_on_with_two(stories):
    one, *_ = stories
    ours, theirs = rows_of(one), rows_of(one.parent / "grown")
    assert theirs[:-1] == ours[:-1]  # it did not begin again
    assert theirs[-1]["seconds"] != ours[-1]["seconds"]
    for name, value in ours[-1]["train"].items():
        np.testing.assert_allclose(theirs[-1]["train"][name], value, rtol=1e-3, err_msg=name)
    results = [json.loads((folder / "results.json").read_text()) for folder in (one, one.parent / "grown")]
    assert results[0]["test"]["confusion"] == results[1]["test"]["confusion"]


@pytest.mark.parametrize("coordinator, processes, process", [("nowhere", 2, 0), ("host:12", 2, 2), ("host:12", 1, -1)])
def test_impossible_options_are_refused(coordinator, processes, process):
    with pytest.raises(UserError, match=r"distributed\.coordinator"):
        parallel.join(coordinator, processes, process, 10)


def test_shares_of_one_process_are_all_of_its_devices():
    order = np.arange(12).reshape(2, 6)
    np.testing.assert_array_equal(parallel.local_shares(order, 2), [[[0, 1, 2], [6, 7, 8]], [[3, 4, 5], [9, 10, 11]]])


if __name__ == "__main__":
    session.execute(config_for(sys.argv[2], int(sys.argv[3])), sys.argv[1])
