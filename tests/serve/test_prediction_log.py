"""What was logged is read, once, in order, by any number of readers."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loopwright.core import Corrupt, Unavailable, new_id
from loopwright.serve import PredictionLog, PredictionStatus, Record, read_predictions

scalars = st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats() | st.text()


def record(columns: str, features: list[Any], **changes: Any) -> Record:
    given_ = {"key": "k", "outputs": {"label": 1, "probability": 0.25}, "latency_us": 90, **changes}
    return Record(new_id(), "e", "champion", "model:m@1", 1_000, 2_000, columns=columns, features=features, **given_)


@pytest.mark.slow
@given(st.lists(scalars, min_size=1, max_size=5), st.text())
def test_every_value_comes_back(tmp_path_factory: pytest.TempPathFactory, features: list[Any], key: str) -> None:
    folder = tmp_path_factory.mktemp("journal")
    log = PredictionLog(folder)
    names = [f"c{number}" for number in range(len(features))]
    made = record(log.columns_key(names), features, key=key, status=PredictionStatus.ERROR, error="why", rollout="r")
    log.append([made])
    [found], _ = read_predictions(folder)
    log.close()
    assert found.columns == tuple(names)
    assert (found.id, found.key, found.status, found.error, found.rollout) == (made.id, key, "error", "why", "r")
    assert (found.event_time, found.received_at, found.latency_us) == (1_000, 2_000, 90)
    for had, got in zip(features, found.features, strict=True):
        assert got == had or (isinstance(had, float) and math.isnan(had) and math.isnan(got))


def test_a_cursor_goes_on_where_it_stopped_with_several_writers(tmp_path: Path) -> None:
    logs = [PredictionLog(tmp_path) for _ in range(3)]
    key = logs[0].columns_key(["x"])
    made = []
    cursor, found = None, []
    for turn in range(12):
        batch = [record(key, [float(turn)]) for _ in range(turn)]
        logs[turn % 3].append(batch)
        made += [item.id for item in batch]
        got, cursor = read_predictions(tmp_path, cursor, limit=4)
        found += [item.id for item in got]
    while True:
        got, cursor = read_predictions(tmp_path, cursor, limit=4)
        if not got:
            break
        found += [item.id for item in got]
    assert sorted(found) == sorted(made)
    for log in logs:
        log.close()


def test_names_of_columns_are_on_the_disk_before_records_refer_to_them(tmp_path: Path) -> None:
    log = PredictionLog(tmp_path)
    key = log.columns_key(["a", "b"])
    assert log.columns_key(["a", "b"]) == key != log.columns_key(["b", "a"])
    log.append([record(key, [1, 2])])
    (tmp_path / "columns" / f"{key}.json").unlink()
    with pytest.raises(Corrupt, match="lacks the column names"):
        read_predictions(tmp_path)


def test_a_log_that_cannot_be_written_says_so(tmp_path: Path) -> None:
    (tmp_path / "journal").write_text("a file where the folder should be")
    log = PredictionLog(tmp_path / "journal")
    with pytest.raises(Unavailable):
        log.columns_key(["x"])
    with pytest.raises(Unavailable):
        log.append([record("k", [1])])


def test_a_field_added_later_leaves_older_records_readable(tmp_path: Path) -> None:
    import msgspec

    from loopwright.store import JournalWriter

    key = PredictionLog(tmp_path).columns_key(["x"])
    first_eleven = ["i", "e", "v", "model:m@1", 1, 2, "", key, [3.0], {"value": 4.0}, 5]
    with JournalWriter(tmp_path) as writer:
        writer.append(msgspec.msgpack.encode(first_eleven))
    [found], _ = read_predictions(tmp_path)
    assert (found.status, found.shadow, found.features) == ("ok", False, [3.0])
