"""Tracking with the oldest 2.x client from PyPI, unmodified."""

from __future__ import annotations

import mlflow
from tests.interop.mlflow.tracking import *  # noqa: F403  (the tests that every release passes)


def test_it_is_the_oldest() -> None:
    assert mlflow.__version__ == "2.0.1"
