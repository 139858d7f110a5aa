"""Runs as the spools of this machine hold them, for who cannot reach the workspace that they belong to."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from loopwright.core import Corrupt, Invalid, NotFound
from loopwright.track.columns import Columns, joined, to_wire_list
from loopwright.track.comparing import compare_runs, delta_to_baseline
from loopwright.track.model import (
    Artifact,
    BaselineDelta,
    MetricHistory,
    Run,
    RunComparison,
    RunInput,
    RunPage,
    RunStatus,
    View,
)
from loopwright.track.search.language import parse_filter, parse_order
from loopwright.track.search.matching import in_order, matches
from loopwright.track.spool.folders import FILES, About, spool_about, spools_in
from loopwright.track.spool.notes import FileKept, InputsRead, RunBegan, RunEnded, SeriesNamed, SpoolBatch, TextsSet
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
    files: dict[str, Path] = {}


class OfflineRuns:
    """The runs that wait in spools, read from their files. What was delivered already is in the workspace, not here.

    Its methods are named and answer as those of `RunService`. Each reads the spools anew.
    """

    def __init__(self, roots: Iterable[Path], about: About | None = None) -> None:
        """Args:
        roots: the folders of all spools.
        about: whose runs a search finds; by default all, of whatever workspace they are.
        """
        self._roots, self._about = list(dict.fromkeys(roots)), about

    def search(
        self,
        filter: str = "",
        experiment: str = "",
        limit: int = 100,
        after: str = "",
        order_by: Sequence[str] = (),
        experiments: Sequence[str] | None = None,
        view: str = View.ACTIVE,
    ) -> list[Run]:
        """The runs of a page; see `search_page`."""
        return self.search_page(filter, experiment, limit, after, order_by, experiments, view).runs

    def search_page(
        self,
        filter: str = "",
        experiment: str = "",
        limit: int = 100,
        after: str = "",
        order_by: Sequence[str] = (),
        experiments: Sequence[str] | None = None,
        view: str = View.ACTIVE,
    ) -> RunPage:
        """Runs of which the beginning is here and that match, newest first unless ordered otherwise.

        Args:
            after: the id of the last run of the page before.
            experiments: ids of experiments, which only a workspace gives: none of these runs has one.

        Raises:
            Invalid: the filter, the order or the limit is malformed.
            NotFound: `after` is no run of this search.
        """
        items, keys = parse_filter(filter), parse_order(tuple(order_by))
        if limit < 1:
            raise Invalid(f"a page of {limit} runs cannot be given", next_step="ask for 1 or more")
        if view == View.DELETED or experiments is not None:
            return RunPage([], "")
        gathered = self._gather("", self._about, whole=False)
        everything = (_run_of(item.began, item) for item in gathered.values() if item.began)
        found = [run for run in everything if experiment in ("", run.experiment) and matches(run, items)]
        ordered = in_order(found, keys)
        start = _behind(ordered, after)
        page = ordered[start : start + limit]
        return RunPage(page, page[-1].id if start + limit < len(ordered) else "")

    def get(self, run: str) -> Run:
        """One run.

        Raises:
            NotFound: no spool of this machine holds its beginning.
        """
        return self._several([run])[0]

    def compare(self, runs: Sequence[str], everything: bool = False) -> RunComparison:
        """What differs between runs; without intervals, for which a workspace looks at repeats and folds.

        Raises:
            NotFound: no spool of this machine holds the beginning of one of them.
        """
        return compare_runs(self._several(runs), everything)

    def against_baseline(self, runs: Sequence[str]) -> list[BaselineDelta]:
        """No change, since only a workspace knows which run is the baseline.

        Raises:
            NotFound: no spool of this machine holds the beginning of one of them.
        """
        return [delta_to_baseline(run, None) for run in self._several(runs)]

    def artifacts(self, run: str, folder: str = "") -> list[Artifact]:
        """The files of a run that wait here, or those of one folder, by path; digests are not known yet.

        Raises:
            NotFound: no spool of this machine holds anything of the run.
        """
        inside = folder.strip("/")
        files = sorted(self._one(run).files.items())
        return [_artifact(path, file) for path, file in files if not inside or path.startswith(f"{inside}/")]

    def artifact(self, run: str, path: str) -> bytes:
        """The bytes of one file that waits here.

        Raises:
            NotFound: no spool of this machine holds it.
        """
        file = self._one(run).files.get(path)
        if file is None:
            raise NotFound(f"no spool of this machine holds the file {path[:200]!r} of the run {run[:60]!r}")
        return file.read_bytes()

    def history(
        self,
        run: str,
        key: str,
        first_step: int | None = None,
        last_step: int | None = None,
        limit: int | None = None,
        after: str = "",
    ) -> MetricHistory:
        """Points of one metric that wait here, by step, then time; empty if there are none.

        Args:
            first_step, last_step: leave out lower and higher steps.
            limit: at most so many; `next` says how to go on.
            after: what the page before said in `next`.

        Raises:
            NotFound: no spool of this machine holds anything of the run.
            Invalid: `after` is no place in this history.
        """
        run = run.removeprefix("run:")
        if after and not after.isdecimal():
            raise Invalid("the page token is not one that this history gave out", next_step="start from the first page")
        found = joined(self._one(run).points.get(key, []))
        low = 0 if first_step is None else int(found.steps.searchsorted(first_step, "left"))
        high = len(found) if last_step is None else int(found.steps.searchsorted(last_step, "right"))
        start = low + int(after or 0)
        stop = high if limit is None else min(start + limit, high)
        page = found.part(slice(start, max(start, stop)))
        following = str(stop - low) if stop < high else ""
        return MetricHistory(
            run, key, page.steps.tolist(), page.times_us.tolist(), to_wire_list(page.values), next=following
        )

    def _one(self, run: str) -> _Gathered:
        run = run.removeprefix("run:")
        found = self._gather(run).get(run)
        if found is None:
            raise NotFound(f"no spool of this machine holds the run {run[:60]!r}")
        return found

    def _several(self, runs: Sequence[str]) -> list[Run]:
        ids = [run.removeprefix("run:") for run in runs]
        gathered = self._gather(ids[0] if len(ids) == 1 else "", whole=False)
        found = [(id, gathered.get(id, _Gathered())) for id in ids]
        missing = [id for id, item in found if item.began is None]
        if missing:
            raise NotFound(f"no spool of this machine holds the run {missing[0][:60]!r}")
        return [_run_of(item.began, item) for _, item in found if item.began]

    def _gather(self, only: str, about: About | None = None, *, whole: bool = True) -> dict[str, _Gathered]:
        """What the spools hold of one run, or of all; of each metric all points, or only the last."""
        found: dict[str, _Gathered] = {}
        for folder, batch in self._batches(about):
            for note in batch.notes:
                if not isinstance(note, SeriesNamed) and only in ("", note.run):
                    _take(found.setdefault(note.run, _Gathered()), note, folder)
            for item in batch.points:
                if only in ("", item.run):
                    parts = found.setdefault(item.run, _Gathered()).points.setdefault(item.key, [])
                    parts.append(Columns(*item.columns()))
                    if not whole:
                        parts[:] = [joined(parts).part(slice(-1, None))]
        return found

    def _batches(self, about: About | None) -> Iterator[tuple[Path, SpoolBatch]]:
        for root in self._roots:
            for folder in spools_in(root):
                if about is None or _belongs(folder, about):
                    for number in segments_in(folder):
                        yield from ((folder, batch) for batch in SegmentReader(folder, number).batches())


def _belongs(folder: Path, about: About) -> bool:
    try:
        found = spool_about(folder)
    except Corrupt:
        return False
    return found.where == about.where and about.project in ("", found.project)


def _behind(runs: Sequence[Run], after: str) -> int:
    """How many runs come before the place behind a run's id; 0 for none."""
    if not after:
        return 0
    for at, run in enumerate(runs):
        if run.id == after:
            return at + 1
    raise NotFound(f"no run {after[:60]!r} of this search waits here", next_step="start again from the first page")


def _artifact(path: str, file: Path) -> Artifact:
    told = file.stat()
    return Artifact(path, "", told.st_size, datetime.fromtimestamp(told.st_mtime, UTC))


def _take(gathered: _Gathered, note: object, folder: Path) -> None:
    if isinstance(note, RunBegan):
        gathered.began = gathered.began or note
    if isinstance(note, RunBegan | TextsSet):
        gathered.params = {**note.params, **gathered.params}
        gathered.tags = {**gathered.tags, **note.tags}
    elif isinstance(note, InputsRead):
        gathered.inputs = [*gathered.inputs, *note.inputs]
    elif isinstance(note, FileKept) and (file := folder / FILES / note.file).exists():
        gathered.files = {**gathered.files, note.path: file}
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
