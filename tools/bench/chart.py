"""The picture of a benchmark: one panel for each section that was measured."""

from __future__ import annotations

import io
import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from ariigcn_jax.runs.figures import LINE, MARK, QUIET

Row = Mapping[str, Any]
COLUMNS = 3
PARTS = ("imports", "corpus", "compile", "first epoch")
SHADES = ("#bdbdbd", "#7f9fb6", LINE, MARK)
STYLES = ((LINE, "-"), (MARK, "-"), (QUIET, "-"), (LINE, "--"))


def draw(content: Mapping[str, Any]) -> bytes:
    """PNG of bench.json's content."""
    panels = [(name, _measured(rows)) for name, rows in content["sections"].items() if name in PANELS]
    panels = [(name, rows) for name, rows in panels if rows]
    lines = max(1, math.ceil(len(panels) / COLUMNS))
    figure = Figure(
        figsize=(5.0 * COLUMNS, 3.6 * lines + 0.6), dpi=110, layout=ConstrainedLayoutEngine(w_pad=0.1, h_pad=0.12)
    )
    machine = content["machine"]
    title = f"{content['experiment']} on {machine['processor'] if machine['backend'] == 'cpu' else machine['device']}"
    figure.suptitle(title + (": a quick check, no figures to quote" if content["quick"] else ""), fontsize=12)
    axes = figure.subplots(lines, COLUMNS, squeeze=False).ravel()
    for panel, (name, rows) in zip(axes, panels, strict=False):
        PANELS[name](panel, rows)
        panel.spines[["top", "right"]].set_visible(False)
        panel.tick_params(labelsize=8)
    for panel in axes[len(panels) :]:
        panel.set_visible(False)
    stream = io.BytesIO()
    FigureCanvasAgg(figure).print_png(stream, metadata={"Software": None})
    return stream.getvalue()


def _measured(rows: Sequence[Row]) -> list[Row]:
    return [row for row in rows if "failed" not in row]


def _bars(axes: Axes, names: Sequence[str], values: Sequence[float], title: str, unit: str) -> None:
    """Horizontal bars, the first on top, each with its value."""
    places = np.arange(len(names))[::-1]
    axes.barh(places, values, color=LINE, height=0.6)
    axes.set_yticks(places, names, fontsize=8)
    for place, value in zip(places, values, strict=True):
        axes.annotate(f" {value:.3g}", (value, place), va="center", fontsize=8, color=QUIET, annotation_clip=False)
    axes.margins(x=0.15)
    axes.set_title(title, fontsize=10)
    axes.set_xlabel(unit, fontsize=8)


def _epoch(axes: Axes, rows: Sequence[Row]) -> None:
    names, values = ["the machine's floor"], [rows[0]["floor"]]
    for row in rows:
        names += [f"{row['point']}, wall", f"{row['point']}, CPU"]
        values += [row["epoch"]["wall"], row["epoch"]["cpu"]]
    _bars(axes, names, values, "an epoch with validation and diagnosis, one seed", "seconds")


def _floor(axes: Axes, rows: Sequence[Row]) -> None:
    modules = [row for row in rows if "total" not in row["point"] and "XLA" not in row["point"]]
    names, values = [row["point"] for row in modules], [row["flops"] / 1e9 for row in modules]
    _bars(axes, names, values, "operations that an epoch's training needs", "GFLOP")


def _start(axes: Axes, rows: Sequence[Row]) -> None:
    places = np.arange(len(rows))[::-1]
    left = np.zeros(len(rows))
    for part, shade in zip(PARTS, SHADES, strict=True):
        values = np.array([row["start"][part] for row in rows])
        axes.barh(places, values, left=left, color=shade, height=0.5, label=part)
        left += values
    axes.set_yticks(places, [row["point"].partition(":")[0] for row in rows], fontsize=8)
    axes.set_title("from the command to the end of the first epoch", fontsize=10)
    axes.set_xlabel("seconds", fontsize=8)
    axes.legend(fontsize=7, ncols=4, loc="upper center", bbox_to_anchor=(0.5, -0.18), frameon=False)


def _scaling(size: str, title: str, xlabel: str) -> Callable[[Axes, Sequence[Row]], None]:
    """Seconds of an epoch against a size, both logarithmic, beside what is proportional."""

    def panel(axes: Axes, rows: Sequence[Row]) -> None:
        for variant, colour in zip(dict.fromkeys(row.get("variant", "") for row in rows), (LINE, MARK), strict=False):
            chosen = [row for row in rows if row.get("variant", "") == variant]
            sizes, walls = [r[size] for r in chosen], [r["epoch"]["wall"] for r in chosen]
            axes.loglog(sizes, walls, marker="o", markersize=4, color=colour, label=variant or "measured")
        last = rows[-1]
        ends = np.array([min(r[size] for r in rows), max(r[size] for r in rows)], float)
        axes.loglog(ends, last["epoch"]["wall"] * ends / last[size], "--", color=QUIET, linewidth=1, label="linear")
        axes.set_title(title, fontsize=10)
        axes.set_xlabel(xlabel, fontsize=8)
        axes.set_ylabel("seconds an epoch", fontsize=8)
        axes.grid(alpha=0.3)
        axes.legend(fontsize=7, frameon=False)

    return panel


def _against(size: str, value: Callable[[Row], float], title: str, xlabel: str, ylabel: str) -> Any:
    """A value against a small number of things; a line for each way of sharing the hardware, where there are ways."""

    def panel(axes: Axes, rows: Sequence[Row]) -> None:
        ways = list(dict.fromkeys(row.get("way", "") for row in rows))
        for way, (colour, style) in zip(ways, itertools.cycle(STYLES)):
            mine = [row for row in rows if row.get("way", "") == way]
            sizes, values = [r[size] for r in mine], [value(r) for r in mine]
            axes.plot(sizes, values, marker="o", markersize=4, color=colour, linestyle=style, label=way)
        sizes = list(dict.fromkeys(row[size] for row in rows))
        axes.set_xticks(sizes, [str(s) for s in sizes])
        axes.set_ylim(bottom=0)
        axes.set_title(title, fontsize=10)
        axes.set_xlabel(xlabel, fontsize=8)
        axes.set_ylabel(ylabel, fontsize=8)
        axes.grid(alpha=0.3)
        if ways != [""]:
            axes.legend(fontsize=7, frameon=False)

    return panel


def _latency(axes: Axes, rows: Sequence[Row]) -> None:
    names = [row["point"] for row in rows]
    _bars(axes, [n.replace(" (", "\n(") for n in names], [1e3 * r["median"] for r in rows], "inference", "median ms")


def _run(axes: Axes, rows: Sequence[Row]) -> None:
    _bars(axes, [r["point"] for r in rows], [r["run"]["wall"] for r in rows], "the whole command", "wall seconds")


PANELS: dict[str, Callable[[Axes, Sequence[Row]], None]] = {
    "epoch": _epoch,
    "floor": _floor,
    "start": _start,
    "seeds": _against("seeds", lambda r: r["times_one"], "seeds together", "seeds", "times the wall time of one"),
    "hidden": _against(
        "hidden", lambda r: r["epoch"]["wall"], "hidden width", "hidden width D", "wall seconds an epoch"
    ),
    "modalities": _against(
        "modalities", lambda r: r["epoch"]["wall"], "modalities", "modalities", "wall seconds an epoch"
    ),
    "latency": _latency,
    "length": _scaling("length", "one dialogue", "its utterances"),
    "corpus": _scaling("size", "corpus", "train utterances"),
    "run": _run,
}
