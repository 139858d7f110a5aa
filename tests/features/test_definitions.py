"""Definitions: what may be declared, and that it survives being kept."""

from __future__ import annotations

import linecache
import shutil
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from loopwright.core import Conflict, Invalid, NotFound, Scope
from loopwright.data import DatasetService
from loopwright.features import Entity, FeatureService, FeatureStore, FeatureView, RequestView
from loopwright.features.row_wise import is_row_wise

A, B = pl.col("a"), pl.col("b")
VIEW: dict[str, Any] = {"entity": Entity("thing", ["key"]), "source": "t", "timestamp": "at"}


@pytest.mark.parametrize(
    "expression",
    [
        A + 1, A / B, A // B, A.is_null(), A.cast(pl.Int8), A.str.to_uppercase(), A.dt.truncate("1h"), A.clip(0, 1),
        A.fill_null(B), A.is_in([1, 2]), pl.when(A > 1).then(B).otherwise(None), pl.struct("a", "b"),
        pl.max_horizontal("a", "b"), pl.concat_str("a", pl.lit("x")), A.list.sum(), A.list.eval(pl.element() + 1),
        A.log(), A.replace({1: 2}), pl.lit(3), -A, ~A, A.struct.field("x"), A.dt.hour().sin().alias("z"),
        pl.sql_expr("a * 2 - b % 3"), pl.sql_expr("CASE WHEN a IN (1, 2) THEN round(b, 1) ELSE a / 10 END"),
    ],
    ids=str,
)  # fmt: skip
def test_expressions_over_one_row_are_features(expression: pl.Expr) -> None:
    assert is_row_wise(expression)


@pytest.mark.parametrize(
    "expression",
    [
        A.mean(), A - A.mean(), A.fill_null(A.mean()), A.sum().over("b"), A.shift(), A.diff(), A.cum_sum(), A.rank(),
        A.rolling_mean(3), A.forward_fill(), A.sort(), A.first(), A.is_duplicated(), A.filter(A > 1), A.head(1),
        A.unique(), pl.len(), A.interpolate(), A.shuffle(), A.reverse(), A.implode(), A.get(0),
        pl.when(A.max() < A).then(B), pl.sql_expr("sum(a)"), pl.sql_expr("a - avg(a)"), pl.sql_expr("count(*)"),
        pl.sql_expr("lag(a) OVER (ORDER BY b)"), pl.int_range(pl.len()),
    ],
    ids=str,
)  # fmt: skip
def test_expressions_that_look_beyond_the_row_are_not(expression: pl.Expr) -> None:
    assert not is_row_wise(expression)


def test_malformed_definitions_are_refused_when_they_are_made() -> None:
    with pytest.raises(Invalid, match="looks beyond its row"):
        FeatureView("v", **VIEW, features={"x": A.mean()})
    with pytest.raises(Invalid, match="calls a Python function"):
        FeatureView("v", **VIEW, features={"x": A.map_batches(lambda s: s)})
    with pytest.raises(Invalid, match="called as its key or time: 'at', 'key'"):
        FeatureView("v", **VIEW, features=["key", "at", "x"])
    with pytest.raises(Invalid, match="has no features"):
        FeatureView("v", **VIEW, features=[])
    with pytest.raises(Invalid, match="cannot name a feature"):
        FeatureView("v", **VIEW, features={"a:b": A})
    with pytest.raises(Invalid, match="ttl of feature view 'v' is 0:00:00"):
        FeatureView("v", **VIEW, features=["a"], ttl=timedelta(0))
    with pytest.raises(Invalid, match="cannot name a feature view"):
        FeatureView("v/w", **VIEW, features=["a"])
    with pytest.raises(Invalid, match="names a key twice"):
        Entity("e", ["a", "a"])
    with pytest.raises(Invalid, match="names no feature"):
        FeatureService("s", [])


def test_a_definition_is_kept_in_versions(features: FeatureStore) -> None:
    first = FeatureView("v", **VIEW, features={"z": A, "y": "b + 1"}, ttl=timedelta(hours=1))
    assert features.apply(first) == ("feature:v@1",)
    assert features.apply(FeatureView("v", **VIEW, features={"z": A, "y": "b + 1"}, ttl=timedelta(hours=1))) == (
        "feature:v@1",
    )
    swapped = FeatureView("v", **VIEW, features={"y": "b + 1", "z": A}, ttl=timedelta(hours=1))
    assert features.apply(swapped) == ("feature:v@2",)
    record = features.get("feature:v")
    assert (list(record.features), record.keys, record.ttl_s, record.version) == (["y", "z"], ("key",), 3600.0, 2)
    assert [one.name for one in features.list()] == ["v"]
    events = features.stores.events.read(kinds=["feature_view.applied"])
    assert [event.subject for event in events] == ["feature:v@1", "feature:v@2"]


