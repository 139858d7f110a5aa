"""Azure ML: `/score`, and `/` as the sign of life, as its inference server has them.

https://learn.microsoft.com/azure/machine-learning/how-to-inference-server-http. A request has `input_data`, as Azure ML
asks MLflow models, or `data`; an answer is a list with an item per row.
"""

from __future__ import annotations

from typing import Any

import msgspec

from loopwright.core import Invalid, LoopwrightError
from loopwright.serve.intake import Intake, Rows
from loopwright.serve.rest.contract import Contract
from loopwright.serve.rest.desk import Desk
from loopwright.serve.rest.http import Exchange
from loopwright.serve.rest.responses import JSON
from loopwright.serve.rest.routing import Route, Values
from loopwright.serve.rest.tabular import predictions_of, read_json, rows_of_columns, rows_of_instances, rows_of_split

_PLAIN = b"text/plain; charset=utf-8"
_encode = msgspec.json.encode


class AzureMl:
    """Answers Azure ML."""

    def __init__(self, desk: Desk, contract: Contract) -> None:
        self._desk, self._contract = desk, contract

    def routes(self) -> list[Route]:
        """The rows of the table of routes."""
        return [Route("GET", "/", _alive, refusal), Route("POST", "/score", self._score, refusal)]

    def _score(self, exchange: Exchange, _values: Values) -> None:
        self._desk.plane.admit(exchange.started_ns)
        endpoint = self._desk.endpoint(self._contract.model)
        rows = _rows(read_json(self._desk.body(exchange)), endpoint.intake)
        self._desk.ask(exchange, endpoint, rows, lambda answer: (_encode(predictions_of(answer)), JSON), refusal)


def _alive(exchange: Exchange, _values: Values) -> None:
    exchange.respond(200, b"Healthy", _PLAIN)


def _rows(given: Any, intake: Intake) -> Rows:
    """The rows in `input_data`, `data` or `inputs`: a split frame, a list with an item per row, or lists by input."""
    if given.__class__ is not dict or not isinstance(given, dict):
        return rows_of_instances(given, intake, "the body")
    name = next((name for name in ("input_data", "data", "inputs") if name in given), "")
    if not name:
        raise Invalid("the body has no rows", next_step='send {"input_data": {"columns": [...], "data": [[...]]}}')
    rows = given[name]
    if rows.__class__ is dict and "data" in rows and "data" not in intake.positions:
        return rows_of_split(rows, intake)
    return rows_of_columns(rows, intake, name)


def refusal(error: LoopwrightError) -> bytes:
    """An error as Azure ML's scoring clients read it."""
    return _encode({"error": {"code": error.code, "message": str(error)}})
