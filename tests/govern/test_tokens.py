from datetime import timedelta

import pytest
from sqlalchemy import text

from loopwright.core import Invalid, ManualClock, NotFound, Scope, Unauthorized
from loopwright.govern import EVERY_PROJECT, Authenticator, Role, TokenService
from loopwright.store import Stores


@pytest.fixture
def tokens(stores: Stores, clock: ManualClock) -> TokenService:
    return TokenService(stores, Scope("sales", "user:boss"), clock)


@pytest.fixture
def everywhere(stores: Stores, clock: ManualClock) -> TokenService:
    return TokenService(stores, Scope(EVERY_PROJECT, "user:root"), clock)


@pytest.fixture
def gate(stores: Stores, clock: ManualClock) -> Authenticator:
    return Authenticator(stores, clock)


def test_a_new_token_proves_its_user_and_role(tokens: TokenService, gate: Authenticator) -> None:
    made = tokens.create("ann", Role.EDITOR, note="laptop")
    identity = gate.identify(made.secret)
    assert (identity.actor, identity.roles, identity.token) == ("user:ann", {"sales": Role.EDITOR}, made.token.id)


def test_the_secret_is_nowhere_in_the_database(stores_sqlite: Stores) -> None:
    stores = stores_sqlite
    tokens, gate = TokenService(stores, Scope("sales", "user:boss")), Authenticator(stores)
    secret = tokens.create("ann", Role.EDITOR).secret
    session = gate.open_session(secret)
    stores.close()
    kept = b"".join(path.read_bytes() for path in stores.data.rglob("*") if path.is_file())
    assert b"user:ann" in kept
    assert secret.split("_", 2)[2].encode() not in kept
    assert session.cookie.encode() not in kept


@pytest.mark.parametrize(
    "spoil", [lambda s: s[:-1] + "x", lambda s: "x" + s, lambda s: "", lambda s: s.rsplit("_", 1)[0]]
)
def test_a_spoilt_secret_proves_nobody(tokens: TokenService, gate: Authenticator, spoil: object) -> None:
    secret = tokens.create("ann", Role.ADMIN).secret
    if secret.endswith("x"):
        secret = tokens.create("ann", Role.ADMIN).secret
    with pytest.raises(Unauthorized):
        gate.identify(spoil(secret))  # type: ignore[operator]


def test_one_tokens_id_with_anothers_secret_proves_nobody(tokens: TokenService, gate: Authenticator) -> None:
    one, two = tokens.create("ann", Role.ADMIN), tokens.create("bob", Role.VIEWER)
    mixed = "_".join(["lw", one.token.id, two.secret.split("_", 2)[2]])
    with pytest.raises(Unauthorized):
        gate.identify(mixed)


def test_a_token_ends_on_its_day(tokens: TokenService, gate: Authenticator, clock: ManualClock) -> None:
    made = tokens.create("ann", Role.VIEWER, valid_days=1)
    session = gate.open_session(made.secret)
    clock.advance(clock.now() + timedelta(hours=23, minutes=59))
    assert gate.identify(made.secret).actor == "user:ann"
    clock.advance(clock.now() + timedelta(minutes=1))
    with pytest.raises(Unauthorized):
        gate.identify(made.secret)
    assert gate.session(session.cookie) is None


def test_a_revoked_token_and_its_sessions_end_at_once(tokens: TokenService, gate: Authenticator) -> None:
    made = tokens.create("ann", Role.VIEWER)
    session = gate.open_session(made.secret)
    assert gate.session(session.cookie) is not None
    assert tokens.revoke(made.token.id).revoked_at is not None
    assert gate.session(session.cookie) is None
    with pytest.raises(Unauthorized):
        gate.identify(made.secret)


def test_a_project_admin_takes_away_only_the_role_in_that_project(
    tokens: TokenService, everywhere: TokenService, stores: Stores, clock: ManualClock, gate: Authenticator
) -> None:
    made = tokens.create("ann", Role.VIEWER)
    TokenService(stores, Scope("research", "user:chief"), clock).grant(made.token.id, Role.EDITOR)
    seen = tokens.revoke(made.token.id)
    assert seen.revoked_at is None
    assert seen.roles == {}
    assert gate.identify(made.secret).roles == {"research": Role.EDITOR}
    everywhere.revoke(made.token.id)
    with pytest.raises(Unauthorized):
        gate.identify(made.secret)


def test_a_grant_replaces_the_role_there(tokens: TokenService, gate: Authenticator) -> None:
    made = tokens.create("ann", Role.VIEWER)
    tokens.grant(made.token.id, Role.ADMIN)
    assert gate.identify(made.secret).roles == {"sales": Role.ADMIN}


