"""Fixtures of the features room: a feature store over fresh stores, with a clock that the test moves."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from loopwright.core import ManualClock, Scope
from loopwright.data import DatasetService
from loopwright.features import FeatureStore
from loopwright.store import Stores

START = datetime(2020, 1, 1, tzinfo=UTC)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(START)


@pytest.fixture
def features(make_sqlite_stores: Callable[..., Stores], tmp_path: Path, clock: ManualClock) -> FeatureStore:
    stores = make_sqlite_stores(tmp_path, clock=clock)
    return FeatureStore(stores, Scope(), datasets=DatasetService(stores, Scope()))
