"""Signatures over a bundle's files, in the form of OpenSSF model-signing (a Sigstore bundle with an in-toto statement).

A signature is detached: it stands beside the bundle, whose digest it leaves as it is, and names every file of it with
a digest. It verifies with OpenSSF's own tool as well: `model_signing verify key FOLDER --public_key … --signature …`.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import msgspec

from loopwright.core import Conflict, Corrupt, Invalid, NotFound, missing_extra

SIGNATURES_FOLDER = "signatures"
"""Where an exported bundle keeps its signatures; no part of what is signed, and of no bundle's digest."""

MAX_SIGNATURE_BYTES = 4 << 20
_PREDICATE = "https://model_signing/signature/v1.0"
_ALGORITHMS = ("sha256", "blake2b", "blake3")
_CHANGED = re.compile(r"Hash mismatch for \\?'([^'\\]+)\\?'")
_MAKE_KEY = (
    "make one with: openssl ecparam -name prime256v1 -genkey -noout -out key.pem; "
    "openssl ec -in key.pem -pubout -out key.pub"
)


class Trust(msgspec.Struct, frozen=True):
    """Whose signatures count here.

    Attributes:
        required: whether a bundle without a signature by one of the keys is refused.
        keys: public keys (elliptic curve) in PEM.
    """

    required: bool = False
    keys: tuple[str, ...] = ()

    @property
    def asks(self) -> bool:
        """Whether there is anything to judge."""
        return self.required or bool(self.keys)


class _Hint(msgspec.Struct):
    hint: str = ""


class _Material(msgspec.Struct, rename="camel"):
    public_key: _Hint = msgspec.field(default_factory=_Hint)


class _Envelope(msgspec.Struct):
    payload: str


class _SignedBundle(msgspec.Struct, rename="camel"):
    verification_material: _Material
    dsse_envelope: _Envelope


class _Resource(msgspec.Struct):
    name: str
    algorithm: str
    digest: str


class _Serialization(msgspec.Struct):
    method: str
    hash_type: str


class _Predicate(msgspec.Struct):
    serialization: _Serialization
    resources: list[_Resource]


class _Statement(msgspec.Struct, rename="camel"):
    predicate_type: str
    predicate: _Predicate


class Claim(msgspec.Struct, frozen=True):
    """What a signature says, before anybody has verified it: the key's fingerprint, and a digest for each file."""

    key: str
    algorithm: str
    files: dict[str, str]


def trust_of(required: bool, key_files: Iterable[str], root: Path) -> Trust:
    """The trust that a workspace's settings ask for; the files of keys are relative to `root`.

    Raises:
        Invalid: signatures are required and no key is trusted, or a file holds no public key.
        NotFound: a file is not there.
    """
    keys = tuple(_read_public(root / name) for name in key_files)
    if required and not keys:
        raise Invalid(
            "require_signed is set, and trusted_keys names no key",
            next_step="name the PEM files of the public keys that you trust in trusted_keys",
        )
    return Trust(required, keys)


def fingerprint(public_key: str) -> str:
    """What a public key is called: the SHA-256 of its PEM text, as the signatures name it.

    Raises:
        Invalid: it is no public key.
    """
    from cryptography.hazmat.primitives import serialization

    try:
        key = serialization.load_pem_public_key(public_key.encode())
    except (ValueError, TypeError) as error:
        raise Invalid(f"not a public key in PEM: {str(error).splitlines()[0][:200]}", next_step=_MAKE_KEY) from None
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    return hashlib.sha256(key.public_bytes(serialization.Encoding.PEM, form)).hexdigest()


