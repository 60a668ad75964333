"""Draw pictures as PNG bytes, without matplotlib's global state."""

from __future__ import annotations

import io
import math
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure, SubFigure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import MaxNLocator, PercentFormatter

# Blue, vermilion and grey stay apart for every common kind of colour blindness.
LINE, MARK, QUIET = "#0072b2", "#d55e00", "#666666"
MOST_COLUMNS = 5
LONGEST_NAME, LONGEST_TITLE = 18, 24  # characters of a class, and of a line over a panel
TICKS = (1, 2, 2.5, 5, 10)
COLOURS = colormaps["cividis"].with_extremes(bad="#e6e6e6")
NOT_TERMS = ("total", "gradient_norm", "discriminator_gradient_norm", "learning_rate")  # of a log's "train"


def training_curves(rows: Sequence[Mapping[str, Any]], select: str, selected_epochs: Sequence[int]) -> bytes:
    """Draw losses and the validation score by epoch; over several seeds the mean and a band of ± one deviation.

    Args:
      rows: of metrics.jsonl, one an epoch: `epoch`, `train` and `valid`, whose leaves are a number, or S for S seeds;
        NaN or None leaves a gap. Each loss term of `train` has a panel.
      select: metric of `valid` that chooses the epoch.
      selected_epochs: [S], marked.
    """
    found = {name: None for row in rows for name in row.get("train") or {}}
    terms = [name for name in found if name not in NOT_TERMS]
    titles = {"total": "train: total loss", select: f"validation: {select}", "learning_rate": "learning rate"}
    head = [name for name in titles if name != "learning_rate" or name in found]
    height = 2.1 * math.ceil(len(terms) / MOST_COLUMNS)
    figure = _figure(12, 3.1 + height, ConstrainedLayoutEngine(w_pad=0.08, h_pad=0.07))
    halves: Any = figure.subfigures(2, 1, height_ratios=[3.1, max(height, 0.01)])
    top, bottom = halves
    for axes, name in zip(np.atleast_1d(top.subplots(1, len(head))), head, strict=True):
        _curve(axes, rows, "valid" if name == select else "train", name, titles[name])
        if name == select:
            _mark_selected(axes, rows, select, selected_epochs)
    if terms:  # a panel each, because terms differ in scale by orders of magnitude
        bottom.suptitle("loss terms, un-weighted, by epoch", fontsize=10, color=QUIET)
        for axes, name in zip(_grid(bottom, len(terms)), terms, strict=True):
            _curve(axes, rows, "train", name, _short(name))
    return _png(figure)


def confusion_matrix(confusion: np.ndarray, label_names: Sequence[str], title: str) -> bytes:
    """Draw a confusion matrix [C, C], row = truth, or [S, C, C]: shares of the true class as colours, and as text.

    Over S seeds shares are those of the sum, and counts the mean.
    """
    counts, shares = _shares(confusion, 2)
    size = 2.6 + 0.82 * len(counts)
    figure, axes = _coloured(counts, shares, (size + 0.9, size), title, "share of the true class")
    places, names = range(len(label_names)), [_short(name) for name in label_names]
    axes.set_xticks(places, names, rotation=40, ha="right", rotation_mode="anchor", parse_math=False)
    axes.set_yticks(places, names, parse_math=False)
    axes.set(xlabel="predicted class", ylabel="true class")
    return _png(figure)


def label_counts(confusion: np.ndarray, label_names: Sequence[str], title: str) -> bytes:
    """Draw how often each of O labels was found, missed, predicted wrongly and correctly absent.

    `confusion` is [O, 2, 2], row = truth, or [S, O, 2, 2]; over S seeds shares are those of the sum, counts the mean.
    """
    counts, shares = _shares(confusion, 3)
    place = ([1, 1, 0, 0], [1, 0, 1, 0])  # truth and prediction of the columns
    size, words = (7.2, 2.2 + 0.6 * len(counts)), "share of the utterances with, or without, the label"
    figure, axes = _coloured(counts[:, *place], shares[:, *place], size, title, words)
    axes.set_aspect("auto")
    axes.set_xticks(range(4), ["found", "missed", "predicted wrongly", "correctly absent"])
    axes.set_yticks(range(len(counts)), [_short(name) for name in label_names], parse_math=False)
    return _png(figure)


