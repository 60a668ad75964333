"""Draws pictures as PNG bytes. Each has a figure of its own, so that no global state of matplotlib changes."""

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


def training_curves(
    rows: Sequence[Mapping[str, Any]],
    select: str,
    terms: Sequence[str] | None = None,
    selected_epochs: Sequence[int] | None = None,
) -> bytes:
    """Draw losses and the validation score by epoch; over several seeds the mean and a band of ± one deviation.

    Args:
      rows: of metrics.jsonl, one an epoch: `epoch`, `train` and `valid`, whose leaves are a number, or S for S seeds;
        NaN or None leaves a gap.
      select: metric of `valid` by which the epoch is chosen.
      terms: slots of `train` to show, un-weighted, one panel each; all but NOT_TERMS by default.
      selected_epochs: one a seed, marked; where `select` is highest, first, by default.
    """
    found = {name: None for row in rows for name in row.get("train") or {}}
    terms = [name for name in found if name not in NOT_TERMS] if terms is None else list(terms)
    head = ["total", select, *(["learning_rate"] if "learning_rate" in found else [])]
    lines = _lines(len(terms))
    figure = _figure(12, 3.1 + 2.1 * lines, ConstrainedLayoutEngine(w_pad=0.08, h_pad=0.07))
    halves: Any = figure.subfigures(2, 1, height_ratios=[3.1, max(2.1 * lines, 0.01)])
    top, bottom = halves
    axes = dict(zip(head, np.atleast_1d(top.subplots(1, len(head))), strict=True))
    _curve(axes["total"], rows, "train", "total", "train: total loss")
    _score(axes[select], rows, select, selected_epochs)
    if "learning_rate" in axes:
        _curve(axes["learning_rate"], rows, "train", "learning_rate", "learning rate")
    if terms:
        _terms(bottom, rows, terms)
    return _png(figure)


def confusion_matrix(confusion: np.ndarray, label_names: Sequence[str], title: str) -> bytes:
    """Draw a confusion matrix: shares of the true class as colours, shares and counts as text.

    Args:
      confusion: [C, C], row = truth; or [S, C, C], whose shares are those of the sum and whose counts are the mean.
      label_names: C names.
      title: over the picture.
    """
    counts, shares = _shares(confusion, 2)
    size = 2.6 + 0.82 * len(counts)
    figure, axes = _coloured(counts, shares, (size + 0.9, size), title, "share of the true class")
    _names(axes, label_names)
    return _png(figure)


def label_counts(confusion: np.ndarray, label_names: Sequence[str], title: str) -> bytes:
    """Draw for each of several labels how often it was found, missed, seen wrongly and rightly left out.

    Args:
      confusion: [O, 2, 2], row = truth; or [S, O, 2, 2], whose shares are those of the sum and whose counts are the
        mean.
      label_names: O names.
      title: over the picture.
    """
    counts, shares = _shares(confusion, 3)
    place = ([1, 1, 0, 0], [1, 0, 1, 0])  # truth and prediction of the columns
    size, words = (7.2, 2.2 + 0.6 * len(counts)), "share of the utterances with, or without, the label"
    figure, axes = _coloured(counts[:, *place], shares[:, *place], size, title, words)
    axes.set_aspect("auto")
    axes.set_xticks(range(4), ["found", "missed", "seen wrongly", "rightly left out"])
    axes.set_yticks(range(len(counts)), [_short(name) for name in label_names], parse_math=False)
    return _png(figure)


def reliability(
    bins: Mapping[str, Mapping[str, Sequence[float] | np.ndarray]], errors: Mapping[str, float], title: str
) -> bytes:
    """Draw how often answers of a confidence are right, before and after the temperature, and how many there are.

    Bins with less than a hundredth of the answers are faint dots.

    Args:
      bins: "before" and "after" -> `count`, `confidence` and `accuracy` [B], as `calibration.reliability` gives them.
      errors: "before" and "after" -> expected calibration error.
      title: over the picture.
    """
    figure = _figure(5.6, 6.2)
    top, bottom = figure.subplots(2, 1, height_ratios=[3, 1], sharex=True)
    top.plot([0, 1], [0, 1], color=QUIET, linewidth=1, linestyle=":", label="as right as they are sure")
    for (when, found), colour, side in zip(bins.items(), (MARK, LINE), (-1, 1), strict=True):
        count = np.asarray(found["count"], np.float64)
        x, y = (np.asarray(found[name], np.float64) for name in ("confidence", "accuracy"))
        few = count < 0.01 * count.sum()  # such a bin's share is chance: a faint dot, beside the line
        words = f"{when} temperature scaling: calibration error {100 * errors[when]:.1f} %"
        top.plot(x[~few], y[~few], color=colour, linewidth=1.5, marker="o", markersize=4, label=words)
        top.scatter(x[few], y[few], color=colour, alpha=0.3, s=14, linewidth=0)
        width = 0.4 / len(count)
        places = (np.arange(len(count)) + 0.5) / len(count) + side * width / 2
        bottom.bar(places, count / max(count.sum(), 1), width=width, color=colour)
    top.set(xlim=(0, 1), ylim=(0, 1), ylabel="share that is right")
    top.legend(fontsize=8, loc="upper left", frameon=False)
    bottom.set(xlabel="confidence: probability of the answer", ylabel="share of answers")
    for axes, words in ((top, title), (bottom, "")):
        axes.yaxis.set_major_formatter(PercentFormatter(xmax=1, decimals=0))
        axes.xaxis.set_major_formatter(PercentFormatter(xmax=1, decimals=0))
        _frame(axes, words)
    return _png(figure)


