"""Windows, their verdicts and alerts, through the service."""

from __future__ import annotations

import numpy as np
import pytest
from tests.monitor.conftest import DAY, START, World

from loopwright.core import Conflict, Invalid, ManualClock, NotFound, Scope
from loopwright.models import Bundle
from loopwright.monitor import (
    AlertState,
    DriftPolicy,
    Monitor,
    MonitorService,
    PerformancePolicy,
    Verdict,
    WindowReport,
)
from loopwright.stats import classification_metrics
from loopwright.store import Stores

PLAIN = Monitor(name="watch", endpoint="delay", owner="user:ann")


def live(
    world: World, clock: ManualClock, days: int, *, first: int = 0, wrong: bool = False, **how: object
) -> list[WindowReport]:
    """Days of 600 predictions each; their labels come a day later, right or (`wrong`) turned round."""
    reports: list[WindowReport] = []
    for day in range(first, first + days):
        chances = world.random.beta(1, 3, 600)
        ids = world.predict(START + day * DAY, 600, chances=chances, **how)  # type: ignore[arg-type]  # passed on
        truth = (world.random.random(600) < chances) != wrong
        clock.advance(START + (day + 1) * DAY)
        reports += world.monitors.advance()
        world.label(ids, truth.astype(int).tolist())
    clock.advance(START + (first + days + 1) * DAY)
    return reports + list(world.monitors.advance())


def test_a_window_is_judged_for_drift_at_its_end_and_for_performance_when_its_labels_are_due(
    world: World, clock: ManualClock
) -> None:
    world.monitors.apply(PLAIN)
    ids = world.predict(START, 600, chances=np.full(600, 0.2))

    clock.advance(START + DAY / 2)
    assert world.monitors.advance() == []
    clock.advance(START + DAY)
    [counted] = world.monitors.advance()
    world.label(ids, [1] * 120 + [0] * 480)
    clock.advance(START + DAY * 3 / 2)
    assert world.monitors.advance() == []
    clock.advance(START + DAY * 2)
    [judged] = world.monitors.advance()

    assert (counted.drift_verdict, counted.performance_verdict) == (Verdict.FINE, Verdict.NOT_JUDGED)
    assert (judged.drift_verdict, judged.performance_verdict) == (Verdict.FINE, Verdict.FINE)
    assert (judged.start, judged.end, judged.rows, judged.labels) == (START, START + DAY, 600, 600)
    assert judged.model == world.model
    assert judged.metric == next(iter(judged.performance)) == "brier"
    assert judged.performance["brier"].value == pytest.approx(0.16)
    assert judged.performance["brier"].reference == 0.12
    assert world.monitors.windows("delay") == [judged]


def test_the_metrics_of_a_window_are_those_of_its_rows(world: World, clock: ManualClock) -> None:
    world.monitors.apply(PLAIN)
    chances = world.random.random(900)
    truth = (world.random.random(900) < chances).astype(int)
    ids = world.predict(START, 900, chances=chances)
    world.label(ids, truth.tolist())
    clock.advance(START + 2 * DAY)
    [judged] = world.monitors.advance()

    exact = classification_metrics(truth, chances)
    for name in ("brier", "log_loss", "accuracy"):
        assert judged.performance[name].value == pytest.approx(exact[name])
    assert judged.performance["auc"].value == pytest.approx(exact["auc"], abs=0.003)


@pytest.mark.slow
def test_drift_opens_one_alert_with_its_evidence_and_closes_it_when_it_is_over(
    world: World, clock: ManualClock
) -> None:
    world.monitors.apply(PLAIN)
    live(world, clock, 2)
    assert world.monitors.alerts() == []
    live(world, clock, 4, first=3, shift=3.0)
    [alert] = world.monitors.alerts(open_only=True)
    live(world, clock, 3, first=8)

    assert (alert.about, alert.model, alert.owner) == ("drift", world.model, "user:ann")
    assert alert.since == START + 3 * DAY
    assert alert.opened_at == START + 5 * DAY
    assert alert.evidence["threshold"] == 0.2
    assert alert.evidence["n"] == 600
    assert [feature["feature"] for feature in alert.evidence["features"]] == ["load"]
    assert alert.evidence["features"][0]["effect"] > 0.2
    assert "load" in alert.summary
    closed = world.monitors.alert(alert.ref)
    assert closed.state is AlertState.CLOSED
    assert "fine" in closed.closed_reason
    events = [event for event in world.stores.events.read() if event.kind.startswith("alert.")]
    assert [event.kind for event in events] == ["alert.opened", "alert.closed"]
    assert events[0].subject == alert.ref
    assert events[0].evidence["monitor"] == "watch"
    assert events[0].evidence["about"] == "drift"
    assert events[1].cause == f"event:{events[0].id}"


