"""An MLflow backend store read from its database, without MLflow.

The tables are reflected, so that stores of 2.0 and of 3.17 are read alike: a table or column that a version lacks is
empty. A backend store is written by one MLflow server; reading it beside that is safe on both databases.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, MetaData, Row, Table, create_engine, event, func, select
from sqlalchemy.exc import ArgumentError, NoSuchModuleError, SQLAlchemyError

from loopwright.connect.mlflow.files import open_files
from loopwright.connect.mlflow.mapping import shown_address, value_of
from loopwright.connect.mlflow.model import (
    Files,
    SourceExperiment,
    SourceLogged,
    SourceModel,
    SourceRun,
    SourceVersion,
)
from loopwright.connect.mlflow.series import ODD, PIECE, Gathering
from loopwright.connect.mlflow.tables import dataset_uses, model_uses, texts_by
from loopwright.core import Invalid, NotFound, Unavailable, missing_extra
from loopwright.track import Columns, LoggedMetric

_PAGE = 200
_FETCH = 20_000
_WORKSPACE = "default"
_GONE = "Deleted_Internal"
_LOGGED_STATUS = {1: "PENDING", 2: "READY", 3: "FAILED"}
# What has no counterpart in an import, with the word for it.
_LEFT = {
    "trace_info": "traces",
    "evaluation_datasets": "evaluation datasets",
    "scorers": "scorers",
    "webhooks": "webhooks",
    "endpoints": "gateway endpoints",
    "jobs": "jobs",
}


class SqlSource:
    """The store behind a SQLite file or a PostgreSQL address."""

    def __init__(self, uri: str, artifacts: str = "") -> None:
        """Args:
            artifacts: where the files behind `mlflow-artifacts:` are: the folder that the server was started with.

        Raises:
            NotFound: there is no such file.
            Invalid: it holds no MLflow store.
            Unavailable: the database does not answer.
        """
        self.origin = f"mlflow {shown_address(uri)}"
        self._artifacts, self._odd = artifacts, 0
        self._engine = _open(uri)
        self._base = Path(self._engine.url.database or ".").parent if uri.startswith("sqlite") else Path()
        try:
            self._connection: Connection = self._engine.connect()
            self._tables: dict[str, Table] = _reflect(self._engine)
        except SQLAlchemyError as error:
            raise Unavailable(f"the store at {shown_address(uri)} cannot be read: {_first_line(error)}") from error
        if not {"experiments", "runs", "metrics"} <= self._tables.keys():
            raise Invalid(
                f"{shown_address(uri)} holds no MLflow store", next_step="give its --backend-store-uri, or the server's"
            )

    def experiments(self) -> Sequence[SourceExperiment]:
        """All experiments, deleted ones too."""
        tags = texts_by(self._connection, self._tables.get("experiment_tags"), "experiment_id")
        table = self._tables["experiments"]
        rows = self._connection.execute(self._here(select(table), table).order_by(table.c.experiment_id)).all()
        return [
            SourceExperiment(
                id=str(row.experiment_id),
                name=row.name,
                artifact_location=row.artifact_location or "",
                deleted=row.lifecycle_stage == "deleted",
                created_ms=_number(row, "creation_time"),
                updated_ms=_number(row, "last_update_time"),
                tags=tags.get(row.experiment_id, {}),
            )
            for row in rows
        ]

    def runs(self, experiment_id: str) -> Iterator[list[SourceRun]]:
        """The runs of an experiment, by id, a page at a time."""
        table, last = self._tables["runs"], ""
        while True:
            query = select(table).where(table.c.experiment_id == int(experiment_id), table.c.run_uuid > last)
            rows = self._connection.execute(query.order_by(table.c.run_uuid).limit(_PAGE)).all()
            if not rows:
                return
            yield self._runs_of(rows)
            last = rows[-1].run_uuid

    def _runs_of(self, rows: Sequence[Row[Any]]) -> list[SourceRun]:
        ids = [row.run_uuid for row in rows]
        params = texts_by(self._connection, self._tables.get("params"), "run_uuid", ids)
        tags = texts_by(self._connection, self._tables.get("tags"), "run_uuid", ids)
        datasets = dataset_uses(self._connection, self._tables, ids)
        models = model_uses(self._connection, self._tables, ids)
        counts, latest = self._counts(ids), self._latest(ids)
        return [
            SourceRun(
                id=row.run_uuid,
                experiment_id=str(row.experiment_id),
                name=row.name or "",
                status=row.status or "",
                start_ms=_number(row, "start_time"),
                end_ms=_number(row, "end_time"),
                deleted=row.lifecycle_stage == "deleted",
                deleted_ms=_number(row, "deleted_time"),
                user=row.user_id or "",
                artifact_uri=row.artifact_uri or "",
                params=params.get(row.run_uuid, {}),
                tags=tags.get(row.run_uuid, {}),
                datasets=datasets.get(row.run_uuid, []),
                models_read=models["input"].get(row.run_uuid, []),
                models_made=models["output"].get(row.run_uuid, []),
                latest=latest.get(row.run_uuid, []),
                points=counts.get(row.run_uuid, 0),
            )
            for row in rows
        ]

    def _counts(self, ids: Sequence[str]) -> dict[str, int]:
        run = self._tables["metrics"].c.run_uuid
        query = select(run, func.count()).where(run.in_(ids)).group_by(run)
        return {row[0]: row[1] for row in self._connection.execute(query)}

    def _latest(self, ids: Sequence[str]) -> dict[str, list[tuple[str, float, int, int]]]:
        found: dict[str, list[tuple[str, float, int, int]]] = defaultdict(list)
        table = self._tables.get("latest_metrics")
        if table is not None:
            query = select(table).where(table.c.run_uuid.in_(ids)).order_by(table.c.run_uuid, table.c.key)
            for row in self._connection.execute(query):
                value = value_of(row.value, bool(row.is_nan))
                found[row.run_uuid].append((row.key, value, row.step or 0, row.timestamp or 0))
        return found

    def points(self, runs: Sequence[SourceRun]) -> Iterator[Mapping[tuple[str, str], Columns]]:
        """All points of these runs, in pieces."""
        ids = [run.id for run in runs if run.points]
        columns = self._tables["metrics"].c
        query = select(
            columns.run_uuid, columns.key, columns.value, columns.timestamp, columns.step, columns.is_nan
        ).where(columns.run_uuid.in_(ids))
        gathering = Gathering()
        streamed = self._connection.execution_options(stream_results=True, yield_per=_FETCH)
        with streamed.execute(query) as result:
            for rows in result.partitions(_FETCH):
                gathering.add_rows(rows)
                if gathering.count >= PIECE:
                    yield gathering.take()
        if gathering.count:
            yield gathering.take()
        self._odd += gathering.odd

    def logged_models(self, experiment_id: str) -> Iterator[SourceLogged]:
        """The logged models of an experiment that are not deleted."""
        table = self._tables.get("logged_models")
        if table is None:
            return
        mine = (table.c.experiment_id == int(experiment_id)) & (table.c.lifecycle_stage != "deleted")
        rows = self._connection.execute(select(table).where(mine).order_by(table.c.model_id)).all()
        for row in rows:
            yield SourceLogged(
                id=row.model_id,
                experiment_id=experiment_id,
                name=row.name or "",
                model_type=row.model_type or "",
                source_run=row.source_run_id or "",
                status=_LOGGED_STATUS.get(row.status, "PENDING"),
                status_message=row.status_message or "",
                created_ms=row.creation_timestamp_ms or 0,
                updated_ms=row.last_updated_timestamp_ms or 0,
                artifact_uri=row.artifact_location or "",
                params=self._texts_of_model("logged_model_params", "param", row.model_id),
                tags=self._texts_of_model("logged_model_tags", "tag", row.model_id),
                metrics=self._metrics_of_model(row.model_id),
            )

    def _texts_of_model(self, name: str, noun: str, model: str) -> dict[str, str]:
        columns = self._tables[name].c
        query = select(columns[f"{noun}_key"], columns[f"{noun}_value"]).where(columns.model_id == model)
        return {row[0]: row[1] or "" for row in self._connection.execute(query)}

    def _metrics_of_model(self, model: str) -> list[LoggedMetric]:
        from loopwright.connect.mlflow.mapping import time_of

        table = self._tables["logged_model_metrics"]
        return [
            LoggedMetric(
                row.metric_name,
                value_of(row.metric_value),
                row.metric_step or 0,
                time_of(row.metric_timestamp_ms or 0),
                row.run_id or "",
                row.dataset_name or "",
                row.dataset_digest or "",
            )
            for row in self._connection.execute(select(table).where(table.c.model_id == model))
        ]

    def models(self) -> Iterator[SourceModel]:
        """All registered models, by name."""
        table = self._tables.get("registered_models")
        if table is None:
            return
        tags = self._registry_texts("registered_model_tags", ("name",))
        version_tags = self._registry_texts("model_version_tags", ("name", "version"))
        aliases = self._aliases()
        for row in self._connection.execute(self._here(select(table), table).order_by(table.c.name)).all():
            yield SourceModel(
                name=row.name,
                description=row.description or "",
                created_ms=row.creation_time or 0,
                updated_ms=row.last_updated_time or 0,
                tags=tags.get((row.name,), {}),
                aliases=aliases.get(row.name, {}),
                versions=self._versions(row.name, version_tags),
            )

    def _versions(self, name: str, tags: Mapping[tuple[Any, ...], dict[str, str]]) -> list[SourceVersion]:
        table = self._tables["model_versions"]
        query = self._here(select(table), table).where(table.c.name == name, table.c.current_stage != _GONE)
        return [
            SourceVersion(
                version=row.version,
                source=row.source or "",
                run_id=row.run_id or "",
                run_link=row.run_link or "",
                user=row.user_id or "",
                description=row.description or "",
                stage=row.current_stage or "None",
                created_ms=row.creation_time or 0,
                updated_ms=row.last_updated_time or 0,
                tags=tags.get((name, row.version), {}),
            )
            for row in self._connection.execute(query.order_by(table.c.version))
        ]

    def _registry_texts(self, name: str, keys: tuple[str, ...]) -> dict[tuple[Any, ...], dict[str, str]]:
        found: dict[tuple[Any, ...], dict[str, str]] = defaultdict(dict)
        table = self._tables.get(name)
        if table is not None:
            for row in self._connection.execute(self._here(select(table), table)):
                found[tuple(row._mapping[key] for key in keys)][row.key] = row.value or ""
        return found

    def _aliases(self) -> dict[str, dict[str, int]]:
        found: dict[str, dict[str, int]] = defaultdict(dict)
        table = self._tables.get("registered_model_aliases")
        if table is not None:
            for row in self._connection.execute(self._here(select(table), table)):
                found[row.name][row.alias] = int(row.version)
        return found

    def files(self, owner: str, uri: str) -> Files:
        """The files below an artifact location. Raises as `open_files` does."""
        return open_files(uri, self._artifacts, self._base)

    def left_behind(self) -> dict[str, int]:
        """What the store holds that no import carries."""
        found = {word: self._rows_in(name) for name, word in _LEFT.items() if name in self._all_names}
        for name, word in (("experiments", "experiments"), ("registered_models", "registered models")):
            table = self._tables.get(name)
            if table is not None and "workspace" in table.c:
                query = select(func.count()).select_from(table).where(table.c.workspace != _WORKSPACE)
                found[f"{word} of other MLflow workspaces"] = int(self._connection.execute(query).scalar_one())
        found[ODD] = self._odd
        return {word: count for word, count in found.items() if count}

    def _rows_in(self, name: str) -> int:
        table = Table(name, MetaData(), autoload_with=self._connection)
        return int(self._connection.execute(select(func.count()).select_from(table)).scalar_one())

    @cached_property
    def _all_names(self) -> set[str]:
        from sqlalchemy import inspect

        return set(inspect(self._connection).get_table_names())

    def _here(self, query: Any, table: Table) -> Any:
        """Only what is in MLflow's default workspace, where the store knows of workspaces."""
        return query.where(table.c.workspace == _WORKSPACE) if "workspace" in table.c else query

    def close(self) -> None:
        """Close the database."""
        self._connection.close()
        self._engine.dispose()


