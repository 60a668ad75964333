"""Everything that knows of more than one device: the mapping of a function over devices, and its collectives.

Code that runs inside the mapping names the axis or None; with None each collective is the identity, so one function
serves one device and many. The mapping is pmap; another one would replace it here alone.
"""

from __future__ import annotations

import contextlib
import functools
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

from ariigcn_jax.types import UserError

T = TypeVar("T")
AXIS = "devices"
SECONDS_TO_MEET = 120
SECONDS_TO_SPEAK = 1.0  # that the first process leaves to the others for a last message
SIGNS_OF_LOSS = ("Gloo", "NCCL", "UNAVAILABLE", "DEADLINE_EXCEEDED", "Connection", "oordination service")


def join(coordinator: str, processes: int, process: int, patience: int) -> None:
    """Makes this process one of several that share a run; before anything else is done with JAX.

    Args:
      coordinator: host:port where process 0 listens, the same for all; "auto" finds out from the cluster (Slurm, Open
        MPI, TPU pods) and needs no numbers.
      processes: how many there are.
      process: which one this is, in [0, processes).
      patience: seconds without a sign of life after which a process counts as lost.

    Raises:
      UserError: an option is wrong, or the processes do not find each other.
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
            initialization_timeout=SECONDS_TO_MEET,
        )
    except (RuntimeError, ValueError) as error:
        raise UserError(
            f"The processes did not find each other through distributed.coordinator={coordinator!r} "
            f"({_first_line(error)}). Start all of them within {SECONDS_TO_MEET} s, with the same coordinator."
        ) from error


@contextlib.contextmanager
def ending_together() -> Iterator[None]:
    """Ends this process, where it is one of several, as soon as something fails here or another one is lost.

    It leaves at once, because JAX's own farewell waits for processes that no longer answer.
    """
    try:
        yield
    except BaseException as error:
        if processes() == 1:
            raise
        who = f"process {jax.process_index()} of {processes()}"
        if isinstance(error, UserError | KeyboardInterrupt):
            print(f"error: {who}: {error or 'stopped'}", file=sys.stderr)
        elif any(word in str(error) for word in SIGNS_OF_LOSS):
            print(
                f"error: {who}: another process was lost ({_first_line(error)}). What the last checkpoint holds is "
                "safe: start the run again with the same --workdir, and with any number of processes, to resume.",
                file=sys.stderr,
            )
        else:
            traceback.print_exc()
        sys.stderr.flush()
        if is_first():
            time.sleep(SECONDS_TO_SPEAK)  # JAX ends the others as soon as the first one is gone
        os._exit(130 if isinstance(error, KeyboardInterrupt) else 1)


def from_first(function: Callable[[], T], otherwise: T) -> T:
    """Calls a function in the first process alone; the others get `otherwise`.

    Raises:
      UserError: in the others, where the first one's call failed.
    """
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
        raise UserError("process 0 could not go on; its message says why.")
    return result


def meet() -> None:
    """Waits until all processes are here."""
    if processes() > 1:
        multihost_utils.sync_global_devices("meet")


def broadcast(tree: T) -> T:
    """The first process's arrays, in all processes."""
    return tree if processes() == 1 else multihost_utils.broadcast_one_to_all(tree)


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:160]


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def processes() -> int:
    """Processes that share the run."""
    return jax.process_count()


def is_first() -> bool:
    """This process is the one that writes."""
    return jax.process_index() == 0


def world(num_devices: int) -> int:
    """Devices of all processes, each with `num_devices` of its own."""
    return num_devices * processes()


def alone(num_devices: int) -> bool:
    """There is one device in all: nothing is mapped or replicated."""
    return world(num_devices) == 1


def axis_name(num_devices: int) -> str | None:
    """The axis to name inside a function that is mapped over `num_devices` local devices."""
    return None if alone(num_devices) else AXIS


def psum(x: T, axis: str | None) -> T:
    """Sum over devices."""
    return x if axis is None else jax.lax.psum(x, axis)