def reliability(
    bins: Mapping[str, Mapping[str, Sequence[float] | np.ndarray]], errors: Mapping[str, float], title: str
) -> bytes:
    """Draw accuracy against confidence, before and after the temperature, and how many answers have it.

    Bins with less than a hundredth of the answers are faint dots, because their accuracy is chance.

    Args:
      bins: "before" and "after" -> `count`, `confidence` and `accuracy` [B], of `calibration.reliability`.
      errors: "before" and "after" -> expected calibration error.
      title: over the picture.
    """
    figure = _figure(5.6, 6.2)
    top, bottom = figure.subplots(2, 1, height_ratios=[3, 1], sharex=True)
    top.plot([0, 1], [0, 1], color=QUIET, linewidth=1, linestyle=":", label="accuracy equals confidence")
    for (when, found), colour, side in zip(bins.items(), (MARK, LINE), (-1, 1), strict=True):
        count, x, y = (np.asarray(found[name], np.float64) for name in ("count", "confidence", "accuracy"))
        few = count < 0.01 * count.sum()
        words = f"{when} temperature scaling: calibration error {100 * errors[when]:.1f} %"
        top.plot(x[~few], y[~few], color=colour, linewidth=1.5, marker="o", markersize=4, label=words)
        top.scatter(x[few], y[few], color=colour, alpha=0.3, s=14, linewidth=0)
        width = 0.4 / len(count)
        places = (np.arange(len(count)) + 0.5) / len(count) + side * width / 2
        bottom.bar(places, count / max(count.sum(), 1), width=width, color=colour)
    top.set(xlim=(0, 1), ylim=(0, 1), ylabel="accuracy")
    top.legend(fontsize=8, loc="upper left", frameon=False)
    bottom.set(xlabel="confidence: probability of the answer", ylabel="share of answers")
    for axes, words in ((top, title), (bottom, "")):
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_formatter(PercentFormatter(xmax=1, decimals=0))
        _frame(axes, words)
    return _png(figure)


def differences(
    settings: Mapping[str, Mapping[str, Any]], reference: Sequence[float], title: str, scale: float = 100
) -> bytes:
    """Draw differences of settings from a reference, one line each: every seed, their mean and its interval.

    Args:
      settings: name -> `difference` (the mean), `low`, `high` (NaN without an interval), `per_seed` [S] scores, and
        `corrected`, a p-value that is marked below 0.05.
      reference: [S] scores of the same seeds.
      title: over the picture.
      scale: factor of scores; 100 gives points.
    """
    figure = _figure(9, 1.7 + 0.42 * len(settings))
    axes = figure.add_subplot()
    axes.axvline(0, color=QUIET, linewidth=1)
    for place, row in enumerate(settings.values()):
        colour = MARK if row["corrected"] < 0.05 else LINE
        seeds = scale * (np.asarray(row["per_seed"]) - np.asarray(reference))
        below = np.full(len(seeds), place - 0.22)
        axes.plot(seeds, below, "o", color=QUIET, alpha=0.45, markersize=4, markeredgewidth=0)
        axes.plot([scale * row["low"], scale * row["high"]], [place, place], color=colour, linewidth=2.2)
        axes.plot(scale * row["difference"], place, "D", color=colour, markersize=6)
    axes.set_yticks(range(len(settings)), list(settings), parse_math=False)
    axes.set_ylim(len(settings) - 0.4, -0.6)
    words = ("points; " if scale == 100 else "") + "a dot is a seed, the diamond their mean"
    words += "" if all(math.isnan(row["low"]) for row in settings.values()) else " with its 95 % interval"
    words += ", vermilion for Holm's p < 0.05" if any(row["corrected"] < 0.05 for row in settings.values()) else ""
    axes.set_xlabel(words, fontsize=9)
    _frame(axes, title, labelsize=9, grid="x")
    axes.spines["left"].set_visible(False)
    return _png(figure)


