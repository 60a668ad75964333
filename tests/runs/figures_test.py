"""Pictures are PNGs of a sensible size for any run, however short or broken, and change nothing outside."""

import struct
import subprocess
import sys

import matplotlib
import numpy as np
import pytest
from matplotlib.figure import Figure

from ariigcn_jax.runs import figures


def rows(epochs, seeds, terms=3):
    def leaf(value):
        return value if seeds is None else [value + s / 10 for s in range(seeds)]

    def row(epoch):
        train = {f"term_{t}": leaf(10.0**t / epoch) for t in range(terms)}
        train |= {"total": leaf(1 / epoch), "learning_rate": leaf(1e-4)}
        valid = {"weighted_f1": leaf(0.5 - 0.01 * abs(epoch - 3)), "accuracy": leaf(0.4)}
        return {"epoch": epoch, "train": train, "valid": valid, "seconds": 0.1}

    return [row(epoch) for epoch in range(1, epochs + 1)]


def size(png):
    """Width and height in pixels, from the header."""
    assert png[:8] == b"\x89PNG\r\n\x1a\n"
    assert png[-8:-4] == b"IEND"
    return struct.unpack(">II", png[16:24])


@pytest.fixture
def drawn(monkeypatch):
    """The figures that were drawn, to look into."""
    kept = []
    monkeypatch.setattr(figures, "Figure", lambda **options: kept.append(Figure(**options)) or kept[-1])
    return kept


def panels(figure):
    return {axes.get_title(): axes for axes in figure.get_axes() if axes.get_visible()}


@pytest.mark.parametrize(("epochs", "seeds"), [(1, None), (1, 3), (5, 1), (20, 4)])
def test_curves_are_png(epochs, seeds):
    width, height = size(figures.training_curves(rows(epochs, seeds), "weighted_f1", [1]))
    assert 800 <= width <= 2000
    assert 400 <= height <= 2000


def test_a_panel_for_every_term(drawn):
    size(figures.training_curves(rows(4, 2, terms=20), "weighted_f1", [1]))
    expected = {f"term_{t}" for t in range(20)} | {"train: total loss", "validation: weighted_f1", "learning rate"}
    assert panels(drawn[0]).keys() == expected


def test_no_terms():
    size(figures.training_curves(rows(2, None, terms=0), "weighted_f1", [1]))


def test_mean_over_seeds_and_selected_epochs(drawn):
    log = rows(6, 2)
    log[4]["valid"]["weighted_f1"][1] = 0.9
    figures.training_curves(log, "weighted_f1", [3, 5])
    axes = panels(drawn[0])["validation: weighted_f1"]
    np.testing.assert_allclose(axes.lines[0].get_ydata()[:2], [0.48 + 0.05, 0.49 + 0.05])
    band, dots = axes.collections
    # Two seeds 0.1 apart: one standard deviation is 0.1 / √2.
    assert np.ptp(band.get_paths()[0].vertices[:2, 1]) <= 0.1 * 2**0.5 + 1e-6
    np.testing.assert_allclose(dots.get_offsets(), [[3, 0.5], [5, 0.9]])
    assert axes.get_xlabel().endswith("epochs 3 to 5, one for each seed")


def test_given_selected_epochs(drawn):
    figures.training_curves(rows(6, 2), "weighted_f1", selected_epochs=[2, 2])
    axes = panels(drawn[0])["validation: weighted_f1"]
    np.testing.assert_allclose(axes.collections[-1].get_offsets(), [[2, 0.49], [2, 0.59]])
    assert axes.get_xlabel().endswith("selected: epoch 2")
    size(figures.training_curves(rows(2, None), "weighted_f1", selected_epochs=[9]))


