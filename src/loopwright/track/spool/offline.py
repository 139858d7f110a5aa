"""Runs as the spools of this machine hold them, for who cannot reach the workspace that they belong to."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from pathlib import Path

import msgspec

from loopwright.core import NotFound
from loopwright.track.columns import Columns, joined, to_wire_list
from loopwright.track.model import MetricHistory, Run, RunInput, RunStatus
from loopwright.track.spool.folders import spools_in
from loopwright.track.spool.notes import InputsRead, RunBegan, RunEnded, SeriesNamed, SpoolBatch, TextsSet
from loopwright.track.spool.reader import SegmentReader
from loopwright.track.spool.segments import segments_in
from loopwright.track.values import from_micros, to_wire


class _Gathered(msgspec.Struct):
    """What was found of one run so far."""

    began: RunBegan | None = None
    ended: RunEnded | None = None
    params: dict[str, str] = {}
    tags: dict[str, str] = {}
    inputs: list[RunInput] = []
    points: dict[str, list[Columns]] = {}


class OfflineRuns:
    """The runs that wait in spools, read from their files. What was delivered already is in the workspace, not here."""

    def __init__(self, roots: Iterable[Path]) -> None:
        """Args:
        roots: the folders of all spools.
        """
        self._roots = list(dict.fromkeys(roots))

    def search(self) -> list[Run]:
        """All runs of which the beginning is here, newest first."""
        found = [_run_of(item.began, item) for item in self._gather("").values() if item.began]
        return sorted(found, key=lambda run: run.started_at, reverse=True)

    def get(self, run: str) -> Run:
        """One run.

        Raises:
            NotFound: no spool of this machine holds its beginning.
        """
        run = run.removeprefix("run:")
        gathered = self._gather(run).get(run, _Gathered())
        if gathered.began is None:
            raise NotFound(f"no spool of this machine holds the run {run[:60]!r}")
        return _run_of(gathered.began, gathered)

    def history(self, run: str, key: str) -> MetricHistory:
        """All points of one metric that wait here, by step, then time; empty if there are none.

        Raises:
            NotFound: no spool of this machine holds anything of the run.
        """
        run = run.removeprefix("run:")
        gathered = self._gather(run).get(run)
        if gathered is None:
            raise NotFound(f"no spool of this machine holds the run {run[:60]!r}")
        all_of = joined(gathered.points.get(key, []))
        return MetricHistory(run, key, all_of.steps.tolist(), all_of.times_us.tolist(), to_wire_list(all_of.values))

    def _gather(self, only: str) -> dict[str, _Gathered]:
        """What the spools hold of one run, or of all."""
        found: dict[str, _Gathered] = {}
        for batch in self._batches():
            for note in batch.notes:
                if not isinstance(note, SeriesNamed) and only in ("", note.run):
                    _take(found.setdefault(note.run, _Gathered()), note)
            for item in batch.points:
                if only in ("", item.run):
                    points = found.setdefault(item.run, _Gathered()).points
                    points.setdefault(item.key, []).append(Columns(*item.columns()))
        return found

    def _batches(self) -> Iterator[SpoolBatch]:
        for root in self._roots:
            for folder in spools_in(root):
                for number in segments_in(folder):
                    yield from SegmentReader(folder, number).batches()


def _take(gathered: _Gathered, note: object) -> None:
    if isinstance(note, RunBegan):
        gathered.began = gathered.began or note
    if isinstance(note, RunBegan | TextsSet):
        gathered.params = {**note.params, **gathered.params}
        gathered.tags = {**gathered.tags, **note.tags}
    elif isinstance(note, InputsRead):
        gathered.inputs = [*gathered.inputs, *note.inputs]
    elif isinstance(note, RunEnded):
        gathered.ended = note


def _run_of(began: RunBegan, gathered: _Gathered) -> Run:
    ended = gathered.ended
    last = {key: float(joined(parts).values[-1]) for key, parts in sorted(gathered.points.items())}
    return Run(
        id=began.run,
        experiment=began.experiment,
        name=began.name,
        status=ended.status if ended else RunStatus.RUNNING,
        started_at=from_micros(began.at_us),
        ended_at=from_micros(ended.at_us) if ended else None,
        parent=began.parent,
        kind=began.kind,
        error=ended.error if ended else "",
        params=gathered.params,
        metrics={key: value for key, value in last.items() if math.isfinite(value)},
        not_finite={key: str(to_wire(value)) for key, value in last.items() if not math.isfinite(value)},
        tags=gathered.tags,
        inputs=tuple(gathered.inputs),
    )
