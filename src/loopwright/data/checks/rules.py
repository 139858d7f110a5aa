"""What each kind of check means: expressions to compute over the whole table, and the verdict on their values.

A rule is registered by the name of its kind; a stranger's package adds one with an entry point of the group
`loopwright.checks`, through the same door as the rules below.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from loopwright.core import Invalid, Registry, Schema
from loopwright.data.checks.suite import Check
from loopwright.data.dtypes import dtype_word
from loopwright.data.expressions import thaw

if TYPE_CHECKING:
    import polars as pl


@dataclass(frozen=True)
class Verdict:
    """Whether a check of the table as a whole passed, and what was found."""

    passed: bool
    message: str


@dataclass(frozen=True)
class Plan:
    """What one check asks of the query.

    Attributes:
        failing: true in the rows that fail; for a check of rows.
        measures: values over the whole table, by name.
        judge: the verdict on the measures; for a check of the table as a whole.
        known: a verdict that needs no query.
    """

    failing: pl.Expr | None = None
    measures: Mapping[str, pl.Expr] = field(default_factory=dict)
    judge: Callable[[Mapping[str, Any]], Verdict] | None = None
    known: Verdict | None = None


@dataclass(frozen=True)
class Table:
    """What a rule may know of the table when it plans."""

    columns: Mapping[str, pl.DataType]
    now: datetime

    @property
    def schema(self) -> Schema:
        """The schema in the words of every room."""
        from loopwright.data.dtypes import schema_of

        return schema_of(self.columns)


Rule = Callable[[Check, Table], Plan]
RULES: Registry[Rule] = Registry("checks", "check")


def plan(check: Check, table: Table) -> Plan:
    """The plan of a check; a check of a column that the table lacks fails without a query.

    Raises:
        Invalid: there is no such kind of check, or its parameters are malformed.
    """
    rule = RULES.get(check.kind)
    absent = [column for column in check.columns if column not in table.columns]
    if absent and check.kind not in {"no_missing_columns", "column_types"}:
        return Plan(known=Verdict(False, f"the table has no column {', '.join(map(repr, absent))}"))
    return rule(check, table)


@RULES.register("not_null")
def _not_null(check: Check, _table: Table) -> Plan:
    import polars as pl

    return Plan(failing=pl.any_horizontal([pl.col(column).is_null() for column in check.columns]))


@RULES.register("unique")
def _unique(check: Check, _table: Table) -> Plan:
    import polars as pl

    present = pl.all_horizontal([pl.col(column).is_not_null() for column in check.columns])
    key = pl.col(check.columns[0]) if len(check.columns) == 1 else pl.struct(check.columns)
    return Plan(failing=present & key.is_duplicated())


@RULES.register("between")
def _between(check: Check, table: Table) -> Plan:
    import polars as pl

    (column,) = check.columns
    value, dtype = pl.col(column), table.columns[column]
    outside = pl.lit(False)
    if check.params.get("low") is not None:
        outside = outside | (value < _literal(check.params["low"], dtype))
    if check.params.get("high") is not None:
        outside = outside | (value > _literal(check.params["high"], dtype))
    return Plan(failing=(outside | value.is_nan()) if dtype.is_float() else outside)


@RULES.register("in_set")
def _in_set(check: Check, table: Table) -> Plan:
    import polars as pl

    (column,) = check.columns
    try:
        allowed = pl.Series(check.params["values"]).cast(table.columns[column])
    except (TypeError, pl.exceptions.PolarsError):
        raise Invalid(
            f"the values of {check.label} do not fit a column of type {table.columns[column]}",
            next_step="give values of the column's type",
        ) from None
    return Plan(failing=pl.col(column).is_not_null() & ~pl.col(column).is_in(allowed.implode()))


@RULES.register("matches")
def _matches(check: Check, _table: Table) -> Plan:
    import polars as pl

    (column,) = check.columns
    return Plan(failing=~pl.col(column).cast(pl.String).str.contains(f"^(?:{check.params['pattern']})$"))


@RULES.register("expression")
def _expression(check: Check, table: Table) -> Plan:
    condition = thaw(check.params["condition"])
    absent = [column for column in condition.meta.root_names() if column not in table.columns]
    if absent:
        return Plan(known=Verdict(False, f"the table has no column {', '.join(map(repr, absent))}"))
    return Plan(failing=~condition)


@RULES.register("row_count")
def _row_count(check: Check, _table: Table) -> Plan:
    low, high = check.params["low"], check.params.get("high")

    def judge(measured: Mapping[str, Any]) -> Verdict:
        rows = measured["rows"]
        wanted = f"at least {low}" if high is None else f"from {low} to {high}"
        return Verdict(rows >= low and (high is None or rows <= high), f"{rows} rows; wanted {wanted}")

    return Plan(judge=judge)


@RULES.register("column_types")
def _column_types(check: Check, table: Table) -> Plan:
    wrong = []
    for column, wanted in check.params["types"].items():
        dtype = table.columns.get(column)
        if dtype is None:
            wrong.append(f"{column!r} is missing")
        elif dtype_word(dtype) != wanted:
            wrong.append(f"{column!r} is {dtype_word(dtype)}, not {wanted}")
    return Plan(known=Verdict(not wrong, "; ".join(wrong) or "all columns have the wanted types"))


@RULES.register("no_missing_columns")
def _no_missing_columns(check: Check, table: Table) -> Plan:
    absent = [column for column in check.columns if column not in table.columns]
    return Plan(known=Verdict(not absent, f"missing: {', '.join(absent)}" if absent else "all columns are there"))


@RULES.register("freshness")
def _freshness(check: Check, table: Table) -> Plan:
    import polars as pl

    (column,) = check.columns
    if not table.columns[column].is_temporal():
        return Plan(known=Verdict(False, f"{column!r} is {table.columns[column]}, not a time"))
    within_s = check.params["within_s"]

    def judge(measured: Mapping[str, Any]) -> Verdict:
        newest = measured["newest"]
        if newest is None:
            return Verdict(False, f"{column!r} holds no time")
        aware = newest if newest.tzinfo else newest.replace(tzinfo=UTC)
        age_s = (table.now - aware).total_seconds()
        return Verdict(
            age_s <= within_s, f"the newest {column!r} is {age_s:.0f} s old; wanted at most {within_s:.0f} s"
        )

    return Plan(measures={"newest": pl.col(column).max().cast(pl.Datetime("us"))}, judge=judge)


def _literal(value: Any, dtype: pl.DataType) -> pl.Expr:
    """A bound as a literal of the column's type; a saved suite holds times as text."""
    import polars as pl

    if isinstance(value, str) and isinstance(dtype, pl.Datetime):
        parsed = datetime.fromisoformat(value)
        return pl.lit(parsed if dtype.time_zone else parsed.replace(tzinfo=None))
    if isinstance(value, str) and dtype == pl.Date:
        return pl.lit(datetime.fromisoformat(value).date())
    return pl.lit(value)