@pytest.mark.parametrize("broken", [None, float("nan"), [None, 0.3], [None, None], [float("inf"), 1.0]])
def test_broken_values_leave_gaps(broken):
    log = rows(3, 2 if isinstance(broken, list) else None)
    for row in log[:2]:
        row["train"]["term_1"] = row["train"]["total"] = row["valid"]["weighted_f1"] = broken
    size(figures.training_curves(log, "weighted_f1", [1]))
    size(figures.training_curves(log[:2], "weighted_f1", [1]))


def test_rows_without_validation_or_rate(drawn):
    log = rows(4, None)
    for row in log:
        del row["train"]["learning_rate"]
    del log[0]["valid"], log[1]["valid"]
    size(figures.training_curves(log, "weighted_f1", [1]))
    assert "learning rate" not in panels(drawn[0])
    np.testing.assert_array_equal(panels(drawn[0])["validation: weighted_f1"].lines[0].get_xdata(), [3, 4])
    size(figures.training_curves([], "weighted_f1", [1]))


@pytest.mark.parametrize("shape", [(6, 6), (7, 7), (1, 6, 6), (10, 7, 7), (2, 2)])
def test_confusion_is_png(shape):
    counts = np.arange(np.prod(shape)).reshape(shape)
    width, height = size(figures.confusion_matrix(counts, [f"class {c}" for c in range(shape[-1])], "test"))
    assert 400 <= height <= width <= 1600


def test_cells_hold_shares_and_counts(drawn):
    size(figures.confusion_matrix(np.array([[3, 1], [0, 0]]), ["a$\\q$", "a name that is too long to be shown"], "$"))
    axes = drawn[0].get_axes()[0]
    assert [text.get_text() for text in axes.texts] == ["75%\n3", "25%\n1", "0", "0"]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["a$\\q$", "a name that is to…"]


def test_mean_over_seeds_in_cells(drawn):
    figures.confusion_matrix(np.array([[[3, 1], [0, 2]], [[4, 0], [0, 2]]]), ["a", "b"], "test")
    assert [text.get_text() for text in drawn[0].get_axes()[0].texts] == [
        "88%\n3.5",
        "12%\n0.5",
        "0%\n0.0",
        "100%\n2.0",
    ]


def test_reliability_joins_the_bins_that_hold_answers(drawn):
    before = dict(count=[1, 300, 100], confidence=[0.2, 0.5, 0.9], accuracy=[0.0, 0.25, 1.0])
    after = dict(count=[4, 0, 0], confidence=[0.3, None, None], accuracy=[0.5, None, None])
    size(figures.reliability({"before": before, "after": after}, {"before": 0.123, "after": 0.04}, "test"))
    top, bottom = drawn[0].axes
    assert [line.get_xydata().tolist() for line in top.lines[1:]] == [[[0.5, 0.25], [0.9, 1.0]], [[0.3, 0.5]]]
    assert "before temperature scaling: calibration error 12.3 %" in [
        t.get_text() for t in top.get_legend().get_texts()
    ]
    assert [bar.get_height() for bar in bottom.patches] == pytest.approx([1 / 401, 300 / 401, 100 / 401, 1, 0, 0])


def test_same_input_same_bytes():
    first, second = (figures.training_curves(rows(3, 2), "weighted_f1", [1, 2]) for _ in range(2))
    assert first == second


def test_global_state_of_matplotlib_stays():
    before = dict(matplotlib.rcParams)
    figures.confusion_matrix(np.eye(2), ["a", "b"], "test")
    assert dict(matplotlib.rcParams) == before
    code = "import sys; import ariigcn_jax.runs.figures; sys.exit('matplotlib.pyplot' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# --- Many runs --------------------------------------------------------------------------------------------------------


def compared(difference, corrected, width=0.01):
    seeds = [0.5 + difference - 0.01, 0.5 + difference + 0.01]
    low, high = difference - width, difference + width
    return {"difference": difference, "low": low, "high": high, "corrected": corrected, "per_seed": seeds}


