"""The work directory of a run: its config, its environment, its log, and whatever else the run writes.

    config.json         every option of the run; what makes the folder a work directory
    environment.json    code, versions, device, command line, date; `earlier` holds those of the starts before this one
    corpus.json         the model's modalities and labels, which using it takes, and checksums of the corpus
    metrics.jsonl       one line an epoch
    tensorboard/        the same numbers as curves
    .lock               held while a process works here

A file is either complete or not there: written beside its place, then moved. The log alone grows line by line, and a
line counts once it ends, so that a run that was killed reads, after `truncate_after`, as if it had never been.
"""

from __future__ import annotations

import contextlib
import datetime
import fcntl
import importlib.metadata
import importlib.util
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

from ariigcn_jax.files import explaining, flatten, json_safe, write_atomically
from ariigcn_jax.types import UserError

CONFIG, ENVIRONMENT, METRICS, LOCK = "config.json", "environment.json", "metrics.jsonl", ".lock"
RESULTS = "results.json"  # written last: the run is finished
PACKAGES = ("jax", "jaxlib", "flax", "optax", "jraph", "orbax-checkpoint", "numpy", "ml-collections")
ABSENT = "(absent)"


class WorkDir:
    """An open work directory, locked until `close` or the end of the process; made by `open`.

    Attributes:
      path: the folder.
      resumed: the folder was a work directory already.
    """

    def __init__(self, path: Path, resumed: bool, lock: int, tensorboard: bool = True):
        self.path = path
        self.resumed = resumed
        self._lock: int | None = lock
        self._tensorboard = tensorboard
        self._writer: Any = None
        self._purge_step: int | None = None

    def __enter__(self) -> WorkDir:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Ends the TensorBoard log and gives the lock back; may be called twice."""
        self._close_writer()
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def log(self, epoch: int, row: Mapping[str, Any]) -> None:
        """Appends an epoch to the log and to TensorBoard.

        Args:
          epoch: epochs done, from 1.
          row: nested dictionaries of numbers and arrays, one number for each seed. NaN and infinity become null;
            TensorBoard gets the mean over the seeds, under `train/total` for `row["train"]["total"]`.
        """
        row = {name: value for name, value in row.items() if name != "epoch"}
        line = json.dumps(json_safe({"epoch": epoch, **row}), allow_nan=False).encode() + b"\n"
        with explaining(self.path / METRICS):
            self._append(line)
            self._log_scalars(int(epoch), row)

    def read_metrics(self) -> list[dict[str, Any]]:
        """The rows of the log, oldest first; a half-written last line is left out."""
        return [_parse(line, number, self.path) for number, line in enumerate(self._lines(), start=1)]

    def truncate_after(self, epoch: int) -> None:
        """Forgets what was logged after the checkpoint from which the run goes on.

        Args:
          epoch: the checkpoint's epoch, the last to keep; 0 keeps none.
        """
        lines = self._lines()
        kept = [line for line, row in zip(lines, self.read_metrics(), strict=True) if row["epoch"] <= epoch]
        self._close_writer()
        self._purge_step = int(epoch) + 1
        if self._metrics_exist():
            self.write_bytes(METRICS, b"".join(kept))

    def write_json(self, name: str, value: Any) -> Path:
        """Writes a value as JSON, atomically; arrays as lists, NaN and infinity as null."""
        return self.write_text(name, json.dumps(json_safe(value), indent=2, allow_nan=False) + "\n")

    def write_text(self, name: str, text: str) -> Path:
        """Writes a text, atomically, as UTF-8."""
        return self.write_bytes(name, text.encode("utf-8", errors="backslashreplace"))

    def write_bytes(self, name: str, content: bytes) -> Path:
        """Writes a file, atomically.

        Args:
          name: path inside the work directory; its folders are made.
          content: what the file will hold.

        Returns:
          The file's path.
        """
        return write_atomically(self.path / name, content)

    def _metrics_exist(self) -> bool:
        return (self.path / METRICS).exists()

    def _lines(self) -> list[bytes]:
        """The log's complete lines, each with its end."""
        if not self._metrics_exist():
            return []
        return re.findall(rb"[^\n]*\n", (self.path / METRICS).read_bytes())

    def _append(self, line: bytes) -> None:
        """Adds a line, in place of what a killed writer or a full disk left of an earlier one."""
        with (self.path / METRICS).open("ab+") as file:
            file.seek(0)
            file.truncate(file.read().rfind(b"\n") + 1)
            file.write(line)

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


