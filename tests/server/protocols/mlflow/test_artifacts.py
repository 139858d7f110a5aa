"""Artifacts over raw HTTP: listed, streamed both ways in bounded memory, never outside their owner."""

from __future__ import annotations

import hashlib
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import psutil
import pytest
from tests.server.protocols.mlflow.conftest import API, Server, error, told

from loopwright.core import new_id
from loopwright.govern import Role
from loopwright.server import transfer

PROXY = "/api/2.0/mlflow-artifacts/artifacts"
MPU = "/api/2.0/mlflow-artifacts/mpu"


def place(run: str, path: str = "") -> str:
    return f"{PROXY}/0/{run}/artifacts/{path}".rstrip("/")


def put(server: Server, url: str, data: Any = b"x", **headers: str) -> httpx.Response:
    return server.http.put(url, content=data, headers=headers)


def raw(server: Server, method: str, path: str, body: bytes = b"") -> int:
    """The status of a request whose path is sent as it is written."""
    address = urlsplit(server.url)
    with socket.create_connection((address.hostname, address.port)) as connection:
        head = f"{method} {path} HTTP/1.1\r\nHost: {address.netloc}\r\nContent-Length: {len(body)}\r\n\r\n"
        connection.sendall(head.encode() + body)
        return int(connection.recv(4096).split()[1])


def test_a_file_goes_up_and_comes_down_as_a_download(both: Server) -> None:
    run = both.run()
    assert put(both, place(run, "model/ä b.html"), b"<script>", **{"Content-Type": "text/html"}).json() == {}
    answer = both.http.get(place(run, "model/ä b.html"))
    assert (answer.status_code, answer.content) == (200, b"<script>")
    assert answer.headers["content-type"] == "application/octet-stream"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["content-disposition"].startswith('attachment; filename="_ b.html"; filename*=UTF-8')
    assert answer.headers["content-length"] == "8"
    same = both.http.get("/get-artifact", params={"run_uuid": run, "path": "model/ä b.html"})
    assert same.content == b"<script>"
    assert same.headers["content-disposition"].startswith("attachment")


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("a.txt", "text/plain"),
        ("MLmodel", "text/plain"),
        ("conda.yaml", "text/plain"),
        ("c.png", "image/png"),
        ("d.pdf", "application/pdf"),
        ("e.json", "application/json"),
        ("f.svg", "application/octet-stream"),
        ("g.html", "application/octet-stream"),
        ("h.pkl", "application/octet-stream"),
        ("i.js", "application/octet-stream"),
    ],
)
def test_only_types_that_do_nothing_are_named(server: Server, name: str, kind: str) -> None:
    run = server.run()
    put(server, place(run, name), **{"Content-Type": "text/html"})
    answer = server.http.get(place(run, name))
    assert (answer.headers["content-type"], answer.headers["content-disposition"]) == (
        kind,
        f"attachment; filename={name}",
    )


def test_folders_are_listed_one_level_at_a_time(both: Server) -> None:
    run = both.run()
    for path in ("a.txt", "model/MLmodel", "model/data/weights"):
        put(both, place(run, path), path.encode())

    def proxied(path: str) -> Any:
        return told(both.http.get(PROXY, params={"path": path})).get("files", [])

    assert proxied(f"0/{run}/artifacts") == [
        {"path": "a.txt", "is_dir": False, "file_size": 5},
        {"path": "model", "is_dir": True},
    ]
    assert [item["path"] for item in proxied(f"0/{run}/artifacts/model")] == ["MLmodel", "data"]
    assert proxied(f"0/{run}/artifacts/a.txt") == []
    assert proxied("") == proxied("0") == []
    listed = told(both.http.get(f"{API}/artifacts/list", params={"run_id": run, "path": "model"}))
    assert listed["root_uri"] == f"mlflow-artifacts:/0/{run}/artifacts"
    assert [item["path"] for item in listed["files"]] == ["model/MLmodel", "model/data"]


