"""The live feed."""

import threading
import time
from collections.abc import Callable, Iterator

import httpx
import msgspec
import pytest
from tests.server.conftest import Running

from loopwright.core import Scope
from loopwright.govern import Role, TokenService
from loopwright.store import Event


def tell(server: Running, kind: str, project: str = "default") -> Event:
    with server.stores.db.begin() as tx:
        return server.stores.events.append(tx, kind, "run:x", Scope(project, "user:x"))


def received(answer: httpx.Response) -> Iterator[Event]:
    for line in answer.iter_lines():
        if line.startswith("data: "):
            yield msgspec.json.decode(line.removeprefix("data: "), type=Event)


def follow(server: Running, who: str = "viewer", query: str = "", **headers: str) -> "httpx._client.BaseClient":
    http = server.client(who, **headers)
    return http.stream("GET", f"/api/v1/events/stream{query}", timeout=20)  # type: ignore[return-value]


@pytest.mark.slow
def test_events_come_live_in_order_once_and_of_this_project_only(server: Running) -> None:
    with follow(server) as answer:  # type: ignore[attr-defined]
        assert answer.headers["content-type"].startswith("text/event-stream")
        events = received(answer)
        first = tell(server, "run.started")
        tell(server, "run.started", project="other")
        second = tell(server, "run.finished")
        assert [next(events).id, next(events).id] == [first.id, second.id]


def test_a_stream_goes_on_behind_the_last_event_that_was_seen(server: Running) -> None:
    told = [tell(server, "run.started") for _ in range(3)]
    server.stores.events.seal()
    position = server.stores.events.get(told[0].id).position
    for query, headers in [(f"?after={position}", {}), ("", {"Last-Event-ID": str(position)})]:
        with follow(server, query=query, **headers) as answer:  # type: ignore[attr-defined]
            events = received(answer)
            assert [next(events).id, next(events).id] == [told[1].id, told[2].id]


def test_kinds_are_filtered(server: Running) -> None:
    with follow(server, query="?kinds=run.failed&kinds=run.finished") as answer:  # type: ignore[attr-defined]
        events = received(answer)
        tell(server, "run.started")
        wanted = tell(server, "run.failed")
        assert next(events).id == wanted.id


def test_a_malformed_position_is_refused(server: Running) -> None:
    assert server.client("viewer").get("/api/v1/events/stream?after=now").status_code == 400


def test_the_number_of_streams_is_bounded(start: Callable[..., Running]) -> None:
    server = start(max_streams=1)
    with follow(server) as answer:  # type: ignore[attr-defined]
        lines = answer.iter_lines()
        next(lines)
        assert server.client("viewer").get("/api/v1/events/stream").status_code == 503


def test_a_stream_ends_when_the_server_does(server: Running) -> None:
    with follow(server) as answer:  # type: ignore[attr-defined]
        lines = answer.iter_lines()
        next(lines)
        loop_done = threading.Event()
        threading.Thread(target=lambda: (list(lines), loop_done.set()), daemon=True).start()
        server.app.state.feed.closing = True
        tell(server, "run.started")
        assert loop_done.wait(10)


@pytest.mark.slow
def test_a_stream_ends_when_its_token_does(server: Running, monkeypatch: object) -> None:
    import loopwright.server.stream as stream

    monkeypatch.setattr(stream, "_RECHECK_S", 0.1)  # type: ignore[attr-defined]
    made = TokenService(server.stores, Scope("default")).create("eve", Role.VIEWER)
    server.tokens["eve"] = made.secret
    with follow(server, "eve") as answer:  # type: ignore[attr-defined]
        lines = answer.iter_lines()
        next(lines)
        TokenService(server.stores, Scope("default")).revoke(made.token.id)
        time.sleep(0.2)
        secret = tell(server, "run.started")
        assert secret.id not in "".join(lines)
