"""A predictor whose model is Python in a worker process. Its calls block: ask it on a thread, not on an event loop."""

from __future__ import annotations

import threading
import time
import weakref
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from loopwright.core import Corrupt, DType, Invalid, Unavailable, digest_file
from loopwright.models.isolated.process import Died, Job, Limits, Refused, WorkerProcess
from loopwright.models.isolated.shaping import checked_columns, columns_of_rows, tidied
from loopwright.models.model import BundleManifest
from loopwright.models.predictor import ModelFailed

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, Any]

_FIRST_WAIT_S, _LONGEST_WAIT_S = 0.5, 30.0
_HEALTHY_AFTER_S = 60.0
_ELEMENTS = {
    DType.BOOL: "tensor(bool)",
    DType.INT64: "tensor(int64)",
    DType.FLOAT32: "tensor(float)",
    DType.FLOAT64: "tensor(double)",
    DType.STRING: "tensor(string)",
}


class IsolatedPredictor:
    """Answers rows by a worker process, one batch at a time. Thread-safe: callers wait for each other.

    A worker that crashes, hangs or takes too much is killed, and the call that it was on fails with `ModelFailed`. The
    next one is started at once, and after each further failure within a minute later and later, up to 30 s; calls that
    come meanwhile fail with `Unavailable`. The worker ends with this object, and with this process however that ends.
    """

    inline = False

    def __init__(self, manifest: BundleManifest, folder: Path, threads: int = 1, limits: Limits | None = None) -> None:
        """Args:
        manifest: what the bundle says of itself; it has `code`.
        folder: the bundle's folder, verified by the caller.
        threads: how many threads the worker's numeric libraries may use.
        limits: what the worker may use; by default what the bundle says, else the usual.

        Raises:
            ModelFailed: the model cannot be loaded.
        """
        code = manifest.code
        if code is None:
            raise Invalid("the bundle holds a graph, and needs no worker", next_step="use Bundle.predictor()")
        self.manifest, self.signature = manifest, manifest.signature
        self.limits = limits or limits_of(manifest)
        job = Job(code.runner, code.entry, str(Path(folder).resolve()), threads)
        self._keeper = _Keeper(job, self.limits)
        weakref.finalize(self, self._keeper.close)

    @classmethod
    def load(
        cls, folder: Path, manifest: BundleManifest, threads: int = 1, limits: Limits | None = None
    ) -> IsolatedPredictor:
        """The predictor of the bundle in a folder; the digests of its code and files are verified first.

        Raises:
            Corrupt: a file is not what was built.
            ModelFailed: the model cannot be loaded.
        """
        for name, digest in manifest.files.items():
            path = Path(folder) / name
            if not path.is_file() or digest_file(path) != digest:
                raise Corrupt(f"the bundle's file {name!r} is not what was built", where=str(folder))
        return cls(manifest, Path(folder), threads, limits)

    @property
    def output_names(self) -> list[str]:
        """The names of the outputs, in order."""
        return [item.name for item in self.signature.outputs]

    def output_types(self) -> dict[str, str]:
        """The element types of the outputs, as ONNX Runtime names them."""
        return {item.name: _ELEMENTS[item.dtype] for item in self.signature.outputs}

    @property
    def confinement(self) -> tuple[str, ...]:
        """What keeps the running worker in, for people to read."""
        return self._keeper.confinement

    @property
    def restarts(self) -> int:
        """How often a worker was replaced."""
        return self._keeper.restarts

    @property
    def worker_pid(self) -> int:
        """The running worker's process id; 0 while there is none."""
        return self._keeper.pid

    @property
    def last_lines(self) -> list[str]:
        """The last lines that the worker wrote to its standard error, for the operator alone."""
        return self._keeper.last_lines

    def predict(self, columns: Mapping[str, Array]) -> dict[str, Array]:
        """Answer rows given by column; see `Predictor.predict`.

        Raises:
            Invalid: an input is missing, unknown, of another length, or holds values of another type.
            ModelFailed: the model raised an error, or its worker crashed, hung, or answered nonsense.
            Unavailable: the worker is being restarted, or others keep it busy.
        """
        given = checked_columns(self.signature, columns)
        return tidied(self.manifest, self._keeper.ask(given), len(next(iter(given.values()))))

    def predict_rows(self, rows: Sequence[Sequence[Any]]) -> dict[str, Array]:
        """Answer rows given as sequences of plain values in the order of the signature; None where one is missing.

        Raises:
            Invalid, ModelFailed, Unavailable: as `predict`.
        """
        return self.predict(columns_of_rows(self.signature, rows))

    def predict_matrix(self, matrix: Array) -> dict[str, Array]:
        """Answer rows given as one matrix [rows, inputs] of numbers.

        Raises:
            Invalid, ModelFailed, Unavailable: as `predict`.
        """
        return self.predict({name: matrix[:, place] for place, name in enumerate(self.signature.names)})

    def close(self) -> None:
        """End the worker. Idempotent; further calls fail with `Unavailable`."""
        self._keeper.close()

    def __enter__(self) -> IsolatedPredictor:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def limits_of(manifest: BundleManifest) -> Limits:
    """The usual limits, with what the bundle asks for."""
    code, usual = manifest.code, Limits()
    if code is None:
        return usual
    return msgspec.structs.replace(
        usual,
        memory_bytes=code.memory_bytes or usual.memory_bytes,
        call_timeout_s=code.call_timeout_s or usual.call_timeout_s,
    )