def value_curves(
    places: Sequence[float],
    scores: Mapping[str, np.ndarray],
    label: str,
    title: str,
    *,
    ticks: Sequence[str] | None = None,
    log: bool = False,
    selected: int | None = None,
) -> bytes:
    """Draw scores against the value of an option, a panel each: the mean over seeds and a band of ± one deviation.

    Args:
      places: V values, rising; indices of `ticks` if those are given.
      scores: panel's title -> [V, S] in [0, 1]; NaN leaves a gap.
      label: of the option.
      title: over the picture.
      ticks: words for the values 0, 1, …, evenly spaced.
      log: whether the values' axis is logarithmic.
      selected: index of the value to mark.
    """
    figure, panels = _panels(len(scores), title)
    x = np.asarray(places, np.float64)
    for axes, (name, values) in zip(panels, scores.items(), strict=True):
        mean = _band(axes, x, 100 * np.asarray(values, np.float64))
        if selected is not None:
            axes.plot(x[selected], mean[selected], "o", color=MARK, markersize=6)
        words = "\n".join(textwrap.wrap(name, LONGEST_TITLE, max_lines=2, placeholder="…"))
        _value_axis(axes, words, label, ticks, log)
    return _png(figure)


def setting_dots(axes_of: Sequence[Mapping[str, Any]], scores: np.ndarray, title: str, selected: int) -> bytes:
    """Draw a search over several options: a panel for each option, a dot for each setting with ± one deviation.

    Args:
      axes_of: of each option `label`, `places` [V], `ticks` and `log`, as for `value_curves`.
      scores: [V, S] in [0, 1].
      title: over the picture.
      selected: index of the setting to mark.
    """
    figure, panels = _panels(len(axes_of), title)
    mean, std = _spread(100 * np.asarray(scores, np.float64))
    colours = [MARK if index == selected else LINE for index in range(len(mean))]
    for axes, option in zip(panels, axes_of, strict=True):
        x = np.asarray(option["places"], np.float64)
        axes.errorbar(x, mean, std, fmt="none", ecolor=QUIET, alpha=0.4, linewidth=1)
        axes.scatter(x, mean, s=22, color=colours, zorder=3)
        _value_axis(axes, "", option["label"], option["ticks"], option["log"])
    return _png(figure)


def _panels(count: int, title: str) -> tuple[Figure, list[Axes]]:
    lines = math.ceil(count / MOST_COLUMNS)
    figure = _figure(max(3.2 * math.ceil(count / lines), 6), 0.4 + 2.9 * lines)
    figure.suptitle(title, fontsize=11, parse_math=False)
    return figure, _grid(figure, count)


def _grid(figure: Figure | SubFigure, count: int) -> list[Axes]:
    """Return `count` axes, spread evenly over lines of at most MOST_COLUMNS."""
    lines = math.ceil(count / MOST_COLUMNS)
    axes = figure.subplots(lines, math.ceil(count / lines), squeeze=False).ravel()
    for empty in axes[count:]:
        empty.set_visible(False)
    return list(axes[:count])


def _value_axis(axes: Axes, title: str, label: str, ticks: Sequence[str] | None, log: bool) -> None:
    if ticks:
        axes.set_xticks(range(len(ticks)), ticks, rotation=0 if sum(map(len, ticks)) < 24 else 40)
    elif log:
        axes.set_xscale("log")
    axes.set_xlabel("\n".join(label.split("+")), fontsize=8, parse_math=False)
    _frame(axes, title)


