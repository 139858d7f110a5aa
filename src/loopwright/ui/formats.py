"""How values are written on pages."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from typing import Any

import msgspec

_UNITS = ("B", "KiB", "MiB", "GiB", "TiB")


def number(value: Any, digits: int = 4) -> str:
    """A number for people: thousands apart, so many significant digits, a dash for nothing."""
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}".replace(",", "\u2009")
    if not isinstance(value, float):
        return str(value)
    if math.isnan(value) or math.isinf(value):
        return str(value)
    if value == int(value) and abs(value) < 1e15:
        return f"{int(value):,}".replace(",", "\u2009")
    if abs(value) >= 10**digits:
        return f"{value:,.0f}".replace(",", "\u2009")
    return f"{value:.{digits}g}"


def signed(value: float | None, digits: int = 3) -> str:
    """A difference, with its sign; `±0` where there is none."""
    if value is None:
        return "–"
    return "±0" if value == 0 else f"{'+' if value > 0 else '−'}{number(abs(value), digits)}"


def percent(value: float | None, digits: int = 1) -> str:
    """A share as a percentage."""
    if value is None:
        return "–"
    return f"{value * 100:.{digits}f}".rstrip("0").rstrip(".") + "\u2009%" if digits else f"{value * 100:.0f}\u2009%"


def size(value: int | float | None) -> str:
    """Bytes in a readable unit."""
    if value is None:
        return "–"
    amount, unit = float(value), 0
    while amount >= 1024 and unit < len(_UNITS) - 1:
        amount, unit = amount / 1024, unit + 1
    return f"{amount:.0f} {_UNITS[unit]}" if unit == 0 else f"{amount:.1f} {_UNITS[unit]}"


def duration(seconds: float | None) -> str:
    """A span of time in its two largest units."""
    if seconds is None:
        return "–"
    if 0 < seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 60:
        return f"{seconds:.1f} s" if seconds else "0 s"
    for unit, name, small, small_name in ((86_400, "d", 3600, "h"), (3600, "h", 60, "min"), (60, "min", 1, "s")):
        if seconds >= unit:
            whole, rest = divmod(seconds, unit)
            tail = f" {int(rest // small)} {small_name}" if rest >= small else ""
            return f"{int(whole)} {name}{tail}"
    return f"{seconds:g} s"


def moment(value: datetime | None) -> str:
    """A time to the minute, in UTC."""
    return "–" if value is None else f"{value:%Y-%m-%d %H:%M}"


def short(identifier: str) -> str:
    """An id or digest, shortened in the middle of what varies: the head of a digest, the tail of a time-ordered id."""
    if len(identifier) == 64:
        return identifier[:12]
    return f"{identifier[:8]}…{identifier[-4:]}" if len(identifier) == 32 else identifier


def short_ref(ref: str) -> str:
    """A ref with a long name shortened."""
    kind, colon, name = ref.partition(":")
    return f"{kind}:{short(name)}" if colon else short(ref)


def words(kind: str) -> str:
    """`rollout.rolled_back` as people say it: rollout rolled back."""
    return kind.replace(".", " ").replace("_", " ")


def telling(event: Any, limit: int = 220) -> str:
    """What an event says, in a line: its reason or summary, else the plain values of its evidence."""
    evidence: dict[str, Any] = event.evidence
    if "before" in evidence and isinstance(evidence.get("after"), dict):
        text = f"{_shares(evidence['before'])} → {_shares(evidence['after'])}"
    elif evidence.get("reason") or evidence.get("summary"):
        text = str(evidence.get("reason") or evidence["summary"])
        text = f"{words(str(evidence['outcome']))}: {text}" if evidence.get("outcome") else text
    else:
        plain = {key: value for key, value in evidence.items() if isinstance(value, str | int | float | bool)}
        text = ", ".join(f"{key} {short_ref(number(value))}" for key, value in plain.items() if value != "")
    return text if len(text) <= limit else text[: limit - 1] + "…"


def _shares(shares: Any) -> str:
    if not isinstance(shares, dict) or not shares:
        return "nothing"
    return " + ".join(f"{name.partition(':')[2] or name} {percent(float(share), 0)}" for name, share in shares.items())


def trigger_text(trigger: Any) -> str:
    """What starts a loop, in words."""
    kind = type(trigger).__name__
    if kind == "OnAlert":
        return f"an alert{' about ' + trigger.about if trigger.about else ''} of monitor {trigger.monitor}"
    if kind == "Every":
        return f"the end of every {duration(trigger.seconds)}"
    if kind == "OnNewVersion":
        return f"a new version of dataset {trigger.dataset}"
    return "a person"


def measure(value: Any, dtype: str) -> str:
    """A statistic in its column's own terms: times, kept as microseconds since 1970, are written as times."""
    if value is None or dtype not in ("timestamp", "date"):
        return number(value)
    return moment(datetime.fromtimestamp(float(value) / 1e6, UTC))


def cell(value: Any) -> str:
    """A value of a table's cell: floats to six digits, everything else as it is."""
    if value is None:
        return "–"
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def expression(text: str) -> str:
    """A feature's expression as it is kept; a column that is taken as it is, by its name."""
    try:
        found = msgspec.json.decode(text)
    except msgspec.DecodeError:
        return text
    return str(found["Column"]) if isinstance(found, dict) and list(found) == ["Column"] else text
