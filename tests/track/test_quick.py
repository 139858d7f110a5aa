"""What is stored without waiting is what the thorough way would have stored, or nothing."""

from __future__ import annotations

import math
import random
import select
import sqlite3
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from loopwright.core import Scope
from loopwright.store import Stores
from loopwright.store.db.link import Link
from loopwright.track import Batch, MetricIntake, QuickWriter, RunService, TimedPoint
from loopwright.track.compaction import TAIL_LIMIT

_ROWS = """
SELECT k.key, s.last_step, s.last_at, s.last_bits, s.last_value, p.step, p.at, p.bits FROM run_series AS s
JOIN runs AS r ON r.seq = s.run_seq JOIN run_keys AS k ON k.id = s.key_id JOIN run_points AS p ON p.series_id = s.id
WHERE r.id = :run ORDER BY k.key, p.step, p.at, p.bits
"""


def rows(stores: Stores, run: str) -> list[tuple[Any, ...]]:
    with stores.db.read() as connection:
        return [tuple(row) for row in connection.execute(text(_ROWS), {"run": run})]


def stored(quick: QuickWriter, batches: list[Batch]) -> bool:
    """Whether the quick way took a group."""
    if not quick.begin(batches):
        return False
    while not quick.is_sent():
        select.select([], [quick], [], 20)
    while (outcome := quick.outcome()) is None:
        select.select([quick], [], [], 20)
    return outcome


@pytest.fixture
def intake(stores_postgres: Stores) -> Any:
    made = MetricIntake(stores_postgres)
    yield made
    made.close()


@pytest.mark.postgres
def test_the_quick_way_stores_what_the_other_stores(stores_postgres: Stores, intake: MetricIntake) -> None:
    runs, rolls = RunService(stores_postgres, Scope()), random.Random(7)
    pairs = [(runs.start().id, runs.start().id) for _ in range(3)]
    intake.submit("default", runs.start().id, [TimedPoint(f"k{number}", 0.0, 0, 0) for number in range(4)]).result(20)
    quick = intake.quick()
    assert quick is not None
    quick.open()
    intake.submit("default", runs.start().id, [TimedPoint(f"k{number}", 0.0, 0, 0) for number in range(4)]).result(20)
    values = (math.nan, math.inf, -math.inf, -0.0, 0.0, 1.5, -1e300)
    for _ in range(60):
        group = [
            (rolls.choice(pairs), [
                TimedPoint(f"k{rolls.randrange(4)}", rolls.choice(values), rolls.randrange(-3, 4), rolls.randrange(3))
                for _ in range(rolls.randrange(1, 6))
            ])
            for _ in range(rolls.randrange(1, 5))
        ]  # fmt: skip
        assert stored(quick, [intake.batch("default", f"run:{one}", points, {}, {}) for (one, _), points in group])
        for (_, other), points in group:
            intake.submit("default", other, points).result(20)
    for one, other in pairs:
        found = rows(stores_postgres, one)
        assert found == rows(stores_postgres, other)
        assert len(found) > 20


@pytest.mark.postgres
def test_the_quick_way_does_all_or_nothing(stores_postgres: Stores, intake: MetricIntake) -> None:
    runs = RunService(stores_postgres, Scope())
    run, deleted = runs.start().id, runs.start().id
    quick = intake.quick()
    assert quick is not None
    assert not quick.is_open
    for step in range(2):  # the key is known to this process from the second time on
        intake.submit("default", run, [TimedPoint("m", 0.5, step, 0)]).result(20)
    runs.delete(deleted)
    good = intake.batch("default", run, [TimedPoint("m", 0.5, 9, 0)], {}, {})
    bad = [("default", deleted, "m"), ("default", "0" * 32, "m"), ("other", run, "m"), ("default", run, "unheard of")]
    for project, of, key in bad:
        assert not stored(quick, [good, intake.batch(project, of, [TimedPoint(key, 0.5, 5, 0)], {}, {})])
    assert runs.history(run, "m").steps == [0, 1]
    for step in range(TAIL_LIMIT + 5):  # until the tail has to be packed, which is left to the other way
        batch = intake.batch("default", run, [TimedPoint("m", 0.5, 100 + step, 0)], {}, {})
        if not stored(quick, [batch]):
            intake.hand_in(batch).result(20)
    assert runs.history(run, "m").steps == [0, 1, *range(100, 105 + TAIL_LIMIT)]
    assert len(rows(stores_postgres, run)) < 20
    unfit: Any = (
        ([TimedPoint("m", 0.5, step, 0) for step in range(300)], {}, {}),
        ([TimedPoint("m", 0.5, 0, 0)], {"p": "1"}, {}),
        ((), {}, {"t": ""}),
    )
    assert not any(quick.group_of(intake.batch("default", run, *given)) for given in unfit)


