"""A signature covers every byte of a bundle, and what is not signed as the settings ask is not loaded."""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519

from loopwright.core import Conflict, Corrupt, Invalid, NotFound, Scope, load_settings
from loopwright.models import Bundle
from loopwright.models.signing import (
    Trust,
    check_signed,
    fingerprint,
    public_key_of,
    read_claim,
    sign_folder,
    trust_of,
    verify_folder,
)
from loopwright.store import Stores
from loopwright.workspace import Workspace

pytestmark = pytest.mark.slow


@dataclass(frozen=True)
class Key:
    """A private key in a file, and its public half."""

    private: Path
    public: Path

    @property
    def text(self) -> str:
        return self.public.read_text()


def make_key(folder: Path, name: str, password: str = "", curve: ec.EllipticCurve | None = None) -> Key:
    made = ec.generate_private_key(curve or ec.SECP256R1())
    sealed = serialization.BestAvailableEncryption(password.encode()) if password else serialization.NoEncryption()
    pem, form = serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    found = Key(folder / f"{name}.pem", folder / f"{name}.pub")
    found.private.write_bytes(made.private_bytes(pem, serialization.PrivateFormat.PKCS8, sealed))
    found.public.write_bytes(made.public_key().public_bytes(pem, form))
    return found


@pytest.fixture(scope="session")
def key(tmp_path_factory: pytest.TempPathFactory) -> Key:
    return make_key(tmp_path_factory.mktemp("keys"), "ours")


@pytest.fixture(scope="session")
def other(tmp_path_factory: pytest.TempPathFactory) -> Key:
    return make_key(tmp_path_factory.mktemp("keys"), "other")


@pytest.fixture
def copy(bundle: Bundle, tmp_path: Path) -> Path:
    """A copy of the bundle, to sign and damage."""
    shutil.copytree(bundle.folder, tmp_path / "copy")
    return tmp_path / "copy"


@pytest.fixture(scope="session")
def signature(bundle: Bundle, key: Key) -> bytes:
    return sign_folder(bundle.folder, key.private)


def test_a_signature_names_every_file_and_holds(bundle: Bundle, signature: bytes, key: Key) -> None:
    claim = verify_folder(bundle.folder, signature, key.text)
    assert claim.files.keys() == {"bundle.json", *bundle.manifest.files}
    assert claim.key == fingerprint(key.text)
    assert public_key_of(key.private) == key.text


@pytest.mark.parametrize("curve", [ec.SECP384R1(), ec.SECP521R1()], ids=["P-384", "P-521"])
def test_larger_curves_sign_too(bundle: Bundle, tmp_path: Path, curve: ec.EllipticCurve) -> None:
    made = make_key(tmp_path, "large", curve=curve)
    claim = verify_folder(bundle.folder, sign_folder(bundle.folder, made.private), made.text)
    assert claim.key == fingerprint(made.text)
    assert claim.files.keys() == {"bundle.json", *bundle.manifest.files}


def test_a_key_with_a_password_signs_with_it_alone(bundle: Bundle, tmp_path: Path) -> None:
    made = make_key(tmp_path, "sealed", "correct horse")
    verify_folder(bundle.folder, sign_folder(bundle.folder, made.private, "correct horse"), made.text)
    for wrong in ("", "staple"):
        with pytest.raises(Invalid, match="no private key that can be opened"):
            sign_folder(bundle.folder, made.private, wrong)


@pytest.mark.parametrize("name", ["bundle.json", "model.onnx", "profile.sketch", "environment.txt", "example.json"])
def test_one_flipped_bit_in_any_file_breaks_the_signature(copy: Path, signature: bytes, key: Key, name: str) -> None:
    data = bytearray((copy / name).read_bytes())
    data[len(data) // 2] ^= 1
    (copy / name).write_bytes(data)
    with pytest.raises(Corrupt, match=f"{name} changed"):
        verify_folder(copy, signature, key.text)


def _link(folder: Path) -> None:
    (folder / "link").symlink_to(folder / "model.onnx")


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda folder: (folder / "extra.txt").write_text("x"), "extra.txt is not signed"),
        (lambda folder: (folder / ".gitignore").write_text("x"), ".gitignore is not signed"),
        (lambda folder: (folder / "model.onnx").unlink(), "model.onnx is missing"),
        (_link, "link is not signed"),
    ],
    ids=["extra", "one that git ignores", "missing", "link"],
)
def test_the_files_are_exactly_those_that_were_signed(
    copy: Path, signature: bytes, key: Key, change: Callable[[Path], object], told: str
) -> None:
    change(copy)
    with pytest.raises(Corrupt, match=told):
        verify_folder(copy, signature, key.text)


