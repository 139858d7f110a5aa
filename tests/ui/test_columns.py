"""Columns of the table of runs: which there are, how they are ordered by, what stands in them."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loopwright.track import Run, RunStatus, parse_filter
from loopwright.ui.columns import cell_of, column_of, common, delta_of, identifier, next_order, usual


def run_of(**values: object) -> Run:
    begun = {"id": "0" * 32, "experiment": "e", "name": "n", "status": RunStatus.FINISHED}
    return Run(**{**begun, "started_at": datetime(2026, 1, 1, tzinfo=UTC), **values})  # type: ignore[arg-type]


@given(st.text(st.characters(blacklist_categories=["C", "Z"]), min_size=1, max_size=30))
def test_a_key_of_any_letters_is_written_so_that_the_search_reads_it_back(key: str) -> None:
    [found] = parse_filter(f"{identifier('params', key)} = 'x'")
    assert (found.entity, found.key) == ("params", key)


def test_clicks_on_a_head_go_round_the_three_orders() -> None:
    orders, order = [], ""
    for _ in range(3):
        column = column_of("metrics.auc", order)
        assert column is not None
        order = next_order(column)
        orders.append(order)
    assert orders == ["metrics.auc DESC", "metrics.auc ASC", ""]


def test_words_are_ordered_from_a_first() -> None:
    column = column_of("params.model")
    assert column is not None
    assert next_order(column) == "params.model ASC"


@pytest.mark.parametrize("name", ["", "nothing", "metrics.", "other.x", "__class__", "name.x"])
def test_an_address_cannot_ask_for_a_column_that_is_none(name: str) -> None:
    assert column_of(name) is None


def test_a_metric_that_is_not_finite_is_shown_as_such() -> None:
    column = column_of("metrics.loss")
    assert column is not None
    assert cell_of(run_of(not_finite={"loss": "NaN"}), column) == "NaN"


def test_the_delta_is_against_the_baseline_of_the_same_experiment_only() -> None:
    column = column_of("metrics.auc")
    assert column is not None
    baseline = run_of(id="1" * 32, metrics={"auc": 0.75})
    assert delta_of(run_of(metrics={"auc": 1.0}), column, {"e": baseline}) == 0.25
    assert delta_of(run_of(metrics={"auc": 1.0}), column, {"other": baseline}) is None
    assert delta_of(baseline, column, {"e": baseline}) is None
    assert delta_of(run_of(), column, {"e": baseline}) is None


def test_bounds_counts_and_samples_of_the_machine_are_no_usual_columns() -> None:
    metrics = {"auc": 1.0, "auc_lower": 0.9, "auc_upper": 1.1, "auc_n": 5.0, "system/cpu_percent": 3.0}
    assert usual([run_of(metrics=metrics)], one_experiment=True) == ["status", "started_at", "seconds", "metrics.auc"]


def test_the_most_common_keys_come_first_and_equals_by_name() -> None:
    assert common([["b", "a"], ["b"], ["c", "a"], ["b"]], 3) == ["b", "a", "c"]
