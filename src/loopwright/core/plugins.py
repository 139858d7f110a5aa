"""Plug-ins: named implementations, registered by a decorator or by an entry point; built-in ones use the same door."""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

from loopwright.core.errors import Invalid

T = TypeVar("T")


class Registry(Generic[T]):
    """Implementations of one kind by name. Entry points of the group `loopwright.<group>` are loaded on first miss."""

    def __init__(self, group: str, noun: str) -> None:
        self.group, self.noun = group, noun
        self._items: dict[str, T] = {}
        self._loaded = False

    def register(self, name: str) -> Callable[[T], T]:
        """A decorator that registers what it decorates under `name`.

        Raises:
            Invalid: the name is taken.
        """

        def decorate(item: T) -> T:
            if name in self._items and self._items[name] is not item:
                raise Invalid(f"the {self.noun} {name!r} is registered twice")
            self._items[name] = item
            return item

        return decorate

    def get(self, name: str) -> T:
        """The implementation of that name.

        Raises:
            Invalid: there is none.
        """
        if name not in self._items:
            self._load()
        try:
            return self._items[name]
        except KeyError:
            raise Invalid(f"there is no {self.noun} {name!r}", next_step=f"known: {', '.join(self.names())}") from None

    def names(self) -> list[str]:
        """The names that are known, sorted."""
        self._load()
        return sorted(self._items)

    def _load(self) -> None:
        if self._loaded:
            return
        self._loaded = True
        from importlib.metadata import entry_points

        for point in entry_points(group=f"loopwright.{self.group}"):
            if point.name not in self._items:
                self._items[point.name] = point.load()
