"""The express lane: V2 requests for one endpoint whose inputs are one matrix of floats, without an object each.

Nearly all load on a fast endpoint is of one form: a known head, and a body with one tensor of numbers, in JSON or in
bytes behind JSON that was seen before (see `forms`). The compiled part (`_express.c`) reads these requests into one
matrix while they arrive; this part makes one query of those of a turn, and hands the values of its answer back,
which the compiled part cuts into responses. A request that is different in any way takes the usual way, which is also
where one goes first that shows how its head is to be treated.
"""

from __future__ import annotations

import sys
import time
import traceback
from functools import partial
from typing import Any
from weakref import WeakSet

import msgspec
import numpy as np

from loopwright.core import DType, LoopwrightError
from loopwright.serve.block import Array, Block
from loopwright.serve.direct import Direct
from loopwright.serve.ids import Ids
from loopwright.serve.loaded import LoadedEndpoint
from loopwright.serve.query import Answer, Gathered, Query
from loopwright.serve.rest import v2, v2_binary, v2_binary_answers
from loopwright.serve.rest.arrivals import Connection, PlainConnection
from loopwright.serve.rest.desk import RETRY, Desk
from loopwright.serve.rest.forms import form_of
from loopwright.serve.rest.heads import Head
from loopwright.serve.rest.http import Exchange
from loopwright.serve.rest.responses import written
from loopwright.serve.rest.v2_codec import codec_of

if Connection is not PlainConnection:
    from loopwright.serve.rest._express import Form, Lane, Taken

_MOST_ROWS = 256  # of a request: with more, what an object costs does not matter
_MOST_FORMS, _MOST_TEXT = 256, 1024
_NUMBERS = frozenset({DType.BOOL, DType.INT64, DType.FLOAT32, DType.FLOAT64})
_encode = msgspec.json.Encoder().encode


def show(exchange: Exchange, request: Any, endpoint: LoadedEndpoint, desk: Desk, refusal: bytes) -> None:
    """Have the endpoint's lane, if it has one, take requests like this one from now on.

    Args:
        exchange: a request to infer whose path names no version, and that the endpoint takes.
        request: what its JSON says.
        refusal: the response to a request that there is no time for.
    """
    if Express not in endpoint.notes:
        is_fit = Connection is not PlainConnection and _is_plain(endpoint)
        endpoint.notes[Express] = Express(endpoint, desk, refusal) if is_fit else None
    found: Express | None = endpoint.notes[Express]
    head = exchange.head
    if found is None or exchange.__class__ is not Exchange or not head.keep_alive or not found.lane.is_open:
        return
    if b"content-encoding" in head.headers:
        return
    if v2_binary.HEADER in head.headers:
        size = int(head.headers[v2_binary.HEADER])
        if size > _MOST_TEXT or not found.take_form(exchange.body[:size], request):
            return
        head.forms = size, found.forms
    if head.lane is None:
        found.take_head(head)


def _is_plain(endpoint: LoadedEndpoint) -> bool:
    """Whether one model in this process answers all rows, from a matrix, with one number for each output."""
    if not (endpoint.intake.floats and endpoint.inline and len(endpoint.live) == 1 and not endpoint.shadows):
        return False
    loaded = endpoint.live[0]
    outputs = loaded.predictor.signature.outputs
    return loaded.projection.is_identity and not any(output.shape or output.dtype not in _NUMBERS for output in outputs)


