"""The table of a benchmark, as Markdown."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

Row = Mapping[str, Any]
Column = tuple[str, Callable[[Row], str]]
TITLES = {
    "epoch": "An epoch of one seed, with validation and diagnosis",
    "floor": "What an epoch needs: operations, bytes, and their seconds at this machine's rates",
    "start": "From the command to the end of the first epoch, in a process of its own (seconds)",
    "seeds": "An epoch of several seeds together",
    "hidden": "Hidden width",
    "modalities": "Modalities",
    "latency": "Inference, host to host",
    "length": "One dialogue of so many utterances, in a process of its own",
    "corpus": "Train utterances of a corpus, in a process of its own",
    "run": "The whole command, from an empty compilation cache to its results",
}


def _number(value: float) -> str:
    """Three digits, and thousands apart."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def _at(*path: str, scale: float = 1.0, form: Callable[[float], str] = _number) -> Callable[[Row], str]:
    def cell(row: Row) -> str:
        value: Any = row
        for key in path:
            value = value.get(key) if isinstance(value, Mapping) else None
        return "–" if value is None else form(value * scale)

    return cell


def _percent(value: float) -> str:
    return f"{100 * value:.1f} %"


def _times(value: float) -> str:
    return f"{value:.2f} ×"


def _mark(value: float) -> str:
    return "yes" if value else ""


_EPOCH: list[Column] = [
    ("wall s", _at("epoch", "wall")),
    ("CPU s", _at("epoch", "cpu")),
    ("nodes/s", _at("nodes_per_second")),
]
_SHARES: list[Column] = [
    ("GFLOP needed", _at("flops", scale=1e-9)),
    ("floor s", _at("floor")),
    ("share of the floor", _at("share_of_floor", form=_percent)),
    ("share of the matmul rate", _at("share_of_matmul", form=_percent)),
    ("the same by CPU time", _at("share_of_matmul_cpu", form=_percent)),
]
_MEMORY: list[Column] = [("peak memory GiB", _at("peak_memory", scale=2**-30))]
COLUMNS: dict[str, list[Column]] = {
    "epoch": [
        ("training wall s", _at("train", "wall")),
        ("validation", _at("validate", "wall")),
        ("diagnosis", _at("diagnose", "wall")),
        *_EPOCH,
        *_SHARES,
        ("times slower", _at("times_slower", form=_times)),
        ("by CPU time", _at("times_slower_cpu", form=_times)),
    ],
    "floor": [
        ("GFLOP", _at("flops", scale=1e-9)),
        ("GB", _at("bytes", scale=1e-9)),
        ("s at the matmul rate", _at("matmul")),
        ("s at the memory rate", _at("memory")),
    ],
    "start": [
        *[(name, _at("start", name)) for name in ("imports", "corpus", "compile", "first epoch", "total")],
        ("programs compiled", _at("compiled")),
        ("from the cache", _at("from_cache")),
        *_MEMORY,
    ],
    "seeds": [
        ("wall s, all", _at("epoch", "wall")),
        ("wall s, each", _at("each", "wall")),
        ("CPU s, each", _at("each", "cpu")),
        ("times one seed", _at("times_one", form=_times)),
        ("nodes/s", _at("nodes_per_second")),
        ("the fastest", _at("fastest", form=_mark)),
        ("what auto takes", _at("auto", form=_mark)),
    ],
    "hidden": [*_EPOCH, *_SHARES],
    "modalities": [*_EPOCH, *_SHARES],
    "latency": [("median ms", _at("median", scale=1e3)), ("95 % ms", _at("p95", scale=1e3)), ("calls", _at("calls"))],
    "length": [*_EPOCH, *_MEMORY, ("of the compiled epoch MiB", _at("program_memory", scale=2**-20))],
    "corpus": [*_EPOCH, *_MEMORY, ("of the compiled epoch MiB", _at("program_memory", scale=2**-20))],
    "run": [
        ("wall s", _at("run", "wall")),
        ("CPU s", _at("run", "cpu")),
        ("times one seed", _at("times_one", form=_times)),
    ],
}


def table(content: Mapping[str, Any]) -> str:
    """Machine, rates and every section of bench.json's content, as Markdown."""
    machine, rates = content["machine"], content["rates"]
    load = f"; load {machine['load'][0]:.1f} when it began" if machine["load"] else ""
    lines = [
        f"# Benchmark of {content['experiment']}",
        "",
        f"{machine['devices']} x {machine['device']} ({machine['backend']}), {machine['processor']}, "
        f"{machine['cores']} cores{load}.",
        f"Matrix products: {rates['matmul'] / 1e9:,.0f} GFLOP/s in float32 ({rates['size']} x {rates['size']}); "
        f"memory: {rates['memory'] / 1e9:,.1f} GB/s.",
    ]
    if content["quick"]:
        lines.append("**A quick check with a small model and little optimisation: these are not figures to quote.**")
    for name, rows in content["sections"].items():
        if rows:
            lines += ["", f"## {TITLES[name]}", "", *_section(name, rows)]
    return "\n".join(lines) + "\n"


def _section(name: str, rows: Sequence[Row]) -> list[str]:
    kept = [c for c in COLUMNS[name] if any(c[1](row) != "–" for row in rows)]  # no column of dashes
    failed = any("failed" in row for row in rows)
    head = ["", *[title for title, _ in kept], *(["not measured"] if failed else [])]
    body = [
        [row["point"], *[cell(row) for _, cell in kept], *([row.get("failed", "")] if failed else [])] for row in rows
    ]
    rule = ["---", *["---:"] * len(kept), *(["---"] if failed else [])]
    return [f"| {' | '.join(line)} |" for line in (head, rule, *body)]
