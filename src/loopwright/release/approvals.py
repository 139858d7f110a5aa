"""Approvals: a recorded yes or no, by a person or by a loop's policy. Each is decided once."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, Row, select, update

from loopwright.core import Conflict, NotFound, Scope, new_id, operation, parse_ref
from loopwright.release.model import Approval, ApprovalState
from loopwright.release.tables import approvals
from loopwright.store import Stores

Approvals = list[Approval]


class ApprovalService:
    """Asks for approvals and records what people say. Thread-safe."""

    def __init__(self, stores: Stores, scope: Scope) -> None:
        self.stores, self.scope = stores, scope

    @operation("approvals.list", permission="approvals:read")
    def list(self, state: ApprovalState | None = None, limit: int = 100, after: str = "") -> Approvals:
        """Approvals, newest first; `after` is the id of the last one of the page before this one."""
        query = select(approvals).where(approvals.c.project == self.scope.project)
        if state is not None:
            query = query.where(approvals.c.state == state.value)
        if after:
            query = query.where(approvals.c.id < after)
        with self.stores.db.read() as connection:
            rows = connection.execute(query.order_by(approvals.c.id.desc()).limit(limit))
            return [_approval(row) for row in rows]

    @operation("approvals.get", permission="approvals:read")
    def get(self, id: str) -> Approval:
        """One approval, by its id or ref.

        Raises:
            NotFound: there is none.
        """
        with self.stores.db.read() as connection:
            return self.find(connection, id)

    @operation("approvals.grant", permission="approvals:write", effect="write")
    def grant(self, id: str, reason: str = "") -> Approval:
        """Say yes: the version may take traffic.

        Raises:
            NotFound: there is no such approval.
            Conflict: it was denied before. Granting twice is one grant.
        """
        return self._decide(id, ApprovalState.GRANTED, reason)

    @operation("approvals.deny", permission="approvals:write", effect="write")
    def deny(self, id: str, reason: str = "") -> Approval:
        """Say no: the version takes no traffic.

        Raises:
            NotFound: there is no such approval.
            Conflict: it was granted before. Denying twice is one denial.
        """
        return self._decide(id, ApprovalState.DENIED, reason)

    def request(self, tx: Connection, *, subject: str, model: str, endpoint: str, evidence: dict[str, Any]) -> Approval:
        """Ask for an approval, in the caller's transaction (event approval.requested)."""
        identifier = new_id()
        event = self.stores.events.append(
            tx,
            "approval.requested",
            f"approval:{identifier}",
            self.scope,
            {"for": subject, "model": model, "endpoint": endpoint, **evidence},
        )
        approval = Approval(
            id=identifier,
            subject=subject,
            model=model,
            endpoint=endpoint,
            state=ApprovalState.REQUESTED,
            requested_at=event.at,
            requested_by=self.scope.actor,
            event=event.ref,
        )
        values = {name: getattr(approval, name) for name in Approval.__struct_fields__}
        tx.execute(approvals.insert().values(project=self.scope.project, **values))
        return approval

    def decide(self, tx: Connection, approval: Approval, state: ApprovalState, reason: str) -> Approval:
        """Record a yes or no in the caller's transaction (event approval.granted or approval.denied).

        Raises:
            Conflict: it was decided otherwise before.
        """
        identity = approvals.c.id == approval.id
        current = ApprovalState(tx.execute(select(approvals.c.state).where(identity).with_for_update()).scalar_one())
        if current is state:
            return self.find(tx, approval.id)
        if current is not ApprovalState.REQUESTED:
            raise Conflict(
                f"approval {approval.id} was {current.value} already and cannot be {state.value}",
                next_step=f"loopwright approvals get {approval.id}",
            )
        told = {"for": approval.subject, "model": approval.model, "endpoint": approval.endpoint, "reason": reason}
        event = self.stores.events.append(
            tx, f"approval.{state.value}", f"approval:{approval.id}", self.scope, told, cause=approval.event
        )
        changes = {
            "state": state.value,
            "decided_at": event.at,
            "decided_by": self.scope.actor,
            "reason": reason,
            "event": event.ref,
        }
        tx.execute(update(approvals).where(identity).values(**changes))
        return self.find(tx, approval.id)

    def find(self, connection: Connection, id: str) -> Approval:
        """One approval, read in the caller's transaction.

        Raises:
            NotFound: there is none.
        """
        identifier = parse_ref(id, "approval").name
        query = select(approvals).where(approvals.c.id == identifier, approvals.c.project == self.scope.project)
        row = connection.execute(query).one_or_none()
        if row is None:
            raise NotFound(f"there is no approval {identifier!r}", next_step="loopwright approvals list")
        return _approval(row)

    def _decide(self, id: str, state: ApprovalState, reason: str) -> Approval:
        with self.stores.db.begin() as tx:
            return self.decide(tx, self.find(tx, id), state, reason)


def _approval(row: Row[Any]) -> Approval:
    values = {name: row._mapping[name] for name in Approval.__struct_fields__}
    return Approval(**{**values, "state": ApprovalState(values["state"])})