class Express:
    """Answers what the lane of an endpoint gathers."""

    def __init__(self, endpoint: LoadedEndpoint, desk: Desk, refusal: bytes) -> None:
        self._endpoint, self._desk, self._plane = endpoint, desk, desk.plane
        self._name, self._outputs = endpoint.spec.name, endpoint.live[0].predictor.signature.outputs
        self._direct = Direct(endpoint, self._plane.metrics) if Direct.suits(endpoint) else None
        limits = self._plane.limits
        self._most_rows = min(_MOST_ROWS, limits.inline_rows, limits.request_rows)
        self.lane = Lane(
            partial(self._plane.expect, self._gather),
            self._plane.hurry,
            width=len(endpoint.intake.columns),
            template=codec_of(endpoint).template(endpoint.live[0], self._outputs),
            refusal=refusal,
            most_rows=self._most_rows,
            most_waiting=limits.queue_rows,
            turn_requests=max(1, limits.turn_requests),
            burst_s=limits.burst_s,
            shed_s=limits.shed_s,
            calm_s=limits.calm_s,
            reading_s=limits.reading_s,
        )
        self._heads: WeakSet[Head] = WeakSet()
        self.forms: dict[bytes, Form] = {}  # by the JSON in front of a binary tensor
        endpoint.on_retire.append(self._retire)

    def take_head(self, head: Head) -> None:
        """Take the requests with a head from now on."""
        self._heads.add(head)
        head.lane = self.lane

    def take_form(self, text: bytes, request: Any) -> bool:
        """Take requests with binary tensors behind this JSON from now on; whether they are taken."""
        if text not in self.forms:
            form = form_of(request, self._endpoint)
            if form is None or form.rows > self._most_rows:
                return False
            if len(self.forms) >= _MOST_FORMS:
                self.forms.clear()
            self.forms[text] = Form(form.rows, form.kind, form.pieces, form.columns, form.raws)
            self.lane.has_forms = True
        return True

    def _retire(self) -> None:
        """Take no more requests: those with the same head find out anew where they go."""
        self.lane.is_open = False
        for head in self._heads:
            head.lane = head.forms = None

    def _gather(self) -> None:
        """Answer the first of what has come; of very much, the rest in the next turns."""
        began_ns = time.monotonic_ns()
        if shed := self.lane.take_shed():
            self._desk.count_turned_away(shed)
            self._plane.pace.refused(began_ns)
        try:
            self._answer_some(began_ns)
        finally:
            if self.lane.waiting:
                self._plane.expect(self._gather)
        if not self._plane.is_hurried:
            self.lane.reading_ns = 0
        bounds = self._plane.pace.bounds(self._plane.limits)  # for what arrives from now on, so not before the answers
        self.lane.bound(bounds.many, bounds.few, bounds.overload, bounds.late)

    def _answer_some(self, began_ns: int) -> None:
        """One run's worth, or while requests are refused what there is time for."""
        plane, limits = self._plane, self._plane.limits
        while self._answer(self.lane.take(limits.gathered_requests, plane.slice_rows())):
            if not self.lane.waiting or not plane.pace.has_time(limits, began_ns, time.monotonic_ns()):
                return

    def _answer(self, taken: Taken) -> bool:
        """Answer at once what can be, and submit the rest; whether it is answered."""
        matrix = np.frombuffer(taken.values).reshape(taken.rows, -1)
        if taken.is_single:  # and so in half the bytes in the log
            matrix = matrix.astype(np.float32)
        block = Block(self._endpoint.intake.kinds, taken.rows, matrix=matrix, is_narrow=True)
        gathered = Gathered(taken.counts, taken.started_ns)
        try:
            found = None if self._direct is None else self._plane.answer_at_once(self._direct, block, gathered)
            if found is None:
                self._submit(taken, block, gathered)
                return False
        except Exception as error:  # noqa: BLE001  (answered; else its connections would wait for ever)
            self._refuse(taken, error)
            return True
        arrays, ids = found
        texts = ids.json(0, taken.rows) if ids is not None else _encode([""] * taken.rows)
        self._respond(taken, gathered, arrays, texts)
        self._plane.metrics.runs.answered()
        return True

    def _submit(self, taken: Taken, block: Block, gathered: Gathered) -> None:
        now_ns, now_us = time.monotonic_ns(), time.time_ns() // 1000
        started = gathered.started_ns
        query = Query(
            self._name,
            block,
            partial(self._reply, taken, gathered),
            started_ns=started[0],
            gathered=gathered,
            apart=partial(self._ask_each, taken) if len(started) > 1 else None,
        )
        query.received_at_us = now_us - (now_ns - started[0]) // 1000
        self._plane.submit(query, self._endpoint)

    def _ask_each(self, taken: Taken) -> None:
        """Ask for each request by itself: a model that refuses the rows of one may answer the others."""
        for one in taken.apart():
            self._answer(one)

    def _reply(self, taken: Taken, gathered: Gathered, answer: Answer | LoopwrightError) -> None:
        if isinstance(answer, LoopwrightError):
            self._refuse(taken, answer)
            return
        ids, start = answer.query.given_ids, answer.query.parts[0].start
        texts = ids.json(start, taken.rows) if isinstance(ids, Ids) else _encode(ids)
        self._respond(taken, gathered, answer.arrays(), texts)

    def _respond(self, taken: Taken, gathered: Gathered, arrays: dict[str, Array], ids: bytes) -> None:
        """Cut the answers of all rows into responses.

        Args:
            ids: of the predictions, as a list in JSON.
        """
        try:
            texts = [_encode(arrays[one.name].tolist()) for one in self._outputs] if taken.has_json else []
            raws = [v2_binary_answers.raw(arrays[one.name], one) for one in self._outputs] if taken.has_raw else []
            taken.respond((*texts, ids), tuple(raws), time.monotonic())
            self._desk.count_all(self._name, gathered.started_ns)
        except Exception as error:  # noqa: BLE001  (answered; others wait for their replies)
            self._refuse(taken, error)

    def _refuse(self, taken: Taken, error: Exception) -> None:
        if not isinstance(error, LoopwrightError):
            traceback.print_exception(error, file=sys.stderr)
            error = LoopwrightError("the server failed on this request")
        self._plane.metrics.requests[self._name, error.http_status] += len(taken.counts)
        extra = RETRY if error.http_status == 503 else b""
        taken.refuse(written(error.http_status, v2.refusal(error), extra=extra), time.monotonic())
