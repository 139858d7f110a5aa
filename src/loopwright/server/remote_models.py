"""Models of a workspace on a server, with what goes beyond operations: bundles, up and down, and signing here."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import msgspec

from loopwright.core import Conflict, Corrupt, check_path
from loopwright.models import (
    Bundle,
    Inspection,
    ModelVersion,
    brought_bundle,
    export,
    pack,
    public_key_of,
    sign_folder,
    user_bundles,
)
from loopwright.server.bundles import PATH, ZIP, Upload
from loopwright.server.remote_runs import Fetch
from loopwright.server.remote_service import RemoteService

_CHUNK_BYTES = 1 << 20
MANIFEST = "bundle.json"


class RemoteModels(RemoteService):
    """`ModelService` behind a server."""

    def register(self, name: str, bundle: Bundle | Path | str, **about: Any) -> ModelVersion:
        """Send a bundle and register it, as `ModelService.register` does.

        Args:
            name: the model's name.
            bundle: the bundle, or its folder; one whose manifest says that it runs code was asked for as such.
            about: run, metrics, training_data, tags, description.

        Raises:
            Forbidden: it can run code that was not asked for.
            Unavailable: the server does not answer.
        """
        held = bundle if isinstance(bundle, Bundle) else Bundle(Path(bundle))
        held.verify()
        runs_code = held.manifest.executes_code
        said = msgspec.convert({**about, "allow_pickle": runs_code, "allow_code": runs_code}, Upload)
        names = (MANIFEST, *sorted(held.manifest.files))
        with tempfile.TemporaryFile() as archive:
            paths = ((path, held.folder / path) for path in names)
            pack(((path, file.open("rb"), file.stat().st_size) for path, file in paths), archive)
            archive.seek(0)
            query = {"about": msgspec.json.encode(said).decode()}
            address = f"{PATH}/{quote(name, safe='')}"
            made: ModelVersion = self._workspace.post(address, _pieces(archive), ZIP, ModelVersion, query)
        return made

    def export(self, ref: str, target: Path | str) -> Path:
        """Fetch what a version holds, with the signatures over it, to a new folder or `.zip` file of this machine.

        Raises:
            NotFound: there is no such version.
            Conflict: it holds no files there, or there is something at the target.
            Corrupt: it arrived otherwise than it was registered.
        """
        with tempfile.TemporaryDirectory(prefix="loopwright-") as scratch:
            found = self._fetch(ref, Path(scratch))
            assert found.version is not None
            return export(Path(scratch), self.signatures(found.version.ref), Path(target))

    def sign(self, ref: str, key: Path | str, password: str = "") -> ModelVersion:
        """Sign a version's bundle with a private key of this machine; only the signature and the public key are sent.

        Args and Raises are those of `ModelService.sign`.
        """
        public = public_key_of(Path(key), password)
        with tempfile.TemporaryDirectory(prefix="loopwright-") as scratch:
            found = self._fetch(ref, Path(scratch))
            assert found.version is not None
            signature = sign_folder(Path(scratch), Path(key), password)
            made: ModelVersion = self.add_signature(found.version.ref, signature.decode(), public)
        return made

    def bundle(self, ref: str) -> Bundle:
        """What a version holds, on this machine: fetched once, kept in the user's cache, verified each time.

        Raises:
            NotFound: there is no such version.
            Conflict: it holds no files there.
            Corrupt: it arrived otherwise than it was registered.
            Unavailable: the server does not answer, or the cache cannot be written.
        """
        version = self.inspect(ref).version
        if version is None or not version.bundle:
            raise Conflict(f"{ref} holds no files there")
        return brought_bundle(version.bundle, user_bundles(), lambda folder: self.export(version.ref, folder))

    def _fetch(self, ref: str, folder: Path) -> Inspection:
        """The files of a version, each as its digest says."""
        found: Inspection = self.inspect(ref)
        version = found.version
        if version is None or not version.bundle:
            raise Conflict(f"{ref} holds no files there")
        for item in found.files:
            path = folder / check_path(item.path)
            path.parent.mkdir(parents=True, exist_ok=True)
            address = f"{PATH}/{quote(version.name, safe='')}/{version.version}/{quote(item.path)}"
            with path.open("xb") as target:
                digest = Fetch(self._workspace, address, target).whole()
            if digest != item.digest:
                raise Corrupt(f"{item.path!r} of {version.ref} is not what was registered")
        return found


def _pieces(stream: Any) -> Iterator[bytes]:
    while piece := stream.read(_CHUNK_BYTES):
        yield piece
