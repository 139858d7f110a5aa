"""The filter and the order of registry searches: comparisons joined by AND, as MLflow writes them.

    name LIKE 'delay%' and tags.team = 'ops'            version_number > 3 and run_id IN ('0197…', '0198…')

The parser does not recurse; a text of any size and depth costs linear time.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Literal, NoReturn

import msgspec

from loopwright.core import Invalid

MAX_LENGTH = 20_000
MAX_COMPARISONS = 100
_TEXT_OPERATORS = ("=", "!=", "LIKE", "ILIKE", "IN", "NOT IN")
_NUMBER_OPERATORS = ("=", "!=", "<", "<=", ">", ">=")
_COMPARISON = re.compile(
    r"""\s*
    (?: (?P<entity>[A-Za-z]+)\s*\.\s* )?
    (?: `(?P<tick>[^`]*)` | "(?P<quoted>[^"]*)" | (?P<word>[A-Za-z_][\w./\-]*) ) \s*
    (?P<operator><=|>=|!=|<>|==|=|<|>|(?:NOT\s+)?IN\b|I?LIKE\b) \s*
    (?P<value> \( (?:[^()'"]|'[^']*'|"[^"]*")* \) | '(?:[^']|'')*' | "[^"]*" | [+-]?[\w.+\-]+ )
    """,
    re.VERBOSE | re.IGNORECASE,
)
_AND = re.compile(r"\s+AND\s+", re.IGNORECASE)
_LIST = re.compile(r"""\(\s*(?:'[^']*'|"[^"]*")(?:\s*,\s*(?:'[^']*'|"[^"]*"))*\s*,?\s*\)""")
_ITEM = re.compile(r"""'([^']*)'|"([^"]*)\"""")
_ORDER = re.compile(r"\s*[`\"]?(?:attributes?\.)?(\w+)[`\"]?(?:\s+(ASC|DESC))?\s*", re.IGNORECASE)

Entity = Literal["attribute", "tag"]
_ENTITIES: dict[str, Entity] = {
    "": "attribute",
    "attribute": "attribute",
    "attributes": "attribute",
    "tag": "tag",
    "tags": "tag",
}


class Comparison(msgspec.Struct, frozen=True):
    """One condition. `key` is a tag's, or the column of an attribute; `value` a list for IN and NOT IN."""

    entity: Entity
    key: str
    operator: str
    value: int | str | tuple[str, ...]


class Words(msgspec.Struct, frozen=True):
    """What may be asked of one kind of thing: the column behind each name, and which of the columns are numbers."""

    noun: str
    texts: Mapping[str, str]
    numbers: Mapping[str, str]
    orders: Mapping[str, str]


MODEL_WORDS = Words(
    noun="model",
    texts={"name": "name"},
    numbers={},
    orders={
        "name": "name",
        "created_at": "created_at",
        "creation_timestamp": "created_at",
        "updated_at": "updated_at",
        "last_updated_timestamp": "updated_at",
        "timestamp": "updated_at",
    },
)
VERSION_WORDS = Words(
    noun="model version",
    texts={
        "name": "name",
        "run": "run",
        "run_id": "run",
        "source": "source",
        "source_path": "source",
        "stage": "stage",
        "kind": "kind",
    },
    numbers={"version": "version", "version_number": "version"},
    orders={
        "name": "name",
        "version": "version",
        "version_number": "version",
        "created_at": "created_at",
        "creation_timestamp": "created_at",
        "updated_at": "updated_at",
        "last_updated_timestamp": "updated_at",
    },
)


