"""Runs a suite: every check of it in ONE lazy query, then one more for samples of failing rows if any failed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

import msgspec

from loopwright.core import Invalid
from loopwright.data.checks.rules import Plan, Table, plan
from loopwright.data.checks.suite import Check, Severity, Suite
from loopwright.data.model import CheckResult

if TYPE_CHECKING:
    import polars as pl

SAMPLE_ROWS = 5
FAILED_CHECKS = "_failed_checks"
_ROW = "__loopwright_row"


def run_suite(frame: pl.LazyFrame, suite: Suite, now: datetime) -> tuple[int, tuple[CheckResult, ...]]:
    """The number of rows, and what each check of the suite found in them. Streams: memory is bounded by the engine's
    batches, and by eight bytes a row for each `unique`.

    Raises:
        Invalid: a check is malformed, or does not fit its column's type.
    """
    plans = plans_of(frame, suite, now)
    measured = _measure(frame, suite, plans)
    samples = _samples(frame, {i: measured[f"{i}.rows"] for i, p in enumerate(plans) if p.failing is not None})
    results = [_result(check, plans[i], measured, i, samples.get(i, ())) for i, check in enumerate(suite.checks)]
    return measured["rows"], tuple(results)


def plans_of(frame: pl.LazyFrame, suite: Suite, now: datetime) -> list[Plan]:
    """The plan of every check of the suite over this table."""
    table = Table(dict(frame.collect_schema()), now)
    return [plan(check, table) for check in suite.checks]


def row_filter(plans: Sequence[Plan], suite: Suite, severity: Severity) -> tuple[pl.Expr, pl.Expr]:
    """Two expressions over rows: whether any check of rows of that severity fails, and the list of the failed names."""
    import polars as pl

    chosen = [
        (check.label, p.failing.fill_null(False))
        for check, p in zip(suite.checks, plans, strict=True)
        if p.failing is not None and check.severity == severity
    ]
    if not chosen:
        raise Invalid(
            f"suite {suite.name!r} has no check of rows with severity {severity}",
            next_step="quarantine needs not_null, unique, between, in_set, matches or expression",
        )
    names = pl.concat_list([pl.when(failing).then(pl.lit(label)) for label, failing in chosen]).list.drop_nulls()
    return pl.any_horizontal([failing for _, failing in chosen]), names


def _measure(frame: pl.LazyFrame, suite: Suite, plans: Sequence[Plan]) -> Mapping[str, Any]:
    import polars as pl

    wanted = [pl.len().alias("rows")]
    for i, p in enumerate(plans):
        if p.failing is not None:
            failing = p.failing.fill_null(False)
            wanted.append(failing.sum().alias(f"{i}.failing"))
            wanted.append(pl.col(_ROW).filter(failing).head(SAMPLE_ROWS).implode().alias(f"{i}.rows"))
        wanted.extend(value.alias(f"{i}.{name}") for name, value in p.measures.items())
    try:
        row = frame.with_row_index(_ROW).select(wanted).collect(engine="streaming").row(0, named=True)
    except pl.exceptions.PolarsError as error:
        raise _blame(frame, suite, plans, error) from None
    return row


def _blame(frame: pl.LazyFrame, suite: Suite, plans: Sequence[Plan], error: Exception) -> Exception:
    """Which check does not fit the table: each is tried on its own, over no rows."""
    import polars as pl

    for check, p in zip(suite.checks, plans, strict=True):
        wanted = [*p.measures.values(), *([p.failing] if p.failing is not None else [])]
        try:
            frame.head(0).select(wanted).collect()
        except pl.exceptions.PolarsError as cause:
            return Invalid(
                f"check {check.label!r} of suite {suite.name!r} does not fit the table: {_first_line(cause)}",
                next_step="compare the check with the types of the columns",
            )
    return error


def _samples(frame: pl.LazyFrame, rows: Mapping[int, Sequence[int]]) -> dict[int, tuple[dict[str, Any], ...]]:
    import polars as pl

    wanted = sorted({row for found in rows.values() for row in found})
    if not wanted:
        return {}
    chosen = frame.with_row_index(_ROW).filter(pl.col(_ROW).is_in(wanted)).collect(engine="streaming")
    by_row = {row[_ROW]: _plain({k: v for k, v in row.items() if k != _ROW}) for row in chosen.iter_rows(named=True)}
    return {i: tuple(by_row[row] for row in found) for i, found in rows.items()}


def _plain(row: dict[str, Any]) -> dict[str, Any]:
    plain: dict[str, Any] = msgspec.to_builtins(row)
    return plain


def _result(
    check: Check, p: Plan, measured: Mapping[str, Any], i: int, sample: tuple[dict[str, Any], ...]
) -> CheckResult:
    observed = {name: measured[f"{i}.{name}"] for name in p.measures}
    verdict = p.known or (p.judge({"rows": measured["rows"], **observed}) if p.judge is not None else None)
    if verdict is not None:
        return _named(check, passed=verdict.passed, message=verdict.message, observed=observed)
    failing, rows = int(measured[f"{i}.failing"]), int(measured["rows"])
    fraction = failing / rows if rows else 0.0
    message = f"{failing} of {rows} rows fail ({fraction:.2%})" if failing else f"all {rows} rows pass"
    if failing and check.tolerate:
        message += f"; up to {check.tolerate:.2%} are tolerated"
    return _named(
        check,
        passed=fraction <= check.tolerate,
        message=message,
        failing_rows=failing,
        fraction=fraction,
        observed=observed,
        sample=sample,
    )


def _named(check: Check, **found: Any) -> CheckResult:
    return CheckResult(name=check.label, kind=check.kind, columns=check.columns, severity=check.severity.value, **found)


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0]
