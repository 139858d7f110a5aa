"""What workers tell each other in shared memory, and when one of them is taken for hung."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

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
