import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest
from starlette.applications import Starlette
from tests.server import prompt
from tests.server.shelf import Book, ShelfService

from loopwright.core import Location, Scope, Settings
from loopwright.govern import EVERY_PROJECT, Authenticator, HistoryService, Role, TokenService
from loopwright.serve import listen
from loopwright.server import RouteSpec, ServerSettings, create_app
from loopwright.store import Stores, open_stores


@dataclass
class Running:
    """A control app that answers on a real socket."""

    url: str
    app: Starlette
    stores: Stores
    settings: ServerSettings
    tokens: dict[str, str]

    def client(self, who: str | None = None, **headers: str) -> httpx.Client:
        given = {"Authorization": f"Bearer {self.tokens[who]}"} if who else {}
        # The address is plain http: reading the authorities' certificates would take longer than a request.
        return httpx.Client(base_url=self.url, headers={**given, **headers}, trust_env=False, verify=False)


@pytest.fixture(scope="session")
def issued(migrations: tuple[str, ...], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str]]:
    """A database with a token for each kind of caller, to copy from, and the tokens."""
    root = tmp_path_factory.mktemp("issued")
    stores = open_stores(Location(root, root / ".loopwright", Settings()), migrations)
    tokens = _tokens(stores)
    stores.close()
    return stores.data / "loopwright.db", tokens


@pytest.fixture
def stores(make_sqlite_stores: Callable[..., Stores], issued: tuple[Path, dict[str, str]], tmp_path: Path) -> Stores:
    (tmp_path / ".loopwright").mkdir()
    shutil.copyfile(issued[0], tmp_path / ".loopwright" / "loopwright.db")
    return make_sqlite_stores(tmp_path)


@pytest.fixture
def services(stores: Stores) -> dict[str, tuple[type, Callable[[Scope], Any]]]:
    ShelfService.kept.clear()
    ShelfService.kept[("default", "Emma")] = Book("Emma", 474)
    ShelfService.kept[("other", "Ulysses")] = Book("Ulysses", 730)
    return {
        "shelf": (ShelfService, ShelfService),
        "events": (HistoryService, lambda scope: HistoryService(stores, scope)),
        "tokens": (TokenService, lambda scope: TokenService(stores, scope)),
    }


@pytest.fixture
def start(
    stores: Stores,
    services: dict[str, tuple[type, Callable[[Scope], Any]]],
    issued: tuple[Path, dict[str, str]],
) -> Iterator[Callable[..., Running]]:
    """A function that starts a control app: `start(auth="required", inference=lambda: None, extra_routes=())`."""
    stops: list[Callable[[], None]] = []

    def begin(
        auth: str = "required",
        inference: Callable[[], str | None] = lambda: None,
        extra_routes: Sequence[RouteSpec] = (),
        loopback: bool = True,
        **changes: Any,
    ) -> Running:
        listener = listen("127.0.0.1", 0)
        port = listener.getsockname()[1]
        settings = msgspec.structs.replace(
            ServerSettings(hosts=(f"127.0.0.1:{port}", f"localhost:{port}"), concealed=(str(stores.root),)),
            auth=auth,
            loopback=loopback,
            **changes,
        )
        app = create_app(services, Authenticator(stores), settings, inference, extra_routes)
        stops.append(prompt.begin(app, listener))
        return Running(f"http://127.0.0.1:{port}", app, stores, settings, dict(issued[1]))

    yield begin
    for end in stops:
        end()


def _tokens(stores: Stores) -> dict[str, str]:
    def make(project: str, role: Role) -> str:
        return TokenService(stores, Scope(project, "user:test")).create("ann", role).secret

    found = {str(role): make("default", role) for role in Role}
    return found | {"outsider": make("elsewhere", Role.ADMIN), "root": make(EVERY_PROJECT, Role.ADMIN)}


@pytest.fixture
def server(start: Callable[..., Running]) -> Running:
    """A control app that demands tokens."""
    return start()


@pytest.fixture
def local(start: Callable[..., Running]) -> Running:
    """A control app in local mode."""
    return start(auth="local")
