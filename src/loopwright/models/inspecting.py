"""The words of an inspection: what is known of a version, or of a bundle that is not registered yet."""

from __future__ import annotations

from datetime import datetime

import msgspec

from loopwright.models.findings import Scan
from loopwright.models.model import BundleManifest, ModelVersion
from loopwright.store import Edge


class HeldFile(msgspec.Struct, frozen=True):
    """A file of a bundle, with the BLAKE3 digest of its bytes."""

    path: str
    size_bytes: int
    digest: str


class SignatureText(msgspec.Struct, frozen=True):
    """A signature as it was brought: the key's fingerprint, the signature's JSON, and the public key in PEM."""

    key: str
    signature: str
    public_key: str


class Vouched(msgspec.Struct, frozen=True):
    """A signature over a bundle: whose key, whether that is trusted here, when it was brought and by whom."""

    key: str
    trusted: bool
    signed_at: datetime | None = None
    actor: str = ""


class Vouch(msgspec.Struct, frozen=True):
    """A bundle that was read to its last byte, and found as it was registered.

    Attributes:
        signatures: over it; those of trusted keys were verified, byte for byte.
        required: whether this workspace loads only what a trusted key has signed.
    """

    ref: str
    bundle: str
    files: int
    size_bytes: int
    signatures: tuple[Vouched, ...]
    required: bool

    @property
    def passed(self) -> bool:
        """Whether it may be loaded here."""
        return not self.required or any(item.trusted for item in self.signatures)


class Inspection(msgspec.Struct, frozen=True):
    """All that is known of a version; of a bundle in a folder or archive, what it says itself.

    Attributes:
        version: None where the bundle is not registered.
        manifest: None where the version holds no bundle of ours.
        lineage: what it was made from and by, three steps up.
    """

    version: ModelVersion | None
    manifest: BundleManifest | None
    files: tuple[HeldFile, ...]
    signatures: tuple[Vouched, ...] = ()
    lineage: tuple[Edge, ...] = ()
    scan: Scan = Scan()
