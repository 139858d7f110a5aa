"""TLS at the doors: a certificate with its key, and the one protocol that is spoken behind each."""

from __future__ import annotations

import ssl
from pathlib import Path

from loopwright.core import Invalid

HTTP, GRPC = "http/1.1", "h2"
HANDSHAKE_S = 10.0
"""How long a client may take to agree on a key."""


def context_of(cert: Path | None, key: Path | None, protocol: str) -> ssl.SSLContext | None:
    """What a door needs to speak TLS 1.2 or newer; None where neither file is given.

    Args:
        cert: a PEM file: the certificate, and those between it and its authority.
        key: a PEM file: its private key, without a password.
        protocol: what ALPN (RFC 7301) offers.

    Raises:
        Invalid: one file is missing, cannot be read, or does not fit the other.
    """
    if cert is None and key is None:
        return None
    if cert is None or key is None:
        raise Invalid("TLS needs a certificate and its key", next_step="give both --tls-cert and --tls-key")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION
    context.set_alpn_protocols([protocol])
    for path in (cert, key):
        try:
            path.open("rb").close()
        except OSError as error:
            raise Invalid(f"{path} cannot be read: {error.strerror or error}", next_step="check the path") from None
    try:
        context.load_cert_chain(cert, key, password=lambda: b"")  # without this, a person would be asked for one
    except (ssl.SSLError, ValueError) as error:
        told = getattr(error, "reason", None) or str(error)
        raise Invalid(
            f"{cert} and {key} are no certificate with its key: {told}",
            next_step="give PEM files; a key with a password cannot be used",
        ) from None
    return context


def check_tls(cert: Path | None, key: Path | None) -> None:
    """Refuse files that no door could use, before anything starts. Raises as `context_of` does."""
    context_of(cert, key, HTTP)


def trusting(authority: Path | None) -> ssl.SSLContext:
    """What a client needs that believes the authorities in a PEM file; those of this machine where there is none.

    Raises:
        Invalid: the file cannot be used.
    """
    try:
        return ssl.create_default_context(cafile=authority)
    except (OSError, ValueError) as error:
        told = getattr(error, "reason", None) or getattr(error, "strerror", None) or error
        raise Invalid(f"{authority} holds no certificates: {told}", next_step="give a PEM file") from None


def handshake_s(context: ssl.SSLContext | None) -> float | None:
    """How long a handshake may take, as asyncio wants it: None where there is none."""
    return None if context is None else HANDSHAKE_S
