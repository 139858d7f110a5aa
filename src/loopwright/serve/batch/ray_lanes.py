"""Parts of a scoring answered on Ray: actors that hold the model, each with one CPU.

Rows are read, and answers written, by the process that asked: the machines of the cluster need no access to either. A
part whose actor dies is answered by another one. Only bytes, text and numbers travel through Ray.
"""

from __future__ import annotations

import io
import tempfile
import time
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from loopwright.core import KINDS, LoopwrightError, Unavailable
from loopwright.models import Bundle, ModelFailed, pack, unpack
from loopwright.serve.batch.answering import Answering, Lanes, Part
from loopwright.serve.batch.model import ScoringOptions
from loopwright.serve.batch.slices import scorer_of

if TYPE_CHECKING:
    import polars as pl

_START_S = 600.0
_STOP_S = 10.0
_DEATHS = 3
_MOST = 64


class Said(msgspec.Struct, frozen=True):
    """What an actor sends back: the answers as Arrow bytes, or what went wrong."""

    answers: bytes = b""
    bad: int = 0
    kind: str = ""
    message: str = ""
    where: str = ""
    next_step: str = ""


class RayScorer:
    """The actor. It unpacks the bundle in a folder of its own and answers with one thread."""

    def __init__(self, bundle: bytes, versions: bytes) -> None:
        self._bundle, self._versions = bundle, versions
        self._scorer: Any = None

    def start(self) -> str:
        """Get ready; what stands in the way, if anything does."""
        wanted, found = msgspec.json.decode(self._versions, type=dict[str, str]), _versions()
        odd = [
            f"{name} {found[name]} instead of {version}" for name, version in wanted.items() if found[name] != version
        ]
        if odd:
            return f"it has {', '.join(odd)}"
        try:
            self._folder = tempfile.TemporaryDirectory(prefix="loopwright-scoring-")
            folder = Path(self._folder.name)
            unpack(io.BytesIO(self._bundle), folder)
            bundle = Bundle(folder)
            bundle.verify()
            self._scorer = scorer_of(bundle, 1)
        except (LoopwrightError, OSError) as error:
            return f"{type(error).__name__}: {error}"
        return ""

    def answer(self, frame: bytes, first: int, how: bytes) -> bytes:
        """What is written for a part; `how` are the arguments of `Answering`."""
        import polars as pl

        name, kept, prefix, skip_bad = msgspec.json.decode(how, type=tuple[str, list[str], str, bool])
        answering = Answering(name, kept, prefix, skip_bad)
        try:
            answers, bad = answering.answer(self._scorer, pl.read_ipc(io.BytesIO(frame)), first)
        except LoopwrightError as error:
            said = Said(kind=error.code, message=error.message, where=error.where, next_step=error.next_step)
            return msgspec.msgpack.encode(said)
        return msgspec.msgpack.encode(Said(_ipc(answers), bad))


class _Sent(NamedTuple):
    first: int
    frame: pl.DataFrame
    lane: int
    reply: Any