def test_a_project_sees_its_own_tokens_and_roles_only(
    tokens: TokenService, everywhere: TokenService, stores: Stores, clock: ManualClock
) -> None:
    here = tokens.create("ann", Role.VIEWER)
    research = TokenService(stores, Scope("research", "user:chief"), clock)
    there = research.create("bob", Role.ADMIN)
    research.grant(here.token.id, Role.ADMIN)
    assert [(token.user, token.roles) for token in tokens.list()] == [("ann", {"sales": Role.VIEWER})]
    assert {token.id for token in everywhere.list()} == {here.token.id, there.token.id}


def test_pages_of_tokens_go_on_where_the_last_ended(tokens: TokenService) -> None:
    made = [tokens.create(f"user{number}", Role.VIEWER).token.id for number in range(5)]
    first = tokens.list(limit=2)
    second = tokens.list(limit=2, after=first[-1].id)
    assert [token.id for token in (*first, *second)] == made[:0:-1]


def test_revoking_what_has_no_role_here_is_not_found(tokens: TokenService, everywhere: TokenService) -> None:
    other = everywhere.create("root", Role.ADMIN)
    with pytest.raises(NotFound):
        tokens.revoke(other.token.id)
    with pytest.raises(NotFound):
        tokens.revoke("0" * 32)


def test_a_revoked_token_takes_no_role(tokens: TokenService) -> None:
    made = tokens.create("ann", Role.VIEWER)
    tokens.revoke(made.token.id)
    with pytest.raises(Invalid, match="revoked"):
        tokens.grant(made.token.id, Role.ADMIN)


@pytest.mark.parametrize(("user", "days"), [("", 1), ("../x", 1), ("a b", 1), ("ann", 0), ("ann", 4000)])
def test_a_malformed_wish_for_a_token_changes_nothing(tokens: TokenService, user: str, days: int) -> None:
    with pytest.raises(Invalid):
        tokens.create(user, Role.VIEWER, valid_days=days)
    assert tokens.list() == ()


def test_each_change_of_tokens_is_an_event_without_secrets(tokens: TokenService, stores: Stores) -> None:
    made = tokens.create("ann", Role.VIEWER)
    tokens.grant(made.token.id, Role.EDITOR)
    tokens.revoke(made.token.id)
    events = stores.events.read()
    assert [event.kind for event in events] == ["token.created", "token.granted", "token.revoked"]
    assert {(event.subject, event.actor, event.project) for event in events} == {("user:ann", "user:boss", "sales")}
    hidden = made.secret.split("_", 2)[2]
    assert len(hidden) > 20
    assert not any(hidden in str(event.evidence) for event in events)


def test_the_first_start_gives_one_admin_token(gate: Authenticator) -> None:
    made = gate.first_token()
    assert made is not None
    assert gate.identify(made.secret).roles == {EVERY_PROJECT: Role.ADMIN}
    assert gate.first_token() is None


def test_the_first_token_ends_with_the_next_admins(gate: Authenticator, everywhere: TokenService) -> None:
    first = gate.first_token()
    assert first is not None
    everywhere.create("viewer", Role.VIEWER)
    assert gate.identify(first.secret).actor == "user:admin"
    everywhere.create("root", Role.ADMIN)
    with pytest.raises(Unauthorized):
        gate.identify(first.secret)
    assert gate.first_token() is None


def test_an_unused_first_token_ends_after_a_day_and_another_is_made(gate: Authenticator, clock: ManualClock) -> None:
    first = gate.first_token()
    assert first is not None
    clock.advance(clock.now() + timedelta(hours=24))
    again = gate.first_token()
    assert again is not None
    assert again.secret != first.secret


def test_a_session_carries_the_tokens_identity_and_a_csrf_value_of_its_own(
    tokens: TokenService, gate: Authenticator
) -> None:
    secret = tokens.create("ann", Role.EDITOR).secret
    one, two = gate.open_session(secret), gate.open_session(secret)
    found = gate.session(one.cookie)
    assert found is not None
    assert found.identity == gate.identify(secret)
    assert found.csrf == one.csrf != two.csrf
    gate.close_session(one.cookie)
    assert gate.session(one.cookie) is None
    assert gate.session(two.cookie) is not None


def test_a_session_ends_after_twelve_hours_and_is_swept(
    tokens: TokenService, gate: Authenticator, clock: ManualClock, stores: Stores
) -> None:
    secret = tokens.create("ann", Role.EDITOR).secret
    cookie = gate.open_session(secret).cookie
    clock.advance(clock.now() + timedelta(hours=12))
    assert gate.session(cookie) is None
    gate.open_session(secret)
    with stores.db.read() as tx:
        assert tx.execute(text("select count(*) from token_sessions")).scalar() == 1


def test_the_first_token_ends_too_when_another_is_made_admin(gate: Authenticator, everywhere: TokenService) -> None:
    first = gate.first_token()
    other = everywhere.create("root", Role.VIEWER)
    assert first is not None
    everywhere.grant(other.token.id, Role.ADMIN)
    with pytest.raises(Unauthorized):
        gate.identify(first.secret)
    assert gate.identify(other.secret).roles == {EVERY_PROJECT: Role.ADMIN}
