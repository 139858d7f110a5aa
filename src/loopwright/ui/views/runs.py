"""The table of runs: filtered and ordered by the search language, with the columns that its address names."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from starlette.responses import Response

from loopwright.core import Invalid, NotFound
from loopwright.server import Call
from loopwright.track import Experiment, KeysInUse, Run, RunPage, RunStatus
from loopwright.ui import columns
from loopwright.ui.links import path_to
from loopwright.ui.page import View, json_reply
from loopwright.ui.views.experiments import VIEW_TAG

_PAGE = 100
_LOOKED_AT = 300
_EXPERIMENTS = 1000
_VALUES = 12
_LIVE = ("run", "baseline", "experiment")
_CARRIED = ("filter", "experiment", "order", "view")


async def runs(call: Call) -> View:
    """The table of runs."""
    query = call.request.query_params
    asked = {name: query.get(name, "") for name in _CARRIED}
    chosen = [name for name in query.getlist("column") if columns.column_of(name)]
    problem, found = "", RunPage([])
    try:
        found = await _search(call, asked, query.get("after", ""))
    except (Invalid, NotFound) as error:
        problem = str(error)
    experiments = await call.ask("runs.experiments", limit=_EXPERIMENTS)
    values = {
        **asked,
        **_table(call.scope.project, asked, chosen, found),
        "experiments": experiments,
        "baselines": await _baselines(call, found.runs, experiments),
        "views": _views(call.scope.project, experiments, asked["experiment"]),
        "problem": problem,
        "first": _address(call.scope.project, asked, chosen, asked["order"]) if query.get("after") else "",
    }
    return View("Runs", "runs.html", values, section="runs", live=_LIVE, scripts=("runs.js",))


def _table(project: str, asked: dict[str, str], chosen: list[str], found: RunPage) -> dict[str, Any]:
    """The runs with the columns that were chosen, those that can be, and where each order and the next page are."""
    names = chosen or columns.usual(found.runs, bool(asked["experiment"]))
    by_name = columns.name_column(asked["order"])
    shown = [column for name in names if (column := columns.column_of(name, asked["order"]))]
    ordered = [by_name, *(item for item in shown if item.order)]
    return {
        "runs": found.runs,
        "columns": [by_name, *shown],
        "chosen": chosen,
        "offered": _offered(found.runs, names),
        "orders": {item.name: _address(project, asked, chosen, columns.next_order(item)) for item in ordered},
        "here": _query(asked, chosen),
        "older": _address(project, asked, chosen, asked["order"], found.next) if found.next else "",
    }


async def _search(call: Call, asked: dict[str, str], after: str) -> RunPage:
    order = (asked["order"],) if asked["order"] else ()
    found: RunPage = await call.ask(
        "runs.search_page",
        filter=asked["filter"],
        experiment=asked["experiment"],
        limit=_PAGE,
        after=after,
        order_by=order,
        view=asked["view"] or "active",
    )
    return found


def _query(asked: dict[str, str], chosen: Sequence[str]) -> dict[str, Any]:
    return {**asked, "column": list(chosen)}


def _address(project: str, asked: dict[str, str], chosen: Sequence[str], order: str, after: str = "") -> str:
    return path_to(project, "runs", **{**_query(asked, chosen), "order": order, "after": after})


def _offered(runs: Sequence[Run], names: Sequence[str]) -> dict[str, list[tuple[str, str, bool]]]:
    """The columns to choose from, by entity: name, title, and whether it is shown."""
    found = {"attributes": list(columns.ATTRIBUTES.items())}
    for entity, keys in columns.known(runs).items():
        found[entity] = [(f"{entity}.{key}", key) for key in sorted(keys)]
    return {entity: [(name, title, name in names) for name, title in items] for entity, items in found.items()}


async def _baselines(call: Call, runs: Sequence[Run], experiments: Sequence[Experiment]) -> dict[str, Run]:
    """The pinned run of each experiment on the page, by the experiment's name."""
    names = {run.experiment for run in runs}
    pinned = {item.name: item.baseline for item in experiments if item.baseline and item.name in names}
    return {name: await call.ask("runs.get", run=run) for name, run in pinned.items()}


def _views(project: str, experiments: Sequence[Experiment], chosen: str) -> list[dict[str, str]]:
    """The views that are kept with an experiment: names, tags, and where each leads."""
    tags = next((item.tags for item in experiments if item.name == chosen), {})
    path = path_to(project, "runs")
    return [
        {"name": key.removeprefix(VIEW_TAG), "tag": key, "path": f"{path}?{query.lstrip('?')}"}
        for key, query in tags.items()
        if key.startswith(VIEW_TAG)
    ]


async def words(call: Call) -> Response:
    """What a filter may name: attributes, and all keys of the experiment, those of its newest runs first and with some
    of their values."""
    experiment = call.request.query_params.get("experiment", "")
    found = await call.ask("runs.search", experiment=experiment, limit=_LOOKED_AT)
    every: KeysInUse = await call.ask("runs.keys", experiment=experiment)
    named = {
        entity: {key: columns.identifier(entity, key) for key in dict.fromkeys((*keys, *getattr(every, entity)))}
        for entity, keys in columns.known(found).items()
    }
    values = {
        **{text: _values(run.params.get(key) for run in found) for key, text in named["params"].items()},
        **{text: _values(run.tags.get(key) for run in found) for key, text in named["tags"].items()},
        "status": [status.value for status in RunStatus],
        "kind": _values(run.kind for run in found),
        "actor": _values(run.actor for run in found),
    }
    names = [*columns.SEARCHED, *(text for some in named.values() for text in some.values())]
    numbers = ["started_at", "ended_at", *named["metrics"].values()]
    return json_reply({"identifiers": names, "numbers": numbers, "values": values, "looked_at": len(found)})


def _values(found: Any) -> list[str]:
    """The most common short values."""
    return columns.common(([value] for value in found if value and len(value) <= 60), _VALUES)
