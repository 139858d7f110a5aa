"""The remote workspace gives what the local one gives."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from tests.server.conftest import Running
from tests.server.shelf import Book, Genre, ShelfService

from loopwright.core import Conflict, Corrupt, Forbidden, Invalid, NotFound, Unauthorized, Unavailable
from loopwright.govern import HistoryService, NewToken, Role, TokenService
from loopwright.server import RemoteWorkspace

TYPES: dict[str, type] = {"shelf": ShelfService, "tokens": TokenService, "events": HistoryService}


@pytest.fixture
def open_remote(server: Running) -> Iterator[Callable[..., Any]]:
    opened: list[RemoteWorkspace] = []

    def begin(who: str = "admin", project: str | None = None) -> Any:
        opened.append(RemoteWorkspace(server.url, server.tokens[who], project, services=TYPES))
        return opened[-1]

    yield begin
    for workspace in opened:
        workspace.close()


def test_records_come_back_as_the_records_that_they_are(open_remote: Callable[..., Any]) -> None:
    ws = open_remote()
    assert ws.shelf.put(Book("Odes", 90, Genre.VERSE)) == Book("Odes", 90, Genre.VERSE)
    assert ws.shelf.find(genre=Genre.VERSE) == [Book("Odes", 90, Genre.VERSE)]
    assert ws.shelf.weigh(books=[Book("Odes", 90)]) == {"Odes": 225.0}
    assert ws.shelf.burn() is None


def test_tokens_can_be_ruled_from_afar(open_remote: Callable[..., Any]) -> None:
    made = open_remote().tokens.create("bob", Role.VIEWER)
    assert isinstance(made, NewToken)
    assert made.token.roles == {"default": Role.VIEWER}


def test_the_project_goes_along(open_remote: Callable[..., Any]) -> None:
    assert [book.title for book in open_remote("root", "other").shelf.find()] == ["Ulysses"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("how", "kind"),
    [
        ("invalid", Invalid),
        ("forbidden", Forbidden),
        ("not_found", NotFound),
        ("conflict", Conflict),
        ("unavailable", Unavailable),
        ("corrupt", Corrupt),
        ("defect", Unavailable),
    ],
)
def test_errors_are_raised_as_the_same_classes(open_remote: Callable[..., Any], how: str, kind: type) -> None:
    with pytest.raises(kind) as caught:
        open_remote().shelf.fail(how)
    assert type(caught.value) is kind


def test_an_errors_message_place_and_next_step_survive(open_remote: Callable[..., Any]) -> None:
    with pytest.raises(NotFound) as caught:
        open_remote().shelf.get("Nothing")
    error = caught.value
    assert (error.message, error.where, error.next_step) == ("there is no book 'Nothing'", "title", "see shelf.find")


def test_a_viewer_is_refused_as_by_the_server(open_remote: Callable[..., Any]) -> None:
    with pytest.raises(Forbidden):
        open_remote("viewer").shelf.burn()


def test_a_false_token_is_told(server: Running) -> None:
    with RemoteWorkspace(server.url, "lw_no", services=TYPES) as ws, pytest.raises(Unauthorized):
        ws.shelf.find()


def test_the_local_user_needs_no_token(local: Running) -> None:
    with RemoteWorkspace(local.url, services=TYPES) as ws:
        assert ws.shelf.burn() is None


def test_what_works_on_this_machine_says_so(open_remote: Callable[..., Any]) -> None:
    with pytest.raises(Invalid, match="this machine"):
        _ = open_remote().shelf.scan
    with pytest.raises(AttributeError):
        _ = open_remote().shelf.nothing
    with pytest.raises(AttributeError):
        _ = open_remote().nothing


def test_a_silent_server_is_unavailable_with_a_next_step() -> None:
    with RemoteWorkspace("http://127.0.0.1:1", services=TYPES) as ws, pytest.raises(Unavailable, match="loopwright up"):
        ws.shelf.find()


@pytest.mark.parametrize("url", ["ftp://x", "file:///etc", "http://", "nonsense"])
def test_what_is_no_address_is_refused(url: str) -> None:
    with pytest.raises(Invalid):
        RemoteWorkspace(url)


def test_a_token_does_not_travel_in_clear_text() -> None:
    with pytest.raises(Invalid, match="clear text"):
        RemoteWorkspace("http://models.example.org", "lw_secret")


def test_every_room_of_a_workspace_is_there(server: Running) -> None:
    with RemoteWorkspace(server.url, server.tokens["root"]) as ws:
        assert [event.kind for event in ws.events.latest(limit=1)] == ["token.created"]
        assert [token.user for token in ws.service("tokens").list()] == ["ann", "ann", "ann"]