def test_files_of_logged_models_and_traces_have_places_of_their_own(both: Server) -> None:
    model = both.post("logged-models", experiment_id="0", name="forest")["model"]["info"]
    trace = f"tr-{new_id()}"
    location = {"type": "MLFLOW_EXPERIMENT", "mlflow_experiment": {"experiment_id": "0"}}
    info = {"trace_id": trace, "trace_location": location, "request_time": "2026-11-22T00:00:00Z"}
    told(both.http.post("/api/3.0/mlflow/traces", json={"trace": {"trace_info": info}}))
    assert model["artifact_uri"] == f"mlflow-artifacts:/0/models/{model['model_id']}/artifacts"
    for path in (f"0/models/{model['model_id']}/artifacts/MLmodel", f"0/traces/{trace}/artifacts/traces.json"):
        assert put(both, f"{PROXY}/{path}", b"{}").status_code == 200
        assert both.http.get(f"{PROXY}/{path}").content == b"{}"
    listed = both.get(f"logged-models/{model['model_id']}/artifacts/directories")
    assert [item["path"] for item in listed["files"]] == ["MLmodel"]
    page = both.http.get(
        f"/ajax-api/2.0/mlflow/logged-models/{model['model_id']}/artifacts/files",
        params={"artifact_file_path": "MLmodel"},
    )
    assert page.content == b"{}"


def test_a_file_or_folder_is_deleted(both: Server) -> None:
    run = both.run()
    for path in ("a/1", "a/2", "b"):
        put(both, place(run, path))
    assert both.http.delete(place(run, "a")).status_code == 200
    assert error(both.http.get(place(run, "a/1")))[:2] == (404, "RESOURCE_DOES_NOT_EXIST")
    assert both.http.get(place(run, "b")).status_code == 200


@pytest.mark.parametrize(
    "path",
    [
        "../secret",
        "a/../../secret",
        "..%2fsecret",
        "%2e%2e/secret",
        "%2e%2e%2fsecret",
        "%252e%252e%252fsecret",
        "%25252e%25252e%25252fsecret",
        "..%5csecret",
        "a%5c..%5c..%5csecret",
        "..\\secret",
        "%00",
        "a%01b",
        "//etc/passwd",
        "%2fetc%2fpasswd",
        "C:%5cWindows",
        "a/./b",
        "a//b",
    ],
)
def test_a_path_that_climbs_is_refused_in_every_encoding(server: Server, path: str) -> None:
    run = server.run()
    for method in ("PUT", "GET", "DELETE"):
        assert raw(server, method, f"{PROXY}/0/{run}/artifacts/{path}", b"x" if method == "PUT" else b"") == 400
    for listing in (f"{PROXY}?path=0/{run}/artifacts/{path}", f"{API}/artifacts/list?run_id={run}&path={path}"):
        assert raw(server, "GET", listing) == 400
    assert raw(server, "GET", f"/get-artifact?run_id={run}&path={path}") == 400
    assert raw(server, "POST", f"{API}/upload-artifact?run_uuid={run}&path={path}", b"x") == 400
    objects = server.workspace.stores.data / "objects"
    assert not objects.exists() or not any(file.is_file() for file in objects.rglob("*"))


@pytest.mark.parametrize("path", ["", "0", "0/x/artifacts/y", "bundles/x", "0/models/m-1/artifacts/x", "etc/passwd"])
def test_a_place_of_nobody_takes_no_file(server: Server, path: str) -> None:
    assert put(server, f"{PROXY}/{path}").status_code in (400, 404, 405)


def test_the_right_to_read_gives_no_right_to_write(guarded: Server) -> None:
    editor, viewer = guarded.token(Role.EDITOR), guarded.token(Role.VIEWER)
    made = told(guarded.http.post(f"{API}/runs/create", json={}, headers=editor))
    url = place(made["run"]["info"]["run_id"], "a")
    assert guarded.http.put(url, content=b"x").status_code == 401
    assert guarded.http.put(url, content=b"x", headers=viewer).status_code == 403
    assert guarded.http.put(url, content=b"x", headers=editor).status_code == 200
    assert guarded.http.get(url, headers=viewer).content == b"x"
    assert guarded.http.get(url).status_code == 401
    assert guarded.http.get(url, headers=guarded.token(Role.ADMIN, "elsewhere")).status_code == 403
    other = guarded.http.get(f"/projects/elsewhere{url}", headers=guarded.token(Role.ADMIN, "elsewhere"))
    assert other.status_code == 404


