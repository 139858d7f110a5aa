"""The short way answers as the thorough one does, whatever the pieces in which a request comes, and blocks nobody."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

import pytest
from sqlalchemy import text
from tests.server.protocols.mlflow.conftest import API, Server

from loopwright.govern import Role, TokenService
from loopwright.server.shortcut import Shortcuts
from loopwright.store import Stores

LOG = f"{API}/runs/log-metric"
Answer = tuple[int, list[str], str, dict[str, Any]]


@pytest.fixture
def shortened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The routes of the requests that were answered on the short way."""
    good, seen = Shortcuts.good, list[str]()

    def noted(self: Shortcuts, route: Any, headers: Any, seconds: float) -> bytes:
        seen.append(route.path)
        return good(self, route, headers, seconds)

    monkeypatch.setattr(Shortcuts, "good", noted)
    return seen


def request(server: Server, path: str, body: Any, **headers: str) -> bytes:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    given = {"Host": urlsplit(server.url).netloc, "Content-Type": "application/json", "Content-Length": str(len(data))}
    given |= {name.replace("_", "-"): value for name, value in headers.items()}
    lines = "".join(f"{name}: {value}\r\n" for name, value in given.items() if value)
    return f"POST {path} HTTP/1.1\r\n{lines}\r\n".encode() + data


def point(run: str, step: int = 0, key: str = "m", **more: Any) -> dict[str, Any]:
    return {"run_id": run, "key": key, "value": step / 7, "timestamp": 1000 + step, "step": step, **more}


class Link:
    """A kept-alive connection."""

    def __init__(self, sock: socket.socket) -> None:
        self.socket, self._answers = sock, sock.makefile("rb")

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def answer(self) -> Answer:
        status = int(self._answers.readline().split()[1])
        headers = dict[str, str]()
        while line := self._answers.readline().strip().decode():
            name, _, value = line.partition(": ")
            headers[name] = value
        body = self._answers.read(int(headers["content-length"]))
        return status, sorted(headers), headers["content-type"], json.loads(body)


@contextmanager
def connected(server: Server) -> Iterator[Link]:
    place = urlsplit(server.url)
    with socket.create_connection((str(place.hostname), int(place.port or 0)), 20) as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        yield Link(sock)


def asked(server: Server, data: bytes) -> Answer:
    with connected(server) as link:
        link.send(data)
        return link.answer()


def test_both_ways_answer_alike(both: Server, shortened: list[str]) -> None:
    run, deleted = both.run(), both.run()
    both.post("runs/delete", run_id=deleted)
    both.post("runs/log-parameter", run_id=run, key="p", value="1")
    batch = {"run_id": run, "metrics": [point(run, 1), point(run, 2, "n")], "params": [{"key": "p", "value": "1"}]}
    many = {"run_id": run, "metrics": [point(run, step, f"k{step}") for step in range(300)]}
    good = {
        "point": request(both, LOG, point(run)),
        "project in the path": request(both, f"/projects/default{LOG}", point(run)),
        "project in a header": request(both, LOG, point(run), Loopwright_Project="default"),
        "NaN": request(both, LOG, {**point(run), "value": "NaN"}),
        "batch": request(both, f"{API}/runs/log-batch", batch),
        "many": request(both, f"{API}/runs/log-batch", many),
        "param": request(both, f"{API}/runs/log-parameter", {"run_id": run, "key": "p", "value": "1"}),
        "tag": request(both, f"{API}/runs/set-tag", {"run_id": run, "key": "t", "value": "x"}),
    }
    bad = {
        "unknown run": request(both, LOG, point("0" * 32)),
        "another project": request(both, f"/projects/other{LOG}", point(run)),
        "no project's name": request(both, LOG, point(run), Loopwright_Project="a b"),
        "deleted run": request(both, LOG, point(deleted)),
        "changed param": request(both, f"{API}/runs/log-parameter", {"run_id": run, "key": "p", "value": "2"}),
        "missing field": request(both, LOG, {"run_id": run}),
        "no time": request(both, LOG, {**point(run), "timestamp": -1}),
        "key": request(both, LOG, point(run, 0, "k" * 251)),
        "step": request(both, LOG, {**point(run), "step": 1 << 63}),
        "no JSON": request(both, LOG, b"{"),
        "nothing": request(both, LOG, b""),
        "type": request(both, LOG, point(run), Content_Type="text/plain"),
        "host": request(both, LOG, point(run), Host="elsewhere:80"),
        "origin": request(both, LOG, point(run), Origin="http://elsewhere"),
        "forwarded": request(both, LOG, point(run), X_Forwarded_For="10.0.0.1"),
        "token": request(both, LOG, point(run), Authorization="Bearer lw_x"),
        "large": request(both, LOG, b"", Content_Length=str(9 << 20)),
        "too many": request(both, f"{API}/runs/log-batch", {"run_id": run, "metrics": [point(run, 0)] * 1001}),
    }
    for name, data in {**good, **bad}.items():
        before = len(shortened)
        short = asked(both, data)
        assert len(shortened) == before + (name in good), name
        thorough = asked(both, data.replace(b"\r\n", b"\r\nContent-Encoding: identity\r\n", 1))
        assert len(shortened) == before + (name in good), name
        assert short == thorough, name
        assert (short[0] == 200) is (name in good), name
    assert both.look(run)["data"]["tags"][0]["value"]


