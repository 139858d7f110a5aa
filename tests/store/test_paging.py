"""Pages by key: each row once, in order, whatever has no value; tokens of other searches are refused."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Column, Float, Integer, MetaData, String, Table, insert, select
from tests.examples import examples

from loopwright.core import Invalid
from loopwright.store import Keyset, Stores, UtcTime

BEGIN = datetime(2026, 1, 1, tzinfo=UTC)
things = Table(
    "paged_things",
    MetaData(),
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("name", String(20), nullable=False),
    Column("score", Float),
    Column("at", UtcTime),
)
ROWS = [
    {
        "id": number,
        "name": "abc"[number % 3],
        "score": None if number % 4 == 0 else number % 5 / 2,
        "at": None if number % 7 == 0 else BEGIN + timedelta(microseconds=number % 6),
    }
    for number in range(40)
]


@pytest.fixture
def filled(stores: Stores) -> Iterator[Stores]:
    with stores.db.begin() as tx:
        things.create(tx)
        tx.execute(insert(things), ROWS)
    yield stores
    with stores.db.begin() as tx:
        things.drop(tx)


def ranked(rows: list[dict[str, Any]], order: list[tuple[str, bool]]) -> list[int]:
    """The ids in order, by a stable sort of the last key first; what has no value comes last."""
    for name, falls in reversed([*order, ("id", False)]):
        there = sorted((row for row in rows if row[name] is not None), key=lambda row: row[name], reverse=falls)
        rows = there + [row for row in rows if row[name] is None]
    return [row["id"] for row in rows]


orders = st.lists(
    st.tuples(st.sampled_from(["name", "score", "at"]), st.booleans()), max_size=3, unique_by=lambda item: item[0]
)


@settings(max_examples=examples(40), deadline=None, suppress_health_check=list(HealthCheck))
@given(order=orders, size=st.integers(1, 45))
def test_pages_give_each_row_once_in_order(filled: Stores, order: list[tuple[str, bool]], size: int) -> None:
    keyset = Keyset([(things.c[name], falls) for name, falls in [*order, ("id", False)]])
    got: list[int] = []
    after = ""
    with filled.db.read() as connection:
        while True:
            rows, after = keyset.page(connection, select(things), size, after, order)
            got += [row.id for row in rows]
            if not after:
                break
            assert len(rows) == size
    assert got == ranked(ROWS, order)


def sealed(mark: str, values: list[Any]) -> str:
    return base64.urlsafe_b64encode(msgspec.msgpack.encode({"search": mark, "values": values})).decode()


def test_tokens_that_are_not_of_this_search_are_refused(filled: Stores) -> None:
    keyset = Keyset([(things.c.at, True), (things.c.name, False), (things.c.id, False)])
    with filled.db.read() as connection:
        _, token = keyset.page(connection, select(things), 3, "", "this")
        mark = msgspec.msgpack.decode(base64.urlsafe_b64decode(token))["search"]
        assert keyset.page(connection, select(things), 3, sealed(mark, [5, "a", 3]), "this")[0]
        bad = [
            sealed(mark, values)
            for values in ([], [5, "a"], ["x", "a", 3], [5, None, 3], [5, 3, 3], [-1, "a", 3], [1 << 62, "a", 3])
        ]
        bad += [sealed(mark, [5, "a", "3"]), sealed(mark, [5, "a", 1 << 63]), sealed("other", [5, "a", 3])]
        for made_up in [*bad, "x", "é", token[:-3], "A" * 5000]:
            with pytest.raises(Invalid, match="page token"):
                keyset.page(connection, select(things), 3, made_up, "this")
        with pytest.raises(Invalid, match="page token"):
            keyset.page(connection, select(things), 3, token, "that")
