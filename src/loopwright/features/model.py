"""The records of this room: what is kept and told of features."""

from __future__ import annotations

from datetime import datetime

import msgspec


class ViewRecord(msgspec.Struct, frozen=True):
    """A feature view as it is kept.

    Attributes:
        version: counts the changes of its definition.
        digest: of the definition; online rows of another definition are never read.
        kind: `batch` or `request`.
        features: name -> expression, as text.
        types: name -> type of each feature and key, as last computed; empty before.
        transform: `module:function`, or empty.
        materialised_until: rows known up to then are online; None if there are none.
        materialised_from: the dataset version that they were last taken from.
    """

    name: str
    version: int
    ref: str
    digest: str
    kind: str
    applied_at: datetime
    features: dict[str, str]
    entity: str = ""
    keys: tuple[str, ...] = ()
    source: str = ""
    timestamp: str = ""
    known_at: str = ""
    transform: str = ""
    ttl_s: float | None = None
    lookback_s: float | None = None
    description: str = ""
    materialised_until: datetime | None = None
    materialised_from: str = ""


class ServiceRecord(msgspec.Struct, frozen=True):
    """A feature service as it is kept."""

    name: str
    features: tuple[str, ...]
    applied_at: datetime
    description: str = ""


class MaterialiseReport(msgspec.Struct, frozen=True):
    """What a materialisation did.

    Attributes:
        dataset: the version that the rows were taken from.
        rows: rows that were looked at; `keys`: entities whose row was written online.
        incremental: whether only what is new since the last time was looked at.
    """

    view: str
    ref: str
    dataset: str
    since: datetime | None
    until: datetime
    rows: int
    keys: int
    incremental: bool
    seconds: float


class PushReport(msgspec.Struct, frozen=True):
    """What a push did: how many rows came, and for how many entities the newest was written."""

    view: str
    rows: int
    keys: int
    dataset: str = ""


class Skew(msgspec.Struct, frozen=True):
    """How the online values of a view compare with what a point-in-time join gives for the same moment.

    `mismatches` is feature -> number of entities whose two values differ.
    """

    view: str
    at: datetime
    keys: int
    mismatches: dict[str, int]
