"""A suite and the checks it is made of. Both are plain values: they can be saved, sent and compared."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, Any

import msgspec

from loopwright.core import DType, Invalid, check_name
from loopwright.data.expressions import freeze

if TYPE_CHECKING:
    import polars as pl


class Severity(StrEnum):
    """`error` fails the suite; `warn` is only reported."""

    ERROR = "error"
    WARN = "warn"


class Check(msgspec.Struct, frozen=True, omit_defaults=True):
    """One expectation.

    Attributes:
        kind: which expectation: a name in the registry of checks.
        columns: the columns that it looks at.
        params: what it needs to know; JSON values.
        tolerate: the share of rows, 0 to 1, that may fail before the check does.
        name: how reports call it.
    """

    kind: str
    columns: tuple[str, ...] = ()
    params: dict[str, Any] = {}
    severity: Severity = Severity.ERROR
    tolerate: float = 0.0
    name: str = ""

    @property
    def label(self) -> str:
        """The name, or one made of the kind and the columns."""
        return self.name or (f"{self.kind}({', '.join(self.columns)})" if self.columns else self.kind)


class Suite(msgspec.Struct, frozen=True):
    """A named set of checks.

    Raises:
        Invalid: the name is not allowed, or two checks have the same label.
    """

    name: str
    checks: tuple[Check, ...]

    def __post_init__(self) -> None:
        check_name("suite", self.name)
        labels = [check.label for check in self.checks]
        for label in labels:
            if labels.count(label) > 1:
                raise Invalid(f"suite {self.name!r} has two checks called {label!r}", next_step="give one a name=")


def suite(name: str, checks: Sequence[Check]) -> Suite:
    """A suite of these checks."""
    return Suite(name, tuple(checks))


def not_null(*columns: str, severity: str = "error", tolerate: float = 0.0, name: str = "") -> Check:
    """Each of the columns has a value in every row. NaN counts as a value."""
    return _check("not_null", columns, {}, severity, tolerate, name)


def unique(*columns: str, severity: str = "error", tolerate: float = 0.0, name: str = "") -> Check:
    """No two rows agree in all of the columns. Rows in which one of them is null are left out."""
    return _check("unique", columns, {}, severity, tolerate, name)


def between(
    column: str,
    low: Any = None,
    high: Any = None,
    *,
    severity: str = "error",
    tolerate: float = 0.0,
    name: str = "",
) -> Check:
    """Values lie from `low` to `high`, both included; None leaves a side open. Nulls pass, NaN does not.

    Raises:
        Invalid: both sides are open.
    """
    if low is None and high is None:
        raise Invalid(f"between({column!r}) has no bound", next_step="give low=, high= or both")
    return _check("between", (column,), {"low": low, "high": high}, severity, tolerate, name)


def in_set(
    column: str, values: Sequence[Any], *, severity: str = "error", tolerate: float = 0.0, name: str = ""
) -> Check:
    """Values are among `values`. Nulls pass."""
    return _check("in_set", (column,), {"values": list(values)}, severity, tolerate, name)


def matches(column: str, pattern: str, *, severity: str = "error", tolerate: float = 0.0, name: str = "") -> Check:
    """The whole text matches the regular expression (Rust's syntax). Nulls pass."""
    return _check("matches", (column,), {"pattern": pattern}, severity, tolerate, name)


def row_count(low: int = 1, high: int | None = None, *, severity: str = "error", name: str = "") -> Check:
    """The table has from `low` to `high` rows."""
    return _check("row_count", (), {"low": low, "high": high}, severity, 0.0, name)


def column_types(types: Mapping[str, str | DType], *, severity: str = "error", name: str = "") -> Check:
    """Columns have these types, named as in a schema: int64, float64, string, timestamp and so on."""
    wanted = {column: DType(dtype).value for column, dtype in types.items()}
    return _check("column_types", tuple(types), {"types": wanted}, severity, 0.0, name)


def no_missing_columns(*columns: str, severity: str = "error", name: str = "") -> Check:
    """The table has all of these columns; it may have more."""
    return _check("no_missing_columns", columns, {}, severity, 0.0, name)


def freshness(column: str, within: timedelta, *, severity: str = "error", name: str = "") -> Check:
    """The newest time in the column is at most `within` older than the workspace's clock."""
    return _check("freshness", (column,), {"within_s": within.total_seconds()}, severity, 0.0, name)


def expression(condition: pl.Expr | str, *, name: str, severity: str = "error", tolerate: float = 0.0) -> Check:
    """The condition holds in every row: a Polars expression or SQL text. A row in which it is null passes.

    Raises:
        Invalid: the condition calls a Python function, or the SQL is malformed.
    """
    return _check("expression", (), {"condition": freeze(condition)}, severity, tolerate, name)


def _check(
    kind: str, columns: Sequence[str], params: dict[str, Any], severity: str, tolerate: float, name: str
) -> Check:
    if not 0.0 <= tolerate <= 1.0:
        raise Invalid(f"tolerate={tolerate} is not a share", next_step="give a number from 0 to 1")
    try:
        chosen = Severity(severity)
    except ValueError:
        raise Invalid(f"there is no severity {severity!r}", next_step="use 'error' or 'warn'") from None
    if kind in {"not_null", "unique", "no_missing_columns"} and not columns:
        raise Invalid(f"{kind}() names no column", next_step=f"write {kind}('column', ...)")
    return Check(kind, tuple(columns), params, chosen, tolerate, name)
