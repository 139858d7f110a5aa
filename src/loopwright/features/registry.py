"""Which views and services are applied: the queries of this room."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any, NamedTuple

from sqlalchemy import Connection, select, update

from loopwright.core import NotFound, Scope
from loopwright.data import dump_dtypes, load_dtypes
from loopwright.features.definitions import FeatureService, FeatureView, RequestView
from loopwright.features.keeping import body_of, digest_of, view_of
from loopwright.features.model import ServiceRecord, ViewRecord
from loopwright.features.tables import feature_services as services
from loopwright.features.tables import feature_views as views

if TYPE_CHECKING:
    import polars as pl

    from loopwright.store import Stores


class State(NamedTuple):
    """An applied view and how far it is materialised.

    Attributes:
        types: of its keys and features, as last written online; empty before.
        until: rows seen by then are online; `version`: of the dataset they were taken from.
        held: whether that version had rows that were seen only later.
    """

    view: FeatureView | RequestView
    number: int
    digest: str
    types: Mapping[str, pl.DataType]
    until: datetime | None
    version: int | None
    held: bool

    @property
    def ref(self) -> str:
        """The ref of the applied definition."""
        return f"feature:{self.view.name}@{self.number}"


class FeatureRegistry:
    """The applied definitions of one project."""

    def __init__(self, stores: Stores, scope: Scope) -> None:
        self._stores, self._scope = stores, scope

    def apply(self, tx: Connection, view: FeatureView | RequestView) -> tuple[str, bool]:
        """Keep a view's definition; its ref, and whether it is new or changed."""
        digest, before = digest_of(view), self._row(tx, view.name)
        if before is not None and before.digest == digest:
            return f"feature:{view.name}@{before.version}", False
        number = before.version + 1 if before is not None else 1
        row: dict[str, Any] = {
            "project": self._scope.project,
            "name": view.name,
            "version": number,
            "digest": digest,
            "body": body_of(view),
            "types": [],
            "applied_at": self._stores.clock.now(),
            "materialised_until": None,
            "materialised_version": None,
            "materialised_held": False,
        }
        changed = [name for name in row if name not in {"project", "name"}]
        tx.execute(self._stores.db.upsert(views, row, ["project", "name"], changed))
        return f"feature:{view.name}@{number}", True

    def apply_service(self, tx: Connection, service: FeatureService) -> None:
        """Keep a service's definition."""
        row = {
            "project": self._scope.project,
            "name": service.name,
            "body": {"features": list(service.features), "description": service.description},
            "applied_at": self._stores.clock.now(),
        }
        tx.execute(self._stores.db.upsert(services, row, ["project", "name"], ["body", "applied_at"]))

    def state(self, name: str, *, code: bool = True) -> State:
        """An applied view. Without `code` a transform that is not at hand is left out: for reading what is online.

        Raises:
            NotFound: there is none of that name.
            Conflict: its transform is not at hand, or changed.
        """
        with self._stores.db.read() as connection:
            row = self._row(connection, name)
        if row is None:
            known = ", ".join(record.name for record in self.list()) or "none"
            raise NotFound(f"there is no feature view {name!r}", next_step=f"apply it first; known: {known}")
        return State(
            view_of(name, row.body, row.digest, self._stores.root if code else None),
            row.version,
            row.digest,
            load_dtypes(row.types),
            row.materialised_until,
            row.materialised_version,
            row.materialised_held,
        )

    def list(self) -> list[ViewRecord]:
        """The applied views by name."""
        query = select(views).where(views.c.project == self._scope.project).order_by(views.c.name)
        with self._stores.db.read() as connection:
            return [_record(row) for row in connection.execute(query)]

    def get(self, name: str) -> ViewRecord:
        """The record of an applied view; its code is not needed.

        Raises:
            NotFound: there is none of that name.
        """
        with self._stores.db.read() as connection:
            row = self._row(connection, name)
        if row is None:
            raise NotFound(f"there is no feature view {name!r}", next_step="loopwright features list shows them all")
        return _record(row)

    def service(self, name: str) -> FeatureService:
        """A service.

        Raises:
            NotFound: there is none of that name.
        """
        query = select(services.c.body).where(services.c.project == self._scope.project, services.c.name == name)
        with self._stores.db.read() as connection:
            body = connection.execute(query).scalar_one_or_none()
        if body is None:
            raise NotFound(f"there is no feature service {name!r}", next_step="apply it first")
        return FeatureService(name, body["features"], description=body["description"])

    def services(self) -> tuple[ServiceRecord, ...]:
        """The services by name."""
        query = select(services).where(services.c.project == self._scope.project).order_by(services.c.name)
        with self._stores.db.read() as connection:
            rows = connection.execute(query).all()
        return tuple(
            ServiceRecord(row.name, tuple(row.body["features"]), row.applied_at, row.body["description"])
            for row in rows
        )

    def advance(self, tx: Connection, state: State, until: datetime | None, version: int | None, held: bool) -> bool:
        """Note how far a view is materialised; False if it was applied anew meanwhile."""
        values = {"materialised_until": until, "materialised_version": version, "materialised_held": held}
        return bool(tx.execute(update(views).where(*self._is(state)).values(values)).rowcount)

    def keep_types(self, state: State, types: Mapping[str, pl.DataType]) -> None:
        """Note the types of a view's online rows."""
        if dict(types) == dict(state.types):
            return
        with self._stores.db.begin() as tx:
            tx.execute(update(views).where(*self._is(state)).values(types=dump_dtypes(types)))

    def _is(self, state: State) -> tuple[Any, ...]:
        return (
            views.c.project == self._scope.project,
            views.c.name == state.view.name,
            views.c.digest == state.digest,
        )

    def _row(self, connection: Connection, name: str) -> Any:
        query = select(views).where(views.c.project == self._scope.project, views.c.name == name)
        return connection.execute(query).one_or_none()


def _record(row: Any) -> ViewRecord:
    body = row.body
    origin = f"dataset:{body['source']}@{row.materialised_version}" if row.materialised_version else ""
    return ViewRecord(
        name=row.name,
        version=row.version,
        ref=f"feature:{row.name}@{row.version}",
        digest=row.digest,
        kind=body["kind"],
        applied_at=row.applied_at,
        features=dict(body["features"]),
        entity=body.get("entity", ""),
        keys=tuple(body.get("keys", ())),
        source=body.get("source", ""),
        timestamp=body.get("timestamp", ""),
        known_at=body.get("known_at", ""),
        transform=body.get("transform", ""),
        ttl_s=body.get("ttl_s"),
        lookback_s=body.get("lookback_s"),
        description=body["description"],
        materialised_until=row.materialised_until,
        materialised_from=origin,
    )
