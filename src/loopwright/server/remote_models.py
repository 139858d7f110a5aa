"""Models of a workspace on a server, with what goes beyond operations: bundles, up and down, and signing here."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import msgspec

from loopwright.core import Conflict, Corrupt, Unavailable, check_path, digest_file, user_cache
from loopwright.models import Bundle, Inspection, ModelVersion, export, pack, public_key_of, sign_folder
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
            Corrupt: it arrived otherwise than it was registered, or was changed here.
            Unavailable: the server does not answer, or the cache cannot be written.
        """
        found: Inspection = self.inspect(ref)
        version = found.version
        if version is None or not version.bundle:
            raise Conflict(f"{ref} holds no files there")
        place = user_cache() / "loopwright" / "bundles" / version.bundle
        manifest = next((item.digest for item in found.files if item.path == MANIFEST), "")
        if (place / MANIFEST).is_file() and digest_file(place / MANIFEST) != manifest:
            shutil.rmtree(place)
        if not place.is_dir():
            self._keep(version, place)
        bundle = Bundle(place)
        bundle.verify()
        return bundle

    def _keep(self, version: ModelVersion, place: Path) -> None:
        """Fetch a version into a place that appears when it is whole."""
        try:
            place.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=place.parent, prefix=".fetching-") as scratch:
                folder = Path(scratch) / "bundle"
                folder.mkdir()
                self._fetch(version.ref, folder)
                if not place.is_dir():
                    folder.rename(place)
        except OSError as error:
            if not place.is_dir():  # nobody else was quicker
                raise Unavailable(
                    f"the model cannot be kept: {error.strerror or error}",
                    where=str(place),
                    next_step="free some space, or let XDG_CACHE_HOME name a writable folder",
                ) from error

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
