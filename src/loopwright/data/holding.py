"""What this room keeps in the object store: files of dataset versions, and profiles."""

from sqlalchemy import select

from loopwright.data.tables import dataset_profiles, dataset_versions
from loopwright.store import Holding

HOLDINGS = (
    Holding("dataset versions", select(dataset_versions.c.digest)),
    Holding("profiles of datasets", select(dataset_profiles.c.sketch), trees=False),
)
