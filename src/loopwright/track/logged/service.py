"""What one can ask of logged models."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from sqlalchemy import Connection, insert, update

from loopwright.core import Conflict, NotFound, Scope, new_id, operation
from loopwright.store import Stores
from loopwright.track.lifecycle import check_title
from loopwright.track.logged.model import DatasetFilter, LoggedMetric, LoggedModel, LoggedModelPage, LoggedOrder
from loopwright.track.logged.model import LoggedStatus as Status
from loopwright.track.logged.reading import any_logged_model, load_logged_models, the_logged_model
from loopwright.track.logged.searching import search_logged
from loopwright.track.logged.tables import logged_models, logged_params, logged_tags
from loopwright.track.logged.writing import write_logged_metrics
from loopwright.track.model import Experiment, Lifecycle
from loopwright.track.owned_texts import delete_text, write_texts
from loopwright.track.reading import experiment_by_id, find_experiment


class LoggedModelService:
    """Logged models of one project."""

    def __init__(self, stores: Stores, scope: Scope) -> None:
        self.stores, self.scope = stores, scope

    @operation("logged.create", permission="runs:write", effect="write")
    def create(
        self,
        experiment: str,
        name: str = "",
        model_type: str = "",
        source_run: str = "",
        params: dict[str, str] | None = None,
        tags: dict[str, str] | None = None,
    ) -> LoggedModel:
        """Make a logged model, pending until its files are there.

        Args:
            experiment: its experiment, by id or name.
            source_run: the id of the run that makes it; not looked up, since the run may be another server's.

        Raises:
            NotFound: there is no such experiment.
            Conflict: the experiment is deleted.
            Invalid: the name, a param or a tag cannot be stored.
        """
        if name:
            check_title("logged model", name)
        now, id = self.stores.clock.now(), f"m-{new_id()}"
        with self.stores.db.begin() as tx:
            held = self._experiment(tx, experiment)
            row = {"id": id, "project": self.scope.project, "experiment_id": held.id, "source_run": source_run[:32]}
            words = {"name": name or f"model-{id[-6:]}", "model_type": model_type[:500], "actor": self.scope.actor}
            state = {"status": Status.PENDING, "status_message": "", "created_at": now, "updated_at": now}
            tx.execute(insert(logged_models).values(**row, **words, **state))
            write_texts(self.stores.db, tx, logged_params, id, "param", params or {})
            write_texts(self.stores.db, tx, logged_tags, id, "tag", tags or {})
            return self._load(tx, id)

    @operation("logged.get", permission="runs:read")
    def get(self, model: str, deleted: bool = False) -> LoggedModel:
        """One logged model; one that is deleted only when asked for.

        Raises:
            NotFound: there is none of that id.
        """
        with self.stores.db.read() as connection:
            find = any_logged_model if deleted else the_logged_model
            return load_logged_models(connection, [find(connection, self.scope.project, model)])[0]

    @operation("logged.finalize", permission="runs:write", effect="write")
    def finalize(self, model: str, status: Status, message: str = "") -> LoggedModel:
        """Say that a model's files are there, or that they will not come.

        Raises:
            NotFound: there is none of that id.
        """
        values = {"status": Status(status), "status_message": message, "updated_at": self.stores.clock.now()}
        with self.stores.db.begin() as tx:
            the_logged_model(tx, self.scope.project, model)
            tx.execute(update(logged_models).where(logged_models.c.id == model).values(values))
            return self._load(tx, model)

    @operation("logged.delete", permission="runs:write", effect="write")
    def delete(self, model: str) -> None:
        """Delete a logged model. A version that was registered of it keeps its files.

        Raises:
            NotFound: there is none of that id.
        """
        now = self.stores.clock.now()
        with self.stores.db.begin() as tx:
            the_logged_model(tx, self.scope.project, model)
            gone = {"deleted_at": now, "updated_at": now}
            tx.execute(update(logged_models).where(logged_models.c.id == model).values(gone))

    @operation("logged.log_params", permission="runs:write", effect="write")
    def log_params(self, model: str, params: dict[str, str]) -> None:
        """Add params to a model; a param takes the new value.

        Raises:
            NotFound: there is none of that id.
            Invalid: a key or value cannot be stored.
        """
        with self.stores.db.begin() as tx:
            the_logged_model(tx, self.scope.project, model)
            write_texts(self.stores.db, tx, logged_params, model, "param", params)

    @operation("logged.set_tags", permission="runs:write", effect="write")
    def set_tags(self, model: str, tags: dict[str, str]) -> LoggedModel:
        """Set tags of a model; a tag takes the new value.

        Raises:
            NotFound: there is none of that id.
            Invalid: a key or value cannot be stored.
        """
        with self.stores.db.begin() as tx:
            the_logged_model(tx, self.scope.project, model)
            write_texts(self.stores.db, tx, logged_tags, model, "tag", tags)
            return self._load(tx, model)

    @operation("logged.delete_tag", permission="runs:write", effect="write")
    def delete_tag(self, model: str, key: str) -> None:
        """Take a tag off a model.

        Raises:
            NotFound: there is none of that id, or it has no such tag.
        """
        with self.stores.db.begin() as tx:
            the_logged_model(tx, self.scope.project, model)
            if not delete_text(tx, logged_tags, model, key):
                raise NotFound(f"No tag with key {key[:250]!r} found for model with ID {model!r}.")

    @operation("logged.log_metrics", permission="runs:write", effect="write")
    def log_metrics(self, model: str, metrics: list[LoggedMetric]) -> None:
        """Note points of metrics that were measured of a model; of each run and dataset the newest is kept.

        Raises:
            NotFound: there is none of that id.
            Invalid: a key, value or step cannot be stored.
        """
        self.log_many({model: metrics})

    def log_many(self, metrics: Mapping[str, Sequence[LoggedMetric]]) -> None:
        """The same for several models, all or none. Raises as `log_metrics` does."""
        with self.stores.db.begin() as tx:
            for model, points in metrics.items():
                the_logged_model(tx, self.scope.project, model)
                write_logged_metrics(self.stores.db, tx, model, points)

    @operation("logged.search", permission="runs:read")
    def search(
        self,
        experiments: list[str],
        filter: str = "",
        datasets: list[DatasetFilter] | None = None,
        order_by: list[LoggedOrder] | None = None,
        limit: int = 50,
        after: str = "",
    ) -> LoggedModelPage:
        """Logged models of these experiments (by id) that match a filter, newest first unless ordered otherwise.

        Args:
            filter: such as `metrics.auc > 0.9 and tags.team = 'ops'`.
            datasets: only what was measured with one of them; `metrics` in the filter then mean those measurements.
            limit: models on a page, at most 1,000.
            after: what the page before said in `next`.

        Raises:
            Invalid: the filter, the order, the limit or `after` is malformed.
        """
        with self.stores.db.read() as connection:
            rows, following = search_logged(
                self.stores.db,
                connection,
                self.scope.project,
                experiments,
                filter,
                datasets or [],
                order_by or [],
                limit,
                after,
            )
            return LoggedModelPage(load_logged_models(connection, rows), following)

    def _experiment(self, tx: Connection, given: str) -> Experiment:
        project = self.scope.project
        found = experiment_by_id(tx, project, given) or find_experiment(tx, project, given)
        if found is None:
            raise NotFound(f"there is no experiment {given[:60]!r}", next_step="make it first")
        if found.lifecycle is Lifecycle.DELETED:
            raise Conflict(f"the experiment {found.name!r} is deleted", next_step="restore it first")
        return found

    def _load(self, connection: Connection, model: str) -> LoggedModel:
        return load_logged_models(connection, [the_logged_model(connection, self.scope.project, model)])[0]
