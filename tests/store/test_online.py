"""One contract, two online stores."""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.examples import examples

from loopwright.core import Corrupt, Invalid, Unavailable
from loopwright.store.online import OnlineStore, SqliteOnlineStore, open_online

T0 = datetime(2013, 6, 1, 12, tzinfo=UTC)


@pytest.fixture(params=["sqlite", pytest.param("redis", marks=pytest.mark.redis)])
def online(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[OnlineStore]:
    place = str(tmp_path / "online.sqlite") if request.param == "sqlite" else request.getfixturevalue("redis_url")
    store = open_online(place)
    yield store
    store.close()


def test_reads_rows_in_the_order_of_the_keys_asked(online: OnlineStore) -> None:
    online.write("v", {"a": (T0, b"1"), "b": (T0, b"2")})
    assert online.read("v", ["b", "missing", "a", "b"]) == [(T0, b"2"), None, (T0, b"1"), (T0, b"2")]


def test_an_older_row_never_replaces_a_newer_one(online: OnlineStore) -> None:
    online.write("v", {"a": (T0, b"new")})
    online.write("v", {"a": (T0 - timedelta(microseconds=1), b"old")})
    assert online.read("v", ["a"]) == [(T0, b"new")]


def test_of_two_rows_with_one_event_time_the_later_written_stays(online: OnlineStore) -> None:
    online.write("v", {"a": (T0, b"first")})
    online.write("v", {"a": (T0, b"second")})
    assert online.read("v", ["a"]) == [(T0, b"second")]


def test_times_before_1970_and_payloads_of_any_bytes_come_back(online: OnlineStore) -> None:
    old = datetime(1815, 12, 10, tzinfo=UTC)
    payload = bytes(range(256)) + b"\x00\r\n"
    online.write("v", {"ada": (old, payload), "empty": (T0, b"")})
    assert online.read("v", ["ada", "empty"]) == [(old, payload), (T0, b"")]
    online.write("v", {"ada": (old - timedelta(days=1), b"older")})
    assert online.read("v", ["ada"]) == [(old, payload)]


def test_any_time_zone_is_kept_as_the_same_moment_in_utc(online: OnlineStore) -> None:
    online.write("v", {"a": (T0.astimezone(timezone(timedelta(hours=-5))), b"x")})
    found = online.read("v", ["a"])[0]
    assert found is not None
    assert found[0] == T0
    assert found[0].tzinfo is UTC


def test_a_time_without_zone_is_refused_and_nothing_is_written(online: OnlineStore) -> None:
    with pytest.raises(Invalid, match="has no zone"):
        online.write("v", {"a": (datetime(2013, 1, 1), b"x")})  # noqa: DTZ001  (the point of the test)
    assert online.count("v") == 0


def test_views_do_not_see_each_other(online: OnlineStore) -> None:
    online.write("p/v", {"a": (T0, b"1")})
    online.write("p/w", {"a": (T0, b"2"), "b": (T0, b"3")})
    online.delete("p/v")
    assert (online.count("p/v"), online.count("p/w")) == (0, 2)
    assert online.read("p/v", ["a"]) == [None]


def test_keys_may_hold_any_text(online: OnlineStore) -> None:
    keys = ["", "a b", "ü", "'; DROP TABLE", "x" * 2000, '{"carrier":"UA"}', "\x00"]
    online.write("v", {key: (T0, key.encode()) for key in keys})
    assert online.read("v", keys) == [(T0, key.encode()) for key in keys]


def test_nothing_written_and_nothing_asked_is_fine(online: OnlineStore) -> None:
    online.write("v", {})
    assert online.read("v", []) == []


def test_many_rows_and_many_keys_at_once(online: OnlineStore) -> None:
    rows = {f"k{i}": (T0 + timedelta(seconds=i), str(i).encode()) for i in range(5000)}
    online.write("v", rows)
    assert online.count("v") == 5000
    assert online.read("v", list(rows)) == list(rows.values())


def test_writers_at_once_in_any_order_leave_the_newest(online: OnlineStore) -> None:
    writes = [{f"k{key}": (T0 + timedelta(seconds=n), str(n).encode())} for key in range(5) for n in range(40)]
    random.Random(7).shuffle(writes)
    workers = [
        threading.Thread(target=lambda part=writes[i::4]: [online.write("v", row) for row in part]) for i in range(4)
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    newest = (T0 + timedelta(seconds=39), b"39")
    assert online.read("v", [f"k{key}" for key in range(5)]) == [newest] * 5


def test_a_healthy_store_has_no_problems(online: OnlineStore) -> None:
    online.write("v", {"a": (T0, b"1")})
    assert online.check() == []


@settings(max_examples=examples(40), deadline=None)
@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(-5, 5), st.binary(max_size=4)), max_size=20))
def test_every_order_of_writes_keeps_the_newest(
    tmp_path_factory: pytest.TempPathFactory, writes: list[tuple[str, int, bytes]]
) -> None:
    store = SqliteOnlineStore(tmp_path_factory.mktemp("online") / "o.sqlite")
    newest: dict[str, tuple[datetime, bytes]] = {}
    for key, second, payload in writes:
        at = T0 + timedelta(seconds=second)
        store.write("v", {key: (at, payload)})
        if key not in newest or at >= newest[key][0]:
            newest[key] = (at, payload)
    assert store.read("v", list("abc")) == [newest.get(key) for key in "abc"]
    store.close()


def test_another_process_sees_what_was_written(tmp_path: Path) -> None:
    first, second = open_online(tmp_path), open_online(tmp_path)
    first.write("v", {"a": (T0, b"1")})
    assert second.read("v", ["a"]) == [(T0, b"1")]


def test_a_damaged_file_is_corrupt_and_says_what_to_do(tmp_path: Path) -> None:
    path = tmp_path / "online.sqlite"
    path.write_bytes(b"this is no database, but long enough to be one" * 100)
    store = open_online(path)
    with pytest.raises(Corrupt, match="materialise the feature views again"):
        store.count("v")
    assert "is damaged" in store.check()[0]


def test_a_file_where_the_folder_should_be_is_unavailable(tmp_path: Path) -> None:
    (tmp_path / "occupied").write_text("x")
    with pytest.raises(Unavailable):
        open_online(tmp_path / "occupied" / "online.sqlite").count("v")


def test_an_unknown_scheme_is_refused() -> None:
    with pytest.raises(Invalid, match="cassandra"):
        open_online("cassandra://host/keyspace")


@pytest.mark.redis
def test_a_redis_that_is_gone_is_unavailable() -> None:
    store = open_online("redis://127.0.0.1:1/0")
    with pytest.raises(Unavailable, match="does not answer"):
        store.count("v")
    assert len(store.check()) == 1
