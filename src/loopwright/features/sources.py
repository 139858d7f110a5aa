"""What one materialisation reads of the views' datasets: each thing once, however many views need it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING

from loopwright.features.definitions import FeatureView

if TYPE_CHECKING:
    import polars as pl

    from loopwright.data import DatasetService, DatasetVersion

# Rows that several views read are kept in memory up to so many values: 128 MB where each has 8 bytes.
_SHARED_VALUES = 16 << 20


class SourceRows:
    """The datasets behind some views. Each is looked at in one version, the newest when it was first asked for."""

    def __init__(self, datasets: DatasetService, views: Sequence[FeatureView]) -> None:
        """Args:
        views: those that will ask; what several of them read the same way is read once.
        """
        self._datasets = datasets
        self._readers = Counter((view.source, view.source_timestamp) for view in views)
        self._versions: dict[str, DatasetVersion] = {}
        self._added: dict[tuple[str, int], pl.LazyFrame | None] = {}
        self._oldest: dict[tuple[str, int, str], datetime | None] = {}
        self._recent: dict[tuple[str, str, datetime], pl.LazyFrame] = {}

    def version(self, name: str) -> DatasetVersion:
        """The newest version of a dataset.

        Raises:
            NotFound: it has none.
        """
        if name not in self._versions:
            self._versions[name] = self._datasets.get(name)
        return self._versions[name]

    def scan(self, ref: str) -> pl.LazyFrame:
        """All rows of a version, lazily."""
        return self._datasets.scan(ref)

    def added(self, version: DatasetVersion, since: int) -> pl.LazyFrame | None:
        """The rows that were added after version `since`; None where they cannot be told apart."""
        key = (version.ref, since)
        if key not in self._added:
            self._added[key] = self._datasets.added(version.ref, since)
        return self._added[key]

    def oldest_added(self, version: DatasetVersion, since: int, column: str) -> datetime | None:
        """The smallest time in a column of the rows that `added` gives; None if there is none."""
        import polars as pl

        key = (version.ref, since, column)
        if key not in self._oldest:
            rows = self.added(version, since)
            found = rows.select(pl.col(column).min()).collect().item() if rows is not None else None
            self._oldest[key] = found
        return self._oldest[key]

    def recent(self, version: DatasetVersion, column: str, start: datetime) -> pl.LazyFrame:
        """The rows whose time in `column` is `start` or later. If several views read them so, and they are few enough,
        they are in memory from the first time on."""
        import polars as pl

        key = (version.ref, column, start)
        if key not in self._recent:
            rows = self._datasets.scan(version.ref).filter(pl.col(column) >= start)
            shared = self._readers[(version.name, column)] > 1
            self._recent[key] = _in_memory(rows) if shared else rows
        return self._recent[key]


def _in_memory(rows: pl.LazyFrame) -> pl.LazyFrame:
    most = _SHARED_VALUES // max(1, len(rows.collect_schema()))
    some = rows.head(most + 1).collect(engine="streaming")
    return some.lazy() if some.height <= most else rows
