"""How much more often two filters of traces meet than chance would have it: normalised pointwise mutual information
(Bouma, "Normalized (Pointwise) Mutual Information in Collocation Extraction", 2009)."""

from __future__ import annotations

import math

import msgspec

from loopwright.server.protocols.mlflow import wire
from loopwright.server.protocols.mlflow.endpoint import Endpoint, Rooms, ask
from loopwright.server.protocols.mlflow.traces import BASE, ids_of
from loopwright.server.route import Call

_JEFFREYS = 0.5


class Correlate(wire.Request, frozen=True):
    experiment_ids: list[str]
    filter_string1: str
    filter_string2: str
    base_filter: str = ""


class Correlation(msgspec.Struct, frozen=True):
    """The figure, from -1 (never together) over 0 (as by chance) to 1 (always together); NaN where there is none."""

    npmi: float | str
    npmi_smoothed: float | str
    filter1_count: int
    filter2_count: int
    joint_count: int
    total_count: int


def npmi(joint: int, first: int, second: int, total: int, prior: float = 0.0) -> float:
    """The figure from counts.

    Args:
        joint, first, second: traces that both, the first and the second filter match, among `total`.
        prior: added to each of the four cells of the table, so that few traces do not tell too much.
    """
    cells = (joint, first - joint, second - joint, total - first - second + joint)
    if not first or not second or min(cells) < 0:
        return math.nan
    n11, n10, n01, n00 = (cell + prior for cell in cells)
    if n11 <= 0:
        return -1.0
    n = n11 + n10 + n01 + n00
    if n11 == n:
        return 1.0
    found = math.log(n11 * n / ((n11 + n10) * (n11 + n01))) / -math.log(n11 / n)
    return max(-1.0, min(1.0, found))


async def correlate(call: Call, asked: Correlate) -> Correlation:
    """Count what two filters match, alone and together."""

    def work(rooms: Rooms) -> Correlation:
        among = ids_of(rooms, asked.experiment_ids)

        def count(*filters: str) -> int:
            return rooms.traces.count(among, " AND ".join(text for text in (asked.base_filter, *filters) if text))

        first, second = count(asked.filter_string1), count(asked.filter_string2)
        joint, total = count(asked.filter_string1, asked.filter_string2), count()
        plain, smoothed = npmi(joint, first, second, total), npmi(joint, first, second, total, _JEFFREYS)
        return Correlation(_shown(plain), _shown(smoothed), first, second, joint, total)

    return await ask(call, work)


def _shown(number: float) -> float | str:
    return "NaN" if math.isnan(number) else number


ENDPOINTS = (Endpoint("POST", f"{BASE}/calculate-filter-correlation", "runs:read", Correlate, correlate),)