def projections(
    maps: Mapping[str, Mapping[str, np.ndarray]],
    modalities: Sequence[str],
    label_names: Sequence[str],
    titles: Mapping[str, str],
) -> bytes:
    """Draw two-dimensional maps of vectors, a row each, coloured by modality on the left and by class on the right.

    Args:
      maps: stage -> `point` [n, 2], `modality` [n] and `label` [n] int; unlabelled points are absent on the right.
      modalities: M names.
      label_names: C names.
      titles: stage -> words.
    """
    figure = _figure(12, 0.6 + 4.6 * len(maps))
    figure.suptitle("t-SNE; a dot is one modality of an utterance", fontsize=11)
    panels = figure.subplots(len(maps), 2, squeeze=False)
    for row, (stage, found) in zip(panels, maps.items(), strict=True):
        for axes, key, names in zip(row, ("modality", "label"), (modalities, label_names), strict=True):
            for index, name in enumerate(names):
                points = np.asarray(found["point"])[np.asarray(found[key]) == index]
                colour = colormaps["tab10" if len(names) <= 10 else "tab20"](index % 20)
                label = _short(name).replace("$", r"\$")
                axes.scatter(*points.T, s=9, color=colour, label=label, linewidth=0, alpha=0.7)
            axes.set(xticks=[], yticks=[])
            axes.set_title(f"{titles[stage]}: {'emotion' if key == 'label' else key}", parse_math=False)
            # beside the points, because they fill the panel
            axes.legend(fontsize=8, markerscale=2, loc="upper left", bbox_to_anchor=(1, 1), frameon=False)
    return _png(figure)


def panels(rows: Sequence[Sequence[Mapping[str, Any]]]) -> bytes:
    """Draw panels of curves with bands of ± one standard deviation over seeds.

    Args:
      rows: of panels, equally many in each: `title`; `x`, the axis' name; `places`, V numbers or words, evenly spaced;
        and `curves`, name -> [V, S]. An empty dictionary leaves a place free.
    """
    columns = max(map(len, rows))
    figure = _figure(4.2 * columns, 2.9 * len(rows), dpi=100)
    for line, contents in zip(figure.subplots(len(rows), columns, squeeze=False), rows, strict=True):
        for axes, panel in zip(line, contents, strict=True):
            axes.set_visible(bool(panel))
            for colour, (name, values) in zip((QUIET, LINE, MARK), panel.get("curves", {}).items(), strict=False):
                _band(axes, np.arange(len(values)), np.asarray(values, np.float64), colour, name)
            if panel:
                axes.set_xlabel(panel["x"], fontsize=9)
                axes.set_xticks(range(len(panel["places"])), list(map(str, panel["places"])))
                axes.legend(fontsize=8, frameon=False)
                _frame(axes, panel["title"])
    return _png(figure)


def _series(rows: Sequence[Mapping[str, Any]], group: str, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Return the epochs [E] with a value in the log, and the values [E, S]."""
    logged = [row for row in rows if name in (row.get(group) or {})]
    values = [np.atleast_1d(np.asarray(row[group][name], np.float64)) for row in logged]
    return np.array([row["epoch"] for row in logged]), np.stack(values) if values else np.zeros((0, 1))


def _spread(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return mean and deviation [E] over the finite seeds of [E, S]; NaN without one, deviation 0 with one."""
    finite = np.ma.masked_invalid(values)
    return finite.mean(axis=1).filled(np.nan), finite.std(axis=1, ddof=1).filled(0.0)


def _band(
    axes: Axes, x: np.ndarray, values: np.ndarray, colour: str = LINE, label: str = "", marker: str | None = "o"
) -> np.ndarray:
    """Draw the mean [V] of values [V, S] over seeds, with a band of ± one standard deviation, and return it."""
    mean, std = _spread(values)
    axes.plot(x, mean, color=colour, linewidth=1.5, marker=marker, markersize=3, label=label)
    if values.shape[1] > 1:
        axes.fill_between(x, mean - std, mean + std, color=colour, alpha=0.25, linewidth=0)
    return mean


def _curve(axes: Axes, rows: Sequence[Mapping[str, Any]], group: str, name: str, title: str) -> None:
    epochs, values = _series(rows, group, name)
    # A single epoch, or one between gaps, has no line.
    mean = _band(axes, epochs, values, marker="o" if len(epochs) < 12 else None)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=5, integer=True, min_n_ticks=1))
    axes.yaxis.set_major_locator(MaxNLocator(nbins=6, steps=TICKS))
    # The default puts a common power of ten into the title.
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:.5g}")
    _frame(axes, title)
    if not np.isfinite(mean).any():
        axes.set(xticks=[], yticks=[])
        axes.text(0.5, 0.5, "no values", ha="center", va="center", color=QUIET, transform=axes.transAxes)


