"""The inference process of the fronts' own tests."""

from tests.serve.fronts.conftest import bundle, fitted, process, rows, trips, wanted, web

__all__ = ["bundle", "fitted", "process", "rows", "trips", "wanted", "web"]
