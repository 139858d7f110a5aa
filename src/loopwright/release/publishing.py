"""What the inference process follows: a small file, written from the database's truth and never ahead of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from types import MappingProxyType
from typing import Any

import msgspec
from filelock import FileLock
from sqlalchemy import Connection, Row, select

from loopwright.core import Unavailable, encode, parse_ref
from loopwright.models import Signed, signatures_of, signatures_stamp
from loopwright.release.model import Endpoint, Share
from loopwright.release.tables import endpoints, serving_revisions
from loopwright.serve import LogPolicy, ServedEndpoint, ServingState, Variant, write_state
from loopwright.store import Database, Stores

_LOCK_S = 30.0


def state_file(data: Path) -> Path:
    """Where the state is, in a workspace's data folder."""
    return data / "serving" / "state.json"


def raise_revision(db: Database, tx: Connection) -> int:
    """Count a change of what is served, in the transaction of the change; the new revision."""
    tx.execute(db.upsert(serving_revisions, {"id": 1, "revision": 0}, ["id"]))
    counter = serving_revisions.update().where(serving_revisions.c.id == 1)
    tx.execute(counter.values(revision=serving_revisions.c.revision + 1))
    return int(tx.execute(select(serving_revisions.c.revision)).scalar_one())


def serving_revision(stores: Stores) -> int:
    """How often what is served has changed."""
    with stores.db.read() as connection:
        return connection.execute(select(serving_revisions.c.revision)).scalar_one_or_none() or 0


def serving_stamp(stores: Stores) -> tuple[int, int, datetime | None]:
    """What changes whenever the file has to be written again: traffic was changed, or a signature was brought."""
    with stores.db.read() as connection:
        revision = connection.execute(select(serving_revisions.c.revision)).scalar_one_or_none() or 0
        return revision, *signatures_stamp(connection)


def served_state(stores: Stores) -> ServingState:
    """What is to be served now, of all projects, as the database has it; an endpoint without a version is left out."""
    with stores.db.read() as connection:
        revision = connection.execute(select(serving_revisions.c.revision)).scalar_one_or_none() or 0
        rows = connection.execute(select(endpoints).order_by(endpoints.c.name)).all()
        signed = _signed(connection, rows)
    served = tuple(
        ServedEndpoint(
            name=row.name,
            salt=row.salt,
            variants=variants_of(_shares(row), signed[row.project]),
            log=msgspec.convert(row.log, LogPolicy),
            rollout=row.rollout,
            project=row.project,
        )
        for row in rows
        if row.shares
    )
    return ServingState(revision=revision, endpoints=served)


def publish(stores: Stores) -> ServingState:
    """Bring the file up to the database. Safe at any time and from several processes: the newest truth stays.

    Raises:
        Unavailable: the file cannot be written.
    """
    path = state_file(stores.data)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # Read under the lock: whoever writes last has also read last.
        with FileLock(path.with_suffix(".lock"), timeout=_LOCK_S):
            state = served_state(stores)
            if not path.exists() or path.read_bytes() != encode(state):
                write_state(path, state)
    except OSError as error:
        raise Unavailable(
            f"what is served cannot be published: {error.strerror or error}",
            next_step="free some space, or make the workspace writable",
        ) from error
    return state


def variant_name(model: str) -> str:
    """What a version is called among an endpoint's variants: `v3` for `model:delay@3`."""
    return f"v{parse_ref(model, 'model').selector}"


def shares_of(endpoint: Endpoint) -> dict[str, float]:
    """Traffic by model ref, shadows left out."""
    return {share.model: share.weight for share in endpoint.shares if not share.shadow}


def variants_of(
    shares: tuple[Share, ...], signatures: Mapping[str, tuple[Signed, ...]] = MappingProxyType({})
) -> tuple[Variant, ...]:
    """Shares as the inference process knows them, with the signatures over their bundles."""
    return tuple(
        Variant(
            name=variant_name(share.model),
            model=share.model,
            bundle=share.bundle,
            weight=share.weight,
            shadow=share.shadow,
            signatures=tuple(item.signature for item in signatures.get(share.bundle, ())),
        )
        for share in shares
    )


def _shares(row: Row[Any]) -> tuple[Share, ...]:
    found: tuple[Share, ...] = msgspec.convert(row.shares, tuple[Share, ...])
    return found


def _signed(connection: Connection, rows: Sequence[Row[Any]]) -> dict[str, dict[str, tuple[Signed, ...]]]:
    """By project and bundle, the signatures over what endpoints serve."""
    bundles: dict[str, set[str]] = {row.project: set() for row in rows}
    for row in rows:
        bundles[row.project].update(share.bundle for share in _shares(row))
    return {project: signatures_of(connection, project, sorted(names)) for project, names in bundles.items()}
