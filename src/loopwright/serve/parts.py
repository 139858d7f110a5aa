"""How queries are cut into the parts that single variants answer, put into batches, and found to be settled."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from loopwright.core import LoopwrightError
from loopwright.serve.block import Block, merge
from loopwright.serve.intake import Rows
from loopwright.serve.loaded import LoadedEndpoint, LoadedVariant
from loopwright.serve.query import Part, Query


def parts_of(query: Query, endpoint: LoadedEndpoint) -> list[Part]:
    """The query's rows, by the variant that answers them.

    Raises:
        NotFound: the version asked for is not served.
        Invalid: the variant that should answer lacks an input.
    """
    if query.version or len(endpoint.live) == 1:
        loaded = endpoint.at_version(query.version) if query.version else endpoint.live[0]
        return [_whole(query, endpoint, loaded)]
    keys = query.keys if query.keys is not None else [""] * query.count
    places: dict[LoadedVariant, list[int]] = {}
    for place, key in enumerate(keys):
        places.setdefault(endpoint.choose(key), []).append(place)
    if len(places) == 1:
        return [_whole(query, endpoint, next(iter(places)))]
    return [Part(query, endpoint, loaded, rows_for(query, loaded, chosen), chosen) for loaded, chosen in places.items()]


def rows_for(query: Query, loaded: LoadedVariant, places: Sequence[int] | None = None) -> Rows:
    """A query's rows as a variant takes them; those at some places, or all.

    Raises:
        Invalid: the variant lacks an input.
        LoopwrightError: its rows cannot be made.
    """
    if query.own is None:
        return loaded.projection.project(query.rows if places is None else _taken(query.rows, places))
    own = query.own[loaded]
    if isinstance(own, LoopwrightError):
        raise own
    return own if places is None else _taken(own, places)


def _whole(query: Query, endpoint: LoadedEndpoint, loaded: LoadedVariant) -> Part:
    if query.own is not None:
        return Part(query, endpoint, loaded, rows_for(query, loaded), None)
    projection, rows = loaded.projection, query.rows
    return Part(query, endpoint, loaded, rows if projection.is_identity else projection.project(rows), None)


def _taken(rows: Rows, places: Sequence[int]) -> Rows:
    return rows.take(places) if isinstance(rows, Block) else [rows[place] for place in places]


def in_batches(parts: list[Part], most: int) -> Iterator[list[Part]]:
    """Parts in groups of at most `most` rows, or of one part; those of a group have their rows in one form."""
    if len(parts) == 1 or (
        len({part.rows.__class__ for part in parts}) == 1 and sum([part.load for part in parts]) <= most
    ):
        yield parts
        return
    batch: list[Part] = []
    size, form = 0, None
    for part in parts:
        rows, own = part.load, form_of(part)
        if batch and (size + rows > most or own is not form):
            yield batch
            batch, size = [], 0
        batch.append(part)
        size += rows
        form = own
    yield batch


def form_of(part: Part) -> type:
    """The form of a part's rows."""
    return part.rows.__class__


def settled(parts: list[Part]) -> list[Query]:
    """The queries of which these were the last parts."""
    found = []
    for part in parts:
        query = part.query
        if not query.waiting:  # its time was up
            continue
        if part.failure is not None:
            query.failure = part.failure
        query.waiting -= 1
        if not query.waiting:
            found.append(query)
    return found


def release(queries: list[Query]) -> None:
    """Open the circles of queries that are answered: memory is given back by counting, and no collector has to run."""
    for query in queries:
        for part in query.parts:
            del part.query


def merged(parts: list[Part]) -> Rows:
    """The rows of all parts, which have one form."""
    if len(parts) == 1:
        return parts[0].rows
    blocks = [part.rows for part in parts if isinstance(part.rows, Block)]
    if blocks:
        return merge(blocks)
    return [row for part in parts if not isinstance(part.rows, Block) for row in part.rows]
