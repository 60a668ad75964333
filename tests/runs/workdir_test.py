"""Work directories: made, resumed, locked, cut back, and what goes wrong with them."""

import errno
import json
import os
import subprocess
import sys

import numpy as np
import pytest

from ariigcn_jax import files
from ariigcn_jax.runs import workdir
from ariigcn_jax.types import UserError

CONFIG = {"num_epochs": 3, "seeds": (0, 1), "losses": {"iccl": {"weight": 0.1}, "imcl": {}}}


@pytest.fixture(autouse=True)
def quick_environment(monkeypatch):
    """Git and the devices are asked in one test only."""
    full = workdir.environment
    monkeypatch.setattr(workdir, "environment", lambda: {"date": "today"})
    return full


def open_at(path, config=CONFIG, **options):
    return workdir.open(path, "toy", config, **{"tensorboard": False, **options})


def snapshot(folder):
    return {p.relative_to(folder): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_new_folder_without_path(tmp_path):
    with open_at(None, root=tmp_path) as first, open_at("", root=tmp_path) as second:
        assert first.path != second.path
        assert first.path.parent == second.path.parent == tmp_path
        assert not first.resumed
    assert all(p.name.startswith("toy-20") for p in tmp_path.iterdir())


def test_folders_of_one_second_are_numbered(tmp_path, monkeypatch):
    class Clock(workdir.datetime.datetime):
        @classmethod
        def now(cls, tz=None):
            return cls(2024, 5, 6, 7, 8, 9)

    monkeypatch.setattr(workdir.datetime, "datetime", Clock)
    names = []
    for _ in range(3):
        with workdir.open(None, "a/b c", CONFIG, root=tmp_path, tensorboard=False) as directory:
            names.append(directory.path.name)
    assert names == ["a-b-c-20240506-070809", "a-b-c-20240506-070809-2", "a-b-c-20240506-070809-3"]


def test_resume_with_the_same_config(tmp_path):
    open_at(tmp_path / "deep" / "run").close()
    with open_at(str(tmp_path / "deep" / "run")) as again:
        assert again.resumed
    assert json.loads((again.path / "config.json").read_text()) == json.loads(json.dumps(CONFIG))
    assert json.loads((again.path / "environment.json").read_text())["earlier"] == [{"date": "today"}]


def test_resume_with_another_config_names_every_difference(tmp_path):
    open_at(tmp_path / "run").close()
    before = snapshot(tmp_path)
    given = {"num_epochs": 4, "losses": {"iccl": {"weight": 0.1, "temperature": 0.2}, "imcl": {}}}
    with pytest.raises(UserError) as error:
        open_at(tmp_path / "run", given)
    message = str(error.value)
    assert "num_epochs: 3 → 4" in message
    assert "seeds: [0, 1] → (absent)" in message
    assert "losses.iccl.temperature: (absent) → 0.2" in message
    assert "weight" not in message
    assert "--workdir" in message
    assert snapshot(tmp_path) == before
    open_at(tmp_path / "run").close()


def test_allowed_difference_is_stored(tmp_path):
    open_at(tmp_path / "run").close()
    given = CONFIG | {"num_epochs": 4, "losses": {"iccl": {"weight": 0.2}, "imcl": {}}}
    with pytest.raises(UserError, match="losses"):
        open_at(tmp_path / "run", given, may_differ=["num_epochs", "loss"])
    open_at(tmp_path / "run", given, may_differ=["num_epochs", "losses"]).close()
    open_at(tmp_path / "run", given).close()


def test_second_process_is_told_who_works_here(tmp_path):
    code = (
        "import sys; from ariigcn_jax.runs import workdir; workdir.environment = dict\n"
        "workdir.open(sys.argv[1], 'toy', {}, tensorboard=False); print('open', flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "run")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout.readline() == "open\n"
        with pytest.raises(UserError, match=f"process {other.pid} "):
            open_at(tmp_path / "run", {})
        other.kill()
    with open_at(tmp_path / "run", {}) as directory:
        assert directory.resumed


def test_places_that_are_no_work_directory(tmp_path):
    (tmp_path / "file").write_text("mine")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "notes.txt").write_text("mine")
    before = snapshot(tmp_path)
    for path, words in [("file", "is a file"), ("full", "notes.txt"), ("file/run", "cannot write")]:
        with pytest.raises(UserError, match=words):
            open_at(tmp_path / path)
    assert snapshot(tmp_path) == before


def test_start_killed_before_its_config_can_start_again(tmp_path):
    (tmp_path / ".lock").write_text("12\n")
    (tmp_path / ".12.tmp").write_text("{")
    with open_at(tmp_path) as directory:
        assert not directory.resumed


@pytest.mark.parametrize("url", ["gs://bucket/run", "s3://bucket/run", "file:///tmp/run"])
def test_url_is_refused_before_anything_is_made(tmp_path, monkeypatch, url):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=f"{url}: this is a URL, and files are read and written on this machine alone"):
        workdir.open(url, "toy", CONFIG)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("place", ["run", "run/below"])
