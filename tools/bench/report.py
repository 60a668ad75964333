"""Write a benchmark as Markdown tables."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ariigcn_jax.files import flatten
from ariigcn_jax.runs import tables

TITLES = {  # section -> title
    "epoch": "An epoch of one seed, with validation and diagnosis",
    "start": "From the command to the end of the first epoch, in a new process",
    "seeds": "An epoch of several seeds together",
    "latency": "Inference of one conversation",
    "length": "An epoch of one dialogue, by utterances, in a new process",
    "words": "A text encoder, in steps of 32 utterances",
    "corpus": "An epoch by train utterances of the corpus, in a new process",
}


def number(value: float) -> str:
    """Return three digits, thousands apart."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


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
    "tokens_per_cpu_second": ("tokens per CPU s", number),
    "padding": ("padding", "{:.0%}".format),
    "step_memory": ("memory of a step MiB", lambda value: number(2**-20 * value)),
    "median": ("median ms", lambda value: number(1e3 * value)),
    "p95": ("95 % ms", lambda value: number(1e3 * value)),
    "calls": ("calls", number),
    "peak_memory": ("peak memory GiB", lambda value: number(2**-30 * value)),
    "program_memory": ("compiled epoch MiB", lambda value: number(2**-20 * value)),
    "failed": ("not measured", str),
}


def table(content: Mapping[str, Any]) -> str:
    """Return the content of bench.json as Markdown: the machine, and a table for each section."""
    machine = content["machine"]
    load = f"; load {machine['load'][0]:.1f} at the start" if machine["load"] else ""
    device = f"{machine['devices']} x {machine['device']} ({machine['backend']})"
    about = f"{device}, {machine['processor']}, {machine['cores']} cores{load}."
    parts = [f"# Benchmark of {content['experiment']}", about]
    if content["quick"]:
        parts.append("**A quick check with a small model and little optimisation: do not quote these numbers.**")
    for name, measured in content["sections"].items():
        rows = list(map(flatten, measured))
        columns = {key: column for key, column in COLUMNS.items() if any(row.get(key) is not None for row in rows)}
        cells = [
            [row["point"], *("–" if row.get(key) is None else form(row[key]) for key, (_, form) in columns.items())]
            for row in rows
        ]
        if cells:
            titles = ["", *(title for title, _ in columns.values())]
            parts += [f"## {TITLES[name]}", tables.markdown(titles, cells)]
    return "\n\n".join(parts) + "\n"