def public_key_of(private_key: Path, password: str = "") -> str:
    """The public half of a private key, in PEM.

    Raises:
        NotFound: there is no such file.
        Invalid: it holds no elliptic-curve private key, or the password is not its own.
    """
    _library("model_signing.signing")
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    try:
        key = serialization.load_pem_private_key(private_key.read_bytes(), password.encode() or None)
    except FileNotFoundError:
        raise NotFound(f"there is no key file {private_key}", next_step=_MAKE_KEY) from None
    except (ValueError, TypeError) as error:
        raise Invalid(
            f"the file is no private key that can be opened: {str(error).splitlines()[0][:200]}",
            where=str(private_key),
            next_step=f"give an elliptic-curve key in PEM, and its password if it has one; {_MAKE_KEY}",
        ) from None
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise Invalid("the key is not of an elliptic curve", where=str(private_key), next_step=_MAKE_KEY)
    public = key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    return public.decode()


def sign_folder(folder: Path, private_key: Path, password: str = "") -> bytes:
    """A signature over every file of a bundle's folder.

    Args:
        folder: the bundle; its folder `signatures` is left out.
        private_key: PEM file of an elliptic-curve key (P-256, P-384 or P-521).
        password: the key's, if it has one.

    Raises:
        NotFound: there is no such key file.
        Invalid: the key cannot be used, the folder holds a link, or the library is not installed.
    """
    public_key_of(private_key, password)  # says what is wrong with the key in our words
    library = _library("model_signing.signing")
    with tempfile.TemporaryDirectory() as scratch:
        target = Path(scratch) / "signature.json"
        try:
            config = library.Config().use_elliptic_key_signer(
                private_key=private_key, password=password.encode() or None
            )
            config.set_hashing_config(_hashing("sha256")).sign(folder, target)
        except ValueError as error:
            raise Invalid(f"the bundle cannot be signed: {error}", where=str(folder)) from error
        return target.read_bytes()


def read_claim(signature: bytes) -> Claim:
    """What a signature says. Nothing is verified.

    Raises:
        Corrupt: it is no signature of this kind, or does not name whole files.
    """
    if len(signature) > MAX_SIGNATURE_BYTES:
        raise Corrupt(f"the signature has {len(signature):,} bytes; at most {MAX_SIGNATURE_BYTES:,} are read")
    try:
        outer = msgspec.json.decode(signature, type=_SignedBundle)
        payload = base64.b64decode(outer.dsse_envelope.payload, validate=True)
        statement = msgspec.json.decode(payload, type=_Statement)
    except (msgspec.MsgspecError, binascii.Error, UnicodeDecodeError) as error:
        raise Corrupt(f"not a signature of OpenSSF model-signing with a key: {error}") from None
    serialization = statement.predicate.serialization
    if statement.predicate_type != _PREDICATE or serialization.method != "files":
        raise Corrupt(f"the signature is of the kind {statement.predicate_type} over {serialization.method}")
    algorithms = {item.algorithm for item in statement.predicate.resources} | {serialization.hash_type}
    if len(algorithms) != 1 or not algorithms <= set(_ALGORITHMS):
        raise Corrupt(f"the signature uses the digests {', '.join(sorted(algorithms))}")
    files = {item.name: item.digest for item in statement.predicate.resources}
    return Claim(outer.verification_material.public_key.hint, serialization.hash_type, files)


def verify_folder(folder: Path, signature: bytes, public_key: str) -> Claim:
    """Verify that a key signed exactly the files in a folder, byte for byte.

    Raises:
        Corrupt: a file is changed, missing or not signed, or the signature is not of that key.
        Invalid: the library is not installed, or `public_key` is no key.
    """
    claim = read_claim(signature)
    _refuse_other_files(folder, claim)
    library = _library("model_signing.verifying")
    if claim.key != fingerprint(public_key):
        raise Corrupt(f"the signature is of the key {claim.key[:16]}, not of {fingerprint(public_key)[:16]}")
    with tempfile.TemporaryDirectory() as scratch:
        key, written = Path(scratch) / "key.pub", Path(scratch) / "signature.json"
        key.write_text(public_key, encoding="utf-8")
        written.write_bytes(signature)
        try:
            config = library.Config().use_elliptic_key_verifier(public_key=key)
            config.set_hashing_config(_hashing(claim.algorithm)).verify(folder, written)
        except Exception as error:  # the library raises ValueError, cryptography's and protobuf's own, all alike "no"
            raise Corrupt(
                f"the bundle is not what the key {claim.key[:16]} signed: {_first_line(error)}", where=str(folder)
            ) from error
    return claim