def test_read_only_place(tmp_path, place):
    """Mounted so in a namespace of its own, for permissions do not stop root."""
    open_at(tmp_path / "run").close()
    before = snapshot(tmp_path)
    mount = "mount --bind run run && mount -o remount,bind,ro run || exit 77"
    code = f"from ariigcn_jax.runs import workdir; workdir.open({place!r}, 'toy', {CONFIG!r}, tensorboard=False)"
    command = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", f'{mount}; exec "$@"', "sh"]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    options = {"cwd": tmp_path, "env": environment, "capture_output": True, "text": True, "check": False}
    try:
        done = subprocess.run([*command, sys.executable, "-c", code], **options)
    except FileNotFoundError:
        pytest.skip("there is no unshare here")
    if done.returncode == 77 or "unshare" in done.stderr:
        pytest.skip(f"mounting is not permitted here: {done.stderr}")
    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1:]
    assert "UserError: cannot write run" in done.stderr and "Read-only file system" in done.stderr, last
    assert snapshot(tmp_path) == before


def test_what_a_killed_writer_left_is_removed(tmp_path):
    open_at(tmp_path).close()
    (tmp_path / "predictions").mkdir()
    for name in (".results.json.12.tmp", "predictions/.seed_0.csv.12.tmp"):
        (tmp_path / name).write_text("{")
    open_at(tmp_path).close()
    assert not list(tmp_path.rglob("*.tmp"))


def test_full_disk_leaves_the_old_file(tmp_path, monkeypatch):
    def full(_):
        raise OSError(errno.ENOSPC, "No space left on device")

    with open_at(tmp_path) as directory:
        directory.write_json("results.json", {"a": 1})
        before = snapshot(tmp_path)
        monkeypatch.setattr(os, "fsync", full)
        with pytest.raises(UserError, match=r"results\.json: No space left on device.*free space"):
            directory.write_json("results.json", {"a": 2})
        assert snapshot(tmp_path) == before


@pytest.mark.parametrize("place", [".", "", "/", "there"])
def test_folder_in_the_place_of_a_file_is_refused(tmp_path, monkeypatch, place):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "there").mkdir()
    with pytest.raises(UserError, match=r"cannot write .*: it is a folder\. Name a file in it"):
        files.write_atomically(place, b"x")


def test_write_that_breaks_off_leaves_the_old_file(tmp_path):
    path = tmp_path / "dialogues.npz"
    path.write_text("old")
    with pytest.raises(RuntimeError), files.atomic(path) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert [file.name for file in tmp_path.iterdir()] == ["dialogues.npz"] and path.read_text() == "old"


@pytest.mark.parametrize("content", [b"{", b"[]"])
def test_damaged_config(tmp_path, content):
    (tmp_path / "config.json").write_bytes(content)
    with pytest.raises(UserError, match=r"config\.json"):
        open_at(tmp_path)
    with pytest.raises(UserError, match=r"config\.json"):  # and not: locked by the first attempt
        open_at(tmp_path)


def test_log_is_plain_json(tmp_path):
    with open_at(tmp_path) as directory:
        train = {"total": np.float32(0.5), "iccl": np.array([1.0, np.nan]), "n": np.int32(3), "x": float("inf")}
        directory.log(1, {"train": train, "seconds": 0.25})
        directory.log(np.int64(2), {"epoch": 2, "valid": {"ok": True, "name": None}})
        assert directory.read_metrics() == [
            {"epoch": 1, "train": {"total": 0.5, "iccl": [1.0, None], "n": 3, "x": None}, "seconds": 0.25},
            {"epoch": 2, "valid": {"ok": True, "name": None}},
        ]
    assert b"NaN" not in (tmp_path / "metrics.jsonl").read_bytes()


