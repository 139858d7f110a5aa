"""Features looked up by key in real inference processes: the bits of the offline join, and what goes wrong told."""

from __future__ import annotations

import asyncio
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import msgspec
import numpy as np
import polars as pl
import psutil
import pytest
from tests.serve.conftest import Served

from loopwright.core import Invalid, NotFound, Unavailable
from loopwright.features import Entity, FeatureService, FeatureView, LookupReader, RequestView
from loopwright.models import Bundle, build_bundle
from loopwright.serve import (
    FeedbackRecord,
    InferenceClient,
    InferenceProcess,
    ProcessSettings,
    ServedEndpoint,
    Variant,
    deliver_feedback,
    read_predictions,
)
from loopwright.serve.breaker import Breaker
from loopwright.serve.containers.runtime import look_up
from loopwright.serve.feature_reads import FeatureReads
from loopwright.serve.feedback import FeedbackIntake
from loopwright.store import Cursor, JournalReader, online_place_of
from loopwright.workspace import Workspace, open_workspace

NOW = datetime.now(UTC).replace(microsecond=0)
HOUR = timedelta(hours=1)
AIRPORTS = [f"A{number}" for number in range(20)]
INPUTS = ("distance", "temp", "gust", "hot", "far")


def views(scale: float = 1.0) -> tuple[FeatureView, RequestView, FeatureService]:
    weather = FeatureView(
        "weather",
        Entity("airport", ["origin"]),
        "weather",
        "at",
        {"temp": pl.col("temp") * scale, "gust": "gust"},
        ttl=6 * HOUR,
        required=True,
    )
    asked = RequestView("asked", {"hot": pl.col("temp") * pl.col("factor") + 0.1, "far": pl.col("factor") > 0.5})
    return weather, asked, FeatureService("flights", [weather, asked])


class World:
    """Weather of airports, flights to judge, and a model of them: fitted, bundled, and its features online."""

    def __init__(self, workspace: Workspace) -> None:
        self.features = workspace.features
        self.online = online_place_of(workspace.location)
        self._made: dict[float, tuple[Bundle, list[float]]] = {}
        rng = np.random.default_rng(7)
        count = len(AIRPORTS)
        weather = pl.DataFrame({"origin": AIRPORTS, "at": [NOW - HOUR] * count, "temp": rng.normal(size=count)})
        gusts = pl.Series("gust", [None if number % 5 == 0 else float(number) for number in range(count)])
        stale = {"origin": ["OLD"], "at": [NOW - 9 * HOUR], "temp": [1.0], "gust": [1.0]}
        self.features.datasets.ingest("weather", pl.concat([weather.with_columns(gusts), pl.DataFrame(stale)]))
        rows = 300
        self.spine = pl.DataFrame(
            {
                "origin": rng.choice(AIRPORTS, rows),
                "factor": rng.random(rows),
                "distance": rng.random(rows) * 1000,
                "event_timestamp": [NOW] * rows,
            }
        )

    def trained(self, folder: Path, scale: float = 1.0) -> tuple[Bundle, list[float]]:
        """A model of features with this definition, and its answers to the columns of the point-in-time join.

        Made once for each definition, in the folder that was given first.
        """
        if scale not in self._made:
            self._made[scale] = self._trained(folder, scale)
        return self._made[scale]

    def _trained(self, folder: Path, scale: float) -> tuple[Bundle, list[float]]:
        from lightgbm import LGBMRegressor

        self.features.apply(*views(scale))
        self.features.materialise_all()
        joined = self.features.historical(self.spine, "flights").collect()
        inputs = joined.select(pl.col(name).cast(pl.Float32) for name in INPUTS)
        target = inputs["temp"].fill_null(0.0).to_numpy() * 300 + inputs["distance"].to_numpy()
        model = LGBMRegressor(n_estimators=30, verbose=-1).fit(inputs.to_numpy(), target, feature_name=list(INPUTS))
        lookup = self.features.lookup(self.spine, "flights")
        made = build_bundle(model, inputs, task="regression", nullable=["gust"], features=lookup, folder=folder)
        return made, made.predictor().predict({name: inputs[name].to_numpy() for name in INPUTS})["value"].tolist()

    def requests(self) -> list[dict[str, Any]]:
        return self.spine.drop("event_timestamp").to_dicts()


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory, with_schema: Callable[[Path], Path]) -> Iterator[World]:
    with open_workspace(with_schema(tmp_path_factory.mktemp("world"))) as workspace:
        yield World(workspace)


