"""Prometheus texts of several workers as one: pure.

Counters and the parts of histograms add up. Of gauges, amounts add up too; of the others the one that tells the truth
of the whole is kept: the revision that all have, the earliest start.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

Merge = Callable[[float, float], float]
_TYPE, _HELP = "# TYPE ", "# HELP "


class Family:
    """The samples of one metric: by their names with labels, in the order in which they were first seen."""

    __slots__ = ("help", "kind", "samples")

    def __init__(self) -> None:
        self.kind, self.help = "untyped", ""
        self.samples: dict[str, float] = {}


def merge_expositions(texts: Iterable[str], least: frozenset[str], gone: Iterable[str] = ()) -> str:
    """One text for all.

    Args:
        texts: of workers that live.
        least: gauges of which the least counts, such as a start time.
        gone: of workers that ended: only what they counted is left of them.
    """
    families: dict[str, Family] = {}
    for text in texts:
        _add(families, read_exposition(text), least)
    for text in gone:
        _add(families, counted(read_exposition(text)), least)
    return write_exposition(families)


def counted(families: Mapping[str, Family]) -> dict[str, Family]:
    """Without gauges: what outlives the process that counted it."""
    return {name: family for name, family in families.items() if family.kind in ("counter", "histogram")}


def read_exposition(text: str) -> dict[str, Family]:
    """The families in a text, by name. A line that is none of the format is left out."""
    families: dict[str, Family] = {}
    current = ""
    for line in text.splitlines():
        if line.startswith((_TYPE, _HELP)):
            current, _, rest = line[len(_TYPE) :].partition(" ")
            family = families.setdefault(current, Family())
            if line.startswith(_TYPE):
                family.kind = rest
            else:
                family.help = rest
        elif line and not line.startswith("#"):
            sample, _, value = line.rpartition(" ")
            try:
                families.setdefault(current, Family()).samples[sample] = float(value)
            except ValueError:
                continue
    return families


def write_exposition(families: Mapping[str, Family]) -> str:
    """Families as a text."""
    lines: list[str] = []
    for name, family in families.items():
        lines += [f"{_HELP}{name} {family.help}", f"{_TYPE}{name} {family.kind}"]
        lines += [f"{sample} {_number(value)}" for sample, value in family.samples.items()]
    return "\n".join(lines) + "\n"


def _add(into: dict[str, Family], families: Mapping[str, Family], least: frozenset[str]) -> None:
    for name, family in families.items():
        held = into.setdefault(name, Family())
        held.kind, held.help = family.kind, family.help
        for sample, value in family.samples.items():
            before = held.samples.get(sample)
            if before is None:
                held.samples[sample] = value
            else:
                held.samples[sample] = min(before, value) if name in least else before + value


def _number(value: float) -> str:
    return str(int(value)) if value.is_integer() and abs(value) < 1 << 53 else repr(value)
