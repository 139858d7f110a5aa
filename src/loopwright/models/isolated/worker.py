"""The worker process: `python -I -m loopwright.models.isolated.worker CHANNEL LIFE`, two inherited descriptors.

It reads one frame (`load`), confines itself, only then imports the model's code, and answers frames (`predict`) one by
one until the channel closes. It never outlives the server: the kernel kills it when the server's end of `LIFE` closes.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import sys
import threading
from collections.abc import Mapping
from typing import Any

from loopwright.models.isolated.confinement import confine
from loopwright.models.isolated.wire import Frame, receive, send

_TEXT = 300


def main(channel_fd: int, life_fd: int) -> None:
    """Serve one model until the channel closes."""
    _die_with(life_fd)
    channel = socket.socket(fileno=channel_fd)
    with contextlib.suppress(EOFError):
        first, _ = receive(channel, 0)
        words = first.words
        try:
            done = confine(
                [words["folder"]], words["scratch"], words["memory_bytes"], words["file_bytes"], words["open_files"]
            )
            runner = _loaded(words)
        except BaseException as error:  # noqa: BLE001 - whatever the model's code raises is told, SystemExit too
            send(channel, Frame("failed", first.number, {"error": _told(error)}), {})
            return
        send(channel, Frame("ready", first.number, {"confinement": list(done)}), {})
        while True:
            _answer(channel, runner, words["question_bytes"])


def _loaded(words: Mapping[str, Any]) -> Any:
    from loopwright.models.isolated.runners import open_runner

    return open_runner(words["runner"], words["entry"], words["folder"])


def _answer(channel: socket.socket, runner: Any, max_bytes: int) -> None:
    """Answer one frame; a failure is told by its first line, and running out of memory ends the process after it."""
    import numpy as np

    question, columns = receive(channel, max_bytes)
    try:
        given = runner.predict(columns)
        outputs = {str(name): np.asarray(values) for name, values in given.items()}
        reply = Frame("answer", question.number)
        send(channel, reply, outputs)
    except BaseException as error:  # noqa: BLE001 - as above
        full = isinstance(error, MemoryError)
        send(channel, Frame("failed", question.number, {"error": _told(error), "ends": full}), {})
        if full:
            os._exit(1)


def _told(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0][:_TEXT]}" if lines else type(error).__name__


def _die_with(life_fd: int) -> None:
    """End this process, whatever it does, when the last writer of a pipe is gone."""
    try:
        import fcntl

        fcntl.fcntl(life_fd, fcntl.F_SETOWN, os.getpid())
        fcntl.fcntl(life_fd, fcntl.F_SETSIG, signal.SIGKILL)
        fcntl.fcntl(life_fd, fcntl.F_SETFL, fcntl.fcntl(life_fd, fcntl.F_GETFL) | os.O_ASYNC)
        with contextlib.suppress(BlockingIOError):
            os.set_blocking(life_fd, False)
            if os.read(life_fd, 1) == b"":  # it was gone before the signal was set up
                os._exit(1)
    except (ImportError, AttributeError):  # not Linux: a thread sees it, unless the model's code keeps it from running

        def watch() -> None:
            os.set_blocking(life_fd, True)
            os.read(life_fd, 1)
            os._exit(1)

        threading.Thread(target=watch, name="loopwright-life", daemon=True).start()


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
