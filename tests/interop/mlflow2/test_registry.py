"""The model registry with the oldest 2.x client from PyPI, unmodified."""

from tests.interop.mlflow.registry import *  # noqa: F403  (the tests that every release passes)
