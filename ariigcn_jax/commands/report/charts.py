"""Draw the charts of the page. Their strings are plain; page.html escapes them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from ariigcn_jax.analysis.alignment import MEASURES
from ariigcn_jax.analysis.statistics import half_interval
from ariigcn_jax.commands.align import STAGE_TITLES
from ariigcn_jax.commands.report.runs import Run, Study
from ariigcn_jax.objective import tasks
from ariigcn_jax.runs.results import MEAN, POOLED
from ariigcn_jax.training import diagnostics

# Of Okabe and Ito: they stay apart for every common kind of colour blindness.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#7a5195", "#8c8c00", "#444444", "#b03060")
QUIET = "#5f6672"
NO_LEGEND: dict[str, Any] = dict(showlegend=False)
DOTS: dict[str, Any] = dict(mode="markers", hoverinfo="text")


def mean(values: Sequence[float] | np.ndarray, score: str = "") -> str:
    """Return a mean over seeds ± half its interval, in percent or in the unit of a metric that is no share."""
    half = half_interval(values)
    return tasks.shown(score, float(np.mean(values)), None if np.isnan(half) else half)


def metric(score: str) -> tasks.Metric:
    """Return how a score is written: that of a metric, or of a class, `F1 of joy`."""
    return tasks.all_metrics().get(score, tasks.Metric(score.replace("f1 of ", "F1 of ", 1)))


def _axis(score: str) -> tuple[float, dict[str, Any]]:
    """Return what a score is multiplied by, and its axis."""
    scale = metric(score).scale
    return scale, dict(ticksuffix=" %" if scale == 100 else "")


def chart(title: str, height: int = 300, **layout: Any) -> go.Figure:
    """Return an empty chart of a height in pixels; further layout as plotly takes it. `page.html` adds its legend."""
    look: dict[str, Any] = dict(font=dict(size=12), hoverlabel=dict(namelength=-1))
    look |= dict(title=dict(text=title, font=dict(size=14), x=0, xanchor="left", xref="paper"))
    figure = go.Figure()
    figure.update_layout(template="plotly_white", height=height, margin=dict(l=55, r=15, t=42, b=45), **look)
    return figure.update_xaxes(title_standoff=6).update_layout(**layout)


def colour(index: int) -> str:
    """Return one of COLOURS, in turn."""
    return COLOURS[index % len(COLOURS)]


def _band(
    figure: go.Figure, x: Sequence[Any] | np.ndarray, values: np.ndarray, name: str, colour: str, legend: bool = True
) -> np.ndarray:
    """Add a curve of values [V, S] over S seeds: the mean [V], which is returned, and a band of ± one deviation."""
    average, places = values.mean(axis=1), list(x)
    spread = values.std(axis=1, ddof=1) if values.shape[1] > 1 else np.zeros(len(values))
    if max(spread, default=0) > 0:
        outline = dict(x=places + places[::-1], y=[*(average + spread), *(average - spread)[::-1]])
        fill = dict(fill="toself", fillcolor=f"rgba({','.join(map(str, bytes.fromhex(colour[1:])))},0.18)")
        quiet = dict(mode="lines", line=dict(width=0), hoverinfo="skip", showlegend=False, legendgroup=name)
        figure.add_scatter(**outline, **fill, **quiet)
    mode, line = "lines+markers" if len(places) < 12 else "lines", dict(color=colour, width=2)
    figure.add_scatter(x=places, y=average, mode=mode, name=name, line=line, showlegend=legend, legendgroup=name)
    return average


def _dots(
    figure: go.Figure, label: str, per_seed: Sequence[float], seeds: Sequence[int], score: str, colour: str
) -> None:
    """Add a column to a chart: a dot for each seed, and a line at their mean with its interval."""
    scale, _ = _axis(score)
    values, half = scale * np.asarray(per_seed), scale * half_interval(per_seed)
    words = [f"seed {s}: {v:.2f}" for s, v in zip(seeds, values, strict=True)]
    marker = dict(color=colour, opacity=0.45, size=7)
    figure.add_scatter(x=[label] * len(values), y=values, marker=marker, hovertext=words, **DOTS)
    error = None if np.isnan(half) else dict(array=[half], thickness=2, width=8)
    words = [f"{label}: {mean(per_seed, score)}"]
    marker = dict(color=colour, symbol="line-ew", size=18, line=dict(width=3, color=colour))
    figure.add_scatter(x=[label], y=[values.mean()], error_y=error, marker=marker, hovertext=words, **DOTS)


def scores(runs: Sequence[Run], score: str) -> go.Figure:
    """Draw a metric of finished runs, each seed as a dot."""
    figure = chart(metric(score).title, yaxis=_axis(score)[1], **NO_LEGEND)
    for k, run in enumerate(runs):
        _dots(figure, run.name, run.scores[score]["per_seed"], run.results["seeds"], score, colour(k))
    return figure


def classes(runs: Sequence[Run]) -> go.Figure:
    """Draw the F1 of each class, in runs with the same classes."""
    figure = chart("F1 of each class", height=340, barmode="group", yaxis=dict(ticksuffix=" %", range=[0, 100]))
    for k, run in enumerate(runs):
        names = run.results["label_names"]
        values = [run.of_class("class_f1", index) for index in range(len(names))]
        halves = [100 * float(np.nan_to_num(half_interval(v))) for v in values]
        heights, errors = [100 * float(np.mean(v)) for v in values], dict(array=halves, visible=any(halves))
        look = dict(name=run.name, marker_color=colour(k), showlegend=len(runs) > 1)
        figure.add_bar(x=names, y=heights, error_y=errors, **look)
    return figure


def confusion(run: Run) -> go.Figure:
    """Draw the shares of each true class, with counts, the mean over seeds."""
    counts = np.asarray(run.scores["confusion"], float).mean(axis=0)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    places = list(range(len(counts)))  # of two classes whose names look alike, too
    figure = chart(f"{run.name} ({run.split})", height=max(170 + 42 * len(counts), 300))
    cells = dict(z=shares, x=places, y=places, zmin=0, zmax=1, hoverinfo="skip")
    text = [[f"{shares[i, j]:.0%}\n{counts[i, j].round(1):g}" for j in places] for i in places]
    look = dict(colorscale="Cividis", texttemplate="%{text}", colorbar=dict(tickformat=".0%"))
    figure.add_heatmap(text=text, **cells, **look)
    names = [name if len(name) < 17 else f"{name[:15]}…" for name in run.results["label_names"]]
    ticks = dict(tickvals=places, ticktext=names, automargin=True)
    figure.update_xaxes(title="predicted", **ticks)
    return figure.update_yaxes(title="true", autorange="reversed", **ticks)


def calibration(runs: Sequence[Run]) -> go.Figure:
    """Draw how often answers of a confidence are right: dashed as trained, solid with the temperature."""
    share: dict[str, Any] = dict(range=[0, 1], tickformat=".0%")
    x, y = dict(title="probability of the answer", **share), dict(title="share that is right", **share)
    figure = chart("Confidence and accuracy", height=420, xaxis=x, yaxis=y)
    line = dict(color="#999", dash="dot")
    figure.add_scatter(x=[0, 1], y=[0, 1], mode="lines", line=line, hoverinfo="skip", showlegend=False)
    for k, run in enumerate(runs):
        for when, dash in (("before", "dash"), ("after", "solid")) if run.calibrated else ():
            bins = run.results["reliability"][run.split][when]
            error = mean(run.results["calibration_error"][run.split][when]["per_seed"])
            name, words = f"{run.name}, {when}: calibration error {error} %", [f"{n:g} answers" for n in bins["count"]]
            points = dict(x=bins["confidence"], y=bins["accuracy"], line=dict(color=colour(k), dash=dash))
            figure.add_scatter(mode="lines+markers", name=name, hovertext=words, **points)
    return figure


def curve(runs: Sequence[Run], group: str, name: str, title: str) -> go.Figure:
    """Draw a number of the log, in its group "train" or "valid", by epoch."""
    scale, axis = _axis(name) if group == "valid" else (1, {})
    figure = chart(title, xaxis=dict(title="epoch"), yaxis=axis)
    for k, run in enumerate(runs):
        epochs, values = run.series(group, name)
        if len(epochs):
            _band(figure, epochs, scale * values, run.name, colour(k), legend=len(runs) > 1)
    return figure


def measure(run: Run, signature: diagnostics.Signature, subjects: Sequence[str]) -> go.Figure:
    """Draw a measure of the diagnostics, a curve for each subject, and the threshold of its warning."""
    figure = chart(signature.measure.replace("_", " "), height=260, xaxis=dict(title="epoch"))
    for k, subject in enumerate(subjects):
        epochs, values = run.series("diagnostics", signature.measure, subject)
        name, _, layer = subject.rpartition("/")  # of attention, whose layers are counted from 1 on the page
        words = f"{name}, layer {int(layer) + 1}" if name and layer.isdigit() else subject
        _band(figure, epochs, values.mean(axis=1, keepdims=True), words, colour(k))
    words = f"a warning {'above' if signature.above else 'below'} {signature.threshold:g}"
    line, font = dict(dash="dash", color="#d55e00", width=1.5), dict(size=10, color="#d55e00")
    return figure.add_hline(y=signature.threshold, line=line, annotation=dict(text=words, font=font))


def alignment(runs: Sequence[Run], pairs: Sequence[str]) -> go.Figure:
    """Draw a panel for each measure, a line for each pair, a colour for each run."""
    figure = make_subplots(cols=len(MEASURES), shared_yaxes=True, horizontal_spacing=0.015)
    figure.update_layout(chart("", height=120 + 24 * len(pairs), margin=dict(l=10, r=15, t=50, b=20)).layout)
    for column, (name, title) in enumerate(MEASURES.items(), start=1):
        place = dict(row=1, col=column)
        for k, run in enumerate(runs):
            values = {pair: np.asarray(row[name], float) for pair, row in run.pairs.items()}
            heights = [pairs.index(pair) + 0.2 * (k - (len(runs) - 1) / 2) for pair in values]
            errors = [v.std(ddof=1) if len(v) > 1 else 0 for v in values.values()]
            points = dict(x=[v.mean() for v in values.values()], y=heights, marker=dict(color=colour(k), size=8))
            legend = dict(name=run.name, legendgroup=run.name, showlegend=column == 1)
            words = [f"{pair}, {run.name}: {v.mean():.3g}" for pair, v in values.items()]
            bars = dict(array=errors, thickness=1.2, width=3)
            figure.add_scatter(error_x=bars, hovertext=words, **points, **legend, **DOTS, **place)
        ends = {"a_distance": [-0.1, 2.1], "accuracy": [0.45, 1.03]}.get(name)  # with the value of chance
        limits: dict[str, Any] = dict(range=ends) if ends else dict(rangemode="tozero")
        figure.update_xaxes(title=dict(text=title), side="top", nticks=5, tickangle=0, **limits, **place)
    figure.update_yaxes(autorange="reversed", automargin=True)
    return figure.update_yaxes(tickvals=list(range(len(pairs))), ticktext=pairs, row=1, col=1)


def projections(measured: Mapping[str, Any]) -> list[go.Figure]:
    """Draw the t-SNE maps of an alignment.json, coloured by modality and by emotion."""
    figures = []
    for stage, found in measured["projections"].items():
        points = np.asarray(found["point"], float)
        for key, names, word in (("modality", "modalities", "modality"), ("label", "label_names", "emotion")):
            figure = chart(f"{STAGE_TITLES.get(stage, stage)}: {word}", height=420)
            for k, name in enumerate(measured[names]):
                x, y = points[np.asarray(found[key]) == k].T
                marker = dict(size=4, color=colour(k), opacity=0.7)
                figure.add_scatter(x=x, y=y, mode="markers", name=name, marker=marker, hoverinfo="name")
            figures.append(figure.update_xaxes(visible=False).update_yaxes(visible=False))
    return figures


def folds(study: Study) -> go.Figure:
    """Draw the score that chose the epoch, of each fold and of all of them."""
    select = study.content["select"]
    figure = chart(f"test {metric(select).title}", yaxis=_axis(select)[1], **NO_LEGEND)
    for fold, rows in study.folds().items():
        shade = colour(0) if fold in (MEAN, POOLED) else QUIET
        _dots(figure, fold, rows[select]["per_seed"], study.content["seeds"], select, shade)
    return figure


def value_curves(study: Study) -> list[go.Figure]:
    """Draw validation scores over the values of a swept option: the selecting score, and the F1 of each class."""
    rows, select = study.content["rows"], study.content["select"]
    (option,) = rows[0]["values"]
    if numbers := all(isinstance(row["values"][option], int | float) for row in rows):
        rows = sorted(rows, key=lambda row: row["values"][option])
    x = [row["values"][option] if numbers else str(row["values"][option]) for row in rows]
    chosen = [k for k, row in enumerate(rows) if row["selected"]]
    by_class = np.array([row["valid"]["class_f1"]["per_seed"] for row in rows], float)
    names = [*study.label_names, *(f"class {k}" for k in range(len(study.label_names), by_class.shape[2]))]
    values = {select: np.array([row["valid"][select]["per_seed"] for row in rows], float)}
    values |= {f"F1 of {name}": by_class[:, :, k] for k, name in enumerate(names)}
    figures = []
    for k, (score, of_score) in enumerate(values.items()):
        (scale, axis), title = _axis(score), metric(score).title
        figure = chart(title, xaxis=dict(title=option), yaxis=axis)
        average = _band(figure, x, scale * of_score, title, colour(k), legend=False)
        marker = dict(size=12, color="#d55e00", symbol="star")
        star = dict(x=[x[k] for k in chosen], y=average[chosen], marker=marker, hovertext="selected", **DOTS)
        figures.append(figure.add_scatter(showlegend=False, **star))
    return figures


def ablations(study: Study) -> go.Figure:
    """Draw what each ablation costs, with the interval of the difference from the full model."""
    select = study.content["select"]
    scale, axis = _axis(select)
    rows = [row for row in study.tested() if row.get("difference") is not None]
    value, low, high = (
        np.array([np.nan if row.get(key) is None else scale * row[key] for row in rows])
        for key in ("difference", "low", "high")
    )
    title = f"difference from the full model, test {metric(select).title}{', points' if axis['ticksuffix'] else ''}"
    figure = chart(title, height=90 + 34 * len(rows), **NO_LEGEND)
    places = list(range(len(rows)))
    errors = dict(type="data", symmetric=False, array=high - value, arrayminus=value - low, width=6)
    marker = dict(size=10, color=colour(0))
    figure.add_scatter(x=value, y=places, error_x=errors, mode="markers", marker=marker, hoverinfo="x")
    figure.add_vline(x=0, line=dict(color=QUIET, width=1))
    ticks = dict(tickvals=places, ticktext=[row["ablation"] for row in rows])
    return figure.update_yaxes(**ticks, autorange="reversed", automargin=True)
