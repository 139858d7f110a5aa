"""Rows in the forms that protocols share (records, lists, columns, CSV, JSON lines), and answers in the same. Pure.

A model with one output answers with that output's values; one with several, with a record per row.
"""

from __future__ import annotations

import base64
import binascii
import csv
import io
import json
from collections.abc import Sequence
from typing import Any

import msgspec

from loopwright.core import DType, Invalid, LoopwrightError
from loopwright.serve.column import ABSENT, Column
from loopwright.serve.intake import Intake, Rows
from loopwright.serve.query import Answer

JSON, CSV, LINES = "application/json", "text/csv", "application/jsonlines"
_LINES = frozenset({LINES, "application/x-jsonlines", "application/jsonl", "application/x-ndjson"})
_TRUTH = {"true": True, "false": False, "1": True, "0": False}
_MISSING = frozenset({"", "nan", "null", "none", "na"})
_encode = msgspec.json.encode


class UnsupportedType(LoopwrightError):
    """A body of a type that the route does not take."""

    code, http_status = "unsupported_type", 415


def media_type(header: bytes) -> str:
    """The type in a header such as `text/csv; charset=utf-8`, each form of JSON lines under one name; "" for none."""
    found = header.partition(b";")[0].strip().lower().decode("latin-1")
    return LINES if found in _LINES else found


def read_json(body: bytes) -> Any:
    """The value in a body. NaN, which JSON has not and pandas' users send all the same, is null.

    Raises:
        Invalid: it is no JSON, or holds an infinite number.
    """
    try:
        return msgspec.json.decode(body)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        failure = error
    if b"NaN" in body or b"Infinity" in body:
        try:
            return json.loads(body, parse_constant=_constant)
        except (ValueError, RecursionError) as error:
            failure = error
    raise Invalid(f"the body is no JSON: {failure}") from None


def _constant(word: str) -> None:
    """What Python writes for a number that JSON has not."""
    if word != "NaN":
        raise Invalid(f"the body holds {word}, which no input takes", next_step="write a missing value as null")


def rows_of_instances(instances: Any, intake: Intake, where: str = "instances") -> Rows:
    """Rows from a list with one item per row: a record, a list with a value per input, or the value of the only input.

    Raises:
        Invalid: a value does not fit; the column and the row are named.
    """
    if instances.__class__ is not list or not instances:
        raise Invalid(f"{where!r} takes a list with one item per row", next_step=f"the model takes {_names(intake)}")
    if instances[0].__class__ is dict and set(instances[0]) != {"b64"}:
        return rows_of_records(instances, intake)
    return rows_of_lists(instances, intake)


def rows_of_records(records: Sequence[Any], intake: Intake) -> Rows:
    """Rows from objects with a value per input; null, or no value at all, where one is missing.

    Raises:
        Invalid: an item is no object, an input is unknown, or a value does not fit.
    """
    columns: dict[str, list[Any]] = {}
    for number, record in enumerate(records):
        if record.__class__ is not dict:
            raise Invalid(f"row {number} is no object with a value per input, as row 0 is")
        for name, value in record.items():
            held = columns.get(name)
            if held is None:
                held = columns[name] = [ABSENT] * len(records)
            held[number] = single(value)
    if not columns:
        raise Invalid("the rows have no values", next_step=f"the model takes {_names(intake)}")
    return intake.rows(list(columns.items()))


def rows_of_lists(lists: Sequence[Any], intake: Intake, names: Sequence[str] = ()) -> Rows:
    """Rows from lists with a value per input.

    Args:
        names: the inputs in the order of the values; by default in that of the signature.

    Raises:
        Invalid: a row has another length than there are inputs, or a value does not fit.
    """
    names = names or intake.names
    if intake.shaped and len(names) == 1:  # a row is the value itself, or a list that holds it
        return intake.rows([(names[0], lists)])
    found = []
    for number, row in enumerate(lists):
        given = row if row.__class__ is list else [row]
        if len(given) != len(names):
            raise Invalid(
                f"row {number} has {len(given)} values; the model takes {len(names)}",
                next_step=f"in this order: {', '.join(names)}",
            )
        found.append([single(value) for value in given])
    if not found:
        raise Invalid("there are no rows")
    return intake.rows(list(zip(names, zip(*found, strict=True), strict=True)))


def rows_of_columns(columns: Any, intake: Intake, where: str = "inputs") -> Rows:
    """Rows from an object with a list per input, or from what `rows_of_instances` takes.

    Raises:
        Invalid: an input is unknown or missing, the lists have different lengths, or a value does not fit.
    """
    if columns.__class__ is not dict:
        return rows_of_instances(columns, intake, where)
    if not columns:
        raise Invalid(f"{where!r} has no inputs", next_step=f"the model takes {_names(intake)}")
    given = []
    for name, values in columns.items():
        listed = values if values.__class__ is list else [values]
        if not listed:
            raise Invalid(f"input {name!r} has no rows")
        given.append((name, [single(value) for value in listed]))
    return intake.rows(given)


