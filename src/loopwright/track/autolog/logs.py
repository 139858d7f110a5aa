"""Where a training leaves what it tells: in the active run, or in one of its own that ends with it."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from loopwright.core import LoopwrightError
from loopwright.track.autolog.contract import AutologOptions, Front
from loopwright.track.autolog.guarding import quietly

if TYPE_CHECKING:
    import polars as pl

    from loopwright.track.recorder import Recorder

AUTOLOG_TAG = "loopwright.autolog"
MODEL_TAG = "loopwright.autolog.model"
MODEL_FOLDER = "model"
_MAX_TEXT = 500
_MAX_KEY = 200
_counts: WeakKeyDictionary[Recorder, int] = WeakKeyDictionary()
_counting = threading.Lock()


class TrainingLog:
    """What one training leaves in a run. Each method keeps what it can, and never raises.

    The first training in a run uses plain names; each further one puts `fit_2.`, `fit_3.` and so on before its names,
    so that one run may hold several.
    """

    def __init__(self, front: Front, options: AutologOptions, run: Recorder, *, mine: bool, number: int = 1) -> None:
        self.run, self.options = run, options
        self._front, self._mine = front, mine
        self._prefix = "" if number == 1 else f"fit_{number}."
        self._folder = "" if number == 1 else f"fit_{number}/"

    @classmethod
    def begin(
        cls, front: Front, options: AutologOptions, integration: str, name: str, tags: Mapping[str, Any]
    ) -> TrainingLog | None:
        """The log of a training that begins now; None where the active run is not to be touched."""
        run = front.active()
        if run is not None and options.exclusive:
            return None
        if run is None:
            own = front.start(options.experiment, name, tags={AUTOLOG_TAG: integration})
            made = cls(front, options, own, mine=True, number=_count(own))
        else:
            made = cls(front, options, run, mine=False, number=_count(run))
            run.set_tags({AUTOLOG_TAG: integration})
        made.tags(tags)
        return made

    def end(self, error: BaseException | None) -> None:
        """The training has ended; a run of its own ends with it, without a wait for the workspace."""
        if self._mine:
            _finish(self.run, error)

    def params(self, params: Mapping[str, Any]) -> None:
        """Keep params as text, shortened where they are long."""
        with quietly("params"):
            self.run.log_params({self._key(key): short(value) for key, value in params.items()})

    def tags(self, tags: Mapping[str, Any]) -> None:
        """Keep tags as text."""
        with quietly("tags"):
            self.run.set_tags({self._key(key): short(value) for key, value in tags.items()})

    def metrics(self, metrics: Mapping[str, Any], step: int | None = None) -> None:
        """Keep those of these values that are numbers."""
        with quietly("metrics"):
            kept = numbers_of(metrics)
            self.run.log_metrics({self._key(key): number for key, number in kept.items()}, step)

    def text(self, text: str, name: str) -> None:
        """Keep a text as a file."""
        with quietly(f"the file {name}"):
            self.run.log_text(text, self._folder + name)

    def table(self, columns: Mapping[str, Sequence[Any]], name: str) -> None:
        """Keep a table as Parquet; a column of mixed values becomes text."""
        with quietly(f"the table {name}"):
            self.run.log_table({key: _column(values) for key, values in columns.items()}, self._folder + name)

    def figure(self, figure: Mapping[str, Any], name: str) -> None:
        """Keep a figure in Plotly's JSON form, which needs no library to be made."""
        with quietly(f"the figure {name}"):
            data = json.dumps(figure, allow_nan=False, separators=(",", ":"))
            self.run.log_artifact(data.encode(), f"{self._folder}{name}.json")

    def file(self, data: bytes | Path, name: str) -> None:
        """Keep a file."""
        with quietly(f"the file {name}"):
            self.run.log_artifact(data, self._folder + name)

    def bundle(self, model: Any, sample: pl.DataFrame | None) -> bool:
        """Keep a model as a bundle, and say in a tag why where that cannot be; whether it is kept."""
        if sample is None or not sample.height:
            self.model_kept("", "there are no rows to prove a bundle with")
            return False
        with quietly("the model"), TemporaryDirectory(prefix="loopwright-autolog-") as folder:
            try:
                self._front.bundle(model, sample, Path(folder) / "bundle")
            except LoopwrightError as error:
                self.model_kept("", str(error))
                return False
            self.run.log_artifact(Path(folder) / "bundle", self._folder + MODEL_FOLDER)
            self.model_kept("bundle")
            return True
        return False

    def model_kept(self, form: str, why_not: str = "") -> None:
        """Say in a tag in which form the model is in the run, or why it is not."""
        self.tags({MODEL_TAG: form or f"not kept: {why_not}"})

    def child(self, name: str, params: Mapping[str, Any], metrics: Mapping[str, Any], tags: Mapping[str, Any]) -> None:
        """Record a part of the training, such as a candidate of a search, as a finished run of its own."""
        with quietly("a part of a training"):
            run = self._front.start(
                self.run.experiment, name, tags={AUTOLOG_TAG: "part"}, parent=self.run.id, kind="trial"
            )
            part = TrainingLog(self._front, self.options, run, mine=True)
            part.params(params)
            part.metrics(metrics)
            part.tags(tags)
            part.end(None)

    def _key(self, key: Any) -> str:
        return self._prefix + as_key(key)


