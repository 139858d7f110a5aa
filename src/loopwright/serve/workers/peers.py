"""What the workers of one address share besides the board: each one's figures and what its models have answered, so
that any of them tells it for all.

They meet in a folder. Each worker has a socket there that gives its figures as they are now, and a file with its
figures as it last told them. What was told once is never taken back: a worker writes its file before it tells, and the
file of one that was killed goes on counting.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Callable
from pathlib import Path

from loopwright.serve.statistics import Runs, join_runs, read_runs, write_runs
from loopwright.serve.workers.board import Board
from loopwright.serve.workers.expositions import merge_expositions

_PATIENCE_S = 0.5
_WRITE_EVERY_S = 1.0
_SUFFIX = ".prom"
_UP = "loopwright_worker_up"
_RUNS = "# runs "
_GONE, _FOLDED = f"gone{_SUFFIX}", "# folded "
LEAST = frozenset({"loopwright_start_time_seconds", "loopwright_serving_revision"})


class Peers:
    """One worker among several. Lives on its event loop."""

    def __init__(
        self, folder: Path, board: Board, place: int, render: Callable[[], str], runs: Callable[[], Runs]
    ) -> None:
        """Args:
        folder: where the workers of this address meet.
        board: who lives.
        place: this worker's.
        render: this worker's figures now, as Prometheus reads them.
        runs: what its models have answered.
        """
        self._folder, self._board, self._place, self._render, self._runs = folder, board, place, render, runs
        self._server: asyncio.Server | None = None
        self._writing: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """Answer the others from now on."""
        path = socket_of(self._folder, self._place, os.getpid())
        self._server = await asyncio.start_unix_server(self._answer, str(path))
        self._writing = asyncio.create_task(self._write_often(), name="loopwright-figures")

    async def close(self) -> None:
        """Leave the last figures behind."""
        if self._writing is not None:
            self._writing.cancel()
        if self._server is not None:
            self._server.close()
            socket_of(self._folder, self._place, os.getpid()).unlink(missing_ok=True)
        self._publish()

    async def figures(self) -> str:
        """The figures of all workers together, those that were killed included."""
        living, gone = await self._texts()
        return merge_expositions([*living, self._presence()], LEAST, gone)

    async def runs(self) -> Runs:
        """What the models of all workers have answered, of those that were killed, too."""
        living, gone = await self._texts()
        return join_runs(map(_runs_in, (*living, *gone)))

    async def _texts(self) -> tuple[list[str], list[str]]:
        """What those that live tell now, and what the others have left."""
        living = {self._place: os.getpid()}
        for place in range(self._board.places):
            line = self._board.read(place)
            if place != self._place and line.pid:
                living[place] = line.pid
        others = [self._ask(place, pid) for place, pid in living.items() if place != self._place]
        texts = [self._publish(), *(text for text in await asyncio.gather(*others) if text)]
        return texts, gone_figures(self._folder, set(living.values()))

    def _presence(self) -> str:
        """Which workers there are, as Prometheus reads it."""
        lines = [f"# HELP {_UP} Whether a worker is at work.", f"# TYPE {_UP} gauge"]
        for place in range(self._board.places):
            lines.append(f'{_UP}{{worker="{place}"}} {int(self._board.read(place).pid > 0)}')
        return "\n".join(lines)

    async def _ask(self, place: int, pid: int) -> str:
        """A worker's figures; as it last told them, where it does not answer just now."""
        try:
            async with asyncio.timeout(_PATIENCE_S):
                reader, writer = await asyncio.open_unix_connection(str(socket_of(self._folder, place, pid)))
                try:
                    return (await reader.read()).decode()
                finally:
                    writer.close()
        except (OSError, TimeoutError):
            return _text_of(figures_of(self._folder, pid))

    async def _answer(self, _reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            writer.write(self._publish().encode())
            await writer.drain()
        writer.close()

    async def _write_often(self) -> None:
        while True:
            await asyncio.sleep(_WRITE_EVERY_S)
            self._publish()

    def _publish(self) -> str:
        """The figures now; what a reader sees of the file is whole."""
        text = f"{_RUNS}{write_runs(self._runs())}\n{self._render()}"
        path = figures_of(self._folder, os.getpid())
        fresh = path.with_suffix(".new")
        with contextlib.suppress(OSError):  # a full disk must not stop a worker that is asked how it does
            fresh.write_text(text)
            fresh.replace(path)
        return text


def socket_of(folder: Path, place: int, pid: int) -> Path:
    """Where a worker answers the others."""
    return folder / f"{place}-{pid}.sock"


def figures_of(folder: Path, pid: int) -> Path:
    """The file with a worker's figures."""
    return folder / f"{pid}{_SUFFIX}"


def gone_figures(folder: Path, living: set[int]) -> list[str]:
    """What workers that live no more have left."""
    total = _text_of(folder / _GONE)
    passed = {*map(str, living), _GONE.partition(".")[0], total.partition("\n")[0].removeprefix(_FOLDED)}
    left = (path for path in sorted(folder.glob(f"*{_SUFFIX}")) if path.stem not in passed)
    return [text for text in (total, *map(_text_of, left)) if text]


def fold_gone(folder: Path, pid: int) -> None:
    """Add what a worker counted that has ended to the file of all who ended, so that files do not gather."""
    total, left = folder / _GONE, figures_of(folder, pid)
    texts = [text for path in (total, left) if (text := _text_of(path))]
    merged = f"{_RUNS}{write_runs(join_runs(map(_runs_in, texts)))}\n{merge_expositions([], LEAST, texts)}"
    fresh = total.with_suffix(".new")
    # The first line says whose figures are in, so that no reader counts them twice before their own file is gone.
    fresh.write_text(f"{_FOLDED}{pid}\n{merged}")
    fresh.replace(total)
    left.unlink(missing_ok=True)


def write_restarts(folder: Path, count: int) -> None:
    """Make known how often workers were started again."""
    name = "loopwright_worker_restarts_total"
    fresh = folder / "restarts.new"
    fresh.write_text(f"# HELP {name} Workers that were started again.\n# TYPE {name} counter\n{name} {count}\n")
    fresh.replace(folder / f"restarts{_SUFFIX}")


def _runs_in(text: str) -> Runs:
    """The runs in what a worker told; they stand in a comment, which Prometheus does not read."""
    found = (line for line in text.splitlines() if line.startswith(_RUNS))
    return read_runs(next(found, _RUNS).removeprefix(_RUNS))


def _text_of(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""