def test_a_signature_that_leaves_a_file_out_does_not_hold(copy: Path, key: Key) -> None:
    """The library's signatures may say what they ignore; such a one vouches for less than the bundle."""
    from model_signing import hashing, signing

    config = hashing.Config().set_ignored_paths(paths=["model.onnx"], ignore_git_paths=False)
    target = copy.parent / "partial.sig"
    signing.Config().use_elliptic_key_signer(private_key=key.private).set_hashing_config(config).sign(copy, target)
    with pytest.raises(Corrupt, match=r"model\.onnx is not signed"):
        verify_folder(copy, target.read_bytes(), key.text)


def test_a_signature_whose_statement_was_edited_does_not_hold(copy: Path, signature: bytes, key: Key) -> None:
    (copy / "example.json").write_text("{}")
    forged = json.loads(signature)
    from hashlib import sha256

    statement = json.loads(base64.b64decode(forged["dsseEnvelope"]["payload"]))
    for item in statement["predicate"]["resources"]:
        if item["name"] == "example.json":
            item["digest"] = sha256(b"{}").hexdigest()
    digests = b"".join(bytes.fromhex(item["digest"]) for item in statement["predicate"]["resources"])
    statement["subject"][0]["digest"]["sha256"] = sha256(digests).hexdigest()
    forged["dsseEnvelope"]["payload"] = base64.b64encode(json.dumps(statement).encode()).decode()
    with pytest.raises(Corrupt, match="not what the key"):
        verify_folder(copy, json.dumps(forged).encode(), key.text)


@pytest.mark.parametrize("data", [b"", b"{}", b"[]", b"\x00\xff", b'{"dsseEnvelope": {"payload": "e30="}}'])
def test_what_is_no_signature_is_told_so(data: bytes) -> None:
    with pytest.raises(Corrupt, match="not a signature"):
        read_claim(data)


def test_another_key_does_not_vouch(bundle: Bundle, signature: bytes, other: Key) -> None:
    with pytest.raises(Corrupt, match="not of"):
        verify_folder(bundle.folder, signature, other.text)


def test_trust_says_what_may_be_loaded(bundle: Bundle, signature: bytes, key: Key, other: Key) -> None:
    folder, ours = bundle.folder, fingerprint(key.text)
    assert check_signed(folder, [], Trust()) == ()
    assert check_signed(folder, [], Trust(keys=(key.text,))) == ()
    assert check_signed(folder, [signature], Trust(required=True, keys=(other.text, key.text))) == (ours,)
    with pytest.raises(Conflict, match="not signed"):
        check_signed(folder, [], Trust(required=True, keys=(key.text,)))
    with pytest.raises(Conflict, match=f"{ours[:16]}, which is not trusted"):
        check_signed(folder, [signature], Trust(required=True, keys=(other.text,)))


