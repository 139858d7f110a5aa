"""What one can ask of evaluation sets."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

import msgspec
from sqlalchemy import Connection, Row, delete, insert, select, update

from loopwright.core import Invalid, NotFound, Scope, digest_value, new_id, operation
from loopwright.store import Stores
from loopwright.track.evalsets.model import (
    EvalRecord,
    EvalRecordPage,
    EvalSet,
    EvalSetPage,
    EvalUpsert,
    NewEvalRecord,
)
from loopwright.track.evalsets.searching import MAX_PAGE, search_sets
from loopwright.track.evalsets.tables import eval_records, eval_set_experiments, eval_set_tags, eval_sets
from loopwright.track.lifecycle import active_experiment
from loopwright.track.owned_texts import CHUNK, delete_text, read_texts, write_texts
from loopwright.track.reading import find_experiment
from loopwright.track.values import check_key

_MAX_RECORDS = 100_000
_MAX_RECORD_BYTES = 1 << 20
_MAX_PAGE_BYTES = 32 << 20
_COLUMNS = [column.name for column in eval_sets.columns if column.name != "project"]
_TABLES = (eval_records, eval_set_tags, eval_set_experiments)


class EvalSetService:
    """Evaluation sets of one project: the evaluation datasets of MLflow's `mlflow.genai`."""

    def __init__(self, stores: Stores, scope: Scope) -> None:
        self.stores, self.scope = stores, scope

    @operation("evalsets.create", permission="runs:write", effect="write")
    def create(
        self, name: str, experiments: list[str] | None = None, tags: dict[str, str] | None = None, user: str = ""
    ) -> EvalSet:
        """A new set without records. Several may have one name.

        Args:
            experiments: those that use it, by id or name.
            user: who made it, where that is not who asks.

        Raises:
            NotFound: there is no such experiment.
            Invalid: the name or a tag cannot be stored.
        """
        now, id, by = self.stores.clock.now(), f"d-{new_id()}", (user or self.scope.actor)[:256]
        row = {"id": id, "project": self.scope.project, "name": check_key("evaluation set", name), "fields": {}}
        times = {"created_at": now, "updated_at": now, "created_by": by, "updated_by": by}
        with self.stores.db.begin() as tx:
            tx.execute(insert(eval_sets).values(**row, **times, records=0, digest=_digest(name, now)))
            write_texts(self.stores.db, tx, eval_set_tags, id, "tag", tags or {})
            self._use(tx, id, experiments or [])
            return self._load(tx, id)

    @operation("evalsets.get", permission="runs:read")
    def get(self, id: str) -> EvalSet:
        """One set, without its records.

        Raises:
            NotFound: there is none of that id.
        """
        with self.stores.db.read() as connection:
            return self._load(connection, id)

    @operation("evalsets.search", permission="runs:read")
    def search(
        self,
        experiments: list[str] | None = None,
        filter: str = "",
        order_by: list[str] | None = None,
        limit: int = 100,
        after: str = "",
    ) -> EvalSetPage:
        """Sets that match a filter, newest first unless ordered otherwise.

        Args:
            experiments: only those that one of these uses (ids).
            filter: such as `name LIKE 'qa%' AND tags.team = 'ml'`.
            order_by: such as `["name ASC"]`.
            limit: sets on a page, at most 1,000.
            after: what the page before said in `next`.

        Raises:
            Invalid: the filter, the order, the limit or `after` is malformed.
        """
        with self.stores.db.read() as connection:
            rows, following = search_sets(
                self.stores.db, connection, self.scope.project, experiments, filter, order_by or [], limit, after
            )
            return EvalSetPage(_sets(connection, rows), following)

    @operation("evalsets.delete", permission="runs:write", effect="write")
    def delete(self, id: str) -> None:
        """Delete a set for good, with its records.

        Raises:
            NotFound: there is none of that id.
        """
        with self.stores.db.begin() as tx:
            self._the(tx, id)
            for table in _TABLES:
                tx.execute(delete(table).where(table.c.eval_set == id))
            tx.execute(delete(eval_sets).where(eval_sets.c.id == id))

    @operation("evalsets.set_tags", permission="runs:write", effect="write")
    def set_tags(self, id: str, tags: dict[str, str]) -> EvalSet:
        """Set tags; a tag takes the new value.

        Raises:
            NotFound: there is no such set.
            Invalid: a key or value cannot be stored.
        """
        with self.stores.db.begin() as tx:
            self._the(tx, id)
            write_texts(self.stores.db, tx, eval_set_tags, id, "tag", tags)
            return self._load(tx, id)

    @operation("evalsets.delete_tag", permission="runs:write", effect="write")
    def delete_tag(self, id: str, key: str) -> bool:
        """Take a tag off; whether it was there.

        Raises:
            NotFound: there is no such set.
        """
        with self.stores.db.begin() as tx:
            self._the(tx, id)
            return delete_text(tx, eval_set_tags, id, key)

    @operation("evalsets.use", permission="runs:write", effect="write")
    def use(self, id: str, experiments: list[str]) -> EvalSet:
        """Tell that experiments, by id or name, use a set.

        Raises:
            NotFound: there is no such set or experiment.
        """
        with self.stores.db.begin() as tx:
            self._the(tx, id)
            self._use(tx, id, experiments)
            return self._load(tx, id)

    @operation("evalsets.disuse", permission="runs:write", effect="write")
    def disuse(self, id: str, experiments: list[str]) -> EvalSet:
        """Tell that experiments, by id, do not use a set, or no longer.

        Raises:
            NotFound: there is no such set.
        """
        held = eval_set_experiments.c
        with self.stores.db.begin() as tx:
            self._the(tx, id)
            for some in _chunks(experiments):
                tx.execute(delete(eval_set_experiments).where(held.eval_set == id, held.experiment_id.in_(some)))
            return self._load(tx, id)

    @operation("evalsets.upsert", permission="runs:write", effect="write")
    def upsert(self, id: str, records: list[NewEvalRecord]) -> EvalUpsert:
        """Add records. One with the inputs of a record that is there changes that: its expectations and tags are added
        to, its outputs replaced where there are new ones.

        Raises:
            NotFound: there is no such set.
            Invalid: a record is over 1 MiB, or there would be more than 100,000.
        """
        now = self.stores.clock.now()
        asked: dict[str, NewEvalRecord] = {}
        for record in records:
            mark = digest_value(record.inputs)
            asked[mark] = _merged(asked[mark], record) if mark in asked else record
        with self.stores.db.begin() as tx:
            self.stores.db.lock(tx, f"evalset {id}")
            held = self._the(tx, id)
            there = _there(tx, id, list(asked))
            fresh: list[dict[str, Any]] = []
            changed: list[tuple[str, dict[str, Any]]] = []
            for mark, record in asked.items():
                old = there.get(mark)
                content = _content(
                    record if old is None else _merged(msgspec.convert(old.content, NewEvalRecord), record)
                )
                by = _user(record) or self.scope.actor
                if old is None:
                    own = {"eval_set": id, "id": f"dr-{new_id()}", "inputs_digest": mark, "content": content}
                    fresh.append({**own, "created_at": now, "updated_at": now, "created_by": by, "updated_by": by})
                else:
                    changed.append((old.id, {"content": content, "updated_at": now, "updated_by": by}))
            if held.records + len(fresh) > _MAX_RECORDS:
                raise Invalid(f"{id} would have over {_MAX_RECORDS:,} records", next_step="make another set")
            if fresh:
                tx.execute(insert(eval_records), fresh)
            for record_id, row in changed:
                mine = (eval_records.c.eval_set == id, eval_records.c.id == record_id)
                tx.execute(update(eval_records).where(*mine).values(row))
            fields = _fields(held.fields, asked.values())
            self._change(tx, held, now, held.records + len(fresh), fields)
        return EvalUpsert(len(fresh), len(records) - len(fresh))

    @operation("evalsets.records", permission="runs:read")
    def records(self, id: str, limit: int = MAX_PAGE, after: str = "") -> EvalRecordPage:
        """Records of a set, oldest first; a page holds up to 32 MiB, so it may be shorter than asked for.

        Raises:
            NotFound: there is no such set.
            Invalid: the limit is out of bounds.
        """
        if not 0 < limit <= MAX_PAGE:
            raise Invalid(f"a page of {limit} records cannot be given", next_step=f"ask for 1 to {MAX_PAGE:,}")
        query = select(eval_records).where(eval_records.c.eval_set == id, eval_records.c.id > after)
        with self.stores.db.read() as connection:
            self._the(connection, id)
            found: list[EvalRecord] = []
            size = 0
            for row in connection.execution_options(yield_per=50).execute(
                query.order_by(eval_records.c.id).limit(limit + 1)
            ):
                size += len(msgspec.json.encode(row.content))
                if len(found) == limit or (found and size > _MAX_PAGE_BYTES):
                    return EvalRecordPage(found, found[-1].id)
                found.append(_record(row))
        return EvalRecordPage(found)

    @operation("evalsets.delete_records", permission="runs:write", effect="write")
    def delete_records(self, id: str, records: list[str]) -> int:
        """Delete records for good, by id; how many were there.

        Raises:
            NotFound: there is no such set.
        """
        with self.stores.db.begin() as tx:
            self.stores.db.lock(tx, f"evalset {id}")
            held, gone = self._the(tx, id), 0
            for some in _chunks(records):
                gone += tx.execute(
                    delete(eval_records).where(eval_records.c.eval_set == id, eval_records.c.id.in_(some))
                ).rowcount
            if gone:
                self._change(tx, held, self.stores.clock.now(), held.records - gone, held.fields)
        return gone

    def _use(self, tx: Connection, id: str, experiments: Sequence[str]) -> None:
        rows = []
        for name in dict.fromkeys(experiments):
            named = find_experiment(tx, self.scope.project, name)
            place = active_experiment(tx, self.scope.project, named.id if named else name).id
            rows.append({"eval_set": id, "experiment_id": place})
        if rows:
            keys = ["eval_set", "experiment_id"]
            tx.execute(self.stores.db.upsert(eval_set_experiments, {}, keys, ["experiment_id"]), rows)

    def _change(self, tx: Connection, held: Row[Any], now: datetime, records: int, fields: Mapping[str, Any]) -> None:
        new = {"records": records, "fields": fields, "updated_at": now, "updated_by": self.scope.actor}
        new["digest"] = _digest(held.name, now)
        tx.execute(update(eval_sets).where(eval_sets.c.id == held.id).values(new))

    def _the(self, connection: Connection, id: str) -> Row[Any]:
        query = select(eval_sets).where(eval_sets.c.id == id, eval_sets.c.project == self.scope.project)
        row = connection.execute(query).one_or_none()
        if row is None:
            raise NotFound(f"Evaluation dataset with id '{id[:80]}' not found", next_step="search the evaluation sets")
        return row

    def _load(self, connection: Connection, id: str) -> EvalSet:
        return _sets(connection, [self._the(connection, id)])[0]


