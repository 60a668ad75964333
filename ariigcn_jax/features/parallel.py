"""Run an encoder over its inputs in several processes. An input that fails or ends its process becomes a Failure."""

from __future__ import annotations

import concurrent.futures
import dataclasses
import multiprocessing
import multiprocessing.connection
import os
import signal
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures.process import BrokenProcessPool

import numpy as np

from ariigcn_jax.features.encoder import Encode, Encoder, Input
from ariigcn_jax.features.media import MediaError
from ariigcn_jax.types import UserError


@dataclasses.dataclass(frozen=True)
class Failure:
    """Hold the reason why an input could not be encoded."""

    reason: str


Result = np.ndarray | Failure


def encode(encoder: Encoder, inputs: Sequence[Input], jobs: int, device: str) -> Iterator[tuple[int, Result]]:
    """Encode every input, longest texts first.

    Args:
      encoder: the encoder.
      inputs: texts or clips.
      jobs: number of processes; 0 works in this process, which an input that crashes would end.
      device: where a model computes, by torch's name.

    Yields:
      The index of an input, and its vector [d] float32 or a Failure, in the order in which they are done.

    Raises:
      UserError: the encoder cannot be loaded.
    """
    workers = encoder.workers(jobs, device)
    size = max(1, min(encoder.batch, -(-len(inputs) // max(workers, 1))))
    order = sorted(range(len(inputs)), key=lambda i: len(x) if isinstance(x := inputs[i], str) else 0, reverse=True)
    groups = deque(tuple(order[i : i + size]) for i in range(0, len(order), size))
    if not workers:
        function = encoder.load(os.cpu_count() or 1, device)
        for group in groups:
            yield from zip(group, _attempt(function, [inputs[i] for i in group]), strict=True)
        return
    workers = min(workers, len(groups))
    suspects: deque[tuple[int, ...]] = deque()  # one of them ended its process: each is tried again alone
    while groups or suspects:
        alone = bool(suspects)
        queue, processes = (suspects, 1) if alone else (groups, workers)
        running: dict[concurrent.futures.Future[list[Result]], tuple[int, ...]] = {}
        pool = _pool(encoder, processes, max(1, (os.cpu_count() or 1) // workers), device)
        try:
            while queue or running:
                while queue and len(running) < (1 if alone else 2 * processes):
                    future = pool.submit(_work, [inputs[i] for i in queue[0]])
                    running[future] = queue.popleft()  # after `submit`, which raises on a broken pool
                done, _ = concurrent.futures.wait(running, return_when=concurrent.futures.FIRST_COMPLETED)
                for future in done:
                    results = future.result()
                    yield from zip(running.pop(future), results, strict=True)
        except BrokenProcessPool:
            left = [i for group in running.values() for i in group]
            if alone and len(left) == 1:
                yield left[0], Failure("encoding it ended the process (a crash of a decoder, or out of memory)")
            else:
                suspects.extend((i,) for i in left)
        finally:
            pool.shutdown(cancel_futures=True)


_state: dict[str, Encode] = {}
_loading: dict[str, tuple[Encoder, int, str]] = {}


def _pool(encoder: Encoder, processes: int, threads: int, device: str) -> concurrent.futures.ProcessPoolExecutor:
    # spawned, not forked, because torch and JAX have threads
    context = multiprocessing.get_context("spawn")
    return concurrent.futures.ProcessPoolExecutor(processes, context, _start, (encoder, threads, device))


def _start(encoder: Encoder, threads: int, device: str) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C also reaches the parent, which ends this process
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    _loading["encoder"] = (encoder, threads, device)


def _end_with_parent() -> None:
    """End this process when its parent is killed, which could not do so itself."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        multiprocessing.connection.wait([parent.sentinel])
        os._exit(1)


def _work(inputs: Sequence[Input]) -> list[Result]:
    if "encode" not in _state:
        encoder, threads, device = _loading["encoder"]
        _state["encode"] = encoder.load(threads, device)
    return _attempt(_state["encode"], inputs)


def _attempt(function: Encode, inputs: Sequence[Input]) -> list[Result]:
    """Encode inputs together, and one by one where that fails."""
    try:
        return [_checked(vector) for vector in function(inputs)]
    except UserError:
        raise
    except MediaError as error:
        if len(inputs) == 1:
            return [Failure(str(error))]
    except Exception as error:  # a file that breaks a decoder or a model must not end the job
        if len(inputs) == 1:
            return [Failure(f"{type(error).__name__}: {error}".splitlines()[0])]
    return [result for item in inputs for result in _attempt(function, [item])]


def _checked(vector: np.ndarray) -> Result:
    if np.isfinite(vector).all():
        return vector.astype(np.float32)
    return Failure(f"{int((~np.isfinite(vector)).sum())} of {vector.size} values are NaN or Inf")