def test_the_own_tool_of_openssf_verifies_what_we_sign(copy: Path, signature: bytes, key: Key) -> None:
    (copy.parent / "ours.sig").write_bytes(signature)
    tool = [sys.executable, "-m", "model_signing", "verify", "key", str(copy)]
    done = subprocess.run(
        [*tool, "--signature", str(copy.parent / "ours.sig"), "--public_key", str(key.public)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "succeeded" in done.stdout


def test_settings_name_the_keys(tmp_path: Path, key: Key, other: Key) -> None:
    (tmp_path / "loopwright.toml").write_text('require_signed = true\ntrusted_keys = ["ours.pub"]\n')
    shutil.copy(key.public, tmp_path / "ours.pub")
    settings = load_settings(tmp_path / "loopwright.toml", {})
    assert trust_of(settings.require_signed, settings.trusted_keys, tmp_path) == Trust(True, (key.text,))
    both = load_settings(tmp_path / "none.toml", {"LOOPWRIGHT_TRUSTED_KEYS": f"{key.public},{other.public}"})
    assert trust_of(False, both.trusted_keys, tmp_path).keys == (key.text, other.text)


def test_keys_that_cannot_be_used_are_told_of(tmp_path: Path, bundle: Bundle) -> None:
    with pytest.raises(NotFound, match=r"no key file.*openssl"):
        sign_folder(bundle.folder, tmp_path / "none.pem")
    with pytest.raises(Invalid, match="trusted_keys names no key"):
        trust_of(True, (), tmp_path)
    with pytest.raises(NotFound, match=r"gone\.pub"):
        trust_of(False, ("gone.pub",), tmp_path)
    (tmp_path / "words.pub").write_text("no key")
    with pytest.raises(Invalid, match="not a public key"):
        trust_of(False, ("words.pub",), tmp_path)
    edwards = ed25519.Ed25519PrivateKey.generate()
    none = serialization.NoEncryption()
    form = serialization.PrivateFormat.PKCS8
    (tmp_path / "ed.pem").write_bytes(edwards.private_bytes(serialization.Encoding.PEM, form, none))
    with pytest.raises(Invalid, match="not of an elliptic curve"):
        sign_folder(bundle.folder, tmp_path / "ed.pem")


@pytest.fixture
def ws(stores: Stores) -> Workspace:
    """A workspace on each database."""
    return Workspace(stores, Scope())


def trusting(ws: Workspace, *keys: Key, required: bool = True) -> Workspace:
    """The same workspace as another start of the program sees it, with other settings."""
    from msgspec.structs import replace

    location = ws.stores.location
    settings = replace(location.settings, require_signed=required, trusted_keys=tuple(str(key.public) for key in keys))
    ws.stores.location = replace(location, settings=settings)
    return ws.scoped(Scope(ws.scope.project, actor="user:signer"))


def test_a_signed_version_keeps_its_digest_and_says_who_signed(ws: Workspace, bundle: Bundle, key: Key) -> None:
    made = ws.models.register("trips", bundle)
    signed = ws.models.sign("trips", key.private)
    assert (signed.ref, signed.bundle) == (made.ref, made.bundle)
    assert [item.key for item in ws.models.get("trips").signatures] == [fingerprint(key.text)]
    assert ws.models.inspect("trips").signatures[0].trusted is False
    assert next(event.kind for event in ws.events.latest(subject=made.ref)) == "model.version_signed"


def test_only_what_is_signed_is_loaded_where_that_is_required(
    ws: Workspace, bundle: Bundle, key: Key, other: Key
) -> None:
    ws.models.register("trips", bundle)
    strict = trusting(ws, key)
    with pytest.raises(Conflict, match="not signed"):
        strict.models.bundle("trips")
    assert strict.models.verify("trips").passed is False
    strict.models.sign("trips", other.private)
    with pytest.raises(Conflict, match="not trusted here"):
        strict.models.bundle("trips")
    strict.models.sign("trips", key.private)
    assert strict.models.bundle("trips").manifest == bundle.manifest
    found = strict.models.verify("trips")
    assert found.passed
    assert {item.key: item.trusted for item in found.signatures} == {
        fingerprint(key.text): True,
        fingerprint(other.text): False,
    }


def test_a_signature_made_elsewhere_is_verified_before_it_is_kept(
    ws: Workspace, bundle: Bundle, signature: bytes, key: Key, other: Key
) -> None:
    ws.models.register("trips", bundle)
    with pytest.raises(Invalid, match="not of"):
        ws.models.add_signature("trips", signature.decode(), other.text)
    made = ws.models.add_signature("trips", signature.decode(), key.text)
    assert len(made.signatures) == 1
    (kept,) = ws.models.signatures("trips")
    assert (kept.key, kept.signature, kept.public_key) == (fingerprint(key.text), signature.decode(), key.text)


def test_signatures_outlive_the_removal_of_what_nothing_needs(ws: Workspace, bundle: Bundle, key: Key) -> None:
    made = ws.models.register("trips", bundle)
    ws.models.sign("trips", key.private)
    kept = {item.digest for item in ws.stores.objects.iterate()}
    ws.storage.gc(older_than_days=0, grace_s=0)
    assert {item.digest for item in ws.stores.objects.iterate()} == kept
    assert ws.models.get(made.ref).signatures[0].signature in kept
