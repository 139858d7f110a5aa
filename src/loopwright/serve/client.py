"""A lean client of the Open Inference Protocol: for replays of many rows, and for one request at a time.

Requests are pipelined over few kept-alive connections; with one connection, the default, they are answered and logged
in the order in which they were given.
"""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import Coroutine, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar
from urllib.parse import quote, urlsplit

import msgspec

from loopwright.core import Invalid, check_name
from loopwright.serve.pipelining import Exchanges, Outcome, PipelineSettings
from loopwright.serve.tls import trusting
from loopwright.serve.wire import Encoder, read_reply, refusal

T = TypeVar("T")


class Inferred(msgspec.Struct, frozen=True):
    """Answers, by row.

    Attributes:
        prediction_ids: "" for a row that was refused, or is not in the log.
        outputs: a list per output; None for a row that was refused.
        variants, models: who answered: the variant's name, and the model version's ref; "" for a refused row.
        errors: why a row was refused, by its number.
    """

    prediction_ids: list[str]
    outputs: dict[str, list[Any]]
    variants: list[str]
    models: list[str]
    errors: dict[int, str]


class Predicted(msgspec.Struct, frozen=True):
    """One answer of our own API.

    Attributes:
        id: of the prediction, for feedback; empty where it is not in the log.
        variant, model: who answered: the variant's name, and the model version's ref.
        explanation: how the answer came about, where that was asked for.
    """

    id: str
    outputs: dict[str, Any]
    variant: str
    model: str
    explanation: dict[str, Any] | None = None


class _Predictions(msgspec.Struct):
    predictions: list[Predicted]


