"""MLflow's own client in a process of its own, asked for one task after the other."""

from __future__ import annotations

import contextlib
import json
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from typing import IO, Any

from cost import Cost, Meter
from peers import HERE, environment
from running import HANGING_S


class User:
    """A process that has imported `mlflow` and waits for a task."""

    def __init__(self, process: subprocess.Popen[str], log: IO[str]) -> None:
        """Wait until it is ready; `log` is where its errors go."""
        self.process, self.log = process, log
        self.pid = process.pid
        self._expect("ready")

    def do(self, meter: Meter, *words: object) -> tuple[float, Cost]:
        """Seconds that a task took, and what it cost.

        Raises:
            RuntimeError: it fails; the message has the end of what the process wrote.
        """
        watch = threading.Timer(HANGING_S, self.process.kill)
        watch.start()
        try:
            self._tell(" ".join(map(str, words)))
            self._expect("started")
            with meter:
                self._tell("")
                self._expect("ended")
            self._tell("")
            return float(self._expect("took")), meter.cost
        finally:
            watch.cancel()

    def _tell(self, line: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()

    def _expect(self, key: str) -> Any:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            self.process.wait(30)
            self.log.seek(0)
            raise RuntimeError(f"mlflow_client.py ended before it said {key!r}: {self.log.read()[-800:]}")
        return json.loads(line)[key]


@contextlib.contextmanager
def user(url: str) -> Iterator[User]:
    """A client of the server at an address, ready for its first task."""
    with tempfile.TemporaryFile("w+") as log:
        process = subprocess.Popen(
            [str(environment("mlflow")), str(HERE / "mlflow_client.py"), url],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        )
        try:
            yield User(process, log)
        finally:
            process.kill()
            process.wait()
