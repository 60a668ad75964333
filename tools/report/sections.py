"""The sections of the page: runs in, HTML out."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from ariigcn_jax.analysis.alignment import MEASURES
from ariigcn_jax.analysis.statistics import half_interval
from ariigcn_jax.objective import tasks
from ariigcn_jax.runs import results
from ariigcn_jax.runs.figures import NOT_TERMS
from ariigcn_jax.training import diagnostics
from experiments.folds import MEAN, POOLED
from tools.align import STAGE_TITLES
from tools.report import page
from tools.report.runs import Run, Study

# --- Options ----------------------------------------------------------------------------------------------------------


def configuration(runs: Sequence[Run], defaults: Mapping[str, Any]) -> str:
    """Where each run comes from, and the options in which runs differ, or in which a single one is not the default."""
    origins = [
        [
            run.name,
            run.config.get("experiment", ""),
            "finished" if run.results else f"under way, {len(run.rows)} epochs done",
            ((run.environment.get("git") or {}).get("commit") or "–")[:10],
            (run.environment.get("versions") or {}).get("jax", "–"),
            (run.environment.get("device") or {}).get("kind", "–"),
            run.environment.get("date", "–"),
        ]
        for run in runs
    ]
    found = page.table(["run", "experiment", "state", "commit", "JAX", "device", "started"], origins, words=7)
    if len(runs) == 1:
        compared = [("default", defaults), (runs[0].name, runs[0].options)]
        words = "Options that are not those of experiments/base.py:"
    else:
        compared = [(run.name, run.options) for run in runs]
        words = "Options in which the runs differ:"
    keys = sorted(set().union(*(options for _, options in compared)))
    rows = [[key, *(_option(options, key) for _, options in compared)] for key in keys]
    rows = [row for row in rows if len(set(row[1:])) > 1]
    if not rows:
        return found + page.paragraph("The runs have the same options." if len(runs) > 1 else "All are the defaults.")
    return (
        found + page.paragraph(words) + page.table(["option", *(n for n, _ in compared)], rows, words=len(compared) + 1)
    )


def _option(options: Mapping[str, Any], key: str) -> str:
    if key not in options:
        return "(absent)"
    value = options[key]
    return json.dumps(list(value) if isinstance(value, tuple) else value, ensure_ascii=False)


# --- Results ----------------------------------------------------------------------------------------------------------


def _percent(values: Sequence[float] | np.ndarray, metric: str = "") -> str:
    """In percent, or in the unit of a metric that is no share."""
    half = half_interval(values)
    return tasks.shown(metric, float(np.mean(values)), None if np.isnan(half) else half)


def _title(metric: str) -> str:
    return tasks.all_metrics()[metric].title if metric in tasks.all_metrics() else metric


def _axis(metric: str) -> tuple[float, str]:
    """What a metric is multiplied by, and what its axis says behind a number."""
    scale = tasks.all_metrics()[metric].scale if metric in tasks.all_metrics() else 100
    return scale, " %" if scale == 100 else ""


def scores(runs: Sequence[Run]) -> str:
    """Every score with its interval, and each seed as a dot."""
    groups: dict[tuple[str, ...], list[Run]] = {}
    for run in runs:
        if run.results:
            groups.setdefault(tuple(results.task_of(run.results).metrics), []).append(run)
    return "".join(map(_scores_of_a_task, groups.values())) or page.paragraph("No run is finished yet.")


def _scores_of_a_task(finished: Sequence[Run]) -> str:
    task = results.task_of(finished[0].results)
    rows = [
        [run.name, run.split, len(run.scores[run.select]["per_seed"])]
        + [_percent(run.scores[name]["per_seed"], name) for name in task.metrics]
        for run in finished
    ]
    epochs = dict.fromkeys(results.which_epoch(run.results) for run in finished)
    words = (
        f"{results.unit(task).capitalize()}, {' or '.join(epochs)}; ± is half the 95 % "
        "interval of the mean over seeds (Student's t). It says how further seeds would vary, not another corpus; one "
        "seed has none."
    )
    charts = []
    for name in dict.fromkeys([run.select for run in finished] + list(task.headline)):
        figure = page.chart(_title(name), yaxis=dict(ticksuffix=_axis(name)[1]), **page.NO_LEGEND)
        for k, run in enumerate(finished):
            _dots(figure, run.name, run.scores[name]["per_seed"], run.results["seeds"], name, page.colour(k))
        charts.append(page.show(figure))
    header = ["run", "split", "seeds", *map(_title, task.metrics)]
    return page.paragraph(words) + page.table(header, rows, words=2) + page.grid(charts)


def _dots(
    figure: go.Figure, label: str, per_seed: Sequence[float], seeds: Sequence[int], metric: str, colour: str
) -> None:
    """A column of a chart: each seed as a dot, and a line at their mean with its interval."""
    scale, _ = _axis(metric)
    values, half = scale * np.asarray(per_seed), scale * half_interval(per_seed)
    figure.add_scatter(
        x=[page.text(label)] * len(values),
        y=values,
        mode="markers",
        marker=dict(color=colour, opacity=0.45, size=7),
        hovertext=[f"seed {s}: {v:.2f}" for s, v in zip(seeds, values, strict=True)],
        hoverinfo="text",
    )
    figure.add_scatter(
        x=[page.text(label)],
        y=[values.mean()],
        error_y=None if np.isnan(half) else dict(array=[half], thickness=2, width=8),
        mode="markers",
        marker=dict(color=colour, symbol="line-ew", size=18, line=dict(width=3, color=colour)),
        hovertext=[page.text(f"{label}: {_percent(per_seed, metric)}")],
        hoverinfo="text",
    )


def classes(runs: Sequence[Run]) -> str:
    """Accuracy and F1 of every class; runs with the same classes in one table."""
    groups: dict[tuple[str, ...], list[Run]] = {}
    for run in runs:
        if run.results:
            groups.setdefault(tuple(run.results["label_names"]), []).append(run)
    found = []
    for names, members in groups.items():
        header = ["class", "support"]
        for run in members:
            header += [f"{run.name}: accuracy", f"{run.name}: F1"]
        rows = []
        for index, name in enumerate(names):
            cells: list[object] = [name, f"{members[0].scores['support']['mean'][index]:g}"]
            for run in members:
                cells += [_percent(_element(run, metric, index)) for metric in ("class_accuracy", "class_f1")]
            rows.append(cells)
        figure = page.chart(
            "F1 of each class", height=340, barmode="group", yaxis=dict(ticksuffix=" %", range=[0, 100])
        )
        for k, run in enumerate(members):
            values = [_element(run, "class_f1", index) for index in range(len(names))]
            halves = [0 if np.isnan(h := half_interval(v)) else 100 * h for v in values]
            figure.add_bar(
                x=[page.text(name) for name in names],
                y=[100 * float(np.mean(v)) for v in values],
                error_y=dict(array=halves, visible=any(halves)),
                name=page.text(run.name),
                marker_color=page.colour(k),
                showlegend=len(members) > 1,
            )
        found.append(page.table(header, rows) + page.show(figure))
    return "".join(found) or page.paragraph("No run is finished yet.")


def _element(run: Run, metric: str, index: int) -> list[float]:
    return [seed[index] for seed in run.scores[metric]["per_seed"]]


def confusions(runs: Sequence[Run]) -> str:
    """Shares of the true class, with mean counts."""
    charts = []
    for run in runs:
        if not run.results:
            continue
        if not results.task_of(run.results).exclusive:  # no class is taken for another
            charts.append(page.paragraph(f"{run.name}: several labels at once have no confusion matrix.", "quiet"))
            continue
        counts = np.asarray(run.scores["confusion"], float).mean(axis=0)
        shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
        names = [page.text(name) for name in run.results["label_names"]]
        size = 170 + 42 * len(names)
        figure = page.chart(f"{run.name} ({run.split})", height=max(size, 300))
        figure.add_heatmap(
            z=shares,
            # places, because two classes may look alike and would then share a row
            x=list(range(len(names))),
            y=list(range(len(names))),
            zmin=0,
            zmax=1,
            colorscale="Cividis",
            text=[
                [f"{s:.0%}<br>{c:g}" for s, c in zip(*row, strict=True)]
                for row in zip(shares, counts.round(1), strict=True)
            ],
            texttemplate="%{text}",
            hoverinfo="skip",
            colorbar=dict(tickformat=".0%"),
        )
        ticks = dict(tickvals=list(range(len(names))), ticktext=names, automargin=True)
        figure.update_xaxes(title="predicted", **ticks)
        figure.update_yaxes(title="true", autorange="reversed", **ticks)
        charts.append(page.show(figure))
    words = "Shares of the true class, and counts, the mean over seeds."
    return page.paragraph(words) + page.grid(charts) if charts else page.paragraph("No run is finished yet.")


def calibration(runs: Sequence[Run]) -> str:
    """How often answers of a confidence are right: dashed as trained, solid with the temperature."""
    figure = page.chart(
        "Confidence and accuracy",
        height=420,
        xaxis=dict(title="probability of the answer", range=[0, 1], tickformat=".0%"),
        yaxis=dict(title="share that is right", range=[0, 1], tickformat=".0%"),
    )
    figure.add_scatter(x=[0, 1], y=[0, 1], mode="lines", line=dict(color="#999", dash="dot"), hoverinfo="skip", name="")
    found = [(k, run) for k, run in enumerate(runs) if run.split in run.results.get("reliability", {})]
    for k, run in found:
        for when, dash in (("before", "dash"), ("after", "solid")):
            bins = run.results["reliability"][run.split][when]
            error = _percent(run.results["calibration_error"][run.split][when]["per_seed"])
            figure.add_scatter(
                x=bins["confidence"],
                y=bins["accuracy"],
                mode="lines+markers",
                line=dict(color=page.colour(k), dash=dash),
                name=page.text(f"{run.name}, {when}: calibration error {error} %"),
                hovertext=[f"{count:g} answers" for count in bins["count"]],
            )
    words = "Before (dashed) and after (solid) the temperature that was fitted on validation; all seeds together."
    return page.paragraph(words) + page.show(figure) if found else page.paragraph("No run was calibrated.", "quiet")


# --- Curves -----------------------------------------------------------------------------------------------------------


def curves(runs: Sequence[Run]) -> str:
    """Validation score, total and every term by epoch, with a band of ± one standard deviation over seeds."""
    terms = dict.fromkeys(name for run in runs for name in run.rows[0].get("train", {}) if name not in NOT_TERMS)
    selects = dict.fromkeys(run.select for run in runs)
    wanted = [("valid", name, f"validation: {_title(name)}") for name in selects]
    wanted += [("train", "total", "train: total loss")] + [("train", t, f"train: {t}, un-weighted") for t in terms]
    charts = []
    for group, name, title in wanted:
        scale, suffix = _axis(name) if group == "valid" else (1, "")
        figure = page.chart(title, xaxis=dict(title="epoch"), yaxis=dict(ticksuffix=suffix))
        for k, run in enumerate(runs):
            epochs, values = run.series(group, name)
            if len(epochs):
                mean, spread = _mean_and_spread(scale * values)
                page.band(figure, epochs, mean, spread, run.name, page.colour(k), legend=len(runs) > 1)
        charts.append(page.show(figure))
    return page.grid(charts)


def _mean_and_spread(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    spread = values.std(axis=1, ddof=1) if values.shape[1] > 1 else np.zeros(len(values))
    return values.mean(axis=1), spread


# --- Failure signatures -----------------------------------------------------------------------------------------------


def failures(runs: Sequence[Run]) -> str:
    """Each run's warnings, and every measure that has a threshold."""
    found = []
    for run in runs:
        looks = [row for row in run.rows if row.get("diagnostics")]
        found.append(page.heading(run.name))
        if not looks:
            found.append(page.paragraph("Not watched: diagnostics.every was 0.", "quiet"))
            continue
        watch = diagnostics.Watch()
        said = [(row["epoch"], words) for row in looks for words in watch.see(row["diagnostics"])]
        found += [page.paragraph(f"From epoch {epoch}: {words}", "warning") for epoch, words in said]
        if not said:
            words = f"No signature stood in {diagnostics.PATIENCE} looks in a row; there were {len(looks)}."
            found.append(page.paragraph(words, "fine" if len(looks) >= diagnostics.PATIENCE else "quiet"))
        found.append(page.grid(_measure(run, s, looks) for s in diagnostics.SIGNATURES))
    return "".join(found)