def rows_of_split(split: Any, intake: Intake) -> Rows:
    """Rows from `{"columns": [...], "data": [[...], ...]}`, as pandas writes a frame; an index is left aside.

    Raises:
        Invalid: it has another form, or a value does not fit.
    """
    data = split.get("data") if split.__class__ is dict else None
    if data.__class__ is not list or not isinstance(data, list):
        raise Invalid("a split frame has the form {'columns': [...], 'data': [[...], ...]}")
    columns = split.get("columns") or ()
    if not all(name.__class__ is str for name in columns):
        columns = ()  # pandas numbers the columns of a frame without names
    return rows_of_lists(data, intake, tuple(columns))


def rows_of_lines(body: bytes, intake: Intake) -> Rows:
    """Rows from JSON lines, each a record, a list, or `{"features": [...]}`.

    Raises:
        Invalid: a line is no JSON, or a value does not fit.
    """
    lines = [read_json(line) for line in body.splitlines() if line.strip()]
    if lines and lines[0].__class__ is dict and set(lines[0]) == {"features"} and "features" not in intake.positions:
        lines = [line.get("features") if line.__class__ is dict else line for line in lines]
    return rows_of_instances(lines, intake, "lines")


def rows_of_csv(body: bytes, intake: Intake) -> Rows:
    """Rows from CSV. The first line is a header if it holds the names of inputs; without one, the order is theirs.

    Raises:
        Invalid: it is no CSV in UTF-8, or a value does not fit.
    """
    try:
        lines = [line for line in csv.reader(io.StringIO(body.decode("utf-8-sig"), newline=""), strict=True) if line]
    except (UnicodeDecodeError, csv.Error) as error:
        raise Invalid(f"the body is no CSV in UTF-8: {error}") from None
    if not lines:
        raise Invalid("the body has no rows", next_step=f"the model takes {_names(intake)}")
    names = [cell.strip() for cell in lines[0]]
    if not set(names) <= set(intake.names):
        return _rows_of_texts(lines, intake, intake.names)
    if len(lines) == 1:
        raise Invalid("the body has a header, and no rows")
    return _rows_of_texts(lines[1:], intake, names)


def single(value: Any) -> Any:
    """A value as a row holds it: out of a list of its own, and out of `{"b64": ...}`.

    Raises:
        Invalid: what is said to be base64 is not, or holds no UTF-8.
    """
    while value.__class__ is list and len(value) == 1:
        value = value[0]
    if value.__class__ is dict and set(value) == {"b64"}:
        try:
            return base64.b64decode(value["b64"], validate=True).decode()
        except (binascii.Error, UnicodeDecodeError, TypeError, ValueError) as error:
            raise Invalid(f"{str(value)[:60]} is no text in base64: {error}") from None
    return value


def predictions_of(answer: Answer) -> list[Any]:
    """A value per row where the model has one output, else a record per row."""
    outputs = answer.outputs
    if len(outputs) == 1:
        return next(iter(outputs.values()))
    names = list(outputs)
    return [dict(zip(names, values, strict=True)) for values in zip(*outputs.values(), strict=True)]


def csv_of(answer: Answer) -> bytes:
    """A line per row, the outputs in their order; lists are written out."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    for values in zip(*answer.outputs.values(), strict=True):
        writer.writerow([item for value in values for item in (value if value.__class__ is list else [value])])
    return text.getvalue().encode()


def lines_of(answer: Answer) -> bytes:
    """A line of JSON per row."""
    return b"".join(_encode(item) + b"\n" for item in predictions_of(answer))


def _rows_of_texts(lines: list[list[str]], intake: Intake, names: Sequence[str]) -> Rows:
    columns = [intake.columns[intake.positions[name]] for name in names]
    for number, line in enumerate(lines):
        if len(line) != len(columns):
            raise Invalid(
                f"row {number} has {len(line)} values; {len(columns)} are due",
                next_step=f"in this order: {', '.join(names)}",
            )
    parsed = [[_of_text(cell, column) for cell, column in zip(line, columns, strict=True)] for line in lines]
    return rows_of_lists(parsed, intake, names)


def _of_text(cell: str, column: Column) -> Any:
    """A cell in the column's type; what cannot be read stays text, which the intake refuses with its place."""
    if column.dtype is DType.STRING:
        return None if cell == "" and column.nullable else cell
    text = cell.strip().lower()
    if text in _MISSING:
        return None
    if column.dtype is DType.BOOL:
        return _TRUTH.get(text, cell)
    try:
        return int(text) if column.is_whole and text.lstrip("+-").isdigit() else float(text)
    except ValueError:
        return cell


def _names(intake: Intake) -> str:
    return ", ".join(intake.names)
