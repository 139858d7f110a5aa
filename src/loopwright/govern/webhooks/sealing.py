"""Secrets of webhooks at rest. They sign, so no digest will do: with the setting `secret_keys` they are sealed in the
database, and whoever reads it without the key reads nothing. Without it they are kept as they are.

The seal is Fernet (AES-128-CBC and HMAC-SHA256, github.com/fernet/spec) of the package cryptography. Of several keys
the first one seals and each one opens, so that a key can be changed.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

from sqlalchemy import select, update

from loopwright.core import Invalid, LoopwrightError, Unavailable, missing_extra
from loopwright.govern.webhooks.tables import webhooks
from loopwright.store import Stores

MARK = "sealed:"
_log = logging.getLogger(__name__)


def seal(keys: Sequence[str], secret: str) -> str:
    """What is kept of a secret.

    Raises:
        Invalid: a key is none, cryptography is not installed, or the secret looks like a sealed one.
    """
    if secret.startswith(MARK):
        raise Invalid(f"a secret cannot begin with {MARK!r}", next_step="use another secret")
    if not keys or not secret:
        return secret
    sealed: bytes = _opener(keys).encrypt(secret.encode())
    return MARK + sealed.decode("ascii")


def unseal(keys: Sequence[str], kept: str) -> str:
    """The secret itself.

    Raises:
        Unavailable: none of the keys opens it.
        Invalid: as `seal`.
    """
    if not kept.startswith(MARK):
        return kept
    if keys:
        from cryptography.fernet import InvalidToken

        try:
            opened: bytes = _opener(keys).decrypt(kept.removeprefix(MARK))
            return opened.decode()
        except InvalidToken:
            pass
    raise Unavailable(
        "the webhook's secret is sealed, and no key of the setting secret_keys opens it",
        next_step="bring back the key that sealed it, or give the webhook a new secret",
    )


def seal_all(stores: Stores) -> None:
    """Seal with the first key what is not: what was kept before there was a key, or sealed with an older one."""
    keys = stores.location.settings.secret_keys
    if not keys:
        return
    columns = webhooks.c
    with stores.db.read() as connection:
        held = connection.execute(select(columns.id, columns.secret).where(columns.secret != "")).all()
    for row in held:
        if _sealed_with(keys[0], row.secret):
            continue
        try:
            value = seal(keys, unseal(keys, row.secret))
        except LoopwrightError as error:
            _log.warning("the secret of the webhook %s stays as it is: %s", row.id, error)
            continue
        with stores.db.begin() as tx:
            unchanged = (columns.id == row.id, columns.secret == row.secret)
            tx.execute(update(webhooks).where(*unchanged).values(secret=value))


def _sealed_with(key: str, kept: str) -> bool:
    try:
        return kept.startswith(MARK) and bool(unseal([key], kept))
    except LoopwrightError:
        return False


def _opener(keys: Sequence[str]) -> Any:
    try:
        from cryptography.fernet import Fernet, MultiFernet
    except ImportError:
        raise missing_extra("cryptography", "secrets", "the setting secret_keys") from None
    try:
        return MultiFernet([Fernet(key) for key in keys])
    except ValueError:
        raise Invalid(
            "a key of the setting secret_keys is not 32 random bytes in URL-safe base64",
            next_step="make one: openssl rand -base64 32 | tr '+/' '-_'",
        ) from None