def all_gather(tree: T, axis: str | None) -> T:
    """Concatenates arrays [n, ...] of all devices to [devices * n, ...]; the gradient flows back to each."""
    return tree if axis is None else jax.tree.map(lambda x: jax.lax.all_gather(x, axis, tiled=True), tree)


def device_index(axis: str | None) -> jax.Array | int:
    """Which of the devices this one is, from 0."""
    return 0 if axis is None else jax.lax.axis_index(axis)


def axis_size(axis: str | None) -> int:
    """How many devices there are."""
    return 1 if axis is None else jax.lax.axis_size(axis)


def own_share(x: jax.Array, axis: str | None, num_devices: int) -> jax.Array:
    """This device's part of an array whose last dimension is a multiple of the number of devices."""
    if axis is None:
        return x
    share = x.shape[-1] // num_devices
    return jax.lax.dynamic_slice_in_dim(x, jax.lax.axis_index(axis) * share, share, axis=-1)


def device_count(asked: int) -> int:
    """Number of local devices to use; 0 asks for all.

    Raises:
      UserError: more devices are asked for than there are.
    """
    there = jax.local_device_count()
    if asked < 0 or asked > there:
        raise UserError(f"num_devices={asked}, but this machine offers {there} device(s); 0 uses all of them.")
    return asked or there


def fits(program: jax.stages.Compiled) -> bool:
    """A compiled program's own memory is free on the device; True where either is not known."""
    there, needed = jax.local_devices()[0].memory_stats() or {}, program.memory_analysis()
    if "bytes_limit" not in there or needed is None:
        return True
    return bool(needed.temp_size_in_bytes <= there["bytes_limit"] - there.get("bytes_in_use", 0))


def over_devices(function: Callable[..., Any], num_devices: int, donate: tuple[int, ...] = ()) -> jax.stages.Wrapped:
    """Compiles a function of replicated arguments, for one device with jit or for several with pmap.

    Args:
      function: takes and returns pytrees that are equal on all devices (`replicate`), or, without collectives, of each
        device's own (`put`).
      num_devices: local devices.
      donate: arguments whose buffers may be reused.
    """
    if alone(num_devices):
        return jax.jit(function, donate_argnums=donate)
    return jax.pmap(function, axis_name=AXIS, devices=_devices(num_devices), donate_argnums=donate)


def _devices(num_devices: int) -> list[jax.Device]:
    """The first `num_devices` of each process."""
    own: dict[int, list[jax.Device]] = {}
    for device in jax.devices():
        own.setdefault(device.process_index, []).append(device)
    return [device for index in sorted(own) for device in own[index][:num_devices]]


def replicate(tree: T, num_devices: int) -> T:
    """Puts a copy on each local device (a leading axis of devices), or on the one device."""
    if alone(num_devices):
        return jax.tree.map(jnp.asarray, tree)
    return put([tree] * num_devices, num_devices)


def put(trees: Sequence[T], num_devices: int) -> T:
    """Puts each tree on a local device of its own (a leading axis of devices), or the one on the one device."""
    if alone(num_devices):
        return jax.device_put(trees[0])
    stacked = jax.tree.map(lambda *x: jnp.stack(x), *trees)
    return jax.pmap(lambda x: x, devices=_devices(num_devices))(stacked)


def local_shares(order: np.ndarray, num_devices: int) -> np.ndarray:
    """Parts [num_devices, ..., n] of an array [..., processes * num_devices * n] on the host for the local devices."""
    shares = np.stack(np.split(order, world(num_devices), axis=-1))
    first = jax.process_index() * num_devices
    return shares[first : first + num_devices]


def unreplicate(tree: T, num_devices: int) -> T:
    """The first device's copy."""
    return tree if alone(num_devices) else jax.tree.map(functools.partial(_first), tree)


def _first(x: jax.Array) -> jax.Array:
    return x[0]
