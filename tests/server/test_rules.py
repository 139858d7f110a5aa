"""The rules before every handler, as pure functions; and what a reply may carry."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loopwright.core import Forbidden, Invalid
from loopwright.server.errors import conceal
from loopwright.server.security import Head, check_csrf, check_host, check_origin, is_local
from loopwright.server.sessions import safe_target
from loopwright.server.settings import ServerSettings, hosts_of, is_loopback

LOCAL = ServerSettings(("127.0.0.1:8000", "localhost:8000", "[::1]:8000"), auth="local", loopback=True)


def head(method: str = "POST", peer: str = "127.0.0.1", **headers: str) -> Head:
    return Head(method, peer, {name.replace("_", "-"): value for name, value in headers.items()})


@given(st.text(max_size=40))
def test_no_host_but_our_own_is_answered(host: str) -> None:
    if host.lower() in LOCAL.hosts:
        return
    with pytest.raises(Invalid):
        check_host(head(host=host), LOCAL)


@given(st.text(max_size=40).filter(lambda text: "127.0.0.1:8000" not in text and "localhost" not in text))
def test_no_origin_but_our_own_may_change_anything(origin: str) -> None:
    with pytest.raises(Forbidden):
        check_origin(head(host="127.0.0.1:8000", origin=origin), LOCAL)


def test_reading_needs_no_origin() -> None:
    check_origin(head("GET", origin="https://evil.example"), LOCAL)


@pytest.mark.parametrize(
    ("peer", "headers", "local"),
    [
        ("127.0.0.1", {"host": "127.0.0.1:8000"}, True),
        ("::1", {"host": "[::1]:8000"}, True),
        ("127.0.0.1", {"host": "localhost:8000"}, True),
        ("192.0.2.7", {"host": "127.0.0.1:8000"}, False),
        ("127.0.0.1", {"host": "models.example.org"}, False),
        ("127.0.0.1", {"host": "127.0.0.1:8000", "x-forwarded-for": "192.0.2.7"}, False),
        ("", {"host": "127.0.0.1:8000"}, False),
        ("127.0.0.1.evil.example", {"host": "127.0.0.1:8000"}, False),
    ],
)
def test_only_a_straight_request_from_this_machine_is_local(peer: str, headers: dict[str, str], local: bool) -> None:
    assert is_local(Head("GET", peer, headers), LOCAL) is local


def test_nobody_is_local_where_tokens_are_demanded() -> None:
    for changed in (ServerSettings(LOCAL.hosts, "required", True), ServerSettings(LOCAL.hosts, "local", False)):
        assert not is_local(head("GET", host="127.0.0.1:8000"), changed)


@given(st.text(max_size=20), st.text(min_size=1, max_size=20))
def test_a_session_changes_things_only_with_its_own_value(given_value: str, expected: str) -> None:
    sent = head(loopwright_csrf=given_value)
    if given_value == expected:
        check_csrf(sent, expected)
    else:
        with pytest.raises(Forbidden):
            check_csrf(sent, expected)


@pytest.mark.parametrize("name", ["127.0.0.1", "127.8.8.8", "localhost", "::1", "[::1]"])
def test_loopback_names(name: str) -> None:
    assert is_loopback(name)


@pytest.mark.parametrize(
    "name", ["0.0.0.0", "::", "192.168.0.1", "example.org", "localhost.evil.example", "127.0.0.1.x", ""]
)
def test_what_is_not_loopback(name: str) -> None:
    assert not is_loopback(name)


def test_the_hosts_of_a_bind_are_exact() -> None:
    assert set(hosts_of("127.0.0.1", 8000)) == {"127.0.0.1:8000", "localhost:8000", "[::1]:8000"}
    assert hosts_of("192.0.2.7", 80, ("models.example.org",)) == ("192.0.2.7:80", "192.0.2.7", "models.example.org")
    wide = hosts_of("0.0.0.0", 8000)
    assert "127.0.0.1:8000" in wide
    assert not any(host.startswith("0.0.0.0") for host in wide)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("cannot read /srv/secret/team/.loopwright/loopwright.db: denied", "cannot read …/loopwright.db: denied"),
        ("C:\\secret\\team\\data\\x.csv is odd", "…/x.csv is odd"),
        ("see /api/v1/runs/search or /p/default/runs", "see /api/v1/runs/search or /p/default/runs"),
        ("a/b/c is a relative path, 3/4 a fraction", "a/b/c is a relative path, 3/4 a fraction"),
        ("the key is hunter2", "the key is …"),
        ("https://example.org/a/b stays", "https://example.org/a/b stays"),
        ("'/tmp/x/y.parquet' (line 3)", "'…/y.parquet' (line 3)"),
    ],
)
def test_a_reply_carries_no_absolute_path_and_no_secret(text: str, told: str) -> None:
    assert conceal(text, ["hunter2"]) == told


@given(st.lists(st.text("abcxyz._-", min_size=1, max_size=8), min_size=2, max_size=6))
def test_no_folder_of_an_absolute_path_survives(parts: list[str]) -> None:
    told = conceal("at /srv/" + "/".join(parts))
    assert told == f"at …/{parts[-1]}"


@given(st.text(max_size=40))
def test_after_signing_in_one_stays_on_this_server(path: str) -> None:
    try:
        target = safe_target(path)
    except Invalid:
        return
    assert target.startswith("/")
    assert not target.startswith(("//", "/\\"))
    assert "\n" not in target
    assert "\r" not in target
