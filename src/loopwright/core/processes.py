"""The one way to run another program: an argument list, a time limit, captured output."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec

from loopwright.core.errors import Unavailable


class Finished(msgspec.Struct, frozen=True):
    """How a program ended and what it printed."""

    exit_code: int
    stdout: str
    stderr: str


def run_program(
    arguments: Sequence[str],
    *,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    timeout_s: float = 60.0,
) -> Finished:
    """Run a program to its end.

    Raises:
        Unavailable: it is not installed, or did not end within `timeout_s`.
    """
    try:
        done = subprocess.run(
            list(arguments),
            cwd=cwd,
            env=dict(env) if env is not None else None,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=timeout_s,
            check=False,
        )
    except FileNotFoundError:
        raise Unavailable(
            f"the program {arguments[0]!r} is not installed", next_step="install it or put it on PATH"
        ) from None
    except subprocess.TimeoutExpired:
        raise Unavailable(f"{arguments[0]!r} did not end within {timeout_s:g} s") from None
    return Finished(done.returncode, done.stdout, done.stderr)
