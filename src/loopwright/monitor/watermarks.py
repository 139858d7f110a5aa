"""Up to which event time everything has been seen, so that a window can be judged."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime, timedelta

from sqlalchemy import Connection, bindparam, select, update

from loopwright.core import SystemClock
from loopwright.monitor.batches import Group, moment
from loopwright.monitor.model import Monitor
from loopwright.monitor.tables import monitored_endpoints
from loopwright.store import Stores

GRACE = timedelta(minutes=1)
_LIVE = timedelta(days=1)

WatermarkOf = Callable[[Monitor], datetime]


def watermark(
    now: datetime, wall: datetime, latest: datetime | None, folded_at: datetime | None, width: timedelta
) -> datetime:
    """Up to which event time an endpoint's predictions have come, in a workspace that runs on the machine's clock.

    For live traffic that is now. Where rows of the past are being sent in, it is the newest event time among them,
    until none have come for a minute: else their windows would be judged on the first few rows of each.

    Args:
        now: the workspace's time.
        wall: the machine's time.
        latest: the newest event time that was seen of the endpoint.
        folded_at: when, by the machine's clock, the newest of its rows were read.
        width: of the windows.
    """
    if latest is None or folded_at is None or now - latest <= max(width, _LIVE) or wall - folded_at >= GRACE:
        return now
    return latest


def watermarks(stores: Stores, connection: Connection, project: str, given: datetime | None) -> WatermarkOf:
    """The watermark of each monitor: the one that is given, else the workspace's time, which a simulated clock sets,
    else what the endpoint's traffic says."""
    now, live = given or stores.clock.now(), isinstance(stores.clock, SystemClock)
    if given is not None or not live:
        return lambda _monitor: now
    table, wall = monitored_endpoints, SystemClock().now()
    seen = {
        row.endpoint: (row.latest_event_at, row.folded_at)
        for row in connection.execute(select(table).where(table.c.project == project))
    }

    def of(monitor: Monitor) -> datetime:
        latest, folded_at = seen.get(monitor.endpoint, (None, None))
        return watermark(now, wall, latest, folded_at, timedelta(seconds=monitor.window_s))

    return of


def note_traffic(tx: Connection, groups: Iterable[Group]) -> None:
    """Keep the newest event time of each endpoint, and when its rows were read."""
    newest: dict[str, int] = {}
    for one in groups:
        newest[one.endpoint] = max(newest.get(one.endpoint, 0), int(one.event_us.max()))
    table = monitored_endpoints
    held = {
        row.endpoint: row.latest_event_at
        for row in tx.execute(select(table).where(table.c.endpoint.in_(newest)))
        if row.latest_event_at is not None
    }
    wall = SystemClock().now()
    rows = [
        {"key": name, "latest": max(moment(us), held.get(name, moment(us))), "wall": wall}
        for name, us in newest.items()
    ]
    if rows:
        changed = update(table).where(table.c.endpoint == bindparam("key"))
        tx.execute(changed.values(latest_event_at=bindparam("latest"), folded_at=bindparam("wall")), rows)
