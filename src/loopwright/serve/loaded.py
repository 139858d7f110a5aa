"""Endpoints with their models in memory: immutable once made, replaced as a whole."""

from __future__ import annotations

import random
import struct
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np

from loopwright.core import Invalid, NotFound
from loopwright.models import AnyPredictor, Layout, ModelFailed
from loopwright.serve.block import Array, Block
from loopwright.serve.intake import Intake, Projection, Rows
from loopwright.serve.model import KeyLogging, LogPolicy, ServedEndpoint, Variant
from loopwright.serve.redaction import Redaction, check_policy
from loopwright.serve.sticky import assign

if TYPE_CHECKING:
    from loopwright.features import LookupReader

_FLOAT32_LIMIT = 3.4e38


class LoadedVariant:
    """A variant that can answer.

    `columns_key` is how the log refers to the names of its inputs; `reader` finds inputs by an entity's key.
    """

    __slots__ = (
        "columns_key",
        "names",
        "predictor",
        "projection",
        "reader",
        "redaction",
        "takes_matrix",
        "variant",
        "version",
    )

    def __init__(
        self,
        variant: Variant,
        predictor: AnyPredictor,
        projection: Projection,
        columns_key: str,
        reader: LookupReader | None = None,
    ) -> None:
        self.variant, self.predictor, self.projection, self.reader = variant, predictor, projection, reader
        self.columns_key, self.version, self.names = columns_key, variant.version, predictor.signature.names
        self.takes_matrix = predictor.manifest.layout is Layout.MATRIX
        self.redaction: Redaction | None = None  # where the log is not to have all of an answer


class LoadedEndpoint:
    """An endpoint that can answer: its inputs, its variants, and who answers whom."""

    def __init__(
        self,
        spec: ServedEndpoint,
        predictors: Mapping[str, AnyPredictor],
        columns_keys: Mapping[str, str],
        readers: Mapping[str, LookupReader | None] = MappingProxyType({}),
    ) -> None:
        """Args:
        spec: the endpoint as published.
        predictors: by bundle digest.
        columns_keys: the log's key of the inputs' names, by bundle digest.
        readers: of features, by bundle digest.

        Raises:
            Invalid: the log policy names an input that no variant takes.
        """
        self.spec = spec
        used = [*spec.live, *spec.shadows]
        self.intake = Intake([predictors[variant.bundle].signature for variant in used])
        loaded = {
            variant.name: LoadedVariant(
                variant,
                predictors[variant.bundle],
                Projection(self.intake, predictors[variant.bundle].signature),
                columns_keys[variant.bundle],
                readers.get(variant.bundle),
            )
            for variant in used
        }
        self._redact(spec.log, loaded.values())
        self.live = [loaded[variant.name] for variant in spec.live]
        self.shadows = [loaded[variant.name] for variant in spec.shadows]
        self.inline = all(item.predictor.inline for item in self.variants)
        self.notes: dict[Any, Any] = {}  # what fronts keep for as long as this endpoint lives
        self.on_retire: list[Callable[[], None]] = []  # what they do when it is asked no more
        self._by_name = loaded
        self._by_version = {item.version: item for item in (*self.shadows, *self.live)}
        self._weights = [item.variant.weight for item in self.live]

    def _redact(self, policy: LogPolicy, variants: Iterable[LoadedVariant]) -> None:
        check_policy(self.spec.name, policy, self.intake.names)
        if policy.drop or policy.hash or policy.keys is not KeyLogging.KEEP:
            for variant in variants:
                variant.redaction = Redaction(policy, variant.predictor.signature.names)

    @property
    def variants(self) -> list[LoadedVariant]:
        """All of them: live, then shadows."""
        return [*self.live, *self.shadows]

    def retire(self) -> None:
        """Be asked no more, but for what is under way."""
        for end in self.on_retire:
            end()

    def at_version(self, version: str) -> LoadedVariant:
        """The variant with that model version.

        Raises:
            NotFound: none has it.
        """
        found = self._by_version.get(version)
        if found is None:
            served = ", ".join(sorted(self._by_version))
            raise NotFound(
                f"endpoint {self.spec.name!r} does not serve version {version!r}", next_step=f"it serves {served}"
            )
        return found

    def choose(self, key: str) -> LoadedVariant:
        """The variant that answers a key; one drawn by the weights where there is no key."""
        if len(self.live) == 1:
            return self.live[0]
        if key:
            return self._by_name[assign(self.spec.salt, key, self.spec.variants).name]
        return random.choices(self.live, self._weights)[0]


def predict(loaded: LoadedVariant, rows: Rows) -> dict[str, Array]:
    """The model's outputs for rows in the order of its inputs: an array per output, with a row per row.

    Raises:
        Invalid: a number is out of the range of its type.
        ModelFailed: the model cannot answer.
        Unavailable: the model's own process is not there at the moment.
    """
    outputs = _run(loaded, rows)
    count = len(rows)
    for name, values in outputs.items():
        if len(values) != count:
            raise ModelFailed(f"the model gave {len(values)} values of {name!r} for {count} rows")
    return outputs


def _run(loaded: LoadedVariant, rows: Rows) -> dict[str, Array]:
    predictor = loaded.predictor
    if not isinstance(rows, Block):
        return predictor.predict_rows(rows)
    names = loaded.names
    if loaded.takes_matrix:
        if rows.values is not None and rows.count == 1:  # alone in its turn
            return predictor.predict_matrix(_one_row(rows, rows.values, names))
        matrix = rows.matrix.astype(np.float32, copy=False) if rows.is_narrow else _float32(rows.matrix, names)
        return predictor.predict_matrix(matrix)
    columns = {name: column for name, column in zip(names, rows.columns, strict=True) if column is not None}
    return predictor.predict(columns)


def _one_row(rows: Block, values: Sequence[float], names: Sequence[str]) -> Array:
    try:
        packed = struct.pack(f"{len(names)}f", *values)  # in half the time of np.array, and rounded alike
    except OverflowError:
        return _float32(rows.matrix, names)
    return np.frombuffer(packed, dtype=np.float32).reshape(1, len(names))


def _float32(matrix: Array, names: Sequence[str]) -> Array:
    if matrix.dtype == np.float32:
        return np.ascontiguousarray(matrix)
    if matrix.min() > -_FLOAT32_LIMIT and matrix.max() < _FLOAT32_LIMIT:
        return matrix.astype(np.float32)
    with np.errstate(over="ignore"):  # a missing number, which is not to be compared with, or one that is too large
        found = matrix.astype(np.float32)
    if np.isinf(found).any():
        row, column = np.argwhere(np.isinf(found))[0].tolist()
        raise Invalid(f"input {names[column]!r}, row {row}: a number is too large for float32 (beyond ±3.4e38)")
    return found
