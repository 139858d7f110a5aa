"""Landlock (Linux 5.13 and later): a process gives up, for good, all files but those it names, TCP, and signals to
others. Needs no privilege. See the kernel's `userspace-api/landlock`.

What it also brings: a process in a Landlock domain may not trace those outside it, so that it cannot read a server's
memory or environment through /proc, though both run as the same user.
"""

from __future__ import annotations

import ctypes
import os
import stat
import struct
from collections.abc import Iterable

_CREATE, _ADD, _RESTRICT = 444, 445, 446  # the same numbers on every architecture
_VERSION_FLAG, _PATH_BENEATH = 1, 1
_READ_FILE, _READ_DIR = 1 << 2, 1 << 3
_FILE_RIGHTS = 1 | 1 << 1 | _READ_FILE | 1 << 14 | 1 << 15  # execute, write, read, truncate, ioctl
_RIGHTS_OF_ABI = {1: 13, 2: 14, 3: 15, 4: 15}  # later ones have 16
_EXECUTE, _IOCTL = 1, 1 << 15


def confine_files(readable: Iterable[str], writable: Iterable[str]) -> int:
    """Keep this process, and all that it starts, to these files and folders; executing is for none of them.

    Returns:
        the version of Landlock's interface that did it; 0 where the kernel has none.

    Raises:
        OSError: the kernel has Landlock and refused.
    """
    version = _call(_CREATE, None, 0, _VERSION_FLAG, check=False)
    if version < 1:
        return 0
    files = (1 << _RIGHTS_OF_ABI.get(version, 16)) - 1
    tcp, scopes = (3 if version >= 4 else 0), (3 if version >= 6 else 0)
    attributes = struct.pack("=QQQ", files, tcp, scopes)[: 24 if version >= 6 else 16 if version >= 4 else 8]
    rules = _call(_CREATE, attributes, len(attributes), 0)
    try:
        for path in readable:
            _allow(rules, path, _READ_FILE | _READ_DIR)
        for path in writable:
            _allow(rules, path, files & ~_EXECUTE & ~_IOCTL)
        _call(_RESTRICT, rules, 0)
    finally:
        os.close(rules)
    return version


def _allow(rules: int, path: str, rights: int) -> None:
    try:
        place = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return  # what is not there needs no rule
    try:
        is_folder = stat.S_ISDIR(os.fstat(place).st_mode)
        rule = struct.pack("=Qi", rights if is_folder else rights & _FILE_RIGHTS, place)
        _call(_ADD, rules, _PATH_BENEATH, rule, 0)
    finally:
        os.close(place)


def _call(number: int, *arguments: int | bytes | None, check: bool = True) -> int:
    libc = ctypes.CDLL(None, use_errno=True)
    given = [ctypes.c_long(item) if isinstance(item, int) else ctypes.c_char_p(item) for item in arguments]
    done = int(libc.syscall(ctypes.c_long(number), *given))
    if done < 0 and check:
        code = ctypes.get_errno()
        raise OSError(code, f"landlock: {os.strerror(code)}")
    return done
