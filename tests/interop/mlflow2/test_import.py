"""`loopwright import mlflow` of a store that the oldest client filled."""

from tests.interop.mlflow.test_import import (
    filled,
    serving,
    test_a_dry_run_counts_what_the_import_then_carries_and_changes_nothing,
    test_an_import_from_a_database_holds_every_value_under_the_same_ids,
)

__all__ = [
    "filled",
    "serving",
    "test_a_dry_run_counts_what_the_import_then_carries_and_changes_nothing",
    "test_an_import_from_a_database_holds_every_value_under_the_same_ids",
]