def differences(
    settings: Mapping[str, Mapping[str, Any]], reference: Sequence[float], title: str, scale: float = 100
) -> bytes:
    """Draw differences of settings from a reference, one line each: every seed, their mean and its interval.

    Args:
      settings: name -> `difference` (the mean), `low`, `high` (NaN where there is no interval), `per_seed` [S] scores
        and `corrected`, a p below which 0.05 is marked.
      reference: [S] scores of the same seeds.
      title: over the picture.
      scale: what scores are multiplied by; 100 makes points of them.
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
    if not all(math.isnan(row["low"]) for row in settings.values()):
        words += " with its 95 % interval"
    marked = any(row["corrected"] < 0.05 for row in settings.values())
    axes.set_xlabel(words + (", vermilion where Holm's p < 0.05" if marked else ""), fontsize=9)
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
      places: V values, rising; with ticks the numbers of the values among them.
      scores: panel's title -> [V, S] in [0, 1]; NaN leaves a gap.
      label: of the option.
      title: over the picture.
      ticks: words for the values 0, 1, …, which then stand evenly spaced.
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
      axes_of: for each option `label`, `places` [V], `ticks` (or None) and `log`, as for `value_curves`.
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
    lines = _lines(count)
    columns = math.ceil(count / lines)
    figure = _figure(max(3.2 * columns, 6), 0.4 + 2.9 * lines)
    figure.suptitle(title, fontsize=11, parse_math=False)
    axes = figure.subplots(lines, columns, squeeze=False).ravel()
    for panel in axes[count:]:
        panel.set_visible(False)
    return figure, list(axes[:count])


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
      maps: stage -> point [n, 2], modality [n] and label [n] int; unlabelled points are left out on the right.
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
      rows: of panels, equally many in each: title; x, the axis' name; places, V numbers or words, evenly spaced; and
        curves, name -> [V, S]. An empty dictionary leaves a place free.
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
    """Return the epochs [E] at which a value was logged, and the values [E, S]."""
    logged = [row for row in rows if name in (row.get(group) or {})]
    values = [np.atleast_1d(np.asarray(row[group][name], np.float64)) for row in logged]
    return np.array([row["epoch"] for row in logged]), np.stack(values) if values else np.zeros((0, 1))


def _spread(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return mean and deviation [E] over the seeds [E, S] that are finite; NaN where none is, 0 where one is."""
    finite = np.isfinite(values)
    number = finite.sum(axis=1)
    clean = np.where(finite, values, 0.0)
    mean = np.where(number > 0, clean.sum(axis=1) / np.maximum(number, 1), np.nan)
    squares = np.where(finite, (clean - mean[:, None]) ** 2, 0.0).sum(axis=1)
    return mean, np.sqrt(squares / np.maximum(number - 1, 1))


def _band(
    axes: Axes, x: np.ndarray, values: np.ndarray, colour: str = LINE, label: str = "", marker: str | None = "o"
) -> np.ndarray:
    """Draw values [V, S] over S seeds: the mean [V], which is returned, and a band of ± one standard deviation."""
    mean, std = _spread(values)
    axes.plot(x, mean, color=colour, linewidth=1.5, marker=marker, markersize=3, label=label)
    if values.shape[1] > 1:
        axes.fill_between(x, mean - std, mean + std, color=colour, alpha=0.25, linewidth=0)
    return mean


def _curve(axes: Axes, rows: Sequence[Mapping[str, Any]], group: str, name: str, title: str) -> None:
    epochs, values = _series(rows, group, name)
    # A single epoch, or one between gaps, has no line to be seen by.
    mean = _band(axes, epochs, values, marker="o" if len(epochs) < 12 else None)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=5, integer=True, min_n_ticks=1))
    axes.yaxis.set_major_locator(MaxNLocator(nbins=6, steps=TICKS))
    # The default puts a common power of ten where it runs into the title.
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:.5g}")
    _frame(axes, title)
    if not np.isfinite(mean).any():
        axes.set(xticks=[], yticks=[])
        axes.text(0.5, 0.5, "no values", ha="center", va="center", color=QUIET, transform=axes.transAxes)


