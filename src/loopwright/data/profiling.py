"""Profiles of versions, computed once and kept as sketches; an append merges its parent's with its new rows."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from sqlalchemy import select

from loopwright.core import Corrupt, Scope
from loopwright.data.catalogue import Catalogue
from loopwright.data.model import Comparison, DatasetVersion, Profile
from loopwright.data.profiles import compare_sketches, profile_of, sketch_of
from loopwright.data.tables import dataset_profiles as profiles

if TYPE_CHECKING:
    import polars as pl

    from loopwright.stats import TableSketch
    from loopwright.store import Stores


class Profiling:
    """The profiles of one project's tables."""

    def __init__(
        self,
        stores: Stores,
        scope: Scope,
        scan: Callable[[str], pl.LazyFrame],
        added: Callable[[str, int], pl.LazyFrame | None],
    ) -> None:
        self._stores, self._scope, self._scan, self._added = stores, scope, scan, added
        self._catalogue = Catalogue(stores.db, scope.project)

    def profile(self, version: DatasetVersion) -> Profile:
        """The profile of a version."""
        return profile_of(version.ref, self.sketch(version), version.rows, self._catalogue.columns(version))

    def compare(self, before: DatasetVersion, after: DatasetVersion) -> Comparison:
        """Two versions compared by their sketches."""
        left, right = (
            (version.ref, version.rows, self.sketch(version), self._catalogue.columns(version))
            for version in (before, after)
        )
        return compare_sketches(left, right)

    def sketch(self, version: DatasetVersion) -> TableSketch:
        """The sketch of a version; computed and kept on first use."""
        from loopwright.stats import TableSketch

        nearest = self._nearest(version)
        if nearest is not None and nearest[0] == version.version:
            return TableSketch.from_bytes(self._stores.objects.get(nearest[1]))
        new = self._added(version.ref, nearest[0]) if nearest is not None else None
        if nearest is None or new is None:
            sketch = sketch_of(self._scan(version.ref))
            if sketch.columns and sketch.rows != version.rows:  # where a file is cut short, Polars' stream just ends
                raise Corrupt(
                    f"{version.ref} gave {sketch.rows} rows of {version.rows}",
                    next_step="run loopwright fsck; restore the table's folder from a backup",
                )
        else:
            sketch = TableSketch.from_bytes(self._stores.objects.get(nearest[1])).merge(sketch_of(new))
        self._keep(version, sketch.to_bytes())
        return sketch

    def _nearest(self, version: DatasetVersion) -> tuple[int, str] | None:
        """The newest version at or before this one, of the same chain of appends, that has a sketch; and its digest."""
        query = select(profiles.c.version, profiles.c.sketch).where(
            profiles.c.project == self._scope.project,
            profiles.c.name == version.name,
            profiles.c.version <= version.version,
            profiles.c.version >= self._catalogue.first_of_chain(version),
        )
        with self._stores.db.read() as connection:
            row = connection.execute(query.order_by(profiles.c.version.desc()).limit(1)).one_or_none()
        return (row.version, row.sketch) if row is not None else None

    def _keep(self, version: DatasetVersion, body: bytes) -> None:
        row = {
            "project": self._scope.project,
            "name": version.name,
            "version": version.version,
            "sketch": self._stores.objects.put_bytes(body),
            "created_at": self._stores.clock.now(),
        }
        with self._stores.db.begin() as tx:
            tx.execute(self._stores.db.upsert(profiles, row, ["project", "name", "version"]))
