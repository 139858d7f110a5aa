"""One page of a search among runs, found in the arrays that are held of them.

The same answers and the same page tokens as from the database (`loopwright.track.search.query`), which answers what is
not supported here.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from sqlalchemy import Connection

from loopwright.core import is_id
from loopwright.store import Database
from loopwright.track.keys import find_keys
from loopwright.track.model import View
from loopwright.track.search.arrays import ATTRIBUTES, Array, Name, Numbers, Texts
from loopwright.track.search.conditions import micros_of
from loopwright.track.search.held import HeldRuns
from loopwright.track.search.language import parse_filter, parse_order
from loopwright.track.search.matching import compares
from loopwright.track.search.paging import MISSING, NAN, VALUE
from loopwright.track.search.query import Found, Question, tokens_of
from loopwright.track.search.tokens import refused
from loopwright.track.search.words import Comparison, Entity, Operator, SortKey

_KEYED = (Entity.METRIC, Entity.PARAM, Entity.TAG)
_START = "started_at"


class _Parsed(NamedTuple):
    """A question taken apart; `names` is None where the arrays cannot answer it."""

    comparisons: tuple[Comparison, ...]
    keys: tuple[SortKey, ...]
    names: frozenset[Name] | None


def search_held(
    held: HeldRuns, database: Database, connection: Connection, asked: Question, *, glance: bool = False
) -> tuple[list[Found], str] | None:
    """Which runs are on a page, and the token for the page after it; None where the database has to be asked.

    Args:
        connection: a snapshot in which nothing has been read.
        glance: it is none, but as `Database.glance` gives it.

    Raises:
        Invalid: the filter, the order or the page token is malformed.
        NotAtAGlanceError: more than a glance is needed.
    """
    parsed = _parsed(asked.filter, asked.order_by)
    if parsed.names is None or is_id(asked.after):
        return None
    with (held.glancing if glance else held.reading)(connection, parsed.names) as ready:
        if not ready:
            return None
        known = find_keys(database, connection, {key.key for key in parsed.keys if key.entity is Entity.METRIC})
        return _Scan(held, parsed, known).page(database, connection, asked)


@lru_cache(maxsize=256)
def _parsed(filter: str, order_by: tuple[str, ...]) -> _Parsed:
    comparisons, keys = parse_filter(filter), parse_order(order_by)
    good = all(map(_is_compared_here, comparisons)) and all(map(_is_ordered_here, keys))
    items = [*((item.entity, item.key) for item in comparisons), *((key.entity, key.key) for key in keys)]
    names = frozenset(name for name in items if name != (Entity.ATTRIBUTE, _START))
    return _Parsed(comparisons, keys, names if good else None)


def _is_compared_here(item: Comparison) -> bool:
    return item.entity in _KEYED or (item.entity is Entity.ATTRIBUTE and item.key in {*ATTRIBUTES, _START})


def _is_ordered_here(key: SortKey) -> bool:
    return key.entity is Entity.METRIC or (key.entity is Entity.ATTRIBUTE and key.key == _START)


class _Column(NamedTuple):
    """What runs are ordered by: smaller first, unless descending. Where `blank`, a place has nothing of it."""

    values: Array
    descending: bool
    blank: Array | None = None

    def rising(self) -> Array:
        """The same, smaller first; ids are never descending."""
        return -self.values if self.descending else self.values

    def value(self, at: int) -> Any:
        """What a place remembers of a run."""
        if self.blank is not None and self.blank[at]:
            return None
        found = self.values[at].item()
        return found.decode() if isinstance(found, bytes) else found


class _Hit(NamedTuple):
    """A run that was found: its phase, where it stands in the arrays, and in the columns that it was ordered by."""

    phase: int
    at: int
    columns: Sequence[_Column]
    row: int

    def place(self) -> list[Any]:
        """What a token remembers of it."""
        return [self.phase, *(column.value(self.row) for column in self.columns)]


class _Scan:
    def __init__(self, held: HeldRuns, parsed: _Parsed, known: Collection[str]) -> None:
        self._held, self._parsed = held, parsed
        # A metric that no run ever had orders nothing.
        self._keys = [key for key in parsed.keys if key.entity is Entity.ATTRIBUTE or key.key in known]

    def page(self, database: Database, connection: Connection, asked: Question) -> tuple[list[Found], str]:
        """The page, and the token for the next one."""
        phase, place = VALUE, None
        tokens = tokens_of(database, asked)
        if asked.after:
            phase, *place = tokens.read(connection, asked.after)
        chosen = np.flatnonzero(self._matching(asked))
        states = self._states(chosen)
        found: list[_Hit] = []
        for number in range(phase, MISSING + 1):
            of_phase = chosen if states is None else chosen[states == number]
            if states is None and number != VALUE:
                break
            found += self._first(number, of_phase, place, asked.limit + 1 - len(found))
            place = None
            if len(found) > asked.limit:
                break
        page = found[: asked.limit]
        token = tokens.write(connection, page[-1].place()) if len(found) > len(page) else ""
        return self._found(connection, [hit.at for hit in page]), token

    def _found(self, connection: Connection, places: list[int]) -> list[Found]:
        held = self._held
        ids = list(held.experiments.words)
        seqs, revisions = held.seqs[places].tolist(), held.revisions[places].tolist()
        codes = held.experiments.codes[places].tolist()
        names = held.titles(connection, {ids[code] for code in set(codes)})
        experiments = [names[ids[code]] for code in codes]
        return [Found(*run) for run in zip(seqs, revisions, experiments, strict=True)]

    def _matching(self, asked: Question) -> Array:
        """Which runs the question is about."""
        held = self._held
        found: Array = held.projects.codes == held.projects.words.get(asked.project, -2)
        if asked.view is not View.ALL:
            found &= ~held.deleted if asked.view is View.ACTIVE else held.deleted
        if asked.experiments is not None:
            codes = [held.experiments.words[id] for id in asked.experiments if id in held.experiments.words]
            mine = held.experiments.codes
            found &= mine == codes[0] if len(codes) == 1 else np.isin(mine, codes)
        for item in self._parsed.comparisons:
            found &= self._holding(item)
        return found

    def _holding(self, item: Comparison) -> Array:
        if item.entity is Entity.METRIC:
            return _numeric(self._numbers(item.key), item)
        if item.entity is Entity.ATTRIBUTE and item.key == _START:
            return _timed(self._held.started, item)
        column = self._held.named[item.entity, item.key]
        assert isinstance(column, Texts)
        return _textual(column, item)

    def _numbers(self, key: str) -> Numbers:
        column = self._held.named[Entity.METRIC, key]
        assert isinstance(column, Numbers)
        return column

    def _states(self, chosen: Array) -> Array | None:
        """The phase of each run, by the first key; None where all are alike."""
        if not self._keys or self._keys[0].entity is Entity.ATTRIBUTE:
            return None
        return _state(self._numbers(self._keys[0].key), chosen)

    def _first(self, number: int, chosen: Array, place: Sequence[Any] | None, limit: int) -> list[_Hit]:
        """The first runs of a phase after a place."""
        columns = self._columns(number, chosen)
        if place is not None:
            later = _after(columns, place, len(chosen))
            chosen, columns = chosen[later], _only(columns, later)
        if len(chosen) > 4 * limit + 1_000:
            first = columns[0].rising()
            near = first <= np.partition(first, limit - 1)[limit - 1]
            chosen, columns = chosen[near], _only(columns, near)
        order = np.lexsort([column.rising() for column in reversed(columns)])[:limit]
        return [_Hit(number, at, columns, row) for at, row in zip(chosen[order].tolist(), order.tolist(), strict=True)]

    def _columns(self, number: int, chosen: Array) -> list[_Column]:
        held, columns = self._held, list[_Column]()
        for at, key in enumerate(self._keys):
            if key.entity is Entity.ATTRIBUTE:
                columns.append(_Column(held.started[chosen], key.descending))
                continue
            values = self._numbers(key.key).values[chosen]
            if at == 0:
                columns += [_Column(values, key.descending)] if number == VALUE else []
                continue
            state = _state(self._numbers(key.key), chosen)
            blank = state != VALUE
            columns += [_Column(state, False), _Column(np.where(blank, 0.0, values), key.descending, blank)]
        if not any(key.entity is Entity.ATTRIBUTE for key in self._keys):
            columns.append(_Column(held.started[chosen], True))
        return [*columns, _Column(held.ids[chosen], False)]


def _state(column: Numbers, chosen: Array) -> Array:
    there = column.there[chosen]
    return np.where(there, np.where(np.isnan(column.values[chosen]), NAN, VALUE), MISSING)


def _only(columns: list[_Column], chosen: Array) -> list[_Column]:
    return [
        _Column(values[chosen], descending, None if blank is None else blank[chosen])
        for values, descending, blank in columns
    ]


def _after(columns: Sequence[_Column], place: Sequence[Any], count: int) -> Array:
    """Which runs come after a place."""
    if len(place) != len(columns):
        raise refused()  # a sort key that nobody had at the first page has appeared
    later, same = np.zeros(count, bool), np.ones(count, bool)
    for column, value in zip(columns, place, strict=True):
        if value is None:  # nobody in this group has one: the flag before it says so
            continue
        value = value.encode() if isinstance(value, str) else value
        later |= same & (column.values < value if column.descending else column.values > value)
        same &= column.values == value
    return later


def _numeric(column: Numbers, item: Comparison) -> Array:
    """NaN is unequal to every number; what is missing fulfils nothing but IS NULL."""
    values, asked = column.values, item.value
    match item.operator:
        case Operator.IS_NULL:
            found: Array = ~column.there
        case Operator.IS_NOT_NULL:
            found = column.there
        case Operator.NE:
            found = column.there & (values != asked)
        case Operator.EQ:
            found = values == asked
        case Operator.LT:
            found = values < asked
        case Operator.LE:
            found = values <= asked
        case Operator.GT:
            found = values > asked
        case _:
            found = values >= asked
    return found


def _timed(started: Array, item: Comparison) -> Array:
    assert isinstance(item.value, float)
    below, above = micros_of(item.value)
    match item.operator:
        case Operator.EQ:
            found: Array = (started >= below) & (started < above)
        case Operator.NE:
            found = (started < below) | (started >= above)
        case Operator.LT:
            found = started < below
        case Operator.LE:
            found = started < above
        case Operator.GT:
            found = started >= above
        case _:
            found = started >= below
    return found


def _textual(column: Texts, item: Comparison) -> Array:
    codes, words = column.codes, column.words
    match item.operator:
        case Operator.IS_NULL:
            found: Array = codes < 0
        case Operator.IS_NOT_NULL:
            found = codes >= 0
        case Operator.EQ:
            found = codes == words.get(str(item.value), -2)
        case Operator.NE:
            found = (codes >= 0) & (codes != words.get(str(item.value), -2))
        case _:
            fits = np.fromiter((compares(word, item) for word in words), bool, len(words))
            found = np.append(fits, False)[codes]
    return found