class Onlooker(WorkDir):
    """Stands for the work directory in a process that does not write."""

    def __init__(self) -> None:
        super().__init__(Path("the run's folder"), resumed=False, lock=-1)
        self._lock = None

    def log(self, epoch: int, row: Mapping[str, Any]) -> None:
        """Does nothing."""

    def read_metrics(self) -> list[dict[str, Any]]:
        """Nothing."""
        return []

    def truncate_after(self, epoch: int) -> None:
        """Does nothing."""

    def write_bytes(self, name: str, content: bytes) -> Path:
        """Does nothing."""
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
    """Makes a work directory, or opens one again to resume its run.

    Args:
      path: the folder; None or "" makes `<root>/<experiment>-<YYYYmmdd-HHMMSS>[-k]`.
      experiment: name of the experiment.
      config: every option of the run, nested dictionaries of JSON values.
      may_differ: dotted keys whose value, with all below it, may differ from that of the run that is resumed; the
        stored config then takes the new value.
      root: where folders without a given path are made.
      tensorboard: whether `log` feeds TensorBoard too.

    Returns:
      The work directory, locked.

    Raises:
      UserError: the path is no place for a run, another process works there, or the run there has another config.
    """
    if tensorboard and importlib.util.find_spec("tensorboardX") is None:
        raise UserError("TensorBoard's log needs tensorboardX: install it, or switch the TensorBoard log off")
    with explaining(Path(path or root)):
        folder = _existing_or_new(Path(path).expanduser()) if path else _fresh(Path(root).expanduser(), experiment)
        lock = _acquire(folder)
    try:
        resumed = (folder / CONFIG).exists()
        for pattern in (".*.tmp", "predictions/.*.tmp"):
            for left in folder.glob(pattern):  # by a start that was killed while it wrote
                left.unlink(missing_ok=True)
        directory = WorkDir(folder, resumed, lock, tensorboard)
        _settle_config(directory, json_safe(config), may_differ)
        if not (folder / RESULTS).exists():  # what a finished run came from stays as it was
            _record_environment(directory)
    except BaseException:
        os.close(lock)
        raise
    return directory


def environment() -> dict[str, Any]:
    """What a number depends on besides the config: code, versions, device, command line, date."""
    import jax

    devices = jax.devices()
    return {
        "date": datetime.datetime.now().astimezone().isoformat(timespec="seconds"),
        "command": list(sys.argv),
        "git": _git_state(),
        "python": platform.python_version(),
        "versions": {name: _version(name) for name in PACKAGES},
        "platform": platform.platform(),
        "device": {"platform": devices[0].platform, "kind": devices[0].device_kind, "count": len(devices)},
    }


