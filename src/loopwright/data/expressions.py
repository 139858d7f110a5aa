"""Polars expressions as text that can be kept: only what Polars itself computes, never a Python function."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from loopwright.core import Invalid

if TYPE_CHECKING:
    import polars as pl

# Reading these back would run foreign code: pickled Python functions, and native plug-ins loaded from a path.
_FOREIGN = ("Anonymous", "Python", "Plugin", "Pickle")
_SHORT = 8
_ARROW = [255, 255, 255, 255]
_ADVICE = "write it with Polars expressions, or as SQL text"


def freeze(expression: pl.Expr | str) -> str:
    """An expression as text: SQL text as it is, a Polars expression as its JSON form.

    Raises:
        Invalid: it calls a Python function, or the SQL is malformed.
    """
    if isinstance(expression, str):
        thaw(expression)
        return expression
    text = expression.meta.serialize(format="json")
    _refuse_foreign(text, str(expression))
    return str(text)


def thaw(text: str) -> pl.Expr:
    """The expression behind `freeze`, or behind SQL text such as `arr_time > dep_time`.

    Raises:
        Invalid: it is neither, or it calls a Python function.
    """
    import io

    import polars as pl

    if not text.startswith(("{", '"')):
        try:
            return pl.sql_expr(text)
        except pl.exceptions.PolarsError as error:
            raise Invalid(f"{text!r} is not an SQL expression: {error}", next_step="see docs.pola.rs, SQL") from None
    _refuse_foreign(text, text[:80])
    try:
        return pl.Expr.deserialize(io.BytesIO(text.encode()), format="json")
    except pl.exceptions.PolarsError as error:
        raise Invalid(
            f"an expression that was saved by another release of Polars cannot be read by {pl.__version__}: {error}",
            next_step="save it again, or write it as SQL text",
        ) from None


def _refuse_foreign(text: str, shown: str) -> None:
    if _holds_foreign(msgspec.json.decode(text)):
        raise Invalid(f"the expression {shown} calls a Python function, which cannot be kept", next_step=_ADVICE)


def _holds_foreign(node: Any) -> bool:
    if isinstance(node, dict):
        return any(any(word in key for word in _FOREIGN) or _holds_foreign(value) for key, value in node.items())
    if not isinstance(node, list):
        return False
    # Wherever Polars keeps a Python function, it is pickled to a list of bytes; literal columns are Arrow's bytes.
    if len(node) > _SHORT and node[:4] != _ARROW and all(type(value) is int for value in node):
        return True
    return any(_holds_foreign(value) for value in node if isinstance(value, dict | list))
