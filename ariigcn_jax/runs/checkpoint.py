"""Save and restore a run's checkpoints (orbax): its last state and its best parameters together.

    checkpoints/<epoch>/last    TrainState of each seed, leading axis S (S * K with K members, seed after seed)
    checkpoints/<epoch>/best    parameters of each seed's best epoch so far, with that epoch and its score
    checkpoints/<epoch>/data    statistics that the features were standardised with
    checkpoints/<epoch>/SHA256SUMS    checksums of these files, in the format of `sha256sum -c`

Saving is asynchronous and atomic, checksums included. A damaged checkpoint is skipped with a warning. Process 0 alone
reads and writes.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp

from ariigcn_jax import parallel
from ariigcn_jax.types import UserError, first_line

FOLDER, DAMAGED = "checkpoints", "damaged_checkpoints"
ITEMS = ("last", "best", "data")
SUMS = "SHA256SUMS"
FULL = os.strerror(errno.ENOSPC)  # stands at the end of a long line in tensorstore's message


class Checkpoints:
    """Manage the checkpoints of one work directory; the newest `keep` are kept."""

    def __init__(self, directory: Path, keep: int):
        self._manager: Any = None
        if not parallel.is_first():
            return
        folder = (directory / FOLDER).absolute()
        folder.mkdir(parents=True, exist_ok=True)
        several = dict(primary_host=0, active_processes={0}, barrier_sync_key_prefix="first")
        options = ocp.CheckpointManagerOptions(
            max_to_keep=keep,
            create=False,
            cleanup_tmp_directories=True,
            enable_async_checkpointing=True,
            # Called when all items are written, before the folder that holds them is moved to its place.
            async_options=ocp.AsyncOptions(post_finalization_callback=lambda: _write_sums(folder)),
            multiprocessing_options=ocp.options.MultiprocessingOptions(**several if parallel.processes() > 1 else {}),
        )
        self._manager = ocp.CheckpointManager(folder, options=options, item_names=ITEMS)

    def latest(self) -> int | None:
        """Return the epoch of the newest intact checkpoint; None without checkpoints.

        Newer, damaged ones are moved aside with a warning. If none is intact, a UserError is raised.
        """
        epoch = parallel.from_first(self._newest_intact, otherwise=None)
        agreed = int(parallel.broadcast(np.int32(-1 if epoch is None else epoch)))
        return None if agreed < 0 else agreed

    def _newest_intact(self) -> int | None:
        folder, damaged = Path(self._manager.directory), dict[int, str]()
        for epoch in sorted(self._manager.all_steps(), reverse=True):
            if (problem := _damage(folder / str(epoch))) is None:
                break
            damaged[epoch] = problem
        else:
            if damaged:
                raise _none_intact(folder, damaged)
            return None
        for bad, problem in damaged.items():
            aside = folder.parent / DAMAGED / str(bad)
            shutil.rmtree(aside, ignore_errors=True)
            aside.parent.mkdir(exist_ok=True)
            (folder / str(bad)).rename(aside)
            print(
                f"warning: {folder / str(bad)}: this checkpoint is damaged ({problem}). It was moved to {aside}; the "
                f"checkpoint of epoch {epoch} is used instead.",
                file=sys.stderr,
            )
        if damaged:
            self._manager.reload()
        if not (folder / str(epoch) / SUMS).exists():
            print(f"note: {folder / str(epoch)} has no {SUMS}; it is used without a check.")
        return epoch

    def save(self, epoch: int, items: dict[str, Any]) -> None:
        """Start to save {"last", "best", "data"}, pytrees of arrays; raise a UserError if the save before failed."""
        if self._manager is None:
            return
        arguments = {name: ocp.args.StandardSave(jax.tree.map(np.asarray, items[name])) for name in ITEMS}
        with _saving(self._manager.directory):
            if self._manager.latest_step() != epoch:
                self._manager.save(epoch, args=ocp.args.Composite(**arguments))

    def restore(self, epoch: int, like: dict[str, Any]) -> dict[str, Any]:
        """Read the items of an epoch's checkpoint as numpy arrays, with the shapes and dtypes of `like`.

        Raises:
          UserError: it does not fit `like` or cannot be read.
        """
        like = jax.tree.map(np.asarray, like)
        return parallel.broadcast(parallel.from_first(lambda: self._restore(epoch, like), otherwise=like))

    def _restore(self, epoch: int, like: dict[str, Any]) -> dict[str, Any]:
        arguments = {name: ocp.args.StandardRestore(jax.tree.map(_abstract, tree)) for name, tree in like.items()}
        path = self._manager.directory / str(epoch)
        try:
            restored = self._manager.restore(epoch, args=ocp.args.Composite(**arguments))
        except (ValueError, KeyError, TypeError, OSError) as error:
            raise UserError(
                f"{path}: this checkpoint cannot be used here ({first_line(error)}). Delete that folder to go on from "
                "the one before it, or use another --workdir."
            ) from error
        items = {name: restored[name] for name in like}
        for (key, stored), wanted in zip(jax.tree.leaves_with_path(items), jax.tree.leaves(like), strict=True):
            if np.shape(stored) != np.shape(wanted):
                raise UserError(
                    f"{path}: {jax.tree_util.keystr(key)} has the shape {np.shape(stored)}, and this config makes it "
                    f"{np.shape(wanted)}. Use the config that the run began with, or another --workdir."
                )
        return items

    def wait(self) -> None:
        """Wait for pending saves; raise a UserError if the disk is full or not writable."""
        if self._manager is not None:
            with _saving(self._manager.directory):
                self._manager.wait_until_finished()

    def finish(self) -> None:
        """Wait for pending saves and close."""
        self.wait()
        if self._manager is not None:
            self._manager.close()


def _abstract(x: Any) -> Any:
    return np.zeros(np.shape(x), x.dtype) if isinstance(x, np.ndarray) else jax.ShapeDtypeStruct(x.shape, x.dtype)


def _write_sums(folder: Path) -> None:
    """Add checksums to the one checkpoint that is being written."""
    (written,) = folder.glob(f"*{ocp.path.atomicity.TMP_DIR_SUFFIX}*")
    (written / SUMS).write_text("".join(f"{value}  {name}\n" for name, value in _sums(written).items()))


def _sums(folder: Path) -> dict[str, str]:
    """Return file -> SHA-256 of a checkpoint's items; files are relative to its folder."""
    files = sorted(p for item in ITEMS for p in (folder / item).rglob("*") if p.is_file())
    sums = {}
    for path in files:
        with path.open("rb") as file:
            sums[path.relative_to(folder).as_posix()] = hashlib.file_digest(file, "sha256").hexdigest()
    return sums


