"""A gRPC server on an event loop of its own, in this process, over a data plane with `plus`, which adds 1 to `x`."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.serve.conftest import Plane, adding_bundle

from loopwright.models import Bundle
from loopwright.serve import Variant
from loopwright.serve.admission import Limits
from loopwright.serve.grpc import GrpcServer
from loopwright.serve.grpc.server import GrpcLimits
from loopwright.serve.repository import PlaneRepository


class Serving:
    """A server that runs."""

    def __init__(self, made: Plane, limits: GrpcLimits | None) -> None:
        self.made = made
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever, name="serving", daemon=True)
        self._thread.start()
        self.server: GrpcServer = self.run(self._start(limits))
        self.port: int = self.run(self.server.listen("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self.port}"

    async def _start(self, limits: GrpcLimits | None) -> GrpcServer:
        repository = PlaneRepository(self.made.plane)
        return GrpcServer(self.made.plane, lambda: repository, lambda: True, limits=limits)

    def run(self, work: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(30)

    def unfinished(self) -> int:
        """How many bytes wait for the rest of their messages, when the server's turn is over."""

        async def found() -> int:
            return self.server.unfinished_bytes

        return int(self.run(found()))

    def stop(self) -> None:
        self.run(self.server.drain(2))
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join()
        self.loop.close()


MakeServing = Callable[..., Serving]


@pytest.fixture(scope="session")
def plus(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return adding_bundle(1.0, tmp_path_factory.mktemp("plus") / "bundle")


@pytest.fixture
def make_serving(plus: Bundle, tmp_path: Path) -> Iterator[MakeServing]:
    running: list[Serving] = []

    def make(**limits: Any) -> Serving:
        made = Plane(tmp_path, Limits(turn_s=60.0))  # sheds nothing, however busy the machine is
        made.serve((Variant("champion", "model:plus@1", "0" * 64), plus), name="plus")
        running.append(Serving(made, GrpcLimits(**limits) if limits else None))
        return running[-1]

    yield make
    for serving in running:
        serving.stop()
