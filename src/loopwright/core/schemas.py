"""Schemas of tables and of model inputs: names, types, nullability."""

from __future__ import annotations

from enum import StrEnum

import msgspec


class DType(StrEnum):
    """The types that a column can have, named as every room names them."""

    BOOL = "bool"
    INT64 = "int64"
    FLOAT32 = "float32"
    FLOAT64 = "float64"
    STRING = "string"
    DATE = "date"
    TIMESTAMP = "timestamp"
    BYTES = "bytes"
    LIST = "list"
    OTHER = "other"


class Field(msgspec.Struct, frozen=True, omit_defaults=True):
    """One column."""

    name: str
    dtype: DType
    nullable: bool = True


class Schema(msgspec.Struct, frozen=True):
    """The columns of a table, in order."""

    fields: tuple[Field, ...]

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(field.name for field in self.fields)

    def field(self, name: str) -> Field | None:
        """The field of that name, if there is one."""
        return next((field for field in self.fields if field.name == name), None)
