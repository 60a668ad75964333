"""Assemble the page: templates/page.html has the frame, and a template beside it each section."""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any

import plotly.graph_objects as go
import plotly.io
from markupsafe import Markup
from plotly.offline import get_plotlyjs

from ariigcn_jax.commands import html_page
from ariigcn_jax.commands.report import charts
from ariigcn_jax.commands.report.runs import STUDIES, Run, Study
from ariigcn_jax.files import flatten
from ariigcn_jax.objective import tasks
from ariigcn_jax.options import base
from ariigcn_jax.runs import results
from ariigcn_jax.training import diagnostics

TEMPLATE = Path(__file__).parent / "templates" / "page.html"
SECTIONS = {  # in the order of the page; those without content are left out
    "summary": "Summary",
    "results": "Results",
    "classes": "Classes",
    "confusion": "Confusion matrices",
    "calibration": "Calibration",
    "curves": "Learning curves",
    "failures": "Failure signatures",
    "alignment": "Alignment",
    "folds": "Folds",
    "ablations": "Ablations",
    "sweep": "Swept options",
    "attention": "Attention",
    "configuration": "Configuration",
}
Drawn = tuple[str, Sequence[go.Figure], str]  # a run's name, its conversations, and why they could not be drawn, or ""


def render(runs: Sequence[Run], studies: Sequence[Study], attention: Sequence[Drawn], split: str) -> str:
    """Return the whole page; `split` says whose conversations `attention` shows."""
    finished = [run for run in runs if run.results]
    matrices = [run for run in finished if results.task_of(run.results).exclusive]
    content: dict[str, Sequence[Any]] = {
        "summary": [*runs, *studies],
        "results": finished,
        "classes": finished,
        "confusion": matrices,
        "calibration": [run for run in finished if run.calibrated],
        "curves": [run for run in runs if len(run.rows) > 1],
        "failures": [run for run in runs if run.diagnosed],
        "alignment": [run for run in runs if run.alignment],
        **{kind: [study for study in studies if study.kind == kind] for kind in STUDIES},
        "attention": attention,
        "configuration": runs,
    }
    return html_page.render(
        TEMPLATE,
        sections={anchor: title for anchor, title in SECTIONS.items() if content[anchor]},
        filters={"draw": html, "which_epoch": results.which_epoch},
        plotly=get_plotlyjs(),
        title="ARIIGCN-JAX: " + ", ".join([*(run.name for run in runs), *(study.name for study in studies)]),
        runs=runs,
        finished=finished,
        matrices=matrices,
        studies=studies,
        options=different_options(runs),
        attention=attention,
        split=split,
        charts=charts,
        tasks=tasks,
        diagnostics=diagnostics,
        results=results,
    )


_numbers = itertools.count(1)


def html(figure: go.Figure) -> Markup:
    """Return a chart as HTML, without plotly's script, which the page brings once; "" for a chart without data.

    Plotly reads a little HTML in its labels, so every string of the figure is escaped; a line break becomes `<br>`.
    The legend is HTML below the chart, which wraps where plotly's would cover the chart.
    """
    if not figure.data:
        return Markup()
    content, name = _escaped(json.loads(figure.to_json())), f"chart-{next(_numbers)}"
    content["layout"]["showlegend"] = False
    options = dict(include_plotlyjs=False, full_html=False, config=dict(displayModeBar=False, responsive=True))
    drawn = Markup(plotly.io.to_html(content, div_id=name, validate=False, **options))
    return Markup('<div class="chart">{}{}</div>').format(drawn, _legend(figure))


def _legend(figure: go.Figure) -> Markup:
    """Return the names of a chart's traces; a click on one hides its traces. "" where there are not several."""
    groups: dict[str, list[int]] = {}
    for k, trace in enumerate(figure.data):
        groups.setdefault(trace.legendgroup or trace.name or "", []).append(k)
    named = {
        trace.name: (trace, groups[trace.legendgroup or trace.name])
        for trace in figure.data
        if trace.name and trace.showlegend is not False
    }
    if figure.layout.showlegend is False or len(named) < 2:
        return Markup()
    entry = Markup('<button type="button" aria-pressed="true" data-traces="{}"{}><i style="{}"></i>{}</button>')
    entries = []
    for name, (trace, traces) in named.items():
        explains = trace.x is not None and list(trace.x) == [None]  # it has no points that could be hidden
        entries.append(entry.format(json.dumps(traces), " disabled" if explains else "", _swatch(trace), name))
    return Markup('<div class="legend">{}</div>').format(Markup().join(entries))


def _swatch(trace: Any) -> str:
    """Return the style of a trace's sign in a legend."""
    if trace.type == "scatter" and "lines" in trace.mode:
        return f"border-top: 3px {'dashed' if trace.line.dash == 'dash' else 'solid'} {trace.line.color}"
    return f"height: .7em; background: {trace.marker.color}"


def _escaped(value: Any) -> Any:
    """Escape the strings of a figure's JSON."""
    if isinstance(value, dict):
        return {key: _escaped(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_escaped(item) for item in value]
    return escape(value, quote=False).replace("\n", "<br>") if isinstance(value, str) else value


def different_options(runs: Sequence[Run]) -> dict[str, list[str]]:
    """Return the options in which runs differ, or a single one differs from base.py: dotted key -> JSON of each."""
    columns = [flatten(base.get_config().to_dict())] if len(runs) == 1 else []
    columns += [flatten(run.config) for run in runs]
    found = {
        key: [json.dumps(column[key], ensure_ascii=False) if key in column else "(absent)" for column in columns]
        for key in sorted({key for column in columns for key in column})
    }
    return {key: values for key, values in found.items() if len(set(values)) > 1}
