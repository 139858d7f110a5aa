"""Metrics, params and tags over MLflow's protocol: the hot paths.

Everything that is logged goes through one intake, which puts what is waiting into one transaction; the reply is sent
when that is committed, so what was acknowledged is durable.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from loopwright.core import Invalid, NotFound
from loopwright.server.protocols.mlflow import wire
from loopwright.server.protocols.mlflow.endpoint import Answer, Endpoint, Rooms, ask
from loopwright.server.protocols.mlflow.records import LAST_MS, MAX_TEXT, RUN_NAME, Pair, cut_texts, moment
from loopwright.server.protocols.mlflow.turns import Intake, Turns
from loopwright.server.route import AtOnce, Call, Done
from loopwright.track import Batch, LoggedMetric, Mixed, TimedPoint, mixed

R = TypeVar("R", bound=wire.Request)
BASE = "/api/2.0/mlflow/runs"
_COLUMNS_FROM = 256
MAX_METRICS, MAX_PARAMS, MAX_TAGS, MAX_TOGETHER = 1000, 100, 100, 1000
"""A longer param or tag is cut: MLflow's own server cuts at 6,000 and 8,000 characters, and clients count on it."""


class LogMetric(wire.Request, frozen=True):
    run_id: str
    key: str
    value: float
    timestamp: int
    step: int = 0
    model_id: str = ""
    dataset_name: str = ""
    dataset_digest: str = ""


class LogParam(wire.Request, frozen=True):
    run_id: str
    key: str
    value: str = ""


class SetTag(wire.Request, frozen=True):
    run_id: str
    key: str
    value: str = ""


class DeleteTag(wire.Request, frozen=True):
    run_id: str
    key: str


class Point(wire.Request, frozen=True):
    key: str
    value: float
    timestamp: int
    step: int = 0
    model_id: str = ""
    dataset_name: str = ""
    dataset_digest: str = ""


class LogBatch(wire.Request, frozen=True):
    run_id: str
    metrics: list[Point] = []
    params: list[Pair] = []
    tags: list[Pair] = []


def endpoints(intake: Intake) -> tuple[Endpoint, ...]:
    """The endpoints that log, over an intake."""
    log = _Log(intake)
    return (
        _logging("log-metric", LogMetric, log.log_metric, log.at_once(LogMetric, log.metric)),
        _logging("log-batch", LogBatch, log.log_batch, log.at_once(LogBatch, log.batch)),
        _logging("log-parameter", LogParam, log.log_param, log.at_once(LogParam, log.param)),
        _logging("set-tag", SetTag, log.set_tag, log.at_once(SetTag, log.tag)),
        Endpoint("POST", f"{BASE}/delete-tag", "runs:write", DeleteTag, _delete),
    )


class _Log:
    """What the requests ask to be stored, and its storing."""

    def __init__(self, intake: Intake) -> None:
        self._intake, self._turns = intake, Turns(intake)

    def metric(self, project: str, asked: LogMetric) -> Batch:
        return self._intake.batch(project, asked.run_id, [_point(asked)], {}, {})

    def param(self, project: str, asked: LogParam) -> Batch:
        return self._intake.batch(project, asked.run_id, (), {asked.key: asked.value[:MAX_TEXT]}, {})

    def tag(self, project: str, asked: SetTag) -> Batch:
        return self._intake.batch(project, asked.run_id, (), {}, {asked.key: asked.value[:MAX_TEXT]})

    def batch(self, project: str, asked: LogBatch) -> Batch:
        check_batch(asked)
        params, tags = cut_texts(asked.params), cut_texts(asked.tags)
        return self._intake.batch(project, asked.run_id, _points(asked.metrics), params, tags)

    async def log_metric(self, call: Call, asked: LogMetric) -> None:
        await self._turns.store(self.metric(call.scope.project, asked))
        await _measure(call, asked.run_id, [asked])

    async def log_param(self, call: Call, asked: LogParam) -> None:
        await self._turns.store(self.param(call.scope.project, asked))

    async def set_tag(self, call: Call, asked: SetTag) -> None:
        await self._turns.store(self.tag(call.scope.project, asked))
        await _rename(call, asked.run_id, {asked.key: asked.value})

    async def log_batch(self, call: Call, asked: LogBatch) -> None:
        await self._turns.store(self.batch(call.scope.project, asked))
        await _measure(call, asked.run_id, asked.metrics)
        await _rename(call, asked.run_id, cut_texts(asked.tags))

    def at_once(self, kind: type[R], made: Callable[[str, R], Batch]) -> AtOnce:
        """The short way of an endpoint, for requests that ask for nothing but to be stored."""

        def store(project: str, body: bytes, done: Done) -> bool:
            try:
                asked = wire.decode(kind, body)
                stored = None if _is_more(asked) else made(project, asked)
            except Invalid:
                return False
            if stored is not None:
                self._turns.put(stored, done)
            return stored is not None

        return store


