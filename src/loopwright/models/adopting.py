"""Registered models of another registry are taken in as they were: numbers, times, stages, aliases.

These are no operations: nobody may write the past of a registry over the network. Adopting raises no events of
versions, so that no loop takes an old version for a new one; the caller tells of the move.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import msgspec
from sqlalchemy import Connection, insert, select, update

from loopwright.core import Conflict, LoopwrightError, Ref, check_model_name, check_name
from loopwright.models.findings import Scan
from loopwright.models.model import Kind, ModelVersion, Stage, Task
from loopwright.models.reading import aliases_of
from loopwright.models.registry import Registry
from loopwright.models.scanning import formats_by_name
from loopwright.models.tables import model_versions, models
from loopwright.models.tags import checked_tags
from loopwright.models.writing import (
    change_model,
    change_version,
    ensure_model,
    index_tags,
    link_version,
    point_alias,
)
from loopwright.store import read_tree
from loopwright.track import ArtifactService


class AdoptedName(msgspec.Struct, frozen=True, kw_only=True):
    """A registered name of another registry."""

    name: str
    created_at: datetime
    updated_at: datetime
    description: str = ""
    tags: Mapping[str, str] = {}
    aliases: Mapping[str, int] = {}


class AdoptedVersion(msgspec.Struct, frozen=True, kw_only=True):
    """A version of another registry, with its number; `owner` and `folder` say which files kept here are its own."""

    version: int
    created_at: datetime
    updated_at: datetime
    source: str
    owner: str = ""
    folder: str = ""
    run: str = ""
    run_link: str = ""
    model_id: str = ""
    actor: str = ""
    description: str = ""
    stage: Stage = Stage.NONE
    tags: Mapping[str, str] = {}


class ModelAdoption(Registry):
    """Takes registered models of other registries into one project of a local workspace."""

    def clash(self, name: str, versions: Sequence[AdoptedVersion], origin_tag: str) -> str:
        """Why these versions cannot be taken in under a name, or nothing.

        A name here that no import brought is another's, and so is a number that was given to another version.
        """
        project = self.scope.project
        with self.stores.db.read() as connection:
            held = connection.execute(select(models).where(models.c.project == project, models.c.name == name)).first()
            if held is None:
                return ""
            if held.deleted_at is not None:
                return f"the model {name!r} was deleted here, or has another name now"
            if origin_tag not in held.tags:
                return f"a model {name!r} is here that no import brought"
            mine = (model_versions.c.project == project, model_versions.c.name == name)
            taken = {row.version: row for row in connection.execute(select(model_versions).where(*mine))}
        for item in versions:
            row = taken.get(item.version)
            if row is not None and (row.source, row.run) != (item.source, item.run):
                return f"the number {item.version} of {name!r} was given to another version here"
        return ""

    def adopt(self, wanted: AdoptedName, versions: Sequence[AdoptedVersion]) -> tuple[int, dict[str, LoopwrightError]]:
        """Take a name in, with versions in the order of their numbers; ask `clash` first.

        Returns:
            How many versions are new here, and why some versions (`3`) and aliases (`@champion`) were refused.

        Raises:
            Invalid: the name or a tag of it cannot be stored.
        """
        name, project = check_model_name(wanted.name), self.scope.project
        tags, made = checked_tags(wanted.tags), 0
        refused: dict[str, LoopwrightError] = {}
        with self._changing(name) as tx:
            if ensure_model(self.stores, tx, self.scope, name):
                change_model(tx, project, name, created_at=wanted.created_at)
            index_tags(tx, project, name, 0, tags)
            for item in versions:
                try:
                    with tx.begin_nested():
                        made += self._put_version(tx, name, item)
                except LoopwrightError as error:
                    refused[str(item.version)] = error
            change_model(tx, project, name, tags=tags, description=wanted.description, updated_at=wanted.updated_at)
            refused |= self._put_aliases(tx, name, wanted.aliases)
        return made, refused

    def _put_version(self, tx: Connection, name: str, item: AdoptedVersion) -> bool:
        """Add or update a version; whether it is new."""
        project, tags = self.scope.project, checked_tags(item.tags)
        here = (model_versions.c.project == project, model_versions.c.name == name)
        held = tx.execute(select(model_versions).where(*here, model_versions.c.version == item.version)).first()
        words: dict[str, Any] = {
            "tags": tags,
            "description": item.description,
            "stage": item.stage,
            "updated_at": item.updated_at,
        }
        if held is not None:
            if held.deleted_at is None:
                change_version(tx, project, name, item.version, **words)
                index_tags(tx, project, name, item.version, tags)
            return False
        digest, size, scan = "", 0, Scan()
        if item.owner:
            digest, size = ArtifactService(self.stores, self.scope).tree(item.owner, item.folder)
        if digest:
            scan = Scan(formats_by_name(entry.path for entry in read_tree(self.stores.objects, digest).entries))
        version = ModelVersion(
            ref=str(Ref("model", name, str(item.version))),
            name=name,
            version=item.version,
            bundle=digest,
            task=Task.OTHER,
            size_bytes=size,
            scan=scan,
            kind=Kind.MLFLOW if digest else Kind.ELSEWHERE,
            created_at=item.created_at,
            actor=item.actor,
            run=item.run[:64],
            run_link=item.run_link,
            model_id=item.model_id[:64],
            source=item.source,
            **words,
        )
        row = {field: getattr(version, field) for field in ModelVersion.__struct_fields__ if field not in _NO_COLUMN}
        tx.execute(insert(model_versions).values(project=project, **row))
        mine = (models.c.project == project, models.c.name == name)
        tx.execute(update(models).where(*mine, models.c.latest < item.version).values(latest=item.version))
        index_tags(tx, project, name, item.version, tags)
        link_version(self.stores, tx, project, version, None)
        return True

    def _put_aliases(self, tx: Connection, name: str, aliases: Mapping[str, int]) -> dict[str, LoopwrightError]:
        refused: dict[str, LoopwrightError] = {}
        held = aliases_of(tx, self.scope.project, [name])[name]
        for alias, number in sorted(aliases.items()):
            if held.get(alias) == number:
                continue
            try:
                self._check_alias(tx, name, alias, number)
                point_alias(self.stores, tx, self.scope, name, alias, number)
            except LoopwrightError as error:
                refused[f"@{alias}"] = error
        return refused

    def _check_alias(self, tx: Connection, name: str, alias: str, number: int) -> None:
        check_name("alias", alias)
        here = (model_versions.c.project == self.scope.project, model_versions.c.name == name)
        living = (model_versions.c.version == number, model_versions.c.deleted_at.is_(None))
        if tx.execute(select(model_versions.c.version).where(*here, *living)).first() is None:
            raise Conflict(f"the alias {alias!r} points at version {number}, which is not here")


_NO_COLUMN = ("ref", "aliases", "signatures")