def settings_for(served: Served, online: str) -> ProcessSettings:
    return ProcessSettings(
        state=served.state,
        objects=str(served.root / "objects"),
        journal=served.journal,
        cache=served.root / "cache",
        online=online,
        feedback=served.root / "feedback",
        await_state=True,
    )


def launch(served: Served, online: str) -> InferenceProcess:
    process = InferenceProcess.launch(settings_for(served, online), stderr=subprocess.DEVNULL)
    served.processes.append(process)
    return process


def outputs(answer: httpx.Response) -> list[float]:
    assert answer.status_code == 200, answer.text
    return [item["outputs"]["value"] for item in answer.json()["predictions"]]


@pytest.fixture(scope="module")
def asked(world: World, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[httpx.Client, Served, list[float]]]:
    """A process that serves two versions, whose features have other definitions: as champion and shadow, by half each,
    and the first alone."""
    folder = tmp_path_factory.mktemp("asked")
    served = Served(folder)
    other, others = world.trained(folder / "two", 2.0)
    made, wanted = world.trained(folder / "one")
    assert others != wanted
    champion = Variant("champion", "model:delay@1", served.put(made))
    shadow = Variant("shadow", "model:delay@2", served.put(other), shadow=True)
    second = msgspec.structs.replace(shadow, name="second", shadow=False)
    both = {"delay": (champion, shadow), "plain": (champion,), "split": (champion, second)}
    served.publish(*(ServedEndpoint(name, "salt", variants) for name, variants in both.items()))
    process = launch(served, world.online)
    with httpx.Client(base_url=process.url, timeout=60) as client:
        yield client, served, wanted
    for process in served.processes:
        process.stop(timeout_s=5)


Asked = tuple[httpx.Client, Served, list[float]]


@pytest.mark.slow
def test_by_key_a_model_answers_bit_for_bit_as_with_the_columns_of_the_offline_join(world: World, asked: Asked) -> None:
    web, _, wanted = asked
    rows = world.requests()
    for name in ("delay", "plain"):
        assert outputs(web.post(f"/endpoints/{name}/predict", json={"rows": rows})) == wanted
    columns = {name: [row[name] for row in rows] for name in ("origin", "factor", "distance")}
    keys = {"origin": columns.pop("origin")}
    by_keys = web.post(
        "/endpoints/plain/predict", json={"keys": keys, "columns": columns, "event_time": NOW.isoformat()}
    )
    assert outputs(by_keys) == wanted
    one = web.post("/endpoints/plain/predict", json={"keys": {"origin": rows[0]["origin"]}, "rows": [
        {"factor": rows[0]["factor"], "distance": rows[0]["distance"]}], "explain": True})  # fmt: skip
    [told] = one.json()["predictions"]
    assert told["explanation"]["answer"] == told["outputs"]["value"] == wanted[0]
    assert set(told["explanation"]["values"]) == set(INPUTS)
    asked_at_version = web.post("/endpoints/delay/versions/1/predict", json={"rows": rows[:2]})
    assert outputs(asked_at_version) == wanted[:2]


@pytest.mark.slow
def test_each_half_of_the_traffic_gets_the_features_of_its_own_definitions(world: World, asked: Asked) -> None:
    rows = world.requests()[:100]
    body = {"rows": rows, "key": [f"somebody {number}" for number in range(len(rows))]}
    answers = asked[0].post("/endpoints/split/predict", json=body).json()["predictions"]
    wanted = {"champion": world.trained(Path(), 1.0)[1], "second": world.trained(Path(), 2.0)[1]}
    assert {answer["variant"] for answer in answers} == set(wanted)
    given = [(answer["variant"], answer["outputs"]["value"]) for answer in answers]
    assert given == [(variant, wanted[variant][place]) for place, (variant, _) in enumerate(given)]


