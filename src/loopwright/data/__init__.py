"""Datasets: ingest, versions, profiles, checks.

The face is lazy (PEP 562): importing it loads neither SQL nor a data-frame library; a name loads its own part only.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from loopwright.data.checks.rules import RULES, Plan, Table, Verdict
    from loopwright.data.checks.suite import (
        Check,
        Severity,
        Suite,
        between,
        column_types,
        expression,
        freshness,
        in_set,
        matches,
        no_missing_columns,
        not_null,
        row_count,
        suite,
        unique,
    )
    from loopwright.data.contents import PartDigest
    from loopwright.data.dtypes import dump_dtypes, load_dtypes
    from loopwright.data.expressions import freeze, thaw
    from loopwright.data.model import (
        CheckReport,
        CheckResult,
        ColumnComparison,
        ColumnProfile,
        Comparison,
        DatasetSummary,
        DatasetVersion,
        Histogram,
        Kind,
        Mode,
        Preview,
        Profile,
        Quarantine,
        TopValue,
    )
    from loopwright.data.profiles import sketch_of
    from loopwright.data.service import DatasetService
    from loopwright.data.sources.archives import unpack_gzip
    from loopwright.data.sources.csv_faults import check_shape, csv_fault, line_of_row
    from loopwright.data.sources.opening import READERS

_HOMES = {
    "checks.rules": ("RULES", "Plan", "Table", "Verdict"),
    "checks.suite": (
        "Check",
        "Severity",
        "Suite",
        "between",
        "column_types",
        "expression",
        "freshness",
        "in_set",
        "matches",
        "no_missing_columns",
        "not_null",
        "row_count",
        "suite",
        "unique",
    ),
    "contents": ("PartDigest",),
    "dtypes": ("dump_dtypes", "load_dtypes"),
    "expressions": ("freeze", "thaw"),
    "model": (
        "CheckReport",
        "CheckResult",
        "ColumnComparison",
        "ColumnProfile",
        "Comparison",
        "DatasetSummary",
        "DatasetVersion",
        "Histogram",
        "Kind",
        "Mode",
        "Preview",
        "Profile",
        "Quarantine",
        "TopValue",
    ),
    "profiles": ("sketch_of",),
    "service": ("DatasetService",),
    "sources.archives": ("unpack_gzip",),
    "sources.csv_faults": ("check_shape", "csv_fault", "line_of_row"),
    "sources.opening": ("READERS",),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [
    "READERS",
    "RULES",
    "Check",
    "CheckReport",
    "CheckResult",
    "ColumnComparison",
    "ColumnProfile",
    "Comparison",
    "DatasetService",
    "DatasetSummary",
    "DatasetVersion",
    "Histogram",
    "Kind",
    "Mode",
    "PartDigest",
    "Plan",
    "Preview",
    "Profile",
    "Quarantine",
    "Severity",
    "Suite",
    "Table",
    "TopValue",
    "Verdict",
    "between",
    "check_shape",
    "column_types",
    "csv_fault",
    "dump_dtypes",
    "expression",
    "freeze",
    "freshness",
    "in_set",
    "line_of_row",
    "load_dtypes",
    "matches",
    "no_missing_columns",
    "not_null",
    "row_count",
    "sketch_of",
    "suite",
    "thaw",
    "unique",
    "unpack_gzip",
]


def __getattr__(name: str) -> Any:
    home = _HOME_OF.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{home}"), name)
    globals()[name] = value
    return value
