"""A filter's text as tokens, handed out one by one. Nothing here recurses or backtracks: the cost is linear."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NoReturn

import msgspec

from loopwright.core import Invalid

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


class Token(msgspec.Struct, frozen=True):
    """A piece of the text: a number, a word, a quoted text, a text in backticks or a sign."""

    kind: str
    text: str
    start: int

    def is_word(self, *words: str) -> bool:
        """Whether this is one of these words, in capitals or not."""
        return self.kind == "word" and self.text.upper() in words

    @property
    def plain(self) -> str:
        """The token without its quotes."""
        if self.kind not in ("text", "tick"):
            return self.text
        quote = self.text[0]
        return self.text[1:-1].replace(quote * 2, quote) if self.kind == "text" else self.text[1:-1]


class Reader:
    """Hands out the tokens of a text one by one, and says where it stands when something is wrong."""

    def __init__(self, text: str) -> None:
        self.text = text
        self._tokens = _tokens(text)
        self._next = next(self._tokens, None)

    @property
    def at_end(self) -> bool:
        """Whether nothing is left."""
        return self._next is None

    def next_is(self, kind: str, text: str) -> bool:
        """Whether this sign or exact word comes next."""
        return self._next is not None and self._next.kind == kind and self._next.text == text

    def next_is_word(self, word: str) -> bool:
        """Whether this word comes next, in capitals or not."""
        return self._next is not None and self._next.is_word(word)

    def take(self, expected: str, *kinds: str) -> Token:
        """The next token, which must be of one of these kinds, if any are given."""
        token = self._next
        if token is None or (kinds and token.kind not in kinds):
            self.fail(f"expected {expected}", "the form is: metrics.auc > 0.9 and params.lr = '0.1'")
        self._next = next(self._tokens, None)
        return token

    def expect_word(self, word: str) -> None:
        """Take this word."""
        if not self.next_is_word(word):
            self.fail(f"expected {word}", "comparisons are joined by AND; OR and brackets are not supported")
        self.take(word)

    def expect_sign(self, sign: str) -> None:
        """Take this sign."""
        if not self.next_is("sign", sign):
            self.fail(f"expected {sign!r}", "a list is written as ('a', 'b')")
        self.take(sign)

    def fail(self, fact: str, next_step: str, at: Token | None = None) -> NoReturn:
        """Refuse the text; `at` is what is wrong, by default what comes next."""
        place = at or self._next
        start = place.start if place else len(self.text)
        near = self.text[start : start + 30] or "its end"
        raise Invalid(f"{fact} at {near!r}", where=f"filter, character {start + 1}", next_step=next_step)


def _tokens(text: str) -> Iterator[Token]:
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
        yield Token(kind, match.group(kind), match.start(kind))
        position = match.end()
