"""What one can ask of the registry."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from loopwright.core import check_model_name, operation, parse_ref
from loopwright.models.bundle import Bundle
from loopwright.models.card import render_card
from loopwright.models.findings import Scan
from loopwright.models.frames import predict_frame
from loopwright.models.model import Kind, ModelVersion, Task
from loopwright.models.reading import find_model, load_versions
from loopwright.models.scanning import formats_by_name, refuse_code, scan
from loopwright.models.signing import belongs, fingerprint
from loopwright.models.tags import checked_tags
from loopwright.models.vouching import Vouching
from loopwright.models.writing import add_version, copied, known_version
from loopwright.store import put_tree, read_tree
from loopwright.track import ArtifactService

if TYPE_CHECKING:
    import polars as pl

    from loopwright.stats import TableSketch


class ModelService(Vouching):
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
            Forbidden: a file of it can run code that its manifest does not tell of, or that no model needs.
            Invalid: the name is malformed, or the run id is.
        """
        check_model_name(name)
        held = bundle if isinstance(bundle, Bundle) else Bundle(Path(bundle))
        held.verify()
        found = scan(held.folder)
        refuse_code(
            found, "the bundle", allow_pickle=held.manifest.executes_code, allow_code=held.manifest.executes_code
        )
        run_id = parse_ref(run, "run").name if run else ""
        digest = put_tree(self.stores.objects, held.folder, include=belongs)
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
            scan=found,
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
            found = Scan(formats_by_name(self._paths(digest))) if digest else Scan()
            draft = msgspec.structs.replace(draft, bundle=digest, size_bytes=size, kind=kind, scan=found)
        with self._changing(name) as tx:
            held = str(find_model(tx, self.scope.project, name).name)
            draft = msgspec.structs.replace(draft, name=held)
            number = add_version(self.stores, tx, self.scope, draft, None)
            return load_versions(tx, self.scope.project, [(held, number)])[0]

    def _paths(self, tree: str) -> list[str]:
        return [entry.path for entry in read_tree(self.stores.objects, tree).entries]

    @operation("models.card", permission="models:read")
    def card(self, ref: str) -> str:
        """A version's card, in Markdown.

        Raises:
            NotFound: there is no such version.
        """
        version = self.get(ref)
        trusted = frozenset(fingerprint(key) for key in self.trust.keys)
        return render_card(version, self.manifest(version.ref), trusted)

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
