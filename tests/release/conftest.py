"""Fixtures of this room's tests."""

from __future__ import annotations

import pytest
from tests.release.world import World

from loopwright.store import Stores


@pytest.fixture
def world(stores: Stores) -> World:
    """Services on fresh stores, on both databases."""
    return World(stores)


@pytest.fixture
def small_world(stores_sqlite: Stores) -> World:
    """Services on SQLite, where the database is not what the test is about."""
    return World(stores_sqlite)
