"""One page of a search among runs: the filter and the order compiled, run, and the rows of runs given back.

Which runs are on the page is found with nothing but their numbers and what they are ordered by, since the database may
have to sort many of them; the rows of those that are on it are read afterwards.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec
from sqlalchemy import ARRAY, ColumnElement, Connection, Row, Select, Text, any_, literal, select
from sqlalchemy.sql.elements import UnaryExpression
from sqlalchemy.sql.operators import custom_op

from loopwright.core import NotFound, is_id
from loopwright.store import Database
from loopwright.track.keys import ByNumbers, find_keys
from loopwright.track.model import View
from loopwright.track.reading import experiment_names
from loopwright.track.revisions import revisions_of
from loopwright.track.search.compiler import KEYED, compile_test, holds_in, keys_of
from loopwright.track.search.language import parse_filter, parse_order
from loopwright.track.search.meeting import is_among, meet, read_ranges, size_of
from loopwright.track.search.paging import LEADING, MISSING, Phase, known, order_of, phases
from loopwright.track.search.planning import COUNT_CAP, Sizes, ranges_to_meet
from loopwright.track.search.tokens import Tokens, refused
from loopwright.track.search.words import PRESENCE, Operator, SortKey
from loopwright.track.tables import runs


class Question(msgspec.Struct, frozen=True):
    """What a search asks for. `experiments` are ids; None means all. `after` is a page token or a run's id."""

    project: str
    filter: str = ""
    experiments: tuple[str, ...] | None = None
    view: View = View.ACTIVE
    order_by: tuple[str, ...] = ()
    limit: int = 100
    after: str = ""


class Found(NamedTuple):
    """A run on a page: its number, its revision, and its experiment's name."""

    seq: int
    revision: int
    experiment: str


def search_rows(database: Database, connection: Connection, asked: Question) -> tuple[list[Row[Any]], str]:
    """The rows of a page of runs, and the token for the page after it, or an empty text.

    Raises:
        Invalid, NotFound: as `search_found`.
    """
    page, following = _page(database, connection, asked)
    return _rows_of(connection, [row.seq for row in page]), following


def load_rows(connection: Connection, found: Sequence[Found]) -> list[Row[Any]]:
    """The rows of runs, in their order."""
    return _rows_of(connection, [run.seq for run in found])


def _rows_of(connection: Connection, seqs: Sequence[int]) -> list[Row[Any]]:
    rows = {row.seq: row for row in _ROWS.rows(connection, seqs)}
    return [rows[seq] for seq in seqs]


def search_found(database: Database, connection: Connection, asked: Question) -> tuple[list[Found], str]:
    """Which runs are on a page, and the token for the page after it, or an empty text.

    Raises:
        Invalid: the filter, the order or the page token is malformed.
        NotFound: there is no run `after`.
    """
    page, following = _page(database, connection, asked)
    revisions = revisions_of(connection, [row.seq for row in page])
    names = experiment_names(connection, {row.experiment_id for row in page})
    return [Found(row.seq, revisions.get(row.seq, 0), names[row.experiment_id]) for row in page], following


def _page(database: Database, connection: Connection, asked: Question) -> tuple[list[Row[Any]], str]:
    """Numbers, experiments and places of the runs on a page, and the token for the page after it."""
    search = _Search(database, connection, asked)
    phase, place = search.start()
    found: list[tuple[Phase, Row[Any]]] = []
    for following in search.phases[phase:]:
        found += [(following, row) for row in search.rows(following, place, asked.limit + 1 - len(found))]
        place = None
        if len(found) > asked.limit:
            break
    page = found[: asked.limit]
    return [row for _, row in page], search.token(*page[-1]) if len(found) > len(page) else ""


_ROWS = ByNumbers(select(runs), runs.c.seq)
_FEW = 100  # experiments that are written out in a query; more are bound as one value, of which there is no limit
_HEAD = 2  # what is read of a run beside its place


def tokens_of(database: Database, asked: Question) -> Tokens:
    """The page tokens of a question."""
    whole = ["runs by id", asked.project, asked.filter, asked.experiments, asked.view, asked.order_by]
    return Tokens(database, whole)


