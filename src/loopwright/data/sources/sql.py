"""The result of an SQL query as rows, streamed from the database."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from loopwright.core import Invalid, Unavailable, missing_extra
from loopwright.data.sources.frames import frame_source
from loopwright.data.sources.source import RowSource

if TYPE_CHECKING:
    import polars as pl
    from sqlalchemy import URL, Connection

_BATCH = 10_000
_SHOWN_QUERY = 200


@contextmanager
def sql_source(url: str, query: str, parameters: Mapping[str, Any], scratch: Path) -> Iterator[RowSource]:
    """Rows of a query.

    A database says only with the last row which type a column has (SQLite has none per column), so batches are spooled
    to disk first; one batch at a time is in memory.

    Args:
        url: an SQLAlchemy URL; its password is never shown or kept.
        query: one SELECT; `:name` takes a parameter.

    Raises:
        Invalid: the URL or the query is malformed, or a column holds values of several types.
        Unavailable: the database does not answer.
    """
    from sqlalchemy import create_engine
    from sqlalchemy.exc import ArgumentError, NoSuchModuleError, OperationalError, SQLAlchemyError

    address = _parsed(url)
    described = f"{address.render_as_string(hide_password=True)}: {' '.join(query.split())[:_SHOWN_QUERY]}"
    try:
        engine = create_engine(address)
    except (ArgumentError, NoSuchModuleError) as error:
        raise Invalid(f"the database URL is not understood: {error}", next_step="see docs.sqlalchemy.org") from None
    except ModuleNotFoundError as error:
        raise missing_extra(error.name or "driver", "postgres", f"the database {address.drivername}") from None
    try:
        with engine.connect().execution_options(stream_results=True, yield_per=_BATCH) as connection:
            files = list(_spool(connection, query, parameters, scratch))
        yield frame_source(_joined(files), described)
    except OperationalError as error:
        reason = _first_line(error)
        if getattr(error, "connection_invalidated", False) or "connect" in reason or "unable to open" in reason:
            raise Unavailable(f"the database does not answer: {reason}", where=described) from None
        raise Invalid(f"the query fails: {reason}", where=described) from None
    except SQLAlchemyError as error:
        raise Invalid(f"the query fails: {_first_line(error)}", where=described) from None
    finally:
        engine.dispose()


def _parsed(url: str) -> URL:
    from sqlalchemy import make_url
    from sqlalchemy.exc import ArgumentError

    try:
        address = make_url(url)
    except ArgumentError:
        raise Invalid(
            "the database URL is not understood", next_step="write it as postgresql://user:password@host/database"
        ) from None
    if address.drivername == "postgresql":
        return address.set(drivername="postgresql+psycopg")
    return address


def _spool(
    connection: Connection, query: str, parameters: Mapping[str, Any], scratch: Path
) -> Iterator[tuple[Path, pl.Schema]]:
    from sqlalchemy import text

    result = connection.execute(text(query), dict(parameters))
    if not result.returns_rows:
        raise Invalid("the query returns no rows", next_step="give a SELECT")
    names = list(result.keys())
    for name in names:
        if names.count(name) > 1:
            raise Invalid(f"the query gives two columns called {name!r}", next_step="rename one with AS")
    number = 0
    for number, rows in enumerate(result.partitions(_BATCH), start=1):
        frame = _frame(names, [tuple(row) for row in rows], (number - 1) * _BATCH)
        path = scratch / f"batch-{number}.arrow"
        frame.write_ipc(path)
        yield path, frame.schema
    if not number:
        path = scratch / "empty.arrow"
        empty = _frame(names, [], 0)
        empty.write_ipc(path)
        yield path, empty.schema


def _frame(names: list[str], rows: list[tuple[Any, ...]], first_row: int) -> pl.DataFrame:
    import polars as pl

    columns = zip(*rows, strict=True) if rows else [()] * len(names)
    found = {}
    for name, values in zip(names, columns, strict=True):
        try:
            found[name] = pl.Series(name, values, strict=not _mixes_numbers(values))
        except (TypeError, ValueError, OverflowError, pl.exceptions.PolarsError) as error:
            raise Invalid(
                f"the column holds values of several types: {_first_line(error)}",
                where=f"rows from {first_row + 1}, column {name!r}",
                next_step="convert it in the query with CAST",
            ) from None
    return pl.DataFrame(found)


def _mixes_numbers(values: tuple[Any, ...]) -> bool:
    return {type(value) for value in values if value is not None} == {int, float}


def _joined(files: list[tuple[Path, pl.Schema]]) -> pl.LazyFrame:
    """All batches with the types that hold them all."""
    import polars as pl

    types: dict[str, pl.DataType] = dict(files[0][1])
    for _, schema in files[1:]:
        for name, dtype in schema.items():
            types[name] = _supertype(types[name], dtype, name)
    frames = [pl.scan_ipc(path).cast({name: types[name] for name in types}) for path, _ in files]
    return pl.concat(frames)


def _supertype(first: pl.DataType, second: pl.DataType, name: str) -> pl.DataType:
    import polars as pl

    if first == second or second == pl.Null:
        return first
    if first == pl.Null:
        return second
    if first.is_numeric() and second.is_numeric():
        return pl.Float64()
    raise Invalid(
        f"the column is {first} in some rows and {second} in others",
        where=f"column {name!r}",
        next_step="convert it in the query with CAST",
    )


def _first_line(error: Exception) -> str:
    return str(getattr(error, "orig", None) or error).strip().splitlines()[0]
