"""What a model's server needs to bring a request's features together: the definitions themselves, kept in the bundle.

A point-in-time join makes the training rows; a lookup is the same definitions for one moment, the present. It names
each view by its digest, carries its expressions (never code of a project), and is read by the functions that the join
and the online reads go through, so that a served feature is computed as the trained one was.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from loopwright.core import Corrupt, Invalid, decode, digest_value, encode
from loopwright.data import dump_dtypes, load_dtypes
from loopwright.features.choosing import Chosen
from loopwright.features.definitions import FeatureView, RequestView
from loopwright.features.encoding import column_of, online_place
from loopwright.features.keeping import REQUEST, body_of, view_of
from loopwright.features.online import OnlineRows, read_online

if TYPE_CHECKING:
    import polars as pl

    from loopwright.store import OnlineStore

_FORMAT = 1
_ROWS_SHOWN = 3


class LookupView(msgspec.Struct, frozen=True):
    """A view in a lookup.

    Attributes:
        body: its definition; `digest` is over it and the name.
        columns: pairs of a feature and the name of its column.
        types: of its keys and features, as training had them.
    """

    name: str
    ref: str
    digest: str
    body: dict[str, Any]
    columns: tuple[tuple[str, str], ...]
    types: list[list[Any]] = []


class FeatureLookup(msgspec.Struct, frozen=True):
    """Which features of which definitions a model takes, and what a request must bring for them.

    Attributes:
        project: where the definitions were applied.
        features: what was asked for: the name of a service, or `view:feature` and `view`.
        timestamp: the time column of the training rows; a request that lacks it is about its own time.
        views: request views behind the others.
        request: pairs of a column that requests bring and its type, keys among them.
    """

    project: str
    features: tuple[str, ...]
    timestamp: str
    views: tuple[LookupView, ...]
    request: list[list[Any]]
    lookup_format: int = _FORMAT

    @property
    def refs(self) -> tuple[str, ...]:
        """The refs of the definitions."""
        return tuple(view.ref for view in self.views)

    @property
    def digest(self) -> str:
        """Of all that it says; two lookups with one digest give the same for the same request."""
        return digest_value(self)

    @property
    def columns(self) -> tuple[str, ...]:
        """The names of the columns that it gives."""
        return tuple(column for view in self.views for _, column in view.columns)

    def for_inputs(self, inputs: Iterable[str]) -> FeatureLookup:
        """The part of it that a model with these inputs needs.

        Raises:
            Invalid: it gives none of them.
        """
        wanted = set(inputs)
        kept: list[LookupView] = []
        for view in reversed(self.views):  # what a request view needs stands before it
            columns = tuple(pair for pair in view.columns if pair[1] in wanted)
            if columns:
                kept.insert(0, msgspec.structs.replace(view, columns=columns))
                wanted |= set(_needs(view))
        if not kept:
            raise Invalid(
                f"the lookup gives {', '.join(self.columns)}, and the model takes none of them",
                next_step="give the lookup of the features that the model was trained on",
            )
        needed = {name for view in kept for name in _needs(view)}
        request = [pair for pair in self.request if pair[0] in needed]
        return msgspec.structs.replace(self, views=tuple(kept), request=request)


def merged(lookups: Sequence[FeatureLookup]) -> FeatureLookup:
    """One lookup of several, for training rows that were joined in several steps.

    Raises:
        Invalid: they give a column twice, or are of different projects.
    """
    first = lookups[0]
    views = sorted((view for one in lookups for view in one.views), key=_is_request)
    given = [column for view in views for _, column in view.columns]
    twice = sorted({column for column in given if given.count(column) > 1})
    if twice or any(one.project != first.project for one in lookups):
        raise Invalid(f"several lookups give the column {', '.join(twice)}" if twice else "lookups of several projects")
    made = set(given)
    request = {pair[0]: pair for one in lookups for pair in one.request if pair[0] not in made}
    return msgspec.structs.replace(
        first,
        features=tuple(dict.fromkeys(name for one in lookups for name in one.features)),
        views=tuple(views),
        request=list(request.values()),
    )


def lookup_of(
    asked: Sequence[tuple[Chosen, str, str, Mapping[str, pl.DataType]]],
    spine: Mapping[str, pl.DataType],
    *,
    project: str,
    features: Sequence[str],
    timestamp: str,
) -> FeatureLookup:
    """The lookup of chosen features.

    Args:
        asked: what was chosen of each view, the view's ref and digest, and the types of its keys and features.
        spine: the types of the columns of the training rows.

    Raises:
        Invalid: the rows lack a column that a feature needs.
    """
    views = tuple(
        LookupView(one.view.name, ref, digest, body_of(one.view), tuple(one.columns.items()), dump_dtypes(types))
        for one, ref, digest, types in asked
    )
    given = {column for view in views for _, column in view.columns}
    needed = dict.fromkeys(name for view in views for name in _needs(view) if name not in given)
    absent = [name for name in needed if name not in spine]
    if absent:
        raise Invalid(
            f"the features need {', '.join(map(repr, absent))}, which the rows do not have",
            next_step="give the rows that are joined in training",
        )
    request = dump_dtypes({name: _plain(spine[name]) for name in needed})
    return FeatureLookup(project, tuple(features), timestamp, views, request)


def read_lookup(data: bytes) -> FeatureLookup:
    """A lookup as a bundle holds it; `write_lookup` made it.

    Raises:
        Corrupt: it is none.
        Invalid: it is of a newer form.
    """
    try:
        version = msgspec.json.decode(data, type=dict[str, Any]).get("lookup_format")
        if version != _FORMAT:
            raise Invalid(f"the feature lookup has form {version}, and this program knows {_FORMAT}")
        found: FeatureLookup = decode(data, FeatureLookup)
    except msgspec.MsgspecError as error:
        raise Corrupt(f"the feature lookup is damaged: {error}") from None
    return found


def write_lookup(lookup: FeatureLookup) -> bytes:
    """A lookup as a bundle holds it."""
    return msgspec.json.format(encode(lookup), indent=2)


class Unknown(NamedTuple):
    """An entity of a view that is required, of which nothing fresh is known: the view's keys, and the row."""

    view: str
    keys: tuple[str, ...]
    row: int