def test_a_range_is_answered_with_its_part(server: Server) -> None:
    run = server.run()
    put(server, place(run, "a"), b"0123456789")

    def part(**headers: str) -> tuple[int, bytes, str | None]:
        answer = server.http.get(place(run, "a"), headers=headers)
        return answer.status_code, answer.content, answer.headers.get("content-range")

    etag = server.http.get(place(run, "a")).headers["etag"]
    assert part(Range="bytes=2-4") == (206, b"234", "bytes 2-4/10")
    assert part(Range="bytes=7-") == (206, b"789", "bytes 7-9/10")
    assert part(Range="bytes=-2") == (206, b"89", "bytes 8-9/10")
    assert part(Range="bytes=5-99") == (206, b"56789", "bytes 5-9/10")
    assert part(**{"Range": "bytes=2-4", "If-Range": etag})[0] == 206
    assert part(**{"Range": "bytes=2-4", "If-Range": '"other"'})[:2] == (200, b"0123456789")
    assert part(Range="bytes=10-")[0] == 416
    assert part(Range="lines=1-2")[0] == 200


def test_an_empty_file_is_a_file(both: Server) -> None:
    run = both.run()
    put(both, place(run, "empty"), b"")
    answer = both.http.get(place(run, "empty"))
    assert (answer.status_code, answer.content) == (200, b"")
    assert both.get("artifacts/list", run_id=run)["files"] == [{"path": "empty", "is_dir": False, "file_size": 0}]


def test_a_path_with_a_line_break_leads_nowhere(server: Server) -> None:
    assert raw(server, "PUT", f"{PROXY}/0/{server.run()}/artifacts/a%0ab", b"x") == 404


def test_an_upload_that_is_cut_leaves_nothing(server: Server) -> None:
    run = server.run()
    address = urlsplit(server.url)
    with socket.create_connection((address.hostname, address.port)) as connection:
        head = f"PUT {place(run, 'big')} HTTP/1.1\r\nHost: {address.netloc}\r\nContent-Length: 50000000\r\n\r\n"
        connection.sendall(head.encode() + b"x" * 5_000_000)
    objects = server.workspace.stores.data / "objects"
    for _ in range(100):
        time.sleep(0.05)
        if objects.exists() and not any(file.is_file() for file in objects.rglob("*")):
            break
    assert objects.exists()
    assert [file for file in objects.rglob("*") if file.is_file()] == []
    assert server.http.get(place(run, "big")).status_code == 404
    assert put(server, place(run, "big"), b"whole").status_code == 200


def begin_upload(server: Server, path: str) -> socket.socket:
    """A connection on which half of a file was sent."""
    address = urlsplit(server.url)
    connection = socket.create_connection((address.hostname, address.port))
    head = f"PUT {path} HTTP/1.1\r\nHost: {address.netloc}\r\nContent-Length: 2000\r\n\r\n"
    connection.sendall(head.encode() + b"x" * 1000)
    return connection


def test_a_client_that_falls_silent_is_given_up(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transfer, "_IDLE_S", 0.2)
    run = server.run()
    with begin_upload(server, place(run, "half")) as connection:
        connection.settimeout(10)
        assert b" 503 " in connection.recv(4096).splitlines()[0]
    assert server.http.get(place(run, "half")).status_code == 404
    assert [file for file in (server.workspace.stores.data / "objects").rglob("*") if file.is_file()] == []


def test_slow_uploads_are_bounded_and_keep_nobody_else_waiting(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transfer, "_AT_ONCE", 2)
    monkeypatch.setattr(transfer, "_WAIT_S", 0.2)
    run = server.run()
    slow = [begin_upload(server, place(run, f"slow-{number}")) for number in range(2)]
    try:
        time.sleep(1.0)  # until the server has begun with both
        refused = put(server, place(run, "third"))
        assert error(refused)[:2] == (503, "TEMPORARILY_UNAVAILABLE")
        assert server.look(run)["info"]["run_id"] == run
    finally:
        for connection in slow:
            connection.sendall(b"x" * 1000)
            assert b" 200 " in connection.recv(4096).splitlines()[0]
            connection.close()
    assert put(server, place(run, "third")).status_code == 200


def test_a_damaged_file_never_arrives_whole(server: Server) -> None:
    run = server.run()
    put(server, place(run, "a"), b"x" * 3_000_000)
    [kept] = [file for file in (server.workspace.stores.data / "objects").rglob("*") if file.is_file()]
    kept.chmod(0o644)
    with kept.open("r+b") as file:
        file.seek(1_500_000)
        file.write(b"y")
    with pytest.raises(httpx.RemoteProtocolError):
        server.http.get(place(run, "a"))