def _score(axes: Axes, rows: Sequence[Mapping[str, Any]], select: str, selected: Sequence[int] | None) -> None:
    """Draw the validation score, with a dot at the chosen epoch of each seed."""
    _curve(axes, rows, "valid", select, f"validation: {select}")
    epochs, values = _series(rows, "valid", select)
    finite = np.where(np.isfinite(values), values, -np.inf)
    if not np.isfinite(finite).any():
        return
    if selected is None:
        selected = np.where(np.isfinite(finite.max(axis=0)), epochs[finite.argmax(axis=0)], -1).tolist()
    place = {int(epoch): index for index, epoch in enumerate(epochs)}
    dots = [(epoch, values[place[epoch], s]) for s, epoch in enumerate(map(int, selected)) if epoch in place]
    if not dots:
        return
    chosen, heights = zip(*dots, strict=True)
    axes.scatter(chosen, heights, s=22, color=MARK, edgecolor="white", linewidth=0.6, zorder=3)
    axes.set_xlabel(_selected_words(chosen), fontsize=9, color=MARK)


def _selected_words(epochs: Sequence[int]) -> str:
    if len(set(epochs)) == 1:
        return f"● selected: epoch {epochs[0]}"
    return f"● selected: epochs {min(epochs)} to {max(epochs)}, one for each seed"


def _terms(figure: SubFigure, rows: Sequence[Mapping[str, Any]], terms: Sequence[str]) -> None:
    """Draw a panel for each term, because terms differ in scale by orders of magnitude."""
    figure.suptitle("loss terms, un-weighted, by epoch", fontsize=10, color=QUIET)
    lines = _lines(len(terms))
    axes = figure.subplots(lines, math.ceil(len(terms) / lines), squeeze=False).ravel()
    for panel, name in zip(axes, terms, strict=False):
        _curve(panel, rows, "train", name, _short(name))
    for panel in axes[len(terms) :]:
        panel.set_visible(False)


def _shares(confusion: np.ndarray, ndim: int) -> tuple[np.ndarray, np.ndarray]:
    """Return counts of `ndim` dimensions, the mean over seeds if there are any, and their shares of each last axis."""
    counts = np.asarray(confusion, np.float64)
    counts = counts.mean(axis=0) if counts.ndim > ndim else counts
    total = counts.sum(axis=-1, keepdims=True)
    return counts, np.divide(counts, total, out=np.full_like(counts, np.nan), where=total > 0)


def _coloured(
    counts: np.ndarray, shares: np.ndarray, size: tuple[float, float], title: str, words: str
) -> tuple[Figure, Axes]:
    """Draw cells with shares as colours and shares and counts as text; `words` say what the shares are of."""
    figure = _figure(*size)
    axes = figure.add_subplot()
    image = axes.imshow(shares, cmap=COLOURS, vmin=0, vmax=1)
    _cells(axes, counts, shares)
    axes.set_title(title, parse_math=False)
    bar = figure.colorbar(image, ax=axes, shrink=0.8, format=PercentFormatter(xmax=1, decimals=0))
    bar.set_label(words)
    return figure, axes


def _cells(axes: Axes, counts: np.ndarray, shares: np.ndarray) -> None:
    whole = np.array_equal(counts, np.round(counts))
    for row, column in np.ndindex(counts.shape):
        count = f"{counts[row, column]:.0f}" if whole else f"{counts[row, column]:.1f}"
        share = "" if np.isnan(shares[row, column]) else f"{100 * shares[row, column]:.0f}%\n"
        luminance = np.dot(COLOURS(shares[row, column])[:3], (0.299, 0.587, 0.114))
        colour = "black" if luminance > 0.5 else "white"
        axes.text(column, row, f"{share}{count}", ha="center", va="center", color=colour, fontsize=9)


def _names(axes: Axes, label_names: Sequence[str]) -> None:
    names = [_short(name) for name in label_names]
    places = range(len(names))
    axes.set_xticks(places, names, rotation=40, ha="right", rotation_mode="anchor", parse_math=False)
    axes.set_yticks(places, names, parse_math=False)
    axes.set_xlabel("predicted class")
    axes.set_ylabel("true class")


def _lines(count: int) -> int:
    """Return how many lines of panels there are; the panels spread evenly over them."""
    return math.ceil(count / MOST_COLUMNS)


def _short(name: str) -> str:
    return name if len(name) <= LONGEST_NAME else f"{name[: LONGEST_NAME - 1]}…"


def _figure(width: float, height: float, layout: Any = "constrained", dpi: int = 110) -> Figure:
    """Return an empty figure; width and height in inches."""
    return Figure(figsize=(width, height), dpi=dpi, layout=layout)


def _frame(axes: Axes, title: str, labelsize: int = 8, grid: Literal["both", "x"] = "both") -> None:
    """Give a panel its title, small ticks, a faint grid, and lines on the left and below alone."""
    axes.set_title(title, fontsize=10, parse_math=False)
    axes.tick_params(labelsize=labelsize)
    axes.grid(axis=grid, alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)


def _png(figure: Figure) -> bytes:
    stream = io.BytesIO()
    FigureCanvasAgg(figure).print_png(stream, metadata={"Software": None})
    return stream.getvalue()
