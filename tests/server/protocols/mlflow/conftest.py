from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.server import prompt

from loopwright.core import Scope
from loopwright.govern import Authenticator, Role, TokenService
from loopwright.serve import listen
from loopwright.server import RouteSpec, ServerSettings, create_app
from loopwright.server.connection import ControlProtocol
from loopwright.server.protocols.mlflow import REALMS, mlflow_routes
from loopwright.server.run import services_of
from loopwright.store import Stores
from loopwright.track import MetricIntake
from loopwright.workspace import Workspace

API = "/api/2.0/mlflow"


@dataclass
class Server:
    """A control app with MLflow's routes on a real socket, asked as MLflow's clients ask."""

    url: str
    routes: list[RouteSpec]
    workspace: Workspace
    http: httpx.Client

    def post(self, path: str, prefix: str = "", **fields: Any) -> dict[str, Any]:
        """The reply to a request that succeeds."""
        return told(self.ask("POST", path, prefix, fields))

    def get(self, path: str, prefix: str = "", **fields: Any) -> dict[str, Any]:
        """The reply to a request that succeeds."""
        return told(self.http.get(f"{prefix}{API}/{path}", params=fields))

    def refused(self, path: str, **fields: Any) -> tuple[int, str, str]:
        """Status, code and message of a POST that is refused."""
        return error(self.ask("POST", path, "", fields))

    def ask(self, method: str, path: str, prefix: str, fields: Mapping[str, Any]) -> httpx.Response:
        return self.http.request(method, f"{prefix}{API}/{path}", json=fields)

    def token(self, role: Role, project: str = "default") -> dict[str, str]:
        made = TokenService(self.workspace.stores, Scope(project, "user:test")).create("ann", role)
        return {"Authorization": f"Bearer {made.secret}"}

    def run(self, **fields: Any) -> str:
        """The id of a new run."""
        made = self.post("runs/create", **fields)
        return str(made["run"]["info"]["run_id"])

    def look(self, run: str) -> dict[str, Any]:
        found: dict[str, Any] = self.get("runs/get", run_id=run)["run"]
        return found


def told(answer: httpx.Response) -> dict[str, Any]:
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def error(answer: httpx.Response) -> tuple[int, str, str]:
    body = answer.json()
    assert set(body) == {"error_code", "message"}, body
    return answer.status_code, body["error_code"], body["message"]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Each test starts a server of its own, so all but a cross-section belong to the whole run."""
    for item in items:
        here = Path(__file__).parent in item.path.parents
        if here and item.path.name != "test_histories.py" and "serve" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.slow)


@pytest.fixture
def serve() -> Iterator[Callable[..., Server]]:
    """A function that serves stores: `serve(stores, auth="local")`."""
    stops: list[Callable[[], None]] = []

    def begin(stores: Stores, auth: str = "local") -> Server:
        workspace, intake = Workspace(stores, Scope()), MetricIntake(stores, patience_s=0)
        listener = listen("127.0.0.1", 0)
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        settings = ServerSettings(hosts=(url.removeprefix("http://"),), auth=auth, loopback=True)  # type: ignore[arg-type]
        routes = mlflow_routes(intake)
        app = create_app(services_of(workspace), Authenticator(stores), settings, lambda: None, routes, REALMS)
        stop = prompt.begin(app, listener, http=ControlProtocol)
        client = httpx.Client(base_url=url, trust_env=False, timeout=30, verify=False)  # plain http

        def end() -> None:
            client.close()
            stop()
            intake.close()

        stops.append(end)
        return Server(url, routes, workspace, client)

    yield begin
    for end in stops:
        end()


@pytest.fixture
def server(serve: Callable[..., Server], stores_sqlite: Stores) -> Server:
    """A server on SQLite, in local mode."""
    return serve(stores_sqlite)


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def both(request: pytest.FixtureRequest, serve: Callable[..., Server]) -> Server:
    """A server in local mode, once on SQLite and once on PostgreSQL."""
    return serve(request.getfixturevalue(f"stores_{request.param}"))


@pytest.fixture
def guarded(serve: Callable[..., Server], stores_sqlite: Stores) -> Server:
    """A server that demands tokens."""
    return serve(stores_sqlite, auth="required")
