"""Files of runs through a server: the same as without one, and whole though connections break."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from tests.server import prompt

from loopwright.core import Corrupt, Invalid, NotFound, Scope, Unavailable
from loopwright.govern import Authenticator
from loopwright.serve import listen
from loopwright.server import RemoteWorkspace, ServerSettings, create_app, remote_runs
from loopwright.server.run import services_of
from loopwright.store import Stores
from loopwright.workspace import Workspace


@pytest.fixture
def local(stores_sqlite: Stores) -> Workspace:
    return Workspace(stores_sqlite, Scope())


@pytest.fixture
def url(local: Workspace) -> Iterator[str]:
    listener = listen("127.0.0.1", 0)
    host = f"127.0.0.1:{listener.getsockname()[1]}"
    settings = ServerSettings(hosts=(host,), auth="local", loopback=True)
    app = create_app(services_of(local), Authenticator(local.stores), settings, lambda: None)
    with prompt.serving(app, listener):
        yield f"http://{host}"


@pytest.fixture
def remote(url: str) -> Iterator[RemoteWorkspace]:
    with RemoteWorkspace(url) as workspace:
        yield workspace


def test_files_folders_and_bytes_are_kept_as_they_are_without_a_server(
    remote: RemoteWorkspace, local: Workspace, tmp_path: Path
) -> None:
    run = remote.runs.start().id
    (tmp_path / "plots" / "a b").mkdir(parents=True)
    (tmp_path / "plots" / "a b" / "ä#%.png").write_bytes(b"picture")
    (tmp_path / "plots" / "empty").write_bytes(b"")
    made = remote.runs.log_artifact(run, tmp_path / "plots")
    made += remote.runs.log_artifact(f"run:{run}", b"bytes", "notes.txt")
    assert [item.path for item in made] == ["plots/a b/ä#%.png", "plots/empty", "notes.txt"]
    assert remote.runs.artifact(run, "plots/a b/ä#%.png") == b"picture"
    assert sorted(remote.runs.artifacts(run), key=lambda item: item.path) == local.runs.artifacts(run)
    assert remote.runs.artifact(run, "notes.txt") == b"bytes"
    assert remote.runs.artifact(run, "plots/empty") == b""


def test_what_is_refused_here_is_refused_there(remote: RemoteWorkspace, tmp_path: Path) -> None:
    run = remote.runs.start().id
    with pytest.raises(Invalid, match="needs a name"):
        remote.runs.log_artifact(run, b"x")
    with pytest.raises(Invalid, match="not a safe relative path"):
        remote.runs.log_artifact(run, b"x", "../x")
    with pytest.raises(NotFound, match="no file or folder"):
        remote.runs.log_artifact(run, tmp_path / "nothing")
    with pytest.raises(NotFound, match="no run"):
        remote.runs.log_artifact("0" * 32, b"x", "x")
    with pytest.raises(NotFound, match="has no file"):
        remote.runs.artifact(run, "nothing")
    with pytest.raises(Invalid, match="works on this machine"):
        remote.runs.active()


class Breaking(httpx.HTTPTransport):
    """Breaks off the body of the first answers to a download, each after some bytes."""

    def __init__(self, times: int, after: int = 1_000_000) -> None:
        super().__init__()
        self.left, self.after, self.ranges = times, after, list[str]()

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        answer = super().handle_request(request)
        if request.method == "GET":
            self.ranges.append(request.headers.get("range", ""))
            if self.left:
                self.left -= 1
                answer.stream = Cut(answer.stream, self.after)
        return answer


class Cut(httpx.SyncByteStream):
    def __init__(self, inner: httpx.SyncByteStream | httpx.AsyncByteStream, after: int) -> None:
        assert isinstance(inner, httpx.SyncByteStream)
        self._inner, self._after = inner, after

    def __iter__(self) -> Iterator[bytes]:
        passed = 0
        for piece in self._inner:
            yield piece
            passed += len(piece)
            if passed > self._after:
                raise httpx.ReadError("cut")

    def close(self) -> None:
        self._inner.close()


CONTENT = bytes(range(256)) * 16_384


@pytest.fixture(autouse=True)
def no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote_runs, "_PAUSE_S", 0.0)


def test_a_download_goes_on_where_it_broke(url: str, local: Workspace) -> None:
    run = local.runs.start().id
    local.runs.log_artifact(run, CONTENT, "big")
    transport = Breaking(3)
    with RemoteWorkspace(url, transport=transport) as remote:
        assert remote.runs.artifact(run, "big") == CONTENT
    assert transport.ranges[0] == ""
    starts = [int(text.removeprefix("bytes=").rstrip("-")) for text in transport.ranges[1:]]
    assert len(starts) == 3
    assert starts == sorted(starts)
    assert starts[0] > 0


@pytest.mark.slow
def test_a_file_that_was_replaced_meanwhile_is_fetched_from_its_start(url: str, local: Workspace) -> None:
    run = local.runs.start().id
    local.runs.log_artifact(run, CONTENT, "big")

    class Replacing(Breaking):
        def handle_request(self, request: httpx.Request) -> httpx.Response:
            if request.headers.get("range"):
                local.runs.log_artifact(run, CONTENT[::-1], "big")
            return super().handle_request(request)

    with RemoteWorkspace(url, transport=Replacing(1)) as remote:
        assert remote.runs.artifact(run, "big") == CONTENT[::-1]


def test_a_download_that_breaks_again_and_again_is_given_up(url: str, local: Workspace) -> None:
    run = local.runs.start().id
    local.runs.log_artifact(run, CONTENT, "big")
    with RemoteWorkspace(url, transport=Breaking(99, 100)) as remote, pytest.raises(Unavailable, match="cut"):
        remote.runs.artifact(run, "big")


def test_bytes_that_changed_on_the_way_are_not_given(url: str, local: Workspace) -> None:
    run = local.runs.start().id
    local.runs.log_artifact(run, CONTENT, "big")

    class Flipping(httpx.HTTPTransport):
        def handle_request(self, request: httpx.Request) -> httpx.Response:
            answer = super().handle_request(request)
            stream = httpx.ByteStream(b"\xff" + answer.read()[1:])
            return httpx.Response(answer.status_code, headers=answer.headers, stream=stream)

    with RemoteWorkspace(url, transport=Flipping()) as remote, pytest.raises(Corrupt, match="arrived otherwise"):
        remote.runs.artifact(run, "big")
