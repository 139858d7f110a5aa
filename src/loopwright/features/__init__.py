"""Features: definitions, point-in-time joins, and the newest values online.

The face is lazy (PEP 562): importing it loads neither SQL nor a data-frame library; a name loads its own part only.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from loopwright.features.definitions import Entity, FeatureService, FeatureView, RequestView
    from loopwright.features.lookup import FeatureLookup, LookupReader, Unknown, merged, read_lookup, write_lookup
    from loopwright.features.model import MaterialiseReport, PushReport, ServiceRecord, Skew, ViewRecord
    from loopwright.features.service import FeatureStore

_HOMES = {
    "definitions": ("Entity", "FeatureService", "FeatureView", "RequestView"),
    "lookup": ("FeatureLookup", "LookupReader", "Unknown", "merged", "read_lookup", "write_lookup"),
    "model": ("MaterialiseReport", "PushReport", "ServiceRecord", "Skew", "ViewRecord"),
    "service": ("FeatureStore",),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [
    "Entity",
    "FeatureLookup",
    "FeatureService",
    "FeatureStore",
    "FeatureView",
    "LookupReader",
    "MaterialiseReport",
    "PushReport",
    "RequestView",
    "ServiceRecord",
    "Skew",
    "Unknown",
    "ViewRecord",
    "merged",
    "read_lookup",
    "write_lookup",
]


def __getattr__(name: str) -> Any:
    home = _HOME_OF.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{home}"), name)
    globals()[name] = value
    return value