def _existing_or_new(folder: Path) -> Path:
    """Makes the folder where it is not there; refuses what is neither new, empty nor a work directory."""
    if folder.exists() and not folder.is_dir():
        raise UserError(f"work directory {folder} is a file; choose another --workdir")
    if folder.is_dir() and not (folder / CONFIG).exists():
        # A start that was killed before it wrote its config leaves these.
        others = [p.name for p in folder.iterdir() if p.name != LOCK and not p.name.endswith(".tmp")]
        if others:
            raise UserError(
                f"{folder} is not empty and not a work directory (it has {sorted(others)[0]!r} but no {CONFIG}); "
                "choose a new or empty folder as --workdir"
            )
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _fresh(root: Path, experiment: str) -> Path:
    """A new folder named after the experiment and the time."""
    stem = f"{re.sub(r'[^A-Za-z0-9_.-]+', '-', experiment)}-{datetime.datetime.now():%Y%m%d-%H%M%S}"
    root.mkdir(parents=True, exist_ok=True)
    attempt = 1
    while True:
        folder = root / (stem if attempt == 1 else f"{stem}-{attempt}")
        try:
            folder.mkdir()
        except FileExistsError:
            attempt += 1
        else:
            return folder


def _acquire(folder: Path) -> int:
    """Locks the folder; the lock lives as long as the descriptor that comes back, so no crash leaves it behind."""
    lock = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.ftruncate(lock, 0)
        os.write(lock, f"{os.getpid()}\n".encode())
    except BlockingIOError:
        owner = os.read(lock, 32).decode(errors="replace").strip() or "unknown"
        os.close(lock)
        raise UserError(
            f"process {owner} is at work in {folder}; wait for it, stop it, or choose another --workdir"
        ) from None
    except OSError:
        os.close(lock)
        raise
    return lock


def _settle_config(directory: WorkDir, config: dict[str, Any], may_differ: Collection[str]) -> None:
    """Stores the config of a new run; holds that of a resumed one against the stored one."""
    if directory.resumed:
        stored = read_json(directory.path / CONFIG)
        changed = differences(stored, config)
        refused = [text for key, text in changed.items() if not _covered(key, may_differ)]
        if refused:
            raise UserError(
                f"the run in {directory.path} has other options (stored → given):\n  "
                + "\n  ".join(refused)
                + "\nresume it with the same options, or choose another --workdir"
            )
        if not changed:
            return
    directory.write_json(CONFIG, config)


def differences(stored: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, str]:
    """Dotted key -> "key: stored → given" for every option that is not the same in both."""
    stored, given = flatten(stored), flatten(given)
    texts = {}
    for key in sorted(stored.keys() | given.keys()):
        if key not in stored or key not in given or stored[key] != given[key]:
            old, new = (json.dumps(c[key], ensure_ascii=False) if key in c else ABSENT for c in (stored, given))
            texts[key] = f"{key}: {old} → {new}"
    return texts


def _covered(key: str, allowed: Collection[str]) -> bool:
    return any(key == name or key.startswith(f"{name}.") for name in allowed)


def _record_environment(directory: WorkDir) -> None:
    """Writes where this start runs; those of earlier starts of the run stay under `earlier`, oldest first."""
    file = directory.path / ENVIRONMENT
    record = environment()
    if file.exists():
        last = read_json(file)
        record["earlier"] = [*last.pop("earlier", []), last]
    directory.write_json(ENVIRONMENT, record)


def read_json(file: Path) -> dict[str, Any]:
    """The content of one of a work directory's files.

    Raises:
      UserError: it is not there, or damaged.
    """
    try:
        value = json.loads(file.read_bytes())
    except (OSError, ValueError) as error:
        raise UserError(f"cannot read {file}: {error}; choose another --workdir") from error
    if not isinstance(value, dict):
        raise UserError(f"{file} is not one of a work directory; choose another --workdir")
    return value


def _parse(line: bytes, number: int, folder: Path) -> dict[str, Any]:
    with contextlib.suppress(ValueError):
        row = json.loads(line)
        if isinstance(row, dict) and "epoch" in row:
            return row
    raise UserError(f"{folder / METRICS}, line {number}, is damaged; delete the line or choose another --workdir")


def _git_state() -> dict[str, Any] | None:
    """Commit of the code and whether tracked files differ from it; None where git does not track the code."""
    tracked = _git("ls-files", "--error-unmatch", Path(__file__).name)
    commit = _git("rev-parse", "HEAD")
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


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None