def _measure(run: Run, signature: diagnostics.Signature, looks: Sequence[Mapping[str, Any]]) -> str:
    subjects = dict.fromkeys(s for row in looks for s in row["diagnostics"].get(signature.measure, {}))
    if not subjects:
        return page.paragraph(f"{signature.measure.replace('_', ' ')}: nothing to measure in this model.", "quiet")
    figure = page.chart(
        signature.measure.replace("_", " "),
        height=260 + 19 * len(subjects),
        xaxis=dict(title="epoch"),
        margin=dict(l=50, r=15, t=42, b=60 + 19 * len(subjects)),
    )
    for k, subject in enumerate(subjects):
        epochs, values = run.series("diagnostics", signature.measure, subject)
        mean, _ = _mean_and_spread(values)
        name, _, layer = subject.rpartition("/")  # of attention, whose layers are counted from 1 on the page
        words = f"{name}, layer {int(layer) + 1}" if name and layer.isdigit() else subject
        page.band(figure, epochs, mean, np.zeros(len(mean)), words, page.colour(k), legend=True)
    side = "above" if signature.above else "below"
    figure.add_hline(
        y=signature.threshold,
        line=dict(dash="dash", color="#d55e00", width=1.5),
        annotation=dict(text=f"a warning {side} {signature.threshold:g}", font=dict(size=10, color="#d55e00")),
    )
    return page.show(figure)


