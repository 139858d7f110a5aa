"""Labels that come late, come twice, or belong to nothing."""

from __future__ import annotations

from datetime import timedelta

import numpy as np
import pytest
from sqlalchemy import func, select
from tests.monitor.conftest import COLUMNS, DAY, START, World

from loopwright.core import Invalid, ManualClock, Scope, Unavailable, new_id
from loopwright.monitor import ArmEvidence, Feedback, Monitor, MonitorService, advancing
from loopwright.monitor.tables import monitor_windows, predictions
from loopwright.serve import Record
from loopwright.stats import Sufficient, losses


def evidence(world: World, model: str = "") -> ArmEvidence:
    [found] = world.monitors.evidence("delay", START, [model or world.model])
    return found


def test_a_label_finds_its_prediction_weeks_later(world: World, clock: ManualClock) -> None:
    ids = world.predict(START, 200, chances=np.full(200, 0.3))
    world.monitors.advance()
    for day in range(1, 40, 8):
        world.predict(START + day * DAY, 50)
        clock.advance(START + day * DAY)
        world.monitors.advance()
    world.monitors.compact()

    world.label(ids, [1] * 200)
    world.monitors.advance()

    assert evidence(world).losses.n == 200
    assert evidence(world).losses.mean == pytest.approx(0.49)
    assert world.monitors.find_prediction(ids[7]).label == 1


def test_the_sums_of_losses_are_those_of_the_rows(world: World) -> None:
    chances, truth = world.random.random(500), world.random.integers(0, 2, 500)
    ids = world.predict(START, 500, chances=chances, failed=20)
    world.label(ids, truth.tolist())
    world.monitors.advance()

    exact = Sufficient.of(losses("binary", truth[20:], chances[20:]))
    found = evidence(world)
    assert found.losses.n == 480
    assert (found.losses.total, found.losses.total_squares) == pytest.approx((exact.total, exact.total_squares))
    assert (found.requests.n, found.requests.total) == (500, 20)
    assert found.latency_ms.mean == pytest.approx(1.0)


def test_the_same_label_sent_twice_counts_once(world: World) -> None:
    ids = world.predict(START, 100, chances=np.full(100, 0.3))
    world.label(ids, [1] * 100)
    world.monitors.advance()
    world.label(ids, [1] * 100)
    world.label(ids[:10], [True] * 10)
    world.monitors.advance()

    assert evidence(world).losses.n == 100


def test_a_label_that_is_corrected_replaces_the_first_one(world: World, clock: ManualClock) -> None:
    world.monitors.apply(Monitor(name="watch", endpoint="delay"))
    ids = world.predict(START, 300, chances=np.full(300, 0.3))
    world.label(ids, [1] * 300)
    world.monitors.advance()
    world.label(ids[:100], [0] * 100)
    world.label(ids[:50], [1] * 50)
    clock.advance(START + 2 * DAY)
    [report] = world.monitors.advance()

    expected = (50 * 0.09 + 250 * 0.49) / 300
    assert evidence(world).losses.n == 300
    assert evidence(world).losses.mean == pytest.approx(expected)
    assert report.labels == 300
    assert report.performance["brier"].value == pytest.approx(expected)


def test_feedback_that_was_there_before_the_predictions_were_folded_is_joined_in_the_same_pass(world: World) -> None:
    ids = world.predict(START, 100)
    world.label(ids, [0] * 100)

    world.monitors.advance()

    assert evidence(world).losses.n == 100


def test_feedback_on_what_was_never_predicted_is_kept_in_its_table_and_counted_nowhere(world: World) -> None:
    world.label([new_id(), new_id()], ["x", 3])
    world.monitors.advance()
    world.monitors.compact()

    kept = world.stores.tables.read("feedback/default/delay")
    assert sorted(kept["value"].to_list()) == ['"x"', "3"]
    assert evidence(world).losses.n == 0


def test_a_label_that_is_none_of_the_classes_has_no_loss(world: World) -> None:
    ids = world.predict(START, 10)
    world.label(ids, ["perhaps"] * 5 + [1] * 5)
    world.monitors.advance()

    assert evidence(world).losses.n == 5
    assert world.monitors.find_prediction(ids[0]).label == "perhaps"


