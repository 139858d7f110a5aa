"""The digest of rows depends on the values alone."""

# ruff: noqa: DTZ001  (times without a zone are what is tested)
from __future__ import annotations

from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.examples import examples

from loopwright.data import PartDigest

COLUMNS: dict[str, tuple[pl.DataType, st.SearchStrategy[Any]]] = {
    "i": (pl.Int64(), st.integers(-(2**63), 2**63 - 1)),
    "small": (pl.Int8(), st.integers(-128, 127)),
    "f": (pl.Float64(), st.floats(allow_nan=True)),
    "b": (pl.Boolean(), st.booleans()),
    "s": (pl.String(), st.text(max_size=5)),
    "raw": (pl.Binary(), st.binary(max_size=5)),
    "d": (pl.Date(), st.dates(date(1900, 1, 1), date(2100, 1, 1))),
    "t": (pl.Datetime("us", "UTC"), st.datetimes(datetime(1900, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC))),
    "m": (pl.Decimal(10, 2), st.decimals(-100, 100, places=2)),
    "l": (pl.List(pl.Int64()), st.lists(st.none() | st.integers(0, 9), max_size=3)),
    "o": (
        pl.Struct({"x": pl.Int64(), "y": pl.String()}),
        st.fixed_dictionaries({"x": st.integers(0, 9), "y": st.text(max_size=2)}),
    ),
}
SCHEMA = {name: dtype for name, (dtype, _) in COLUMNS.items()}
ROWS = st.lists(st.tuples(*[st.none() | values for _, values in COLUMNS.values()]), max_size=12)


def digest(*frames: pl.DataFrame, schema: dict[str, pl.DataType] | None = None) -> str:
    part = PartDigest(schema or dict(frames[0].schema))
    for frame in frames:
        part.update(frame)
    return part.digest()


def frame_of(rows: list[Any]) -> pl.DataFrame:
    return pl.DataFrame(rows, schema=SCHEMA, orient="row")


@pytest.mark.slow
@settings(max_examples=examples(60), deadline=None)
@given(rows=ROWS, cut=st.integers(0, 12))
def test_batches_do_not_change_the_digest(rows: list[Any], cut: int) -> None:
    frame = frame_of(rows)
    whole = digest(frame)
    assert digest(frame.head(cut), frame.tail(max(0, frame.height - cut)), schema=SCHEMA) == whole
    assert digest(pl.concat([frame.head(cut), frame.slice(cut)], rechunk=False)) == whole


@settings(max_examples=examples(60), deadline=None)
@given(first=ROWS, second=ROWS)
def test_other_values_have_another_digest(first: list[Any], second: list[Any]) -> None:
    a, b = frame_of(first), frame_of(second)
    if not a.equals(b):
        assert digest(a) != digest(b)


def test_the_file_format_and_its_writer_do_not_change_the_digest(tmp_path: Path) -> None:
    frame = frame_of(
        [
            (
                1,
                2,
                0.5,
                True,
                "a",
                b"b",
                date(2020, 1, 1),
                datetime(2020, 1, 1, tzinfo=UTC),
                Decimal("1.20"),
                [1],
                {"x": 1, "y": "z"},
            ),
            (None,) * 11,
        ]
    )
    frame.write_parquet(tmp_path / "a.parquet", compression="zstd", row_group_size=1)
    frame.write_ipc(tmp_path / "a.arrow")
    assert digest(pl.read_parquet(tmp_path / "a.parquet")) == digest(frame)
    assert digest(pl.read_ipc(tmp_path / "a.arrow")) == digest(frame)


def test_what_looks_alike_is_told_apart() -> None:
    pairs = [
        (pl.DataFrame({"a": ["ab", "c"]}), pl.DataFrame({"a": ["a", "bc"]})),
        (pl.DataFrame({"a": ["", None]}), pl.DataFrame({"a": [None, ""]})),
        (pl.DataFrame({"a": [0, None]}), pl.DataFrame({"a": [None, 0]})),
        (pl.DataFrame({"a": [[1], [2, 3]]}), pl.DataFrame({"a": [[1, 2], [3]]})),
        (pl.DataFrame({"a": [[], [1]]}), pl.DataFrame({"a": [None, [1]]})),
        (pl.DataFrame({"a": [1]}), pl.DataFrame({"b": [1]})),
        (pl.DataFrame({"a": [1]}), pl.DataFrame({"a": [1.0]})),
        (pl.DataFrame({"a": [1, 2]}), pl.DataFrame({"a": [2, 1]})),
        (pl.DataFrame({"a": [1], "b": [2]}), pl.DataFrame({"b": [2], "a": [1]})),
        (pl.DataFrame({"a": [0.0]}), pl.DataFrame({"a": [float("nan")]})),
    ]
    for left, right in pairs:
        assert digest(left) != digest(right), (left, right)


def test_the_digest_of_known_rows_never_changes() -> None:
    # A change here breaks the identity of every dataset that exists.
    frame = pl.DataFrame({"a": [1, None, 3], "b": ["x", "", None], "c": [0.5, float("nan"), None]})
    assert digest(frame) == "a014710c47cd0cafcdd580e0d7f5796b5a5dc001a1627539c0b895b8b20e3d7e"
