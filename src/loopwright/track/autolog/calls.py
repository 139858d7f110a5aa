"""One call of a training function, with what is done around it."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from loopwright.track.autolog.contract import AutologOptions, Front, Hook
from loopwright.track.autolog.guarding import quietly
from loopwright.track.autolog.logs import TrainingLog

if TYPE_CHECKING:
    from loopwright.track.recorder import Recorder


class Training:
    """A call that trains, in the hands of a hook. It belongs to one thread.

    Attributes:
        args, kwargs: what the function was called with.
        options: how it is recorded.
        integration: whose hook has it.
        result: what the function gave; None before.
        log: where it is recorded; None before `begin`, and where nothing is to be recorded.
        inside: whether an outer training of the same integration lends its log.
    """

    def __init__(
        self,
        integration: str,
        original: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        options: AutologOptions,
        front: Front,
    ) -> None:
        self.integration, self.args, self.kwargs, self.options = integration, args, kwargs, options
        self.result: Any = None
        self.log: TrainingLog | None = None
        self.inside = False
        self._original, self._front = original, front
        self._steps: Iterator[None] | None = None

    def argument(self, name: str, default: Any = None) -> Any:
        """An argument by its name, however it was given."""
        if name in self.kwargs:
            return self.kwargs[name]
        at = _positions(self._original).get(name)
        return self.args[at] if at is not None and at < len(self.args) else default

    def give(self, name: str, value: Any) -> None:
        """Call the function with another value of an argument."""
        at = _positions(self._original).get(name)
        if name not in self.kwargs and at is not None and at < len(self.args):
            self.args = (*self.args[:at], value, *self.args[at + 1 :])
        else:
            self.kwargs = {**self.kwargs, name: value}

    def active(self) -> Recorder | None:
        """The run that is being recorded, where it may be touched."""
        return None if self.options.exclusive else self._front.active()

    def begin(self, name: str, tags: Mapping[str, Any] | None = None) -> TrainingLog | None:
        """Begin to record, into the active run or a new one of this name.

        Returns:
            None where the active run is not to be touched.
        """
        if self.log is None:
            self.log = TrainingLog.begin(self._front, self.options, self.integration, name, tags or {})
        return self.log

    def before(self, hook: Hook) -> None:
        """Run the hook up to the place where the library trains."""
        with quietly(f"a training of {self.integration}"):
            steps = hook(self)
            if next(steps, steps) is None:
                self._steps = steps

    def after(self, result: Any) -> None:
        """Run the rest of the hook, and end what was begun."""
        self.result = result
        try:
            if self._steps is not None:
                with quietly(f"the results of {self.integration}"):
                    next(self._steps, None)
        finally:
            self._end(None)

    def failed(self, error: BaseException) -> None:
        """The library raised an error, which is the program's business."""
        if self._steps is not None:
            with quietly(f"the end of a training of {self.integration}"):
                self._steps.close()  # type: ignore[attr-defined]  # a hook is a generator
        self._end(error)

    def _end(self, error: BaseException | None) -> None:
        if self.log is not None and not self.inside:
            with quietly("the end of a run"):
                self.log.end(error)


@lru_cache(maxsize=512)
def _positions(function: Callable[..., Any]) -> dict[str, int]:
    """Where each parameter stands that can be given by position."""
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    found = [item.name for item in inspect.signature(function).parameters.values() if item.kind in kinds]
    return {name: at for at, name in enumerate(found)}
