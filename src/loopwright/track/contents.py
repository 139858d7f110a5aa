"""What hangs on runs in the words of other trackers: last points, datasets as their libraries describe them, models."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime
from operator import attrgetter
from typing import Any

import msgspec
from sqlalchemy import Connection, Row, bindparam, select

from loopwright.core import Invalid, operation
from loopwright.store import Database
from loopwright.track.keys import ByNumbers
from loopwright.track.life import RunLife
from loopwright.track.lifecycle import NewRun, start_run
from loopwright.track.model import (
    DatasetSummary,
    DatasetUse,
    MetricPoint,
    ModelUse,
    Run,
    RunContents,
    RunInput,
    TimedPoint,
    WholeRun,
)
from loopwright.track.reading import any_run, load_lasts, load_with_lasts, the_run
from loopwright.track.revisions import touch
from loopwright.track.tables import (
    run_dataset_uses,
    run_datasets,
    run_inputs,
    run_models,
    runs,
    unindexed,
)
from loopwright.track.values import from_micros, to_wire
from loopwright.track.writing import write_inputs

_CHUNK = 500
_MAX_RUNS = 10_000
_MAX_EXPERIMENTS = 100
_MAX_ITEMS = 1000
_MAX_SUMMARIES = 1000
_MAX_REF = 300
_CONTEXT = "mlflow.data.context"
_LIMITS = {"name": 500, "digest": 64, "source_type": 100, "source": 65_535, "schema": 1_048_575, "profile": 16_777_215}
_TAG_LIMITS = (255, 500)


class RunContent(RunLife):
    """The operations on what hangs on runs."""

    def start_in(
        self,
        experiment_id: str,
        name: str = "",
        tags: Mapping[str, str] | None = None,
        parent: str = "",
        started_at: datetime | None = None,
    ) -> Run:
        """Start a run in the experiment of an id, perhaps in the past. No operation: a client's clock is not to be
        trusted with the order of runs, unless its protocol says so.

        Raises:
            NotFound: there is no such experiment or parent.
            Conflict: the experiment is deleted.
            Invalid: the name or a tag cannot be stored.
        """
        wanted = NewRun("", name, {}, dict(tags or {}), parent, "", "run", experiment_id, started_at)
        with self.stores.db.begin() as tx:
            return start_run(self.stores, self.scope, tx, wanted)

    @operation("runs.contents", permission="runs:read")
    def contents(self, runs: list[str]) -> list[RunContents]:
        """What hangs on these runs, in their order; those that are not there are left out.

        Raises:
            Invalid: more than 10,000 runs are asked for.
        """
        if len(runs) > _MAX_RUNS:
            raise Invalid(f"the contents of {len(runs):,} runs are too many", next_step=f"ask for up to {_MAX_RUNS:,}")
        with self.stores.db.read() as connection:
            seqs = _seqs(connection, self.scope.project, runs)
            lasts, datasets = load_lasts(connection, [*seqs.values()]), _datasets(connection, seqs.values())
            models = _models(connection, seqs.values())
        return [
            RunContents(
                id,
                [_as_point(last) for last in lasts.get(seq, ())],
                datasets.get(seq, []),
                *(models.get((seq, role), []) for role in _ROLES),
            )
            for id, seq in seqs.items()
        ]

    def whole(self, run: str) -> WholeRun:
        """One run with what hangs on it. No operation: `get` and `contents` tell the same.

        Raises:
            NotFound: there is no such run.
        """
        with self.stores.db.read() as connection:
            return load_whole_runs(connection, [any_run(connection, self.scope.project, run)])[0]

    @operation("runs.log_datasets", permission="runs:write", effect="write")
    def log_datasets(self, run: str, datasets: list[DatasetUse], models: list[ModelUse] | None = None) -> None:
        """Note the datasets and the logged models that a run read. One that is noted already takes the new tags.

        Raises:
            NotFound: there is no such run.
            Conflict: the run is deleted.
            Invalid: a text is too long, or there are more than 1,000.
        """
        _check_many(datasets, models or [])
        for item in datasets:
            _check_dataset(item)
        with self.stores.db.begin() as tx:
            row = the_run(tx, self.scope.project, run)
            touch(tx, [row.seq])
            _write_datasets(self.stores.db, tx, row, datasets)
            _write_models(self.stores.db, tx, row.seq, "input", models or [])

    @operation("runs.log_models", permission="runs:write", effect="write")
    def log_models(self, run: str, models: list[ModelUse]) -> None:
        """Note the logged models that a run made.

        Raises:
            NotFound: there is no such run.
            Conflict: the run is deleted.
            Invalid: there are more than 1,000.
        """
        _check_many(models)
        with self.stores.db.begin() as tx:
            seq = the_run(tx, self.scope.project, run).seq
            touch(tx, [seq])
            _write_models(self.stores.db, tx, seq, "output", models)

    @operation("runs.datasets", permission="runs:read")
    def datasets(self, experiments: list[str]) -> list[DatasetSummary]:
        """The datasets that runs of these experiments (by id) read, at most 1,000, by name.

        Raises:
            Invalid: more than 100 experiments are asked for.
        """
        if len(experiments) > _MAX_EXPERIMENTS:
            raise Invalid(f"{len(experiments)} experiments are too many", next_step=f"name up to {_MAX_EXPERIMENTS}")
        columns = run_inputs.c
        query = (
            select(runs.c.experiment_id, columns.dataset, columns.digest, columns.context)
            .join(run_inputs, columns.run_seq == runs.c.seq)
            .where(runs.c.project == self.scope.project, runs.c.experiment_id.in_(experiments))
            .where(runs.c.deleted_at.is_(None), columns.dataset != "")
            .distinct()
            .order_by(columns.dataset, columns.digest, columns.context, runs.c.experiment_id)
            .limit(_MAX_SUMMARIES)
        )
        with self.stores.db.read() as connection:
            return [DatasetSummary(*row) for row in connection.execute(query)]


_ROLES = ("input", "output")


def note_contents(
    database: Database,
    tx: Connection,
    run: Row[Any],
    datasets: Sequence[DatasetUse],
    models_read: Sequence[ModelUse],
    models_made: Sequence[ModelUse],
) -> None:
    """Note what a run read and made, in the caller's transaction.

    Raises:
        Invalid: a text is too long.
    """
    for item in datasets:
        _check_dataset(item)
    touch(tx, [run.seq])
    _write_datasets(database, tx, run, datasets)
    _write_models(database, tx, run.seq, "input", models_read)
    _write_models(database, tx, run.seq, "output", models_made)


def _seqs(connection: Connection, project: str, ids: Sequence[str]) -> dict[str, int]:
    found: dict[str, int] = {}
    for some in _chunks(list(dict.fromkeys(ids))):
        found.update({row.id: row.seq for row in connection.execute(_SEQS, {"ids": some, "project": project})})
    return {id: found[id] for id in ids if id in found}


_SEQS = select(runs.c.id, runs.c.seq).where(
    runs.c.id.in_(bindparam("ids", expanding=True)), unindexed(runs.c.project) == bindparam("project")
)
_DATASETS = ByNumbers(
    select(run_datasets, run_dataset_uses.c.run_seq, run_dataset_uses.c.tags).join(
        run_dataset_uses, run_dataset_uses.c.dataset_id == run_datasets.c.id
    ),
    run_dataset_uses.c.run_seq,
)
_MODELS = ByNumbers(select(run_models).order_by(run_models.c.step, run_models.c.model), run_models.c.run_seq)


def load_whole_runs(connection: Connection, rows: Sequence[Row[Any]]) -> list[WholeRun]:
    """Runs of these rows, in their order, with what hangs on them."""
    seqs = [row.seq for row in rows]
    loaded, lasts = load_with_lasts(connection, rows)
    datasets, models = _datasets(connection, seqs), _models(connection, seqs)
    return [
        WholeRun(
            run,
            lasts.get(seq, []),
            datasets.get(seq, []),
            *(models.get((seq, role), []) for role in _ROLES),
        )
        for seq, run in zip(seqs, loaded, strict=True)
    ]


def _as_point(last: TimedPoint) -> MetricPoint:
    return MetricPoint(last.key, to_wire(last.value), last.step, from_micros(last.at_us))


def _datasets(connection: Connection, seqs: Collection[int]) -> dict[int, list[DatasetUse]]:
    found: dict[int, list[DatasetUse]] = {}
    for row in sorted(_DATASETS.rows(connection, seqs), key=attrgetter("id")):
        kept = {name: getattr(row, name) for name in (*_LIMITS, "tags")}
        found.setdefault(row.run_seq, []).append(msgspec.convert(kept, DatasetUse))
    return found


def _models(connection: Connection, seqs: Collection[int]) -> dict[tuple[int, str], list[ModelUse]]:
    found: dict[tuple[int, str], list[ModelUse]] = {}
    for row in _MODELS.rows(connection, seqs):
        found.setdefault((row.run_seq, row.role), []).append(ModelUse(row.model, row.step))
    return found


def _write_datasets(database: Database, tx: Connection, run: Row[Any], datasets: Sequence[DatasetUse]) -> None:
    if not datasets:
        return
    by_name: dict[tuple[str, str], DatasetUse] = {}
    for item in datasets:
        by_name.setdefault((item.name, item.digest), item)
    rows = [
        {"experiment_id": run.experiment_id, **{name: getattr(item, name) for name in _LIMITS}}
        for item in by_name.values()
    ]
    tx.execute(database.upsert(run_datasets, {}, ["experiment_id", "name", "digest"]), rows)
    ids = _dataset_ids(tx, run.experiment_id, {name for name, _ in by_name})
    uses = [
        {"run_seq": run.seq, "dataset_id": ids[name], "tags": {**item.tags}} for name, item in sorted(by_name.items())
    ]
    tx.execute(database.upsert(run_dataset_uses, {}, ["run_seq", "dataset_id"], ["tags"]), uses)
    write_inputs(database, tx, run.seq, [_as_input(item) for item in by_name.values()])


def _dataset_ids(tx: Connection, experiment_id: str, names: set[str]) -> dict[tuple[str, str], int]:
    found: dict[tuple[str, str], int] = {}
    columns = run_datasets.c
    for some in _chunks(sorted(names)):
        query = select(columns.name, columns.digest, columns.id)
        for row in tx.execute(query.where(columns.experiment_id == experiment_id, columns.name.in_(some))):
            found[row.name, row.digest] = row.id
    return found


def _as_input(item: DatasetUse) -> RunInput:
    """The input that searches ask for; its ref is made from name and digest, and of names that are too long from a
    hash."""
    ref = f"mlflow-dataset:{item.name}@{item.digest}"
    if len(ref) > _MAX_REF:
        ref = f"mlflow-dataset:{hashlib.blake2b(ref.encode(), digest_size=16).hexdigest()}"
    context = item.tags.get(_CONTEXT, "")[:250]
    return RunInput(ref, name=context or item.name[:250], digest=item.digest, dataset=item.name, context=context)


def _write_models(database: Database, tx: Connection, seq: int, role: str, models: Sequence[ModelUse]) -> None:
    if models:
        rows = [{"run_seq": seq, "role": role, "model": item.model, "step": item.step} for item in models]
        tx.execute(database.upsert(run_models, {}, ["run_seq", "role", "model"], ["step"]), rows)


def _check_many(*lists: Sequence[Any]) -> None:
    for items in lists:
        if len(items) > _MAX_ITEMS:
            raise Invalid(f"{len(items):,} in one request are too many", next_step=f"send up to {_MAX_ITEMS:,}")


def _check_dataset(item: DatasetUse) -> None:
    for name, limit in _LIMITS.items():
        text = getattr(item, name)
        if len(text) > limit or "\x00" in text or (not text and name in ("name", "digest")):
            raise Invalid(
                f"the {name} of the dataset {item.name[:60]!r} has {len(text):,} characters, or a NUL among them",
                next_step=f"send up to {limit:,} characters",
            )
    for key, value in item.tags.items():
        if not key or len(key) > _TAG_LIMITS[0] or len(value) > _TAG_LIMITS[1]:
            raise Invalid(
                f"the tag {key[:60]!r} of the dataset {item.name[:60]!r} is too long",
                next_step=f"send up to {_TAG_LIMITS[0]} characters as the key, {_TAG_LIMITS[1]} as the value",
            )


def _chunks(items: Sequence[Any]) -> Iterable[Sequence[Any]]:
    return (items[start : start + _CHUNK] for start in range(0, len(items), _CHUNK))
