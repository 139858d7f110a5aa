"""How busy the machine is while a run goes on: sampled by a thread, recorded as `system/…` metrics."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

MIB = 1 << 20


class SystemSampler:
    """Records CPU, memory, disk and network, and NVIDIA GPUs where `pynvml` is installed, every some seconds.

    The first sample is taken after one interval: it needs a span to look back on.
    """

    def __init__(self, record: Callable[[Mapping[str, float]], None], every_s: float) -> None:
        """Args:
        record: takes the values of one moment, by key.
        every_s: seconds between two samples.
        """
        self._record, self._every_s = record, every_s
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="loopwright-system", daemon=True)

    def start(self) -> None:
        """Begin to sample."""
        self._thread.start()

    def stop(self) -> None:
        """Stop sampling."""
        self._stop.set()

    def _run(self) -> None:
        machine = Machine()
        while not self._stop.wait(self._every_s):
            found = machine.sample()
            if not self._stop.is_set():
                self._record(found)


class Machine:
    """This machine and this process, as one moment follows another."""

    def __init__(self) -> None:
        import psutil

        self._psutil, self._process = psutil, psutil.Process(os.getpid())
        self._gpus = _gpus()
        self._before = (time.monotonic(), self._counters())
        psutil.cpu_percent()
        self._process.cpu_percent()

    def sample(self) -> dict[str, float]:
        """The values since the last sample: shares in percent, rates in MiB a second, sizes in MiB."""
        memory = self._psutil.virtual_memory()
        found = {
            "system/cpu_percent": self._psutil.cpu_percent(),
            "system/memory_percent": memory.percent,
            "system/memory_used_mib": (memory.total - memory.available) / MIB,
            "system/process_cpu_percent": self._process.cpu_percent(),
            "system/process_memory_mib": self._process.memory_info().rss / MIB,
            "system/disk_used_percent": self._psutil.disk_usage(Path.cwd().anchor).percent,
        }
        now, counters = time.monotonic(), self._counters()
        seconds = max(now - self._before[0], 1e-9)
        for key, value in counters.items():
            found[f"system/{key}_mib_per_s"] = max(0.0, value - self._before[1].get(key, value)) / seconds / MIB
        self._before = (now, counters)
        return {**found, **_of_gpus(self._gpus)}

    def _counters(self) -> dict[str, float]:
        """Bytes so far; not every system counts them all."""
        found: dict[str, float] = {}
        disk: Any = self._psutil.disk_io_counters()
        network: Any = self._psutil.net_io_counters()
        if disk is not None:
            found |= {"disk_read": disk.read_bytes, "disk_write": disk.write_bytes}
        if network is not None:
            found |= {"network_sent": network.bytes_sent, "network_received": network.bytes_recv}
        return found


def _gpus() -> list[Any]:
    """Handles of the NVIDIA GPUs; none without the library or the driver."""
    try:
        import pynvml
    except ImportError:
        return []
    try:
        pynvml.nvmlInit()
        return [pynvml.nvmlDeviceGetHandleByIndex(index) for index in range(pynvml.nvmlDeviceGetCount())]
    except pynvml.NVMLError:
        return []


def _of_gpus(handles: list[Any]) -> dict[str, float]:
    found: dict[str, float] = {}
    for index, handle in enumerate(handles):
        import pynvml

        try:
            use, memory = pynvml.nvmlDeviceGetUtilizationRates(handle), pynvml.nvmlDeviceGetMemoryInfo(handle)
            found[f"system/gpu_{index}_percent"] = float(use.gpu)
            found[f"system/gpu_{index}_memory_percent"] = 100.0 * memory.used / memory.total
            found[f"system/gpu_{index}_memory_used_mib"] = memory.used / MIB
            found[f"system/gpu_{index}_power_w"] = pynvml.nvmlDeviceGetPowerUsage(handle) / 1000.0
            found[f"system/gpu_{index}_celsius"] = float(
                pynvml.nvmlDeviceGetTemperature(handle, pynvml.NVML_TEMPERATURE_GPU)
            )
        except pynvml.NVMLError:  # a value that this GPU does not measure ends its list
            continue
    return found
