"""Which controller of a workspace acts."""

from __future__ import annotations

import os
import socket
import time

import psutil
from sqlalchemy import Connection, select

from loopwright.core import new_id
from loopwright.loop.tables import loop_controllers
from loopwright.store import Stores

LEASE = "controller"
LEASE_S = 15.0
_SLACK_S = 1.0


class Lease:
    """The right to act, kept while the controller lives. A successor on the same machine takes it from a dead one at
    once; on another machine it waits for the lease to run out."""

    def __init__(self, stores: Stores) -> None:
        self._stores = stores
        self._host, self._pid = socket.gethostname()[:100], os.getpid()
        self._holder = f"{self._host}:{self._pid}:{new_id()}"
        self._held, self._renewed = False, 0.0

    def take(self) -> bool:
        """Take or keep the lease; False while another has it."""
        if self._held and self._is_fresh():
            return True
        asked = time.monotonic()
        held = self._stores.db.try_lease(LEASE, self._holder, LEASE_S) or self._inherit()
        if held and not self._held:
            with self._stores.db.begin() as tx:
                self._sign(tx)
        self._held, self._renewed = held, asked
        return held

    def keep(self) -> None:
        """Renew it before long work. Should it be lost all the same, each decision still compares before it sets."""
        self.take()

    def give_back(self) -> None:
        """Let the next one in at once."""
        if self._held:
            self._stores.db.release_lease(LEASE, self._holder)
            self._held = False

    def _is_fresh(self) -> bool:
        """Whether so little of it has passed that nobody need be asked."""
        return time.monotonic() - self._renewed < LEASE_S / 3

    def _sign(self, tx: Connection) -> None:
        row = {
            "id": 1,
            "holder": self._holder,
            "host": self._host,
            "pid": self._pid,
            "pid_started": psutil.Process(self._pid).create_time(),
        }
        tx.execute(self._stores.db.upsert(loop_controllers, row, ["id"], ["holder", "host", "pid", "pid_started"]))

    def _inherit(self) -> bool:
        with self._stores.db.read() as connection:
            row = connection.execute(select(loop_controllers)).one_or_none()
        if row is None or row.host != self._host or _lives(row.pid, row.pid_started):
            return False
        self._stores.db.release_lease(LEASE, row.holder)
        return self._stores.db.try_lease(LEASE, self._holder, LEASE_S)


def _lives(pid: int, started: float) -> bool:
    """Whether that process is there still, and not another one that got its number."""
    try:
        return abs(psutil.Process(pid).create_time() - started) < _SLACK_S
    except psutil.Error:
        return False
