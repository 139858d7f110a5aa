"""The Open Inference Protocol V2 over HTTP, beside inference: health, metadata, configuration, statistics, repository.

The last three are Triton's extensions of the protocol (triton-inference-server/server, `docs/protocol/extension_*.md`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from loopwright import __version__
from loopwright.core import Invalid
from loopwright.serve.describing import config_of, metadata_of, statistics_of
from loopwright.serve.health import check_ready
from loopwright.serve.loaded import LoadedEndpoint
from loopwright.serve.repository import ModelState, Repository
from loopwright.serve.rest import v2
from loopwright.serve.rest.desk import Desk
from loopwright.serve.rest.http import Exchange
from loopwright.serve.rest.routing import Route, Values

EXTENSIONS = ("binary_tensor_data", "model_configuration", "model_repository", "statistics")
_encode = msgspec.json.encode


class _IndexRequest(msgspec.Struct):
    ready: bool = False


class V2Models:
    """Answers what clients ask before and after they infer."""

    def __init__(self, desk: Desk, repository: Callable[[], Repository], ready: Callable[[], bool]) -> None:
        """Args:
        repository: what the process knows.
        ready: whether the process takes requests.
        """
        self._desk, self._repository, self._ready = desk, repository, ready

    def routes(self) -> list[Route]:
        """The rows of the table of routes."""
        rows: list[tuple[str, str, Callable[[Exchange, Values], None]]] = [
            ("GET", "/v2", self._server),
            ("GET", "/v2/health/live", self._live),
            ("GET", "/v2/health/ready", self._is_ready),
            ("GET", "/v2/models/stats", self._statistics),
            ("POST", "/v2/repository/index", self._index),
            ("POST", "/v2/repository/models/{model}/load", self._load),
            ("POST", "/v2/repository/models/{model}/unload", self._unload),
        ]
        for kind in ("systemsharedmemory", "cudasharedmemory"):
            rows += [
                ("GET", f"/v2/{kind}/status", _no_regions),
                ("POST", f"/v2/{kind}/region/{{region}}/register", _refuse_region),
                ("POST", f"/v2/{kind}/unregister", _nothing),
                ("POST", f"/v2/{kind}/region/{{region}}/unregister", _nothing),
            ]
        for path in ("/v2/models/{model}", "/v2/models/{model}/versions/{version}"):
            rows += [
                ("GET", path, self._metadata),
                ("GET", f"{path}/ready", self._model_ready),
                ("GET", f"{path}/config", self._config),
                ("GET", f"{path}/stats", self._statistics),
            ]
        return [Route(method, path, handler, v2.refusal) for method, path, handler in rows]

    def _server(self, exchange: Exchange, _values: Values) -> None:
        exchange.respond(200, _encode({"name": "loopwright", "version": __version__, "extensions": EXTENSIONS}))

    def _live(self, exchange: Exchange, _values: Values) -> None:
        exchange.respond(200, _encode({"live": True}))

    def _is_ready(self, exchange: Exchange, _values: Values) -> None:
        ready = self._ready()
        body = {"ready": ready, "revision": self._desk.plane.metrics.revision}
        exchange.respond(200 if ready else 503, _encode(body))

    def _endpoint(self, values: Values) -> LoadedEndpoint:
        """The endpoint that a path names; its version, if it names one, is served."""
        endpoint = self._desk.plane.endpoint(values["model"])
        if version := values.get("version"):
            endpoint.at_version(version)
        return endpoint

    def _metadata(self, exchange: Exchange, values: Values) -> None:
        exchange.respond(200, _encode(metadata_of(self._endpoint(values))))

    def _model_ready(self, exchange: Exchange, values: Values) -> None:
        check_ready(self._endpoint(values))
        exchange.respond(200, _encode({"name": values["model"], "ready": True}))

    def _config(self, exchange: Exchange, values: Values) -> None:
        exchange.respond(200, _encode(config_of(self._endpoint(values))))

    def _statistics(self, exchange: Exchange, values: Values) -> None:
        plane = self._desk.plane
        chosen = [self._endpoint(values)] if "model" in values else list(plane.endpoints.values())
        version = values.get("version", "")

        async def told() -> bytes:
            runs = await plane.metrics.all_runs()
            stats = [item for endpoint in chosen for item in statistics_of(endpoint, runs, version)]
            return _encode({"model_stats": stats})

        self._desk.later(exchange, told(), v2.refusal)

    def _index(self, exchange: Exchange, _values: Values) -> None:
        try:
            only_ready = bool(exchange.body) and msgspec.json.decode(exchange.body, type=_IndexRequest).ready
        except msgspec.MsgspecError as error:
            raise Invalid(f"the request is not of the protocol's form: {error}") from None
        entries = [item for item in self._repository().index() if not only_ready or item.state is ModelState.READY]
        exchange.respond(200, _encode(entries))

    def _load(self, exchange: Exchange, values: Values) -> None:
        _refuse_parameters(exchange.body)
        self._desk.later(exchange, self._loaded(values["model"]), v2.refusal)

    def _unload(self, exchange: Exchange, values: Values) -> None:
        self._desk.later(exchange, self._unloaded(values["model"]), v2.refusal)

    async def _loaded(self, name: str) -> bytes:
        await self._repository().load(name)
        return b""

    async def _unloaded(self, name: str) -> bytes:
        await self._repository().unload(name)
        return b""


def _refuse_parameters(body: bytes) -> None:
    """Refuse a model that comes with the request: what is loaded was published, and is fetched by its digest."""
    try:
        given: dict[str, Any] = msgspec.json.decode(body, type=dict[str, Any]) if body else {}
    except msgspec.MsgspecError as error:
        raise Invalid(f"the request is not of the protocol's form: {error}") from None
    if given.get("parameters"):
        raise Invalid(
            "a request to load takes no configuration and no files",
            next_step="register the version, and publish it through an endpoint",
        )


def _no_regions(exchange: Exchange, _values: Values) -> None:
    exchange.respond(200, b"[]")


def _nothing(exchange: Exchange, _values: Values) -> None:
    exchange.respond(200, b"")


def _refuse_region(_exchange: Exchange, _values: Values) -> None:
    raise Invalid("shared memory is not offered here", next_step="send tensors in the request, as JSON or binary")