class InferenceClient:
    """Asks an inference server. Thread-safe; use it in a `with`, or close it.

    Owns a thread with an event loop, so that it works wherever it is called from, a notebook's own loop included.
    """

    def __init__(
        self,
        url: str,
        *,
        connections: int = 1,
        pipeline: int = 128,
        timeout_s: float = 30.0,
        retry_s: float = 0.0,
        headers: Mapping[str, str] | None = None,
        authority: Path | None = None,
    ) -> None:
        """Args:
        url: the server's, `http://host:port` or `https://host:port`.
        connections: more than one give up the order of rows.
        pipeline: requests under way per connection.
        timeout_s: how long to wait without any answer.
        retry_s: how long to go on when the server refuses for overload, or is gone, since its last answer. A row whose
            answer was lost is then asked again, and may stand in the log twice.
        headers: sent with every request, such as `authorization`.
        authority: a PEM file of whoever vouches for the server's certificate; by default those that this machine knows.

        Raises:
            Invalid: the URL has another form, or the file cannot be used.
        """
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise Invalid(f"{url!r} is no address of an inference server", next_step="write http://host:port")
        tls = trusting(authority) if parts.scheme == "https" else None
        port = parts.port or (80 if tls is None else 443)
        self.url = url.rstrip("/")
        self._prefix = parts.path.rstrip("/")
        self._headers = {"host": parts.netloc, "content-type": "application/json", **(headers or {})}
        self._exchanges = Exchanges(
            PipelineSettings(parts.hostname, port, connections, pipeline, timeout_s, retry_s, tls)
        )
        self._loop = _new_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="loopwright-inference-client", daemon=True)
        self._thread.start()
        self._turn = threading.Lock()

    def infer_many(
        self,
        endpoint: str,
        columns: Mapping[str, Sequence[Any]],
        keys: Sequence[str] | None = None,
        event_times: Sequence[Any] | None = None,
    ) -> Inferred:
        """Ask one row per request, as many callers would.

        Args:
            endpoint: its name.
            columns: values by input; None or NaN where one is missing.
            keys: what each row is assigned by.
            event_times: when each row happened: aware datetimes, or microseconds since 1970.

        Raises:
            Invalid: the columns have different lengths, or hold values that JSON has not.
            Unavailable: the server cannot be reached, or answers no more.
        """
        encoder = Encoder(columns, keys, event_times)
        head = self._head(endpoint)
        requests = [encoder.row(number, head) for number in range(encoder.rows)]
        return _gathered(self._run(self._exchanges.run(requests)))

    def infer(
        self,
        endpoint: str,
        columns: Mapping[str, Sequence[Any]],
        keys: Sequence[str] | None = None,
        event_times: Sequence[Any] | None = None,
    ) -> Inferred:
        """Ask all rows in one request. Arguments as for `infer_many`.

        Raises:
            Invalid: the server refuses the request.
            NotFound: there is no such endpoint.
            Unavailable: the server cannot be reached, or is overloaded.
        """
        encoder = Encoder(columns, keys, event_times)
        outcome = self._run(self._exchanges.run([encoder.all_rows(self._head(endpoint))]))[0]
        reply = read_reply(outcome.status, outcome.body)
        count = encoder.rows
        return Inferred(
            reply.parameters.prediction_ids,
            reply.columns(count),
            reply.parameters.variants or [reply.parameters.variant] * count,
            reply.parameters.models or [reply.parameters.model] * count,
            {},
        )

    def predict(
        self,
        endpoint: str,
        rows: Sequence[Mapping[str, Any]] = (),
        *,
        keys: Mapping[str, Any] | None = None,
        key: str | Sequence[str] | None = None,
        event_time: Any = None,
        explain: bool = False,
    ) -> list[Predicted]:
        """Ask our own API, which looks features up where the model's bundle says how.

        Args:
            endpoint: its name.
            rows: an object per row with what the caller knows: all inputs, or the entities' keys and the rest.
            keys: those of the entities: one value for all rows, or a list with one per row, by name.
            key: what rows are assigned by.
            event_time: when they happened: an aware datetime, ISO 8601, or microseconds since 1970; by default now.
            explain: whether to tell how each answer came about.

        Raises:
            Invalid: the server refuses the request.
            NotFound: there is no such endpoint, or nothing is known of an entity that must be known.
            Unavailable: the server cannot be reached, is overloaded, or cannot look features up.
        """
        asked = {"rows": list(rows) or None, "keys": keys, "key": key, "event_time": event_time, "explain": explain}
        body = self._post(endpoint, "predict", {name: value for name, value in asked.items() if value is not None})
        return msgspec.json.decode(body, type=_Predictions).predictions

    def feedback(self, endpoint: str, truths: Mapping[str, str | int | float | bool], at: Any = None) -> int:
        """Tell the truth about predictions, by their ids; how many rows the server has put on its disk.

        Args:
            endpoint: the one that answered.
            truths: prediction id -> what is true.
            at: when that became known, an aware datetime; by default now.

        Raises:
            Invalid: an id is malformed; nothing was kept.
            Conflict: the server keeps no log.
            Unavailable: the server cannot be reached, or its disk is full.
        """
        rows = [{"prediction_id": name, "value": value, "at": at} for name, value in truths.items()]
        return int(msgspec.json.decode(self._post(endpoint, "feedback", {"rows": rows}))["accepted"])

    def close(self) -> None:
        """Close the connections and end the thread. A second close does nothing."""
        if not self._thread.is_alive():
            return
        self._loop.call_soon_threadsafe(self._exchanges.close)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def __enter__(self) -> InferenceClient:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        with self._turn:
            return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    def _post(self, endpoint: str, verb: str, body: Any) -> bytes:
        data = msgspec.json.encode(body)
        head = self._head(endpoint, f"/endpoints/{check_name('endpoint', endpoint)}/{verb}")
        [outcome] = self._run(self._exchanges.run([b"%b%d\r\n\r\n%b" % (head, len(data), data)]))
        if outcome.status != 200:
            raise refusal(outcome.status, outcome.body)
        return outcome.body

    def _head(self, endpoint: str, path: str = "") -> bytes:
        """A request's head up to the value of its content-length."""
        path = quote(self._prefix + (path or f"/v2/models/{check_name('endpoint', endpoint)}/infer"))
        lines = "".join(f"{name}: {value}\r\n" for name, value in self._headers.items())
        return f"POST {path} HTTP/1.1\r\n{lines}content-length: ".encode()


def _gathered(outcomes: list[Outcome]) -> Inferred:
    count = len(outcomes)
    ids, variants, models = [""] * count, [""] * count, [""] * count
    outputs: dict[str, list[Any]] = {}
    errors: dict[int, str] = {}
    for number, outcome in enumerate(outcomes):
        if outcome.status != 200:
            errors[number] = outcome.message
            continue
        reply = read_reply(outcome.status, outcome.body)
        parameters = reply.parameters
        ids[number], variants[number], models[number] = (
            parameters.prediction_ids[0],
            parameters.variant,
            parameters.model,
        )
        for tensor in reply.outputs:
            if tensor.name not in outputs:
                outputs[tensor.name] = [None] * count
            outputs[tensor.name][number] = tensor.data if len(tensor.shape) > 1 else tensor.data[0]
    return Inferred(ids, outputs, variants, models, errors)


def _new_loop() -> asyncio.AbstractEventLoop:
    if sys.platform == "win32":
        return asyncio.new_event_loop()
    import uvloop

    return uvloop.new_event_loop()
