"""Prepare the process of a command before anything heavy is imported."""

from __future__ import annotations

import io
import os
import sys
from typing import Any


class _Lasting(io.FileIO):
    """Write to a file descriptor, and drop what it no longer takes: its reader has ended, or the disk is full."""

    def write(self, data: Any) -> int:
        try:
            return super().write(data)
        except OSError:
            return len(data)


def prepare() -> None:
    """Begin the command of `python -m experiments.…` or `python -m tools.…`; of these, runs are lasting."""
    given = sys.orig_argv
    name = given[given.index("-m") + 1] if "-m" in given[:-1] else ""
    begin(name, not name.startswith("tools"))


def begin(name: str, lasting: bool) -> None:
    """Say that a command has begun, let no print end a run, and let matplotlib draw files alone.

    Characters that the terminal cannot show are replaced. A run (`lasting`) continues when its output is closed; the
    output of a tool is its result, so that the tool ends.
    """
    sys.stdout, sys.stderr = _stream(sys.stdout, lasting), _stream(sys.stderr, True)
    os.environ["MPLBACKEND"] = "agg"  # notebooks set one of their own for their children
    print(f"{name}: loading JAX …", file=sys.stdout if lasting else sys.stderr, flush=True)


def _stream(stream: Any, lasting: bool) -> io.TextIOWrapper:
    """Return a stream to the same place that replaces what its encoding lacks."""
    if stream is None:  # the descriptor was closed before the start
        return open(os.devnull, "w", encoding="utf-8")
    if not lasting:
        stream.reconfigure(errors="replace")
        return stream
    binary = io.BufferedWriter(_Lasting(stream.fileno(), "w", closefd=False))
    return io.TextIOWrapper(
        binary, stream.encoding, "replace", line_buffering=stream.line_buffering, write_through=stream.write_through
    )
