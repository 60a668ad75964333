"""Run an encoder over its inputs in several processes. An input that fails or ends its process becomes a Failure."""

from __future__ import annotations

import functools
import multiprocessing
import multiprocessing.connection
import os
import signal
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from typing import NamedTuple

import numpy as np

from ariigcn_jax.features.encoder import Encode, Encoder, Input
from ariigcn_jax.features.media import MediaError
from ariigcn_jax.types import UserError


class Failure(NamedTuple):
    """Hold the reason why an input could not be encoded."""

    reason: str


Result = np.ndarray | Failure


def encode(encoder: Encoder, inputs: Sequence[Input], jobs: int, device: str) -> Iterator[tuple[int, Result]]:
    """Yield the index of each input, and its vector [d] float32 or a Failure, as they are done.

    Args:
      encoder: the encoder.
      inputs: texts, of which the longest are encoded first, or clips.
      jobs: number of processes; 0 works in this process, which an input that crashes would end.
      device: where a model computes, by torch's name.

    Raises:
      UserError: the encoder cannot be loaded.
    """
    workers = encoder.workers(jobs, device)
    size = max(1, min(encoder.batch, -(-len(inputs) // max(workers, 1))))
    order = sorted(range(len(inputs)), key=lambda i: len(x) if isinstance(x := inputs[i], str) else 0, reverse=True)
    groups = deque(order[i : i + size] for i in range(0, len(order), size))
    cores = os.cpu_count() or 1
    if not workers:
        function = encoder.load(cores, device)
        for group in groups:
            yield from zip(group, _attempt(function, [inputs[i] for i in group]), strict=True)
        return
    workers = min(workers, len(groups))
    work = functools.partial(_work, encoder, max(1, cores // workers), device)
    suspects: deque[list[int]] = deque()  # one of them ended its process: each is tried again alone
    while groups or suspects:
        alone = bool(suspects)
        queue, processes, ahead = (suspects, 1, 1) if alone else (groups, workers, 2 * workers)
        running: dict[Future[list[Result]], list[int]] = {}
        # spawned, not forked, because torch and JAX have threads
        pool = ProcessPoolExecutor(processes, multiprocessing.get_context("spawn"), _start)
        try:
            while queue or running:
                while queue and len(running) < ahead:
                    future = pool.submit(work, [inputs[i] for i in queue[0]])
                    running[future] = queue.popleft()  # after `submit`, which raises on a broken pool
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    results = future.result()
                    yield from zip(running.pop(future), results, strict=True)
        except BrokenProcessPool:
            left = [i for group in running.values() for i in group]
            if alone and len(left) == 1:
                yield left[0], Failure("encoding it ended the process (a crash of a decoder, or out of memory)")
            else:
                suspects.extend([i] for i in left)
        finally:
            pool.shutdown(cancel_futures=True)


def _start() -> None:
    """Prepare a worker process: it ends when its parent ends, and Ctrl-C is left to the parent."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        multiprocessing.connection.wait([parent.sentinel])
        os._exit(1)


@functools.cache
def _load(encoder: Encoder, threads: int, device: str) -> Encode:
    return encoder.load(threads, device)


def _work(encoder: Encoder, threads: int, device: str, inputs: Sequence[Input]) -> list[Result]:
    return _attempt(_load(encoder, threads, device), inputs)


def _attempt(function: Encode, inputs: Sequence[Input]) -> list[Result]:
    """Encode inputs together, and one by one where that fails."""
    try:
        vectors = function(inputs)
    except UserError:
        raise
    except Exception as error:  # a file that breaks a decoder or a model must not end the job
        known = isinstance(error, MediaError)
        reason = str(error) if known else f"{type(error).__name__}: {error}".splitlines()[0]
    else:
        wrong = [int((~np.isfinite(vector)).sum()) for vector in vectors]
        return [
            Failure(f"{n} of {vector.size} values are NaN or Inf") if n else vector.astype(np.float32)
            for vector, n in zip(vectors, wrong, strict=True)
        ]
    if len(inputs) == 1:
        return [Failure(reason)]
    return [result for item in inputs for result in _attempt(function, [item])]
