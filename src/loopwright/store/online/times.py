"""Event times as whole microseconds."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from loopwright.core import Invalid

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def microseconds(at: datetime) -> int:
    """Microseconds since 1970, exact.

    Raises:
        Invalid: the time has no zone.
    """
    if at.tzinfo is None:
        raise Invalid(f"event time {at.isoformat()} has no zone", next_step="use an aware UTC time")
    return (at - _EPOCH) // timedelta(microseconds=1)


def moment(value: int) -> datetime:
    """The time that many microseconds after 1970, in UTC."""
    return _EPOCH + timedelta(microseconds=value)