class LookupReader:
    """Reads what a lookup names. Thread-safe.

    Attributes:
        lookup: what it reads.
        request: the columns that a request brings, by name, with their types.
    """

    def __init__(self, lookup: FeatureLookup) -> None:
        """Raises:
        Corrupt: a definition is not the one that its digest names.
        Invalid: an expression calls a Python function, or looks beyond its row.
        """
        self.lookup = lookup
        self.request: dict[str, pl.DataType] = load_dtypes(lookup.request)
        self._chosen = [_chosen(view) for view in lookup.views]
        self._views = {view.name: (view.digest, load_dtypes(view.types)) for view in lookup.views}

    def typed(self, columns: Mapping[str, Sequence[Any]], moments: Sequence[datetime]) -> pl.DataFrame:
        """What requests bring, in the types of training. A missing time column is that of the moments of asking.

        Raises:
            Invalid: a column is missing, or a value does not fit; the column and the row are named.
        """
        import polars as pl

        found = []
        for name, dtype in self.request.items():
            if name in columns:
                found.append(_typed(name, columns[name], dtype).alias(name))
            elif name == self.lookup.timestamp:
                found.append(_times(moments, dtype).alias(name))
            else:
                raise Invalid(
                    f"the features of this model need {name!r}, which the request does not have",
                    next_step=f"requests bring {', '.join(self.request)}",
                )
        return pl.DataFrame(found)

    def read(
        self, online: OnlineStore, frame: pl.DataFrame, moments: Sequence[datetime], project: str = ""
    ) -> tuple[pl.DataFrame, list[Unknown]]:
        """The columns that the lookup gives, row by row, and the entities that are required and unknown.

        Args:
            frame: as `typed` gives it, or several of them, one below the other.
            moments: when each row is asked.
            project: in whose part of the online store the rows are; by default where the definitions were applied.

        Raises:
            Unavailable: the online store does not answer.
            Invalid: an expression cannot be computed of these values.
            Corrupt: what is online has other types than training had.
        """
        import polars as pl

        def rows_of(view: str) -> OnlineRows:
            digest, types = self._views[view]
            return OnlineRows(online_place(project or self.lookup.project, view, digest), types)

        try:
            rows, ages = read_online(online, self._chosen, rows_of, frame, moments)
        except pl.exceptions.PolarsError as error:
            raise Invalid(f"the features cannot be computed of these values: {_first_line(error)}") from None
        except (TypeError, ValueError, IndexError) as error:
            raise Corrupt(
                f"what is online does not have the types of training: {_first_line(error)}",
                next_step="materialise the feature views again",
            ) from None
        unknown = [
            Unknown(one.view.name, one.view.keys, row)
            for one in self._chosen
            if isinstance(one.view, FeatureView) and one.view.required
            for row, age in enumerate(ages[one.view.name])
            if age is None
        ]
        return rows.select(self.lookup.columns), unknown


