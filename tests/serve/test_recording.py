"""What the log holds of answers: all of it, or what the policy lets through, within its bytes."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.examples import examples
from tests.serve.conftest import Plane, adding_bundle
from tests.serve.test_dataplane import MakePlane, ask, plus, run, variant

from loopwright.core import Invalid
from loopwright.serve import LogPolicy, Record, read_predictions
from loopwright.serve.model import KeyLogging
from loopwright.serve.prediction_log import PredictionLog
from loopwright.serve.query import Query

__all__ = ["plus"]


def test_a_policy_keeps_inputs_and_keys_out_of_the_log_or_tells_their_hash(
    make_plane: MakePlane, tmp_path: Path
) -> None:
    made = make_plane()
    policy = LogPolicy(drop=("x",), hash=("wind",), keys=KeyLogging.HASH)
    endpoint = made.serve((variant("champion"), adding_bundle(1, tmp_path / "b", "wind")), log=policy)

    async def work() -> Any:
        asked = []
        for rows in (endpoint.intake.rows([("x", [1.0, 2.0]), ("wind", [7.0, 7.0])]), None):
            reply: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
            block = endpoint.intake.block({"x": np.array([1.0, 2.0]), "wind": np.array([7.0, 7.0])})
            made.plane.submit(Query("e", rows or block, reply.set_result, keys=["ann", "bob"]), endpoint)
            asked.append(await reply)
        return asked

    lists, arrays = run(work())
    assert lists.outputs == arrays.outputs == {"value": [9.0, 10.0]}
    logged, _ = read_predictions(made.folder / "journal")
    assert {item.columns for item in logged} == {("wind",)}
    [told] = {item.features[0] for item in logged}
    assert len(told) == 32, "equal values have one hash"
    assert len({item.key for item in logged}) == 2
    secret = made.folder / "journal" / "hash.key"
    assert secret.stat().st_mode & 0o777 == 0o600
    text = b"".join(path.read_bytes() for path in (made.folder / "journal").glob("*.journal"))
    assert b"ann" not in text


def test_a_policy_for_an_input_that_is_not_there_is_refused(make_plane: MakePlane, plus: Any) -> None:
    with pytest.raises(Invalid, match="'ssn', which no variant takes"):
        make_plane().serve((variant("champion"), plus(1)), log=LogPolicy(drop=("ssn",)))


def test_a_log_that_has_all_its_bytes_takes_no_more_and_answers_go_on(
    tmp_path: Path, plus: Any, capfd: pytest.CaptureFixture[str]
) -> None:
    made = Plane(tmp_path)
    endpoint = made.serve((variant("champion"), plus(1)))
    made.log._most_bytes = 1
    first, second = run(ask(made, endpoint, [1.0])), None
    made.log._look_at_s = 0.0
    second = run(ask(made, endpoint, [2.0]))
    run(ask(made, endpoint, [4.0]))
    assert capfd.readouterr().err.count("answers are not logged: the prediction log") == 1, "once a minute"
    assert (bool(first.ids[0]), second.ids, second.outputs["value"]) == (True, [""], [3.0])
    assert made.metrics.unlogged == 2


def test_the_environment_says_how_the_log_is_put_on_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[int] = []
    monkeypatch.setattr("os.fsync", synced.append)
    log = PredictionLog.from_environment(tmp_path, {"LOOPWRIGHT_LOG_FSYNC_MS": "0", "LOOPWRIGHT_LOG_GIB": "0.5"})
    before = len(synced)
    log.append([Record("0" * 32, "e", "v", "model:m@1", 0, 0, "", "key", [], {}, 0)])
    assert len(synced) > before, "the batch is on the disk when append returns"
    assert log._most_bytes == 1 << 29
    with pytest.raises(Invalid, match="LOOPWRIGHT_LOG_GIB is 'much'"):
        PredictionLog.from_environment(tmp_path, {"LOOPWRIGHT_LOG_GIB": "much"})


rows_of_models = st.lists(
    st.tuples(st.floats(-1e6, 1e6, width=32), st.none() | st.text(max_size=2)), min_size=1, max_size=6
)


@settings(max_examples=examples(40), deadline=None, suppress_health_check=list(HealthCheck))
@given(
    asked=st.lists(rows_of_models, min_size=1, max_size=5), as_block=st.booleans(), sample=st.sampled_from([1.0, 0.5])
)
def test_records_of_batches_read_back_what_was_answered(
    tmp_path_factory: pytest.TempPathFactory, plus: Any, asked: list[Any], as_block: bool, sample: float
) -> None:
    made = Plane(tmp_path_factory.mktemp("plane"))
    variants = [(variant("champion", 1, 0.5), plus(1)), (variant("candidate", 2, 0.5), plus(2))]
    endpoint = made.serve(*variants, log=LogPolicy(sample=sample))

    async def one(rows: list[Any]) -> Any:
        reply: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        values = [value for value, _ in rows]
        if as_block:
            given_: Any = endpoint.intake.block({"x": np.array(values, dtype=np.float64)})
        else:
            given_ = endpoint.intake.rows([("x", values)])
        keys = [key or "" for _, key in rows]
        times = [number * 10**6 for number in range(len(rows))]
        made.plane.submit(Query("e", given_, reply.set_result, keys=keys, event_times=times), endpoint)
        return await reply

    async def work() -> Any:
        return await asyncio.gather(*map(one, asked))

    answers = run(work())
    logged = {item.id: item for item in read_predictions(made.folder / "journal")[0]}
    expected = {
        identifier: ([value], {"value": output}, key or "", place * 10**6, name)
        for rows, answer in zip(asked, answers, strict=True)
        for place, (identifier, (value, key), output, name) in enumerate(
            zip(answer.ids, rows, answer.outputs["value"], answer.variants, strict=True)
        )
        if identifier
    }
    told = {at: (one.features, one.outputs, one.key, one.event_time, one.variant) for at, one in logged.items()}
    assert told == expected
    made.plane.close()
