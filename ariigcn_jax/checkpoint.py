"""Checkpoints of a run (orbax): its last state and its best parameters together, so that they never disagree.

    checkpoints/<epoch>/last    TrainState of each seed (leading axis S)
    checkpoints/<epoch>/best    parameters of each seed's chosen epoch so far, with that epoch and its score
    checkpoints/<epoch>/data    what the features were standardised with

Saving is asynchronous; a checkpoint counts once it is complete. Of several processes the first one reads and writes.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp

from ariigcn_jax import parallel
from ariigcn_jax.types import UserError

FOLDER = "checkpoints"
ITEMS = ("last", "best", "data")


class Checkpoints:
    """The checkpoints of one work directory.

    Args:
      directory: the work directory.
      keep: newest checkpoints that stay.
    """

    def __init__(self, directory: Path, keep: int):
        self._manager: Any = None
        if not parallel.is_first():
            return
        folder = (directory / FOLDER).absolute()
        folder.mkdir(parents=True, exist_ok=True)
        options = ocp.CheckpointManagerOptions(
            max_to_keep=keep,
            create=False,
            cleanup_tmp_directories=True,
            enable_async_checkpointing=True,
            multiprocessing_options=ocp.options.MultiprocessingOptions(
                primary_host=0, active_processes={0}, barrier_sync_key_prefix="first"
            )
            if parallel.processes() > 1
            else ocp.options.MultiprocessingOptions(),
        )
        self._manager = ocp.CheckpointManager(folder, options=options, item_names=ITEMS)

    def latest(self) -> int | None:
        """Epochs done at the newest complete checkpoint, or None."""
        epoch = self._manager.latest_step() if self._manager else None
        agreed = int(parallel.broadcast(np.int32(-1 if epoch is None else epoch)))
        return None if agreed < 0 else agreed

    def save(self, epoch: int, items: dict[str, Any]) -> None:
        """Starts to save {"last", "best", "data"}, pytrees of arrays; a save that failed before is reported here.

        Raises:
          UserError: the disk is full or not writable.
        """
        if self._manager is None:
            return
        arguments = {name: ocp.args.StandardSave(jax.tree.map(np.asarray, items[name])) for name in ITEMS}
        with _Saving(self._manager.directory):
            if self._manager.latest_step() != epoch:
                self._manager.save(epoch, args=ocp.args.Composite(**arguments))

    def restore(self, epoch: int, like: dict[str, Any]) -> dict[str, Any]:
        """Reads a checkpoint.

        Args:
          epoch: one that is there.
          like: items to read, with pytrees of arrays of the right shapes and dtypes.

        Returns:
          The items, numpy arrays.

        Raises:
          UserError: it does not fit `like` or cannot be read.
        """
        like = jax.tree.map(np.asarray, like)
        return parallel.broadcast(parallel.from_first(lambda: self._restore(epoch, like), otherwise=like))

    def _restore(self, epoch: int, like: dict[str, Any]) -> dict[str, Any]:
        arguments = {name: ocp.args.StandardRestore(jax.tree.map(_abstract, tree)) for name, tree in like.items()}
        try:
            restored = self._manager.restore(epoch, args=ocp.args.Composite(**arguments))
        except (ValueError, KeyError, TypeError, OSError) as error:
            raise UserError(
                f"{self._manager.directory / str(epoch)}: this checkpoint cannot be used here "
                f"({_first_line(error)}). Delete that folder to go on from the one before it, or use another --workdir."
            ) from error
        items = {name: restored[name] for name in like}
        for (path, stored), wanted in zip(jax.tree.leaves_with_path(items), jax.tree.leaves(like), strict=True):
            if np.shape(stored) != np.shape(wanted):
                raise UserError(
                    f"{self._manager.directory / str(epoch)}: {jax.tree_util.keystr(path)} has the shape "
                    f"{np.shape(stored)}, and this config makes it {np.shape(wanted)}. Use the config that the run "
                    "began with, or another --workdir."
                )
        return items

    def wait(self) -> None:
        """Waits for saves under way; one that failed is reported here.

        Raises:
          UserError: the disk is full or not writable.
        """
        if self._manager is not None:
            with _Saving(self._manager.directory):
                self._manager.wait_until_finished()

    def finish(self) -> None:
        """Waits for saves under way and closes."""
        self.wait()
        if self._manager is not None:
            self._manager.close()


def _abstract(x: Any) -> Any:
    return np.zeros(np.shape(x), x.dtype) if isinstance(x, np.ndarray) else jax.ShapeDtypeStruct(x.shape, x.dtype)


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:200]


class _Saving:
    """Turns what a full or read-only disk raises, wherever it surfaces, into a message."""

    def __init__(self, path: Any):
        self._path = path

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        if isinstance(error, OSError | ValueError | RuntimeError):
            raise UserError(
                f"{self._path}: saving a checkpoint failed ({_first_line(error)}). The checkpoint before it is intact. "
                "Free space or mend permissions there, then run the same command to resume."
            ) from error


def read_best(directory: Path) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Reads what inference needs from the newest complete checkpoint; changes nothing, so the run may be under way.

    Args:
      directory: the work directory.

    Returns:
      "best" (parameters, epoch and score, each with the leading axis S); and "data".

    Raises:
      UserError: there is none yet, or it is damaged.
    """
    folder = (directory / FOLDER).absolute()
    steps = ocp.utils.checkpoint_steps(folder) if folder.is_dir() else []
    if not steps:
        raise UserError(
            f"{directory}: this run has no checkpoint yet. Let it train on: the command that began it, with "
            f"--workdir={directory}, resumes it."
        )
    step = max(steps)
    try:
        with ocp.StandardCheckpointer() as reader:
            best, data = (reader.restore(folder / str(step) / item) for item in ("best", "data"))
    except (ValueError, KeyError, TypeError, OSError) as error:
        raise UserError(
            f"{folder / str(step)}: this checkpoint cannot be read ({_first_line(error)}). If the run is under way, "
            "try again; else delete that folder to use the one before it."
        ) from error
    return best, data