class RayLanes:
    """Parts answered by actors of a cluster, in turn: each has one part at a time, so that memory is bounded."""

    def __init__(self, ray: Any, bundle: Bundle, workers: int) -> None:
        """Raises:
        Unavailable: the cluster has no place, or its machines are not like this one.
        """
        self._ray = ray
        self._actor = ray.remote(num_cpus=1, max_restarts=0)(RayScorer).options(scheduling_strategy="SPREAD")
        self._bundle, self._versions = ray.put(_packed(bundle)), msgspec.json.encode(_versions())
        cpus = int(ray.cluster_resources().get("CPU", 1))
        self._lanes = [self._actor.remote(self._bundle, self._versions) for _ in range(min(workers or cpus, _MOST))]
        self._deaths = 0
        self._await(self._lanes)

    def answer(self, answering: Answering, frames: Iterable[tuple[int, pl.DataFrame]]) -> Iterator[Part]:
        """As `Lanes` says."""
        how = msgspec.json.encode((answering.name, answering.kept, answering.prefix, answering.skip_bad))
        waiting: deque[_Sent] = deque()
        for number, (first, frame) in enumerate(frames):
            if len(waiting) == len(self._lanes):
                yield self._received(waiting.popleft(), how)
            waiting.append(self._send(first, frame, number % len(self._lanes), how))
        while waiting:
            yield self._received(waiting.popleft(), how)

    def close(self) -> None:
        """End the actors."""
        for lane in self._lanes:
            self._ray.kill(lane)

    def _send(self, first: int, frame: pl.DataFrame, lane: int, how: bytes) -> _Sent:
        return _Sent(first, frame, lane, self._lanes[lane].answer.remote(_ipc(frame), first, how))

    def _received(self, sent: _Sent, how: bytes) -> Part:
        import polars as pl

        while True:
            try:
                said = msgspec.msgpack.decode(self._ray.get(sent.reply), type=Said)
                break
            except self._ray.exceptions.RayError as error:
                self._replace(sent.lane, error)
                sent = self._send(sent.first, sent.frame, sent.lane, how)
        if said.kind:
            raise _error(said)
        return Part(sent.first, sent.frame, pl.read_ipc(io.BytesIO(said.answers)), said.bad)

    def _replace(self, lane: int, error: Exception) -> None:
        """Another actor in the place of one that is gone."""
        self._deaths += 1
        if self._deaths > _DEATHS * len(self._lanes):
            raise Unavailable(
                f"the cluster's workers die again and again: {str(error).splitlines()[0][:300]}",
                next_step="look at the cluster; said again, the scoring goes on where it stopped",
            ) from error
        self._lanes[lane] = self._actor.remote(self._bundle, self._versions)
        self._await([self._lanes[lane]])

    def _await(self, lanes: list[Any]) -> None:
        end = time.monotonic() + _START_S
        for lane in lanes:
            try:
                trouble = self._ray.get(lane.start.remote(), timeout=max(1.0, end - time.monotonic()))
            except self._ray.exceptions.GetTimeoutError:
                raise Unavailable(
                    f"the Ray cluster had no place for a worker within {_START_S:g} s",
                    next_step="each takes one CPU: ask `ray status`, or say --workers",
                ) from None
            except self._ray.exceptions.RayError as error:
                raise Unavailable(f"Ray could not start a worker: {str(error).splitlines()[0][:300]}") from error
            if trouble:
                raise Unavailable(f"a machine of the Ray cluster cannot score: {trouble}")


@contextmanager
def lanes_on(compute: str, bundle: Bundle, options: ScoringOptions) -> Iterator[Lanes | None]:
    """Where a bundle's model answers, as the setting `compute` says; None for in this process.

    Raises:
        Invalid: the setting is none that is known, or the extra `ray` is missing.
        Unavailable: the cluster does not answer, has no place, or its machines are not like this one.
    """
    from loopwright.pipeline import ray_on

    with ray_on(compute) as ray:
        if ray is None:
            yield None
            return
        lanes = RayLanes(ray, bundle, options.workers)
        try:
            yield lanes
        finally:
            lanes.close()


def _packed(bundle: Bundle) -> bytes:
    names = ("bundle.json", *sorted(bundle.manifest.files))
    paths = ((path, bundle.folder / path) for path in names)
    archive = io.BytesIO()
    pack(((path, file.open("rb"), file.stat().st_size) for path, file in paths), archive)
    return archive.getvalue()


def _ipc(frame: pl.DataFrame) -> bytes:
    written = io.BytesIO()
    frame.write_ipc(written)
    return written.getvalue()


def _versions() -> dict[str, str]:
    """The libraries on which the answers depend."""
    from importlib.metadata import version

    return {name: version(name) for name in ("loopwright", "onnxruntime", "polars", "numpy")}


def _error(said: Said) -> LoopwrightError:
    return KINDS.get(said.kind, ModelFailed)(said.message, where=said.where, next_step=said.next_step)
