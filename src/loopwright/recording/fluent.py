"""Recording in one line, wherever the workspace is: `lw.start_run()`, `lw.log_metric("loss", 0.1)`.

The active run is the process's: threads log to it as well, unless they have started a run of their own.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from loopwright.core import Conflict, Invalid, is_id, new_id
from loopwright.recording.endings import end_with_the_process, has_ended
from loopwright.recording.spooling import spool_for
from loopwright.track import Recorder, Value, begin_run

_shared: list[Recorder] = []
_own = threading.local()
_starting = threading.Lock()


def start_run(
    experiment: str = "default",
    name: str = "",
    *,
    params: Mapping[str, Any] | None = None,
    tags: Mapping[str, Any] | None = None,
    nested: bool = False,
    run_id: str = "",
    kind: str = "run",
    workspace: str | Path | None = None,
    project: str | None = None,
    system_metrics_s: float | None = None,
    progress: bool | None = None,
) -> Recorder:
    """Start to record a run, at once, whether its workspace can be reached or not.

    Use it in a `with`, or call `finish()` on what it gives; else the run ends with the process. It is finished where
    all went well, failed where an exception ended it, killed where a signal did.

    Args:
        experiment: its experiment; made if there is none of that name.
        name: a name for people; by default made from the id.
        params: what it was started with; values are stored as text.
        tags: words to find it by.
        nested: make it a part of the active run, which is active again when this one has ended.
        run_id: the id of a run to go on with, or one from `new_id()`.
        kind: `run`, `search`, `trial`, …
        workspace: a folder or a server's address; by default as for `connect`.
        project: the project inside the workspace; by default the one that its settings name.
        system_metrics_s: seconds between two samples of how busy the machine is; 0 for none. By default the
            setting `system_metrics_s`.
        progress: show a live line on stderr; by default where that is a terminal.

    Raises:
        Conflict: a run is active, and `nested` was not asked for.
        Invalid: a name, an id, a param or a tag cannot be stored.
    """
    with _starting:
        above = active_run()
        if above is not None and not nested:
            raise Conflict(
                f"the run {above.id} is active", next_step="finish it first, or start this one with nested=True"
            )
        if run_id and not is_id(run_id.removeprefix("run:")):
            raise Invalid(f"{run_id[:60]!r} is not a run id", next_step="leave it out for a new run")
        spool, settings = spool_for(workspace, project)
        began = begin_run(
            run_id.removeprefix("run:") or new_id(),
            experiment,
            name,
            params or {},
            tags or {},
            parent=above.id if above is not None else "",
            kind=kind,
            resume=bool(run_id),
        )
        made = Recorder(spool, began, on_end=_forget)
        _runs_here().append(made)
    end_with_the_process(made)
    every_s = settings.system_metrics_s if system_metrics_s is None else system_metrics_s
    made.watch(system_metrics_s=every_s, progress=progress)
    return made


def begin_here(experiment: str, name: str, tags: Mapping[str, str]) -> Recorder:
    """Start a run that is active in this thread alone, though it be the main one. Only this thread may end it."""
    spool, settings = spool_for()
    made = Recorder(spool, begin_run(new_id(), experiment, name, {}, tags), on_end=_forget)
    _own_runs().append(made)
    end_with_the_process(made)
    made.watch(system_metrics_s=settings.system_metrics_s, progress=False)
    return made


def active_run() -> Recorder | None:
    """The run that is being recorded: this thread's own, else the process's; None outside a run."""
    own = getattr(_own, "runs", None)
    if own:
        return own[-1]  # type: ignore[no-any-return]  # what a thread keeps has no type
    return _shared[-1] if _shared else None


def log_metric(key: str, value: Value, step: int | None = None) -> None:
    """Record one value of a metric of the active run; outside a run, one is started.

    It returns in about a microsecond, whatever the workspace does.

    Args:
        key: the metric, such as `loss` or `val/auc`.
        value: a number; NaN and the infinities are kept, too.
        step: where in training it belongs; by default one more than the metric's step before, beginning with 0.

    Raises:
        Invalid: the key names no metric, or the value or step is no number.
    """
    own = getattr(_own, "runs", None)
    run = own[-1] if own else _shared[-1] if _shared else start_run()
    run.log_metric(key, value, step)


def log_metrics(metrics: Mapping[str, Value], step: int | None = None) -> None:
    """Record one value of each of these metrics of the active run; outside a run, one is started.

    Raises:
        Invalid: a key names no metric, or a value or the step is no number; then none is recorded.
    """
    _run().log_metrics(metrics, step)


def log_params(params: Mapping[str, Any]) -> None:
    """Record params of the active run as text; outside a run, one is started.

    Raises:
        Invalid: a key or a text cannot be stored.
        Conflict: a param has another value already.
    """
    _run().log_params(params)


def set_tags(tags: Mapping[str, Any]) -> None:
    """Set tags of the active run as text; outside a run, one is started.

    Raises:
        Invalid: a key or a text cannot be stored.
    """
    _run().set_tags(tags)


def log_artifact(source: Path | str | bytes, name: str = "") -> None:
    """Keep a file, a folder or bytes with the active run, as they are now; outside a run, one is started.

    Args:
        source: a path, or bytes.
        name: the path in the run; by default the file's own name. Needed for bytes.

    Raises:
        NotFound: there is no such file or folder.
        Invalid: the name is no safe path, or is missing.
    """
    _run().log_artifact(source, name)


def log_text(text: str, name: str, step: int | None = None) -> None:
    """Keep a text with the active run, at `name`, or with a step at `text/<name>/<step>.txt`."""
    _run().log_text(text, name, step)


def log_figure(figure: Any, name: str, step: int | None = None) -> None:
    """Keep a figure of matplotlib (PNG) or Plotly (JSON and HTML) with the active run.

    Args:
        figure: the figure.
        name: a file name such as `roc.png`, or a key such as `roc`; with a step the path is
            `figures/<key>/<step>.png`.
        step: where in training it belongs.

    Raises:
        Invalid: it is no figure of these libraries.
    """
    _run().log_figure(figure, name, step)


def log_table(table: Any, name: str, step: int | None = None) -> None:
    """Keep a table (Polars, pandas, or columns by name) with the active run as Parquet.

    Raises:
        Invalid: it is no table.
    """
    _run().log_table(table, name, step)


def log_image(image: Any, name: str, step: int | None = None) -> None:
    """Keep an image (PIL, an array of heights × widths [× channels], or a path) with the active run.

    Raises:
        Invalid: it is no image.
        NotFound: there is no such file.
    """
    _run().log_image(image, name, step)


def log_audio(audio: Any, name: str, rate_hz: int = 44_100, step: int | None = None) -> None:
    """Keep sound (an array of samples [× channels], or a path) with the active run as WAV.

    Raises:
        Invalid: it is no sound.
        NotFound: there is no such file.
    """
    _run().log_audio(audio, name, rate_hz, step)


def _run() -> Recorder:
    return active_run() or start_run()


def _runs_here() -> list[Recorder]:
    """The active runs of this thread; the main thread's are the process's."""
    if threading.current_thread() is threading.main_thread():
        return _shared
    return _own_runs()


def _own_runs() -> list[Recorder]:
    """The active runs of this thread alone."""
    if not hasattr(_own, "runs"):
        _own.runs = []
    found: list[Recorder] = _own.runs
    return found


def _forget(run: Recorder) -> None:
    for runs in (_shared, getattr(_own, "runs", [])):
        if run in runs:
            runs.remove(run)
    has_ended(run)


def _after_fork() -> None:
    global _starting
    _starting = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
