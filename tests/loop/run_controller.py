"""A controller in a process of its own, to be killed: `python -m tests.loop.run_controller FOLDER`."""

from __future__ import annotations

import logging
import sys

from loopwright.loop import Controller
from loopwright.workspace import open_workspace


def main() -> None:
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(name)s %(message)s")
    with open_workspace(sys.argv[1]) as workspace:
        controller = Controller(workspace, tick_s=0.05)
        controller.start()
        print("ready", flush=True)
        sys.stdin.read()
        controller.stop()


if __name__ == "__main__":
    main()