_READ = (
    "experiments",
    "experiment_tags",
    "runs",
    "metrics",
    "latest_metrics",
    "params",
    "tags",
    "datasets",
    "inputs",
    "input_tags",
    "logged_models",
    "logged_model_params",
    "logged_model_tags",
    "logged_model_metrics",
    "registered_models",
    "registered_model_tags",
    "registered_model_aliases",
    "model_versions",
    "model_version_tags",
)


def _reflect(engine: Engine) -> dict[str, Table]:
    metadata = MetaData()
    metadata.reflect(engine, only=lambda name, _: name in _READ, resolve_fks=False)
    return dict(metadata.tables)


def _open(uri: str) -> Engine:
    if uri.startswith("sqlite"):
        return _open_sqlite(uri)
    try:
        import psycopg  # noqa: F401  # only whether it is there
    except ImportError:
        raise missing_extra("psycopg", "postgres", "reading a PostgreSQL store") from None
    address = f"postgresql+psycopg://{uri.partition('://')[2]}"
    try:
        return create_engine(
            address, isolation_level="REPEATABLE READ", execution_options={"postgresql_readonly": True}
        )
    except (ArgumentError, NoSuchModuleError) as error:
        raise Invalid(f"{shown_address(uri)!r} is no address of a database: {_first_line(error)}") from None


def _open_sqlite(uri: str) -> Engine:
    path = Path(uri.removeprefix("sqlite:///"))
    if not path.is_file():
        raise NotFound(f"there is no file {str(path)!r}", next_step="an absolute path has four slashes: sqlite:////…")
    engine = create_engine(f"sqlite:///{path}")

    @event.listens_for(engine, "connect")
    def _read_only(connection: Any, _: Any) -> None:
        connection.execute("PRAGMA query_only = ON")
        connection.execute("PRAGMA busy_timeout = 30000")

    return engine


def _number(row: Row[Any], name: str) -> int:
    return int(row._mapping.get(name) or 0)


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0][:300]