def _chosen(view: LookupView) -> Chosen:
    counted = {name: value for name, value in view.body.items() if name != "description"}
    if digest_value({"name": view.name, **counted}) != view.digest:
        raise Corrupt(
            f"the definition of feature view {view.name!r} is not the one that its digest names",
            next_step="build the bundle again",
        )
    try:
        return Chosen(view_of(view.name, view.body, view.digest, None), dict(view.columns))
    except (KeyError, TypeError, ValueError) as error:
        raise Corrupt(f"the definition of feature view {view.name!r} is damaged: {error}") from None


def _needs(view: LookupView) -> list[str]:
    """The columns that a view is read or computed by."""
    if not _is_request(view):
        return list(view.body["keys"])
    built = RequestView(view.name, dict(view.body["features"]))
    return list(dict.fromkeys(root for expression in built.expressions() for root in expression.meta.root_names()))


def _is_request(view: LookupView) -> bool:
    return bool(view.body["kind"] == REQUEST)


def _plain(dtype: pl.DataType) -> pl.DataType:
    """The type of a column as a request brings it: categories are texts there."""
    import polars as pl

    return pl.String() if dtype in (pl.Categorical, pl.Enum) else dtype


def _typed(name: str, values: Sequence[Any], dtype: pl.DataType) -> pl.Series:
    try:
        return _series(values, dtype)
    except (TypeError, ValueError, AttributeError, OverflowError) as error:
        failure = error
    for row, value in enumerate(values):
        try:
            _series([value], dtype)
        except (TypeError, ValueError, AttributeError, OverflowError):
            raise Invalid(f"input {name!r}, row {row}: takes {dtype}, not {str(value)[:60]!r}") from None
    raise Invalid(f"input {name!r}: {_first_line(failure)}") from None


def _series(values: Sequence[Any], dtype: pl.DataType) -> pl.Series:
    import polars as pl

    if dtype.is_numeric() and any(isinstance(value, bool | str) for value in values):
        raise TypeError("no number")
    if dtype.is_float():
        values = [float(value) if isinstance(value, int) else value for value in values]
    if isinstance(dtype, pl.Datetime):
        moments = column_of(list(values), pl.Datetime("us", "UTC" if _is_aware(values) else None))
        zone = "UTC" if dtype.time_zone else None
        moments = moments.dt.replace_time_zone(zone) if moments.dtype != pl.Datetime("us", zone) else moments
        return moments.dt.convert_time_zone(dtype.time_zone) if dtype.time_zone else moments
    return column_of(list(values), dtype)


def _is_aware(values: Sequence[Any]) -> bool:
    """Whether times say their zone."""
    first = next((value for value in values if value is not None), None)
    return isinstance(first, str) and datetime.fromisoformat(first).tzinfo is not None


def _times(moments: Sequence[datetime], dtype: pl.DataType) -> pl.Series:
    import polars as pl

    times = pl.Series("", list(moments), dtype=pl.Datetime("us", "UTC"))
    if isinstance(dtype, pl.Datetime) and dtype.time_zone:
        return times.dt.convert_time_zone(dtype.time_zone)
    return times.dt.replace_time_zone(None).cast(dtype)


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0][:200] if str(error) else type(error).__name__