# --- Alignment --------------------------------------------------------------------------------------------------------


def alignment(runs: Sequence[Run]) -> str:
    """Measures of every comparable pair, run against run, and the projections."""
    measured = [run for run in runs if run.alignment]
    found = [
        page.paragraph(f"{run.name}: not measured. python -m tools.align {run.path} does it.", "quiet")
        for run in runs
        if not run.alignment
    ]
    if not measured:
        return "".join(found)
    found.append(
        page.paragraph(
            "How far the modalities' distributions lie apart, on utterances that have both. Smaller is closer; a "
            "modality classifier at 0.5 guesses. Codes are what TGAN starts from, generated features are held against "
            "the real ones of their modality, hidden is the graph's output, and contrast is where ICCL and IMCL pull."
        )
    )
    found.append(_measures(measured))
    found.append(page.paragraph("Permutation test of MMD²: p if the modalities of a dialogue were exchangeable."))
    pairs = _pairs(measured)
    tests = [{_pair(row): row["p"] for row in run.alignment["rows"]} for run in measured]
    cells = [[pair, *(_p_values(of[pair]) if pair in of else "–" for of in tests)] for pair in pairs]
    found.append(page.table(["pair", *(run.name for run in measured)], cells))
    for run in measured:
        found += [page.heading(f"{run.name}: t-SNE, {run.alignment['split']} split"), page.grid(_maps(run), "large")]
    return "".join(found)


