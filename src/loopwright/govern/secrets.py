"""Secrets: random, shown once, kept as digests. 256 random bits need no slow hash (NIST SP 800-63B §5.1.4.2 is
about secrets that people choose)."""

from __future__ import annotations

import hmac
import secrets

from loopwright.core import digest_bytes, is_id

_PREFIX = "lw"
_BYTES = 32


def random_secret() -> str:
    """256 random bits as URL-safe text."""
    return secrets.token_urlsafe(_BYTES)


def secret_of(token_id: str) -> str:
    """A new secret for a token: it starts with `lw_` and the token's id, so that scanners and admins know it."""
    return f"{_PREFIX}_{token_id}_{random_secret()}"


def token_id_of(secret: str) -> str | None:
    """The token's id inside a secret; None if the text has another form."""
    parts = secret.split("_", 2)
    if len(parts) == 3 and parts[0] == _PREFIX and is_id(parts[1]) and len(secret) <= 128:
        return parts[1]
    return None


def digest_of(secret: str) -> str:
    """What is kept of a secret."""
    return digest_bytes(secret.encode("utf-8", "surrogateescape"))


def matches(secret: str, digest: str) -> bool:
    """Whether a secret has this digest, in constant time."""
    return hmac.compare_digest(digest_of(secret), digest)