def test_differences_show_every_seed_the_mean_and_the_interval_in_points(drawn):
    settings = {"no_$a$": compared(-0.03, 0.01), "no_b": compared(0.02, 0.4)}
    size(figures.differences(settings, [0.5, 0.5], "toy"))
    (axes,) = drawn[0].get_axes()
    assert [label.get_text() for label in axes.get_yticklabels()] == list(settings)
    zero, *lines = axes.lines
    assert list(zero.get_xdata()) == [0, 0]
    for place, (seeds, interval, mean) in enumerate(zip(lines[::3], lines[1::3], lines[2::3], strict=True)):
        row = list(settings.values())[place]
        centre = 100 * row["difference"]
        np.testing.assert_allclose(seeds.get_xdata(), [centre - 1, centre + 1])
        np.testing.assert_allclose(interval.get_xdata(), [centre - 1, centre + 1])
        np.testing.assert_allclose(mean.get_xdata(), centre)
        assert mean.get_color() == (figures.MARK if row["corrected"] < 0.05 else figures.LINE)
    assert "vermilion" in axes.get_xlabel() and "95 %" in axes.get_xlabel()


def test_differences_without_intervals_promise_none(drawn):
    size(figures.differences({"no_a": compared(0.0, float("nan"), float("nan"))}, [0.5, 0.5], "toy"))
    assert "95 %" not in drawn[0].get_axes()[0].get_xlabel()


def test_curves_over_values(drawn):
    scores = {"f1": np.array([[0.4, 0.6], [0.5, 0.5]]), "F1 joy": np.array([[0.1, 0.2], [np.nan, np.nan]])}
    size(figures.value_curves([1e-3, 1e-1], scores, "a.lr+b.lr", "toy", log=True, selected=1))
    assert panels(drawn[0]).keys() == set(scores)
    axes = panels(drawn[0])["f1"]
    curve, mark = axes.lines
    np.testing.assert_allclose(curve.get_xydata(), [[1e-3, 50], [1e-1, 50]])
    np.testing.assert_allclose(mark.get_xydata(), [[1e-1, 50]])
    assert axes.get_xscale() == "log" and axes.get_xlabel() == "a.lr\nb.lr"
    heights = axes.collections[0].get_paths()[0].vertices[:, 1]
    assert heights.max() == pytest.approx(50 + 100 * 0.2 / 2**0.5)  # two seeds 0.2 apart
    assert heights.min() == pytest.approx(50 - 100 * 0.2 / 2**0.5)


def test_words_stand_evenly_spaced_and_a_missing_one_leaves_a_gap(drawn):
    size(figures.value_curves([0, 2], {"f1": np.ones((2, 1))}, "a", "toy", ticks=["0", "10", "all"]))
    (axes,) = drawn[0].get_axes()
    assert [label.get_text() for label in axes.get_xticklabels()] == ["0", "10", "all"]
    assert list(axes.lines[0].get_xdata()) == [0, 2]


def test_a_panel_for_every_option_and_a_dot_for_every_setting(drawn):
    options = [
        dict(label="lr", places=[1e-3, 1e-2, 1e-1], ticks=None, log=True),
        dict(label="context", places=[0, 1, 0], ticks=["none", "gru"], log=False),
    ]
    size(figures.setting_dots(options, np.array([[0.1, 0.3], [0.4, 0.6], [0.2, 0.2]]), "toy", selected=1))
    for axes, option in zip(drawn[0].get_axes(), options, strict=True):
        _, dots = axes.collections
        np.testing.assert_allclose(dots.get_offsets(), list(zip(option["places"], [20, 50, 20], strict=True)))
        colours = [tuple(c) for c in dots.get_facecolors()]
        assert colours[0] == colours[2] != colours[1]


def test_many_panels_stay_on_the_page():
    width, height = size(figures.value_curves([0, 1], {f"F1 {k}": np.ones((2, 2)) for k in range(11)}, "a", "toy"))
    assert width <= 2000 and height <= 2000
