"""The words of a scan: what kinds of code a model's files can run, and what was found in them."""

from __future__ import annotations

from enum import StrEnum

import msgspec


class Level(StrEnum):
    """How bad a finding is.

    note: expected in a model of its kind. suspicious: nobody here knows it; a person has to judge. dangerous: it runs
    commands, reaches files or the network, or hides what it does; such a file is refused.
    """

    NOTE = "note"
    SUSPICIOUS = "suspicious"
    DANGEROUS = "dangerous"

    @property
    def weight(self) -> int:
        """Higher is worse."""
        return list(Level).index(self)


class Finding(msgspec.Struct, frozen=True, order=True):
    """One thing that was found: in which file (a member of an archive stands behind `!`), what, by which scanner."""

    file: str
    what: str
    level: Level
    tool: str = "loopwright"


class Scan(msgspec.Struct, frozen=True):
    """What a scan of a model's files has found.

    Attributes:
        executable: the formats among them that run code when they are loaded, such as `pickle`; empty for a safe model.
        findings: the worst first.
        tools: what scanned, with versions; empty where the files were only recognised by their names.
    """

    executable: tuple[str, ...] = ()
    findings: tuple[Finding, ...] = ()
    tools: dict[str, str] = {}

    @property
    def worst(self) -> Level | None:
        """The level of the worst finding; None without any."""
        return max((item.level for item in self.findings), key=lambda level: level.weight, default=None)

    def of(self, level: Level) -> tuple[Finding, ...]:
        """The findings of one level."""
        return tuple(item for item in self.findings if item.level is level)