@pytest.mark.slow
def test_the_log_has_the_features_as_each_variant_used_them(world: World, asked: Asked) -> None:
    web, served, _ = asked
    row = next(row for row in world.requests() if row["origin"] == "A3")
    [told] = web.post("/endpoints/delay/predict", json={"rows": [row]}).json()["predictions"]
    deadline = time.monotonic() + 60
    logged: dict[str, Any] = {}
    while len(logged) < 2 and time.monotonic() < deadline:
        found = read_predictions(served.journal, Cursor(), 1_000_000)[0]
        logged = {item.variant: item for item in found if told["id"] in (item.id, item.shadow_of)}
        time.sleep(0.05)
    used = {name: dict(zip(item.columns, item.features, strict=True)) for name, item in logged.items()}
    assert used["champion"]["gust"] == used["shadow"]["gust"] == 3.0
    assert used["shadow"]["temp"] == 2.0 * used["champion"]["temp"]  # each by its own definition
    assert used["champion"]["hot"] == used["champion"]["temp"] * row["factor"] + 0.1
    assert used["champion"]["far"] == float(row["factor"] > 0.5)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("body", "status", "message"),
    [
        ({"rows": [{"origin": "A1", "factor": 1, "distance": 1}, {"origin": "ZZ", "factor": 1, "distance": 1}]},
         404, "weather of origin='ZZ' (row 1)"),
        ({"keys": {"origin": "OLD"}, "rows": [{"factor": 1, "distance": 1}]}, 404, "origin='OLD'"),
        ({"keys": {"origin": "A1"}, "event_time": "2020-01-01T00:00:00Z", "columns": {"factor": 1, "distance": 1}},
         404, "nothing fresh is known"),
        ({"keys": {"origin": "A1"}, "rows": [{"factor": 1}]}, 400, "lacks the input(s) distance"),
        ({"keys": {"origin": "A1"}, "rows": [{"distance": 1}]}, 400, "need 'factor'"),
        ({"keys": {"origin": 7}, "rows": [{"distance": 1, "factor": 1}]}, 400, "takes String, not '7'"),
        ({"keys": {"origin": "A1"}, "rows": [{"distance": 1, "factor": 1, "temp": 3}]}, 400, "'temp' is looked up"),
        ({"keys": {"origin": "A1"}, "rows": [{"distance": 1, "factor": 1, "wind": 3}]}, 400, "no input 'wind'"),
        ({"keys": {"origin": ["A1", "A2"]}, "columns": {"distance": [1], "factor": [1]}}, 400, "values, where"),
        ({"rows": [{"origin": "A1", "factor": 1, "distance": 1}, {"origin": "A2"}]}, 400, "row 1 of 'rows' lacks"),
        ({"keys": {"origin": "A1"}, "rows": [{"distance": 1, "factor": None}]}, 400, "'hot' of origin='A1', fac"),
        ({"keys": {"origin": "A1"}, "rows": [{"distance": 1, "factor": 1}], "timeout_ms": 0.0001}, 503, "deadline"),
        ({"columns": {name: [1] for name in INPUTS}, "timeout_ms": 0.0001}, 503, "deadline"),
        ({"columns": {name: [1] for name in INPUTS}, "timeout_ms": -1}, 400, "timeout_ms is -1"),
        ({"keys": {}}, 400, "no rows"),
        ({"keys": {"origin": []}}, 400, "no rows"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_lookup_is_told_with_its_key(
    asked: Asked, body: dict[str, Any], status: int, message: str
) -> None:
    answer = asked[0].post("/endpoints/plain/predict", json=body)
    assert (answer.status_code, message in answer.json()["error"]) == (status, True), answer.text


@pytest.mark.slow
def test_a_store_that_is_away_is_a_quick_503_and_comes_back_by_itself(world: World, served: Served) -> None:
    made, wanted = world.trained(served.root / "one")
    served.publish(ServedEndpoint("plain", "salt", (Variant("v1", "model:delay@1", served.put(made)),)))
    moved = served.root / "gone" / "online.db"
    process = launch(served, str(moved))
    served.root.joinpath("gone").write_text("a file where the folder should be")
    rows = world.requests()[:3]
    with httpx.Client(base_url=process.url, timeout=30) as web:
        answers = [web.post("/endpoints/plain/predict", json={"rows": rows}) for _ in range(5)]
        assert {answer.status_code for answer in answers} == {503}
        assert all(answer.headers["retry-after"] for answer in answers)
        assert "the online store" in answers[-1].json()["error"]
        whole = {name: [1.0] for name in INPUTS}
        assert web.post("/endpoints/plain/predict", json={"columns": whole}).status_code == 200  # it can do without
        assert "loopwright_online_store_up 0" in web.get("/metrics").text
        served.root.joinpath("gone").unlink()
        moved.parent.mkdir()
        source = Path(world.online)
        with closing(sqlite3.connect(source)) as kept, closing(sqlite3.connect(moved)) as copy:
            kept.backup(copy)
        deadline = time.monotonic() + 60
        while (last := web.post("/endpoints/plain/predict", json={"rows": rows})).status_code != 200:
            assert time.monotonic() < deadline, last.text
            time.sleep(0.1)
        assert outputs(last) == wanted[:3]


@pytest.mark.slow
@pytest.mark.redis
def test_a_redis_is_read_as_well_and_its_address_is_on_no_command_line(
    redis_url: str, served: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOOPWRIGHT_ONLINE", redis_url)
    with open_workspace(tmp_path / "redis") as workspace:
        world = World(workspace)
        made, wanted = world.trained(served.root / "one")
    served.publish(ServedEndpoint("plain", "salt", (Variant("v1", "model:delay@1", served.put(made)),)))
    process = launch(served, world.online)
    with httpx.Client(base_url=process.url, timeout=30) as web:
        assert outputs(web.post("/endpoints/plain/predict", json={"rows": world.requests()})) == wanted
    assert world.online == redis_url
    assert redis_url not in " ".join(psutil.Process(process.pid).cmdline())


@pytest.mark.slow
def test_up_looks_up_explains_and_takes_feedback_for_the_client_and_the_command_line(tmp_path: Path) -> None:
    with open_workspace(tmp_path) as workspace:
        world = World(workspace)
        made, wanted = world.trained(tmp_path / "one")
        workspace.models.register("delay", made)
        edges = workspace.stores.lineage.trace("model:delay@1", "up").edges
        assert {edge.source for edge in edges if edge.role == "features"} == {"feature:weather@1", "feature:asked@1"}
        workspace.endpoints.create("delay", "delay@1")
    command = [sys.executable, "-m", "loopwright"]
    up = subprocess.Popen(
        [*command, "up", "--port", "0", "--json"], cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    try:
        assert up.stdout is not None
        url = msgspec.json.decode(up.stdout.readline())["url"]
        row = world.requests()[0]
        key = row.pop("origin")
        with InferenceClient(url) as client:
            [told] = client.predict("delay", [row], keys={"origin": key}, explain=True)
            assert (told.outputs["value"], set(told.explanation or {}) > {"values"}) == (wanted[0], True)
            with pytest.raises(NotFound, match="origin='ZZ'"):
                client.predict("delay", [row], keys={"origin": "ZZ"})
            assert client.feedback("delay", {told.id: 7.5}) == 1
        ask = [*command, "ask", "delay", "--url", url, "--json"]
        given = [f"{name}={value}" for name, value in row.items()]
        by_hand = subprocess.run([*ask, "--key", f"origin={key}", *given], capture_output=True, check=True).stdout
        assert msgspec.json.decode(by_hand)["outputs"]["value"] == wanted[0]
        brings = msgspec.json.decode(subprocess.run(ask, capture_output=True, check=True).stdout)["brings"]
        assert [(item["name"], item["type"]) for item in brings] == [
            ("origin", "String"),
            ("factor", "Float64"),
            ("distance", "float32"),
        ]
        with open_workspace(tmp_path) as workspace:
            deadline = time.monotonic() + 60
            while workspace.monitors.find_prediction(told.id).label != 7.5:
                assert time.monotonic() < deadline
                time.sleep(0.2)
    finally:
        up.terminate()
        up.wait(60)


@pytest.mark.slow
def test_no_sql_engine_is_loaded_to_look_features_up() -> None:
    program = "import sys, loopwright.features.lookup, loopwright.serve.filling, loopwright.store.online.sqlite\n"
    program += "print(sorted({'sqlalchemy', 'alembic', 'polars'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


@pytest.mark.slow
def test_an_image_of_a_model_that_looks_features_up_has_what_reads_them(world: World, tmp_path: Path) -> None:
    made, _ = world.trained(tmp_path / "one")
    assert {"polars", "redis"} <= set(look_up(made.folder).packages)


class SlowStore:
    """Answers nothing before it is let go, and counts how often it is asked."""

    def __init__(self) -> None:
        self.reads = 0

    def read(self, view: str, keys: Any) -> list[None]:
        self.reads += 1
        time.sleep(0.3)
        return [None] * len(keys)

    def close(self) -> None:
        """Nothing is open."""


def reader_of(world: World, **more: Any) -> LookupReader:
    world.features.apply(FeatureView("slow", Entity("airport", ["origin"]), "weather", "at", ["temp"], **more))
    return LookupReader(world.features.lookup(world.spine, ["slow"]))


def test_requests_of_one_turn_share_a_read_and_a_bad_one_fails_alone(world: World) -> None:
    reader = reader_of(world, required=True)
    store = SlowStore()
    reads = FeatureReads(lambda: store, wait_s=5)  # type: ignore[arg-type, return-value]  # a store that is slow

    async def ask() -> list[Any]:
        asked = [reads.read(reader, "", {"origin": [name]}, [NOW]) for name in ("A1", "A2")]
        asked += [reads.read(reader, "", {"origin": [3]}, [NOW]), reads.read(reader, "", {"origin": ["A4"]}, [NOW])]
        return list(await asyncio.gather(*asked, return_exceptions=True))

    one, two, bad, four = asyncio.run(ask())
    assert isinstance(bad, Invalid)
    assert [str(error).count(f"'{name}'") for error, name in ((one, "A1"), (two, "A2"), (four, "A4"))] == [1, 1, 1]
    assert all(isinstance(error, NotFound) for error in (one, two, four))
    assert store.reads <= 2
    reads.close()


def test_a_store_that_hangs_costs_each_caller_a_bounded_wait_and_then_none(world: World) -> None:
    reader = reader_of(world)
    reads = FeatureReads(SlowStore, wait_s=0.05)  # type: ignore[arg-type]  # a store that is slow

    async def ask() -> list[str]:
        told = []
        for _ in range(5):
            began = time.monotonic()
            with pytest.raises(Unavailable) as refused:
                await reads.read(reader, "", {"origin": ["A1"]}, [NOW])
            assert time.monotonic() - began < 5.0  # not for as long as the store likes
            told.append(refused.value.message)
        return told

    told = asyncio.run(ask())
    assert told == ["the online store did not answer within 0.05 s"] * 3 + ["the online store does not answer"] * 2
    reads.close()


def test_a_breaker_lets_one_question_through_after_its_pause() -> None:
    now = [0.0]
    breaker = Breaker("it", lambda: now[0])
    for _ in range(3):
        breaker.enter()
        breaker.failed()
    for pause in (1.0, 2.0, 4.0):
        with pytest.raises(Unavailable, match="it does not answer"):
            breaker.enter()
        now[0] += pause
        breaker.enter()
        with pytest.raises(Unavailable):  # the second waits for what the first is told
            breaker.enter()
        breaker.failed()
    now[0] += 8.0
    breaker.enter()
    breaker.left()
    breaker.enter()
    breaker.worked()
    breaker.enter()
    breaker.enter()


def test_a_caller_without_patience_does_not_open_the_breaker(world: World) -> None:
    reader = reader_of(world)
    reads = FeatureReads(SlowStore, wait_s=5)  # type: ignore[arg-type]  # a store that is slow

    async def ask() -> None:
        for _ in range(5):
            soon = time.monotonic_ns() + 10_000_000
            with pytest.raises(Unavailable, match="deadline"):
                await reads.read(reader, "", {"origin": ["A1"]}, [NOW], soon)
        assert await reads.read(reader, "", {"origin": ["A1"]}, [NOW]) == {"temp": [None]}

    asyncio.run(ask())
    reads.close()


@pytest.mark.slow
@pytest.mark.fault
def test_feedback_that_was_acknowledged_outlives_kill_9_and_is_there_once(world: World, served: Served) -> None:
    made, _ = world.trained(served.root / "one")
    served.publish(ServedEndpoint("plain", "salt", (Variant("v1", "model:delay@1", served.put(made)),), project="p"))
    process = launch(served, "")
    sent: list[str] = []
    with httpx.Client(base_url=process.url, timeout=30) as web:
        whole = {name: [1.0] * 40 for name in INPUTS}
        ids = [
            item["id"] for item in web.post("/endpoints/plain/predict", json={"columns": whole}).json()["predictions"]
        ]
        for number, identifier in enumerate(ids):
            body = {"prediction_id": identifier, "value": number}
            rows = {"rows": [body, {**body, "at": NOW.isoformat()}]}
            answer = web.post("/endpoints/plain/feedback", json=rows if number % 2 else body)
            assert answer.json() == {"accepted": 1 + number % 2}
            sent.append(identifier)
        assert web.post("/endpoints/other/feedback", json={"prediction_id": ids[0], "value": 1}).status_code == 404
        huge = web.post("/endpoints/plain/feedback", json={"prediction_id": ids[0], "value": 2**63})
        assert (huge.status_code, "row 0: the value does not fit" in huge.text) == (400, True)
        refused = web.post("/endpoints/plain/feedback", json={"rows": [{"prediction_id": "x", "value": 1}]})
        assert (refused.status_code, "row 0: 'x' is not the id" in refused.text) == (400, True)
        os.kill(process.pid, signal.SIGKILL)
    records = [
        msgspec.msgpack.decode(payload, type=FeedbackRecord)
        for _, payload in JournalReader(served.root / "feedback").read()
    ]
    assert {(record.project, record.endpoint) for record in records} == {("p", "plain")}
    kept = [row.prediction_id for record in records for row in record.rows]
    assert kept == [identifier for number, identifier in enumerate(sent) for _ in range(1 + number % 2)]


def test_feedback_is_handed_on_in_order_from_where_the_last_delivery_ended(tmp_path: Path) -> None:
    identifier = "0" * 12 + "7000" + "8" + "0" * 15
    folder = tmp_path / "feedback"

    async def take() -> None:
        intake = FeedbackIntake(folder)
        for number in range(5):
            await intake.take("", f"e{number}", b'{"prediction_id":"%b","value":%d}' % (identifier.encode(), number))
        await intake.close()

    taken: list[tuple[str, Any]] = []

    def send(record: FeedbackRecord) -> None:
        if len(taken) == 3:
            taken.append(("refused", None))
            raise Unavailable("the server is away")
        taken.append((record.endpoint, record.rows[0].value))

    asyncio.run(take())
    with pytest.raises(Unavailable):
        deliver_feedback(folder, send)
    assert deliver_feedback(folder, send) == 2
    assert taken == [("e0", 0), ("e1", 1), ("e2", 2), ("refused", None), ("e3", 3), ("e4", 4)]
    assert deliver_feedback(folder, send) == 0
    assert list(folder.glob("*.journal")) == []
    asyncio.run(take())
    assert deliver_feedback(folder, send) == 5


def test_feedback_of_many_callers_shares_a_sync_and_a_full_disk_is_told(tmp_path: Path) -> None:
    identifier = "0" * 12 + "7000" + "8" + "0" * 15
    body = b'{"prediction_id":"%b","value":true}' % identifier.encode()

    async def run() -> list[Any]:
        intake = FeedbackIntake(tmp_path / "feedback")
        taken = await asyncio.gather(*[intake.take("", "e", body) for _ in range(50)])
        intake._writer.close()
        failed = await asyncio.gather(intake.take("", "e", body), return_exceptions=True)
        await intake.close()
        return [*taken, *failed]

    *taken, failed = asyncio.run(run())
    assert taken == [1] * 50
    assert isinstance(failed, Invalid)
    assert len(list(JournalReader(tmp_path / "feedback").read())) == 50