def parse_filter(text: str, words: Words) -> tuple[Comparison, ...]:
    """The comparisons of a filter, all of which must hold.

    Raises:
        Invalid: the text is no filter; the message says where and what was expected.
    """
    if len(text) > MAX_LENGTH:
        raise Invalid(f"the filter has {len(text):,} characters; the limit is {MAX_LENGTH:,}")
    found: list[Comparison] = []
    position, end = 0, len(text.rstrip())
    while position < end:
        match = _COMPARISON.match(text, position, end)
        if match is None:
            _fail(text, position, "expected a comparison", "the form is: name LIKE 'delay%' and tags.team = 'ops'")
        found.append(_comparison(text, match, words))
        position = match.end()
        if position < end:
            joined = _AND.match(text, position, end)
            if joined is None:
                _fail(text, position, "expected AND", "comparisons are joined by AND; OR and brackets are not there")
            position = joined.end()
        if len(found) > MAX_COMPARISONS:
            raise Invalid(f"the filter has more than {MAX_COMPARISONS} comparisons")
    return tuple(found)


def parse_order(texts: tuple[str, ...], words: Words) -> tuple[tuple[str, bool], ...]:
    """The columns of an order such as `("updated_at DESC", "name")`, each with whether it falls.

    Raises:
        Invalid: one of the texts is no key of an order, or a column comes twice.
    """
    found: dict[str, bool] = {}
    for text in texts:
        match = _ORDER.fullmatch(text[:200])
        column = words.orders.get(match[1].lower(), "") if match else ""
        if match is None or not column:
            known = ", ".join(sorted(words.orders))
            raise Invalid(f"Invalid order by key {text[:60]!r}: {words.noun}s cannot be ordered by it. Known: {known}")
        if column in found:
            raise Invalid(f"`order_by` contains duplicate fields: {list(texts)}")
        found[column] = (match[2] or "").upper() == "DESC"
    return tuple(found.items())


def _comparison(text: str, match: re.Match[str], words: Words) -> Comparison:
    entity = _ENTITIES.get((match["entity"] or "").lower())
    if entity is None:
        _fail(text, match.start(), f"there is no {match['entity']!r} to search by", "use attributes or tags")
    key = next(part for part in (match["tick"], match["quoted"], match["word"]) if part is not None)
    written = " ".join(match["operator"].upper().split())
    operator = {"==": "=", "<>": "!="}.get(written, written)
    if entity == "tag":
        return Comparison("tag", key, _allowed(text, match, operator, _TEXT_OPERATORS), _text(text, match, operator))
    if key in words.numbers:
        operator = _allowed(text, match, operator, _NUMBER_OPERATORS)
        return Comparison("attribute", words.numbers[key], operator, _number(text, match))
    if key not in words.texts:
        known = ", ".join(sorted({*words.texts, *words.numbers}))
        _fail(text, match.start(), f"a {words.noun} has no attribute {key!r}", f"known: {known}; or write tags.{key}")
    operator = _allowed(text, match, operator, _TEXT_OPERATORS)
    return Comparison("attribute", words.texts[key], operator, _text(text, match, operator))


def _allowed(text: str, match: re.Match[str], operator: str, allowed: tuple[str, ...]) -> str:
    if operator not in allowed:
        _fail(text, match.start("operator"), f"{operator} cannot be used here", f"use one of {', '.join(allowed)}")
    return operator


def _text(text: str, match: re.Match[str], operator: str) -> str | tuple[str, ...]:
    value = match["value"]
    if operator in ("IN", "NOT IN"):
        if _LIST.fullmatch(value) is None:
            _fail(text, match.start("value"), "expected a list of quoted texts", "a list is written as ('a', 'b')")
        return tuple(first or second for first, second in _ITEM.findall(value))
    if value[0] not in "'\"":
        _fail(text, match.start("value"), "expected a quoted text", "write it as 'text'")
    return value[1:-1].replace("''", "'") if value[0] == "'" else value[1:-1]


def _number(text: str, match: re.Match[str]) -> int:
    value = match["value"].strip("'\"")
    if not re.fullmatch(r"[+-]?\d{1,18}", value):
        _fail(text, match.start("value"), "expected a whole number", "write it as version_number > 3")
    return int(value)


def _fail(text: str, position: int, fact: str, next_step: str) -> NoReturn:
    near = text[position : position + 30].strip() or "its end"
    raise Invalid(f"{fact} at {near!r}", where=f"filter, character {position + 1}", next_step=next_step)
