"""`/invocations`: what MLflow's model server and SageMaker's containers answer, beside `/ping` and their kin.

https://mlflow.org/docs/latest/genai/serving (inputs of MLflow's server) and
https://docs.aws.amazon.com/sagemaker/latest/dg/your-algorithms-inference-code.html. What boto3's `sagemaker-runtime`
sends to an address of its own choice (`/endpoints/NAME/invocations`) is answered as well.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from loopwright import __version__
from loopwright.core import Invalid, LoopwrightError
from loopwright.serve.intake import Intake, Rows
from loopwright.serve.query import Answer
from loopwright.serve.rest.contract import Contract
from loopwright.serve.rest.desk import Desk
from loopwright.serve.rest.http import Exchange
from loopwright.serve.rest.routing import Refusal, Route, Values
from loopwright.serve.rest.tabular import (
    CSV,
    JSON,
    LINES,
    UnsupportedType,
    csv_of,
    lines_of,
    media_type,
    predictions_of,
    read_json,
    rows_of_columns,
    rows_of_csv,
    rows_of_instances,
    rows_of_lines,
    rows_of_records,
    rows_of_split,
)

_PLAIN = b"text/plain; charset=utf-8"
_encode = msgspec.json.encode
_READERS: dict[str, Callable[[Any, Intake], Rows]] = {
    "dataframe_split": rows_of_split,
    "dataframe_records": rows_of_instances,
    "instances": rows_of_instances,
    "inputs": rows_of_columns,
}
_MLFLOW_CODES = {400: "BAD_REQUEST", 404: "RESOURCE_DOES_NOT_EXIST", 415: "BAD_REQUEST", 503: "TEMPORARILY_UNAVAILABLE"}
_AWS_CODES = {400: "ValidationError", 404: "ValidationError", 415: "ValidationError", 503: "ServiceUnavailable"}


class Invocations:
    """Answers MLflow's scoring clients and SageMaker."""

    def __init__(self, desk: Desk, contract: Contract, ready: Callable[[], bool]) -> None:
        """Args:
        ready: whether the process takes requests.
        """
        self._desk, self._contract, self._ready = desk, contract, ready

    def routes(self) -> list[Route]:
        """The rows of the table of routes."""
        rows = [Route("GET", path, self.ping, mlflow_refusal) for path in ("/ping", "/health", *self._contract.health)]
        return [
            *rows,
            Route("GET", "/version", self._version, mlflow_refusal),
            Route("POST", "/invocations", self._invoke, mlflow_refusal),
            Route("POST", "/endpoints/{model}/invocations", self._invoke_aws, aws_refusal),
        ]

    def ping(self, exchange: Exchange, _values: Values) -> None:
        """Whether the process takes requests."""
        exchange.respond(200 if self._ready() else 503, b"\n", _PLAIN)

    def _version(self, exchange: Exchange, _values: Values) -> None:
        exchange.respond(200, __version__.encode(), _PLAIN)

    def _invoke(self, exchange: Exchange, values: Values) -> None:
        self.invoke(exchange, values, mlflow_refusal)

    def _invoke_aws(self, exchange: Exchange, values: Values) -> None:
        self.invoke(exchange, values, aws_refusal)

    def invoke(self, exchange: Exchange, values: Values, refusal: Refusal) -> None:
        """Answer rows in any of the forms that the two take.

        Which model answers is said by the path, by `X-Amzn-SageMaker-Target-Model`, or by `endpoint=` among the
        custom attributes, which may hold `version=` and `key=` too.
        """
        self._desk.plane.admit(exchange.started_ns)
        headers = exchange.headers
        attributes = _attributes(headers.get(b"x-amzn-sagemaker-custom-attributes", b""))
        target = headers.get(b"x-amzn-sagemaker-target-model", b"").decode("utf-8", "replace").strip("/")
        name = values.get("model") or target or attributes.get("endpoint", "") or self._contract.model
        endpoint = self._desk.endpoint(name)
        rows, was_list = _read(self._desk.body(exchange), headers.get(b"content-type", b""), endpoint.intake)
        key = attributes.get("key")
        self._desk.ask(
            exchange,
            endpoint,
            rows,
            _writer(self._accepted(headers.get(b"accept", b"")), was_list),
            refusal,
            version=attributes.get("version", ""),
            keys=None if key is None else [key] * len(rows),
            head=_aws_head,
        )

    def _accepted(self, header: bytes) -> str:
        """The form of the answer: the first that is asked for and known; JSON else."""
        for part in (header or self._contract.accept.encode()).split(b","):
            kind = media_type(part)
            if kind in (CSV, LINES, JSON):
                return kind
        return JSON


