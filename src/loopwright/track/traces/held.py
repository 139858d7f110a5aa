"""Traces that a hold needs: those of a run, an experiment or a project that is held, or that a held thing came from."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Connection, select

from loopwright.core import Conflict
from loopwright.govern import held_refs
from loopwright.store import Stores
from loopwright.track.tables import experiments
from loopwright.track.traces.tables import trace_runs, traces

_CHUNK = 500


def refuse_held(stores: Stores, connection: Connection, project: str, ids: Sequence[str]) -> None:
    """Raises:
    Conflict: a hold needs one of these traces.
    """
    held = held_refs(stores, connection, project)
    if not held:
        return
    for start in range(0, len(ids), _CHUNK):
        some = list(ids[start : start + _CHUNK])
        query = select(traces.c.id, traces.c.run, traces.c.experiment_id, experiments.c.name, trace_runs.c.run)
        query = query.outerjoin(experiments, experiments.c.id == traces.c.experiment_id)
        query = query.outerjoin(trace_runs, trace_runs.c.trace == traces.c.id).where(traces.c.id.in_(some))
        for id, run, experiment, name, linked in connection.execute(query):
            refs = {f"project:{project}", f"experiment:{experiment}", f"experiment:{name}", f"run:{run}"}
            if linked:
                refs.add(f"run:{linked}")
            for ref in sorted(refs & held):
                raise Conflict(
                    f"the trace {id} cannot be deleted: a hold needs {ref}", next_step="see loopwright holds"
                )
