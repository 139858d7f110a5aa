"""What one can ask of registered names: make, describe, tag, rename, delete; stages and aliases of their versions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import msgspec
from sqlalchemy import Connection, delete, select, update

from loopwright.core import Conflict, Invalid, Ref, Scope, check_model_name, check_name, operation, parse_ref
from loopwright.models import staging
from loopwright.models.model import Model, ModelPage, ModelVersion, Stage, VersionPage
from loopwright.models.reading import (
    find_model,
    load_models,
    load_versions,
    locate_version,
    models_of,
    with_aliases,
)
from loopwright.models.renaming import rename
from loopwright.models.searching import search_models, search_versions
from loopwright.models.staging import check_archiving, newest_in_stages
from loopwright.models.tables import model_aliases, model_versions
from loopwright.models.tags import changed_tags, checked_tags, merged_tags
from loopwright.models.writing import (
    annotate_version,
    change_model,
    change_version,
    drop_alias,
    ensure_model,
    index_tags,
    point_alias,
)
from loopwright.store import Stores

_MAX_PAGE = 1000


class Registry:
    """Registered names of one project, their versions' words, stages and aliases."""

    def __init__(self, stores: Stores, scope: Scope) -> None:
        self.stores, self.scope = stores, scope

    @operation("models.create", permission="models:write", effect="write")
    def create(self, name: str, tags: dict[str, str] | None = None, description: str = "") -> Model:
        """Register a name without a version.

        Raises:
            Conflict: the name is registered already.
            Invalid: the name or a tag cannot be stored.
        """
        check_model_name(name)
        given = checked_tags(tags or {})
        with self._changing(name) as tx:
            if not ensure_model(self.stores, tx, self.scope, name):
                raise Conflict(f"there is a model {name!r} already", next_step="use it, or choose another name")
            change_model(tx, self.scope.project, name, tags=given, description=description)
            index_tags(tx, self.scope.project, name, 0, given)
            told = {"tags": given, "description": description}
            self.stores.events.append(tx, "model.created", f"model:{name}", self.scope, told)
            return self._load(tx, name)

    @operation("models.list", permission="models:read")
    def list(self, limit: int = 100, after: str = "") -> list[Model]:
        """Registered models by name; `after` is the last name of the page before."""
        with self.stores.db.read() as connection:
            return load_models(connection, self.scope.project, min(limit, _MAX_PAGE), after)

    @operation("models.named", permission="models:read")
    def named(self, name: str) -> Model:
        """One registered model.

        Raises:
            NotFound: there is none of that name.
        """
        with self.stores.db.read() as connection:
            return self._load(connection, name)

    @operation("models.describe", permission="models:write", effect="write")
    def describe(self, name: str, description: str | None = None, tags: dict[str, str | None] | None = None) -> Model:
        """Set a model's description, and some of its tags (None takes one away).

        Raises:
            NotFound: there is none of that name.
            Invalid: a tag cannot be stored.
        """
        with self._changing(name) as tx:
            held = self._load(tx, name)
            words = held.description if description is None else description
            merged = merged_tags(held.tags, tags or {})
            change_model(
                tx, self.scope.project, held.name, tags=merged, description=words, updated_at=self.stores.clock.now()
            )
            index_tags(tx, self.scope.project, held.name, 0, merged)
            told = {"tags": merged, "description": words, "changed": changed_tags(held.tags, merged)}
            self.stores.events.append(tx, "model.annotated", f"model:{held.name}", self.scope, told)
            return self._load(tx, held.name)

    @operation("models.rename", permission="models:write", effect="write")
    def rename(self, name: str, new_name: str) -> Model:
        """Give a model another name, with all its versions and aliases. Refs with the old name lead to the new one
        until the old name is registered again.

        Raises:
            NotFound: there is none of that name.
            Conflict: the new name is registered already, or was that of a model that had versions.
            Invalid: the new name cannot be one.
        """
        check_model_name(new_name)
        with self._changing(*sorted({name, new_name})) as tx:
            held = self._load(tx, name)
            rename(self.stores, tx, self.scope, held, new_name)
            return self._load(tx, new_name)

    @operation("models.delete", permission="models:write", effect="write")
    def delete(self, name: str) -> None:
        """Delete a model with its versions. What serves them goes on until its traffic is moved; the numbers stay
        taken, so that no ref ever means another thing.

        Raises:
            NotFound: there is none of that name.
        """
        project = self.scope.project
        with self._changing(name) as tx:
            held = self._load(tx, name)
            now = self.stores.clock.now()
            living = (model_versions.c.project == project, model_versions.c.name == held.name)
            tx.execute(
                update(model_versions)
                .where(*living, model_versions.c.deleted_at.is_(None))
                .values(deleted_at=now, updated_at=now)
            )
            tx.execute(
                delete(model_aliases).where(model_aliases.c.project == project, model_aliases.c.name == held.name)
            )
            change_model(tx, project, held.name, deleted_at=now, updated_at=now)
            told = {"versions": held.latest, "aliases": held.aliases}
            self.stores.events.append(tx, "model.deleted", f"model:{held.name}", self.scope, told)

    @operation("models.delete_version", permission="models:write", effect="write")
    def delete_version(self, ref: str) -> None:
        """Delete one version, and the aliases that point at it. What serves it goes on until its traffic is moved.

        Raises:
            NotFound: there is no such version.
        """
        with self._version(ref) as (tx, held):
            for alias in held.aliases:
                drop_alias(self.stores, tx, self.scope, held.name, alias, held.version)
            now = self.stores.clock.now()
            change_version(tx, self.scope.project, held.name, held.version, deleted_at=now, updated_at=now)
            change_model(tx, self.scope.project, held.name, updated_at=now)
            told = {"bundle": held.bundle, "aliases": held.aliases}
            self.stores.events.append(tx, "model.version_deleted", held.ref, self.scope, told)

    @operation("models.annotate", permission="models:write", effect="write")
    def annotate(self, ref: str, tags: dict[str, str] | None = None, description: str | None = None) -> ModelVersion:
        """Add tags to a version (an empty value takes one away), and set its description.

        Raises:
            NotFound: there is no such version.
        """
        return self.tag_version(ref, {key: value or None for key, value in (tags or {}).items()}, description)

    @operation("models.tag_version", permission="models:write", effect="write")
    def tag_version(self, ref: str, tags: dict[str, str | None], description: str | None = None) -> ModelVersion:
        """Set tags of a version (None takes one away, an empty text is a value), and its description where given.

        Raises:
            NotFound: there is no such version.
            Invalid: a tag cannot be stored.
        """
        with self._version(ref) as (tx, held):
            words = held.description if description is None else description
            return annotate_version(self.stores, tx, self.scope, held, merged_tags(held.tags, tags), words)

    @operation("models.transition", permission="models:write", effect="write")
    def transition(self, ref: str, stage: Stage, archive_others: bool = False) -> ModelVersion:
        """Move a version to one of MLflow's stages.

        Args:
            archive_others: move what is in that stage to Archived; for Staging and Production only.

        Raises:
            NotFound: there is no such version.
            Invalid: others cannot be archived from that stage.
        """
        stage = Stage(stage)
        if archive_others:
            check_archiving(stage)
        with self._version(ref) as (tx, held):
            now = self.stores.clock.now()
            if archive_others:
                staging.archive_others(self.stores, tx, self.scope, held, stage, now)
            change_version(tx, self.scope.project, held.name, held.version, stage=stage, updated_at=now)
            change_model(tx, self.scope.project, held.name, updated_at=now)
            told = {"from": held.stage, "to": stage}
            self.stores.events.append(tx, "model.stage_moved", held.ref, self.scope, told)
            return msgspec.structs.replace(held, stage=stage, updated_at=now)

    @operation("models.latest", permission="models:read")
    def latest(self, names: tuple[str, ...], stages: tuple[Stage, ...] = ()) -> Sequence[ModelVersion]:
        """The newest version in each stage of each of these names; of the given stages only, if any is given."""
        project, columns = self.scope.project, model_versions.c
        newest = newest_in_stages(project, names)
        with self.stores.db.read() as connection:
            rows = connection.execute(select(model_versions).where(columns.project == project, newest)).all()
            wanted = [row for row in rows if not stages or row.stage in stages]
            return with_aliases(connection, project, sorted(wanted, key=lambda row: (row.name, row.version)))

    @operation("models.search", permission="models:read")
    def search(
        self,
        filter: str = "",
        order_by: tuple[str, ...] = (),
        limit: int = 100,
        after: str = "",
        without_tag: dict[str, str] | None = None,
    ) -> ModelPage:
        """Registered models that match a filter such as `name LIKE 'delay%' and tags.team = 'ops'`, by name.

        Args:
            order_by: such as `("updated_at DESC", "name")`.
            limit: models on a page, at most 1,000.
            after: what the page before said in `next`.
            without_tag: leave out what has all these tags.

        Raises:
            Invalid: the filter, the order, the limit or `after` is malformed.
        """
        with self.stores.db.read() as connection:
            rows, following = search_models(
                self.stores.db, connection, self.scope.project, filter, order_by, limit, after, without_tag or {}
            )
            return ModelPage(models_of(connection, self.scope.project, rows), following)

    @operation("models.search_versions", permission="models:read")
    def search_versions(
        self,
        filter: str = "",
        order_by: tuple[str, ...] = (),
        limit: int = 100,
        after: str = "",
        without_tag: dict[str, str] | None = None,
    ) -> VersionPage:
        """Versions that match a filter such as `name = 'delay' and version_number > 3`, last changed first.

        Args and Raises are those of `search`; the name's tags count for `without_tag`; a page has at most 200,000.
        """
        with self.stores.db.read() as connection:
            rows, following = search_versions(
                self.stores.db, connection, self.scope.project, filter, order_by, limit, after, without_tag or {}
            )
            return VersionPage(with_aliases(connection, self.scope.project, rows), following)

    @operation("models.set_alias", permission="models:write", effect="write")
    def set_alias(self, name: str, alias: str, version: int) -> ModelVersion:
        """Point an alias at a version; it is made if it is new. Nothing happens if it points there already.

        Raises:
            NotFound: there is no such model or version.
            Invalid: the alias is malformed, or a number.
        """
        with self._changing(name) as tx:
            self.move_alias(tx, name, alias, version)
            located = locate_version(tx, self.scope.project, _ref(name, version))
            return load_versions(tx, self.scope.project, [located])[0]

    def move_alias(self, tx: Connection, name: str, alias: str, version: int) -> None:
        """`set_alias` inside the caller's transaction, for a decision that moves it. Raises as `set_alias` does."""
        check_name("alias", alias)
        if alias.isdecimal():
            raise Invalid(f"the alias {alias!r} reads as a version number", next_step="use a word, such as champion")
        held, _ = locate_version(tx, self.scope.project, _ref(name, version))
        point_alias(self.stores, tx, self.scope, held, alias, version)

    @operation("models.remove_alias", permission="models:write", effect="write")
    def remove_alias(self, name: str, alias: str) -> None:
        """Take an alias away.

        Raises:
            NotFound: there is no such model or alias.
        """
        with self._changing(name) as tx:
            held, version = locate_version(tx, self.scope.project, Ref("model", name, alias))
            drop_alias(self.stores, tx, self.scope, held, alias, version)

    def _load(self, connection: Connection, name: str) -> Model:
        return models_of(connection, self.scope.project, [find_model(connection, self.scope.project, name)])[0]

    @contextmanager
    def _version(self, ref: str) -> Iterator[tuple[Connection, ModelVersion]]:
        """A transaction in which nobody else changes the model, and the version as it stands in it."""
        parsed = parse_ref(ref, "model")
        with self._changing(parsed.name) as tx:
            located = locate_version(tx, self.scope.project, parsed)
            yield tx, load_versions(tx, self.scope.project, [located])[0]

    @contextmanager
    def _changing(self, *names: str) -> Iterator[Connection]:
        """A transaction in which nobody else changes the models of these names."""
        with self.stores.db.begin() as tx:
            for name in names:
                self.stores.db.lock(tx, f"model {self.scope.project}/{name}")
            yield tx


def _ref(name: str, version: int) -> Ref:
    return Ref("model", name, str(version))
