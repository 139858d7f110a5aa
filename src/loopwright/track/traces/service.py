"""What one can ask of traces."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import Connection, insert, select, update

from loopwright.core import Conflict, Invalid, NotFound, Scope, operation
from loopwright.store import Stores
from loopwright.track.lifecycle import active_experiment
from loopwright.track.owned_texts import delete_text, write_texts
from loopwright.track.reading import any_run, find_experiment
from loopwright.track.traces.assessments import Assessing, add_assessments
from loopwright.track.traces.held import refuse_held
from loopwright.track.traces.model import NewTrace, Trace, TracePage
from loopwright.track.traces.reading import load_traces, the_trace
from loopwright.track.traces.searching import count_traces, places, search_traces
from loopwright.track.traces.spans import Spanning
from loopwright.track.traces.tables import trace_metadata, trace_runs, trace_tags, traces
from loopwright.track.traces.writing import drop_traces, trace_row

_MAX_AT_ONCE = 1000
_MAX_LINKS = 100


class RequestTraceService(Assessing, Spanning):
    """Traces of one project, their spans, and what is thought of them."""

    def __init__(self, stores: Stores, scope: Scope) -> None:
        self.stores, self.scope = stores, scope

    @operation("traces.record", permission="runs:write", effect="write")
    def record(self, experiment: str, trace: NewTrace) -> Trace:
        """Keep a trace, or what is newly known of one: its tags and metadata are added to those that it has, its
        assessments are kept when it is new.

        Args:
            experiment: its experiment, by id or name.
            trace: what is known of it. Its run is not looked up, since the run may be another server's.

        Raises:
            NotFound: there is no such experiment.
            Conflict: the experiment is deleted, or the trace is one of another experiment or project.
            Invalid: the id has another form, or something cannot be stored.
        """
        row, project = trace_row(trace), self.scope.project
        with self.stores.db.begin() as tx:
            named = find_experiment(tx, project, experiment)
            place = active_experiment(tx, project, named.id if named else experiment).id
            self.stores.db.lock(tx, f"trace {trace.id}")
            held = tx.execute(select(traces).where(traces.c.id == trace.id)).one_or_none()
            if held is not None and (held.project, held.experiment_id) != (project, place):
                raise Conflict(f"the trace {trace.id} is in another experiment", next_step="make a new trace")
            if held is None:
                more = {"project": project, "experiment_id": place, "actor": self.scope.actor}
                tx.execute(insert(traces).values(**row, **more))
                add_assessments(tx, trace.id, trace.assessments, self.stores.clock.now())
            else:
                tx.execute(update(traces).where(traces.c.id == trace.id).values(row))
            write_texts(self.stores.db, tx, trace_tags, trace.id, "tag", trace.tags)
            write_texts(self.stores.db, tx, trace_metadata, trace.id, "metadata", trace.metadata)
            return self._load(tx, trace.id)

    @operation("traces.get", permission="runs:read")
    def get(self, trace: str) -> Trace:
        """One trace.

        Raises:
            NotFound: there is none of that id.
        """
        with self.stores.db.read() as connection:
            return self._load(connection, trace)

    @operation("traces.get_many", permission="runs:read")
    def get_many(self, ids: list[str]) -> list[Trace]:
        """Those of these traces that are there, in the order asked for.

        Raises:
            Invalid: more than 1,000 are asked for.
        """
        self._check_count(ids, _MAX_AT_ONCE)
        with self.stores.db.read() as connection:
            query = select(traces).where(traces.c.project == self.scope.project, traces.c.id.in_(ids))
            found = {row.id: row for row in connection.execute(query)}
            return load_traces(connection, [found[id] for id in dict.fromkeys(ids) if id in found])

    @operation("traces.search", permission="runs:read")
    def search(
        self,
        experiments: list[str] | None = None,
        filter: str = "",
        order_by: list[str] | None = None,
        limit: int = 100,
        after: str = "",
    ) -> TracePage:
        """Traces of these experiments that match a filter, newest first unless ordered otherwise.

        Args:
            experiments: by id or name; by default the project's newest 1,000.
            filter: such as `attributes.state = 'error' and tags.team = 'ops' and duration_ms > 500`.
            order_by: such as `["duration_ms DESC"]`.
            limit: traces on a page, at most 1,000.
            after: what the page before said in `next`.

        Raises:
            Invalid: the filter, the order, the limit or `after` is malformed.
        """
        with self.stores.db.read() as connection:
            among = places(connection, self.scope.project, experiments)
            rows, following = search_traces(
                self.stores.db, connection, self.scope.project, among, filter, order_by or [], limit, after
            )
            return TracePage(load_traces(connection, rows), following)

    @operation("traces.count", permission="runs:read")
    def count(self, experiments: list[str] | None = None, filter: str = "") -> int:
        """How many traces of these experiments match a filter.

        Raises:
            Invalid: the filter is malformed.
        """
        with self.stores.db.read() as connection:
            among = places(connection, self.scope.project, experiments)
            return count_traces(self.stores.db, connection, self.scope.project, among, filter)

    @operation("traces.set_tags", permission="runs:write", effect="write")
    def set_tags(self, trace: str, tags: dict[str, str]) -> Trace:
        """Set tags of a trace; a tag takes the new value.

        Raises:
            NotFound: there is none of that id.
            Invalid: a key or value cannot be stored.
        """
        with self.stores.db.begin() as tx:
            the_trace(tx, self.scope.project, trace)
            write_texts(self.stores.db, tx, trace_tags, trace, "tag", tags)
            return self._load(tx, trace)

    @operation("traces.delete_tag", permission="runs:write", effect="write")
    def delete_tag(self, trace: str, key: str) -> None:
        """Take a tag off a trace.

        Raises:
            NotFound: there is none of that id, or it has no such tag.
        """
        with self.stores.db.begin() as tx:
            the_trace(tx, self.scope.project, trace)
            if not delete_text(tx, trace_tags, trace, key):
                raise NotFound(f"No trace tag with key '{key[:250]}' for trace with ID '{trace}'.")

    @operation("traces.link", permission="runs:write", effect="write")
    def link(self, run: str, ids: list[str]) -> None:
        """Link traces to a run, beside the one that made them, so that a search for the run finds them; all or none.

        Raises:
            NotFound: there is no such run, or one of the traces is not there.
            Invalid: more than 100 traces are given.
        """
        self._check_count(ids, _MAX_LINKS)
        with self.stores.db.begin() as tx:
            run = any_run(tx, self.scope.project, run).id
            known = self._mine(tx, ids)
            for id in ids:
                if id not in known:
                    raise NotFound(f"Trace with ID '{id[:80]}' not found.", next_step="search the traces")
            rows = [{"trace": id, "run": run} for id in dict.fromkeys(ids)]
            if rows:
                tx.execute(self.stores.db.upsert(trace_runs, {}, ["trace", "run"], ["run"]), rows)

    @operation("traces.delete", permission="runs:write", effect="write")
    def delete(self, experiment: str, ids: list[str]) -> int:
        """Delete these traces of an experiment (by id) for good, with their files; how many were there.

        Raises:
            Invalid: more than 1,000 are given.
            Conflict: a hold needs one of them; none is deleted.
        """
        self._check_count(ids, _MAX_AT_ONCE)
        query = select(traces.c.id).where(traces.c.project == self.scope.project, traces.c.experiment_id == experiment)
        with self.stores.db.begin() as tx:
            return self._drop(tx, list(tx.execute(query.where(traces.c.id.in_(ids))).scalars()))

    @operation("traces.delete_before", permission="runs:write", effect="write")
    def delete_before(self, experiment: str, before: datetime, limit: int = _MAX_AT_ONCE) -> int:
        """Delete the oldest traces of an experiment (by id) that began before a time or at it; how many.

        Args:
            limit: at most so many, up to 1,000; call it again for more.

        Raises:
            Invalid: the limit is out of bounds.
            Conflict: a hold needs one of them; none is deleted.
        """
        if not 0 < limit <= _MAX_AT_ONCE:
            raise Invalid(f"{limit} traces cannot be deleted at once", next_step=f"give 1 to {_MAX_AT_ONCE:,}")
        query = select(traces.c.id).where(traces.c.project == self.scope.project, traces.c.experiment_id == experiment)
        oldest = query.where(traces.c.started_at <= before).order_by(traces.c.started_at, traces.c.id).limit(limit)
        with self.stores.db.begin() as tx:
            return self._drop(tx, list(tx.execute(oldest).scalars()))

    def _drop(self, tx: Connection, ids: Sequence[str]) -> int:
        refuse_held(self.stores, tx, self.scope.project, ids)
        return drop_traces(tx, ids)

    def _check_count(self, ids: Sequence[str], limit: int) -> None:
        if len(ids) > limit:
            raise Invalid(f"{len(ids):,} traces are too many at once", next_step=f"give up to {limit:,}")

    def _mine(self, connection: Connection, ids: Sequence[str]) -> set[str]:
        query = select(traces.c.id).where(traces.c.project == self.scope.project, traces.c.id.in_(list(ids)))
        return set(connection.execute(query).scalars())

    def _load(self, connection: Connection, trace: str) -> Trace:
        return load_traces(connection, [the_trace(connection, self.scope.project, trace)])[0]
