"""Manage the work directory of a run: its config, environment, log and results.

    config.json         every option of the run; marks the folder as a work directory
    environment.json    code, versions, device, command line, date; `earlier` has those of earlier starts
    corpus.json         the model's modalities and labels, how features were made, and checksums of the corpus
    metrics.jsonl       one line per epoch
    tensorboard/        the same numbers as curves
    .lock               locked while a process works here

Files are written atomically. Only the log grows line by line: its incomplete last line is ignored, and a run that was
killed resumes after `truncate_after`.
"""

from __future__ import annotations

import contextlib
import datetime
import fcntl
import importlib.metadata
import importlib.util
import itertools
import json
import os
import platform
import re
import subprocess
import sys
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ariigcn_jax.files import explaining, flatten, json_safe, local, write_atomically
from ariigcn_jax.runs import version
from ariigcn_jax.types import UserError

CONFIG, ENVIRONMENT, METRICS, LOCK = "config.json", "environment.json", "metrics.jsonl", ".lock"
RESULTS = "results.json"  # written last: the run is finished
PACKAGES = ("jax", "jaxlib", "flax", "optax", "jraph", "orbax-checkpoint", "numpy", "ml-collections")
ABSENT = "(absent)"


class WorkDir:
    """Represent an open work directory, locked until `close` or the end of the process. `open` makes it.

    `resumed` says whether the folder was a work directory before.
    """

    def __init__(self, path: Path, resumed: bool, lock: int | None, tensorboard: bool = True):
        self.path, self.resumed = path, resumed
        self._lock, self._tensorboard = lock, tensorboard
        self._writer: Any = None
        self._purge_step: int | None = None

    def __enter__(self) -> WorkDir:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the TensorBoard log and release the lock. It may be called twice."""
        self._close_writer()
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def log(self, epoch: int, row: Mapping[str, Any]) -> None:
        """Append an epoch, from 1, to the log and to TensorBoard.

        Args:
          epoch: its number.
          row: nested dictionaries of numbers, or arrays with one number per seed. NaN and infinity become null.
            TensorBoard gets the mean over the seeds; `row["train"]["total"]` is named `train/total`.
        """
        row = {name: value for name, value in row.items() if name != "epoch"}
        line = json.dumps(json_safe({"epoch": epoch, **row}), allow_nan=False).encode() + b"\n"
        with explaining(self.path / METRICS):
            with (self.path / METRICS).open("ab+") as file:
                file.seek(0)
                file.truncate(file.read().rfind(b"\n") + 1)  # drops an incomplete line of a kill or a full disk
                file.write(line)
            self._log_scalars(int(epoch), row)

    def read_metrics(self) -> list[dict[str, Any]]:
        """Return the rows of the log, oldest first, without an incomplete last line."""
        return [_parse(line, number, self.path) for number, line in enumerate(self._lines(), start=1)]

    def truncate_after(self, epoch: int) -> None:
        """Drop the rows of the log after an epoch, that of the checkpoint to resume from; 0 drops all."""
        lines = self._lines()
        kept = [line for line, row in zip(lines, self.read_metrics(), strict=True) if row["epoch"] <= epoch]
        self._close_writer()
        self._purge_step = int(epoch) + 1
        if (self.path / METRICS).exists():
            self.write_bytes(METRICS, b"".join(kept))

    def write_json(self, name: str, value: Any) -> Path:
        """Write a value as JSON, atomically: arrays as lists, NaN and infinity as null."""
        return self.write_text(name, json.dumps(json_safe(value), indent=2, allow_nan=False) + "\n")

    def write_text(self, name: str, text: str) -> Path:
        """Write a text as UTF-8, atomically."""
        return self.write_bytes(name, text.encode("utf-8", errors="backslashreplace"))

    def write_bytes(self, name: str, content: bytes) -> Path:
        """Write a file of the work directory, atomically; make its folders and return its path."""
        return write_atomically(self.path / name, content)

    def _lines(self) -> list[bytes]:
        """Return the log's complete lines, each with its newline."""
        file = self.path / METRICS
        return re.findall(rb"[^\n]*\n", file.read_bytes()) if file.exists() else []

    def _log_scalars(self, epoch: int, row: Mapping[str, Any]) -> None:
        if not self._tensorboard:
            return
        if self._writer is None:
            from tensorboardX import SummaryWriter

            self._writer = SummaryWriter(str(self.path / "tensorboard"), purge_step=self._purge_step)
        for name, value in flatten(row, "/").items():
            mean = np.nan if value is None or np.ndim(value) > 1 else np.mean(np.asarray(value, np.float64))
            if np.isfinite(mean):
                self._writer.add_scalar(name, float(mean), epoch)
        self._writer.flush()

    def _close_writer(self) -> None:
        if self._writer is not None:
            self._writer.close()
            self._writer = None