class _Search:
    """A question with all that is needed to answer it.

    Comparisons with the first sort key are conditions on the very rows that are walked: they narrow the walk.
    """

    def __init__(self, database: Database, connection: Connection, asked: Question) -> None:
        self._database, self._connection, self._asked = database, connection, asked
        self._tokens = tokens_of(database, asked)
        comparisons, order = parse_filter(asked.filter), parse_order(asked.order_by)
        key_ids = find_keys(database, connection, keys_of(comparisons) | keys_of(order))
        keys = known(order, key_ids)
        leading = [item for item in comparisons if keys and (item.entity, item.key) == (keys[0].entity, keys[0].key)]
        self._leading = [item for item in leading if item.entity in KEYED]
        self._tests = [(item, compile_test(item, key_ids, asked.project, database.dialect)) for item in comparisons]
        self._ranged = [(item, test.range) for item, test in self._tests if test.range is not None]
        self._met: tuple[int, ...] = ()
        if self._ranged and database.dialect == "sqlite":
            self._met, self._numbers = self._ranges_met(keys)
        self.phases = [
            phase for phase in phases(keys, key_ids, database.dialect, not self._met) if self._is_possible(phase)
        ]

    def start(self) -> tuple[int, list[Any] | None]:
        """The index of the phase to begin with, and the place in it to begin after."""
        after = self._asked.after
        if not after:
            return 0, None
        number, *place = self._place_of(after) if is_id(after) else self._tokens.read(self._connection, after)
        for at, phase in enumerate(self.phases):
            if phase.number == number and len(phase.columns) == len(place):
                return at, place
        raise refused()  # a sort key that nobody had at the first page has appeared

    def rows(self, phase: Phase, place: list[Any] | None, limit: int) -> Sequence[Row[Any]]:
        """The numbers and places of runs of one phase."""
        query = self._narrowed(select(runs.c.seq, runs.c.experiment_id, *phase.selected()), phase)
        if place is not None:
            query = query.where(phase.after(place))
        return self._connection.execute(query.order_by(*phase.clauses()).limit(limit)).all()

    def token(self, phase: Phase, last: Row[Any]) -> str:
        """The token for the page after a row."""
        return self._tokens.write(self._connection, [phase.number, *last[_HEAD:]])

    def _is_possible(self, phase: Phase) -> bool:
        """Whether a run of this phase can match: what is compared must be there, or missing."""
        wanted = {item.operator is Operator.IS_NULL for item in self._leading}
        return wanted <= {phase.number == MISSING}

    def _narrowed(self, query: Select[Any], phase: Phase) -> Select[Any]:
        asked = self._asked
        leads_elsewhere = self._database.dialect == "sqlite" and (self._met or phase.source is not runs)
        keep: Any = _unindexed if leads_elsewhere else _as_it_is
        query = query.select_from(phase.source).where(keep(runs.c.project) == asked.project, *phase.where)
        if asked.view is not View.ALL:
            deleted = runs.c.deleted_at
            query = query.where(deleted.is_(None) if asked.view is View.ACTIVE else deleted.is_not(None))
        if asked.experiments is not None:
            query = query.where(self._is_in(keep(runs.c.experiment_id), asked.experiments))
        return query.where(*self._conditions(phase))

    def _is_in(self, column: ColumnElement[str], experiments: Sequence[str]) -> ColumnElement[bool]:
        if len(experiments) == 1:
            return column == experiments[0]
        if len(experiments) <= _FEW:
            return column.in_(experiments)
        if self._database.dialect == "sqlite":
            return is_among(column, msgspec.json.encode(experiments).decode(), Text)
        return column == any_(literal(list(experiments), ARRAY(Text)))

    def _conditions(self, phase: Phase) -> list[ColumnElement[bool]]:
        if self._met:
            met = [self._ranged[number][0] for number in self._met]
            rest = [test.probe for item, test in self._tests if not any(item is chosen for chosen in met)]
            return [is_among(runs.c.seq, self._numbers), *rest]
        walked = phase.source is not runs
        return [
            holds_in(LEADING[item.entity], item, self._database.dialect)
            if walked and item in self._leading and item.operator not in PRESENCE
            else test.probe
            for item, test in self._tests
        ]

    def _ranges_met(self, keys: Sequence[SortKey]) -> tuple[tuple[int, ...], str]:
        """Which of the ranges are met before anything else is done, and the numbers of the runs that are in them."""
        most, texts = read_ranges(self._connection, [found for _, found in self._ranged], COUNT_CAP)
        leading = tuple(item in self._leading for item, _ in self._ranged)
        sizes = Sizes(most, tuple(map(size_of, texts)), len(self._tests) - len(texts), leading)
        chosen = ranges_to_meet(sizes, self._asked.limit, order_of(keys))
        return chosen, meet([texts[number] for number in chosen]) if chosen else ""

    def _place_of(self, run_id: str) -> list[Any]:
        for phase in self.phases:
            query = select(*phase.selected()).select_from(phase.source).where(*phase.where)
            row = self._connection.execute(
                query.where(runs.c.project == self._asked.project, runs.c.id == run_id)
            ).one_or_none()
            if row is not None:
                return [phase.number, *row]
        raise NotFound(f"there is no run {run_id[:60]!r} to go on after", next_step="start again from the first page")


def _as_it_is(column: Any) -> Any:
    return column


def _unindexed(column: Any) -> Any:
    """SQLite's way to say that a condition must not choose the index: a plus before the column."""
    return UnaryExpression(column, operator=custom_op("+"), type_=column.type)
