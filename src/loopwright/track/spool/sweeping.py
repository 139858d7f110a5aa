"""What dead processes left behind: found, delivered, removed."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from loopwright.track.model import RunStatus
from loopwright.track.spool.contract import SpoolTarget
from loopwright.track.spool.delivering import Delivery
from loopwright.track.spool.folders import About, adopt, open_runs, remove_folder, spool_about, spools_in
from loopwright.track.spool.layout import SLOT_BYTES
from loopwright.track.spool.notes import Note, RunEnded, SpoolBatch

_NO_SEGMENT = 0  # segments are counted from 1


def left_behind(root: Path, about: About | None = None) -> list[Path]:
    """The spools whose writers are dead, oldest first; with `about`, those that belong to the same project."""
    return [folder for folder in spools_in(root) if _belongs(folder, about) and _is_dead(folder)]


def deliver_dead(target: SpoolTarget, folder: Path) -> Delivery | None:
    """Deliver a dead writer's spool and remove it; None while its writer lives, or another process delivers it.

    A run that it began, and that neither ended nor goes on in a living process, is killed.

    Raises:
        LoopwrightError, OSError: the workspace cannot take it now.
    """
    with _adopted(folder) as mine:
        if not mine:
            return None
        delivery = Delivery(folder)
        delivery.advance(target, alive=False)
        _end_runs(target, folder)
        remove_folder(folder)
        return delivery


def _end_runs(target: SpoolTarget, folder: Path) -> None:
    ended = open_runs(folder)
    if ended:
        others = [other for other in spools_in(folder.parent) if other != folder and not _is_dead(other)]
        ended -= {run for other in others for run in open_runs(other)}
    error = f"its process {spool_about(folder).pid} ended without a word"
    now_us = time.time_ns() // 1000
    notes: list[Note] = [RunEnded(run, RunStatus.KILLED, error, now_us) for run in sorted(ended)]
    if notes:
        target.deliver(SpoolBatch(folder.name, _NO_SEGMENT, 0, SLOT_BYTES, notes))


def _belongs(folder: Path, about: About | None) -> bool:
    found = spool_about(folder)
    return about is None or (found.where, found.project) == (about.where, about.project)


def _is_dead(folder: Path) -> bool:
    with _adopted(folder) as mine:
        return mine


@contextmanager
def _adopted(folder: Path) -> Iterator[bool]:
    descriptor = adopt(folder)
    try:
        yield descriptor is not None
    finally:
        if descriptor is not None:
            os.close(descriptor)