class ReadOnlyWorkDir(WorkDir):
    """Stand for the work directory in a process that does not write."""

    def __init__(self) -> None:
        super().__init__(Path("the run's folder"), resumed=False, lock=None)

    def log(self, epoch: int, row: Mapping[str, Any]) -> None: ...

    def read_metrics(self) -> list[dict[str, Any]]:
        return []

    def truncate_after(self, epoch: int) -> None: ...

    def write_bytes(self, name: str, content: bytes) -> Path:
        return self.path / name


def open(
    path: str | Path | None,
    experiment: str,
    config: Mapping[str, Any],
    *,
    may_differ: Collection[str] = (),
    root: str | Path = "runs",
    tensorboard: bool = True,
) -> WorkDir:
    """Make and lock a work directory, or open an existing one to resume its run.

    Args:
      path: the folder; None or "" makes `<root>/<experiment>-<YYYYmmdd-HHMMSS>[-k]`.
      experiment: name of the experiment.
      config: every option of the run, nested dictionaries of JSON values.
      may_differ: dotted keys that may differ from the stored config, with all keys below; the new value is stored.
      root: folder for new work directories without a path.
      tensorboard: whether `log` also writes for TensorBoard.

    Raises:
      UserError: the path cannot hold a run, or its run is in use, has another config, or is of another version.
    """
    if tensorboard and importlib.util.find_spec("tensorboardX") is None:
        raise UserError("The TensorBoard log needs tensorboardX: install it, or switch the log off")
    with explaining(Path(path or root)):
        folder = _existing_or_new(local(path)) if path else _fresh(local(root), experiment)
        lock = _acquire(folder)
    try:
        version.check(folder)
        for left in itertools.chain(folder.glob(".*.tmp"), folder.glob("predictions/.*.tmp")):
            left.unlink(missing_ok=True)  # of a process that was killed while writing
        directory = WorkDir(folder, (folder / CONFIG).exists(), lock, tensorboard)
        _settle_config(directory, json_safe(config), may_differ)
        if not (folder / RESULTS).exists():  # a finished run keeps its record
            record, file = environment(), folder / ENVIRONMENT
            if file.exists():
                last = read_json(file)
                record["earlier"] = [*last.pop("earlier", []), last]
            directory.write_json(ENVIRONMENT, record)
    except BaseException:
        os.close(lock)
        raise
    return directory


def environment() -> dict[str, Any]:
    """Return the conditions of results besides the config: code, versions, device, command line, date."""
    import jax

    devices = jax.devices()
    return {
        "date": datetime.datetime.now().astimezone().isoformat(timespec="seconds"),
        "command": list(sys.argv),
        "git": _git_state(),
        "python": platform.python_version(),
        "versions": {name: importlib.metadata.version(name) for name in PACKAGES},
        "platform": platform.platform(),
        "device": {"platform": devices[0].platform, "kind": devices[0].device_kind, "count": len(devices)},
    }


