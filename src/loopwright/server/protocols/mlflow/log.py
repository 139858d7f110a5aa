"""Metrics, params and tags over MLflow's protocol: the hot paths.

Everything that is logged goes through one intake, which puts what is waiting into one transaction; the reply is sent
when that is committed, so what was acknowledged is durable.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from concurrent.futures import Future
from typing import Protocol

from loopwright.core import Invalid, NotFound
from loopwright.server.protocols.mlflow import wire
from loopwright.server.protocols.mlflow.endpoint import Endpoint, Rooms, ask
from loopwright.server.protocols.mlflow.records import LAST_MS, MAX_TEXT, RUN_NAME, Pair, cut_texts, moment
from loopwright.server.route import Call
from loopwright.track import LoggedMetric, TimedPoint

BASE = "/api/2.0/mlflow/runs"
MAX_METRICS, MAX_PARAMS, MAX_TAGS, MAX_TOGETHER = 1000, 100, 100, 1000
"""A longer param or tag is cut: MLflow's own server cuts at 6,000 and 8,000 characters, and clients count on it."""


class Intake(Protocol):
    """Where points, params and tags of runs are handed in. Thread-safe."""

    def submit(
        self, project: str, run_id: str, points: Sequence[TimedPoint], params: dict[str, str], tags: dict[str, str]
    ) -> Future[None]:
        """A promise that is kept when all of it is durable, or says why none of it was stored."""
        ...


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

    async def submit(
        call: Call, run_id: str, points: Sequence[TimedPoint], params: dict[str, str], tags: dict[str, str]
    ) -> None:
        await asyncio.wrap_future(intake.submit(call.scope.project, run_id, points, params, tags))

    async def log_metric(call: Call, asked: LogMetric) -> None:
        await submit(call, asked.run_id, [_point(asked)], {}, {})
        await _measure(call, asked.run_id, [asked])

    async def log_param(call: Call, asked: LogParam) -> None:
        await submit(call, asked.run_id, (), {asked.key: asked.value[:MAX_TEXT]}, {})

    async def set_tag(call: Call, asked: SetTag) -> None:
        await submit(call, asked.run_id, (), {}, {asked.key: asked.value[:MAX_TEXT]})
        await _rename(call, asked.run_id, {asked.key: asked.value})

    async def log_batch(call: Call, asked: LogBatch) -> None:
        check_batch(asked)
        tags = cut_texts(asked.tags)
        await submit(call, asked.run_id, [_point(item) for item in asked.metrics], cut_texts(asked.params), tags)
        await _measure(call, asked.run_id, asked.metrics)
        await _rename(call, asked.run_id, tags)

    async def delete_tag(call: Call, asked: DeleteTag) -> None:
        await ask(call, lambda rooms: _delete_tag(rooms, asked))

    return (
        Endpoint("POST", f"{BASE}/log-metric", "runs:write", LogMetric, log_metric),
        Endpoint("POST", f"{BASE}/log-batch", "runs:write", LogBatch, log_batch),
        Endpoint("POST", f"{BASE}/log-parameter", "runs:write", LogParam, log_param),
        Endpoint("POST", f"{BASE}/set-tag", "runs:write", SetTag, set_tag),
        Endpoint("POST", f"{BASE}/delete-tag", "runs:write", DeleteTag, delete_tag),
    )


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
