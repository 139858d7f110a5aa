"""A small workspace in which something of everything has happened, through the real rooms and the real server: data
with bad rows, runs, two model versions, a loop, a first release, a month of predictions with late labels, inputs that
drift and a model that grows worse, an alert, and a rollout under way."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from sklearn.linear_model import LogisticRegression

from loopwright.core import Scope
from loopwright.data import Suite, between, not_null
from loopwright.features import FeatureView
from loopwright.loop import ApprovalPolicy, Controller, Loop, ScoringJob, on_alert
from loopwright.models import build_bundle
from loopwright.monitor import DriftPolicy, Feedback, Monitor, PerformancePolicy
from loopwright.release import Guard, RolloutPlan
from loopwright.serve import InferenceClient
from loopwright.server import Ready, serve_up
from loopwright.track import AssessmentKind, NewAssessment, Span, SpanEvent, SpanStatus
from loopwright.ui import page_routes
from loopwright.workspace import Workspace

BEGIN = datetime(2026, 1, 1, tzinfo=UTC)
DAYS, PER_DAY, DRIFT_DAY = 14, 400, 9
HOSTILE = "<script>alert('x')</script> \"&{{7*7}}"
INPUTS = ["distance", "wind", "carrier_delay"]


def rows(seed: int, count: int = 2000, shift: float = 0.0) -> pl.DataFrame:
    """Flights: whether each is late depends on wind and on what the carrier did before; `shift` makes it windier."""
    random = np.random.default_rng(seed)
    frame = pl.DataFrame(
        {
            "time": [BEGIN + timedelta(minutes=int(m)) for m in random.integers(0, 20_000, count)],
            "carrier": random.choice(["AA", "UA", "B6"], count),
            "distance": random.gamma(3, 300, count).round(0).astype(np.float32),
            "wind": (random.gamma(4, 3, count) + shift).round(1).astype(np.float32),
            "carrier_delay": random.normal(8, 6, count).round(2).astype(np.float32),
        }
    )
    logit = ((frame["wind"] - 12) * 0.25 + (frame["carrier_delay"] - 8) * 0.15).to_numpy()
    return frame.with_columns(late=pl.Series((random.random(count) < 1 / (1 + np.exp(-logit))).astype(np.int64)))


def tell(ws: Workspace) -> None:
    """What happened before the first release."""
    ws.loops.advance_clock(BEGIN)
    table = rows(1).with_columns(wind=pl.when(pl.int_range(pl.len()) % 50 == 0).then(None).otherwise(pl.col("wind")))
    ws.datasets.ingest("flights", table, message="the first month")
    ws.datasets.save_suite(Suite("sane", [not_null("wind"), between("distance", 0, 5000)]))
    ws.datasets.check("dataset:flights@1", "sane")
    ws.datasets.ingest("flights", rows(2, 300), mode="append", message="some more")
    ws.features.apply(FeatureView("weather", "carrier", "flights", "time", ["wind"], ttl=timedelta(hours=6)))
    for number in range(3):
        _run(ws, number)
    with_trouble = ws.runs.start("delay", name=HOSTILE, params={HOSTILE: HOSTILE}, tags={"note": HOSTILE})
    ws.runs.log_artifact(with_trouble.id, b"<script>1</script>", "page 'x' &amp; {{y}}.html")
    ws.runs.finish(with_trouble.id, "failed", error=f"ValueError: {HOSTILE}")
    _trace(ws, with_trouble.id)


def _trace(ws: Workspace, run: str) -> None:
    """A request that looked something up and failed with what it found."""
    begin, second, id = int(BEGIN.timestamp()) * 10**9, 10**9, f"tr-{7:032x}"
    told = {"mlflow.spanInputs": {"question": HOSTILE}, "mlflow.spanOutputs": "late", "mlflow.spanType": "CHAIN"}
    root = Span(trace=id, id=f"{1:016x}", name="ask", started_ns=begin, ended_ns=begin + 4 * second, attributes=told)
    failed = {"exception.type": "ValueError", "exception.message": HOSTILE}
    below = Span(
        trace=id,
        id=f"{2:016x}",
        parent=root.id,
        name=HOSTILE,
        started_ns=begin + second,
        ended_ns=begin + 2 * second,
        status=SpanStatus.ERROR,
        message=HOSTILE,
        attributes={"rows": 3},
        events=(SpanEvent("exception", begin + 2 * second, failed),),
    )
    ws.traces.record_spans("delay", [root, below], tags={"mlflow.traceName": "ask", "team": HOSTILE}, run=run)
    judged = NewAssessment(kind=AssessmentKind.FEEDBACK, name="helpful", content={"value": False}, rationale=HOSTILE)
    ws.traces.assess(id, judged)


def _run(ws: Workspace, number: int) -> None:
    run = ws.runs.start("delay", name=f"logistic-{number}", params={"C": str(10.0**-number), "model": "logistic"})
    random = np.random.default_rng(number)
    for step in range(60):
        ws.runs.log_metrics(run.id, {"loss": 0.7 * 0.96**step + random.normal(0, 0.01)}, step=step)
    train = rows(10 + number)
    model = LogisticRegression(C=10.0**-number).fit(train.select(INPUTS).to_numpy(), train["late"].to_numpy())
    auc = 0.71 + 0.01 * number
    ws.runs.log_metrics(run.id, {"auc": auc})
    ws.runs.log_artifact(run.id, b"# notes\n", "notes/readme.md")
    ws.runs.finish(run.id)
    if number < 2:
        metrics = {"auc": auc, "auc_lower": auc - 0.02, "auc_upper": auc + 0.02, "brier": 0.21}
        bundle = build_bundle(model, train.select(INPUTS), target="late", metrics=metrics)
        refs = ["dataset:flights@1", "dataset:flights@2"][: number + 1]
        ws.models.register("delay", bundle, run=run.id, training_data=refs, description="Will this flight be late?")


def release(ws: Workspace) -> None:
    """The loop, its monitor and the first release."""
    job = ScoringJob(name="nightly", model="endpoint:delay", input="dataset:flights", output="dataset:late")
    ws.scoring_jobs.apply(job)
    ws.loops.apply(
        Loop(
            name="delay",
            endpoint="delay",
            model="delay",
            pipeline="flights:train",
            triggers=(on_alert("delay-daily", "performance"),),
            approval=ApprovalPolicy.PERSON,
            rollout=RolloutPlan(steps=(0.25, 0.5)),
        )
    )
    ws.monitors.apply(
        Monitor(
            name="delay-daily",
            endpoint="delay",
            drift=DriftPolicy(min_rows=200),
            performance=PerformancePolicy(metric="brier", max_drop=0.03, min_labels=200),
            owner="user:ann",
        )
    )
    ws.rollouts.start("delay", "model:delay@1", guard=Guard(duration_s=3600.0))


def replay(ws: Workspace, url: str) -> str:
    """A month of requests through the server, each day's truth a day later; the id of one prediction."""
    waiting: list[Feedback] = []
    with InferenceClient(url, headers={"Loopwright-CSRF": "1"}) as client:
        for day in range(DAYS):
            at = BEGIN + timedelta(days=day)
            drifted = day >= DRIFT_DAY
            frame = rows(100 + day, PER_DAY, shift=6.0 if drifted else 0.0)
            answers = _ask(client, frame, at)
            truth = (1 - frame["late"]) if drifted else frame["late"]
            ws.loops.advance_clock(at + timedelta(days=1))
            if waiting:
                ws.monitors.feedback("delay", waiting)
            waiting = [Feedback(id, value) for id, value in zip(answers, truth.to_list(), strict=True)]
            ws.monitors.advance()
    return answers[0]


