"""Everything that knows of more than one device: the mapping of a function over devices, and its collectives.

Code that runs inside the mapping names the axis or None; with None each collective is the identity, so one function
serves one device and many. The mapping is pmap; another one would replace it here alone.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, TypeVar

import jax
import jax.numpy as jnp

from ariigcn_jax.types import UserError

T = TypeVar("T")
AXIS = "devices"


def axis_name(num_devices: int) -> str | None:
    """The axis to name inside a function that is mapped over `num_devices`."""
    return AXIS if num_devices > 1 else None


def psum(x: T, axis: str | None) -> T:
    """Sum over devices."""
    return x if axis is None else jax.lax.psum(x, axis)


def all_gather(tree: T, axis: str | None) -> T:
    """Concatenates arrays [n, ...] of all devices to [devices * n, ...]; the gradient flows back to each."""
    return tree if axis is None else jax.tree.map(lambda x: jax.lax.all_gather(x, axis, tiled=True), tree)


def device_index(axis: str | None) -> jax.Array | int:
    """Which of the devices this one is, from 0."""
    return 0 if axis is None else jax.lax.axis_index(axis)


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


def over_devices(function: Callable[..., Any], num_devices: int, donate: tuple[int, ...] = ()) -> jax.stages.Wrapped:
    """Compiles a function of replicated arguments, for one device with jit or for several with pmap.

    Args:
      function: takes and returns pytrees that are equal on all devices (`replicate`).
      num_devices: local devices.
      donate: arguments whose buffers may be reused.
    """
    if num_devices == 1:
        return jax.jit(function, donate_argnums=donate)
    devices = jax.local_devices()[:num_devices]
    return jax.pmap(function, axis_name=AXIS, devices=devices, donate_argnums=donate)


def replicate(tree: T, num_devices: int) -> T:
    """Puts a copy on each device (a leading axis of devices), or on the one device."""
    if num_devices == 1:
        return jax.tree.map(jnp.asarray, tree)
    stacked = jax.tree.map(lambda x: jnp.broadcast_to(x, (num_devices, *jnp.shape(x))), tree)
    return jax.pmap(lambda x: x, devices=jax.local_devices()[:num_devices])(stacked)


def unreplicate(tree: T, num_devices: int) -> T:
    """The first device's copy."""
    return tree if num_devices == 1 else jax.tree.map(functools.partial(_first), tree)


def _first(x: jax.Array) -> jax.Array:
    return x[0]
