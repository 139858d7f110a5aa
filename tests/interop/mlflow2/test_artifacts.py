"""Artifacts with the oldest 2.x client from PyPI, unmodified."""

from tests.interop.mlflow.artifacts import *  # noqa: F403  (the tests that every release passes)