def _measures(runs: Sequence[Run]) -> str:
    """A panel for each measure, a line for each pair, a colour for each run."""
    pairs = _pairs(runs)
    figure = make_subplots(cols=len(MEASURES), shared_yaxes=True, horizontal_spacing=0.015)
    figure.update_layout(page.chart("", height=170 + 24 * len(pairs), margin=dict(l=10, r=15, t=50, b=70)).layout)
    for column, (name, title) in enumerate(MEASURES.items(), start=1):
        for k, run in enumerate(runs):
            rows = {_pair(row): np.asarray(row[name], float) for row in run.alignment["rows"]}
            figure.add_scatter(
                x=[v.mean() for v in rows.values()],
                y=[pairs.index(pair) + 0.2 * (k - (len(runs) - 1) / 2) for pair in rows],
                error_x=dict(array=[v.std(ddof=1) if len(v) > 1 else 0 for v in rows.values()], thickness=1.2, width=3),
                mode="markers",
                marker=dict(color=page.colour(k), size=8),
                name=page.text(run.name),
                legendgroup=page.text(run.name),
                showlegend=column == 1,
                hovertext=[page.text(f"{pair}, {run.name}: {v.mean():.3g}") for pair, v in rows.items()],
                hoverinfo="text",
                row=1,
                col=column,
            )
        chance = {"a_distance": [-0.1, 2.1], "accuracy": [0.45, 1.03]}.get(name)
        limits = dict(range=chance) if chance else dict(rangemode="tozero")
        figure.update_xaxes(title=dict(text=title), side="top", nticks=5, tickangle=0, **limits, row=1, col=column)
    ticks = [page.text(pair) for pair in pairs]
    figure.update_yaxes(autorange="reversed", automargin=True)
    figure.update_yaxes(tickvals=list(range(len(pairs))), ticktext=ticks, row=1, col=1)
    return page.show(figure)