async def _delete(call: Call, asked: DeleteTag) -> None:
    await ask(call, lambda rooms: _delete_tag(rooms, asked))


def _logging(name: str, kind: type[wire.Request], answer: Answer, at_once: AtOnce) -> Endpoint:
    return Endpoint("POST", f"{BASE}/{name}", "runs:write", kind, answer, at_once)


def _is_more(asked: wire.Request) -> bool:
    """Whether more is to be done than to store it with the run: see `_measure` and `_rename`."""
    match asked:
        case LogBatch():
            return any(item.model_id for item in asked.metrics) or any(pair.key == RUN_NAME for pair in asked.tags)
        case LogMetric():
            return bool(asked.model_id)
        case SetTag():
            return asked.key == RUN_NAME
    return False


def check_batch(batch: LogBatch) -> None:
    """Hold the limits that clients split their batches by.

    Raises:
        Invalid: the batch holds too much, or one param twice.
    """
    together = len(batch.metrics) + len(batch.params) + len(batch.tags)
    for noun, count, limit in (
        ("metrics", len(batch.metrics), MAX_METRICS),
        ("params", len(batch.params), MAX_PARAMS),
        ("tags", len(batch.tags), MAX_TAGS),
        ("metrics, params, and tags", together, MAX_TOGETHER),
    ):
        if count > limit:
            raise Invalid(
                f"A batch logging request can contain at most {limit} {noun}. Got {count} {noun}. "
                f"Please split up {noun} across multiple requests and try again."
            )
    keys = [pair.key for pair in batch.params]
    doubled = [key for number, key in enumerate(keys) if key in keys[:number]]
    if doubled:
        raise Invalid(
            f"Duplicate parameter keys have been submitted: {doubled}. Please ensure the request contains only one "
            "param value per param key."
        )


def _point(given: Point | LogMetric) -> TimedPoint:
    at_ms = given.timestamp
    if not 0 <= at_ms <= LAST_MS:
        moment("timestamp", at_ms)
    return TimedPoint(given.key, given.value, given.step, at_ms * 1000)


def _points(given: Sequence[Point]) -> Sequence[TimedPoint] | Mixed:
    """Points in the form that the intake takes fastest: a few as they are, many as columns."""
    if len(given) < _COLUMNS_FROM:
        return [_point(item) for item in given]
    times_us = []
    for item in given:
        if not 0 <= item.timestamp <= LAST_MS:
            moment("timestamp", item.timestamp)
        times_us.append(item.timestamp * 1000)
    return mixed([item.key for item in given], [item.step for item in given], times_us, [item.value for item in given])


async def _measure(call: Call, run_id: str, given: Sequence[Point | LogMetric]) -> None:
    """What was measured of a logged model is noted with that model, too."""
    found: dict[str, list[LoggedMetric]] = {}
    for item in given:
        if item.model_id:
            at = moment("timestamp", item.timestamp)
            point = LoggedMetric(item.key, item.value, item.step, at, run_id, item.dataset_name, item.dataset_digest)
            found.setdefault(item.model_id, []).append(point)
    if found:
        await ask(call, lambda rooms: rooms.logged_models.log_many(found))


def _delete_tag(rooms: Rooms, asked: DeleteTag) -> None:
    if asked.key not in rooms.runs.get(asked.run_id).tags:
        raise NotFound(f"No tag with name: {asked.key[:250]} in run with id {asked.run_id}")
    rooms.runs.delete_tag(asked.run_id, asked.key)


async def _rename(call: Call, run_id: str, tags: dict[str, str]) -> None:
    """MLflow keeps a run's name as a tag as well; setting the tag gives the run the name."""
    name = tags.get(RUN_NAME, "")
    if name:
        await ask(call, lambda rooms: rooms.runs.update(run_id, name))
