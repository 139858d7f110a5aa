"""Expressions as text: what Polars computes is kept, what Python computes is refused."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import msgspec
import polars as pl
import pytest

from loopwright.core import Invalid, operations_of
from loopwright.data import DatasetService, freeze, thaw

A = pl.col("a")
FRAME = pl.DataFrame({"a": [1, 5, None], "s": ["x", "y", None]})


@pytest.mark.parametrize(
    "expression",
    [
        A > 3,
        A.is_in([1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11]),
        pl.col("s").is_in(["x", "zz"]),
        pl.when(A > 1).then(pl.lit("big")).otherwise(pl.lit(None)),
        A.replace_strict({1: 10, 5: 50}),
        pl.lit(datetime(2020, 1, 1, tzinfo=UTC)) + pl.duration(hours=A),
        pl.lit(pl.Series([1, 2, 3])),
    ],
    ids=str,
)
def test_a_kept_expression_computes_the_same(expression: pl.Expr) -> None:
    assert FRAME.select(thaw(freeze(expression))).equals(FRAME.select(expression))


def test_sql_text_is_kept_as_it_is() -> None:
    assert freeze("a BETWEEN 2 AND 6") == "a BETWEEN 2 AND 6"
    assert FRAME.select(thaw("a BETWEEN 2 AND 6"))["a"].to_list() == [False, True, None]
    with pytest.raises(Invalid, match="not an SQL expression"):
        freeze("a BETWEEN")


@pytest.mark.parametrize(
    "expression",
    [
        A.map_batches(lambda s: s),
        A.name.map(lambda name: name + "x"),
        pl.struct("a").name.map_fields(lambda name: name),
        pl.fold(0, lambda x, y: x + y, [A]),
        pl.reduce(lambda x, y: x + y, [A, A]),
        A.list.eval(pl.element().map_batches(len)),
        pl.when(A.map_batches(lambda s: s) > 1).then(1),
    ],
    ids=["batches", "name", "fields", "fold", "reduce", "list", "nested"],
)
def test_a_python_function_is_refused_wherever_it_hides(expression: pl.Expr) -> None:
    with pytest.raises(Invalid, match="calls a Python function"):
        freeze(expression)
    with pytest.raises(Invalid, match="calls a Python function"):
        thaw(expression.meta.serialize(format="json"))


def test_text_that_this_polars_cannot_read_is_said_to_be(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(Invalid, match="saved by another release of Polars"):
        thaw('{"Quantum": {"Column": "a"}}')


def test_a_suite_from_outside_is_refused(datasets: DatasetService) -> None:
    (operation,) = [one for one in operations_of(DatasetService) if one.name == "datasets.check"]
    datasets.ingest("t", FRAME)
    body = {"name": "s", "checks": [{"kind": "expression", "params": {"condition": freeze(A > 3)}}]}
    request = msgspec.convert({"ref": "t", "suite": body}, operation.request_type)
    with pytest.raises(Invalid, match="given by its name"):
        operation.call(datasets, request)


def test_no_operation_takes_an_expression_from_outside() -> None:
    def names(kind: Any) -> str:
        return repr(kind)

    for operation in operations_of(DatasetService):
        for field in operation.request_type.__struct_fields__:
            kind = operation.request_type.__annotations__[field]
            assert "Suite" not in names(kind), (operation.name, field)
            assert "Expr" not in names(kind), (operation.name, field)
