"""Profiles: exact where they say so, merged on append, compared without the rows."""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
import polars as pl
import pytest

from loopwright.core import Conflict
from loopwright.data import DatasetService, sketch_of


def frame_of(seed: int, rows: int = 5_000, shift: float = 0.0) -> pl.DataFrame:
    rng = np.random.default_rng(seed)
    return pl.DataFrame(
        {
            "x": rng.normal(shift, 1.0, rows),
            "n": rng.integers(0, 100, rows),
            "c": rng.choice(["a", "b", "c"], rows, p=[0.7, 0.2, 0.1]),
            "ok": rng.random(rows) < 0.25,
            "at": pl.Series(rng.integers(0, 10**15, rows)).cast(pl.Datetime("us", "UTC")),
            "long": ["y" * 500] * rows,
            "list": [[1]] * rows,
        }
    ).with_columns(pl.when(pl.col("n") > 90).then(None).otherwise(pl.col("x")).alias("x"))


def test_a_profile_tells_what_the_columns_hold(datasets: DatasetService) -> None:
    frame = frame_of(1)
    datasets.ingest("t", frame)
    profile = datasets.profile("t")
    x, x_true = profile.columns["x"], frame["x"].drop_nulls()
    assert (profile.rows, profile.ref) == (5_000, "dataset:t@1")
    assert (x.count, x.nulls, str(x.dtype)) == (len(x_true), frame["x"].null_count(), "float64")
    assert x.mean == pytest.approx(x_true.mean())
    assert x.std == pytest.approx(x_true.std())
    assert (x.min, x.max) == (pytest.approx(x_true.min(), abs=1e-6), pytest.approx(x_true.max(), abs=1e-6))
    assert abs(float((x_true <= x.quantiles["0.25"]).mean() or 0) - 0.25) < 0.02
    assert x.histogram is not None
    assert sum(x.histogram.counts) == pytest.approx(x.count)
    assert {top.value: top.count for top in profile.columns["c"].top} == dict(frame["c"].value_counts().rows())
    assert {top.value for top in profile.columns["ok"].top} == {"true", "false"}
    assert profile.columns["n"].distinct == pytest.approx(100, abs=3)
    assert profile.columns["at"].min == pytest.approx(frame["at"].cast(pl.Int64).min())
    assert len(profile.columns["long"].top[0].value) < 300
    assert "list" not in profile.columns


def test_an_append_costs_its_rows_and_gives_what_a_whole_pass_gives(
    datasets: DatasetService, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = frame_of(1), frame_of(2)
    datasets.ingest("t", first)
    datasets.profile("t")
    datasets.ingest("t", second, mode="append")
    from loopwright.data import profiling

    seen = []
    monkeypatch.setattr(profiling, "sketch_of", lambda frame: seen.append(frame.collect()) or sketch_of(seen[-1]))
    merged = datasets.profile("t")
    assert [frame.height for frame in seen] == [second.height]
    whole = pl.concat([first, second])
    assert merged.rows == whole.height
    assert merged.columns["x"].mean == pytest.approx(whole["x"].mean())
    assert merged.columns["x"].nulls == whole["x"].null_count()
    assert {top.value: top.count for top in merged.columns["c"].top} == dict(whole["c"].value_counts().rows())
    median = merged.columns["x"].quantiles["0.5"]
    assert abs(float((whole["x"].drop_nulls() <= median).mean() or 0) - 0.5) < 0.02
    datasets.profile("t")
    assert len(seen) == 1


def test_two_versions_are_compared_by_their_profiles(datasets: DatasetService) -> None:
    datasets.ingest("t", frame_of(1))
    datasets.ingest("t", frame_of(2, shift=1.0).drop("ok").with_columns(pl.col("n").cast(pl.String), more=1))
    comparison = datasets.compare("t@1", "t@2")
    assert (comparison.added_columns, comparison.removed_columns) == (("more",), ("ok",))
    assert comparison.changed_types == {"n": ("int64", "string")}
    by_name = {column.column: column for column in comparison.columns}
    assert by_name["x"].p_value is not None
    assert by_name["x"].p_value < 1e-6
    assert by_name["x"].effect is not None
    assert by_name["x"].effect > 0.25
    assert by_name["c"].p_value is not None
    assert by_name["c"].p_value > 1e-3
    assert by_name["n"].test == ""


@pytest.mark.slow
def test_a_lazy_frame_and_its_rows_have_one_sketch() -> None:
    frame = frame_of(3, rows=150_000)
    streamed, whole = sketch_of(frame.lazy()), sketch_of(frame)
    assert streamed.rows == whole.rows == frame.height
    assert streamed.columns["x"].nulls == whole.columns["x"].nulls
    assert streamed.columns["n"].mean == pytest.approx(whole.columns["n"].mean)


def test_a_table_without_rows_has_a_profile(datasets: DatasetService) -> None:
    datasets.ingest("t", frame_of(1).head(0))
    column = datasets.profile("t").columns["x"]
    assert (column.count, column.mean, column.quantiles) == (0, None, {})


def test_a_tree_has_none(datasets: DatasetService, tmp_path: object) -> None:
    from pathlib import Path

    folder = Path(str(tmp_path)) / "in"
    folder.mkdir()
    (folder / "x.bin").write_bytes(b"x")
    datasets.ingest("t", folder)
    with pytest.raises(Conflict, match="tree of files"):
        datasets.profile("t")


def test_infinities_do_not_break_a_profile(datasets: DatasetService) -> None:
    datasets.ingest(
        "t",
        pl.DataFrame(
            {"x": [float("inf"), 1.0, float("-inf"), float("nan")], "at": [datetime(2020, 1, 1, tzinfo=UTC)] * 4}
        ),
    )
    column = datasets.profile("t").columns["x"]
    assert (column.count, column.nulls, column.mean) == (3, 1, 1.0)
