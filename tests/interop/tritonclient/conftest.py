"""The inference processes of the fronts' own tests: one with usual models, one whose inputs have shapes."""

from tests.serve.fronts.conftest import bundle, fitted, process, rows, trips, wanted, web
from tests.serve.fronts.test_shaped import served, shaped

__all__ = ["bundle", "fitted", "process", "rows", "served", "shaped", "trips", "wanted", "web"]