def _p_values(values: Sequence[float]) -> str:
    """The p of a single seed, or the range of several."""
    ends = dict.fromkeys(f"{p:.3f}" for p in (min(values), max(values)))
    return " to ".join(ends)


def _pairs(runs: Sequence[Run]) -> list[str]:
    return list(dict.fromkeys(_pair(row) for run in runs for row in run.alignment["rows"]))


def _pair(row: Mapping[str, Any]) -> str:
    return f"{row['stage']}: {row['first']} – {row['second']}"


def _maps(run: Run) -> list[str]:
    held = run.alignment
    charts = []
    for stage, found in held["projections"].items():
        points = np.asarray(found["point"], float)
        for key, names, word in (
            ("modality", held["modalities"], "modality"),
            ("label", held["label_names"], "emotion"),
        ):
            figure = page.chart(f"{STAGE_TITLES.get(stage, stage)}: {word}", height=420)
            for index, name in enumerate(names):
                chosen = points[np.asarray(found[key]) == index]
                figure.add_scatter(
                    x=chosen[:, 0],
                    y=chosen[:, 1],
                    mode="markers",
                    name=page.text(name),
                    marker=dict(size=4, color=page.colour(index), opacity=0.7),
                    hoverinfo="name",
                )
            figure.update_xaxes(visible=False)
            figure.update_yaxes(visible=False)
            charts.append(page.show(figure))
    return charts


# --- Studies ----------------------------------------------------------------------------------------------------------


def folds(studies: Sequence[Study]) -> str:
    """Every part that was held out, the mean of them, and, for classes, all test utterances together."""
    found = []
    for study in studies:
        seeds, select = study.content["seeds"], study.content["select"]
        by_fold: dict[str, dict[str, Mapping[str, Any]]] = {}
        for row in study.content["rows"]:
            by_fold.setdefault(row["fold"], {})[row["score"]] = row
        named = next(iter(by_fold.values()))
        metrics = [select, *(score for score in named if score in tasks.all_metrics() and score != select)]
        by_class = [score for score in named if score not in tasks.all_metrics()]
        words = (
            f"{_over_seeds(seeds)}. Each fold is tested by models that were trained on the others, and counts the same "
            "in their mean, which is taken seed by seed."
        )
        figure = page.chart(f"test {_title(select)}", yaxis=dict(ticksuffix=_axis(select)[1]), **page.NO_LEGEND)
        for fold, scores in by_fold.items():
            colour = page.colour(0) if fold in (MEAN, POOLED) else page.QUIET
            _dots(figure, fold, scores[select]["per_seed"], seeds, select, colour)
        found += [page.heading(study.name), page.paragraph(words, "quiet")]
        for shown, titles in (
            (metrics, [*map(_title, metrics)]),
            (by_class, [name.replace("f1", "F1", 1) for name in by_class]),
        ):
            cells = [
                [fold, f"{scores[select]['utterances']:,}", *(_percent(scores[s]["per_seed"], s) for s in shown)]
                for fold, scores in by_fold.items()
            ]
            if shown:
                found.append(page.table(["test split", "utterances", *titles], cells))
        found.append(page.show(figure))
    return "".join(found)


def _over_seeds(seeds: Sequence[int]) -> str:
    if len(seeds) == 1:
        return "One seed, so without an interval"
    return f"{len(seeds)} seeds; ± is half the 95 % interval of the mean over them (Student's t)"


def sweeps(studies: Sequence[Study]) -> str:
    """Validation scores over the values of an option, such as the margin β: all classes together and each emotion."""
    found = []
    for study in studies:
        rows, select = study.content["rows"], study.content["select"]
        labels = list(rows[0]["values"])
        found.append(page.heading(f"{study.name}: {', '.join(labels)}"))
        found.append(
            page.paragraph(
                f"Validation split, {len(study.content['seeds'])} seed(s), band ± one standard deviation; the star "
                "is what validation selected, and the best of many on one split flatters.",
                "quiet",
            )
        )
        if len(labels) == 1:
            found.append(_curves_of(study, rows, labels[0], select))
        else:
            found.append(_settings(rows, labels, select))
    return "".join(found)


