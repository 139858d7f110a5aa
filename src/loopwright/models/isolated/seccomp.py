"""A seccomp filter (Linux, x86-64 and arm64): calls that a model has no use for fail with EPERM, for good.

No sockets, and so no network, not even by UDP or to a daemon's socket file; no new processes or programs, so that a
killed worker leaves nothing behind; no tracing or reading of other processes; no mounting, namespaces, keys, kernel
modules, io_uring or BPF; no change of the limits that were set. Threads work. See `seccomp(2)`.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import struct

_SET_FILTER, _FILTER_MODE = 22, 2  # prctl
_LOAD, _EQUAL, _AT_LEAST, _ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_ALLOW, _FAIL, _KILL = 0x7FFF0000, 0x00050000, 0x80000000
_NUMBER_AT, _ARCH_AT, _FIRST_AT, _THIRD_AT = 0, 4, 16, 32
_CLONE_THREAD = 0x10000
_X32 = 0x40000000
_ARCHES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}

# socket, ptrace, process_vm_readv, process_vm_writev, mount, umount2, pivot_root, chroot, unshare, setns, bpf,
# perf_event_open, add_key, request_key, keyctl, userfaultfd, execve, execveat, setrlimit, open_by_handle_at,
# init_module, finit_module, delete_module, kexec_load, then those that x86-64 alone has: fork, vfork
_DENIED = {
    "x86_64": (
        *(41, 101, 310, 311, 165, 166, 155, 161, 272, 308, 321, 298, 248, 249, 250, 323, 59, 322, 160, 304),
        *(175, 313, 176, 246, 57, 58),
    ),
    "aarch64": (
        *(198, 117, 270, 271, 40, 39, 41, 51, 97, 268, 280, 241, 217, 218, 219, 282, 221, 281, 164, 265),
        *(105, 273, 106, 104),
    ),
}
_DENIED_EVERYWHERE = (425, 438)  # io_uring_setup, pidfd_getfd
_CLONE3 = 435  # answered as unknown: its flags lie in memory, and the C library falls back to clone
_CLONE = {"x86_64": 56, "aarch64": 220}
_PRLIMIT = {"x86_64": 302, "aarch64": 261}


def deny_calls() -> bool:
    """Put the filter on this thread and all that it starts; whether this machine has one. Needs no_new_privs.

    Raises:
        OSError: the kernel refused.
    """
    machine = platform.machine()
    if os.name != "posix" or platform.system() != "Linux" or machine not in _ARCHES:
        return False
    code = b"".join(_program(machine))
    held = ctypes.create_string_buffer(code, len(code))
    program = struct.pack("HxxxxxxP", len(code) // 8, ctypes.addressof(held))
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_SET_FILTER, _FILTER_MODE, ctypes.c_char_p(program), 0, 0):
        code_ = ctypes.get_errno()
        raise OSError(code_, f"seccomp: {os.strerror(code_)}")
    return True


def _program(machine: str) -> list[bytes]:
    steps = [_step(_LOAD, _ARCH_AT), _step(_EQUAL, _ARCHES[machine], 1, 0), _step(_RETURN, _KILL)]
    steps.append(_step(_LOAD, _NUMBER_AT))
    if machine == "x86_64":
        steps += [_step(_AT_LEAST, _X32, 0, 1), _step(_RETURN, _KILL)]
    for number in (*_DENIED[machine], *_DENIED_EVERYWHERE):
        steps += [_step(_EQUAL, number, 0, 1), _fail(errno.EPERM)]
    steps += [_step(_EQUAL, _CLONE3, 0, 1), _fail(errno.ENOSYS)]
    steps += [_step(_EQUAL, _CLONE[machine], 0, 4), _step(_LOAD, _FIRST_AT)]
    steps += [_step(_ANY_BIT, _CLONE_THREAD, 1, 0), _fail(errno.EPERM), _step(_RETURN, _ALLOW)]
    steps += [_step(_EQUAL, _PRLIMIT[machine], 0, 6)]  # may ask for limits, not set them: no third argument
    for half in (0, 4):
        steps += [_step(_LOAD, _THIRD_AT + half), _step(_EQUAL, 0, 1, 0), _fail(errno.EPERM)]
    return [*steps, _step(_RETURN, _ALLOW)]


def _fail(code: int) -> bytes:
    return _step(_RETURN, _FAIL | code)


def _step(code: int, value: int, then: int = 0, otherwise: int = 0) -> bytes:
    return struct.pack("=HBBI", code, then, otherwise, value)
