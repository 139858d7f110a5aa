"""Predictions as they come from the journal, turned into columns."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from loopwright.serve import Prediction

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
FAILED = "error"
SLOT_US = 900 * 1_000_000  # the grain of the sums that rollouts are judged by


@dataclass(frozen=True, slots=True)
class Group:
    """Predictions of one version on one endpoint that carry the same features. Times in microseconds since 1970."""

    endpoint: str
    model: str
    shadow: bool
    rows: Sequence[Prediction]
    event_us: NDArray[np.int64]
    latency_ms: NDArray[np.float64]
    failed: NDArray[np.bool_]
    features: dict[str, tuple[Any, ...]]

    def __len__(self) -> int:
        return len(self.rows)


def group(predictions: Iterable[Prediction]) -> list[Group]:
    """Predictions by endpoint, version and features, each group in the order of the journal."""
    found: dict[tuple[str, str, bool, tuple[str, ...]], list[Prediction]] = {}
    for prediction in predictions:
        key = (prediction.endpoint, prediction.model, prediction.shadow, tuple(prediction.columns))
        found.setdefault(key, []).append(prediction)
    return [_group(key, rows) for key, rows in found.items()]


def _group(key: tuple[str, str, bool, tuple[str, ...]], rows: list[Prediction]) -> Group:
    import numpy as np

    endpoint, model, shadow, names = key
    columns = zip(*(row.features for row in rows), strict=True) if names else ()
    return Group(
        endpoint=endpoint,
        model=model,
        shadow=shadow,
        rows=rows,
        event_us=np.array([row.event_time for row in rows], dtype=np.int64),
        latency_ms=np.array([row.latency_us for row in rows], dtype=np.float64) / 1000.0,
        failed=np.array([row.status == FAILED for row in rows], dtype=np.bool_),
        features=dict(zip(names, columns, strict=True)),
    )


def microseconds(at: datetime) -> int:
    """Whole microseconds since 1970."""
    return (at - EPOCH) // timedelta(microseconds=1)


def moment(us: int) -> datetime:
    """The time at so many microseconds since 1970."""
    return EPOCH + timedelta(microseconds=int(us))
