"""The thread that tells webhooks what happens: a reader of the log of events with a cursor of its own.

Events become deliveries in the transaction that moves the cursor, so none is lost or made twice, whoever is killed.
Deliveries of one webhook go out one after the other, oldest first; one that was sent, but not noted as sent when the
process died, is sent again with the same id. A lease picks one process where several serve a workspace.
"""

from __future__ import annotations

import logging
import os
import random
import socket
import threading
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from loopwright.core import Clock, Invalid, LoopwrightError, SystemClock, Unavailable, new_id
from loopwright.govern.webhooks import queue
from loopwright.govern.webhooks.formats import Formats
from loopwright.govern.webhooks.posting import Verdict, judge, pause_after, post
from loopwright.govern.webhooks.sealing import seal_all
from loopwright.store import Stores

if TYPE_CHECKING:
    from loopwright.store import Reply

READER = "webhooks"
_LEASE_S, _TIDY_S, _STOP_S = 10.0, 600.0, 5.0
_BATCH, _AT_ONCE, _WORKERS, _ATTEMPTS, _FAR = 500, 20, 4, 12, 10_000
_log = logging.getLogger(__name__)


class WebhookSender:
    """Delivers from `start()` to `stop()`, for all projects of a workspace."""

    def __init__(
        self,
        stores: Stores,
        formats: Mapping[str, str] | None = None,
        *,
        interval_s: float = 0.5,
        clock: Clock | None = None,
    ) -> None:
        """Args:
        formats: further formats by name, as `module:attribute`.
        interval_s: how often to look.
        """
        self._stores, self._formats = stores, Formats(formats or {})
        self._interval_s, self._clock = interval_s, clock or SystemClock()
        self._holder = f"{socket.gethostname()[:100]}:{os.getpid()}:{new_id()}"
        self._stop, self._busy, self._lock = threading.Event(), set[str](), threading.Lock()
        self._thread: threading.Thread | None = None
        self._pool: ThreadPoolExecutor | None = None
        self._tidied = -_TIDY_S

    def start(self) -> None:
        """Begin; a second start does nothing."""
        if self._thread is None:
            self._stop.clear()
            self._pool = ThreadPoolExecutor(_WORKERS, "loopwright-webhook")
            self._thread = threading.Thread(target=self._run, name="loopwright-webhooks", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """End: what is being sent is left to end by itself, what waits is sent after the next start."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join(_STOP_S)
            self._thread = None
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)
            self._pool = None
        self._stores.db.release_lease(READER, self._holder)

    def turn(self) -> bool:
        """One look in the caller's thread: new events become deliveries, and what is due is sent. Whether this process
        is the one that delivers."""
        with self._stores.db.read() as connection:
            hooks = queue.active_webhooks(connection)
        if not hooks and self._behind() < _FAR:
            return True
        if not self._stores.db.try_lease(READER, self._holder, _LEASE_S):
            return False
        while self._take_up() and not self._stop.is_set():
            pass
        self._tidy()
        self._send()
        return True

    def _behind(self) -> int:
        """How many sealed events the cursor has not passed. Without a webhook it stays where it is for a while, so that
        nothing is written for nobody."""
        return self._stores.events.head() - self._stores.events.cursor(READER)

    def _run(self) -> None:
        try:
            seal_all(self._stores)
        except Exception:  # noqa: BLE001 (what is not sealed now is at the next start; deliveries must not wait for it)
            _log.exception("the secrets of webhooks could not be sealed")
        while not self._stop.wait(self._interval_s):
            try:
                self.turn()
            except LoopwrightError as error:
                _log.warning("webhooks have to wait: %s", error)
            except Exception:  # noqa: BLE001 (one defect must not end all deliveries; it is told, and tried again)
                _log.exception("a look for webhooks failed")

    def _take_up(self) -> bool:
        """Make deliveries of the next events; whether there may be more of them."""
        self._stores.events.seal()
        after, head = self._stores.events.cursor(READER), self._stores.events.head()
        if after >= head:
            return False
        with self._stores.db.read() as connection:
            hooks = queue.active_webhooks(connection)
        events = self._stores.events.read(after, _BATCH) if hooks else []
        rows = queue.drafts(self._stores, self._formats, hooks, events)
        reached = (events[-1].position or head) if events else head
        with self._stores.db.begin() as tx:
            self._stores.db.lock(tx, READER)
            # Another process may have been quicker, had this one lost its lease meanwhile.
            if self._stores.events.cursor_in(tx, READER) != after:
                return True
            if rows:
                queue.add(tx, rows, self._clock.now())
            self._stores.events.save_cursor(tx, READER, reached)
        return reached < head

    def _tidy(self) -> None:
        if time.monotonic() - self._tidied < _TIDY_S:
            return
        self._tidied = time.monotonic()
        with self._stores.db.begin() as tx:
            queue.tidy(tx, self._clock.now())

    def _send(self) -> None:
        with self._lock:
            busy = list(self._busy)
        with self._stores.db.read() as connection:
            hooks = queue.due(connection, self._clock.now(), busy)
        for hook in hooks:
            if self._pool is None:
                self._serve(hook)
                continue
            with self._lock:
                self._busy.add(hook.id)
            self._pool.submit(self._serve, hook)

    def _serve(self, hook: Any) -> None:
        """Send what waits for one webhook, as long as it takes it."""
        try:
            with self._stores.db.read() as connection:
                waiting = queue.oldest(connection, hook.id, _AT_ONCE)
            for delivery in waiting:
                if self._stop.is_set() or not self._attempt(hook, delivery):
                    return
        except LoopwrightError as error:
            _log.warning("the webhook %s has to wait: %s", hook.id, error)
        except Exception:  # noqa: BLE001 (a thread of the pool would keep it to itself; it is told, and tried again)
            _log.exception("the webhook %s failed", hook.id)
        finally:
            with self._lock:
                self._busy.discard(hook.id)

    def _attempt(self, hook: Any, delivery: Any) -> bool:
        """Send one delivery and note what came of it; whether the next one may follow at once."""
        reply, problem, verdict = None, "", Verdict.AGAIN
        try:
            form = self._formats.get(hook.format)
            reply = post(self._stores.location.settings, form, hook, delivery.id, delivery.body)
            verdict = judge(reply.status)
            problem = "" if verdict is Verdict.DELIVERED else f"it answered {reply.status}"
        except Invalid as refused:
            verdict, problem = Verdict.GIVE_UP, str(refused)
        except Unavailable as silent:
            problem = str(silent)
        self._note(hook, delivery, verdict, reply, problem)
        return verdict is not Verdict.AGAIN

    def _note(self, hook: Any, delivery: Any, verdict: Verdict, reply: Reply | None, problem: str) -> None:
        now, status = self._clock.now(), reply.status if reply else None
        with self._stores.db.begin() as tx:
            if verdict is Verdict.DELIVERED:
                queue.succeed(tx, delivery.id, hook.id, status or 200, now)
                return
            last = verdict is Verdict.GIVE_UP or delivery.attempts + 1 >= _ATTEMPTS
            queue.fail(tx, delivery.id, status, problem, now if last else None)
            if verdict is Verdict.AGAIN:
                asked = reply.headers.get("retry-after", "") if reply else ""
                pause = pause_after(hook.failures + 1, random.random(), float(asked) if asked.isdecimal() else 0.0)
                queue.postpone(tx, hook.id, hook.failures + 1, now + timedelta(seconds=pause))
        _log.warning("webhook %s was not told of %s: %s", hook.name, delivery.event, problem)
