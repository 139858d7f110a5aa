"""Experiments, pages of runs and storage from another machine: the same answers, the same refusals."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from tests.server.conftest import Running

from loopwright.core import Conflict, Forbidden, Invalid, NotFound, Scope
from loopwright.server import RemoteWorkspace
from loopwright.server.run import services_of
from loopwright.store import Stores
from loopwright.workspace import Workspace


@pytest.fixture
def services(stores: Stores) -> dict[str, tuple[type, Callable[[Scope], Any]]]:
    """All rooms of a workspace, instead of the shelf."""
    return services_of(Workspace(stores, Scope()))


def test_experiments_and_runs_live_the_same_life_from_afar(server: Running) -> None:
    with RemoteWorkspace(server.url, server.tokens["root"]) as ws:
        made = ws.experiments.create("far", {"team": "ops"})
        runs = [ws.runs.start("far", params={"n": str(number)}).id for number in range(3)]
        first = ws.runs.search_page("params.n LIKE '%'", limit=2, order_by=("params.n DESC",))
        rest = ws.runs.search_page("params.n LIKE '%'", limit=2, order_by=("params.n DESC",), after=first.next)
        assert [run.id for run in (*first.runs, *rest.runs)] == runs[::-1]
        assert ws.experiments.search("tags.team = 'ops'").experiments == [ws.experiments.get(made.id)]
        assert ws.experiments.find("nowhere") is None
        with pytest.raises(Invalid, match="page token"):
            ws.runs.search_page(after="tampered")
        with pytest.raises(Conflict, match="already"):
            ws.experiments.create("far")
        ws.experiments.delete("far")
        assert ws.runs.search(experiments=[made.id]) == []
        assert len(ws.runs.search(experiments=[made.id], view="deleted")) == 3
        ws.storage.hold(f"run:{runs[0]}", "case")
        found = ws.storage.gc(older_than_days=0.0)
        assert (found.runs, [item.ref for item in found.kept]) == (2, [f"run:{runs[0]}"])
        with pytest.raises(NotFound):
            ws.runs.get(runs[1])
        ws.experiments.restore(made.id)
        assert [run.id for run in ws.runs.search("")] == [runs[0]]


def test_garbage_and_holds_are_an_admins_affair(server: Running) -> None:
    with RemoteWorkspace(server.url, server.tokens["editor"]) as ws:
        for ask in (lambda: ws.storage.gc(), lambda: ws.storage.hold("project:default", "x")):
            with pytest.raises(Forbidden):
                ask()
        ws.experiments.create("mine")
    with RemoteWorkspace(server.url, server.tokens["viewer"]) as ws:
        assert ws.storage.holds() == []
        with pytest.raises(Forbidden):
            ws.experiments.delete("mine")