def _existing_or_new(folder: Path) -> Path:
    """Make the folder if it does not exist; refuse one that is neither empty nor a work directory."""
    if folder.exists() and not folder.is_dir():
        raise UserError(f"work directory {folder} is a file; choose another --workdir")
    folder.mkdir(parents=True, exist_ok=True)
    # a process that was killed before it wrote its config leaves a lock and temporary files
    others = sorted(p.name for p in folder.iterdir() if p.name != LOCK and not p.name.endswith(".tmp"))
    if others and not (folder / CONFIG).exists():
        raise UserError(
            f"{folder} is not empty and not a work directory (it has {others[0]!r} but no {CONFIG}); "
            "choose a new or empty folder as --workdir"
        )
    return folder


def _fresh(root: Path, experiment: str) -> Path:
    """Make a new folder named after the experiment and the time."""
    stem = f"{re.sub(r'[^A-Za-z0-9_.-]+', '-', experiment)}-{datetime.datetime.now():%Y%m%d-%H%M%S}"
    root.mkdir(parents=True, exist_ok=True)
    for ending in itertools.chain([""], (f"-{k}" for k in itertools.count(2))):
        with contextlib.suppress(FileExistsError):
            (root / f"{stem}{ending}").mkdir()
            break
    return root / f"{stem}{ending}"


def _acquire(folder: Path) -> int:
    """Lock the folder and return the lock's file descriptor. The system releases the lock when the process ends."""
    lock = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.ftruncate(lock, 0)
        os.write(lock, f"{os.getpid()}\n".encode())
    except OSError as error:
        owner = os.read(lock, 32).decode(errors="replace").strip() or "unknown"
        os.close(lock)
        if not isinstance(error, BlockingIOError):
            raise
        raise UserError(
            f"process {owner} is using {folder}; wait for it, stop it, or choose another --workdir"
        ) from None
    return lock


def _settle_config(directory: WorkDir, config: dict[str, Any], may_differ: Collection[str]) -> None:
    """Store the config; refuse that of a resumed run if it differs in other keys than `may_differ`."""
    if directory.resumed:
        changed = differences(read_json(directory.path / CONFIG), config)
        allowed = [key for key in changed if any(f"{key}.".startswith(f"{name}.") for name in may_differ)]
        if refused := [text for key, text in changed.items() if key not in allowed]:
            raise UserError(
                f"the run in {directory.path} has other options (stored → given):\n  "
                + "\n  ".join(refused)
                + "\nresume it with the same options, or choose another --workdir"
            )
        if not changed:
            return
    directory.write_json(CONFIG, config)


def differences(stored: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, str]:
    """Return dotted key -> "key: stored → given" for every option that differs."""
    stored, given = flatten(stored), flatten(given)
    texts = {}
    for key in sorted(stored.keys() | given.keys()):
        if key not in stored or key not in given or stored[key] != given[key]:
            old, new = (json.dumps(c[key], ensure_ascii=False) if key in c else ABSENT for c in (stored, given))
            texts[key] = f"{key}: {old} → {new}"
    return texts


def read_json(file: Path) -> dict[str, Any]:
    """Read a JSON file of a work directory; raise a UserError if it is missing or damaged."""
    try:
        value = json.loads(file.read_bytes())
    except (OSError, ValueError) as error:
        raise UserError(f"{file}: cannot be read ({error}). Copy the run's folder again, or choose another.") from error
    if not isinstance(value, dict):
        raise UserError(f"{file}: holds no JSON object. Copy the run's folder again, or choose another.")
    return value


def _parse(line: bytes, number: int, folder: Path) -> dict[str, Any]:
    with contextlib.suppress(ValueError):
        row = json.loads(line)
        if isinstance(row, dict) and "epoch" in row:
            return row
    raise UserError(f"{folder / METRICS}, line {number}, is damaged; delete the line or choose another --workdir")


def _git_state() -> dict[str, Any] | None:
    """Return the commit of the code and whether tracked files differ; None if git does not track the code."""
    tracked, commit = _git("ls-files", "--error-unmatch", Path(__file__).name), _git("rev-parse", "HEAD")
    if tracked is None or commit is None:
        return None
    return {"commit": commit, "dirty": bool(_git("status", "--porcelain", "--untracked-files=no"))}


def _git(*arguments: str) -> str | None:
    command = ["git", "--no-optional-locks", "-C", str(Path(__file__).resolve().parent), *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
