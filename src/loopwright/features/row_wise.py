"""Does an expression look at one row only? Then batch, push and a single request compute the same with it.

Polars answers this for functions, but overlooks an aggregate inside another function and cannot answer for operators
whose meaning depends on types. So the tree is walked here by an allow-list, and Polars is asked function by function.
"""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:
    import polars as pl

_LEAVES = {"Column", "Literal"}
_OPERATORS = {"BinaryExpr": ("left", "right"), "Ternary": ("predicate", "truthy", "falsy"), "Cast": ("expr",)}


def is_row_wise(expression: pl.Expr) -> bool:
    """Whether the value in a row depends on that row alone."""
    return _row_wise(msgspec.json.decode(expression.meta.serialize(format="json")))


def _row_wise(node: Any) -> bool:
    if not isinstance(node, dict) or len(node) != 1:
        return False
    ((kind, body),) = node.items()
    if kind in _LEAVES:
        return True
    if kind == "Alias":
        return _row_wise(body[0])
    if kind == "Eval":
        return _row_wise(body["expr"])
    if kind in _OPERATORS:
        return all(_row_wise(body[part]) for part in _OPERATORS[kind])
    return kind == "Function" and all(_row_wise(part) for part in body["input"]) and _separable(body)


def _separable(function: dict[str, Any]) -> bool:
    """Whether one function, taken over plain columns, works row by row."""
    import polars as pl

    if isinstance(function["function"], dict) and "Sql" in function["function"]:
        return True  # a scalar operator of SQL text whose rule depends on types; SQL's aggregates are other nodes
    inputs = [
        part if "Literal" in part else {"Column": f"input{place}"} for place, part in enumerate(function["input"])
    ]
    alone = msgspec.json.encode({"Function": {**function, "input": inputs}})
    try:
        return bool(pl.Expr.deserialize(io.BytesIO(alone), format="json").meta.is_row_separable())
    except pl.exceptions.PolarsError:
        return False