def _read(body: bytes, content_type: bytes, intake: Intake) -> tuple[Rows, bool]:
    """The rows, and whether they came as a bare list, which is answered by a bare list.

    Raises:
        UnsupportedType: the body is of a type that is not taken here.
        Invalid: it cannot be read, or does not fit the model.
    """
    kind = media_type(content_type)
    if kind == CSV:
        return rows_of_csv(body, intake), False
    if kind == LINES:
        return rows_of_lines(body, intake), False
    if kind not in (JSON, ""):
        raise UnsupportedType(f"a body of type {kind!r} is not taken here", next_step=f"send {JSON}, {CSV} or {LINES}")
    given = read_json(body)
    if given.__class__ is list:
        return rows_of_instances(given, intake, "the body"), True
    if given.__class__ is not dict:
        raise Invalid("the body is neither a JSON object nor a list")
    return _rows_of_object(given, intake), False


def _rows_of_object(given: dict[str, Any], intake: Intake) -> Rows:
    """The rows of a named form; `params`, which no model here declares, are passed over as by MLflow's server."""
    named = [name for name in _READERS if name in given]
    if len(named) > 1:
        raise Invalid(f"the body has {' and '.join(named)}; it takes one of them")
    if not named and set(given) & set(intake.names):
        return rows_of_records([given], intake)  # one bare record
    unknown = sorted(set(given) - {*_READERS, "params", "signature_name"})
    if not named or unknown:
        fact = f"the body has {', '.join(map(repr, unknown[:20]))}" if unknown else "the body has no rows"
        raise Invalid(fact, next_step=f"send one of {', '.join(_READERS)}")
    return _READERS[named[0]](given[named[0]], intake)


def _writer(accept: str, bare: bool) -> Callable[[Answer], tuple[bytes, bytes]]:
    if accept == CSV:
        return lambda answer: (csv_of(answer), b"text/csv; charset=utf-8")
    if accept == LINES:
        return lambda answer: (lines_of(answer), LINES.encode())
    if bare:
        return lambda answer: (_encode(predictions_of(answer)), JSON.encode())
    return lambda answer: (_encode({"predictions": predictions_of(answer)}), JSON.encode())


def _attributes(header: bytes) -> dict[str, str]:
    """`a=b,c=d` as a mapping; what has another form is somebody else's and left aside."""
    pairs = (part.partition("=") for part in header.decode("utf-8", "replace").split(","))
    return {name.strip(): value.strip() for name, sign, value in pairs if sign}


def _aws_head(answer: Answer) -> bytes:
    """Who answered, and the prediction's id of a single row, where AWS' clients look for it."""
    variant = answer.query.parts[0].loaded.variant.name
    lines = b"x-amzn-invoked-production-variant: %b\r\n" % variant.encode()
    if len(answer.ids) == 1 and answer.ids[0]:
        lines += b"x-amzn-sagemaker-custom-attributes: prediction-id=%b\r\n" % answer.ids[0].encode()
    return lines


def mlflow_refusal(error: LoopwrightError) -> bytes:
    """An error as MLflow's server tells it."""
    return _encode({"error_code": _MLFLOW_CODES.get(error.http_status, "INTERNAL_ERROR"), "message": str(error)})


def aws_refusal(error: LoopwrightError) -> bytes:
    """An error as AWS' clients read it."""
    return _encode({"__type": _AWS_CODES.get(error.http_status, "InternalFailure"), "message": str(error)})