def _sets(connection: Connection, rows: Sequence[Row[Any]]) -> list[EvalSet]:
    ids = [row.id for row in rows]
    tags, used = read_texts(connection, eval_set_tags, ids), dict[str, list[str]]()
    for some in _chunks(ids):
        query = select(eval_set_experiments).where(eval_set_experiments.c.eval_set.in_(some))
        for row in connection.execute(query.order_by(eval_set_experiments.c.experiment_id)):
            used.setdefault(row.eval_set, []).append(row.experiment_id)
    return [
        EvalSet(
            **{name: getattr(row, name) for name in _COLUMNS},
            tags=tags.get(row.id, {}),
            experiments=tuple(used.get(row.id, ())),
        )
        for row in rows
    ]


def _there(tx: Connection, id: str, marks: Sequence[str]) -> dict[str, Row[Any]]:
    found: dict[str, Row[Any]] = {}
    for some in _chunks(marks):
        query = select(eval_records).where(eval_records.c.eval_set == id, eval_records.c.inputs_digest.in_(some))
        found.update((row.inputs_digest, row) for row in tx.execute(query))
    return found


def _merged(old: NewEvalRecord, new: NewEvalRecord) -> NewEvalRecord:
    """What a record holds once another with the same inputs has come."""
    expected = {**(old.expectations or {}), **(new.expectations or {})}
    return NewEvalRecord(
        inputs=old.inputs,
        outputs=old.outputs if new.outputs is None else new.outputs,
        expectations=expected if old.expectations is not None or new.expectations is not None else None,
        tags={**old.tags, **new.tags},
        source=old.source or new.source,
    )


