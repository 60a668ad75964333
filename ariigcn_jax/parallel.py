"""Map functions over devices and processes with `jax.pmap`; no other module knows of several devices.

Mapped code names the device axis, or None on one device, where each collective is the identity.
"""

from __future__ import annotations

import contextlib
import operator
import os
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils

from ariigcn_jax.types import UserError, first_line

T = TypeVar("T")
AXIS = "devices"
CONNECT_SECONDS = 120
LAST_MESSAGE_SECONDS = 1.0  # the other processes have this long to print an error before process 0 ends
LOST_PEER_ERRORS = ("Gloo", "NCCL", "UNAVAILABLE", "DEADLINE_EXCEEDED", "Connection", "oordination service")


def join(coordinator: str, processes: int, process: int, patience: int) -> None:
    """Join several processes that share a run. Call it before JAX is used.

    Args:
      coordinator: host:port of process 0, the same for all; "auto" gets all from the cluster (Slurm, Open MPI, TPU).
      processes: their number.
      process: number of this process, in [0, processes).
      patience: seconds without a heartbeat after which a process counts as lost.

    Raises:
      UserError: an option is wrong, or the processes cannot connect.
    """
    if coordinator != "auto" and (not coordinator.rpartition(":")[2].isdigit() or not 0 <= process < processes):
        raise UserError(
            f"distributed.coordinator={coordinator!r}, .processes={processes}, .process={process}: the coordinator is "
            "host:port of process 0, or auto, and processes count from 0."
        )
    own: dict[str, Any] = dict(coordinator_address=coordinator, num_processes=processes, process_id=process)
    try:
        jax.config.update("jax_cpu_collectives_implementation", "gloo")
        jax.distributed.initialize(
            **(own if coordinator != "auto" else {}),
            heartbeat_timeout_seconds=patience,
            initialization_timeout=CONNECT_SECONDS,
        )
    except (RuntimeError, ValueError) as error:
        raise UserError(
            f"The processes could not connect through distributed.coordinator={coordinator!r} "
            f"({first_line(error)}). Start all of them within {CONNECT_SECONDS} s, with the same coordinator."
        ) from error


@contextlib.contextmanager
def ending_together() -> Iterator[None]:
    """End this process at once if it is one of several and it fails, or another one is lost.

    JAX's own shutdown would wait for processes that no longer answer.
    """
    try:
        yield
    except BaseException as error:
        if processes() == 1:
            raise
        who = f"process {jax.process_index()} of {processes()}"
        if isinstance(error, UserError | KeyboardInterrupt):
            print(f"error: {who}: {error or 'stopped'}", file=sys.stderr)
        elif any(word in str(error) for word in LOST_PEER_ERRORS):
            print(
                f"error: {who}: another process was lost ({first_line(error)}). What the last checkpoint holds is "
                "safe: start the run again with the same --workdir, and with any number of processes, to resume.",
                file=sys.stderr,
            )
        else:
            traceback.print_exc()
        sys.stderr.flush()
        if is_first():
            time.sleep(LAST_MESSAGE_SECONDS)  # JAX ends the others as soon as process 0 is gone
        os._exit(130 if isinstance(error, KeyboardInterrupt) else 1)


def from_first(function: Callable[[], T], otherwise: T) -> T:
    """Call a function in process 0; the others return `otherwise`. A UserError is raised in every process."""
    if processes() == 1:
        return function()
    result, error = otherwise, None
    if is_first():
        try:
            result = function()
        except UserError as caught:
            error = caught
    failed = bool(broadcast(np.int32(error is not None)))
    if error:
        raise error
    if failed:
        raise UserError("process 0 failed; see its message.")
    return result


def barrier() -> None:
    """Wait until all processes reach this call."""
    if processes() > 1:
        multihost_utils.sync_global_devices("barrier")


def broadcast(tree: T) -> T:
    """Return the arrays of process 0 in all processes."""
    return tree if processes() == 1 else multihost_utils.broadcast_one_to_all(tree)