def test_what_is_more_than_a_point_is_done_all_the_same(server: Server, shortened: list[str]) -> None:
    run = server.run(run_name="before")
    named = {"run_id": run, "key": "mlflow.runName", "value": "after"}
    assert asked(server, request(server, f"{API}/runs/set-tag", named))[0] == 200
    assert (server.look(run)["info"]["run_name"], shortened) == ("after", [])


def test_a_request_may_come_in_any_pieces(server: Server, shortened: list[str]) -> None:
    run = server.run()
    with connected(server) as link:
        for step, cut in enumerate(range(1, len(request(server, LOG, point(run))), 9)):
            data = request(server, LOG, point(run, step))
            for part in (data[:cut], data[cut : cut + 30], data[cut + 30 :]):
                link.send(part)
                time.sleep(0.001)
            assert link.answer()[0] == 200
        assert shortened  # those whose head came whole
        link.send(b"".join(request(server, LOG, point(run, 1000 + step)) for step in range(50)))
        assert [link.answer()[0] for _ in range(50)] == [200] * 50
    history = server.get("metrics/get-history", run_id=run, metric_key="m")["metrics"]
    assert len(history) == step + 51


def test_who_waits_for_the_database_holds_nobody_up(both: Server) -> None:
    run = both.run()
    with connected(both) as first, connected(both) as second:
        for link in (first, second):  # so that what is quick on PostgreSQL has its connection
            link.send(request(both, LOG, point(run)))
            assert link.answer()[0] == 200
            time.sleep(0.2)
        holds, release = threading.Event(), threading.Event()

        def hold() -> None:
            stores = both.workspace.stores
            with stores.db.begin() as tx:
                if stores.db.dialect == "postgresql":
                    tx.execute(text("SELECT 1 FROM runs FOR UPDATE"))
                holds.set()
                release.wait(20)

        holder = threading.Thread(target=hold)
        holder.start()
        assert holds.wait(20)
        first.send(request(both, LOG, point(run, 1)))
        time.sleep(0.1)
        later = request(both, LOG, point(run, 2)) + request(both, LOG, point(run, 3))
        first.send(later[:100])
        second.send(request(both, LOG, point(run, 4)))
        assert both.get("experiments/get", experiment_id="0")["experiment"]["name"] == "Default"
        first.socket.settimeout(0.1)
        with pytest.raises(TimeoutError):
            first.socket.recv(1)
        first.socket.settimeout(20)
        release.set()
        holder.join()
        first.send(later[100:])
        assert [link.answer()[0] for link in (first, first, first, second)] == [200] * 4
    assert [item["step"] for item in both.get("metrics/get-history", run_id=run, metric_key="m")["metrics"]] == [
        *range(5)
    ]


def test_a_token_that_was_revoked_is_refused_on_the_same_connection(guarded: Server) -> None:
    tokens = TokenService(guarded.workspace.stores, guarded.workspace.scope)
    made = tokens.create("ann", Role.EDITOR)
    bearer = {"Authorization": f"Bearer {made.secret}"}
    run = guarded.http.post(f"{API}/runs/create", json={}, headers=bearer).json()["run"]["info"]["run_id"]
    with connected(guarded) as link:
        for expected in (200, 401):
            link.send(request(guarded, LOG, point(run), **bearer))
            assert link.answer()[0] == expected
            if expected == 200:
                tokens.revoke(made.token.id)
    assert asked(guarded, request(guarded, LOG, point(run)))[0] == 401


@pytest.mark.postgres
def test_a_lost_connection_to_the_database_loses_no_point(
    serve: Any, stores_postgres: Stores, shortened: list[str]
) -> None:
    server = serve(stores_postgres)
    run = server.run()
    with connected(server) as link:
        for step in range(30):
            if step == 20:
                with stores_postgres.db.read() as connection:
                    ours = text(
                        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE '%WITH held AS%'"
                        " AND pid <> pg_backend_pid() AND datname = current_database()"
                    )
                    assert connection.execute(ours).all()
            link.send(request(server, LOG, point(run, step)))
            assert link.answer()[0] == 200
            time.sleep(0.05 if step < 3 else 0)
    history = server.get("metrics/get-history", run_id=run, metric_key="m")["metrics"]
    assert [item["step"] for item in history] == list(range(30))
