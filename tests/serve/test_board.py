"""What workers tell each other in shared memory, and when one of them is taken for hung."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import uvloop
from tests.serve.conftest import Plane

from loopwright.serve.rest import App, HttpServer
from loopwright.serve.workers import member
from loopwright.serve.workers.board import Board
from loopwright.serve.workers.silence import Silence

BEATS = """
import sys
from loopwright.serve.workers.board import Board
board = Board(sys.argv[1], 1)
print(flush=True)
while True:
    board.beat(0)
"""


def test_who_looks_while_a_worker_beats_sees_it_alive_each_time(tmp_path: Path) -> None:
    """A beat that is half written is no sign of a worker that hangs, for which it would be killed."""
    board = Board(tmp_path / "board", 1)
    board.take(0, 7)
    command = [sys.executable, "-c", BEATS, str(tmp_path / "board")]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as worker:
        assert worker.stdout is not None
        worker.stdout.readline()
        longest_s = max(board.read(0).silent_s for _ in range(100_000))
        worker.kill()
    assert longest_s < 10
    assert board.read(0).pid == 7
    board.close()


def test_a_line_tells_what_was_noted_and_is_cleared_by_its_own_process_alone(tmp_path: Path) -> None:
    board, other = Board(tmp_path / "board", 2), Board(tmp_path / "board", 2)
    board.take(1, 42)
    board.note_connections(1, 5)
    board.note_running(1, 3)
    line = other.read(1)
    assert (line.pid, line.connections, line.running) == (42, 5, 3)
    assert line.silent_s < 10
    other.clear(1, 41)
    assert other.read(1).pid == 42
    other.clear(1, 42)
    assert (board.read(1).pid, board.read(1).connections, board.read(0).pid) == (0, 0, 0)


def test_who_loses_connections_says_so_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Clients that all come back at the same time are shared out by what each worker holds now."""
    monkeypatch.setattr(member, "BEAT_S", 3600)

    async def work() -> list[int]:
        made, seen = Plane(tmp_path), list[int]()
        server = HttpServer(App(made.plane))
        listener = socket.create_server(("127.0.0.1", 0))
        place = member.Membership(tmp_path, 0, 1, listener.detach())
        mine = member.Member(place, str, lambda: server.connections, lambda: made.plane.metrics.version_runs())
        server.when_lost = mine.count
        port = await mine.open(server.start())
        links = [await asyncio.open_connection("127.0.0.1", port) for _ in range(9)]
        while server.connections < 9:
            await asyncio.sleep(0.001)
        for number, (_, writer) in enumerate(links):
            seen.append(mine.board.read(0).connections)
            writer.close()
            while server.connections >= 9 - number:
                await asyncio.sleep(0.001)
        seen.append(mine.board.read(0).connections)
        mine.stop_accepting()
        await mine.close()
        await server.drain(0.2)
        made.plane.close()
        return seen

    assert uvloop.run(work()) == [*range(9, -1, -1)]


def test_silence_is_what_was_looked_at_in_a_row_and_no_pause_of_the_machine() -> None:
    silence, now_s, longest_s = Silence(0.1), 100.0, 0.0
    for number in range(200):  # a worker that is well, looked at ten times a second
        now_s += 0.1
        longest_s = max(longest_s, silence.look(7, number // 3, now_s))
    assert longest_s < 0.5
    assert silence.look(7, 0, now_s + 0.1) == 0  # one odd look
    assert silence.look(7, 66, now_s + 0.2) == 0
    assert silence.look(7, 66, now_s + 3600) <= 0.1  # everything stood still for an hour
    for number in range(1, 301):
        longest_s = silence.look(7, 66, now_s + 3600 + number / 10)
    assert 29 < longest_s < 31
    assert silence.look(8, 66, now_s + 3700) == 0  # another process in its place
