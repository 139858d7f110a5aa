"""The database: transactions, snapshots, leases, and errors in our words, on both databases."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import Column, Connection, MetaData, String, Table, select, text
from sqlalchemy.dialects import sqlite

from loopwright.core import Conflict, Invalid, Scope, Unavailable
from loopwright.store import Json, Stores, UtcTime
from loopwright.store.db import engines, open_database
from loopwright.store.db.schema import state

TIMES = st.datetimes(datetime(1, 1, 1), datetime(9999, 12, 31), timezones=st.just(UTC))  # noqa: DTZ001  (zone: UTC)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=8,
)  # fmt: skip
DIALECT: Any = sqlite.dialect()


def put(tx: Connection, key: str, value: str = "v") -> None:
    tx.execute(state.insert().values(key=key, value=value))


def keys(stores: Stores) -> set[str]:
    with stores.db.read() as connection:
        return set(connection.execute(select(state.c.key)).scalars()) - {"schema"}


def put_and_fail(stores: Stores) -> None:
    with stores.db.begin() as tx:
        put(tx, "undone")
        raise ZeroDivisionError


def test_a_change_is_kept_whole_or_not_at_all(stores: Stores) -> None:
    with stores.db.begin() as tx:
        put(tx, "kept")
    with pytest.raises(ZeroDivisionError):
        put_and_fail(stores)
    assert keys(stores) == {"kept"}


def test_a_read_block_sees_one_state_throughout(stores: Stores) -> None:
    with stores.db.read() as connection:
        count = select(state.c.key)
        before = connection.execute(count).all()
        with stores.db.begin() as tx:
            put(tx, "later")
        assert connection.execute(count).all() == before
    assert keys(stores) == {"later"}


@pytest.mark.slow
def test_a_read_block_cannot_write_on_postgresql(stores_postgres: Stores) -> None:
    with pytest.raises(Unavailable, match="read-only"), stores_postgres.db.read() as connection:
        put(connection, "x")


def nested(stores: Stores) -> None:
    with stores.db.begin(), stores.db.begin():
        pass


def test_a_change_inside_a_change_is_refused_as_a_bug(stores: Stores) -> None:
    with pytest.raises(RuntimeError, match="begin\\(\\) inside begin\\(\\)"):
        nested(stores)
    with stores.db.begin() as tx:
        put(tx, "fine afterwards")
    assert keys(stores) == {"fine afterwards"}


def test_a_row_that_exists_is_a_conflict(stores: Stores) -> None:
    with stores.db.begin() as tx:
        put(tx, "a")
    with pytest.raises(Conflict, match="breaks a rule"), stores.db.begin() as tx:
        put(tx, "a")


def test_an_upsert_updates_the_named_columns_only(stores: Stores) -> None:
    with stores.db.begin() as tx:
        tx.execute(stores.db.upsert(state, {"key": "a", "value": "1"}, ["key"], ["value"]))
        tx.execute(stores.db.upsert(state, {"key": "a", "value": "2"}, ["key"], ["value"]))
        rows = [{"key": "a", "value": "3"}, {"key": "b", "value": "3"}]
        tx.execute(stores.db.upsert(state, rows, ["key"]))
        found = {row.key: row.value for row in tx.execute(select(state)) if row.key != "schema"}
    assert found == {"a": "2", "b": "3"}


def count_up(stores: Stores, times: int, *, locked: bool) -> None:
    for _ in range(times):
        with stores.db.begin() as tx:
            if locked:
                stores.db.lock(tx, "counter")
            now = int(tx.execute(select(state.c.value).where(state.c.key == "counter")).scalar_one())
            time.sleep(0.001)
            tx.execute(state.update().where(state.c.key == "counter").values(value=str(now + 1)))


def in_threads(count: int, work: Callable[[], None]) -> None:
    threads = [threading.Thread(target=work) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def test_changes_under_a_lock_follow_each_other(stores: Stores) -> None:
    with stores.db.begin() as tx:
        put(tx, "counter", "0")
    in_threads(6, lambda: count_up(stores, 10, locked=True))
    with stores.db.read() as connection:
        assert connection.execute(select(state.c.value).where(state.c.key == "counter")).scalar_one() == "60"


def test_concurrent_writers_and_sealers_lose_no_event(stores: Stores) -> None:
    def work() -> None:
        for number in range(20):
            with stores.db.begin() as tx:
                stores.events.append(tx, "run.started", f"run:{number}", Scope())
            stores.events.seal()

    in_threads(5, work)
    report = stores.events.verify()
    assert (report.ok, report.events, report.problem) == (True, 100, "")


def test_one_holder_has_a_lease_until_it_runs_out(stores: Stores) -> None:
    assert stores.db.try_lease("controller", "a", 1.0)
    assert not stores.db.try_lease("controller", "b", 5)
    assert stores.db.try_lease("other", "b", 5)
    time.sleep(1.05)
    assert stores.db.try_lease("controller", "b", 5)
    assert not stores.db.try_lease("controller", "a", 5)


@pytest.mark.slow
def test_a_renewed_lease_lasts(stores: Stores) -> None:
    for _ in range(8):  # 2 s in all, more than one lease
        assert stores.db.try_lease("controller", "a", 1.5)
        assert not stores.db.try_lease("controller", "b", 1.5)
        time.sleep(0.25)


def test_a_released_lease_is_free_but_only_its_holder_releases_it(stores: Stores) -> None:
    stores.db.try_lease("controller", "a", 60)
    stores.db.release_lease("controller", "b")
    assert not stores.db.try_lease("controller", "b", 60)
    stores.db.release_lease("controller", "a")
    assert stores.db.try_lease("controller", "b", 60)


def test_of_many_who_ask_at_once_one_gets_the_lease(stores: Stores) -> None:
    got: list[bool] = []
    names = iter(range(8))
    in_threads(8, lambda: got.append(stores.db.try_lease("controller", f"holder {next(names)}", 60)))
    assert sorted(got) == [False] * 7 + [True]


def test_a_sound_database_has_no_problems(stores: Stores) -> None:
    assert stores.db.check() == []


@given(TIMES)
def test_times_come_back_to_the_microsecond(moment: datetime) -> None:
    kept = UtcTime().process_bind_param(moment, DIALECT)
    assert UtcTime().process_result_value(kept, DIALECT) == moment


@given(TIMES, TIMES)
def test_times_are_kept_in_order(one: datetime, other: datetime) -> None:
    first, second = (UtcTime().process_bind_param(moment, DIALECT) or 0 for moment in (one, other))
    assert (first < second) == (one < other)


def test_a_time_without_a_zone_is_refused() -> None:
    with pytest.raises(ValueError, match="has no zone"):
        UtcTime().process_bind_param(datetime(2026, 1, 1), DIALECT)  # noqa: DTZ001  (that is the point)


@given(VALUES)
def test_json_comes_back_as_it_was(value: Any) -> None:
    assert Json().process_result_value(Json().process_bind_param(value, DIALECT), DIALECT) == value


def test_json_with_any_text_comes_back_from_both_databases(stores: Stores) -> None:
    table = Table("json_probe", MetaData(), Column("id", String(8), primary_key=True), Column("value", Json))
    value = {"ü": ["\u2028", 'quote " and \\', "🛫"], "n": [1.5e300, -0.0, 2**62], "none": None}
    with stores.db.begin() as tx:
        table.create(tx)
        tx.execute(table.insert().values(id="a", value=value))
    with stores.db.read() as connection:
        assert connection.execute(select(table.c.value)).scalar_one() == value


@pytest.mark.parametrize(
    "url, problem",
    [
        ("mysql://localhost/x", "there is no database kind 'mysql'"),
        ("sqlite://", "must be a file"),
        ("just words", "is not a database URL"),
    ],
)
def test_an_unknown_url_is_refused(url: str, problem: str) -> None:
    with pytest.raises(Invalid, match=problem):
        open_database(url, [])


def test_a_malformed_url_does_not_show_its_password() -> None:
    with pytest.raises(Invalid) as caught:
        open_database("postgresql//ann:secret@host/db", [])
    assert "secret" not in str(caught.value)


def test_a_server_that_does_not_answer_is_unavailable_and_its_password_hidden() -> None:
    with pytest.raises(Unavailable, match="does not answer") as caught:
        open_database("postgresql://ann:secret@127.0.0.1:1/db", [])
    assert "secret" not in str(caught.value)
    assert "check that the server runs" in str(caught.value)


def test_a_lost_connection_is_unavailable_and_the_next_change_works(stores_postgres: Stores) -> None:
    from sqlalchemy import text

    with pytest.raises(Unavailable, match="does not answer"), stores_postgres.db.begin() as tx:
        tx.execute(text("SELECT pg_terminate_backend(pg_backend_pid())"))
    with stores_postgres.db.begin() as tx:
        put(tx, "after")
    assert keys(stores_postgres) == {"after"}


def test_only_a_relaxed_change_does_not_wait_for_the_disk(stores_sqlite: Stores) -> None:
    levels = []
    for number, relaxed in enumerate((False, True, True, False)):
        with stores_sqlite.db.begin(relaxed=relaxed) as tx:
            levels.append(tx.exec_driver_sql("PRAGMA synchronous").scalar_one())
            put(tx, str(number))
    full, normal = 2, 1
    assert levels == [full, normal, normal, full]
    assert keys(stores_sqlite) == {"0", "1", "2", "3"}


@pytest.mark.parametrize("values", [{"key": "a\0b"}, [{"key": "a"}, {"key": "\0"}]])
def test_a_nul_character_is_refused_by_both_databases(stores: Stores, values: Any) -> None:
    with pytest.raises(Invalid, match="NUL"), stores.db.begin() as tx:
        tx.execute(state.insert().values(value="v"), values)
    with pytest.raises(Invalid, match="NUL"), stores.db.read() as connection:
        connection.execute(select(state.c.key).where(state.c.key.in_(["a", "b\0"])))
    with stores.db.begin() as tx:
        put(tx, "a\\0 b\u2400")
    assert keys(stores) == {"a\\0 b\u2400"}


@pytest.mark.postgres
def test_a_nul_character_within_a_value_is_refused_by_the_driver(stores_postgres: Stores) -> None:
    with pytest.raises(Invalid, match="NUL"), stores_postgres.db.read() as connection:
        connection.exec_driver_sql("SELECT %s::text[]", ([["a\0b"]],))


@pytest.mark.postgres
def test_no_other_transaction_inherits_that_a_relaxed_one_does_not_wait(stores_postgres: Stores) -> None:
    levels, connections = [], set()
    for number, relaxed in enumerate((False, True, True, False)):
        with stores_postgres.db.begin(relaxed=relaxed) as tx:
            levels.append(tx.exec_driver_sql("SHOW synchronous_commit").scalar_one())
            connections.add(tx.exec_driver_sql("SELECT pg_backend_pid()").scalar_one())
            put(tx, str(number))
    with pytest.raises(ValueError), stores_postgres.db.begin(relaxed=True):
        raise ValueError
    with stores_postgres.db.begin() as tx:
        levels.append(tx.exec_driver_sql("SHOW synchronous_commit").scalar_one())
    with stores_postgres.db.read() as connection:
        levels.append(connection.exec_driver_sql("SHOW synchronous_commit").scalar_one())
    assert levels == ["on", "off", "off", "on", "on", "on"]
    assert len(connections) == 1
    assert keys(stores_postgres) == {"0", "1", "2", "3"}


@pytest.mark.postgres
def test_a_connection_that_was_lost_while_it_rested_is_replaced(
    stores_postgres: Stores, postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import psycopg

    def lose_one() -> None:
        with stores_postgres.db.read() as connection:
            pid = connection.execute(text("SELECT pg_backend_pid()")).scalar_one()
        with psycopg.connect(postgres_url.replace("+psycopg", "")) as other:
            other.execute("SELECT pg_terminate_backend(%s, 5000)", (pid,))

    monkeypatch.setattr(engines, "_TRUSTED_S", 60.0)
    lose_one()
    with pytest.raises(Unavailable), stores_postgres.db.read() as connection:
        connection.execute(select(state.c.key))
    monkeypatch.setattr(engines, "_TRUSTED_S", 0.0)
    lose_one()
    assert keys(stores_postgres) == set()
