import pytest
from hypothesis import given
from hypothesis import strategies as st

from loopwright.core import Forbidden, Invalid, Unauthorized
from loopwright.govern import (
    EVERY_PROJECT,
    LEVELS,
    PUBLIC,
    Identity,
    Role,
    allows,
    authorise,
    check_permission,
    role_in,
)

roles = st.sampled_from(list(Role))
permissions = st.sampled_from([f"runs:{level}" for level in LEVELS])
strength = list(Role).index


@pytest.mark.parametrize(
    ("role", "level", "allowed"),
    [
        (None, "read", False),
        (Role.VIEWER, "read", True),
        (Role.VIEWER, "write", False),
        (Role.VIEWER, "admin", False),
        (Role.EDITOR, "read", True),
        (Role.EDITOR, "write", True),
        (Role.EDITOR, "admin", False),
        (Role.ADMIN, "read", True),
        (Role.ADMIN, "write", True),
        (Role.ADMIN, "admin", True),
    ],
)
def test_each_role_may_what_its_row_says(role: Role | None, level: str, allowed: bool) -> None:
    assert allows(role, f"runs:{level}") is allowed


@given(st.lists(roles, min_size=2, max_size=2), permissions)
def test_a_stronger_role_may_all_that_a_weaker_one_may(pair: list[Role], permission: str) -> None:
    weaker, stronger = sorted(pair, key=strength)
    assert allows(stronger, permission) or not allows(weaker, permission)


@given(st.dictionaries(st.sampled_from(["a", "b", EVERY_PROJECT]), roles), permissions)
def test_nobody_acts_in_a_project_without_a_role_there_or_everywhere(granted: dict[str, Role], permission: str) -> None:
    identity = Identity("user:x", granted)
    expected = [granted[name] for name in ("a", EVERY_PROJECT) if name in granted]
    assert role_in(identity, "a") == (max(expected, key=strength) if expected else None)
    if not expected:
        with pytest.raises(Forbidden, match="no role in project 'a'"):
            authorise(identity, permission, "a")


def test_nobody_known_is_told_to_bring_a_token() -> None:
    with pytest.raises(Unauthorized, match="token"):
        authorise(None, "runs:read", "a")


def test_what_is_public_needs_nobody_and_nothing_else_does() -> None:
    judged = {}
    for permission in (PUBLIC, "runs:read"):
        try:
            authorise(None, permission, "a")
            judged[permission] = "let in"
        except Unauthorized:
            judged[permission] = "refused"
    assert judged == {PUBLIC: "let in", "runs:read": "refused"}


def test_a_refusal_names_the_role_that_is_needed() -> None:
    with pytest.raises(Forbidden, match=r"is viewer in project 'a'; runs:write needs editor"):
        authorise(Identity("user:x", {"a": Role.VIEWER}), "runs:write", "a")


@pytest.mark.parametrize("malformed", ["", "runs", "runs:", "runs:own", ":read", "runs:read:x", "PUBLIC"])
def test_a_malformed_permission_is_refused_not_granted(malformed: str) -> None:
    with pytest.raises(Invalid):
        check_permission(malformed)
    with pytest.raises(Invalid):
        allows(Role.ADMIN, malformed)