class Watch:
    """How much this process grew, at most, since the watch began."""

    def __init__(self) -> None:
        self._process, self._stop = psutil.Process(), threading.Event()
        self._start = self.peak = self._process.memory_info().rss
        self._thread = threading.Thread(target=self._look)

    def _look(self) -> None:
        while not self._stop.wait(0.01):
            self.peak = max(self.peak, self._process.memory_info().rss)

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    @property
    def grown(self) -> int:
        return self.peak - self._start


def pieces(count: int) -> Iterator[bytes]:
    for number in range(count):
        yield number.to_bytes(4, "big") * (1 << 18)


def test_a_large_file_passes_through_in_bounded_memory(server: Server) -> None:
    run, count = server.run(), 192
    told_digest, seen_digest = hashlib.sha256(), hashlib.sha256()
    for piece in pieces(count):
        told_digest.update(piece)
    put(server, place(run, "warm"), pieces(4))
    with Watch() as watch:
        assert put(server, place(run, "big"), pieces(count)).status_code == 200
        with server.http.stream("GET", place(run, "big")) as answer:
            for piece in answer.iter_raw(1 << 20):
                seen_digest.update(piece)
    assert seen_digest.digest() == told_digest.digest()
    assert watch.grown < 48 << 20


def test_large_files_go_up_in_parts(both: Server) -> None:
    run = both.run()
    folder = f"0/{run}/artifacts/deep"
    asked = {"path": "/home/ann/big.bin", "num_parts": 2}
    made = told(both.http.post(f"{MPU}/create/{folder}", json=asked))
    parts = []
    for credential, data in zip(made["credentials"], (b"1" * 10, b"2" * 5), strict=True):
        answer = httpx.put(credential["url"], content=data, headers=credential["headers"], trust_env=False)
        assert answer.status_code == 200, answer.text
        parts.append({"part_number": credential["part_number"], "etag": answer.headers["ETag"]})
    done = {"path": asked["path"], "upload_id": made["upload_id"], "parts": parts}
    assert told(both.http.post(f"{MPU}/complete/{folder}", json=done)) == {}
    assert both.http.get(place(run, "deep/big.bin")).content == b"1" * 10 + b"2" * 5


def test_a_part_without_the_secret_is_refused_even_from_who_may_write(guarded: Server) -> None:
    editor = guarded.token(Role.EDITOR)
    run = told(guarded.http.post(f"{API}/runs/create", json={}, headers=editor))["run"]["info"]["run_id"]
    folder = f"0/{run}/artifacts"
    made = told(guarded.http.post(f"{MPU}/create/{folder}", json={"path": "b", "num_parts": 1}, headers=editor))
    [credential] = made["credentials"]
    assert httpx.put(credential["url"], content=b"x", headers=editor, trust_env=False).status_code == 404
    assert httpx.put(credential["url"], content=b"x", headers=credential["headers"], trust_env=False).status_code == 200
    stopped = {"path": "b", "upload_id": made["upload_id"]}
    assert guarded.http.post(f"{MPU}/abort/{folder}", json=stopped, headers=editor).status_code == 200
    gone = httpx.put(credential["url"], content=b"x", headers=credential["headers"], trust_env=False)
    assert gone.status_code == 404


def test_what_clients_fall_back_from_is_told_as_not_there(server: Server) -> None:
    run = server.run()
    answer = server.http.get(f"/api/2.0/mlflow-artifacts/presigned/0/{run}/artifacts/a")
    assert error(answer)[:2] == (501, "NOT_IMPLEMENTED")
    asked = {"run_id": run, "path": "a"}
    assert error(server.http.post(f"{API}/artifacts/presigned-upload-url", json=asked))[0] == 501


def test_a_file_larger_than_any_other_body_is_taken(server: Server, tmp_path: Path) -> None:
    run = server.run()
    big = tmp_path / "big"
    big.write_bytes(b"x" * (9 << 20))
    with big.open("rb") as file:
        assert put(server, place(run, "big"), file).status_code == 200
    assert (
        error(server.ask("POST", "runs/set-tag", "", {"run_id": run, "key": "k", "value": "x" * (9 << 20)}))[0] == 413
    )