def test_truncated_log_is_as_if_never_interrupted(tmp_path):
    with open_at(tmp_path / "whole") as whole:
        for epoch in range(1, 5):
            whole.log(epoch, {"train": {"total": 1 / epoch}})
    with open_at(tmp_path / "cut") as cut:
        for epoch in range(1, 4):
            cut.log(epoch, {"train": {"total": 1 / epoch}})
    with (cut.path / "metrics.jsonl").open("a") as file:
        file.write('{"epoch": 4, "tra')
    with open_at(tmp_path / "cut") as cut:
        assert [row["epoch"] for row in cut.read_metrics()] == [1, 2, 3]
        cut.truncate_after(2)
        for epoch in range(3, 5):
            cut.log(epoch, {"train": {"total": 1 / epoch}})
    assert (cut.path / "metrics.jsonl").read_bytes() == (whole.path / "metrics.jsonl").read_bytes()


def test_log_after_half_a_line_and_truncation_of_nothing(tmp_path):
    with open_at(tmp_path) as directory:
        directory.truncate_after(0)
        assert directory.read_metrics() == []
        directory.log(1, {})
        with (tmp_path / "metrics.jsonl").open("a") as file:
            file.write('{"epoch"')
        directory.log(2, {})
        assert directory.read_metrics() == [{"epoch": 1}, {"epoch": 2}]


def test_damaged_line_is_named(tmp_path):
    with open_at(tmp_path) as directory:
        directory.log(1, {})
        with (tmp_path / "metrics.jsonl").open("a") as file:
            file.write("half a li{}\n")
        with pytest.raises(UserError, match="line 2"):
            directory.read_metrics()


def test_tensorboard_scalars_and_purge(tmp_path, monkeypatch):
    import tensorboardX

    calls = []

    class Writer:
        def __init__(self, folder, purge_step):
            calls.append(("open", purge_step))

        def add_scalar(self, name, value, step):
            calls.append((name, value, step))

        def flush(self):
            calls.append("flush")

        def close(self):
            calls.append("close")

    monkeypatch.setattr(tensorboardX, "SummaryWriter", Writer)
    with open_at(tmp_path, tensorboard=True) as directory:
        row = {"train": {"total": np.array([1.0, 2.0])}, "valid": {"wide": np.ones((2, 3))}, "seconds": 0.5}
        directory.log(1, row)
        directory.truncate_after(0)
        directory.log(1, {"seconds": 0.75})
    assert calls == [
        ("open", None), ("train/total", 1.5, 1), ("seconds", 0.5, 1), "flush", "close",
        ("open", 1), ("seconds", 0.75, 1), "flush", "close",
    ]  # fmt: skip


def test_tensorboard_writes_events(tmp_path):
    with open_at(tmp_path, tensorboard=True) as directory:
        directory.log(1, {"train": {"total": 1.0}, "valid": {"f1": None}})
    (file,) = (tmp_path / "tensorboard").iterdir()
    assert b"train/total" in file.read_bytes()


def test_missing_tensorboard_is_an_error_before_training(tmp_path, monkeypatch):
    monkeypatch.setattr(workdir.importlib.util, "find_spec", lambda _: None)
    with pytest.raises(UserError, match="tensorboardX"):
        open_at(tmp_path / "run", tensorboard=True)
    assert not (tmp_path / "run").exists()


def test_written_files(tmp_path):
    with open_at(tmp_path) as directory:
        directory.write_json("a/b.json", {"x": np.array([[1, 2]]), "nan": np.nan})
        directory.write_text("odd.md", "é\ud800\n")
        directory.write_bytes("c.png", b"\x89PNG")
    assert json.loads((tmp_path / "a" / "b.json").read_text()) == {"x": [[1, 2]], "nan": None}
    assert (tmp_path / "odd.md").read_text(encoding="utf-8") == "é\\ud800\n"
    assert not list(tmp_path.rglob("*.tmp"))


def test_json_safe_refuses_what_it_cannot_keep():
    with pytest.raises(TypeError, match="function"):
        files.json_safe({"a": lambda: None})


def test_environment(quick_environment):
    found = quick_environment()
    assert found["versions"]["numpy"] == np.__version__
    assert found["versions"].keys() == set(workdir.PACKAGES)
    assert found["device"]["count"] >= 1
    assert found["git"] is None or len(found["git"]["commit"]) == 40
    json.dumps(found)


def test_code_outside_git(monkeypatch):
    monkeypatch.setattr(workdir, "_git", lambda *_: None)
    assert workdir._git_state() is None
