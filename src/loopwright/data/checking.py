"""Suites kept by name, run over versions, their reports kept; and quarantine."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import msgspec
from sqlalchemy import insert, select

from loopwright.core import Conflict, NotFound, Scope, check_name, new_id
from loopwright.data.catalogue import Catalogue
from loopwright.data.checks.judge import FAILED_CHECKS, plans_of, row_filter, run_suite
from loopwright.data.checks.suite import Severity, Suite
from loopwright.data.model import CheckReport, DatasetVersion, Mode, Quarantine
from loopwright.data.sources.frames import frame_source
from loopwright.data.tables import dataset_checks, dataset_suites
from loopwright.data.writing import Origin, VersionWriter

if TYPE_CHECKING:
    import polars as pl

    from loopwright.store import Stores


class Checking:
    """The suites and check reports of one project."""

    def __init__(self, stores: Stores, scope: Scope, scan: Callable[[str], pl.LazyFrame]) -> None:
        self._stores, self._scope, self._scan = stores, scope, scan

    def check(self, version: DatasetVersion, given: str | Suite) -> CheckReport:
        """Run a suite over a version and keep the report."""
        suite = self._resolved(given)
        now = self._stores.clock.now()
        rows, results = run_suite(self._scan(version.ref), suite, now)
        passed = all(result.passed for result in results if result.severity == Severity.ERROR)
        report = CheckReport(new_id(), version.ref, suite.name, passed, rows, now, results)
        self._keep(version, report)
        return report

    def quarantine(self, version: DatasetVersion, given: str | Suite, into: str) -> Quarantine:
        """Split the newest version into rows that pass and rows that fail."""
        suite, target = self._resolved(given), check_name("dataset", into or f"{version.name}.quarantine")
        head = Catalogue(self._stores.db, self._scope.project).head(version.name)
        if head is None or head.version != version.version:
            newest = head.version if head else 0
            raise Conflict(
                f"{version.ref} is not the newest version; that is {newest}", next_step="quarantine that one"
            )
        frame = self._scan(version.ref)
        fails, names = row_filter(plans_of(frame, suite, self._stores.clock.now()), suite, Severity.ERROR)
        bad = frame.with_columns(names.alias(FAILED_CHECKS)).filter(fails)
        origin = Origin(f"{version.ref} split by suite {suite.name!r}", derived_from=(version.ref,))
        writer = VersionWriter(self._stores, self._scope)
        rows = int(frame.select(fails.sum()).collect(engine="streaming").item())
        if not rows:
            return Quarantine(version, None, 0)
        # The failing rows first: a crash in between loses none of them.
        kept = writer.write_rows(target, frame_source(bad), Mode.REPLACE, origin)
        clean = writer.write_rows(version.name, frame_source(frame.filter(~fails)), Mode.REPLACE, origin)
        return Quarantine(clean, kept, rows)

    def save(self, suite: Suite) -> None:
        """Keep a suite under its name."""
        row = {
            "project": self._scope.project,
            "name": suite.name,
            "body": msgspec.to_builtins(suite),
            "saved_at": self._stores.clock.now(),
        }
        with self._stores.db.begin() as tx:
            tx.execute(self._stores.db.upsert(dataset_suites, row, ["project", "name"], ["body", "saved_at"]))

    def suite(self, name: str) -> Suite:
        """A suite by its name.

        Raises:
            NotFound: there is none.
        """
        table = dataset_suites.c
        with self._stores.db.read() as connection:
            query = select(table.body).where(table.project == self._scope.project, table.name == name)
            body = connection.execute(query).scalar_one_or_none()
        if body is None:
            raise NotFound(f"there is no suite {name!r}", next_step=f"known: {', '.join(self.suites()) or 'none'}")
        return msgspec.convert(body, Suite)

    def suites(self) -> list[str]:
        """The names of all suites."""
        table = dataset_suites.c
        with self._stores.db.read() as connection:
            query = select(table.name).where(table.project == self._scope.project).order_by(table.name)
            return list(connection.execute(query).scalars())

    def reports(self, name: str, limit: int, after: str) -> list[CheckReport]:
        """The reports of a dataset, newest first."""
        table = dataset_checks.c
        query = select(table.report).where(table.project == self._scope.project, table.name == name)
        if after:
            query = query.where(table.id < after)
        with self._stores.db.read() as connection:
            rows = connection.execute(query.order_by(table.id.desc()).limit(limit)).scalars().all()
        return [msgspec.convert(row, CheckReport) for row in rows]

    def _resolved(self, given: str | Suite) -> Suite:
        return self.suite(given) if isinstance(given, str) else given

    def _keep(self, version: DatasetVersion, report: CheckReport) -> None:
        failed = [{"check": r.name, "severity": r.severity, "message": r.message} for r in report.failed]
        evidence: dict[str, Any] = {
            "report": report.id,
            "suite": report.suite,
            "passed": report.passed,
            "checks": len(report.results),
            "rows": report.rows,
            "failed": failed,
        }
        row = {
            "id": report.id,
            "project": self._scope.project,
            "name": version.name,
            "version": version.version,
            "suite": report.suite,
            "passed": report.passed,
            "report": msgspec.to_builtins(report),
            "checked_at": report.checked_at,
        }
        with self._stores.db.begin() as tx:
            tx.execute(insert(dataset_checks).values(row))
            self._stores.events.append(tx, "dataset.checked", version.ref, self._scope, evidence)
