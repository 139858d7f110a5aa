"""The columns of the table of runs: which there are, how one is sorted by, what stands in a cell. Pure functions."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec

from loopwright.track import Run

ATTRIBUTES = {
    "status": "state",
    "experiment": "experiment",
    "started_at": "began",
    "seconds": "took",
    "ended_at": "ended",
    "actor": "by",
    "kind": "kind",
    "parent": "part of",
    "id": "id",
}
SEARCHED = ("name", "status", "started_at", "ended_at", "actor", "kind", "parent", "id")
"""The attributes that a filter can name."""
_SORTABLE = frozenset({"status", "started_at", "ended_at", "actor", "kind", "id"})
_ENTITIES = ("metrics", "params", "tags")
_COMPANIONS = ("_lower", "_upper", "_n")
_WORD = re.compile(r"[^\W\d][\w./:\-]*")
_QUIET = ("mlflow.", "system/", "loopwright.")


class Column(msgspec.Struct, frozen=True):
    """A column: `name` as in an address (`metrics.auc`, `status`), what it is headed, and how it is ordered by.

    `order` is empty where runs cannot be ordered by it; `sorted` is "asc", "desc" or empty.
    """

    name: str
    title: str
    entity: str
    key: str
    order: str = ""
    sorted: str = ""

    @property
    def is_number(self) -> bool:
        """Whether its cells are numbers."""
        return self.entity == "metrics" or self.name == "seconds"


def identifier(entity: str, key: str) -> str:
    """A key as the search language writes it: plain where it can be, else in backticks or quotes."""
    if _WORD.fullmatch(key):
        return f"{entity}.{key}"
    if "`" not in key:
        return f"{entity}.`{key}`"
    doubled = key.replace('"', '""')
    return f'{entity}."{doubled}"'


def column_of(name: str, order: str = "") -> Column | None:
    """The column of a name in an address; None where there is none. `order` is the order of the page."""
    entity, dot, key = name.partition(".")
    if not dot:
        by = name if name in _SORTABLE else ""
        return Column(name, ATTRIBUTES[name], "attributes", name, by, _way(by, order)) if name in ATTRIBUTES else None
    if entity not in _ENTITIES or not key:
        return None
    by = identifier(entity, key)
    return Column(name, key, entity, key, by, _way(by, order))


def name_column(order: str) -> Column:
    """The first column, which is always there: the run's name."""
    return Column("name", "run", "attributes", "name", "name", _way("name", order))


def _way(by: str, order: str) -> str:
    if not by or order not in (by, f"{by} DESC", f"{by} ASC"):
        return ""
    return "desc" if order.endswith(" DESC") else "asc"


def next_order(column: Column) -> str:
    """What a click on a column's head orders by: first the way that one looks for in it, then the other, then none."""
    first = "desc" if column.is_number or column.name in ("started_at", "ended_at") else "asc"
    if column.sorted == first:
        return f"{column.order} {'ASC' if first == 'desc' else 'DESC'}"
    return "" if column.sorted else f"{column.order} {first.upper()}"


def cell_of(run: Run, column: Column) -> Any:
    """What a run has in a column: a text, a number, a time, or None."""
    if column.entity == "attributes":
        return getattr(run, column.key) or None
    if column.entity == "metrics":
        return run.metrics.get(column.key, run.not_finite.get(column.key))
    return (run.params if column.entity == "params" else run.tags).get(column.key)


def delta_of(run: Run, column: Column, baselines: Mapping[str, Run]) -> float | None:
    """How far a run's metric is from that of the baseline of its experiment; None where there is nothing to say."""
    baseline = baselines.get(run.experiment)
    if column.entity != "metrics" or baseline is None or baseline.id == run.id:
        return None
    value, reference = run.metrics.get(column.key), baseline.metrics.get(column.key)
    return None if value is None or reference is None else value - reference


def usual(runs: Sequence[Run], one_experiment: bool) -> list[str]:
    """The columns that a table has as long as nobody chose others."""
    attributes = ["status", *([] if one_experiment else ["experiment"]), "started_at", "seconds"]
    metrics = common((plain_metrics(run.metrics) for run in runs), 5)
    params = common((run.params for run in runs), 5)
    return [*attributes, *(f"metrics.{key}" for key in metrics), *(f"params.{key}" for key in params)]


def known(runs: Sequence[Run]) -> dict[str, list[str]]:
    """The keys that these runs have, most common first, by entity."""
    return {
        "metrics": common((run.metrics for run in runs), 500),
        "params": common((run.params for run in runs), 500),
        "tags": common((run.tags for run in runs), 500),
    }


def plain_metrics(metrics: Mapping[str, float]) -> list[str]:
    """The metrics that are no bounds or counts of others, and none of the machine's."""
    companions = {f"{key}{tail}" for key in metrics for tail in _COMPANIONS}
    return [key for key in metrics if key not in companions and not key.startswith(_QUIET)]


def common(found: Iterable[Iterable[str]], limit: int) -> list[str]:
    """The keys that most of the runs have."""
    counts: dict[str, int] = {}
    for item in found:
        for key in item:
            counts[key] = counts.get(key, 0) + 1
    return sorted(counts, key=lambda key: (-counts[key], key))[:limit]
