"""Controllers in processes of their own, to be killed: `python -m tests.loop.run_controller FOLDER`.

Each line of its standard input starts one. They are forked from this process, which has loaded all that they need: most
of their life would be imports otherwise. It prints `started PID`, and `ready PID` once that controller works; SIGUSR1
stops one in good order.
"""

from __future__ import annotations

import logging
import os
import signal
import sys

import sqlalchemy.dialects.sqlite  # noqa: F401  (loaded before the fork)

from loopwright.loop import Controller
from loopwright.workspace import open_workspace


def main() -> None:
    for _ in sys.stdin:
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # so that those that were killed are gone at once
        if (child := os.fork()) == 0:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            control(sys.argv[1])
            os._exit(0)
        say(f"started {child}")


def control(folder: str) -> None:
    """Run a controller until SIGUSR1 comes."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})  # before any thread is made: threads inherit it
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(name)s %(message)s")
    with open_workspace(folder) as workspace:
        controller = Controller(workspace, tick_s=0.05)
        controller.start()
        say(f"ready {os.getpid()}")
        signal.sigwait({signal.SIGUSR1})
        controller.stop()


def say(line: str) -> None:
    """One whole line at once: several processes share the pipe."""
    os.write(1, f"{line}\n".encode())


if __name__ == "__main__":
    main()
