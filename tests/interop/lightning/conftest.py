"""Workspaces, runs and autolog, as the tests of autolog have them."""

from tests.track.autolog.conftest import autolog, program, reports, root, runs, ws  # noqa: F401 - fixtures
