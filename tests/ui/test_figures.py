"""Figures: valid to Plotly itself, with the data that they were given."""

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from plotly.graph_objects import Figure

from loopwright.track import Curve, Value
from loopwright.ui import Drawing, Mark, drift_over_time, metric_history, performance_over_time, traffic_over_time
from loopwright.ui.figures import metric_curve, parallel_coordinates, scatter

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
HOSTILE = "<b>x</b><a href='javascript:1'>"


@dataclass
class Report:
    value: float
    lower: float
    upper: float
    n: int = 100
    reference: float | None = 0.2


@dataclass
class Feature:
    feature: str
    effect: float
    drifted: bool
    adjusted: float = 0.001


@dataclass
class Window:
    start: datetime
    model: str = "model:delay@1"
    drift: list[Feature] = field(default_factory=list)
    performance: dict[str, Report] = field(default_factory=dict)


def windows(count: int, features: int = 3) -> list[Window]:
    return [
        Window(
            NOON + timedelta(days=day),
            f"model:delay@{1 + day // 3}",
            [Feature(f"f{number}", 0.1 * number, number == 2) for number in range(features)],
            {"brier": Report(0.1 * day, 0.1 * day - 0.05, 0.1 * day + 0.05)},
        )
        for day in range(count)
    ]


def valid(drawing: Drawing) -> Figure:
    """The figure, as Plotly accepts it: an unknown property or a wrong value raises."""
    return drawing.plotly()


def test_traffic_adds_up_to_everything_from_change_to_change() -> None:
    changes = [(NOON, {"model:d@1": 1.0}), (NOON + timedelta(hours=1), {"model:d@1": 0.75, "model:d@2": 0.25})]
    figure = valid(traffic_over_time(changes, NOON + timedelta(hours=2), [Mark(NOON, "start")]))
    assert [trace.name for trace in figure.data] == ["d@1", "d@2"]
    assert [sum(values) for values in zip(*(trace.y for trace in figure.data), strict=True)] == [100, 100, 100]
    assert len(figure.data[0].x) == 3
    assert figure.layout.yaxis.range == (0, 100)


def test_drift_shows_the_features_that_moved_most_and_marks_what_drifted() -> None:
    figure = valid(drift_over_time(windows(4, features=40)))
    heat, dots = figure.data
    assert len(heat.y) == 25
    assert heat.y[-1] == "f39"
    assert set(dots.y) <= {"f2"}
    assert len(heat.z[0]) == 4


def test_performance_is_one_line_per_version_with_its_interval_and_reference() -> None:
    drawing = performance_over_time(reversed(windows(6)), "brier", [Mark(NOON, "x", "bad")])
    figure = valid(drawing)
    lines = [trace for trace in figure.data if "training" not in trace.name]
    assert [trace.name for trace in lines] == ["delay@1", "delay@2"]
    assert list(lines[0].x) == sorted(lines[0].x)
    assert [round(width, 6) for width in lines[0].error_y.array] == [0.05] * 3
    assert len(figure.layout.shapes) == 1
    assert len(drawing.rows) == 6


def test_a_windows_figure_of_nothing_is_valid() -> None:
    for drawing in (drift_over_time([]), performance_over_time([], "brier"), traffic_over_time([])):
        assert valid(drawing).layout.height


def test_what_is_not_finite_leaves_a_gap() -> None:
    figure = valid(metric_history("loss", {"run": ([0, 1, 2, 3], [1.0, float("nan"), float("inf"), 0.5])}))
    assert figure.data[0].y == (1.0, None, None, 0.5)


@given(st.integers(2001, 20_000), st.integers(0, 1_000_000))
def test_no_spike_of_a_long_series_is_lost(length: int, place: int) -> None:
    values = [0.5] * length
    values[place % length] = 9.0
    drawing = metric_history("loss", {"run": (list(range(length)), values)})
    shown: list[Any] = drawing.figure["data"][0]["y"]
    assert len(shown) <= 2100
    assert 9.0 in shown


def curve_of(values: list[Value], wide: int = 1) -> Curve:
    """Buckets of `wide` points, each from 1 below to 2 above its last value."""
    steps = [wide * (at + 1) - 1 for at in range(len(values))]
    numbers = [float(value) for value in values]
    return Curve(
        run="r",
        key="loss",
        first_steps=[step - wide + 1 for step in steps],
        steps=steps,
        times_us=[1_000_000 * step for step in steps],
        values=values,
        lows=[number - 1 for number in numbers],
        low_steps=steps,
        highs=[number + 2 for number in numbers],
        high_steps=steps,
        counts=[wide] * len(values),
        nans=[0] * len(values),
    )


