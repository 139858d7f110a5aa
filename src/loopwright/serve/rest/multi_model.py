"""SageMaker's multi-model endpoints: models that are listed, loaded, invoked and unloaded by name.

https://docs.aws.amazon.com/sagemaker/latest/dg/mms-container-apis.html. SageMaker names a model and a folder that it
unpacked; here a model is one that this process knows by that name, and the folder is never read.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from loopwright.core import Conflict, Invalid, NotFound
from loopwright.serve.repository import ModelState, Repository, RepositoryEntry
from loopwright.serve.rest.desk import Desk
from loopwright.serve.rest.http import Exchange
from loopwright.serve.rest.invocations import Invocations, aws_refusal
from loopwright.serve.rest.routing import Route, Values, query_values

_PAGE = 100
_encode = msgspec.json.encode


class _LoadRequest(msgspec.Struct):
    model_name: str
    url: str = ""


class MultiModel:
    """Answers SageMaker's requests about models."""

    def __init__(self, desk: Desk, invocations: Invocations, repository: Callable[[], Repository]) -> None:
        """Args:
        repository: what the process knows.
        """
        self._desk, self._invocations, self._repository = desk, invocations, repository

    def routes(self) -> list[Route]:
        """The rows of the table of routes."""
        return [
            Route("GET", "/models", self._list, aws_refusal),
            Route("POST", "/models", self._load, aws_refusal),
            Route("GET", "/models/{model}", self._get, aws_refusal),
            Route("DELETE", "/models/{model}", self._unload, aws_refusal),
            Route("POST", "/models/{model}/invoke", self._invoke, aws_refusal),
        ]

    def _loaded(self) -> dict[str, RepositoryEntry]:
        return {item.name: item for item in self._repository().index() if item.state is ModelState.READY}

    def _list(self, exchange: Exchange, _values: Values) -> None:
        names = sorted(self._loaded())
        token = query_values(exchange.path).get("next_page_token", "0")
        if not token.isdecimal() or len(token) > 9:
            raise Invalid(f"next_page_token is {token[:60]!r}", next_step="send the one that the page before gave")
        start = int(token)
        body: dict[str, Any] = {"models": [_told(name) for name in names[start : start + _PAGE]]}
        if start + _PAGE < len(names):
            body["nextPageToken"] = str(start + _PAGE)
        exchange.respond(200, _encode(body))

    def _get(self, exchange: Exchange, values: Values) -> None:
        name = values["model"]
        if name not in self._loaded():
            raise NotFound(f"model {name!r} is not loaded", next_step="POST /models loads it")
        exchange.respond(200, _encode(_told(name)))

    def _load(self, exchange: Exchange, _values: Values) -> None:
        try:
            name = msgspec.json.decode(exchange.body, type=_LoadRequest).model_name
        except msgspec.MsgspecError as error:
            raise Invalid(f"the request is not of SageMaker's form: {error}") from None
        if name in self._loaded():
            raise Conflict(f"model {name!r} is loaded already")

        async def work() -> bytes:
            await self._repository().load(name)
            return _encode(_told(name))

        self._desk.later(exchange, work(), aws_refusal)

    def _unload(self, exchange: Exchange, values: Values) -> None:
        name = values["model"]
        if name not in self._loaded():
            raise NotFound(f"model {name!r} is not loaded")

        async def work() -> bytes:
            await self._repository().unload(name)
            return b"{}"

        self._desk.later(exchange, work(), aws_refusal)

    def _invoke(self, exchange: Exchange, values: Values) -> None:
        if values["model"] not in self._desk.plane.endpoints:
            raise NotFound(f"model {values['model']!r} is not loaded", next_step="POST /models loads it")
        self._invocations.invoke(exchange, values, aws_refusal)


def _told(name: str) -> dict[str, str]:
    return {"modelName": name, "modelUrl": f"model:{name}"}
