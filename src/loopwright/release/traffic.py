"""Changes of an endpoint's traffic, each within the caller's transaction, with its event and lineage."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
from sqlalchemy import Connection, Row, select, update

from loopwright.core import Conflict, NotFound, Scope, parse_ref
from loopwright.models import ModelService
from loopwright.release.model import Endpoint, Share
from loopwright.release.publishing import raise_revision, shares_of
from loopwright.release.tables import endpoints
from loopwright.serve import LogPolicy
from loopwright.store import Event, Stores

CHAMPION = "champion"


def find_endpoint(connection: Connection, scope: Scope, name: str) -> Endpoint:
    """One endpoint of the scope's project.

    Raises:
        NotFound: there is none of that name.
    """
    plain = name.removeprefix("endpoint:")
    query = select(endpoints).where(endpoints.c.name == plain, endpoints.c.project == scope.project)
    row = connection.execute(query).one_or_none()
    if row is None:
        raise NotFound(f"there is no endpoint {plain!r}", next_step="loopwright endpoints list")
    return endpoint_of(row)


def previous_of(connection: Connection, name: str) -> str:
    """The version that was stable before the one that is; empty if none was."""
    return str(connection.execute(select(endpoints.c.previous).where(endpoints.c.name == name)).scalar_one())


def endpoint_of(row: Row[Any]) -> Endpoint:
    """The endpoint in a row."""
    values = {name: row._mapping[name] for name in Endpoint.__struct_fields__}
    shares, log = msgspec.convert(values["shares"], tuple[Share, ...]), msgspec.convert(values["log"], LogPolicy)
    return Endpoint(**{**values, "shares": shares, "log": log})


def split(stable: Share | None, candidate: Share, share: float) -> tuple[Share, ...]:
    """The candidate with `share` of the traffic and the stable version, if there is one, with the rest."""
    change = msgspec.structs.replace
    if stable is None or share >= 1.0:
        return (change(candidate, weight=1.0),)
    if share <= 0.0:
        return (change(stable, weight=1.0),)
    return (change(candidate, weight=share), change(stable, weight=round(1.0 - share, 9)))


def change_traffic(
    stores: Stores,
    tx: Connection,
    scope: Scope,
    endpoint: Endpoint,
    *,
    shares: Sequence[Share],
    stable: str,
    rollout: str,
    reason: str,
    cause: str,
) -> Event:
    """Give an endpoint other shares (event endpoint.traffic_set; lineage model → endpoint). With another stable
    version, the alias `champion` of its model moves too (event model.alias_moved).

    Raises:
        Conflict: somebody else changed it since `endpoint` was read.
    """
    previous = previous_of(tx, endpoint.name) if stable == endpoint.stable else endpoint.stable
    values = {
        "shares": msgspec.to_builtins(tuple(shares)),
        "stable": stable,
        "previous": previous,
        "rollout": rollout,
        "revision": endpoint.revision + 1,
    }
    same = (endpoints.c.name == endpoint.name) & (endpoints.c.revision == endpoint.revision)
    if tx.execute(update(endpoints).where(same).values(**values)).rowcount != 1:
        raise Conflict(f"the traffic of endpoint {endpoint.name!r} was changed by somebody else", next_step="try again")
    raise_revision(stores.db, tx)
    for share in shares:
        stores.lineage.edge(tx, share.model, f"endpoint:{endpoint.name}", "serves", scope.project)
    after = {share.model: share.weight for share in shares if not share.shadow}
    told: dict[str, Any] = {"before": shares_of(endpoint), "after": after, "stable": stable, "reason": reason}
    if rollout:
        told["rollout"] = f"rollout:{rollout}"
    event = stores.events.append(tx, "endpoint.traffic_set", f"endpoint:{endpoint.name}", scope, told, cause=cause)
    if stable != endpoint.stable:
        _crown(stores, tx, scope.because(event.ref), stable)
    return event


def _crown(stores: Stores, tx: Connection, scope: Scope, stable: str) -> None:
    ref = parse_ref(stable, "model")
    stores.db.lock(tx, f"model {scope.project}/{ref.name}")
    ModelService(stores, scope).move_alias(tx, ref.name, CHAMPION, int(ref.selector))