def test_a_curve_has_a_band_only_where_points_were_put_together() -> None:
    figure = valid(metric_curve("loss", {"run": curve_of([1.0, 2.0, 3.0], wide=10)}, {"run": 500.0}))
    low, high, line = figure.data
    assert (low.y, high.y, line.y) == ((0.0, 1.0, 2.0), (3.0, 4.0, 5.0), (1.0, 2.0, 3.0))
    assert (high.fill, low.fill) == ("tonexty", None)
    assert high.fillcolor == "#4263eb33"
    assert line.customdata == (9000.0, 19000.0, 29000.0)
    assert line.meta["began_ms"] == 500.0
    assert len(valid(metric_curve("loss", {"run": curve_of([1.0, 2.0])})).data) == 1


def test_a_curve_of_what_is_not_finite_has_a_gap_and_one_of_nothing_is_valid() -> None:
    assert valid(metric_curve("loss", {"run": curve_of([1.0, "NaN", "Infinity", 4.0])})).data[0].y[1:3] == (None, None)
    assert valid(metric_curve("loss", {"run": curve_of([])})).data == ()
    assert valid(metric_curve("loss", {})).data == ()


def test_many_runs_are_named_on_hovering_and_not_in_a_legend() -> None:
    few = valid(metric_curve("loss", {f"run {n}": curve_of([1.0]) for n in range(3)}))
    many = valid(metric_curve("loss", {f"run {n}": curve_of([1.0]) for n in range(30)}))
    assert (few.layout.showlegend, few.layout.hovermode) == (True, "x unified")
    assert (many.layout.showlegend, many.layout.hovermode) == (False, "closest")
    assert {trace.name for trace in many.data} == {f"run {n}" for n in range(30)}


def test_the_numbers_below_a_curve_are_few_and_end_with_the_last() -> None:
    drawing = metric_curve("loss", {"run": curve_of([float(n) for n in range(1000)])})
    assert len(drawing.rows) == 200
    assert drawing.rows[-1][:2] == (999, 999.0)


def test_names_are_text_in_figures_too() -> None:
    hostile = Window(NOON, HOSTILE, [Feature(HOSTILE, 0.3, True)], {HOSTILE: Report(0.1, 0.0, 0.2)})
    drawings = [
        metric_history("loss", {HOSTILE: ([0], [1.0])}),
        metric_curve("loss", {HOSTILE: curve_of([1.0])}),
        drift_over_time([hostile]),
        performance_over_time([hostile], HOSTILE, [Mark(NOON, HOSTILE)]),
        traffic_over_time([(NOON, {HOSTILE: 1.0})]),
    ]
    for drawing in drawings:
        assert "<a" not in str(drawing.figure)


def test_a_report_and_a_notebook_get_the_title_and_plain_colours() -> None:
    figure = valid(metric_history("loss", {"run": ([0, 1], [1.0, 0.5])}))
    assert figure.layout.title.text == "loss"
    assert figure.data[0].line.color.startswith("#")


def test_parallel_coordinates_have_an_axis_for_each_name_and_leave_out_runs_without_a_value() -> None:
    drawing = parallel_coordinates(
        ["a", HOSTILE, "c"],
        {"lr": ["0.1", "0.01", "1"], "kind": ["big", "small", HOSTILE], "auc": [0.5, 0.75, None]},
    )
    figure = drawing.plotly()
    assert isinstance(figure, Figure)
    [trace] = figure.data
    axes = {axis.label: axis for axis in trace.dimensions}
    assert list(axes["lr"].values) == [0.1, 0.01]
    assert list(axes["kind"].ticktext) == ["big", "small"]
    assert list(trace.line.color) == [0.5, 0.75]
    assert "1 without a value" in drawing.title
    assert drawing.rows == (("a", "0.1", "big", 0.5), (HOSTILE, "0.01", "small", 0.75))
    assert "<b>" not in str(drawing.figure)


def test_parallel_coordinates_are_coloured_by_the_axis_that_is_asked_for() -> None:
    drawing = parallel_coordinates(["a", "b"], {"lr": ["1", "2"], "auc": [0.5, 0.75]}, shade="lr")
    assert drawing.figure["data"][0]["line"]["color"] == [1.0, 2.0]
    assert parallel_coordinates([], {"lr": []}).figure["data"] == []


def test_a_scatter_draws_finite_points_with_their_intervals() -> None:
    drawing = scatter(
        "lr",
        "auc",
        [("a", "0.1", 0.5), (HOSTILE, "0.2", 0.7), ("nan", "0.3", float("nan")), ("none", None, 0.1)],
        [(0.4, 0.7), None, None, None],
    )
    [trace] = drawing.plotly().data
    assert (list(trace.x), list(trace.y)) == ([0.1, 0.2], [0.5, 0.7])
    assert list(trace.error_y.array) == [pytest.approx(0.2), 0.0]
    assert list(trace.error_y.arrayminus) == [pytest.approx(0.1), 0.0]
    assert "<b>" not in str(drawing.figure)
    assert [row[0] for row in drawing.rows] == ["a", HOSTILE]


def test_a_scatter_over_words_keeps_them() -> None:
    [trace] = scatter("kind", "auc", [("a", "big", 1.0), ("b", "3", 2.0)]).plotly().data
    assert list(trace.x) == ["big", "3"]
    assert trace.error_y.array is None
