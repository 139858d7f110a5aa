"""What a worker gives up before it imports a model: done by itself, before it runs the code of others.

Always: limits on memory, file sizes and open files, no core dumps, no new privileges. On Linux also a seccomp filter
and Landlock, as far as the kernel has them. It is no virtual machine: the kernel is shared, and a hole in it is a way
out; files below the interpreter's own folders can be read; the scratch folder's size is only watched, not limited.
"""

from __future__ import annotations

import ctypes
import resource
import sys
from collections.abc import Sequence

from loopwright.models.isolated.landlock import confine_files
from loopwright.models.isolated.seccomp import deny_calls

_NO_NEW_PRIVILEGES = 38  # prctl
_SHARED_BYTES = 16 << 30  # address space beside the model's memory: libraries, mapped files, reservations
_READABLE = (
    "/usr",
    "/lib",
    "/lib64",
    "/etc/ld.so.cache",
    "/etc/localtime",
    "/dev/urandom",
    "/dev/random",
    "/dev/zero",
    "/proc/self",
    "/proc/cpuinfo",
    "/proc/meminfo",
    "/proc/stat",
    "/sys/devices/system",
    "/sys/fs/cgroup",
)


def confine(
    readable: Sequence[str], scratch: str, memory_bytes: int, file_bytes: int, open_files: int
) -> tuple[str, ...]:
    """Confine this process for good.

    Args:
        readable: files and folders that the model needs beside the interpreter's.
        scratch: the only folder that it may write to.
        memory_bytes: what it may hold of its own memory.
        file_bytes: how long a file that it writes may become.
        open_files: how many it may have open.

    Returns:
        what is in force, for people to read.
    """
    done = [*_limit(memory_bytes, file_bytes, open_files)]
    if sys.platform != "linux":
        return tuple(done)
    if ctypes.CDLL(None, use_errno=True).prctl(_NO_NEW_PRIVILEGES, 1, 0, 0, 0) == 0:
        done.append("no new privileges")
    python = {sys.prefix, sys.base_prefix, sys.exec_prefix, *(path for path in sys.path if path)}
    version = confine_files([*_READABLE, *sorted(python), *readable], [scratch, "/dev/null"])
    if version:
        done.append(f"landlock {version}")
    if deny_calls():
        done.append("seccomp")
    return tuple(done)


def _limit(memory_bytes: int, file_bytes: int, open_files: int) -> list[str]:
    wanted = [
        (resource.RLIMIT_DATA, memory_bytes, "memory"),
        (resource.RLIMIT_AS, memory_bytes + _SHARED_BYTES, "address space"),
        (resource.RLIMIT_FSIZE, file_bytes, "file size"),
        (resource.RLIMIT_NOFILE, open_files, "open files"),
        (resource.RLIMIT_CORE, 0, "core dumps"),
    ]
    done = []
    for limit, value, name in wanted:
        _, hard = resource.getrlimit(limit)
        value = value if hard == resource.RLIM_INFINITY else min(value, hard)
        try:
            resource.setrlimit(limit, (value, value))
        except (ValueError, OSError):  # not on every system (macOS knows no limit on data)
            continue
        done.append(name)
    return done
