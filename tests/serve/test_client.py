"""The client keeps the order of rows, says which were refused, and outlives the server."""

from __future__ import annotations

import threading
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from tests.serve.conftest import Served, adding_bundle

from loopwright.core import Invalid, NotFound, Unavailable
from loopwright.serve import InferenceClient, InferenceProcess, ServedEndpoint, Variant, read_predictions


@pytest.fixture
def process(served: Served, tmp_path: Path) -> InferenceProcess:
    digest = served.put(adding_bundle(1.0, tmp_path / "plus"))
    served.publish(ServedEndpoint("e", "salt", (Variant("champion", "model:m@1", digest),)))
    return served.start()


@pytest.mark.slow
def test_rows_are_answered_and_logged_in_their_order(process: InferenceProcess, served: Served) -> None:
    values = [float(number) for number in range(3000)]
    times = [datetime(2013, 1, 1, tzinfo=UTC), *range(1, 3000)]
    with InferenceClient(process.url, pipeline=64) as client:
        got = client.infer_many("e", {"x": values}, keys=[f"k{n}" for n in range(3000)], event_times=times)
    assert got.outputs == {"value": [value + 1 for value in values]}
    assert got.errors == {}
    found, _ = read_predictions(served.journal, limit=10_000)
    assert [item.id for item in found] == got.prediction_ids
    assert [item.features for item in found] == [[value] for value in values]
    assert [item.key for item in found[:2]] == ["k0", "k1"]
    assert [item.event_time for item in found[:2]] == [1_356_998_400_000_000, 1]


@pytest.mark.slow
@pytest.mark.parametrize("connections", [1, 3])
def test_refused_rows_are_told_by_their_number(process: InferenceProcess, connections: int) -> None:
    with InferenceClient(process.url, connections=connections) as client:
        got = client.infer_many("e", {"x": [1.0, None, 3.0, float("nan"), 5.0]})
    assert sorted(got.errors) == [1, 3]
    assert "input 'x', row 0: is missing" in got.errors[1]
    assert got.outputs["value"] == [2.0, None, 4.0, None, 6.0]
    assert [bool(identifier) for identifier in got.prediction_ids] == [True, False, True, False, True]


@pytest.mark.slow
@pytest.mark.parametrize("make", [list, np.array, pl.Series, tuple])
def test_columns_come_as_lists_arrays_or_series(process: InferenceProcess, make: Any) -> None:
    with InferenceClient(process.url) as client:
        assert client.infer("e", {"x": make([1.5, 2.5])}).outputs["value"] == [2.5, 3.5]


def test_refusals_have_the_kind_of_their_status(process: InferenceProcess) -> None:
    with InferenceClient(process.url) as client:
        with pytest.raises(NotFound, match="no endpoint 'other'"):
            client.infer("other", {"x": [1.0]})
        with pytest.raises(Invalid, match="row 1: is missing"):
            client.infer("e", {"x": [1.0, None]})
        with pytest.raises(Invalid, match=r"2 rows, but 1 keys, 3 y"):
            client.infer("e", {"x": [1.0, 2.0], "y": [1, 2, 3]}, keys=["a"])
        with pytest.raises(Invalid, match="no columns"):
            client.infer_many("e", {})
        assert client.infer_many("e", {"x": []}).prediction_ids == []


def test_an_address_of_another_form_is_refused() -> None:
    with pytest.raises(Invalid, match="no address"):
        InferenceClient("ftp://127.0.0.1")


def test_nobody_listening_is_unavailable() -> None:
    with InferenceClient("http://127.0.0.1:9") as client, pytest.raises(Unavailable, match="does not answer"):
        client.infer("e", {"x": [1.0]})


@pytest.mark.fault
def test_a_replay_goes_on_through_a_kill_and_a_restart(process: InferenceProcess, served: Served) -> None:
    port = int(process.url.rsplit(":", 1)[1])
    got: list[Any] = []
    values = [float(number) for number in range(30_000)]

    def replay() -> None:
        with InferenceClient(process.url, retry_s=20) as client:
            got.append(client.infer_many("e", {"x": values}))

    caller = threading.Thread(target=replay)
    caller.start()
    end = time.monotonic() + 60
    while not read_predictions(served.journal, limit=1)[0]:
        assert time.monotonic() < end
        time.sleep(0.002)
    process.kill()
    assert caller.is_alive(), "the replay was over before the kill"
    served.start(port=port)
    caller.join(60)
    [answers] = got
    assert answers.outputs["value"] == [value + 1 for value in values]
    ids = {item.id for item in read_predictions(served.journal, limit=10**6)[0]}
    assert set(answers.prediction_ids) <= ids
    assert len(set(answers.prediction_ids)) == 30_000
