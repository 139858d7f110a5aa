"""The column types that a stored table may have, and the one rule by which others become one of them.

Delta Lake knows no unsigned integers, no times of day, no durations, no categories and no nanoseconds. A frame is
brought to these types before it is hashed or written, so that what is read back is what was hashed.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from loopwright.core import Corrupt, DType, Field, Invalid, Schema

if TYPE_CHECKING:
    import polars as pl

_NAMES = {
    "Boolean": DType.BOOL,
    "Int8": DType.INT64,
    "Int16": DType.INT64,
    "Int32": DType.INT64,
    "Int64": DType.INT64,
    "Float32": DType.FLOAT32,
    "Float64": DType.FLOAT64,
    "String": DType.STRING,
    "Binary": DType.BYTES,
    "Date": DType.DATE,
    "Datetime": DType.TIMESTAMP,
    "List": DType.LIST,
}


def dtype_word(dtype: pl.DataType) -> DType:
    """The word that every room uses for a Polars type."""
    return _NAMES.get(dtype.base_type().__name__, DType.OTHER)


def schema_of(columns: Mapping[str, pl.DataType]) -> Schema:
    """The schema record of a table's columns."""
    return Schema(tuple(Field(name, dtype_word(dtype)) for name, dtype in columns.items()))


def storable(dtype: pl.DataType, column: str) -> pl.DataType:
    """The stored type that holds every value of `dtype`.

    Raises:
        Invalid: no stored type does, as for Python objects.
    """
    import polars as pl

    if dtype in (pl.UInt8, pl.UInt16, pl.UInt32, pl.UInt64, pl.Duration):
        return pl.Int64()
    if isinstance(dtype, pl.Datetime):
        return pl.Datetime("us", "UTC" if dtype.time_zone else None)
    if isinstance(dtype, pl.List | pl.Array):
        inner = dtype.inner
        return pl.List(storable(inner if isinstance(inner, pl.DataType) else inner(), column))
    if isinstance(dtype, pl.Struct):
        return pl.Struct([pl.Field(field.name, storable(_instance(field.dtype), column)) for field in dtype.fields])
    if dtype in (pl.Categorical, pl.Enum, pl.Time, pl.Null):
        return pl.String()
    if dtype in (pl.Int128, pl.UInt128, pl.Object, pl.Unknown):
        raise Invalid(
            f"the type {dtype} cannot be stored",
            where=f"column {column!r}",
            next_step="cast the column to a plain type",
        )
    if dtype == pl.Float16:
        return pl.Float32()
    return dtype


def storable_columns(columns: Mapping[str, pl.DataType]) -> dict[str, pl.DataType]:
    """The stored types of a table's columns.

    Raises:
        Invalid: a column cannot be stored, or has no name.
    """
    if not columns:
        raise Invalid("the table has no columns", next_step="give at least one column")
    if "" in columns:
        raise Invalid(
            "a column has no name", where=f"column {list(columns).index('') + 1}", next_step="name every column"
        )
    return {name: storable(dtype, name) for name, dtype in columns.items()}


def cast_expressions(columns: Mapping[str, pl.DataType], target: Mapping[str, pl.DataType]) -> list[pl.Expr]:
    """Expressions that bring `columns` to `target`, in its order. A value that does not fit is an error at run time."""
    import polars as pl

    return [_cast(pl.col(name), columns[name], dtype).alias(name) for name, dtype in target.items()]


def _cast(column: pl.Expr, dtype: pl.DataType, target: pl.DataType) -> pl.Expr:
    import polars as pl

    if dtype == target:
        return column
    if isinstance(dtype, pl.Duration) and target == pl.Int64:
        return column.dt.total_microseconds()
    if isinstance(dtype, pl.Datetime) and isinstance(target, pl.Datetime):
        if dtype.time_zone and target.time_zone:
            return column.dt.convert_time_zone("UTC").cast(target)
        if target.time_zone and not dtype.time_zone:
            return column.cast(pl.Datetime("us")).dt.replace_time_zone("UTC")
    return column.cast(target, strict=True)


def fits(dtype: pl.DataType, target: pl.DataType) -> bool:
    """Whether values of `dtype` may be appended to a column of type `target` without loss of meaning."""
    import polars as pl

    if dtype == target or dtype == pl.Null:
        return True
    if target.is_float():
        return dtype.is_numeric()
    if target.is_integer():
        return dtype.is_integer() or isinstance(dtype, pl.Duration)
    if isinstance(target, pl.Datetime):
        return isinstance(dtype, pl.Datetime) and (bool(target.time_zone) or not dtype.time_zone)
    if target == pl.String:
        return dtype in (pl.Categorical, pl.Enum, pl.Time)
    if isinstance(target, pl.Decimal):
        return dtype.is_decimal() or dtype.is_integer()
    return False


def dump_dtypes(columns: Mapping[str, pl.DataType]) -> list[list[Any]]:
    """Column types as JSON values, in order."""
    return [[name, _dump(dtype)] for name, dtype in columns.items()]


def load_dtypes(values: list[list[Any]]) -> dict[str, pl.DataType]:
    """The column types behind `dump_dtypes`."""
    return {name: _load(value) for name, value in values}


def _dump(dtype: pl.DataType) -> Any:
    import polars as pl

    if isinstance(dtype, pl.Datetime):
        return {"Datetime": dtype.time_zone or ""}
    if isinstance(dtype, pl.Decimal):
        return {"Decimal": [dtype.precision, dtype.scale]}
    if isinstance(dtype, pl.List):
        return {"List": _dump(_instance(dtype.inner))}
    if isinstance(dtype, pl.Struct):
        return {"Struct": [[field.name, _dump(_instance(field.dtype))] for field in dtype.fields]}
    return dtype.base_type().__name__


def _load(value: Any) -> pl.DataType:
    import polars as pl

    if isinstance(value, str):
        kind_of = getattr(pl, value, None)
        if not (isinstance(kind_of, type) and issubclass(kind_of, pl.DataType)):
            raise Corrupt(f"{value[:60]!r} is no column type")
        return kind_of()
    ((kind, argument),) = value.items()
    if kind == "Datetime":
        return pl.Datetime("us", argument or None)
    if kind == "Decimal":
        return pl.Decimal(argument[0], argument[1])
    if kind == "List":
        return pl.List(_load(argument))
    return pl.Struct([pl.Field(name, _load(inner)) for name, inner in argument])


def _instance(dtype: Any) -> pl.DataType:
    found: pl.DataType = dtype() if isinstance(dtype, type) else dtype
    return found
