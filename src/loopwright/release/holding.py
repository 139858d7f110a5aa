"""What this room keeps in the object store: the bundles that endpoints serve; and the versions that it may need."""

from __future__ import annotations

from collections.abc import Iterator

from sqlalchemy import Connection, Text, select, type_coerce

from loopwright.release.model import ApprovalState, RolloutState
from loopwright.release.tables import approvals, endpoints, rollouts
from loopwright.store import Holding

HOLDINGS = (Holding("bundles that endpoints serve", select(type_coerce(endpoints.c.shares, Text))),)
_ACTIVE = [state for state in RolloutState if state.active]


def roots(connection: Connection) -> Iterator[tuple[str, str]]:
    """What endpoints serve and could go back to, what rollouts that are under way compare, what waits for a yes."""
    for row in connection.execute(select(endpoints)):
        yield from ((row.project, ref) for ref in (row.stable, row.previous) if ref)
        yield from ((row.project, share["model"]) for share in row.shares)
    for row in connection.execute(select(rollouts).where(rollouts.c.state.in_(_ACTIVE))):
        yield from ((row.project, ref) for ref in (row.control, row.candidate) if ref)
    for row in connection.execute(select(approvals).where(approvals.c.state == ApprovalState.REQUESTED)):
        yield row.project, row.model
