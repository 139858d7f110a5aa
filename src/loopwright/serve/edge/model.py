"""The words of an export to the edge: precision, budgets, and the report."""

from __future__ import annotations

from enum import StrEnum

import msgspec


class Precision(StrEnum):
    """How the graph's weights are kept.

    none: as they are. fp16: in half precision. int8: weights in 8 bits, activations quantised as they come; static
    where there are calibration rows, and then activations by the ranges that those showed.
    """

    NONE = "none"
    FP16 = "fp16"
    INT8 = "int8"


class Budget(msgspec.Struct, frozen=True):
    """What an export must keep to.

    Attributes:
        max_mb: the size of the graph, in megabytes of 1,000,000 bytes.
        max_ms: the 99th percentile of the time for one row, on one thread of this machine.
        min_agreement: the least share of sample rows that agree with the bundle's own graph.
    """

    max_mb: float | None = None
    max_ms: float | None = None
    min_agreement: float = 0.99


class Verdict(msgspec.Struct, frozen=True):
    """One line of the budget: what was allowed, what was found."""

    what: str
    limit: float
    found: float
    kept: bool


class Comparison(msgspec.Struct, frozen=True):
    """The exported graph beside the bundle's own, on the same rows.

    Attributes:
        rows: how many rows were compared, and where they come from (`source`).
        tolerance: numbers agree where |difference| <= tolerance + tolerance * |own|.
        max_abs, max_rel: the largest differences over the numeric outputs.
        agreement: the share of rows that agree: of those with a label, with the same one; else, in their numbers.
        worst_row: the row with the largest difference.
    """

    rows: int
    source: str
    tolerance: float
    max_abs: float
    max_rel: float
    agreement: float
    worst_row: int


class Accuracy(msgspec.Struct, frozen=True):
    """How both graphs do on rows whose truth is known: the share of right labels, or the mean absolute error."""

    measure: str
    target: str
    own: float
    exported: float


class Latency(msgspec.Struct, frozen=True):
    """The time for one row on one thread, from plain values to arrays, over `calls` calls; in milliseconds."""

    calls: int
    p50_ms: float
    p99_ms: float


class EdgeReport(msgspec.Struct, frozen=True, kw_only=True):
    """An export: what was asked for, what became of it, and whether the budget was kept.

    Attributes:
        precision: what was asked for; `applied` what the exported graph has, with `reason` where that is another.
        weights_before, weights_after: the bytes of the graph's weight tensors by element type.
        untouched: the operators with numbers of their own, which ONNX keeps as float32, and how many there are.
        bytes_before, bytes_after: of the graph.
        digest: the SHA-256 of the exported graph.
        web: the version of onnxruntime-web that its page brings; empty where there is no page.
    """

    path: str
    model: str
    bundle: str
    precision: Precision
    applied: str
    reason: str = ""
    weights_before: dict[str, int]
    weights_after: dict[str, int]
    untouched: dict[str, int]
    bytes_before: int
    bytes_after: int
    digest: str
    comparison: Comparison
    accuracy: Accuracy | None = None
    latency_before: Latency
    latency_after: Latency
    web: str = ""
    libraries: dict[str, str]
    verdicts: tuple[Verdict, ...]
    passed: bool
