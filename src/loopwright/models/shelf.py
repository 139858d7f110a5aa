"""What is read of versions: their records, and what they hold."""

from __future__ import annotations

from collections.abc import Sequence
from typing import BinaryIO

from loopwright.core import Conflict, Ref, decode, operation, parse_ref
from loopwright.models.files import entries_in, open_entry, refuse_foreign_bundle
from loopwright.models.model import BundleManifest, Kind, ModelVersion
from loopwright.models.predictor import MANIFEST_FILE
from loopwright.models.reading import find_model, living_versions, load_versions, locate_version, with_aliases
from loopwright.models.registry import Registry
from loopwright.models.tables import model_versions
from loopwright.store import Tree, TreeEntry, read_file, read_tree
from loopwright.track import Entry

_MAX_PAGE = 1000


class Shelf(Registry):
    """The versions of registered models, and their files."""

    @operation("models.get", permission="models:read")
    def get(self, ref: str) -> ModelVersion:
        """One version.

        Args:
            ref: `model:delay@3`, `model:delay@champion`, or `model:delay` for the newest; `model:` may be left out.

        Raises:
            NotFound: there is no such model, version or alias.
        """
        parsed = parse_ref(ref, "model")
        with self.stores.db.read() as connection:
            located = locate_version(connection, self.scope.project, parsed)
            return load_versions(connection, self.scope.project, [located])[0]

    @operation("models.resolve", permission="models:read")
    def resolve(self, ref: str) -> str:
        """The ref with its version number in place of an alias or nothing: `model:delay@3`.

        Raises:
            NotFound: there is no such model, version or alias.
        """
        parsed = parse_ref(ref, "model")
        with self.stores.db.read() as connection:
            name, number = locate_version(connection, self.scope.project, parsed)
            return str(Ref("model", name, str(number)))

    @operation("models.versions", permission="models:read")
    def versions(self, name: str, limit: int = 100, before: int = 0) -> Sequence[ModelVersion]:
        """A model's versions, newest first; `before` is the last number of the page before.

        Raises:
            NotFound: there is no such model.
        """
        project = self.scope.project
        with self.stores.db.read() as connection:
            held = find_model(connection, project, name).name
            query = living_versions(project).where(model_versions.c.name == held)
            if before:
                query = query.where(model_versions.c.version < before)
            rows = connection.execute(query.order_by(model_versions.c.version.desc()).limit(min(limit, _MAX_PAGE)))
            return with_aliases(connection, project, rows)

    @operation("models.made_by", permission="models:read")
    def made_by(self, run: str) -> Sequence[ModelVersion]:
        """The versions that a run registered, newest first."""
        project = self.scope.project
        query = living_versions(project).where(model_versions.c.run == run.removeprefix("run:"))
        with self.stores.db.read() as connection:
            rows = connection.execute(
                query.order_by(model_versions.c.created_at.desc(), model_versions.c.version.desc())
            )
            return with_aliases(connection, project, rows)

    @operation("models.made_of", permission="models:read")
    def made_of(self, model_id: str) -> Sequence[ModelVersion]:
        """The versions that were registered of a logged model, oldest first."""
        project = self.scope.project
        query = living_versions(project).where(model_versions.c.model_id == model_id, model_versions.c.model_id != "")
        with self.stores.db.read() as connection:
            rows = connection.execute(query.order_by(model_versions.c.created_at, model_versions.c.version))
            return with_aliases(connection, project, rows)

    def servable(self, ref: str) -> ModelVersion:
        """The version, if it has a bundle that may be served.

        Raises:
            NotFound: there is no such version.
            Conflict: it holds no bundle of ours.
        """
        version = self.get(ref)
        if version.kind is Kind.BUNDLE:
            return version
        held = "an MLflow folder, which no server loads" if version.kind is Kind.MLFLOW else "no files here"
        raise Conflict(
            f"{version.ref} holds {held}, and no bundle that can be served",
            next_step="where it can be loaded: build_bundle(...), then ws.models.register(...) under the same name",
        )

    @operation("models.manifest", permission="models:read")
    def manifest(self, ref: str) -> BundleManifest:
        """What a version's bundle says of itself: signature, parity, environment, digests.

        Raises:
            NotFound: there is no such version, or its bundle is gone.
            Conflict: it holds no bundle of ours.
        """
        data = read_file(self.stores.objects, self.servable(ref).bundle, MANIFEST_FILE)
        found: BundleManifest = decode(data, BundleManifest)
        return found

    def files(self, bundle: str, folder: str = "") -> list[Entry]:
        """What lies straight in a folder of what a version holds, by the digest of that. Raises as `open_file` does."""
        return entries_in(self._tree(bundle), folder)

    def open_file(self, bundle: str, path: str) -> tuple[TreeEntry, BinaryIO]:
        """A file of what a version holds, and a stream that stands at its first byte; the caller closes it.

        Raises:
            NotFound: no version of this project holds the bundle, or it has no such file.
            Corrupt: the list of its files is damaged.
        """
        return open_entry(self.stores.objects, self._tree(bundle), path)

    def _tree(self, bundle: str) -> Tree:
        with self.stores.db.read() as connection:
            refuse_foreign_bundle(connection, self.scope.project, bundle)
        return read_tree(self.stores.objects, bundle)
