"""What this room keeps in the object store: the bundles of model versions; and what no version may lose."""

from __future__ import annotations

from sqlalchemy import String, cast, select

from loopwright.models.collecting import forget_lapsed, lapse, roots
from loopwright.models.tables import model_signatures, model_versions
from loopwright.store import Holding, of_ref

__all__ = ["HOLDINGS", "forget_lapsed", "lapse", "roots"]

_columns, _signed = model_versions.c, model_signatures.c
_same = (_columns.project == _signed.project) & (_columns.bundle == _signed.bundle)
_ref = "model:" + _columns.name + "@" + cast(_columns.version, String)

HOLDINGS = (
    Holding("bundles of model versions", select(_columns.bundle, of_ref(_columns.project, _ref))),
    Holding(
        "signatures over bundles",
        select(_signed.signature, of_ref(_columns.project, _ref)).join(model_versions, _same),
        trees=False,
    ),
)
