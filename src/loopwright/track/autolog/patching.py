"""Wrapping functions of libraries so that it does not show, and taking the wrapping off again.

A wrapper holds the original and a number, and nothing else: so a class that cloudpickle copies into another process
takes a wrapper along that finds no hook there, and calls the original.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from loopwright.track.autolog.calls import Training
from loopwright.track.autolog.contract import AutologOptions, Front, Hook
from loopwright.track.autolog.guarding import quietly
from loopwright.track.autolog.nesting import enter, is_worker, leave, nest

if TYPE_CHECKING:
    from loopwright.track.recorder import Recorder

_ABSENT = object()


@dataclass(frozen=True)
class _Watch:
    """What is done around one function; without a hook, trainings inside of it are hidden."""

    integration: str
    hook: Hook | None
    joins: bool
    options: Callable[[str], AutologOptions | None]
    front: Front


_watches: dict[int, _Watch] = {}
_numbers = iter(range(1, 1 << 62))


def dispatch(number: int, original: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Call the original once, with what it was given, and do what is to be done around it."""
    watch = _watches.get(number)
    if watch is None:
        return original(*args, **kwargs)
    training = _outermost(watch, original, args, kwargs)
    if training is None and nest.open:
        return original(*args, **kwargs)
    enter(training)
    try:
        if training is None or watch.hook is None:
            return original(*args, **kwargs)
        return _watched(training, watch.hook, original)
    finally:
        leave()


def _watched(training: Training, hook: Hook, original: Callable[..., Any]) -> Any:
    try:
        with quietly("a training"):
            training.before(hook)
        result = original(*training.args, **training.kwargs)
    except BaseException as error:
        with quietly("the end of a training"):
            training.failed(error)
        raise
    with quietly("the results of a training"):
        training.after(result)
    return result


def _outermost(
    watch: _Watch, original: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Training | None:
    """The call as a training to record; None where it is part of another one, or is not recorded."""
    with quietly(f"a training of {watch.integration}"):
        options = watch.options(watch.integration)
        if watch.hook is None or options is None:
            return None
        if not nest.open:
            return None if is_worker() else Training(watch.integration, original, args, kwargs, options, watch.front)
        [outer] = nest.open if len(nest.open) == 1 else [None]
        if watch.joins and outer is not None and outer.integration == watch.integration and outer.log is not None:
            training = Training(watch.integration, original, args, kwargs, options, watch.front)
            training.log, training.inside = outer.log, True
            return training
    return None


def _wrapper(number: int, original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        return dispatch(number, original, args, kwargs)

    return wrapper


class Patched:
    """The patches of one integration."""

    def __init__(self, integration: str, options: Callable[[str], AutologOptions | None], front: Front) -> None:
        self._integration, self._options, self._front = integration, options, front
        self._undo: list[Callable[[], None]] = []

    def wrap(self, places: Sequence[tuple[Any, str]], hook: Hook, *, joins: bool = False) -> None:
        """See Patches."""
        self._wrap(places, hook, joins)

    def silence(self, places: Sequence[tuple[Any, str]]) -> None:
        """See Patches."""
        self._wrap(places, None, False)

    def put(self, owner: Any, name: str, value: Any) -> None:
        """See Patches."""
        before = vars(owner).get(name, _ABSENT)
        setattr(owner, name, value)
        mine = vars(owner)[name]
        self._undo.append(functools.partial(_restore, owner, name, mine, before))

    def active(self) -> Recorder | None:
        """See Patches."""
        options = self._options(self._integration)
        return None if nest.open or options is None or options.exclusive else self._front.active()

    def on_undo(self, undo: Callable[[], None]) -> None:
        """See Patches."""
        self._undo.append(undo)

    def undo(self) -> None:
        """Put everything back, the last patch first."""
        while self._undo:
            with quietly(f"a patch of {self._integration}, which stays without effect"):
                self._undo.pop()()

    def _wrap(self, places: Sequence[tuple[Any, str]], hook: Hook | None, joins: bool) -> None:
        owner, name = places[0]
        original = vars(owner).get(name)
        if original is None or not callable(original):
            return
        number = next(_numbers)
        wrapper = _wrapper(number, original)
        _watches[number] = _Watch(self._integration, hook, joins, self._options, self._front)
        self._undo.append(functools.partial(_forget, number))
        for owner, name in places:
            if vars(owner).get(name) is original:
                self.put(owner, name, wrapper)


def _forget(number: int) -> None:
    _watches.pop(number, None)


def _restore(owner: Any, name: str, mine: Any, before: Any) -> None:
    """Put back what was there; where somebody has patched after us, our wrapper stays and does nothing."""
    if vars(owner).get(name) is not mine:
        return
    if before is _ABSENT:
        delattr(owner, name)
    else:
        setattr(owner, name, before)
