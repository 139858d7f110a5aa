"""Why a request about a run was refused, in the words that MLflow's users know. Looked up only where one was."""

from __future__ import annotations

from collections.abc import Mapping

from loopwright.core import Conflict, LoopwrightError, NotFound
from loopwright.server.protocols.mlflow import wire
from loopwright.server.protocols.mlflow.endpoint import Rooms, ask
from loopwright.server.protocols.mlflow.log import LogBatch, LogParam
from loopwright.server.route import Call


def _changed_param(request: wire.Request, stored: Mapping[str, str], run_id: str) -> Conflict | None:
    """The refusal of a param that has another value already."""
    given = [request] if isinstance(request, LogParam) else request.params if isinstance(request, LogBatch) else []
    for item in given:
        if stored.get(item.key, item.value) != item.value:
            return Conflict(
                f"Changing param values is not allowed. Param with key='{item.key}' was already logged with "
                f"value='{stored[item.key][:100]}' for run ID='{run_id}'. Attempted logging new value "
                f"'{item.value[:100]}'."
            )
    return None


async def explained(call: Call, request: wire.Request, error: LoopwrightError) -> LoopwrightError:
    """The error to tell: about the run, where it is missing or deleted, else the one that was raised."""
    run_id = getattr(request, "run_id", None)
    if not isinstance(run_id, str) or not isinstance(error, NotFound | Conflict):
        return error

    def look(rooms: Rooms) -> LoopwrightError:
        try:
            run = rooms.runs.get(run_id)
        except NotFound as missing:
            return NotFound(f"Run with id={run_id[:100]} not found: {missing.message}", next_step=missing.next_step)
        if run.lifecycle == "deleted":
            step = f"client.restore_run({run.id!r}) brings it back"
            state = f"The run {run.id} must be in the 'active' state. Current state is deleted."
            return Conflict(state, next_step=step)
        return _changed_param(request, run.params, run.id) or error

    return await ask(call, look)
