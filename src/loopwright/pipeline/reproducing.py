"""Running a run again from what it captured, and saying what moved."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from loopwright.core import Conflict, NotFound, decode
from loopwright.pipeline.codecs import load_value
from loopwright.pipeline.comparing import compare_values, worst
from loopwright.pipeline.environment import Environment, current_environment, environment_moves
from loopwright.pipeline.model import (
    Capture,
    Comparison,
    PipelineRecord,
    PipelineRun,
    Reproduction,
    RunRequest,
    Stored,
    Verdict,
)
from loopwright.pipeline.scratch import scratch_folder
from loopwright.store import ObjectStore, checkout
from loopwright.track import Run, RunStatus

if TYPE_CHECKING:
    from loopwright.pipeline.service import PipelineService

_NUMERIC = frozenset({"json", "struct", "numpy", "polars", "polars-lazy", "polars-series", "pandas", "pandas-series"})


def reproduce(service: PipelineService, run: str, *, tolerance: float, workers: int | None) -> Reproduction:
    """See `PipelineService.reproduce`."""
    original, record = service.runs.get(run), service.record(run)
    if original.status is not RunStatus.FINISHED:
        raise Conflict(
            f"run {original.id} is {original.status.value}", next_step="only a finished run can be reproduced"
        )
    with _code_of(service, record) as code_root, service.session(workers=workers, code_root=code_root) as session:
        request = RunRequest(
            pipeline=record.pipeline,
            params=record.params,
            experiment=original.experiment,
            use_cache=False,
            seed=record.seed,
            name=f"again-{original.name}"[:500],
            kind="reproduction",
            tags={"reproduces": original.id},
            pins=record.inputs,
            recorded={step.name: step for step in service.get(original.id).steps},
        )
        again = service.run_in(session, request)
        now = service.record(again.run_id)
        comparisons = [
            *_compare_steps(service, original.id, again, session.scratch, tolerance),
            *_compare_metrics(original, service.runs.get(again.run_id), tolerance),
        ]
    verdict = worst([item.verdict for item in comparisons])
    moved = moves(service.stores.objects, record, now)
    service.runs.set_tags(again.run_id, {"reproduction": verdict.value})
    return Reproduction(original.id, again.run_id, verdict, moved, comparisons)


def moves(objects: ObjectStore, before: PipelineRecord, now: PipelineRecord) -> list[str]:
    """Each input of a run that is not what it was, in words; empty when nothing moved."""
    if before.capture is None or now.capture is None:
        return ["the run captured nothing"]
    found = environment_moves(_environment(objects, before.capture), current_environment())
    if before.capture.code != now.capture.code:
        found.append(f"code: {before.capture.code[:12]} → {now.capture.code[:12]}")
    if before.capture.hardware != now.capture.hardware:
        found.append(f"hardware: {before.capture.hardware} → {now.capture.hardware}")
    if before.capture.loopwright != now.capture.loopwright:
        found.append(f"loopwright: {before.capture.loopwright} → {now.capture.loopwright}")
    pinned_before, pinned_now = set(before.inputs.values()), set(now.inputs.values())
    found += [f"input {ref} is gone" for ref in sorted(pinned_before - pinned_now)]
    found += [f"input {ref} is new" for ref in sorted(pinned_now - pinned_before)]
    return found


@contextmanager
def _code_of(service: PipelineService, record: PipelineRecord) -> Iterator[Path | None]:
    """The captured source tree as a folder; None where the run captured none, and the present code must do."""
    if record.capture is None or not record.capture.code:
        yield None
        return
    with scratch_folder(service.stores.data) as scratch:
        folder = scratch / "code"
        checkout(service.stores.objects, record.capture.code, folder)
        yield folder


def _environment(objects: ObjectStore, capture: Capture) -> Environment:
    found: Environment = decode(objects.get(capture.environment), Environment)
    return found


def _compare_steps(
    service: PipelineService, before: str, now: PipelineRun, scratch: Path, tolerance: float
) -> list[Comparison]:
    """What each step made, then and now; steps whose effect was not had again have nothing to compare."""
    old = {step.name: step.output for step in service.get(before).steps}
    new = {step.name: step.output for step in now.steps}
    ran = {step.name for step in now.steps if not step.cached}
    names = [name for name in {**old, **new} if name in ran or name not in new]
    objects = service.stores.objects
    return [_compare_stored(objects, name, old.get(name), new.get(name), scratch, tolerance) for name in names]


def _compare_stored(
    objects: ObjectStore, name: str, before: Stored | None, now: Stored | None, scratch: Path, tolerance: float
) -> Comparison:
    if before is None or now is None:
        return Comparison(name, Verdict.DIFFERENT, detail=f"only {'now' if before is None else 'before'}")
    if (before.codec, before.digest) == (now.codec, now.digest):
        return Comparison(name, Verdict.IDENTICAL)
    if before.codec != now.codec or not _is_numeric(before):
        return Comparison(name, Verdict.DIFFERENT, detail=f"{before.codec} with other bytes")
    try:
        old, new = load_value(objects, before, scratch), load_value(objects, now, scratch)
    except NotFound as error:
        return Comparison(name, Verdict.DIFFERENT, detail=str(error))
    return compare_values(name, _collected(old), _collected(new), tolerance)


def _is_numeric(stored: Stored) -> bool:
    return stored.codec in _NUMERIC or (bool(stored.parts) and all(_is_numeric(part) for _, part in stored.parts))


def _collected(value: object) -> object:
    collect = getattr(value, "collect", None)
    return collect() if collect is not None else value


def _compare_metrics(before: Run, now: Run, tolerance: float) -> list[Comparison]:
    names = sorted(before.metrics.keys() | now.metrics.keys())
    return [
        compare_values(f"metrics.{name}", before.metrics.get(name), now.metrics.get(name), tolerance) for name in names
    ]