def test_another_projects_feedback_does_not_touch_our_predictions(world: World) -> None:
    ids = world.predict(START, 10)
    world.monitors.advance()
    stranger = MonitorService(world.stores, Scope(project="other"), models=world.models)
    stranger.feedback("delay", [Feedback(ids[0], 1)])
    world.monitors.advance()

    assert evidence(world).losses.n == 0
    assert world.monitors.find_prediction(ids[0]).label is None


@pytest.mark.parametrize(
    ("row", "said"),
    [
        (Feedback("nonsense", 1), "not the id of a prediction"),
        (Feedback(new_id(), 1, at=START.replace(tzinfo=None)), "no zone"),
    ],
)
def test_feedback_that_is_malformed_is_refused_whole(world: World, row: Feedback, said: str) -> None:
    good = Feedback(new_id(), 1)

    with pytest.raises(Invalid, match=said) as caught:
        world.monitors.feedback("delay", [good, row])

    assert "row 1" in str(caught.value)
    world.monitors.advance()
    world.monitors.compact()
    assert not world.stores.tables.exists("feedback/default/delay")


def test_feedback_is_not_acknowledged_when_the_disk_refuses_it(world: World) -> None:
    folder = world.stores.data / "journal" / "feedback"
    folder.parent.mkdir(parents=True, exist_ok=True)
    folder.write_text("a file where the folder should be")

    with pytest.raises(Unavailable):
        world.monitors.feedback("delay", [Feedback(new_id(), 1)])


def test_predictions_past_the_horizon_leave_the_join_and_stay_in_the_tables(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = world.predict(START, 100)
    world.monitors.advance()
    world.monitors.compact()
    with monkeypatch.context() as patch:
        patch.setattr(advancing, "JOIN_HORIZON", timedelta(seconds=-5))  # as if the horizon's days had passed
        world.monitors.advance()

    with world.stores.db.read() as connection:
        assert connection.execute(select(func.count()).select_from(predictions)).scalar_one() == 0
    assert world.monitors.find_prediction(ids[0]).id == ids[0]
    world.label(ids[:1], [1])
    world.monitors.advance()
    world.monitors.compact()
    assert world.monitors.find_prediction(ids[0]).label == 1


@pytest.mark.slow
def test_the_state_of_a_window_does_not_grow_with_traffic(world: World) -> None:
    world.monitors.apply(Monitor(name="watch", endpoint="delay"))

    def size() -> int:
        world.monitors.advance()
        with world.stores.db.read() as connection:
            return len(connection.execute(select(monitor_windows.c.state)).scalar_one())

    world.label(world.predict(START, 2_000, chances=world.random.random(2_000)), [0, 1] * 1_000)
    before = size()
    for _ in range(8):
        world.label(world.predict(START, 2_000, chances=world.random.random(2_000)), [0, 1] * 1_000)
        after = size()

    assert after < 2 * before
    assert after < 20_000


def test_one_odd_answer_does_not_hold_up_the_others(world: World) -> None:
    """Probabilities that are no number, or that single precision put just above 1."""
    ids = world.predict(START, 4, chances=[float("nan"), 1.0000001, float("inf"), 0.5])
    world.label(ids, [1, 1, 1, 1])
    world.monitors.advance()

    assert evidence(world).losses.n == 2
    assert evidence(world).losses.mean == pytest.approx(0.125)


def test_a_feature_that_is_no_number_any_more_counts_as_missing(world: World, clock: ManualClock) -> None:
    world.monitors.apply(Monitor(name="watch", endpoint="delay"))
    world.predict(START, 400)
    key = world.log.columns_key(COLUMNS)
    at = int(START.timestamp() * 1_000_000)
    row = ["n/a", 1.0, "north"]
    world.log.append([Record(new_id(), "delay", "v", world.model, at, at, "", key, row, {}, 1) for _ in range(200)])
    clock.advance(START + DAY)
    [report] = world.monitors.advance()

    load = next(feature for feature in report.drift if feature.feature == "load")
    assert report.rows == 600
    assert load.nulls_current == pytest.approx(1 / 3)
    assert load.drifted
