"""A replay without HTTP: it assigns, predicts and logs as the inference process does, and sends labels a day later."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import numpy as np
from tests.loop.project import make_rows
from tests.release.world import World

from loopwright.core import new_id
from loopwright.models import Predictor, columns_of
from loopwright.monitor import Feedback, MonitorService
from loopwright.serve import PredictionLog, Record, ServedEndpoint, assign, read_state

PER_DAY = 800


class Replay:
    """Plays days of requests to the endpoint `delay`, in event time."""

    def __init__(self, world: World, start: datetime, *, per_day: int = PER_DAY) -> None:
        self.world, self.now, self.per_day = world, start, per_day
        self._log = PredictionLog(world.stores.data / "journal" / "predictions", fsync_every_s=None)
        self._key = self._log.columns_key(["wind", "traffic"])
        self._predictors: dict[str, Predictor] = {}
        self._waiting: list[tuple[datetime, list[Feedback]]] = []
        self._served = 0

    def day(self, shift: float = 0.0) -> None:
        """Requests of one day, and the labels that became known during it."""
        endpoint = self._endpoint()
        rows = make_rows(self.per_day, seed=10_000 + self._served, shift=shift)
        labels = rows["late"].to_list()
        variants = [assign(endpoint.salt, f"{self._served}-{row}", endpoint.variants) for row in range(self.per_day)]
        chances = {
            each.model: self._predictor(each.model).predict(self._columns(rows, each.model)) for each in variants
        }
        records, feedback = [], []
        for row, (variant, values) in enumerate(zip(variants, rows.select("wind", "traffic").rows(), strict=True)):
            identifier = new_id()
            at = self.now + timedelta(days=row / self.per_day)
            chance = float(chances[variant.model]["probability"][row])
            records.append(self._record(identifier, endpoint, variant, at, list(values), chance))
            feedback.append(Feedback(identifier, labels[row]))
        self._log.append(records)
        self.now += timedelta(days=1)
        self._served += 1
        self._send_labels()
        self._waiting.append((self.now + timedelta(hours=23), feedback))

    def close(self) -> None:
        self._log.close()

    def _send_labels(self) -> None:
        due = [rows for at, rows in self._waiting if at <= self.now]
        self._waiting = [(at, rows) for at, rows in self._waiting if at > self.now]
        monitors = MonitorService(self.world.stores, self.world.scope, models=self.world.models)
        for rows in due:
            monitors.feedback("delay", rows)

    @property
    def served(self) -> bool:
        """Whether what is published has a version that answers: the file follows the database's word a moment later."""
        return any(each.name == "delay" and each.variants for each in self._published())

    def _endpoint(self) -> ServedEndpoint:
        return next(each for each in self._published() if each.name == "delay")

    def _published(self) -> tuple[ServedEndpoint, ...]:
        return tuple(read_state(self.world.stores.data / "serving" / "state.json").endpoints)

    def _predictor(self, model: str) -> Predictor:
        if model not in self._predictors:
            self._predictors[model] = self.world.models.bundle(model).predictor()
        return self._predictors[model]

    def _columns(self, rows: Any, model: str) -> dict[str, np.ndarray[Any, Any]]:
        return columns_of(rows, self._predictor(model).signature)

    def _record(
        self, identifier: str, endpoint: ServedEndpoint, variant: Any, at: datetime, features: list[Any], chance: float
    ) -> Record:
        micros = int(at.timestamp() * 1_000_000)
        return Record(
            id=identifier,
            endpoint=endpoint.name,
            variant=variant.name,
            model=variant.model,
            event_time=micros,
            received_at=micros,
            key=identifier,
            columns=self._key,
            features=features,
            outputs={"label": int(chance >= 0.5), "probability": chance},
            latency_us=400,
            rollout=endpoint.rollout,
        )
