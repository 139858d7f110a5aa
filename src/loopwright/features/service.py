"""What one can ask of features."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from loopwright.core import Conflict, Invalid, Scope, operation, parse_ref
from loopwright.features.choosing import Asked, Chosen, choose
from loopwright.features.computing import (
    check_keys,
    feature_rows,
    fills,
    seen_between,
    transformed,
    utc,
    with_request_features,
)
from loopwright.features.definitions import Definition, Entity, FeatureService, FeatureView, RequestView
from loopwright.features.encoding import encode_rows, online_place
from loopwright.features.joining import MAX_ROWS, Joinable, join_chunks
from loopwright.features.keeping import BATCH
from loopwright.features.lookup import FeatureLookup, lookup_of
from loopwright.features.materialising import Materialiser, newest
from loopwright.features.model import MaterialiseReport, PushReport, ServiceRecord, Skew, ViewRecord
from loopwright.features.online import AGES, OnlineRows, read_online
from loopwright.features.registry import FeatureRegistry, State
from loopwright.features.timeline import SEEN, TRUE

if TYPE_CHECKING:
    import polars as pl

    from loopwright.data import DatasetService
    from loopwright.store import Stores

_FOLDED = ("online", "offline", "both")


class FeatureStore:
    """The features of one project: definitions, point-in-time joins, and the newest values online."""

    def __init__(self, stores: Stores, scope: Scope, *, datasets: DatasetService) -> None:
        self.stores, self.scope, self.datasets = stores, scope, datasets
        self._registry = FeatureRegistry(stores, scope)

    def apply(self, *definitions: Definition) -> tuple[str, ...]:
        """Keep definitions under their names; gives the refs of the views. An unchanged definition changes nothing; a
        changed one is a new version, whose rows must be materialised before they can be read online.

        Raises:
            Invalid: a service names a view or feature that there is not, or what was given is no definition.
        """
        views = {one.name: one for one in definitions if isinstance(one, FeatureView | RequestView)}
        for one in definitions:
            if isinstance(one, FeatureService):
                choose(one, self._registry.service, lambda name: views.get(name) or self._view(name), True)
            elif not isinstance(one, Entity | FeatureView | RequestView):
                raise Invalid(f"{one!r} is no definition", next_step="give feature views and services")
        refs = []
        with self.stores.db.begin() as tx:
            for one in definitions:
                if isinstance(one, FeatureService):
                    self._registry.apply_service(tx, one)
                elif isinstance(one, FeatureView | RequestView):
                    refs.append(self._apply_view(tx, one))
        return tuple(refs)

    @operation("features.list", permission="features:read")
    def list(self) -> tuple[ViewRecord, ...]:
        """The feature views by name, with how far each is materialised."""
        return tuple(self._registry.list())

    @operation("features.get", permission="features:read")
    def get(self, name: str) -> ViewRecord:
        """A feature view.

        Raises:
            NotFound: there is none of that name.
        """
        return self._registry.get(parse_ref(name, "feature").name)

    @operation("features.services", permission="features:read")
    def services(self) -> tuple[ServiceRecord, ...]:
        """The feature services by name."""
        return self._registry.services()

    def historical(
        self,
        spine: pl.DataFrame | pl.LazyFrame,
        features: Asked,
        timestamp: str = "event_timestamp",
        *,
        as_of: datetime | None = None,
        sources: Mapping[str, str] | None = None,
        full_names: bool = False,
        max_rows: int = MAX_ROWS,
    ) -> pl.LazyFrame:
        """The spine with its features as they were at each row's own time: never a value that became known later.

        Args:
            spine: rows with the entities' keys and a time; all of its columns are kept, and its order.
            features: `["weather:temp", "carrier"]`, or a FeatureService, or the name of one.
            timestamp: the spine's time column; without a zone it is taken to be UTC. A row without a time gets nulls.
            as_of: pretend that nothing was known later than this.
            sources: dataset name -> ref, to read older versions than the newest (see `resolve`).
            full_names: call the columns `view__feature`.
            max_rows: how many rows of the spine, and of each view, are in memory at a time.

        Raises:
            NotFound: there is no such view, feature, service or dataset version.
            Invalid: a key or the time is missing in the spine, or of the wrong type; two columns of one name.
        """
        from polars.io.plugins import register_io_source

        asked, lazy = self._choose(features, full_names), spine.lazy()
        types = dict(lazy.collect_schema())
        at = _time_of(timestamp, types)
        _refuse_taken(asked, types)
        batch = [one for one in asked if isinstance(one.view, FeatureView)]
        views = [self._joinable(one, types, as_of, sources or {}) for one in batch]
        schema = {**types}
        for view in views:
            found = view.rows.collect_schema()
            schema.update({column: found[name] for name, column in view.features.items()})

        def read(
            with_columns: Sequence[str] | None, predicate: pl.Expr | None, n_rows: int | None, _batch_size: int | None
        ) -> Iterator[pl.DataFrame]:
            left = n_rows
            for chunk in join_chunks(lazy if left is None else lazy.head(left), at, views, max_rows):
                kept = chunk.select(with_columns) if with_columns is not None else chunk
                yield kept if predicate is None else kept.filter(predicate)

        joined = register_io_source(read, schema=schema) if views else lazy
        for one in asked:
            if isinstance(one.view, RequestView):
                joined = self._with_request(joined, one, one.view)
        return joined

    def lookup(
        self,
        spine: pl.DataFrame | pl.LazyFrame,
        features: Asked,
        timestamp: str = "event_timestamp",
        *,
        full_names: bool = False,
    ) -> FeatureLookup:
        """What a server needs to give a model the features that `historical` gives with the same arguments, at the
        time of a request. `build_bundle` takes it, and several of them where rows were joined in several steps.

        Raises:
            NotFound: there is no such view, feature or service.
            Invalid: the spine lacks a key, or a column that a request view needs.
        """
        asked, types = self._choose(features, full_names), dict(spine.lazy().collect_schema())
        chosen = []
        for one in asked:
            state, found = self._registry.state(one.view.name), {}
            if isinstance(one.view, FeatureView):
                found = dict(self._joinable(one, types, None, {}).rows.collect_schema())
            kept = {name: found[name] for name in (*getattr(one.view, "keys", ()), *one.columns) if name in found}
            chosen.append((one, state.ref, state.digest, kept))
        names = _names_of(features)
        return lookup_of(chosen, types, project=self.scope.project, features=names, timestamp=timestamp)

    def resolve(self, features: Asked) -> dict[str, str]:
        """The newest version of each dataset behind the features, by the dataset's name: to pin, and to note as inputs.

        Raises:
            NotFound: there is no such view, feature, service or dataset.
        """
        views = [one.view for one in self._choose(features, True)]
        names = dict.fromkeys(view.source for view in views if isinstance(view, FeatureView))
        return {name: self.datasets.get(name).ref for name in names}

    @operation("features.materialise", permission="features:write", effect="write")
    def materialise(self, view: str, until: datetime | None = None, since: datetime | None = None) -> MaterialiseReport:
        """Bring the newest row of each entity online; costs what is new since the last time.

        Args:
            until: only what was seen by then; by default now.
            since: look at everything seen since then again.

        Raises:
            NotFound: there is no such view, or its dataset has no version.
            Conflict: it is a request view, or its code changed since it was applied.
        """
        name = parse_ref(view, "feature").name
        return self._materialiser.run([self._registry.state(name)], until, since)[0]

    @operation("features.materialise_all", permission="features:write", effect="write")
    def materialise_all(
        self, views: Sequence[str] = (), until: datetime | None = None
    ) -> tuple[MaterialiseReport, ...]:
        """Bring the newest rows of several views online, as `materialise` does for each. What views of one dataset
        share is read once, and the progress of all is noted together; so it costs less than one after the other.

        Args:
            views: their names; by default every view that is not computed from requests.
            until: only what was seen by then; by default now.

        Raises:
            NotFound: there is no such view, or its dataset has no version.
            Conflict: one is a request view, or its code changed since it was applied.
        """
        names = [parse_ref(view, "feature").name for view in views]
        wanted = names or [record.name for record in self._registry.list() if record.kind == BATCH]
        return self._materialiser.run([self._registry.state(name) for name in dict.fromkeys(wanted)], until)

    def push(self, view: str, frame: Any, *, to: str = "online") -> PushReport:
        """Take fresh rows of a view: the same expressions as in batch compute their features.

        Args:
            frame: rows as in the view's dataset; of a view with a transform, as the transform gives them.
            to: `online`, `offline` (append to the dataset), or `both`.

        Raises:
            NotFound: there is no such view.
            Conflict: it is a request view; or the rows should go offline, but the view's are computed by a transform.
            Invalid: the rows lack a column, or do not fit.
        """
        import polars as pl

        state = self._registry.state(parse_ref(view, "feature").name)
        if to not in _FOLDED:
            raise Invalid(f"rows cannot be pushed to {to!r}", next_step=f"use one of {', '.join(_FOLDED)}")
        if not isinstance(state.view, FeatureView):
            raise Conflict(f"{view!r} is computed from requests; nothing can be pushed to it")
        if to != "online" and state.view.transform is not None:
            raise Conflict(
                f"the rows of {view!r} are computed by a transform, so they cannot be appended to its dataset",
                next_step=f"ingest source rows into dataset {state.view.source!r}, and push with to='online'",
            )
        rows = frame if isinstance(frame, pl.DataFrame) else pl.DataFrame(frame)
        latest = newest(feature_rows(state.view, rows.lazy()), state.view)
        stored = self.datasets.ingest(state.view.source, rows, mode="append").ref if to != "online" else ""
        if to != "offline" and latest.height:
            self._write(state, state.view, latest)
        return PushReport(state.view.name, rows.height, latest.height, stored)

    @operation("features.online", permission="features:read")
    def online(
        self,
        features: Sequence[str] | str,
        keys: Sequence[dict[str, Any]],
        at: datetime | None = None,
        full_names: bool = False,
    ) -> Sequence[dict[str, Any]]:
        """The newest features of entities, in the order of `keys`: each a dict of the keys, the features, and under
        `ages_s` how old each view's values are, in seconds. What is not there, or older than its ttl, is None.

        Args:
            features: `["weather:temp", "carrier"]`, or the name of a feature service.
            keys: one dict per entity, with what request views need besides.
            at: the time of asking; by default now.

        Raises:
            NotFound: there is no such view, feature or service.
            Invalid: a key is missing or of the wrong type.
        """
        if not len(keys):
            return []
        frame, ages = self._online(features, _frame_of(keys), at, full_names)
        rows = frame.to_dicts()
        for place, row in enumerate(rows):
            row[AGES] = {view: ages[view][place] for view in ages}
        return rows

    def online_frame(
        self, features: Asked, keys: pl.DataFrame, at: datetime | None = None, *, full_names: bool = False
    ) -> pl.DataFrame:
        """What `online` gives, as a frame without the ages. Raises as `online` does."""
        return self._online(features, keys, at, full_names)[0]

    def skew(self, view: str, keys: pl.DataFrame, at: datetime | None = None) -> Skew:
        """Compare the online values of entities with what the point-in-time join gives for the same moment.

        Raises:
            NotFound: there is no such view.
            Invalid: a key is missing or of the wrong type.
        """
        import polars as pl

        moment = at or self.stores.clock.now()
        online = self.online_frame([view], keys, moment, full_names=True)
        spine = keys.with_columns(pl.lit(moment).cast(pl.Datetime("us", "UTC")).alias("__asked"))
        offline = self.historical(spine, [view], "__asked", full_names=True).collect()
        features = [name for name in online.columns if name not in keys.columns]
        mismatches = {
            name.partition("__")[2]: int((~online[name].cast(offline.schema[name]).eq_missing(offline[name])).sum())
            for name in features
        }
        return Skew(view, moment, keys.height, {name: count for name, count in mismatches.items() if count})

    def _online(
        self, features: Asked, keys: pl.DataFrame, at: datetime | None, full_names: bool
    ) -> tuple[pl.DataFrame, dict[str, Sequence[float | None]]]:
        states: dict[str, State] = {}

        def view_of(name: str) -> FeatureView | RequestView:
            states[name] = self._registry.state(name, code=False)
            return states[name].view

        def rows_of(name: str) -> OnlineRows:
            state = states.get(name) or self._registry.state(name, code=False)
            return OnlineRows(online_place(self.scope.project, name, state.digest), state.types)

        asked = choose(features, self._registry.service, view_of, full_names)
        _refuse_taken(asked, keys.schema)
        now = at or self.stores.clock.now()
        frame, ages = read_online(self.stores.online, asked, rows_of, keys, [now] * keys.height)
        return frame, dict(ages)

    @property
    def _materialiser(self) -> Materialiser:
        return Materialiser(self.stores, self.scope, self.datasets)

    def _joinable(
        self, one: Chosen, types: Mapping[str, pl.DataType], as_of: datetime | None, sources: Mapping[str, str]
    ) -> Joinable:
        import polars as pl

        view = one.view
        assert isinstance(view, FeatureView)
        rows = transformed(view, self.datasets.scan(sources.get(view.source, view.source)))
        rows = seen_between(feature_rows(view, rows), None, as_of)
        rows = rows.select([*[pl.col(key) for key in view.keys], TRUE, SEEN, *one.columns])
        found = rows.collect_schema()
        casts = check_keys(view, types, {key: found[key] for key in view.keys})
        return Joinable(rows, view.keys, casts, one.columns, view.ttl, fills(view, one.columns, found))

    def _with_request(self, frame: pl.LazyFrame, one: Chosen, view: RequestView) -> pl.LazyFrame:
        before = frame.collect_schema().names()
        computed = with_request_features(frame, view)
        return computed.select([*before, *one.columns]).rename(one.columns)

    def _write(self, state: State, view: FeatureView, rows: pl.DataFrame) -> None:
        types = {name: rows.schema[name] for name in (*view.keys, *view.features)}
        if state.types and dict(state.types) != types:
            rows = rows.cast({name: dtype for name, dtype in state.types.items() if rows.schema[name] != dtype})
        else:
            self._registry.keep_types(state, types)
        place = online_place(self.scope.project, view.name, state.digest)
        self.stores.online.write(place, encode_rows(rows, view.keys, [*view.features]))

    def _apply_view(self, tx: Any, view: FeatureView | RequestView) -> str:
        ref, changed = self._registry.apply(tx, view)
        if changed:
            project = self.scope.project
            self.stores.lineage.node(tx, ref, attrs={"features": [*view.features]}, project=project)
            evidence = {"features": view.features, "source": getattr(view, "source", "")}
            self.stores.events.append(tx, "feature_view.applied", ref, self.scope, evidence)
        return ref

    def _choose(self, features: Asked, full_names: bool) -> Sequence[Chosen]:
        return choose(features, self._registry.service, self._view, full_names)

    def _view(self, name: str) -> FeatureView | RequestView:
        return self._registry.state(name).view


def _names_of(features: Asked) -> list[str]:
    if isinstance(features, str):
        return [features]
    items = features.features if isinstance(features, FeatureService) else features
    return [item if isinstance(item, str) else item.name for item in items]


def _time_of(timestamp: str, types: Mapping[str, pl.DataType]) -> pl.Expr:
    import polars as pl

    dtype = types.get(timestamp)
    if dtype is None:
        raise Invalid(
            f"the spine has no time column {timestamp!r}",
            next_step=f"name it with timestamp=; there are {', '.join(types)}",
        )
    if not (isinstance(dtype, pl.Datetime) or dtype == pl.Date):
        raise Invalid(f"the spine's {timestamp!r} is {dtype}, not a time", next_step="parse it to a datetime")
    return utc(pl.col(timestamp), dtype)


def _refuse_taken(asked: Sequence[Chosen], types: Mapping[str, pl.DataType]) -> None:
    for one in asked:
        for column in one.columns.values():
            if column in types:
                raise Invalid(
                    f"feature {one.view.name}:{column} has the name of a column that is there already",
                    next_step="rename that column, or pass full_names=True",
                )


def _frame_of(keys: Any) -> pl.DataFrame:
    import polars as pl

    if isinstance(keys, pl.DataFrame):
        return keys
    try:
        return pl.from_dicts([*keys], infer_schema_length=None)
    except (TypeError, pl.exceptions.PolarsError) as error:
        raise Invalid(f"the keys do not make a table: {error}", next_step="give each key one type") from None
