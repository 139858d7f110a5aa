"""Who vouches for a version: signatures over its bundle, brought, kept and verified; and all that is known of it."""

from __future__ import annotations

import tempfile
from functools import cached_property
from pathlib import Path
from typing import Any

import msgspec

from loopwright.core import Conflict, Corrupt, Invalid, operation, parse_ref
from loopwright.models.bundle import ENVIRONMENT_FILE, Bundle
from loopwright.models.cache import fetch_bundle
from loopwright.models.carrying import export
from loopwright.models.inspecting import HeldFile, Inspection, SignatureText, Vouch, Vouched
from loopwright.models.model import Kind, ModelVersion, Signed
from loopwright.models.reading import load_versions, locate_version
from loopwright.models.sbom import model_bom
from loopwright.models.shelf import Shelf
from loopwright.models.signing import Trust, fingerprint, public_key_of, sign_folder, trust_of, verify_folder
from loopwright.models.tables import model_signatures
from loopwright.store import Edge, checkout, read_file, read_tree


class Vouching(Shelf):
    """Signatures over the versions of registered models, and what vouches for them."""

    @cached_property
    def trust(self) -> Trust:
        """Whose signatures count in this workspace (settings `require_signed`, `trusted_keys`).

        Raises:
            Invalid: a signature is required and no key is trusted, or a file holds no key.
            NotFound: a key's file is not there.
        """
        location = self.stores.location
        return trust_of(location.settings.require_signed, location.settings.trusted_keys, location.root)

    def bundle(self, ref: str) -> Bundle:
        """A version's bundle, checked out on this machine and verified, its signatures too where keys are trusted.

        Raises:
            NotFound: there is no such version, or its bundle is gone.
            Conflict: it holds no bundle of ours, or is not signed as the settings require.
            Corrupt: its stored bytes are damaged, or are not what a trusted key signed.
        """
        version = self.servable(ref)
        signatures = [item.signature for item in version.signatures]
        return fetch_bundle(self.stores.objects, version.bundle, self._cache, signatures, self.trust)

    def sign(self, ref: str, key: Path | str, password: str = "") -> ModelVersion:
        """Sign a version's bundle with a private key of this machine; the bundle's digest stays as it is.

        Args:
            ref: the version.
            key: the PEM file of an elliptic-curve key (P-256, P-384 or P-521).
            password: the key's, if it has one.

        Raises:
            NotFound: there is no such version or key file.
            Conflict: it holds no bundle of ours.
            Invalid: the key cannot be used, or the extra `signing` is not installed.
        """
        public = public_key_of(Path(key), password)
        version = self.servable(ref)
        bundle = fetch_bundle(self.stores.objects, version.bundle, self._cache)
        return self._keep(version, sign_folder(bundle.folder, Path(key), password), public)

    @operation("models.add_signature", permission="models:write", effect="write")
    def add_signature(self, ref: str, signature: str, public_key: str) -> ModelVersion:
        """Bring a signature over a version's bundle that was made elsewhere (OpenSSF model-signing, with a key).

        Args:
            ref: the version.
            signature: the signature's JSON.
            public_key: the key in PEM; the signature is verified with it before it is kept.

        Raises:
            NotFound: there is no such version.
            Conflict: it holds no bundle of ours.
            Invalid: the signature is not of that key, or not over exactly this bundle's files.
        """
        version = self.servable(ref)
        bundle = fetch_bundle(self.stores.objects, version.bundle, self._cache)
        try:
            verify_folder(bundle.folder, signature.encode(), public_key)
        except Corrupt as error:  # the bundle is whole, as fetching it has shown
            raise Invalid(f"the signature does not hold: {error.message}") from error
        return self._keep(version, signature.encode(), public_key)

    @operation("models.signatures", permission="models:read")
    def signatures(self, ref: str) -> list[SignatureText]:
        """The signatures over a version's bundle, as they were brought.

        Raises:
            NotFound: there is no such version.
        """
        return [
            SignatureText(item.key, self.stores.objects.get(item.signature, verify=True).decode(), item.public_key)
            for item in self.get(ref).signatures
        ]

    def export(self, ref: str, target: Path | str) -> Path:
        """Write what a version holds, with the signatures over it, to a new folder or `.zip` file.

        What is imported from there has the same digest.

        Raises:
            NotFound: there is no such version, or a part of it is gone.
            Conflict: it holds no files here, or there is something at the target.
            Corrupt: its stored bytes are damaged.
        """
        version = self.get(ref)
        if not version.bundle:
            raise Conflict(f"{version.ref} holds no files here", next_step=f"its maker names {version.source!r}")
        signatures = self.signatures(version.ref)
        if version.kind is Kind.BUNDLE:
            return export(
                fetch_bundle(self.stores.objects, version.bundle, self._cache).folder, signatures, Path(target)
            )
        with tempfile.TemporaryDirectory(prefix="loopwright-") as scratch:
            checkout(self.stores.objects, version.bundle, Path(scratch) / "files")
            return export(Path(scratch) / "files", signatures, Path(target))

    @operation("models.sbom", permission="models:read")
    def sbom(self, ref: str) -> dict[str, Any]:
        """A version's bill of materials: CycloneDX 1.6 (ML-BOM) with its files, data and libraries.

        Raises:
            NotFound: there is no such version.
            Conflict: it holds no bundle of ours.
            Invalid: the extra `sbom` is not installed.
        """
        version = self.servable(ref)
        environment = read_file(self.stores.objects, version.bundle, ENVIRONMENT_FILE).decode()
        document = model_bom(version, self.manifest(version.ref), self._held(version.bundle), environment)
        found: dict[str, Any] = msgspec.json.decode(document)
        return found

    @operation("models.inspect", permission="models:read")
    def inspect(self, ref: str) -> Inspection:
        """All that is known of a version: signature, proof, files with digests, findings, signatures, lineage.

        Raises:
            NotFound: there is no such version.
        """
        version = self.get(ref)
        manifest = self.manifest(version.ref) if version.kind is Kind.BUNDLE else None
        return Inspection(
            version=version,
            manifest=manifest,
            files=self._held(version.bundle),
            signatures=self._vouched(version, None, self.trust),
            lineage=self._made_from(version.ref),
        )

    @operation("models.verify", permission="models:read")
    def verify(self, ref: str, public_keys: tuple[str, ...] = ()) -> Vouch:
        """Read every byte of a version's bundle, and verify the signatures over it by trusted keys.

        Args:
            ref: the version.
            public_keys: keys in PEM, one of which must have signed it, in place of those that the settings name.

        Raises:
            NotFound: there is no such version, or a part of its bundle is gone.
            Conflict: it holds no bundle of ours.
            Corrupt: a byte is not what was registered, or not what a trusted key signed.
        """
        version = self.servable(ref)
        bundle = fetch_bundle(self.stores.objects, version.bundle, self._cache)
        damaged = [item for item in read_tree(self.stores.objects, version.bundle).holders if not self._whole(item)]
        if damaged:
            raise Corrupt(
                f"{version.ref}: {len(damaged)} of its stored objects are damaged",
                next_step="restore them from a backup; loopwright fsck names them",
            )
        trust = Trust(True, public_keys) if public_keys else self.trust
        return Vouch(
            ref=version.ref,
            bundle=version.bundle,
            files=len(bundle.manifest.files) + 1,
            size_bytes=version.size_bytes,
            signatures=self._vouched(version, bundle.folder, trust),
            required=trust.required,
        )

    @property
    def _cache(self) -> Path:
        return self.stores.data / "cache" / "bundles"

    def _whole(self, digest: str) -> bool:
        return self.stores.objects.verify(digest)

    def _keep(self, version: ModelVersion, signature: bytes, public_key: str) -> ModelVersion:
        objects, key, now = self.stores.objects, fingerprint(public_key), self.stores.clock.now()
        signed = Signed(key, objects.put_bytes(signature), public_key, now, self.scope.actor)
        row = {"project": self.scope.project, "bundle": version.bundle, **msgspec.structs.asdict(signed)}
        with self._changing(version.name) as tx:
            located = locate_version(tx, self.scope.project, parse_ref(version.ref, "model"))
            insert = self.stores.db.upsert(
                model_signatures, row, ["project", "bundle", "key"], ["signature", "public_key", "signed_at", "actor"]
            )
            tx.execute(insert)
            told = {"bundle": version.bundle, "key": key, "signature": signed.signature}
            self.stores.events.append(tx, "model.version_signed", version.ref, self.scope, told)
            return load_versions(tx, self.scope.project, [located])[0]

    def _vouched(self, version: ModelVersion, folder: Path | None, trust: Trust) -> tuple[Vouched, ...]:
        """What is to be thought of each signature; with a folder, those of trusted keys are verified over it."""
        known = {fingerprint(key): key for key in trust.keys}
        for item in version.signatures:
            if folder is not None and item.key in known:
                signature = self.stores.objects.get(item.signature, verify=True)
                verify_folder(folder, signature, known[item.key])
        return tuple(Vouched(item.key, item.key in known, item.signed_at, item.actor) for item in version.signatures)

    def _held(self, bundle: str) -> tuple[HeldFile, ...]:
        if not bundle:
            return ()
        entries = read_tree(self.stores.objects, bundle).entries
        return tuple(HeldFile(entry.path, entry.size_bytes, entry.digest) for entry in entries)

    def _made_from(self, ref: str) -> tuple[Edge, ...]:
        trace = self.stores.lineage.trace(ref, "up", depth=3, project=self.scope.project)
        return tuple(sorted(trace.edges))