def _curves_of(study: Study, rows: Sequence[Mapping[str, Any]], label: str, select: str) -> str:
    numbers = all(isinstance(row["values"][label], int | float) for row in rows)
    rows = sorted(rows, key=lambda row: row["values"][label]) if numbers else rows
    x = [row["values"][label] if numbers else page.text(row["values"][label]) for row in rows]
    chosen = [k for k, row in enumerate(rows) if row["selected"]]

    def draw(title: str, values: np.ndarray, index: int, metric: str = "") -> str:
        scale, suffix = _axis(metric)
        figure = page.chart(title, xaxis=dict(title=page.text(label)), yaxis=dict(ticksuffix=suffix))
        mean, spread = _mean_and_spread(scale * values)
        page.band(figure, x, mean, spread, title, page.colour(index), legend=False)
        figure.add_scatter(
            x=[x[k] for k in chosen],
            y=mean[chosen],
            mode="markers",
            marker=dict(size=12, color="#d55e00", symbol="star"),
            hovertext="selected",
            hoverinfo="text",
            showlegend=False,
        )
        return page.show(figure)

    charts = [draw(_title(select), np.array([row["valid"][select]["per_seed"] for row in rows], float), 0, select)]
    by_class = np.array([row["valid"]["class_f1"]["per_seed"] for row in rows], float)
    for index in range(by_class.shape[2]):
        name = study.label_names[index] if index < len(study.label_names) else f"class {index}"
        charts.append(draw(f"F1 of {name}", by_class[:, :, index], index + 1))
    return page.grid(charts)


def _settings(rows: Sequence[Mapping[str, Any]], labels: Sequence[str], select: str) -> str:
    sign = -1 if select in tasks.all_metrics() and tasks.all_metrics()[select].lower else 1
    ordered = sorted(rows, key=lambda row: -sign * row["valid"][select]["mean"])
    cells = [
        [
            *(row["values"][label] for label in labels),
            _percent(row["valid"][select]["per_seed"], select),
            "★" * row["selected"],
        ]
        for row in ordered
    ]
    return page.table([*labels, _title(select), "selected"], cells, words=len(labels))


def ablations(studies: Sequence[Study]) -> str:
    """What each ablation costs, with the interval of the difference from the full model, seed by seed."""
    found = []
    for study in studies:
        select = study.content["select"]
        rows = [r for r in study.content["rows"] if r["split"] == "test" and r["score"] == select]
        changed = [r for r in rows if r.get("difference") is not None]
        words = (
            f"{_over_seeds(study.content['seeds'])}. Δ and its interval are of ablation − full model, seed by seed; p "
            "is of the paired t-test, corrected after Holm for the ablations together."
        )
        found += [page.heading(study.name), page.paragraph(words, "quiet")]
        figure = page.chart(
            f"difference from the full model, test {_title(select)}{', points' if _axis(select)[1] else ''}",
            height=90 + 34 * len(changed),
            **page.NO_LEGEND,
        )
        scale, _ = _axis(select)
        value = np.array([scale * r["difference"] for r in changed])
        ends = [[np.nan if r.get(k) is None else scale * r[k] for r in changed] for k in ("low", "high")]
        figure.add_scatter(
            x=value,
            y=list(range(len(changed))),
            error_x=dict(type="data", symmetric=False, array=ends[1] - value, arrayminus=value - ends[0], width=6),
            mode="markers",
            marker=dict(size=10, color=page.colour(0)),
            hoverinfo="x",
        )
        figure.add_vline(x=0, line=dict(color=page.QUIET, width=1))
        figure.update_yaxes(
            tickvals=list(range(len(changed))),
            ticktext=[page.text(r["ablation"]) for r in changed],
            autorange="reversed",
            automargin=True,
        )
        cells = [[r["ablation"], _percent(r["per_seed"], select), *_compared(r, select)] for r in rows]
        header = ["ablation", _title(select), "Δ", "95 % interval", "p", "p, corrected"]
        found += [page.table(header, cells), page.show(figure)]
    return "".join(found)


def _compared(row: Mapping[str, Any], select: str) -> list[str]:
    if row.get("difference") is None:
        return [""] * 4
    values = ["–" if row.get(k) is None else f"{row[k]:.3f}" for k in ("p", "corrected")]
    return [*tasks.difference(select, row["difference"], row.get("low"), row.get("high")), *values]
