"""Points gathered into columns."""

from __future__ import annotations

import math

from loopwright.connect.mlflow.series import Gathering


def test_rows_of_many_runs_become_a_column_each() -> None:
    gathering = Gathering()
    gathering.add_rows([("r", "a", 1.5, 2, 3, False), ("s", "a", 0.0, 4, None, True), ("r", "a", 2.5, 5, 6, 0)])
    gathering.add("s", "b", [(math.inf, 7, 8)])
    assert gathering.count == 4
    found = gathering.take()
    assert found["r", "a"].steps.tolist() == [3, 6]
    assert found["r", "a"].times_us.tolist() == [2000, 5000]
    assert found["r", "a"].values.tolist() == [1.5, 2.5]
    assert math.isnan(found["s", "a"].values[0])
    assert found["s", "b"].values.tolist() == [math.inf]
    assert (gathering.count, gathering.take()) == (0, {})


def test_the_greatest_double_of_a_store_is_an_infinity() -> None:
    gathering = Gathering()
    gathering.add_rows(
        [("r", "a", 1.7976931348623157e308, 0, 0, False), ("r", "a", -1.7976931348623157e308, 0, 1, False)]
    )
    assert gathering.take()["r", "a"].values.tolist() == [math.inf, -math.inf]


def test_a_time_in_nanoseconds_stops_nothing_and_is_counted() -> None:
    gathering = Gathering()
    gathering.add_rows([("r", "a", 1.0, 1_700_000_000_000_000_000, 0, False), ("r", "a", 1.0, -5, 1, False)])
    assert gathering.take()["r", "a"].times_us.tolist() == [253_402_300_799_999_000, 0]
    assert gathering.odd == 2