def cores() -> int:
    """Return the number of CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def processes() -> int:
    """Return the number of processes that share the run."""
    return jax.process_count()


def is_first() -> bool:
    """Return whether this is process 0, the one that writes."""
    return jax.process_index() == 0


def world(num_devices: int) -> int:
    """Return the number of devices of all processes, `num_devices` in each."""
    return num_devices * processes()


def alone(num_devices: int) -> bool:
    """Return whether there is one device in all, so that nothing is mapped or replicated."""
    return world(num_devices) == 1


def axis_name(num_devices: int) -> str | None:
    """Return the axis name for functions mapped over `num_devices` local devices; None on a single device."""
    return None if alone(num_devices) else AXIS


def psum(x: T, axis: str | None) -> T:
    """Sum over devices."""
    return x if axis is None else jax.lax.psum(x, axis)


def all_gather(tree: T, axis: str | None) -> T:
    """Concatenate arrays [n, ...] of all devices to [devices * n, ...]; gradients flow back to each device."""
    return tree if axis is None else jax.tree.map(lambda x: jax.lax.all_gather(x, axis, tiled=True), tree)


def device_index(axis: str | None) -> jax.Array | int:
    """Return the number of this device, from 0."""
    return 0 if axis is None else jax.lax.axis_index(axis)


def axis_size(axis: str | None) -> int:
    """Return the number of devices along the axis."""
    return 1 if axis is None else jax.lax.axis_size(axis)


def own_share(x: jax.Array, axis: str | None, num_devices: int) -> jax.Array:
    """Return this device's share of an array whose last dimension is a multiple of the number of devices."""
    if axis is None:
        return x
    share = x.shape[-1] // num_devices
    return jax.lax.dynamic_slice_in_dim(x, jax.lax.axis_index(axis) * share, share, axis=-1)


def device_count(asked: int) -> int:
    """Return the number of local devices to use, 0 for all; raise a UserError if there are fewer."""
    there = jax.local_device_count()
    if asked < 0 or asked > there:
        raise UserError(f"num_devices={asked}, but this machine offers {there} device(s); 0 uses all of them.")
    return asked or there


def fits(program: jax.stages.Compiled) -> bool:
    """Return whether the device has room for a compiled program's buffers; True if that is unknown."""
    there, needed = jax.local_devices()[0].memory_stats() or {}, program.memory_analysis()
    if "bytes_limit" not in there or needed is None:
        return True
    return bool(needed.temp_size_in_bytes <= there["bytes_limit"] - there.get("bytes_in_use", 0))


def over_devices(function: Callable[..., Any], num_devices: int, donate: tuple[int, ...] = ()) -> jax.stages.Wrapped:
    """Compile a function with jit on one device, with pmap on several.

    Args:
      function: of pytrees that are equal on all devices (`replicate`), or differ (`put`) if it has no collectives.
      num_devices: local devices.
      donate: arguments whose buffers may be reused.
    """
    if alone(num_devices):
        return jax.jit(function, donate_argnums=donate)
    return jax.pmap(function, axis_name=AXIS, devices=_devices(num_devices), donate_argnums=donate)


def _devices(num_devices: int) -> list[jax.Device]:
    """Return the first `num_devices` devices of each process."""
    own = [[d for d in jax.devices() if d.process_index == process] for process in range(processes())]
    return [device for devices in own for device in devices[:num_devices]]


def replicate(tree: T, num_devices: int) -> T:
    """Copy a pytree to each local device, with a leading axis of devices; without that axis on a single device."""
    if alone(num_devices):
        return jax.tree.map(jnp.asarray, tree)
    return put([tree] * num_devices, num_devices)


def put(trees: Sequence[T], num_devices: int) -> T:
    """Put each pytree on its own local device, with a leading axis of devices; without that axis on a single device."""
    if alone(num_devices):
        return jax.device_put(trees[0])
    stacked = jax.tree.map(lambda *x: jnp.stack(x), *trees)
    return jax.pmap(lambda x: x, devices=_devices(num_devices))(stacked)


def local_shares(order: np.ndarray, num_devices: int) -> np.ndarray:
    """Return the local devices' shares [num_devices, ..., n] of a host array [..., processes * num_devices * n]."""
    shares = np.stack(np.split(order, world(num_devices), axis=-1))
    first = jax.process_index() * num_devices
    return shares[first : first + num_devices]


def unreplicate(tree: T, num_devices: int) -> T:
    """Return the first device's copy."""
    return tree if alone(num_devices) else jax.tree.map(operator.itemgetter(0), tree)
