"""Routes: which handler answers a method and a path, as a table that each front adds its rows to."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple
from urllib.parse import parse_qs, unquote_to_bytes

from loopwright.core import LoopwrightError, NotFound
from loopwright.serve.rest.http import Exchange

Values = Mapping[str, str]
Handler = Callable[[Exchange, Values], None]
Refusal = Callable[[LoopwrightError], bytes]
"""How a protocol writes an error as JSON."""


class Route(NamedTuple):
    """One row of the table.

    Attributes:
        method: such as `POST`.
        path: its parts in braces, such as `{model}`, are handed to the handler; a part holds no `/` and no `:`.
        handler: answers an exchange, now or later.
        refusal: how the protocol tells of an error.
    """

    method: str
    path: str
    handler: Handler
    refusal: Refusal


class Router:
    """Finds the row for a request. Paths are matched as written; a slash at the end makes no difference."""

    def __init__(self, routes: Iterable[Route]) -> None:
        self._routes = [(_pattern(route.path), route) for route in routes]

    def find(self, method: bytes, path: bytes) -> tuple[Route, Values]:
        """The row and the values of the path's parts. HEAD is answered as GET.

        Raises:
            NotFound: no row has the path.
            WrongMethod: a row has the path, but for another method.
        """
        text, wanted = path_text(path), "GET" if method == b"HEAD" else method.decode("latin-1")
        others: set[str] = set()
        for pattern, route in self._routes:
            found = pattern.fullmatch(text)
            if found is None:
                continue
            if route.method == wanted:
                return route, found.groupdict()
            others.add(route.method)
        if others:
            raise WrongMethod(f"{text[:200]!r} does not take {wanted[:20]}", sorted(others))
        raise NotFound(f"there is nothing at {text[:200]!r}", next_step="start at /v2")


class WrongMethod(LoopwrightError):
    """A path that is there is asked for with a method that it does not take."""

    code, http_status = "wrong_method", 405

    def __init__(self, message: str, allowed: list[str]) -> None:
        super().__init__(message, next_step=f"use {' or '.join(allowed)}")
        self.allowed = allowed


def path_text(path: bytes) -> str:
    """A path without its query, decoded."""
    clean = unquote_to_bytes(path.partition(b"?")[0]).decode("utf-8", "replace")
    return "/" + clean.strip("/")


def query_values(path: bytes) -> dict[str, str]:
    """The query of a path; of a name that is there more than once, the last value."""
    query = path.partition(b"?")[2].decode("latin-1")
    return {name: values[-1] for name, values in parse_qs(query, keep_blank_values=True, max_num_fields=100).items()}


def _pattern(path: str) -> re.Pattern[str]:
    """`/a/{b}:c` as a regular expression."""
    parts = re.split(r"\{(\w+)\}", path)
    return re.compile("".join(f"(?P<{part}>[^/:]+)" if at % 2 else re.escape(part) for at, part in enumerate(parts)))
