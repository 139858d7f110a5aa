"""What a piece of work used while it was timed, from the kernel's own counters: that says what bounds its figure."""

from __future__ import annotations

import contextlib
import os
import platform
import re
import time
from pathlib import Path
from typing import Any

import msgspec
import psutil

BUSY = 0.85
WAITING = 0.4
SHORT_S = 0.1  # processor time is counted in hundredths of a second
PRESSURE = Path("/proc/pressure")


class Cost(msgspec.Struct):
    """Processor time in cores, and how the machine waited meanwhile.

    `disk` and `core` are shares of the time in which at least one task of this machine, anybody's, waited for the disk
    or for a free core (the kernel's pressure counters; negative where it keeps none). `flushes` are the disk's own,
    which an fsync causes, a second.
    """

    wall_s: float
    server: float
    database: float
    client: float
    others: float
    disk: float
    core: float
    flushes: float
    load: float

    def cores(self) -> str:
        """The four shares in words."""
        return f"{self.server:.2f}, {self.database:.2f}, {self.client:.2f}, {self.others:.2f}"

    def bound_by(self) -> str:
        """What held the work up, with the numbers that say so."""
        waits = []
        if self.disk >= 0:
            waits.append(f"waits: disk {self.disk:.0%}, core {self.core:.0%}")
        if self.flushes >= 0:
            waits.append(f"{self.flushes:.0f} flushes/s")
        return f"{self._verdict()} ({'; '.join(waits)})" if waits else self._verdict()

    def _verdict(self) -> str:
        if self.wall_s < SHORT_S:
            return "too short to tell"
        used = self.server + self.database + self.client
        if used + self.others >= 0.9 * (os.cpu_count() or 1):
            return "every core was busy" + ("" if self.others < 0.2 else f", {self.others:.1f} with other work")
        names = {"server": self.server, "database server": self.database, "client": self.client}
        busiest = max(names, key=lambda name: names[name])
        if names[busiest] >= BUSY:
            return f"the {busiest}'s processor time"
        if used >= BUSY:
            return f"processor time, by turns: mostly the {busiest}'s"
        if self.disk >= WAITING:
            return "waiting for the disk"
        part = f"in part the {busiest}'s processor time, else " if used >= WAITING else ""
        return f"{part}waiting for no processor and no disk"


class Meter:
    """Takes the counters at the start and the end of what is inside `with`."""

    def __init__(self, server: int = 0, database: int = 0, client: int = 0) -> None:
        """Args are process ids, each with all that it has started; 0 for none, and for a client in this process."""
        self.pids = {"server": server, "database": database, "client": client or os.getpid()}
        self.alone = client == 0

    def __enter__(self) -> Meter:
        self.before = self._counters()
        return self

    def __exit__(self, *_: object) -> None:
        after = self._counters()
        wall = after["wall"] - self.before["wall"]
        used = {name: (after[name] - self.before[name]) / wall for name in self.before}
        others = used["machine"] - used["server"] - used["database"] - used["client"]
        pressure = PRESSURE.exists()
        self.cost = Cost(
            wall_s=wall,
            server=used["server"],
            database=used["database"],
            client=used["client"],
            others=max(others, 0.0),
            disk=used["disk"] if pressure else -1.0,
            core=used["core"] if pressure else -1.0,
            flushes=used["flushes"] if after["flushes"] else -1.0,
            load=os.getloadavg()[0],
        )

    def _counters(self) -> dict[str, float]:
        # A client in this process is alone: the servers are its children, and are counted for themselves.
        values = {name: cpu_s(pid, family=name != "client" or not self.alone) for name, pid in self.pids.items()}
        busy = psutil.cpu_times()
        values["machine"] = sum(busy) - busy.idle - getattr(busy, "iowait", 0.0) - getattr(busy, "guest", 0.0)
        values |= {"disk": _pressure_s("io"), "core": _pressure_s("cpu"), "flushes": _flushes()}
        return values | {"wall": time.perf_counter()}


def cpu_s(pid: int, family: bool = True) -> float:
    """Processor time of a process, and with `family` of all that it started and of those that ended, in seconds."""
    if not pid:
        return 0.0
    total = 0.0
    for process in processes(pid) if family else processes(pid)[:1]:
        with contextlib.suppress(psutil.NoSuchProcess):
            times = process.cpu_times()
            total += times.user + times.system
            total += times.children_user + times.children_system if family else 0.0
    return total


def processes(pid: int) -> list[psutil.Process]:
    """A process and all that it started; none if it has ended."""
    try:
        first = psutil.Process(pid)
        return [first, *first.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def _pressure_s(what: str) -> float:
    with contextlib.suppress(OSError, ValueError):
        some = (PRESSURE / what).read_text().splitlines()[0]
        return int(some.rpartition("total=")[2]) / 1e6
    return 0.0


def _flushes() -> float:
    """Flushes of all disks so far; 0 where the kernel counts none."""
    found = 0
    for path in Path("/sys/block").glob("*/stat"):
        with contextlib.suppress(OSError):
            fields = path.read_text().split()
            found += int(fields[15]) if len(fields) > 15 else 0
    return float(found)


def machine() -> dict[str, Any]:
    """What the figures were taken on."""
    model = platform.processor() or platform.machine()
    with contextlib.suppress(OSError):
        named = re.search(r"^model name\s*:\s*(.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
        model = named.group(1) if named else model
    return {
        "processor": model,
        "cores": os.cpu_count(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "load": [round(value, 1) for value in os.getloadavg()],
    }