def _damage(folder: Path) -> str | None:
    """Return which file of a checkpoint is damaged; None if all are intact or there are no checksums."""
    if not (folder / SUMS).exists():
        return None
    try:
        *lines, rest = (folder / SUMS).read_text().split("\n")
        if rest:
            return f"{SUMS} is incomplete"
        written = {name: value for value, name in (line.split("  ", 1) for line in lines)}
        found = _sums(folder)
    except (OSError, ValueError) as error:
        return first_line(error)
    wrong = sorted(name for name in written.keys() | found.keys() if written.get(name) != found.get(name))
    return f"{wrong[0]} {'does not match its checksum' if wrong[0] in found else 'is missing'}" if wrong else None


def _none_intact(folder: Path, damaged: dict[int, str]) -> UserError:
    problems = "; ".join(f"{epoch}: {problem}" for epoch, problem in damaged.items())
    return UserError(
        f"{folder}: no checkpoint there is intact ({problems}). Restore them from a copy, or delete "
        "that folder, and results.json if it exists, to start the run again."
    )


@contextlib.contextmanager
def _saving(path: Any) -> Iterator[None]:
    """Turn errors of a full or read-only disk into a UserError."""
    try:
        yield
    except (OSError, ValueError, RuntimeError) as error:
        reason = FULL if FULL in str(error) else first_line(error)
        raise UserError(
            f"{path}: saving a checkpoint failed ({reason}). The checkpoint before it is intact. "
            "Free space or mend permissions there, then run the same command to resume."
        ) from error


def read_best(directory: Path) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Read the newest intact checkpoint of a work directory for inference. The run may be in progress.

    Returns:
      "best" (parameters, epoch and score, each with the leading axis S; parameters of K members S K); and "data".

    Raises:
      UserError: there is no checkpoint yet, or none is intact.
    """
    folder, damaged = (directory / FOLDER).absolute(), dict[int, str]()

    def epochs() -> list[int]:  # listed again each time: a run in progress deletes the oldest and adds one
        return [e for e in ocp.utils.checkpoint_steps(folder) if e not in damaged] if folder.is_dir() else []

    while there := epochs():
        epoch = max(there)
        problem = _damage(folder / str(epoch))
        if problem is None:
            try:
                with ocp.StandardCheckpointer() as reader:
                    best, data = (reader.restore(folder / str(epoch) / item) for item in ("best", "data"))
            except (ValueError, KeyError, TypeError, OSError) as error:
                problem = first_line(error)
        if problem is not None:
            damaged[epoch] = problem
            continue
        for bad in [e for e in damaged if e > epoch]:
            print(
                f"warning: {folder / str(bad)}: this checkpoint is damaged ({damaged[bad]}); that of epoch {epoch} is "
                "used instead. To make it again, delete results.json there and resume the run.",
                file=sys.stderr,
            )
        return best, data
    if damaged:
        raise _none_intact(folder, damaged)
    raise UserError(
        f"{directory}: this run has no checkpoint yet. Resume it with the command that started it and "
        f"--workdir={directory}."
    )