def check_signed(folder: Path, signatures: Sequence[bytes], trust: Trust) -> tuple[str, ...]:
    """The trusted keys that signed the bundle in a folder, each verified.

    Raises:
        Conflict: a signature is required, and none is of a trusted key.
        Corrupt: a signature of a trusted key does not hold.
    """
    if not trust.asks:
        return ()
    known = {fingerprint(key): key for key in trust.keys}
    found: list[str] = []
    others: list[str] = []
    for signature in signatures:
        key = read_claim(signature).key
        if key in known:
            verify_folder(folder, signature, known[key])
            found.append(key)
        else:
            others.append(key[:16] or "unnamed")
    if trust.required and not found:
        signed = f"signed by {', '.join(others)}, which is not trusted here" if others else "not signed"
        raise Conflict(
            f"the bundle is {signed}, and only what one of the {len(known)} trusted keys signed may be loaded",
            next_step="loopwright models sign REF --key FILE, or name the signer's public key in trusted_keys",
        )
    return tuple(dict.fromkeys(found))


def belongs(path: str) -> bool:
    """Whether a file of an exported bundle's folder, by its relative path, is the bundle's and no signature over it."""
    return not path.startswith(f"{SIGNATURES_FOLDER}/")


def signatures_in(folder: Path) -> list[tuple[bytes, str]]:
    """The signatures that an exported bundle brings along, each with its public key, where that is there too."""
    inside = folder / SIGNATURES_FOLDER
    files = sorted(path for path in inside.glob("*.sig") if path.is_file()) if inside.is_dir() else []
    return [(_bounded(path), _key_beside(path)) for path in files]


def _key_beside(path: Path) -> str:
    key = path.with_suffix(".pub")
    return _bounded(key).decode(errors="replace") if key.is_file() else ""


def _bounded(path: Path) -> bytes:
    with path.open("rb") as stream:
        return stream.read(MAX_SIGNATURE_BYTES + 1)


def _refuse_other_files(folder: Path, claim: Claim) -> None:
    """The library leaves out what the signer told it to, and git's own files; here all or nothing is signed."""
    inside = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_symlink() or path.is_file()}
    inside = {name for name in inside if belongs(name)}
    for names, what in ((inside - claim.files.keys(), "not signed"), (claim.files.keys() - inside, "missing")):
        if names:
            shown = ", ".join(sorted(names)[:5])
            raise Corrupt(f"the bundle is not what was signed: {shown} is {what}", where=str(folder))


def _hashing(algorithm: str) -> Any:
    chosen = {"blake2b": "blake2"}.get(algorithm, algorithm)
    config = _library("model_signing.hashing").Config().use_file_serialization(hashing_algorithm=chosen)
    return config.set_ignored_paths(paths=[SIGNATURES_FOLDER], ignore_git_paths=False)


def _read_public(path: Path) -> str:
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise NotFound(
            f"there is no key file {path}", where="trusted_keys", next_step="give the PEM file of a public key"
        ) from None
    except UnicodeDecodeError:
        raise Invalid(f"{path} is no PEM file", where="trusted_keys") from None
    _library("model_signing.verifying")
    fingerprint(text)
    return text


def _library(module: str) -> ModuleType:
    from importlib import import_module

    try:
        return import_module(module)
    except ImportError:
        raise missing_extra("model-signing", "signing", "signing and verifying bundles") from None


def _first_line(error: BaseException) -> str:
    changed = _CHANGED.findall(str(error))
    if changed:
        return f"{', '.join(changed[:5])} changed"
    return (str(error).splitlines() or [type(error).__name__])[0][:300] or type(error).__name__
