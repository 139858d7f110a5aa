"""The monitors that were declared: kept, changed, listed."""

from __future__ import annotations

from typing import Any

import msgspec
from sqlalchemy import Connection, Row, delete, select

from loopwright.core import Conflict, Invalid, NotFound, Scope, check_name
from loopwright.monitor.model import DriftPolicy, Monitor, MonitorInfo, PerformancePolicy
from loopwright.monitor.tables import monitor_windows, monitored_endpoints, monitors
from loopwright.store import Stores

_SHORTEST_WINDOW_S = 1.0


def check_monitor(monitor: Monitor) -> None:
    """Refuse a monitor that cannot be followed.

    Raises:
        Invalid: a malformed name, or a number out of range; the message names the field.
    """
    check_name("monitor", monitor.name)
    check_name("endpoint", monitor.endpoint)
    _at_least(monitor.window_s, _SHORTEST_WINDOW_S, "window_s")
    _at_least(monitor.lateness_s, 0.0, "lateness_s")
    _at_least(monitor.label_delay_s, 0.0, "label_delay_s")
    if monitor.drift is not None:
        _check_drift(monitor.drift)
    if monitor.performance is not None:
        _check_performance(monitor.performance)


def save(stores: Stores, tx: Connection, scope: Scope, monitor: Monitor) -> MonitorInfo:
    """Keep a monitor under its name; nothing changes if it is kept like this already.

    Windows that are still open start anew when the width of the windows or the endpoint changes.

    Raises:
        Conflict: the endpoint belongs to another project.
    """
    held = find(tx, scope.project, monitor.name)
    if held is not None and held.monitor == monitor:
        return held
    _claim_endpoint(stores, tx, scope.project, monitor.endpoint)
    if held is not None and (held.monitor.window_s, held.monitor.endpoint) != (monitor.window_s, monitor.endpoint):
        table = monitor_windows
        open_windows = (table.c.project == scope.project, table.c.monitor == monitor.name, table.c.stage < 2)
        tx.execute(delete(table).where(*open_windows))
    info = MonitorInfo(
        monitor=monitor,
        project=scope.project,
        revision=1 if held is None else held.revision + 1,
        applied_at=stores.clock.now(),
        applied_by=scope.actor,
    )
    row = {
        "project": scope.project,
        "name": monitor.name,
        "endpoint": monitor.endpoint,
        "spec": msgspec.to_builtins(monitor),
        "revision": info.revision,
        "applied_at": info.applied_at,
        "applied_by": info.applied_by,
    }
    changed = ["endpoint", "spec", "revision", "applied_at", "applied_by"]
    tx.execute(stores.db.upsert(monitors, row, ["project", "name"], changed))
    evidence = {"revision": info.revision, "endpoint": monitor.endpoint}
    stores.events.append(tx, "monitor.applied", f"monitor:{monitor.name}", scope, evidence)
    return info


def find(connection: Connection, project: str, name: str) -> MonitorInfo | None:
    """The monitor of that name, if there is one."""
    query = select(monitors).where(monitors.c.project == project, monitors.c.name == name)
    row = connection.execute(query).first()
    return None if row is None else _info(row)


def get(connection: Connection, project: str, name: str) -> MonitorInfo:
    """The monitor of that name.

    Raises:
        NotFound: there is none.
    """
    found = find(connection, project, name)
    if found is None:
        raise NotFound(f"there is no monitor {name!r}", next_step="loopwright monitors list shows those that there are")
    return found


def project_monitors(connection: Connection, project: str, limit: int = 10_000, after: str = "") -> list[MonitorInfo]:
    """A project's monitors by name, behind the name `after`."""
    query = select(monitors).where(monitors.c.project == project, monitors.c.name > after)
    return [_info(row) for row in connection.execute(query.order_by(monitors.c.name).limit(limit))]


def _claim_endpoint(stores: Stores, tx: Connection, project: str, endpoint: str) -> None:
    table = monitored_endpoints
    tx.execute(stores.db.upsert(table, {"endpoint": endpoint, "project": project, "loss_scale": None}, ["endpoint"]))
    owner = tx.execute(select(table.c.project).where(table.c.endpoint == endpoint)).scalar_one()
    if owner != project:
        raise Conflict(f"the endpoint {endpoint!r} belongs to another project", next_step="choose another endpoint")


def _info(row: Row[Any]) -> MonitorInfo:
    return MonitorInfo(
        monitor=msgspec.convert(row.spec, Monitor),
        project=row.project,
        revision=row.revision,
        applied_at=row.applied_at,
        applied_by=row.applied_by,
    )


def _check_drift(policy: DriftPolicy) -> None:
    _share(policy.alpha, "drift.alpha")
    _at_least(policy.min_effect, 0.0, "drift.min_effect")
    _at_least(policy.min_rows, 1, "drift.min_rows")
    _at_least(policy.min_features, 1, "drift.min_features")
    _at_least(policy.consecutive, 1, "drift.consecutive")


def _check_performance(policy: PerformancePolicy) -> None:
    _share(policy.alpha, "performance.alpha")
    _at_least(policy.max_drop, 0.0, "performance.max_drop")
    _at_least(policy.min_labels, 2, "performance.min_labels")
    _at_least(policy.consecutive, 1, "performance.consecutive")


def _at_least(value: float, least: float, where: str) -> None:
    if not value >= least:
        raise Invalid(f"{value:g} is below {least:g}", where=where)


def _share(value: float, where: str) -> None:
    if not 0 < value < 1:
        raise Invalid(f"{value:g} is not between 0 and 1", where=where, next_step="0.05 is usual")
