"""The filter language of run search: MLflow's, without its historical accidents.

    filter     = [ comparison { AND comparison } ]
    comparison = identifier operator value
    identifier = [ ("metrics" | "params" | "tags" | "attributes") "." ] key       (and MLflow's aliases of them)
    key        = word | "quoted" | `quoted`
    operator   = "=" | "!=" | "<" | "<=" | ">" | ">=" | LIKE | ILIKE | [NOT] IN
    value      = number | 'text' | "text" | "(" text { "," text } ")"

A comparison is true only for a run that has the thing compared: `params.lr != '0.1'` asks for runs with another `lr`.
A metric that is NaN matches nothing. The parser does not recurse; a text of any size and depth costs linear time.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from enum import StrEnum
from typing import NoReturn

import msgspec

from loopwright.core import Invalid

MAX_LENGTH = 20_000
MAX_COMPARISONS = 100


class Entity(StrEnum):
    METRIC = "metrics"
    PARAM = "params"
    TAG = "tags"
    ATTRIBUTE = "attributes"


class Operator(StrEnum):
    EQ = "="
    NE = "!="
    LT = "<"
    LE = "<="
    GT = ">"
    GE = ">="
    LIKE = "LIKE"
    ILIKE = "ILIKE"
    IN = "IN"
    NOT_IN = "NOT IN"


class Comparison(msgspec.Struct, frozen=True):
    """One condition. `value` is a number, a text, or texts for IN and NOT IN."""

    entity: Entity
    key: str
    operator: Operator
    value: float | str | tuple[str, ...]


class SortKey(msgspec.Struct, frozen=True):
    """One key of an order; runs without a value come last either way."""

    entity: Entity
    key: str
    descending: bool = False


ENTITIES = {
    **dict.fromkeys(("metric", "metrics"), Entity.METRIC),
    **dict.fromkeys(("param", "params", "parameter", "parameters"), Entity.PARAM),
    **dict.fromkeys(("tag", "tags"), Entity.TAG),
    **dict.fromkeys(("attribute", "attributes", "attr", "run"), Entity.ATTRIBUTE),
}
TEXT_ATTRIBUTES = {
    **dict.fromkeys(("id", "run_id"), "id"),
    **dict.fromkeys(("name", "run_name", "Run name"), "name"),
    **dict.fromkeys(("actor", "user_id", "User"), "actor"),
    "status": "status",
    "kind": "kind",
    "parent": "parent",
}
TIME_ATTRIBUTES = {
    **dict.fromkeys(("started_at", "start_time", "created", "Created"), "started_at"),
    **dict.fromkeys(("ended_at", "end_time"), "ended_at"),
}
_TEXT_OPERATORS = {Operator.EQ, Operator.NE, Operator.LIKE, Operator.ILIKE, Operator.IN, Operator.NOT_IN}
_NUMBER_OPERATORS = {Operator.EQ, Operator.NE, Operator.LT, Operator.LE, Operator.GT, Operator.GE}

_TOKEN = re.compile(
    r"""\s*(?:
      (?P<number>[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?(?![\w.]))
    | (?P<word>[^\W\d][\w./:\-]*)
    | (?P<text>'(?:[^']|'')*'|"(?:[^"]|"")*")
    | (?P<tick>`[^`]*`)
    | (?P<sign><=|>=|!=|<>|==|=|<|>|\(|\)|,|\.)
    )""",
    re.VERBOSE,
)


class _Token(msgspec.Struct, frozen=True):
    kind: str
    text: str
    start: int

    def is_word(self, *words: str) -> bool:
        return self.kind == "word" and self.text.upper() in words

    @property
    def plain(self) -> str:
        """The token without its quotes."""
        if self.kind not in ("text", "tick"):
            return self.text
        quote = self.text[0]
        return self.text[1:-1].replace(quote * 2, quote) if self.kind == "text" else self.text[1:-1]


def parse_filter(text: str) -> tuple[Comparison, ...]:
    """The comparisons of a filter, all of which must hold.

    Raises:
        Invalid: the text is no filter; the message says where and what was expected.
    """
    if len(text) > MAX_LENGTH:
        raise Invalid(f"the filter has {len(text):,} characters; the limit is {MAX_LENGTH:,}")
    reader = _Reader(text)
    found: list[Comparison] = []
    while not reader.at_end:
        if found:
            reader.expect_word("AND")
        found.append(_comparison(reader))
        if len(found) > MAX_COMPARISONS:
            raise Invalid(f"the filter has more than {MAX_COMPARISONS} comparisons")
    return tuple(found)


def parse_order(texts: tuple[str, ...]) -> tuple[SortKey, ...]:
    """The keys of an order such as `("metrics.auc DESC", "params.lr")`.

    Raises:
        Invalid: one of the texts is no key of an order.
    """
    return tuple(_sort_key(text) for text in texts)


def _sort_key(text: str) -> SortKey:
    reader = _Reader(text[:MAX_LENGTH])
    entity, key = _identifier(reader)
    direction = "" if reader.at_end else reader.take("ASC or DESC").text.upper()
    if direction not in ("", "ASC", "DESC") or not reader.at_end:
        raise Invalid(f"cannot order runs by {text!r}", next_step="write it as 'metrics.auc DESC'")
    return SortKey(entity, key, direction == "DESC")


def _comparison(reader: _Reader) -> Comparison:
    entity, key = _identifier(reader)
    operator = _operator(reader)
    is_number = entity is Entity.METRIC or (entity is Entity.ATTRIBUTE and key in TIME_ATTRIBUTES.values())
    allowed = _NUMBER_OPERATORS if is_number else _TEXT_OPERATORS
    if operator not in allowed:
        reader.fail(f"{entity}.{key} cannot be compared by {operator}", f"use one of {', '.join(sorted(allowed))}")
    if operator in (Operator.IN, Operator.NOT_IN):
        return Comparison(entity, key, operator, _normal_all(entity, key, _texts(reader)))
    if is_number:
        return Comparison(entity, key, operator, _number(reader, f"{entity}.{key}"))
    return Comparison(entity, key, operator, _normal(entity, key, _text(reader, f"{entity}.{key}")))


def _identifier(reader: _Reader) -> tuple[Entity, str]:
    first = reader.take("metrics.KEY, params.KEY, tags.KEY or an attribute", "word", "tick", "text")
    head, dot, rest = first.text.partition(".")
    if first.kind != "word" or (not dot and not reader.next_is("sign", ".")):
        return Entity.ATTRIBUTE, _attribute(reader, first.plain, first)
    entity = ENTITIES.get(head.lower())
    if entity is None:
        reader.fail(f"there is no {head!r} to search by", "use metrics, params, tags or attributes", first)
    key = rest or _quoted_key(reader, dot)
    return entity, _attribute(reader, key, first) if entity is Entity.ATTRIBUTE else key


def _quoted_key(reader: _Reader, dot: str) -> str:
    if not dot:
        reader.take("'.'", "sign")
    return reader.take("a key", "word", "tick", "text").plain


def _attribute(reader: _Reader, name: str, at: _Token) -> str:
    found = TEXT_ATTRIBUTES.get(name) or TIME_ATTRIBUTES.get(name)
    if found is None:
        known = sorted({*TEXT_ATTRIBUTES.values(), *TIME_ATTRIBUTES.values()})
        reader.fail(f"runs have no attribute {name!r}", f"known: {', '.join(known)}; or write metrics.{name}", at)
    return found


def _operator(reader: _Reader) -> Operator:
    token = reader.take("an operator such as = or >", "sign", "word")
    if token.is_word("NOT"):
        reader.expect_word("IN")
        return Operator.NOT_IN
    text = {"==": "=", "<>": "!="}.get(token.text, token.text.upper())
    if text not in Operator._value2member_map_:
        reader.fail(f"{token.text!r} is no operator", f"use one of {', '.join(Operator)}", token)
    return Operator(text)


def _number(reader: _Reader, what: str) -> float:
    token = reader.take(f"a number to compare {what} with", "number")
    return float(token.text)


def _text(reader: _Reader, what: str) -> str:
    return reader.take(f"a quoted text to compare {what} with", "text").plain


def _texts(reader: _Reader) -> tuple[str, ...]:
    reader.expect_sign("(")
    found = [reader.take("a quoted text", "text").plain]
    while reader.next_is("sign", ","):
        reader.expect_sign(",")
        found.append(reader.take("a quoted text", "text").plain)
    reader.expect_sign(")")
    return tuple(found)


def _normal(entity: Entity, key: str, text: str) -> str:
    """MLflow writes statuses in capitals."""
    return text.lower() if entity is Entity.ATTRIBUTE and key == "status" else text


def _normal_all(entity: Entity, key: str, texts: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(_normal(entity, key, text) for text in texts)


class _Reader:
    """Hands out the tokens of a text one by one, and says where it stands when something is wrong."""

    def __init__(self, text: str) -> None:
        self.text = text
        self._tokens = _tokens(text)
        self._next = next(self._tokens, None)

    @property
    def at_end(self) -> bool:
        return self._next is None

    def next_is(self, kind: str, text: str) -> bool:
        return self._next is not None and self._next.kind == kind and self._next.text == text

    def take(self, expected: str, *kinds: str) -> _Token:
        token = self._next
        if token is None or (kinds and token.kind not in kinds):
            self.fail(f"expected {expected}", "the form is: metrics.auc > 0.9 and params.lr = '0.1'")
        self._next = next(self._tokens, None)
        return token

    def expect_word(self, word: str) -> None:
        if self._next is None or not self._next.is_word(word):
            self.fail(f"expected {word}", "comparisons are joined by AND; OR and brackets are not supported")
        self.take(word)

    def expect_sign(self, sign: str) -> None:
        if not self.next_is("sign", sign):
            self.fail(f"expected {sign!r}", "a list is written as ('a', 'b')")
        self.take(sign)

    def fail(self, fact: str, next_step: str, at: _Token | None = None) -> NoReturn:
        """Refuse the text; `at` is what is wrong, by default what comes next."""
        place = at or self._next
        start = place.start if place else len(self.text)
        near = self.text[start : start + 30] or "its end"
        raise Invalid(f"{fact} at {near!r}", where=f"filter, character {start + 1}", next_step=next_step)


def _tokens(text: str) -> Iterator[_Token]:
    position, end = 0, len(text.rstrip())
    while position < end:
        match = _TOKEN.match(text, position, end)
        if match is None:
            raise Invalid(
                f"{text[position : position + 30].strip()!r} cannot be read",
                where=f"filter, character {position + 1}",
                next_step="texts are quoted: params.lr = '0.1'; other keys too: metrics.`my key`",
            )
        kind = match.lastgroup or ""
        yield _Token(kind, match.group(kind), match.start(kind))
        position = match.end()
