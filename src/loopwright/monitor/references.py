"""What a model version promised: its task, its training profile and its metrics. Loaded once per process."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol
from weakref import WeakKeyDictionary

import msgspec

from loopwright.core import LoopwrightError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from loopwright.models import ModelService
    from loopwright.stats import TableSketch

_KEPT = 64


class Reference(msgspec.Struct, frozen=True):
    """What monitoring needs of a model version. `profile` is None where its bundle cannot be read; `reason` says why.

    The profile has the answers of training, too, under `answer:NAME`. `spread` is the range of a regression's answers
    in training: the error that counts as a total loss.
    """

    model: str
    task: str
    classes: tuple[Any, ...] = ()
    features: tuple[str, ...] = ()
    metrics: dict[str, float] = {}
    profile: Any = None
    spread: float | None = None
    reason: str = ""

    @property
    def table(self) -> TableSketch | None:
        """The training profile."""
        found: TableSketch | None = self.profile
        return found


class References:
    """The references of model versions, by ref. A version never changes, so each is read once and kept."""

    def __init__(self, models: ModelService) -> None:
        self._models = models
        self._known = _caches.setdefault(models.stores, {})

    def of(self, model: str) -> Reference:
        """The reference of a model version; one without task and profile where the version cannot be read."""
        key = (self._models.scope.project, model)
        found = self._known.get(key)
        if found is None:
            found = self._load(model)
            if found.profile is not None:
                while len(self._known) >= _KEPT:
                    self._known.pop(next(iter(self._known)), None)
                self._known[key] = found
        return found

    def _load(self, model: str) -> Reference:
        from loopwright.serve import profile_of

        try:
            version = self._models.get(model)
            bundle = self._models.bundle(model)
            profile, outputs = profile_of(bundle), bundle.output_profile()
        except LoopwrightError as error:
            # Monitoring must go on: the windows of this version say that there is nothing to compare with.
            return Reference(model, "", reason=str(error))
        value = outputs.columns.get("value")
        spread = value.max - value.min if value is not None and value.max > value.min else None
        manifest = bundle.manifest
        metrics = {**manifest.metrics, **version.metrics}
        return Reference(
            model=model,
            task=str(manifest.task),
            classes=tuple(manifest.classes),
            features=manifest.signature.names,
            metrics=metrics,
            profile=profile,
            spread=spread,
        )


class _HasStores(Protocol):
    def __hash__(self) -> int: ...


_caches: WeakKeyDictionary[_HasStores, dict[tuple[str, str], Reference]] = WeakKeyDictionary()


def score_of(reference: Reference, outputs: Sequence[dict[str, Any]]) -> NDArray[np.float64] | None:
    """What the losses of a task are computed from, a row for each answer; None for a task without losses.

    Probabilities that single precision put just outside 0 to 1 are put back. A row is NaN where the answer lacks what
    the task promises: one odd answer must not hold up the others.
    """
    import numpy as np

    name = {"binary": "probability", "multiclass": "probabilities", "regression": "value"}.get(reference.task)
    if name is None:
        return None
    if reference.task == "multiclass":
        width = len(reference.classes)
        rows = [_numbers(row.get(name), width) for row in outputs]
        found = np.array(rows, dtype=np.float64).reshape(len(rows), width)
    else:
        found = np.array([_number(row.get(name)) for row in outputs], dtype=np.float64)
    found[~np.isfinite(found)] = np.nan
    return found if reference.task == "regression" else np.clip(found, 0.0, 1.0)


def truth_of(reference: Reference, labels: Sequence[Any]) -> NDArray[np.float64]:
    """Labels as numbers: the index of the class, or the value; NaN for what is neither."""
    import numpy as np

    from loopwright.stats import as_labels

    if reference.task == "regression":
        return np.array([_number(label) for label in labels], dtype=np.float64)
    places = as_labels(labels, reference.classes or (0, 1)).astype(np.float64)
    places[places < 0] = np.nan
    return places


def _numbers(values: Any, width: int) -> list[float]:
    whole = isinstance(values, list | tuple) and len(values) == width
    return [_number(value) for value in values] if whole else [float("nan")] * width


def _number(label: Any) -> float:
    try:
        return float(label)
    except (TypeError, ValueError):
        return float("nan")