def test_a_service_must_name_features_that_there_are(features: FeatureStore) -> None:
    view = FeatureView("v", **VIEW, features=["a"])
    with pytest.raises(NotFound, match="no feature view 'v'"):
        features.apply(FeatureService("s", ["v:a"]))
    with pytest.raises(NotFound, match="has no feature 'b'"):
        features.apply(view, FeatureService("s", ["v:b"]))
    assert features.list() == ()
    features.apply(view, RequestView("r", {"c": "a + 1"}), FeatureService("s", [view, "r:c"]))
    assert [(one.name, one.features) for one in features.services()] == [("s", ("v", "r:c"))]
    with pytest.raises(Invalid, match="is no definition"):
        features.apply("v")  # type: ignore[arg-type]  # what is tested


PROJECT = """
import polars as pl
from datetime import timedelta
from loopwright.features import Entity, FeatureView

def hourly(rows: pl.LazyFrame) -> pl.LazyFrame:
    return rows.with_columns(pl.col("a") * {factor})

view = FeatureView("v", Entity("thing", ["key"]), "t", "at", ["a"], transform=hourly)
"""


@pytest.fixture
def project(features: FeatureStore) -> Any:
    """A function that writes the project's module of features and imports it afresh."""
    import importlib

    from loopwright.features import keeping

    name = f"features_{features.stores.root.name.replace('-', '_')}"

    def write(factor: int) -> Any:
        (features.stores.root / f"{name}.py").write_text(PROJECT.format(factor=factor))
        shutil.rmtree(features.stores.root / "__pycache__", ignore_errors=True)  # of equal time and size
        linecache.clearcache()
        sys.modules.pop(name, None)
        keeping._here.clear()  # as in another process
        importlib.invalidate_caches()
        sys.path.insert(0, str(features.stores.root))
        try:
            return importlib.import_module(name)
        finally:
            sys.path.remove(str(features.stores.root))

    yield write
    sys.modules.pop(name, None)
    if str(features.stores.root) in sys.path:
        sys.path.remove(str(features.stores.root))


def test_a_transform_is_found_again_by_another_process(features: FeatureStore, project: Any, clock: Any) -> None:
    from loopwright.features import keeping

    features.datasets.ingest("t", pl.DataFrame({"key": ["k"], "at": [clock.now()], "a": [2]}))
    features.apply(project(10).view)
    keeping._here.clear()
    again = FeatureStore(features.stores, Scope(), datasets=DatasetService(features.stores, Scope()))
    again.materialise("v")
    assert again.online(["v"], [{"key": "k"}])[0]["a"] == 20


def test_a_transform_that_changed_must_be_applied_again(features: FeatureStore, project: Any, clock: Any) -> None:
    features.datasets.ingest("t", pl.DataFrame({"key": ["k"], "at": [clock.now()], "a": [2]}))
    features.apply(project(10).view)
    features.materialise("v")
    changed = project(11)
    with pytest.raises(Conflict, match="changed since it was applied"):
        features.materialise("v")
    assert features.online(["v"], [{"key": "k"}])[0]["a"] == 20  # what is online can still be read
    assert features.apply(changed.view) == ("feature:v@2",)
    assert features.online(["v"], [{"key": "k"}])[0]["a"] is None  # nothing of the new definition yet
    features.materialise("v")
    assert features.online(["v"], [{"key": "k"}])[0]["a"] == 22


def test_a_transform_that_only_this_process_has_works_here_and_says_so_elsewhere(
    features: FeatureStore, clock: Any
) -> None:
    from loopwright.features import keeping

    features.datasets.ingest("t", pl.DataFrame({"key": ["k"], "at": [clock.now()], "a": [2]}))
    features.apply(FeatureView("v", **VIEW, features=["a"], transform=lambda rows: rows.with_columns(pl.col("a") + 1)))
    features.materialise("v")
    assert features.online(["v"], [{"key": "k"}])[0]["a"] == 3
    keeping._here.clear()
    with pytest.raises(Conflict, match="only the process that applied it has"):
        features.materialise("v")
    assert Path(features.stores.root).exists()
