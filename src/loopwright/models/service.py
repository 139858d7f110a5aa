"""What one can ask of the registry."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import msgspec

from loopwright.core import Conflict, Ref, check_model_name, decode, operation, parse_ref
from loopwright.models.bundle import Bundle
from loopwright.models.cache import fetch_bundle
from loopwright.models.card import render_card
from loopwright.models.files import entries_in, open_entry, refuse_foreign_bundle
from loopwright.models.frames import predict_frame
from loopwright.models.model import BundleManifest, Kind, ModelVersion, Task
from loopwright.models.predictor import MANIFEST_FILE
from loopwright.models.reading import find_model, living_versions, load_versions, locate_version, with_aliases
from loopwright.models.registry import Registry
from loopwright.models.tables import model_versions
from loopwright.models.tags import checked_tags
from loopwright.models.writing import add_version, copied, known_version
from loopwright.store import Tree, TreeEntry, put_tree, read_file, read_tree
from loopwright.track import ArtifactService, Entry

if TYPE_CHECKING:
    import polars as pl

    from loopwright.stats import TableSketch

_MAX_PAGE = 1000


class ModelService(Registry):
    """Registered models of one project: what `Registry` says, and what their versions hold: bundles, cards."""

    def register(
        self,
        name: str,
        bundle: Bundle | Path | str,
        *,
        run: str = "",
        metrics: Mapping[str, float] | None = None,
        training_data: Sequence[str] = (),
        tags: Mapping[str, str] | None = None,
        description: str = "",
    ) -> ModelVersion:
        """Give a bundle the next version number of a name, which is made if it is new.

        The same bundle registered again under the same name and by the same run is the version that it is already.

        Args:
            name: the model's name.
            bundle: the bundle, or its folder; it is verified and copied to the object store.
            run: the id of the run that made it.
            metrics: its scores; they add to those in the bundle.
            training_data: refs of the dataset versions that it was trained on; they add to those in the bundle.
            tags, description: free words.

        Raises:
            NotFound: the folder holds no bundle.
            Corrupt: the bundle is not what was built.
            Invalid: the name is malformed, or the run id is.
        """
        check_model_name(name)
        held = bundle if isinstance(bundle, Bundle) else Bundle(Path(bundle))
        held.verify()
        run_id = parse_ref(run, "run").name if run else ""
        digest = put_tree(self.stores.objects, held.folder)
        draft = ModelVersion(
            ref="",
            name=name,
            version=0,
            bundle=digest,
            task=held.manifest.task,
            run=run_id,
            training_data=tuple(dict.fromkeys((*held.manifest.training_data, *training_data))),
            metrics={**held.manifest.metrics, **{key: float(value) for key, value in (metrics or {}).items()}},
            tags=dict(tags or {}),
            description=description,
            size_bytes=held.size_bytes,
            created_at=self.stores.clock.now(),
            actor=self.scope.actor,
        )
        with self._changing(name) as tx:
            number = known_version(tx, self.scope.project, draft)
            if number is None:
                number = add_version(self.stores, tx, self.scope, draft, held.manifest)
            return load_versions(tx, self.scope.project, [(name, number)])[0]

    @operation("models.register_source", permission="models:write", effect="write")
    def register_source(
        self,
        name: str,
        source: str,
        owner: str = "",
        folder: str = "",
        copy_of: str = "",
        run: str = "",
        run_link: str = "",
        model_id: str = "",
        tags: dict[str, str] | None = None,
        description: str = "",
    ) -> ModelVersion:
        """Give the next version number of a registered name to what is no bundle of ours, or to a copy of a version.

        Args:
            source: where its maker says that it came from; never read.
            owner, folder: files kept here that it consists of, such as those of `run:<id>` in `model`; as they are
                now, for good. Without them the version says only where it is.
            copy_of: the version that it is a copy of, in place of an owner.
            run, run_link, model_id: what made it.

        Raises:
            NotFound: there is no such name, owner or version.
            Invalid: a tag or a text cannot be stored.
        """
        draft = ModelVersion(
            ref="",
            name=name,
            version=0,
            bundle="",
            task=Task.OTHER,
            run=run[:64],
            tags=checked_tags(tags or {}),
            description=description,
            created_at=self.stores.clock.now(),
            actor=self.scope.actor,
            kind=Kind.ELSEWHERE,
            source=source,
            run_link=run_link,
            model_id=model_id[:64],
        )
        if copy_of:
            draft = copied(draft, self.get(copy_of))
        elif owner:
            digest, size = ArtifactService(self.stores, self.scope).tree(owner, folder)
            kind = Kind.MLFLOW if digest else Kind.ELSEWHERE
            draft = msgspec.structs.replace(draft, bundle=digest, size_bytes=size, kind=kind)
        with self._changing(name) as tx:
            held = str(find_model(tx, self.scope.project, name).name)
            draft = msgspec.structs.replace(draft, name=held)
            number = add_version(self.stores, tx, self.scope, draft, None)
            return load_versions(tx, self.scope.project, [(held, number)])[0]

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

    @operation("models.card", permission="models:read")
    def card(self, ref: str) -> str:
        """A version's card, in Markdown.

        Raises:
            NotFound: there is no such version.
        """
        version = self.get(ref)
        return render_card(version, self.manifest(version.ref))

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

    def bundle(self, ref: str) -> Bundle:
        """A version's bundle, checked out on this machine and verified.

        Raises:
            NotFound: there is no such version, or its bundle is gone.
            Conflict: it holds no bundle of ours.
            Corrupt: its stored bytes are damaged.
        """
        return fetch_bundle(self.stores.objects, self.servable(ref).bundle, self.stores.data / "cache" / "bundles")

    def profile(self, ref: str) -> TableSketch:
        """The profile of the data that a version was trained on. Raises as `bundle` does."""
        return self.bundle(ref).profile()

    def predict(self, ref: str, frame: pl.DataFrame) -> pl.DataFrame:
        """A version's outputs for the rows of a frame, a column per output.

        Raises:
            NotFound: there is no such version.
            Invalid: the frame does not fit the signature.
        """
        return predict_frame(self.bundle(ref).predictor(), frame)
