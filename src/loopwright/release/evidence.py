"""What gates are judged on: gathered from the registry, the runs, and the hold-out, never from what a caller claims."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from loopwright.core import Invalid, LoopwrightError, NotFound, Unavailable
from loopwright.data import DatasetService
from loopwright.models import BundleManifest, ModelService
from loopwright.release.gates import (
    AnyGate,
    AtLeast,
    AtMost,
    Beats,
    GateEvidence,
    GateVerdict,
    MaxLatency,
    MaxSize,
    ParityProven,
    Slice,
    Slices,
    difference_of,
    judge,
)
from loopwright.release.recorded import recorded_interval
from loopwright.release.scoring import Scored, compare, compare_rows, measure, score
from loopwright.stats import Interval
from loopwright.track import RunService

if TYPE_CHECKING:
    import polars as pl

MAX_ROWS = 200_000
_TIMED_CALLS = 300
_WARM_UP_CALLS = 20
_MAX_SLICES = 50


class GateJudge:
    """Judges a version by gates. Each version is scored on the hold-out at most once per judge.

    Args:
        candidate: the ref of the version to judge.
        champion: the endpoint's stable version; empty before the first release.
        holdout: the dataset version to compare on; by default the one that the version's tag `holdout` names.
    """

    def __init__(
        self,
        models: ModelService,
        datasets: DatasetService,
        runs: RunService,
        *,
        candidate: str,
        champion: str = "",
        holdout: str = "",
    ) -> None:
        self._models, self._datasets, self._runs = models, datasets, runs
        self._version = models.get(candidate)
        self._champion = champion
        self._holdout = holdout or self._version.tags.get("holdout", "")
        self._frame: pl.DataFrame | None = None
        self._scored: dict[str, Scored] = {}

    def judge(self, gates: Sequence[AnyGate]) -> list[GateVerdict]:
        """A verdict per gate, in order. Nothing is recorded; the caller does that.

        Raises:
            Unavailable: a store does not answer; judge again later.
        """
        return [judge(gate, self._gather(gate)) for gate in gates]

    def _gather(self, gate: AnyGate) -> GateEvidence:
        try:
            return self._evidence(gate)
        except Unavailable:
            raise
        except LoopwrightError as error:
            # What cannot be measured is not evidence; the gate then says so, with the reason.
            return GateEvidence(candidate=self._version.ref, reference=self._champion, note=str(error))

    def _evidence(self, gate: AnyGate) -> GateEvidence:
        candidate = self._version.ref
        match gate:
            case Beats():
                return self._comparison(gate)
            case AtLeast() | AtMost():
                found, note = self._metric(gate.metric, gate.alpha)
                return GateEvidence(candidate=candidate, metric=found, holdout=self._holdout, note=note)
            case MaxLatency():
                return GateEvidence(candidate=candidate, latency_ms=self._latency(gate.quantile, gate.alpha))
            case MaxSize():
                return GateEvidence(candidate=candidate, size_bytes=self._version.size_bytes)
            case ParityProven():
                parity = self._models.manifest(candidate).parity
                proven = parity.passed if parity.rows else None
                return GateEvidence(candidate=candidate, parity_passed=proven, parity_max_abs=parity.max_abs)
            case Slices():
                return self._slices(gate)

    def _comparison(self, gate: Beats) -> GateEvidence:
        candidate = self._version.ref
        if gate.against == "champion" and not self._champion:
            return GateEvidence(candidate=candidate)
        if gate.against == "baseline":
            return self._against_baseline(gate)
        reference = self._champion if gate.against == "champion" else self._models.get(gate.against).ref
        if reference == candidate:
            return GateEvidence(candidate=candidate, reference=reference, note=f"{candidate} is the version to beat")
        if not self._holdout:
            return self._recorded_comparison(gate, reference, self._models.get(reference).metrics)
        return self._paired_comparison(gate, reference)

    def _against_baseline(self, gate: Beats) -> GateEvidence:
        if not self._version.run:
            return GateEvidence(
                candidate=self._version.ref, note="the version was made by no run, so it has no baseline"
            )
        experiment = self._runs.get(self._version.run).experiment
        baseline = self._runs.baseline(experiment)
        if baseline is None:
            note = f"no baseline is pinned in the experiment {experiment!r} (loopwright runs pin-baseline)"
            return GateEvidence(candidate=self._version.ref, note=note)
        made = self._models.made_by(baseline.id)
        if made and self._holdout:
            return self._paired_comparison(gate, made[0].ref)
        return self._recorded_comparison(gate, baseline.ref, baseline.metrics)

    def _paired_comparison(self, gate: Beats, reference: str) -> GateEvidence:
        """Both on the same hold-out rows, so that luck in the rows hits both alike."""
        candidate = self._version.ref
        difference = compare(gate.metric, self._score(candidate), self._score(reference), gate.alpha)
        note = "" if difference else f"there is no metric {gate.metric!r} for this task"
        return GateEvidence(
            candidate=candidate, reference=reference, difference=difference, holdout=self._holdout, note=note
        )

    def _recorded_comparison(self, gate: Beats, reference: str, metrics: dict[str, float]) -> GateEvidence:
        own, note = self._metric(gate.metric, gate.alpha)
        other, other_note = recorded_interval(metrics, gate.metric, reference)
        difference = difference_of(own, other) if own is not None and other is not None else None
        return GateEvidence(
            candidate=self._version.ref, reference=reference, metric=own, difference=difference, note=note or other_note
        )

    def _metric(self, metric: str, alpha: float) -> tuple[Interval | None, str]:
        """The candidate's metric: measured on the hold-out where there is one, else as it was recorded."""
        if self._holdout:
            found = measure(metric, self._score(self._version.ref), alpha)
            if found is not None:
                return found, ""
        return recorded_interval(self._version.metrics, metric, self._version.ref)

    def _slices(self, gate: Slices) -> GateEvidence:
        candidate, reference = self._version.ref, self._champion
        if not reference:
            return GateEvidence(candidate=candidate)
        frame = self._rows()
        missing = [name for name in gate.columns if name not in frame.columns]
        if missing:
            raise Invalid(f"the hold-out {self._holdout} has no column {missing[0]!r}")
        own, other = self._score(candidate).losses(), self._score(reference).losses()
        groups = [(name, value, rows) for name in gate.columns for value, rows in _groups(frame, name, gate.min_rows)]
        share = gate.alpha / max(1, len(groups))
        slices = tuple(Slice(name, value, compare_rows(own[rows], other[rows], share)) for name, value, rows in groups)
        return GateEvidence(candidate=candidate, reference=reference, slices=slices, holdout=self._holdout)

    def _score(self, ref: str) -> Scored:
        if ref not in self._scored:
            frame, manifest = self._rows(), self._models.manifest(ref)
            target = self._target(manifest)
            self._scored[ref] = score(manifest, self._models.predict(ref, frame), frame[target])
        return self._scored[ref]

    def _rows(self) -> pl.DataFrame:
        """The hold-out's rows that have a truth; a sample of them where there are very many."""
        if self._frame is None:
            if not self._holdout:
                raise NotFound(
                    f"{self._version.ref} names no hold-out to compare on",
                    next_step="register the version with the tag holdout=dataset:NAME@VERSION",
                )
            frame = self._datasets.read(self._holdout)
            target = self._target(self._models.manifest(self._version.ref))
            frame = frame.drop_nulls(subset=[target])
            self._frame = frame if frame.height <= MAX_ROWS else frame.sample(MAX_ROWS, seed=0)
        return self._frame

    def _target(self, manifest: BundleManifest) -> str:
        if not manifest.target:
            raise Invalid("the bundle does not name its target", next_step="build_bundle(..., target=COLUMN)")
        return manifest.target

    def _latency(self, quantile: float, alpha: float) -> Interval:
        """How long one row takes, in milliseconds, on this machine, now."""
        bundle = self._models.bundle(self._version.ref)
        predictor, row, taken = bundle.predictor(), [bundle.example_row()], []
        for call in range(_WARM_UP_CALLS + _TIMED_CALLS):
            begun = time.perf_counter()
            predictor.predict_rows(row)
            if call >= _WARM_UP_CALLS:
                taken.append((time.perf_counter() - begun) * 1000)
        return quantile_interval(taken, quantile, alpha)


def quantile_interval(values: Sequence[float], quantile: float, alpha: float) -> Interval:
    """A quantile with the interval of order statistics (Conover, Practical Nonparametric Statistics, 1999, §3.2); an
    end that too few values leave open is infinite."""
    from scipy.stats import binom

    ordered, n = sorted(values), len(values)
    low, high = int(binom.ppf(alpha / 2, n, quantile)) - 1, int(binom.ppf(1 - alpha / 2, n, quantile))
    lower = ordered[low] if low >= 0 else float("-inf")
    upper = ordered[high] if high < n else float("inf")
    return Interval(ordered[min(n - 1, int(quantile * n))], lower, upper, 1 - alpha, n, "order_statistics")


def _groups(frame: pl.DataFrame, column: str, min_rows: int) -> list[tuple[str, pl.Series]]:
    """The most frequent values of a column, as text, and the rows where they stand."""
    counts = frame[column].value_counts(sort=True).filter(_counted(min_rows)).head(_MAX_SLICES)
    return [
        (str(value), (frame[column].is_null() if value is None else frame[column] == value).fill_null(False).arg_true())
        for value in counts[column].to_list()
    ]


def _counted(min_rows: int) -> pl.Expr:
    import polars as pl

    return pl.col("count") >= min_rows
