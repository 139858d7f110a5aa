"""The online store of a grown workspace: Redis, one hash per view."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import islice
from typing import Any

from loopwright.core import Invalid, Unavailable, missing_extra
from loopwright.store.online.model import Row
from loopwright.store.online.times import microseconds, moment

_BATCH_ROWS = 2000
_DIGITS = 20
_SHIFT = 1 << 62  # makes times before 1970 positive, so that their digits compare as the times do

# A value is 20 digits of the event time, then the payload. Digits compare alike in every locale of the server.
_WRITE = """
local n = 0
for i = 1, #ARGV, 2 do
  local kept = redis.call('HGET', KEYS[1], ARGV[i])
  if not kept or string.sub(ARGV[i + 1], 1, 20) >= string.sub(kept, 1, 20) then
    redis.call('HSET', KEYS[1], ARGV[i], ARGV[i + 1])
    n = n + 1
  end
end
return n
"""


class RedisOnlineStore:
    """Rows in Redis. The server compares the event times, so that writers cannot overtake each other."""

    def __init__(self, url: str, *, timeout_s: float = 5.0) -> None:
        try:
            import redis
        except ImportError:
            raise missing_extra("redis", "redis", "the online store") from None
        self._error: type[Exception] = redis.RedisError
        try:
            self._client: Any = redis.Redis.from_url(
                url, socket_timeout=timeout_s, socket_connect_timeout=timeout_s, protocol=2
            )
        except ValueError as error:
            raise Invalid(f"the URL of the online store is malformed: {error}") from None
        self._write = self._client.register_script(_WRITE)

    def __repr__(self) -> str:
        return "RedisOnlineStore()"

    def write(self, view: str, rows: Mapping[str, Row]) -> None:
        items = iter(rows.items())
        with self._spoken():
            while batch := list(islice(items, _BATCH_ROWS)):
                arguments: list[str | bytes] = []
                for key, (at, payload) in batch:
                    arguments += [key, _encode(microseconds(at), payload)]
                self._write(keys=[_name(view)], args=arguments)

    def read(self, view: str, keys: Sequence[str]) -> list[Row | None]:
        if not keys:
            return []
        with self._spoken():
            found = self._client.hmget(_name(view), list(keys))
        return [None if value is None else _decode(value) for value in found]

    def delete(self, view: str) -> None:
        with self._spoken():
            self._client.unlink(_name(view))

    def count(self, view: str) -> int:
        with self._spoken():
            return int(self._client.hlen(_name(view)))

    def check(self) -> list[str]:
        """What is wrong with the server; empty if it answers."""
        try:
            with self._spoken():
                self._client.ping()
        except Unavailable as error:
            return [error.message]
        return []

    def close(self) -> None:
        self._client.close()

    @contextmanager
    def _spoken(self) -> Iterator[None]:
        try:
            yield
        except self._error as error:
            raise Unavailable(
                f"the online store (Redis) does not answer: {error}", next_step="run loopwright doctor"
            ) from error


def _name(view: str) -> str:
    return f"loopwright:online:{view}"


def _encode(at: int, payload: bytes) -> bytes:
    return b"%0*d" % (_DIGITS, at + _SHIFT) + payload


def _decode(value: bytes) -> Row:
    return moment(int(value[:_DIGITS]) - _SHIFT), value[_DIGITS:]