def as_key(key: Any) -> str:
    """A name that a metric, param or tag may have."""
    text = "".join(sign if sign.isprintable() else "_" for sign in str(key))
    return text[:_MAX_KEY] or "unnamed"


def short(value: Any) -> str:
    """A value as text of a bounded length."""
    try:
        text = value if isinstance(value, str) else _shown(value)
    except Exception as error:  # noqa: BLE001 - another library's text maker may fail
        text = f"<{type(value).__name__} without a text: {type(error).__name__}>"
    text = text.replace("\x00", "").encode(errors="replace").decode()
    return text if len(text) <= _MAX_TEXT else text[: _MAX_TEXT - 1] + "…"


def _shown(value: Any) -> str:
    """Objects of other libraries by their class: their own text may be long, and slow to make."""
    if value is None or isinstance(value, bool | int | float | bytes):
        return str(value)
    if isinstance(value, list | tuple | set | frozenset):
        some = ", ".join(_shown(item) if not isinstance(item, str) else repr(item) for item in list(value)[:50])
        return f"[{some}{', …' if len(value) > 50 else ''}]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key!r}: {short(item)}" for key, item in list(value.items())[:50]) + "}"
    if isinstance(value, type) or (callable(value) and hasattr(value, "__qualname__")):
        return str(value.__qualname__)
    if type(value).__module__.partition(".")[0] in ("numpy", "pathlib", "datetime", "decimal", "enum"):
        return str(value)
    plain = not any("__str__" in vars(kind) or "__repr__" in vars(kind) for kind in type(value).__mro__[:-1])
    return type(value).__name__ if plain or hasattr(value, "get_params") else str(value)


def as_number(value: Any) -> float | None:
    """A number, or a thing with one element, as a float; else None."""
    if isinstance(value, str | bytes | bool) or value is None:
        return None
    try:
        return float(value.item() if hasattr(value, "item") else value)
    except (TypeError, ValueError, RuntimeError):
        return None


def numbers_of(values: Mapping[str, Any]) -> dict[str, float]:
    """Those of these values that are numbers."""
    return {key: number for key, value in values.items() if (number := as_number(value)) is not None}


def _column(values: Sequence[Any]) -> Any:
    """Values that one column of a table can hold."""
    kind = getattr(getattr(values, "dtype", None), "kind", "O")
    if kind in "biuf" and type(values).__name__ == "ndarray":
        return values
    known = {type(value) for value in values if value is not None}
    plain = known <= {int, float} or known <= {bool} or known <= {str}
    return [value if plain or value is None else short(value) for value in values]


def _count(run: Recorder) -> int:
    """How many trainings this process has recorded in a run, with this one."""
    with _counting:
        _counts[run] = _counts.get(run, 0) + 1
        return _counts[run]


def _finish(run: Recorder, error: BaseException | None) -> None:
    """End a run as its training ended, without waiting until the workspace has it."""
    if error is None:
        run.finish(wait=False)
    elif isinstance(error, KeyboardInterrupt | SystemExit):
        run.finish(run.status.KILLED, type(error).__name__, wait=False)
    else:
        run.fail(error, wait=False)


def _after_fork() -> None:
    global _counting
    _counting = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