def _ask(client: InferenceClient, frame: pl.DataFrame, at: datetime) -> list[str]:
    times = [(at + timedelta(seconds=200 * row)) for row in range(frame.height)]
    keys = [f"flight-{row}" for row in range(frame.height)]
    inferred = client.infer("delay", frame.select(INPUTS).to_dict(as_series=False), keys, times)
    assert not inferred.errors
    return inferred.prediction_ids


def candidate(ws: Workspace) -> None:
    """The second version goes through the loop's gates and waits for a person."""
    ws.loops.release("model:delay@2")
    controller = Controller(ws)
    for _ in range(6):
        controller.tick()
    controller.stop()


@contextmanager
def serving(ws: Workspace, **options: Any) -> Iterator[str]:
    """The whole server, in a thread; its address."""
    ready, stop = threading.Event(), threading.Event()
    told: list[Ready] = []

    def on_ready(found: Ready) -> None:
        told.append(found)
        ready.set()

    def serve() -> None:
        try:
            serve_up(ws, "127.0.0.1", 0, on_ready, extra_routes=page_routes(), stop=stop, **options)
        finally:
            ready.set()

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    assert ready.wait(60)
    assert told, "the server ended before it was ready"
    try:
        yield told[0].url
    finally:
        stop.set()
        thread.join(20)


def whole_story(root: Path, open_stores: Callable[..., Any]) -> tuple[Workspace, str]:
    """A workspace in `root` with everything told, and the id of one prediction."""
    ws = Workspace(open_stores(root), Scope())
    tell(ws)
    release(ws)
    with serving(ws) as url:
        prediction = replay(ws, url)
    candidate(ws)
    return ws, prediction