def _mark_selected(axes: Axes, rows: Sequence[Mapping[str, Any]], select: str, selected: Sequence[int]) -> None:
    epochs, values = _series(rows, "valid", select)
    place = {int(epoch): index for index, epoch in enumerate(epochs)}
    dots = {s: (epoch, values[place[epoch], s]) for s, epoch in enumerate(map(int, selected)) if epoch in place}
    if not dots:
        return
    chosen, heights = zip(*dots.values(), strict=True)
    axes.scatter(chosen, heights, s=22, color=MARK, edgecolor="white", linewidth=0.6, zorder=3)
    first, last = min(chosen), max(chosen)
    words = f"epoch {first}" if first == last else f"epochs {first} to {last}, one for each seed"
    axes.set_xlabel(f"● selected: {words}", fontsize=9, color=MARK)


def _shares(confusion: np.ndarray, ndim: int) -> tuple[np.ndarray, np.ndarray]:
    """Return counts of `ndim` dimensions, the mean over seeds if there are any, and their shares of the last axis."""
    counts = np.asarray(confusion, np.float64)
    counts = counts.mean(axis=0) if counts.ndim > ndim else counts
    total = counts.sum(axis=-1, keepdims=True)
    return counts, np.divide(counts, total, out=np.full_like(counts, np.nan), where=total > 0)


def _coloured(
    counts: np.ndarray, shares: np.ndarray, size: tuple[float, float], title: str, words: str
) -> tuple[Figure, Axes]:
    """Draw cells with shares as colours, and shares and counts as text; `words` name the shares."""
    figure = _figure(*size)
    axes = figure.add_subplot()
    image = axes.imshow(shares, cmap=COLOURS, vmin=0, vmax=1)
    digits = 0 if np.array_equal(counts, np.round(counts)) else 1
    for (row, column), share in np.ndenumerate(shares):
        text = "" if np.isnan(share) else f"{100 * share:.0f}%\n"
        luminance = np.dot(COLOURS(share)[:3], (0.299, 0.587, 0.114))
        colour = "black" if luminance > 0.5 else "white"
        text += f"{counts[row, column]:.{digits}f}"
        axes.text(column, row, text, ha="center", va="center", color=colour, fontsize=9)
    axes.set_title(title, parse_math=False)
    bar = figure.colorbar(image, ax=axes, shrink=0.8, format=PercentFormatter(xmax=1, decimals=0))
    bar.set_label(words)
    return figure, axes


def _short(name: str) -> str:
    return name if len(name) <= LONGEST_NAME else f"{name[: LONGEST_NAME - 1]}…"


def _figure(width: float, height: float, layout: Any = "constrained", dpi: int = 110) -> Figure:
    """Return an empty figure; width and height in inches."""
    return Figure(figsize=(width, height), dpi=dpi, layout=layout)


def _frame(axes: Axes, title: str, labelsize: int = 8, grid: Literal["both", "x"] = "both") -> None:
    """Give a panel its title, small ticks, a faint grid, and lines on the left and below only."""
    axes.set_title(title, fontsize=10, parse_math=False)
    axes.tick_params(labelsize=labelsize)
    axes.grid(axis=grid, alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)


def _png(figure: Figure) -> bytes:
    stream = io.BytesIO()
    FigureCanvasAgg(figure).print_png(stream, metadata={"Software": None})
    return stream.getvalue()