class _Keeper:
    """Holds a worker, and replaces it. Apart from the predictor, so that its threads do not keep that alive."""

    def __init__(self, job: Job, limits: Limits) -> None:
        self._job, self._limits = job, limits
        self._turn, self._state = threading.Lock(), threading.Lock()
        self._closed, self._failures, self._started_at, self._next_start = False, 0, 0.0, 0.0
        self._lines: list[str] = []
        self._stopped = threading.Event()
        self.restarts = 0
        self.confinement: tuple[str, ...] = ()
        self._worker: WorkerProcess | None = None
        try:
            self._begin()
        except Died as error:
            absent = "ModuleNotFoundError" in str(error)
            raise ModelFailed(
                f"the model cannot be run: {error}",
                next_step="install what it imports here, or bundle it: code=FOLDER" if absent else "",
            ) from None

    @property
    def pid(self) -> int:
        worker = self._worker
        return worker.pid if worker else 0

    @property
    def last_lines(self) -> list[str]:
        worker = self._worker
        return list(worker.last_lines) if worker else self._lines

    def ask(self, columns: Mapping[str, Array]) -> dict[str, Array]:
        if not self._turn.acquire(timeout=self._limits.call_timeout_s):
            raise Unavailable("the model's worker is busy with earlier calls", next_step="try again later")
        try:
            worker = self._worker
            if worker is None:
                raise Unavailable(self._why_none(), next_step="try again later")
            try:
                return worker.predict(columns)
            except Refused as error:
                raise ModelFailed(f"the model failed: {error}") from None
            except Died as error:
                self._replace(worker)
                raise ModelFailed(f"the model failed: {error}") from None
        finally:
            self._turn.release()

    def close(self) -> None:
        with self._state:
            self._closed = True
            worker, self._worker = self._worker, None
        self._stopped.set()
        if worker:
            worker.kill()

    def _why_none(self) -> str:
        if self._closed:
            return "the model's worker was closed"
        wait = max(0.0, self._next_start - time.monotonic())
        return f"the model's worker is being restarted (next start in {wait:.1f} s, after {self._failures} failure(s))"

    def _begin(self) -> None:
        """Start a worker. Raises Died."""
        worker = WorkerProcess(self._job, self._limits)
        with self._state:
            if self._closed:
                worker.kill()
                return
            self._worker, self.confinement, self._started_at = worker, worker.confinement, time.monotonic()

    def _replace(self, worker: WorkerProcess) -> None:
        """Forget a dead worker, and have the next one started by a thread of its own."""
        self._lines = list(worker.last_lines)
        worker.kill()
        with self._state:
            self._worker = None
            lived_s = time.monotonic() - self._started_at
            self._failures = 1 if lived_s > _HEALTHY_AFTER_S else self._failures + 1
            self._plan()
            if self._closed:
                return
        threading.Thread(target=self._restart, name="loopwright-worker-restart", daemon=True).start()

    def _plan(self) -> None:
        wait = 0.0 if self._failures <= 1 else min(_FIRST_WAIT_S * 2 ** (self._failures - 2), _LONGEST_WAIT_S)
        self._next_start = time.monotonic() + wait

    def _restart(self) -> None:
        while not self._stopped.wait(max(0.0, self._next_start - time.monotonic())):
            try:
                self._begin()
            except (Died, OSError):  # it cannot be started now: later and later, until it can
                self._failures += 1
                self._plan()
                continue
            self.restarts += 1
            return