def test_a_model_that_got_worse_opens_an_alert_that_says_by_how_much(world: World, clock: ManualClock) -> None:
    world.monitors.apply(PLAIN)
    live(world, clock, 2)
    live(world, clock, 3, first=3, wrong=True)

    [alert] = world.monitors.alerts(open_only=True)

    assert alert.about == "performance"
    assert alert.since == START + 3 * DAY
    assert alert.evidence["statistic"] == "brier"
    assert alert.evidence["lower"] > alert.evidence["threshold"] == pytest.approx(0.17)
    assert alert.evidence["n"] == 600


def test_one_bad_window_is_not_enough_for_an_alert(world: World, clock: ManualClock) -> None:
    world.monitors.apply(PLAIN)
    reports = live(world, clock, 1, shift=3.0)

    assert Verdict.BAD in {report.drift_verdict for report in reports}
    assert world.monitors.alerts() == []


@pytest.mark.slow
def test_an_alert_closes_when_another_version_takes_over_and_opens_anew_if_that_one_is_bad_too(
    world: World, clock: ManualClock
) -> None:
    world.monitors.apply(PLAIN)
    live(world, clock, 3, shift=3.0)
    live(world, clock, 3, first=4, shift=3.0, model=world.second)

    newest, oldest = world.monitors.alerts()

    assert (oldest.model, oldest.state) == (world.model, AlertState.CLOSED)
    assert "taken over" in oldest.closed_reason
    assert (newest.model, newest.state) == (world.second, AlertState.OPEN)
    assert newest.since == START + 4 * DAY


def test_a_window_with_few_rows_says_that_it_has_not_enough_evidence(world: World, clock: ManualClock) -> None:
    world.monitors.apply(PLAIN)
    world.predict(START, 40, shift=5.0)
    clock.advance(START + 2 * DAY)

    [report] = world.monitors.advance()

    assert report.drift_verdict is Verdict.NOT_ENOUGH_EVIDENCE
    assert report.drift_reason == "40 of 300 rows"
    assert report.performance_verdict is Verdict.NOT_ENOUGH_EVIDENCE
    assert report.performance_reason == "0 of 200 labels"


def test_what_comes_after_a_window_was_judged_is_counted_as_late(world: World, clock: ManualClock) -> None:
    world.monitors.apply(PLAIN)
    early = world.predict(START, 400)
    clock.advance(START + DAY)
    world.monitors.advance()
    world.predict(START, 50)
    world.label(early[:300], [0] * 300)
    clock.advance(START + 2 * DAY)
    [judged] = world.monitors.advance()
    world.label(early[300:], [0] * 100)
    world.monitors.advance()

    assert (judged.rows, judged.late_rows, judged.labels) == (400, 50, 300)
    [evidence] = world.monitors.evidence("delay", START, [world.model])
    assert (evidence.requests.n, evidence.losses.n) == (450, 400)


def test_shadow_answers_are_reported_beside_those_that_were_given(world: World, clock: ManualClock) -> None:
    world.monitors.apply(PLAIN)
    given = world.predict(START, 350)
    shadows = world.predict(START, 900, model=world.second, shadow_of=given[0])
    world.label(shadows, [0] * 900)
    clock.advance(START + 2 * DAY)

    [report] = world.monitors.advance()

    assert (report.model, report.rows, report.labels) == (world.model, 350, 0)
    assert {(one.model, one.shadow, one.rows, one.labels) for one in report.by_variant} == {
        (world.model, False, 350, 0),
        (world.second, True, 900, 900),
    }


def test_failed_answers_count_as_errors_and_take_no_label(world: World, clock: ManualClock) -> None:
    world.monitors.apply(PLAIN)
    ids = world.predict(START, 300, failed=7)
    world.label(ids, [1] * 300)
    clock.advance(START + 2 * DAY)

    [report] = world.monitors.advance()

    assert report.by_variant[0].errors == 7
    assert report.labels == 293


def test_a_version_that_the_registry_does_not_know_is_counted_without_a_verdict(
    world: World, clock: ManualClock
) -> None:
    world.monitors.apply(PLAIN)
    ids = world.predict(START, 500, model="model:stranger@1")
    world.label(ids, [0] * 500)
    clock.advance(START + 2 * DAY)

    [report] = world.monitors.advance()

    assert (report.rows, report.drift_verdict) == (500, Verdict.NOT_ENOUGH_EVIDENCE)
    assert "stranger" in report.drift_reason


def test_monitors_of_different_widths_watch_one_endpoint_side_by_side(world: World, clock: ManualClock) -> None:
    world.monitors.apply(PLAIN)
    world.monitors.apply(Monitor(name="hourly", endpoint="delay", window_s=3600 * 6, performance=None))
    world.predict(START, 800)
    clock.advance(START + 2 * DAY)

    reports = world.monitors.advance()

    assert sorted((report.monitor, report.rows) for report in reports) == [*[("hourly", 200)] * 4, ("watch", 800)]
    assert [report.rows for report in world.monitors.windows(monitor="hourly", limit=2)] == [200, 200]


