"""Write a benchmark as Markdown tables."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from ariigcn_jax.runs import tables

Row = Mapping[str, Any]
TITLES = {  # section -> title
    "epoch": "An epoch of one seed, with validation and diagnosis",
    "start": "From the command to the end of the first epoch, in a process of its own",
    "seeds": "An epoch of several seeds together",
    "latency": "Inference of one conversation",
    "length": "An epoch of one dialogue, by utterances, in a process of its own",
    "corpus": "An epoch by train utterances of the corpus, in a process of its own",
}


def number(value: float) -> str:
    """Return three digits, thousands apart."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def _scaled(scale: float) -> Callable[[float], str]:
    return lambda value: number(scale * value)


# What a row may hold -> title and form of its column; a table has those that its rows have.
COLUMNS: dict[str, tuple[str, Callable[[Any], str]]] = {
    "imports": ("imports s", number),
    "corpus": ("corpus s", number),
    "prepare": ("preparing s", number),
    "compile": ("compiling s", number),
    "first": ("first epoch s", number),
    "total": ("total s", number),
    "train.wall": ("training wall s", number),
    "validate.wall": ("validation", number),
    "diagnose.wall": ("diagnosis", number),
    "epoch.wall": ("epoch wall s", number),
    "epoch.cpu": ("epoch CPU s", number),
    "times_first": ("times the first row", "{:.2f} ×".format),
    "auto": ("chosen by auto", lambda value: "yes" if value else ""),
    "utterances_per_second": ("utterances/s", number),
    "median": ("median ms", _scaled(1e3)),
    "p95": ("95 % ms", _scaled(1e3)),
    "calls": ("calls", number),
    "peak_memory": ("peak memory GiB", _scaled(2**-30)),
    "program_memory": ("compiled epoch MiB", _scaled(2**-20)),
    "failed": ("not measured", str),
}


def table(content: Mapping[str, Any]) -> str:
    """Return the content of bench.json as Markdown: the machine, and a table for each section."""
    machine = content["machine"]
    load = f"; load {machine['load'][0]:.1f} at the start" if machine["load"] else ""
    parts = [
        f"# Benchmark of {content['experiment']}",
        f"{machine['devices']} x {machine['device']} ({machine['backend']}), {machine['processor']}, "
        f"{machine['cores']} cores{load}.",
    ]
    if content["quick"]:
        parts.append("**A quick check with a small model and little optimisation: do not quote these numbers.**")
    for name, rows in content["sections"].items():
        if rows:
            parts += [f"## {TITLES[name]}", _section([dict(_flat(row)) for row in rows])]
    return "\n\n".join(parts) + "\n"


def _section(rows: Sequence[Row]) -> str:
    columns = {key: column for key, column in COLUMNS.items() if any(row.get(key) is not None for row in rows)}
    cells = [
        [row["point"], *("–" if row.get(key) is None else form(row[key]) for key, (_, form) in columns.items())]
        for row in rows
    ]
    return tables.markdown(["", *(title for title, _ in columns.values())], cells)


def _flat(row: Row, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the values of nested dictionaries with dotted keys."""
    for key, value in row.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value
