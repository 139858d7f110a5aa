"""Recording runs from the code that trains: `lw.start_run()` and what goes with it, and the spools behind them."""

from loopwright.recording.autologging import autolog
from loopwright.recording.fluent import (
    active_run,
    log_artifact,
    log_audio,
    log_figure,
    log_image,
    log_metric,
    log_metrics,
    log_params,
    log_table,
    log_text,
    set_tags,
    start_run,
)
from loopwright.recording.spooling import about_of, open_target, spool_roots

__all__ = [
    "about_of",
    "active_run",
    "autolog",
    "log_artifact",
    "log_audio",
    "log_figure",
    "log_image",
    "log_metric",
    "log_metrics",
    "log_params",
    "log_table",
    "log_text",
    "open_target",
    "set_tags",
    "spool_roots",
    "start_run",
]
