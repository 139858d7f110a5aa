"""Lineage down to single predictions: the graph of the store, joined with the prediction log."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Literal

import msgspec
from sqlalchemy import func, select

from loopwright.core import NotFound, Scope, operation, parse_ref
from loopwright.monitor import lookup
from loopwright.monitor.batches import SLOT_US
from loopwright.monitor.model import PredictionRecord, PredictionSummary, PredictionUse, TraceReport
from loopwright.monitor.tables import prediction_slots
from loopwright.store import Edge, Node, Stores, Trace

PREDICTED = "predicted"
_SHOWN = 10
_MODELS = 200
_MAX_PAGE = 10_000

Way = Literal["up", "down"]


class TraceService:
    """What came from what, in one project: from a prediction up to data and code, from data down to predictions."""

    def __init__(self, stores: Stores, scope: Scope) -> None:
        self.stores, self.scope = stores, scope

    @operation("lineage.trace", permission="lineage:read")
    def trace(self, ref: str, direction: Way = "up", depth: int = 64) -> TraceReport:
        """Walk the lineage of a ref: to what it was made from (`up`), or to what was made from it (`down`).

        Upwards a prediction leads to the version that made it and from there to runs, data, features, code and
        environment. Downwards each model version that is reached leads to its predictions: how many, and the newest.

        Args:
            ref: any ref; of a dataset or model the newest version if none is named.
            depth: how many steps to go at most.

        Raises:
            NotFound: nothing is known of the ref.
            Invalid: it is malformed.
        """
        pinned = self._pinned(ref)
        if pinned.startswith("prediction:"):
            return self._from_prediction(pinned, direction, depth)
        walked = self.stores.lineage.trace(pinned, direction, depth=depth, project=self.scope.project)
        report = _report(walked)
        return report if direction == "up" else self._with_predictions(report)

    @operation("lineage.predictions", permission="lineage:read")
    def predictions(self, ref: str, limit: int = 100, after: str = "") -> list[PredictionSummary]:
        """The predictions that rest on a ref (a dataset version, a run, a model version, ...), newest first.

        Args:
            ref: what they rest on.
            limit: how many at most.
            after: the last id of the page before.

        Raises:
            NotFound: nothing is known of the ref.
        """
        models = self._models_below(self._pinned(ref))
        return lookup.of_models(self.stores, self.scope.project, models, min(limit, _MAX_PAGE), after)

    def _pinned(self, ref: str) -> str:
        """The ref with a version number, where datasets and models have one."""
        parsed = parse_ref(ref)
        if parsed.kind == "model" and parsed.version is None:
            from loopwright.models import ModelService

            return ModelService(self.stores, self.scope).resolve(ref)
        if parsed.kind == "dataset" and parsed.version is None:
            from loopwright.data import DatasetService

            return DatasetService(self.stores, self.scope).get(ref).ref
        return str(parsed)

    def _from_prediction(self, ref: str, direction: Way, depth: int) -> TraceReport:
        record = lookup.find(self.stores, self.scope.project, ref)
        node = _prediction_node(record)
        if direction == "down":
            return TraceReport(root=ref, direction=direction, nodes=[node], edges=[], prediction=record)
        walked = self._walk_up(record.model, depth - 1)
        edge = Edge(record.model, ref, PREDICTED)
        return TraceReport(
            root=ref,
            direction=direction,
            nodes=[node, *walked.nodes],
            edges=[edge, *walked.edges],
            truncated=walked.truncated,
            prediction=record,
        )

    def _walk_up(self, model: str, depth: int) -> Trace:
        try:
            return self.stores.lineage.trace(model, "up", depth=depth, project=self.scope.project)
        except NotFound:  # served from outside the registry: the prediction is still worth showing
            return Trace(model, "up", [Node(model, kind="model")], [])

    def _models_below(self, ref: str) -> list[str]:
        if ref.startswith("model:"):
            return [ref]
        walked = self.stores.lineage.trace(ref, "down", project=self.scope.project)
        return [node.ref for node in walked.nodes if node.ref.startswith("model:")]

    def _with_predictions(self, report: TraceReport) -> TraceReport:
        models = [node.ref for node in report.nodes if node.ref.startswith("model:")][:_MODELS]
        uses = self._uses(models)
        used = [use.model for use in uses]
        newest = lookup.of_models(self.stores, self.scope.project, used, _SHOWN) if used else []
        return msgspec.structs.replace(
            report,
            uses=uses,
            nodes=[*report.nodes, *(_summary_node(one) for one in newest)],
            edges=[*report.edges, *(Edge(one.model, f"prediction:{one.id}", PREDICTED) for one in newest)],
        )

    def _uses(self, models: Sequence[str]) -> list[PredictionUse]:
        """How much each version predicted, by endpoint."""
        table = prediction_slots
        query = (
            select(
                table.c.model,
                table.c.endpoint,
                func.sum(table.c.rows).label("rows"),
                func.min(table.c.start).label("first"),
                func.max(table.c.start).label("last"),
            )
            .where(table.c.project == self.scope.project, table.c.model.in_(list(models)))
            .group_by(table.c.model, table.c.endpoint)
            .order_by(table.c.model, table.c.endpoint)
        )
        slot = timedelta(microseconds=SLOT_US)
        with self.stores.db.read() as connection:
            rows = connection.execute(query).all()
        return [PredictionUse(row.model, row.endpoint, int(row.rows), row.first, row.last + slot) for row in rows]


def _report(walked: Trace) -> TraceReport:
    return TraceReport(
        root=walked.root,
        direction=walked.direction,
        nodes=walked.nodes,
        edges=walked.edges,
        truncated=walked.truncated,
    )


def _prediction_node(record: PredictionRecord) -> Node:
    attrs = {
        "endpoint": record.endpoint,
        "event_time": record.event_time,
        "outputs": record.outputs,
        "label": record.label,
    }
    return Node(record.ref, kind="prediction", attrs=attrs)


def _summary_node(one: PredictionSummary) -> Node:
    attrs = {"endpoint": one.endpoint, "event_time": one.event_time, "label": one.label}
    return Node(f"prediction:{one.id}", kind="prediction", attrs=attrs)
