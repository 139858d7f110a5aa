"""The words of this room: datasets, their versions, and what is known of them."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Any

import msgspec

from loopwright.core import Schema


class Kind(StrEnum):
    """What a dataset holds: rows with one schema, or files by path."""

    TABLE = "table"
    TREE = "tree"


class Mode(StrEnum):
    """What an ingest does to the newest version: replace all of it, or add rows behind it."""

    REPLACE = "replace"
    APPEND = "append"


class DatasetVersion(msgspec.Struct, frozen=True):
    """An immutable, content-addressed state of a dataset.

    Attributes:
        digest: of the logical content: a table's schema and the ordered parts it was built from; a tree's manifest.
        rows: rows of a table; files of a tree.
        size_bytes: bytes of the values in memory (table) or of the files (tree).
        source: a description of where the content came from, without secrets.
        parent: the version that this one was appended to, if any.
        table_version: the version of the Delta table that holds exactly these rows; absent for a tree.
        part_digest: of a table, the digest of the rows that this version added.
    """

    name: str
    version: int
    ref: str
    kind: Kind
    digest: str
    rows: int
    size_bytes: int
    schema: Schema | None
    created_at: datetime
    actor: str
    source: str
    message: str = ""
    parent: int | None = None
    table_version: int | None = None
    part_digest: str = ""


class DatasetSummary(msgspec.Struct, frozen=True):
    """A dataset with its newest version."""

    name: str
    kind: Kind
    versions: int
    created_at: datetime
    newest: DatasetVersion


class TopValue(msgspec.Struct, frozen=True):
    """A frequent value and about how many rows hold it."""

    value: str
    count: int


class Histogram(msgspec.Struct, frozen=True):
    """Counts between edges; there is one edge more than there are counts."""

    edges: tuple[float, ...]
    counts: tuple[float, ...]


class ColumnProfile(msgspec.Struct, frozen=True):
    """What is known of one column. Counts are exact; quantiles, distinct, top and histogram come from sketches."""

    dtype: str
    count: int
    nulls: int
    distinct: float
    mean: float | None = None
    std: float | None = None
    min: float | None = None
    max: float | None = None
    quantiles: dict[str, float] = {}
    top: tuple[TopValue, ...] = ()
    histogram: Histogram | None = None


class Profile(msgspec.Struct, frozen=True):
    """The profile of one dataset version."""

    ref: str
    rows: int
    columns: dict[str, ColumnProfile]


class ColumnComparison(msgspec.Struct, frozen=True):
    """How one column differs between two versions.

    Attributes:
        test: the two-sample test that was used; empty where a side holds no value.
        p_value, effect, effect_name: its result, from the sketches of both sides.
        nulls_before, nulls_after: fractions of rows without a value.
    """

    column: str
    test: str
    statistic: float | None
    p_value: float | None
    effect_name: str
    effect: float | None
    nulls_before: float
    nulls_after: float
    mean_before: float | None = None
    mean_after: float | None = None


class Comparison(msgspec.Struct, frozen=True):
    """Two versions compared by their profiles alone."""

    before: str
    after: str
    rows_before: int
    rows_after: int
    added_columns: tuple[str, ...]
    removed_columns: tuple[str, ...]
    changed_types: dict[str, tuple[str, str]]
    columns: tuple[ColumnComparison, ...]


class CheckResult(msgspec.Struct, frozen=True):
    """What one check found.

    Attributes:
        failing_rows, fraction: how many rows fail and their share; absent for a check of the table as a whole.
        observed: what was measured, by name.
        sample: a few of the failing rows.
        message: what was found, in one sentence.
    """

    name: str
    kind: str
    columns: tuple[str, ...]
    severity: str
    passed: bool
    message: str
    failing_rows: int | None = None
    fraction: float | None = None
    observed: dict[str, Any] = {}
    sample: tuple[dict[str, Any], ...] = ()


class CheckReport(msgspec.Struct, frozen=True):
    """What a suite found. It passed if no check of severity `error` failed."""

    id: str
    ref: str
    suite: str
    passed: bool
    rows: int
    checked_at: datetime
    results: tuple[CheckResult, ...]

    @property
    def failed(self) -> tuple[CheckResult, ...]:
        """The checks that did not pass, of either severity."""
        return tuple(result for result in self.results if not result.passed)


class Preview(msgspec.Struct, frozen=True):
    """The first rows of a table."""

    ref: str
    rows: tuple[dict[str, Any], ...]


class Quarantine(msgspec.Struct, frozen=True):
    """A version split in two: the rows that pass, and the rows that fail with the names of the checks they fail."""

    clean: DatasetVersion
    quarantined: DatasetVersion | None
    rows: int
