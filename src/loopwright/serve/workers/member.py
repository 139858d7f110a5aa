"""This process as one of several workers behind one address."""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
from collections.abc import Callable
from pathlib import Path

import msgspec

from loopwright.serve.statistics import Runs
from loopwright.serve.workers.accepting import Acceptor
from loopwright.serve.workers.board import Board
from loopwright.serve.workers.peers import Peers
from loopwright.serve.workers.running import write_names

BEAT_S = 0.05
BOARD = "board"


class Membership(msgspec.Struct, frozen=True):
    """A worker's place among the others.

    Attributes:
        folder: where they meet.
        place: this one's, from 0.
        places: how many they are.
        listener: the descriptor of the listening socket that all share; -1 where there is none.
    """

    folder: Path
    place: int
    places: int
    listener: int = -1


class Member:
    """Takes connections with the others, tells them its figures, and shows that it lives. Lives on one event loop."""

    def __init__(
        self,
        given: Membership,
        render: Callable[[], str],
        connections: Callable[[], int],
        runs: Callable[[], Runs],
    ) -> None:
        """Args:
        given: the place.
        render: this worker's figures, as Prometheus reads them.
        connections: how many it holds.
        runs: what its models have answered.
        """
        self._given, self._connections = given, connections
        self.board = Board(given.folder / BOARD, given.places)
        self._peers = Peers(given.folder, self.board, given.place, render, runs)
        self._acceptor: Acceptor | None = None
        self._numbers: dict[str, int] = {}
        self._beating: asyncio.Task[None] | None = None

    async def open(self, protocol: Callable[[], asyncio.Protocol], tls: ssl.SSLContext | None = None) -> int:
        """Take connections from now on, encrypted as `tls` says; the port."""
        await self._peers.open()
        self.board.take(self._given.place, os.getpid())
        self._beating = asyncio.create_task(self._beat(), name="loopwright-beat")
        listener = socket.socket(fileno=self._given.listener)
        self._acceptor = Acceptor(listener, protocol, self.board, self._given.place, tls)
        return int(listener.getsockname()[1])

    def count(self) -> None:
        """Tell the others how many connections this worker holds, those that it is opening among them: when clients
        come back all at once, each worker is to know what the others have lost."""
        opening = self._acceptor.opening if self._acceptor is not None else 0
        self.board.note_connections(self._given.place, self._connections() + opening)

    def note(self, endpoint: str) -> None:
        """Note on the board whose model runs on the event loop, so that one that ends this process is known; an empty
        name when it has ended.

        Only what happens on the event loop is: a model of its own process, or a large request, holds up nobody.
        """
        self.board.note_running(self._given.place, self._number(endpoint) if endpoint else 0)

    def _number(self, name: str) -> int:
        """What an endpoint is called on the board, from 1: its line in a file beside it."""
        found = self._numbers.get(name)
        if found is None:
            found = self._numbers[name] = len(self._numbers) + 1
            write_names(self._given.folder, os.getpid(), list(self._numbers))
        return found

    async def figures(self) -> str:
        """The figures of all workers together."""
        return await self._peers.figures()

    async def runs(self) -> Runs:
        """What the models of all workers have answered."""
        return await self._peers.runs()

    def stop_accepting(self) -> None:
        """Leave new connections to the others."""
        if self._acceptor is not None:
            self._acceptor.close()

    async def close(self) -> None:
        """Leave the last figures behind, and the place to the next."""
        if self._beating is not None:
            self._beating.cancel()
        await self._peers.close()
        self.board.clear(self._given.place, os.getpid())

    async def _beat(self) -> None:
        place = self._given.place
        while self.board.read(place).pid == os.getpid():  # a successor may have taken the place while we drain
            self.board.beat(place)
            self.count()
            await asyncio.sleep(BEAT_S)
