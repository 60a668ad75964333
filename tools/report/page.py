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

from ariigcn_jax.files import flatten
from ariigcn_jax.objective import tasks
from ariigcn_jax.runs import results
from ariigcn_jax.training import diagnostics
from experiments import base
from tools import html_page
from tools.report import charts
from tools.report.runs import Run, Study

TEMPLATE = Path(__file__).parent / "templates" / "page.html"
Drawn = tuple[str, Sequence[go.Figure], str]  # a run's name, its conversations, and why they could not be drawn, or ""


def render(runs: Sequence[Run], studies: Sequence[Study], attention: Sequence[Drawn], split: str) -> str:
    """Return the whole page; `split` says whose conversations `attention` shows."""
    return html_page.render(
        TEMPLATE,
        filters={"draw": html, "which_epoch": results.which_epoch},
        plotly=get_plotlyjs(),
        title="ARIIGCN-JAX: " + ", ".join([*(run.name for run in runs), *(study.name for study in studies)]),
        runs=runs,
        finished=[run for run in runs if run.results],
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
    """Return a chart as HTML, without plotly's script, which the page brings once.

    Plotly reads a little HTML in its labels, so every string of the figure is escaped; a line break becomes `<br>`.
    """
    content, name = _escaped(json.loads(figure.to_json())), f"chart-{next(_numbers)}"
    options = dict(include_plotlyjs=False, full_html=False, config=dict(displayModeBar=False, responsive=True))
    return Markup(plotly.io.to_html(content, div_id=name, validate=False, **options))


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