@pytest.mark.postgres
def test_the_quick_way_keeps_the_first_value_of_a_param(stores_postgres: Stores, intake: MetricIntake) -> None:
    runs = RunService(stores_postgres, Scope())
    run, other, deleted = (runs.start().id for _ in range(3))
    quick, texts = intake.quick(), {"a": "1", "b": "é'\u2028" * 60, "c": ""}
    assert quick is not None
    for _ in range(2):  # the keys are known to this process from the second time on
        intake.submit("default", other, (), texts).result(20)
    runs.delete(deleted)

    def taken(of: str, *given: dict[str, str]) -> bool:
        batches = [intake.batch("default", of, (), some, {}) for some in given]
        assert len({quick.group_of(batch) for batch in batches}) == 1
        return stored(quick, batches)

    assert taken(run, texts)
    assert taken(f"run:{run}", {"b": texts["b"]}, {"a": "1", "b": texts["b"]})
    for refused in ({"a": "2"}, {"d": "1"}):
        assert not taken(run, {"c": "", **refused})
    assert not taken(run, {"a": "1"}, {"a": "2"})
    assert not taken(deleted, {"a": "1"})
    assert not taken("0" * 32, {"a": "1"})
    assert runs.get(run).params == texts
    assert quick.is_open  # what the database refused has not cost the connection
    assert not quick.is_lost
    for _ in range(2):
        intake.submit("default", other, (), {"d": "1"}).result(20)
    assert taken(run, {"d": "1"})
    assert not taken(run, {"c": "", "d": "2"})
    assert runs.get(run).params == {**texts, "d": "1"}
    names = {quick.group_of(intake.batch("default", of, (), {"a": "1"}, {})) for of in (run, other)}
    assert len(names) == 2


@pytest.mark.postgres
@pytest.mark.parametrize(("sync_every_s", "expected"), [(60, [b"on", b"off", b"off"]), (0, [b"on", b"on", b"on"])])
def test_the_quick_way_waits_for_the_disk_now_and_then(
    stores_postgres: Stores, monkeypatch: pytest.MonkeyPatch, sync_every_s: float, expected: list[bytes]
) -> None:
    run, intake = RunService(stores_postgres, Scope()).start().id, MetricIntake(stores_postgres)
    for step in range(2):
        intake.submit("default", run, [TimedPoint("m", 0.5, step, 0)]).result(20)
    answer, levels = Link.answer, []

    def noted(link: Link) -> Any:
        found = answer(link)
        levels.extend(row[2] for row in found or [])
        return found

    monkeypatch.setattr(Link, "answer", noted)
    quick = QuickWriter(stores_postgres.db, sync_every_s=sync_every_s)
    quick.open()
    for step in range(2, 5):
        assert stored(quick, [intake.batch("default", run, [TimedPoint("m", 0.5, step, 0)], {}, {})])
    assert levels == expected
    intake.close()


def test_what_cannot_be_stored_at_once_is_left_alone(stores_sqlite: Stores, tmp_path: Path) -> None:
    runs = RunService(stores_sqlite, Scope())
    run, intake = runs.start().id, MetricIntake(stores_sqlite, sync_every_s=60)

    def at_once(step: int, of: str = run) -> Any:
        return intake.store_at_once([intake.batch("default", of, [TimedPoint("m", 0.5, step, 0)], {}, {})])

    assert at_once(0) is None  # it is time to wait for the disk
    intake.submit("default", run, [TimedPoint("m", 0.5, 0, 0)]).result(20)
    assert (at_once(1), intake.quick()) == ([None], None)
    assert [type(error).__name__ for error in at_once(2, "0" * 32)] == ["NotFound"]
    other = sqlite3.connect(stores_sqlite.db.place, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    assert at_once(3) is None
    other.execute("ROLLBACK")
    with stores_sqlite.db.begin(), pytest.raises(RuntimeError), stores_sqlite.db.begin_at_once():
        pass
    many = [TimedPoint("m", 0.5, step, 0) for step in range(2_000)]
    assert intake.store_at_once([intake.batch("default", run, many, {}, {})]) is None
    assert at_once(4) == [None]
    other.close()
    stores_sqlite.db.close()  # it connects anew
    assert at_once(5) == [None]
    intake.close()
    assert at_once(6) is None
    assert runs.history(run, "m").steps == [0, 1, 4, 5]
