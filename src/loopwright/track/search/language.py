"""The filter language of searches: MLflow's, without its historical accidents.

    filter     = [ comparison { AND comparison } ]
    comparison = identifier operator value  |  identifier IS [NOT] NULL
    identifier = [ ("metrics" | "params" | "tags" | "attributes" | "dataset") "." ] key    (and MLflow's aliases)
    key        = word | "quoted" | `quoted`
    operator   = "=" | "!=" | "<" | "<=" | ">" | ">=" | LIKE | ILIKE | [NOT] IN
    value      = number | 'text' | "text" | "(" text { "," text } ")"

A comparison is true only for what has the thing compared: `params.lr != '0.1'` asks for runs with another `lr`; only
IS NULL asks for runs without one. A metric that is NaN is unequal to every number, and nothing else. Several datasets
of one run are asked one by one: `dataset.name = 'a'` is true if one of them is called so. Times are compared in
milliseconds since 1970. The parser does not recurse; a text of any size and depth costs linear time.
"""

from __future__ import annotations

from loopwright.core import Invalid
from loopwright.track.search.reader import Reader, Token
from loopwright.track.search.words import (
    DATASET_KEYS,
    PRESENCE,
    RUNS,
    Comparison,
    Entity,
    Operator,
    SortKey,
    Vocabulary,
)

MAX_LENGTH = 20_000
MAX_COMPARISONS = 100
MAX_ORDER = 10


def parse_filter(text: str, words: Vocabulary = RUNS) -> tuple[Comparison, ...]:
    """The comparisons of a filter, all of which must hold.

    Raises:
        Invalid: the text is no filter; the message says where and what was expected.
    """
    _check("filter", text)
    reader = Reader(text)
    found: list[Comparison] = []
    while not reader.at_end:
        if found:
            reader.expect_word("AND")
        found.append(_comparison(reader, words))
        if len(found) > MAX_COMPARISONS:
            raise Invalid(f"the filter has more than {MAX_COMPARISONS} comparisons")
    return tuple(found)


def parse_order(texts: tuple[str, ...], words: Vocabulary = RUNS) -> tuple[SortKey, ...]:
    """The keys of an order such as `("metrics.auc DESC", "params.lr")`.

    Raises:
        Invalid: one of the texts is no key of an order, or two of them are the same.
    """
    if len(texts) > MAX_ORDER:
        raise Invalid(f"an order has {len(texts)} keys; the limit is {MAX_ORDER}")
    keys = tuple(_sort_key(text, words) for text in texts)
    if len({(key.entity, key.key) for key in keys}) < len(keys):
        raise Invalid("the order names the same key twice", next_step="name each key once")
    return keys


def _check(what: str, text: str) -> None:
    if len(text) > MAX_LENGTH:
        raise Invalid(f"the {what} has {len(text):,} characters; the limit is {MAX_LENGTH:,}")
    bad = next((at for at, letter in enumerate(text) if letter == "\x00" or "\ud800" <= letter <= "\udfff"), None)
    if bad is not None:
        raise Invalid(
            f"the {what} holds a character that is no text",
            where=f"{what}, character {bad + 1}",
            next_step="write it in Unicode, without NUL",
        )


def _sort_key(text: str, words: Vocabulary) -> SortKey:
    _check("order", text)
    reader = Reader(text)
    entity, key = _identifier(reader, words)
    direction = "" if reader.at_end else reader.take("ASC or DESC").text.upper()
    if direction not in ("", "ASC", "DESC") or not reader.at_end or entity is Entity.DATASET:
        raise Invalid(f"cannot order {words.noun} by {text[:60]!r}", next_step="write it as 'metrics.auc DESC'")
    return SortKey(entity, key, direction == "DESC")


def _comparison(reader: Reader, words: Vocabulary) -> Comparison:
    entity, key = _identifier(reader, words)
    operator, allowed = _operator(reader), words.operators(entity, key)
    if operator not in allowed:
        reader.fail(f"{entity}.{key} cannot be compared by {operator}", f"use one of {', '.join(sorted(allowed))}")
    if operator in PRESENCE:
        return Comparison(entity, key, operator, None)
    if operator in (Operator.IN, Operator.NOT_IN):
        return Comparison(entity, key, operator, tuple(_normal(entity, key, text) for text in _texts(reader)))
    if words.is_number(entity, key):
        return Comparison(entity, key, operator, _number(reader, f"{entity}.{key}"))
    return Comparison(entity, key, operator, _normal(entity, key, _text(reader, f"{entity}.{key}")))


def _identifier(reader: Reader, words: Vocabulary) -> tuple[Entity, str]:
    first = reader.take("metrics.KEY, params.KEY, tags.KEY or an attribute", "word", "tick", "text")
    head, dot, rest = first.text.partition(".")
    if first.kind != "word" or (not dot and not reader.next_is("sign", ".")):
        return _attribute(reader, first.plain, first, words)
    entity = words.entities.get(head.lower())
    if entity is None:
        reader.fail(f"there is no {head!r} to search by", f"use one of {', '.join(_kinds(words))}", first)
    key = rest or _quoted_key(reader, dot)
    if entity is Entity.ATTRIBUTE:
        return _attribute(reader, key, first, words)
    return entity, _dataset_key(reader, key, first) if entity is Entity.DATASET else key


def _kinds(words: Vocabulary) -> list[str]:
    return sorted({str(entity) for entity in words.entities.values()})


def _quoted_key(reader: Reader, dot: str) -> str:
    if not dot:
        reader.take("'.'", "sign")
    return reader.take("a key", "word", "tick", "text").plain


def _attribute(reader: Reader, name: str, at: Token, words: Vocabulary) -> tuple[Entity, str]:
    if name in words.tags:
        return Entity.TAG, words.tags[name]
    found = words.attribute(name)
    if found is None:
        known = sorted({*words.texts.values(), *words.times.values()})
        other = f"; or write tags.{name[:30]}" if Entity.METRIC not in words.entities.values() else ""
        other = other or f"; or write metrics.{name[:30]}"
        reader.fail(f"{words.noun} have no attribute {name[:60]!r}", f"known: {', '.join(known)}{other}", at)
    return Entity.ATTRIBUTE, found


def _dataset_key(reader: Reader, key: str, at: Token) -> str:
    if key not in DATASET_KEYS:
        reader.fail(f"datasets have no {key[:60]!r} to search by", f"use one of {', '.join(DATASET_KEYS)}", at)
    return key


def _operator(reader: Reader) -> Operator:
    token = reader.take("an operator such as = or >", "sign", "word")
    if token.is_word("NOT"):
        reader.expect_word("IN")
        return Operator.NOT_IN
    if token.is_word("IS"):
        return _presence(reader)
    text = {"==": "=", "<>": "!="}.get(token.text, token.text.upper())
    if text not in Operator._value2member_map_:
        reader.fail(f"{token.text[:30]!r} is no operator", f"use one of {', '.join(Operator)}", token)
    return Operator(text)


def _presence(reader: Reader) -> Operator:
    if reader.next_is_word("NOT"):
        reader.expect_word("NOT")
        reader.expect_word("NULL")
        return Operator.IS_NOT_NULL
    reader.expect_word("NULL")
    return Operator.IS_NULL


def _number(reader: Reader, what: str) -> float:
    token = reader.take(f"a number to compare {what} with", "number")
    return float(token.text)


def _text(reader: Reader, what: str) -> str:
    return reader.take(f"a quoted text to compare {what} with", "text").plain


def _texts(reader: Reader) -> tuple[str, ...]:
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
