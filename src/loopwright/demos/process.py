"""A real `loopwright up`, as a process of its own, watched over: when it dies, it is started again."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
from pathlib import Path
from queue import Empty, Queue

from loopwright.core import Unavailable

_START_TIMEOUT_S = 60.0
_STOP_TIMEOUT_S = 15.0


class UpProcess:
    """`loopwright up` for one workspace on one port. Its messages go to `up.log` in the workspace's folder."""

    def __init__(self, root: Path, port: int = 0) -> None:
        self.root, self.port = root, port
        self.url = ""
        self.restarts = -1
        self._process: subprocess.Popen[str] | None = None
        self._answering: int | None = None
        self._lock = threading.Lock()

    @property
    def pid(self) -> int | None:
        """The process, while it runs."""
        process = self._process
        return process.pid if process is not None and process.poll() is None else None

    @property
    def answering(self) -> bool:
        """Whether the process that runs has said that it is ready."""
        return self.pid is not None and self._answering == self.pid

    def ensure(self) -> str:
        """The server's address; it is started if it does not run.

        Raises:
            Unavailable: it does not come up.
        """
        with self._lock:
            if self.pid is None:
                self._start()
            return self.url

    def stop(self) -> None:
        """End it as a person would, by SIGTERM."""
        with self._lock:
            process = self._process
            if process is None or process.poll() is not None:
                return
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(_STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def kill(self) -> None:
        """End it as a power cut would."""
        process = self._process
        if process is not None and process.poll() is None:
            process.kill()
            process.wait()

    def _start(self) -> None:
        log = self.root / "up.log"
        arguments = [sys.executable, "-m", "loopwright", "up", "--workspace", str(self.root), "--port", str(self.port)]
        with log.open("ab") as messages:
            self._process = subprocess.Popen(
                [*arguments, "--json"], stdout=subprocess.PIPE, stderr=messages, text=True, cwd=self.root
            )
        ready = self._first_line(self._process, log)
        self.url = ready["url"]
        self.port = int(self.url.rsplit(":", 1)[1])
        self.restarts += 1
        self._answering = self._process.pid

    def _first_line(self, process: subprocess.Popen[str], log: Path) -> dict[str, str]:
        lines: Queue[str] = Queue()
        assert process.stdout is not None
        stream = process.stdout
        threading.Thread(target=lambda: lines.put(stream.readline()), name="loopwright-ready", daemon=True).start()
        try:
            line = lines.get(timeout=_START_TIMEOUT_S)
        except Empty:
            process.kill()
            line = ""
        if not line:
            process.wait()
            raise Unavailable("loopwright up did not start", where=str(log), next_step=_last_words(log))
        found: dict[str, str] = json.loads(line)
        return found


def _last_words(log: Path) -> str:
    lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    return lines[-1][:300] if lines else "it said nothing"
