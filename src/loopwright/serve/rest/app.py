"""The inference process over HTTP: one table of routes for all protocols, and whose requests are taken."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial

import msgspec

from loopwright.core import Forbidden
from loopwright.models import Bundle
from loopwright.serve.dataplane import DataPlane
from loopwright.serve.explaining import Explainer
from loopwright.serve.feature_reads import FeatureReads
from loopwright.serve.feedback import FeedbackIntake
from loopwright.serve.loading import Loading
from loopwright.serve.repository import PlaneRepository, Repository
from loopwright.serve.rest import v2
from loopwright.serve.rest.azureml import AzureMl
from loopwright.serve.rest.contract import Contract
from loopwright.serve.rest.desk import Desk
from loopwright.serve.rest.http import Exchange
from loopwright.serve.rest.infer import Infer
from loopwright.serve.rest.invocations import Invocations
from loopwright.serve.rest.multi_model import MultiModel
from loopwright.serve.rest.native import Native
from loopwright.serve.rest.openapi import describe
from loopwright.serve.rest.responses import JSON
from loopwright.serve.rest.routing import Handler, Refusal, Route, Router, Values
from loopwright.serve.rest.tfserving import TensorFlowServing
from loopwright.serve.rest.v2_models import V2Models
from loopwright.serve.rest.vertex import Vertex

_TEXT = b"text/plain; version=0.0.4; charset=utf-8"
_MOST_PATHS = 1024
_Found = tuple[Handler, Values, Refusal]


class App:
    """Answers exchanges with the data plane.

    Attributes:
        ready: whether the process takes requests.
        connections: how many there are.
        figures: gives all figures as Prometheus reads them; None for those of this process alone.
        repository: the models that the process knows.
        table: of routes; `router` finds what answers a path by it.
    """

    def __init__(
        self,
        plane: DataPlane,
        hosts: frozenset[bytes] | None = None,
        contract: Contract | None = None,
        bundles: Callable[[str], Bundle] | None = None,
        reads: FeatureReads | None = None,
        feedback: FeedbackIntake | None = None,
    ) -> None:
        """Args:
        plane: what answers.
        hosts: the values of Host, without the port, that are taken; None takes any. A process that is bound to the
            loopback takes loopback names only, so that no page of another site can reach it by a name of its own.
        contract: what the platform asks of this process.
        bundles: gives the bundle with a digest; without it nothing can be explained.
        reads: looks features up.
        feedback: takes feedback; None where none is taken.
        """
        self.ready = False
        self.connections: Callable[[], int] = lambda: 0
        self.figures: Callable[[], Awaitable[str]] | None = None
        self.repository: Repository = PlaneRepository(plane)
        self._plane, self._hosts = plane, hosts
        self._desk = Desk(plane, lambda: {item.name for item in self.repository.index()})
        explainer = None if bundles is None else Explainer(bundles)
        native = Native(self._desk, explainer, reads or FeatureReads(None), feedback)
        self.table = self._routes(contract or Contract(), native)
        self.router = Router(self.table)
        self._posts: dict[bytes, _Found] = {}

    def __call__(self, exchange: Exchange) -> None:
        """Answer one exchange, now or when the data plane has."""
        refusal: Refusal = v2.refusal
        try:
            found = exchange.head.memo  # of a request with the same head, which was checked then
            if found is None:
                self._check_origin(exchange)
                found = exchange.head.memo = self._posts.get(exchange.path) if exchange.method == b"POST" else None
                found = found or self._find(exchange)
            handler, values, refusal = found
            handler(exchange, values)
        except Loading as loading:
            loading.then(lambda: self(exchange), partial(self._desk.refuse, exchange, refusal=refusal))
        except Exception as error:  # noqa: BLE001  (answered, and reported if it is a fault of ours)
            self._desk.refuse(exchange, error, refusal)

    def own_figures(self) -> str:
        """The figures of this process, as Prometheus reads them."""
        self._plane.metrics.connections = self.connections()
        return self._plane.metrics.render()

    def _routes(self, contract: Contract, native: Native) -> list[Route]:
        invocations = Invocations(self._desk, contract, lambda: self.ready)
        return [
            *Infer(self._desk).routes(),
            *V2Models(self._desk, lambda: self.repository, lambda: self.ready).routes(),
            Route("GET", "/metrics", self._metrics, v2.refusal),
            Route("GET", "/openapi.json", self._openapi, v2.refusal),
            *invocations.routes(),
            *MultiModel(self._desk, invocations, lambda: self.repository).routes(),
            *Vertex(self._desk, contract).routes(),
            *AzureMl(self._desk, contract).routes(),
            *native.routes(),
            *TensorFlowServing(self._desk).routes(),  # behind those of the contract, which may choose such a path
        ]

    def _find(self, exchange: Exchange) -> _Found:
        """What answers an exchange; remembered for paths of models that are there."""
        route, values = self.router.find(exchange.method, exchange.path)
        found = (route.handler, values, route.refusal)
        is_known = values.get("model") in self._plane.endpoints
        if is_known and exchange.method == b"POST" and len(self._posts) < _MOST_PATHS:
            self._posts[exchange.path] = exchange.head.memo = found
        return found

    def _openapi(self, exchange: Exchange, _values: Values) -> None:
        names = {item.name for item in self.repository.index()}
        exchange.respond(200, msgspec.json.encode(describe(self.table, names)), JSON)

    def _metrics(self, exchange: Exchange, _values: Values) -> None:
        figures = self.figures
        if figures is None:
            exchange.respond(200, self.own_figures().encode(), _TEXT)
            return

        async def rendered() -> bytes:
            return (await figures()).encode()

        self._desk.later(exchange, rendered(), v2.refusal, _TEXT)

    def _check_origin(self, exchange: Exchange) -> None:
        """Refuse what a page of another site sends (DESIGN §7 rules 7 and 8)."""
        host = exchange.headers.get(b"host", b"")
        if self._hosts is not None and host and _without_port(host) not in self._hosts:
            raise Forbidden(f"this process does not answer for the host {host.decode('latin-1')!r}")
        origin = exchange.headers.get(b"origin")
        if origin is not None and origin.partition(b"://")[2] != host:
            raise Forbidden(f"requests from pages of {origin.decode('latin-1')!r} are not taken")


def _without_port(host: bytes) -> bytes:
    if host.startswith(b"["):
        return host.partition(b"]")[0] + b"]"
    return host.partition(b":")[0].lower()