def test_features_that_are_left_out_are_not_tested(world: World, clock: ManualClock) -> None:
    world.monitors.apply(Monitor(name="some", endpoint="delay", drift=DriftPolicy(ignore=("load",))))
    world.predict(START, 600, shift=9.0)
    clock.advance(START + DAY)

    [report] = world.monitors.advance()

    assert {feature.feature for feature in report.drift} == {"age", "site"}
    assert report.drift_verdict is Verdict.FINE


def test_a_limit_stands_in_for_a_metric_from_training(world: World, clock: ManualClock) -> None:
    policy = PerformancePolicy(metric="accuracy", limit=0.9)
    world.monitors.apply(Monitor(name="acc", endpoint="delay", performance=policy))
    ids = world.predict(START, 400, chances=np.full(400, 0.2))
    world.label(ids, [1] * 200 + [0] * 200)
    clock.advance(START + 2 * DAY)

    [report] = world.monitors.advance()

    assert report.performance_verdict is Verdict.BAD
    assert "accuracy 0.5" in report.performance_reason


def test_a_metric_without_a_reference_or_limit_is_not_judged(world: World, clock: ManualClock) -> None:
    policy = PerformancePolicy(metric="recall")
    world.monitors.apply(Monitor(name="r", endpoint="delay", performance=policy))
    ids = world.predict(START, 400, chances=world.random.random(400))
    world.label(ids, [0, 1] * 200)
    clock.advance(START + 2 * DAY)

    [report] = world.monitors.advance()

    assert report.performance_verdict is Verdict.NOT_ENOUGH_EVIDENCE
    assert "sets no limit" in report.performance_reason


@pytest.mark.slow
def test_an_alert_can_be_given_to_somebody_and_closed_by_hand(world: World, clock: ManualClock) -> None:
    world.monitors.apply(PLAIN)
    live(world, clock, 2, shift=3.0)
    [alert] = world.monitors.alerts()

    assert world.monitors.assign_alert(alert.id, "user:bob").owner == "user:bob"
    assert world.monitors.close_alert(alert.ref, "a sensor was replaced").closed_reason == "a sensor was replaced"
    with pytest.raises(Conflict, match="a sensor was replaced"):
        world.monitors.close_alert(alert.id, "again")
    kinds = [event.kind for event in world.stores.events.read() if event.subject == alert.ref]
    assert kinds == ["alert.opened", "alert.assigned", "alert.closed"]


def test_applying_the_same_monitor_again_changes_nothing(world: World) -> None:
    first = world.monitors.apply(PLAIN)

    assert world.monitors.apply(PLAIN) == first
    changed = world.monitors.apply(Monitor(name="watch", endpoint="delay", owner="user:bob"))
    assert (changed.revision, world.monitors.get("monitor:watch")) == (2, changed)
    assert world.monitors.list() == [changed]
    applied = [event for event in world.stores.events.read() if event.kind == "monitor.applied"]
    assert len(applied) == 2


def test_an_endpoint_belongs_to_one_project(world: World) -> None:
    world.monitors.apply(PLAIN)
    stranger = MonitorService(world.stores, Scope(project="other"), models=world.models)

    with pytest.raises(Conflict, match="another project"):
        stranger.apply(PLAIN)
    with pytest.raises(NotFound):
        stranger.get("watch")


@pytest.mark.parametrize(
    ("monitor", "field"),
    [
        (Monitor(name="m", endpoint="e", window_s=0.5), "window_s"),
        (Monitor(name="m", endpoint="e", drift=DriftPolicy(alpha=1.0)), "drift.alpha"),
        (Monitor(name="m", endpoint="e", performance=PerformancePolicy(min_labels=1)), "performance.min_labels"),
        (Monitor(name="m", endpoint="e", label_delay_s=-1.0), "label_delay_s"),
        (Monitor(name="a b", endpoint="e"), "monitor"),
    ],
)
def test_a_monitor_that_makes_no_sense_is_refused_by_field(world: World, monitor: Monitor, field: str) -> None:
    with pytest.raises(Invalid, match=field):
        world.monitors.apply(monitor)


@pytest.fixture
def any_world(stores: Stores, bundle: Bundle, clock: ManualClock) -> World:
    """The world on SQLite and on PostgreSQL."""
    stores.clock = stores.events.clock = clock
    return World(stores, bundle)


def test_both_databases_count_judge_and_alert_alike(any_world: World, clock: ManualClock) -> None:
    any_world.monitors.apply(PLAIN)
    live(any_world, clock, 3, shift=3.0)
    reports = any_world.monitors.windows("delay")
    [alert] = any_world.monitors.alerts(open_only=True)
    [evidence] = any_world.monitors.evidence("delay", START, [any_world.model])

    assert [(report.rows, report.labels, report.drift_verdict) for report in reports] == [(600, 600, "bad")] * 3
    assert alert.since == START
    assert (evidence.requests.n, evidence.losses.n) == (1_800, 1_800)
    assert any_world.monitors.compact() == 3_600
    assert any_world.stores.tables.rows("predictions/default/delay") == 1_800