def _content(record: NewEvalRecord) -> dict[str, Any]:
    content: dict[str, Any] = msgspec.to_builtins(record)
    size = len(msgspec.json.encode(content))
    if size > _MAX_RECORD_BYTES:
        raise Invalid(f"a record has {size:,} bytes; the limit is {_MAX_RECORD_BYTES:,}", next_step="shorten it")
    return content


def _record(row: Row[Any]) -> EvalRecord:
    own = {name: value for name, value in row._mapping.items() if name not in ("content", "inputs_digest")}
    return EvalRecord(**{**row.content, **own})


def _user(record: NewEvalRecord) -> str:
    return record.tags.get("mlflow.user", "")[:256]


def _fields(known: Mapping[str, Any], records: Iterable[NewEvalRecord]) -> dict[str, dict[str, str]]:
    """The kinds of what is in records, beside those known: of each name the first kind counts."""
    found = {part: dict(known.get(part, {})) for part in ("inputs", "outputs", "expectations")}
    for record in records:
        for part, names in found.items():
            value = getattr(record, part)
            for name, item in value.items() if isinstance(value, dict) else ():
                names.setdefault(name, _kind(item))
    return found


def _kind(value: Any) -> str:
    if value is None:
        return "null"
    kinds = ((bool, "boolean"), (int, "integer"), (float, "float"), (str, "string"), (dict, "object"))
    return next((name for kind, name in kinds if isinstance(value, kind)), "array")


def _digest(name: str, now: datetime) -> str:
    return digest_value([name, now.isoformat()])[:8]


def _chunks(items: Sequence[str]) -> Iterator[list[str]]:
    return (list(items[start : start + CHUNK]) for start in range(0, len(items), CHUNK))
