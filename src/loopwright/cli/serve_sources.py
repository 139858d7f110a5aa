"""What `loopwright serve` serves, from where: a workspace on this machine, one on a server, or a folder."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote

import msgspec

from loopwright.core import Invalid, Unavailable, check_name, locate, run_program, user_cache
from loopwright.serve import (
    LogPolicy,
    ProcessSettings,
    ServedEndpoint,
    Variant,
    WorkerPlan,
    bytes_of,
    check_tls,
    contract_from,
)
from loopwright.server import Served, connect, kept_document
from loopwright.store import online_place_of

PORT = 8080
_GATHERED_BYTES = 128 << 20  # more than `loopwright up` lets gather, so that it is left to that where it runs
_FLUSH_S = 3600.0
Say = Callable[[str], None]
Source = tuple[WorkerPlan, Callable[[Path], Served]]


class Asked(msgspec.Struct, frozen=True):
    """What somebody asked for on the command line."""

    what: str
    where: str | None
    project: str | None
    bundle: Path | None = None
    name: str | None = None
    host: str = "127.0.0.1"
    port: int | None = None
    grpc_port: int | None = None
    workers: int | None = None
    threads: int = 1
    journal: Path | None = None
    memory: str = ""
    access_log: str = ""
    otlp: str = ""
    online: str = ""
    tls_cert: Path | None = None
    tls_key: Path | None = None

    @property
    def is_remote(self) -> bool:
        """Whether the workspace is on a server."""
        return "://" in (self.where or os.environ.get("LOOPWRIGHT_WORKSPACE", ""))


def source_of(asked: Asked, say: Say) -> Source:
    """How the workers are told what to serve.

    Raises:
        Invalid: neither a ref nor a folder is given, or both.
    """
    if bool(asked.what) == (asked.bundle is not None):
        raise Invalid("one thing is served", next_step="give MODEL_REF, ENDPOINT or --bundle FOLDER")
    if asked.bundle is not None:
        return _of_folder(asked, asked.bundle, say)
    return _of_server(asked, say) if asked.is_remote else _of_workspace(asked, say)


def _plan(asked: Asked, count: int, **more: Any) -> WorkerPlan:
    """What all workers share; what the command leaves open, the hosting platform decides, else `count` does."""
    contract = contract_from(os.environ)
    check_tls(asked.tls_cert, asked.tls_key)
    settings = ProcessSettings(
        state=Path(),
        host=asked.host,
        port=_first(asked.port, contract.port, PORT),
        grpc_port=_first(asked.grpc_port, contract.grpc_port, None),
        threads=asked.threads,
        memory_bytes=bytes_of(asked.memory),
        access_log=asked.access_log,
        otlp=asked.otlp,
        tls_cert=asked.tls_cert,
        tls_key=asked.tls_key,
        **{"online": asked.online, **more},
        **_trust(asked),
    )
    return WorkerPlan(settings, asked.workers or contract.workers or count)


def _trust(asked: Asked) -> dict[str, Any]:
    """Whose signatures count, as the settings of the workspace say; a folder is judged by those of the place too."""
    location = locate(asked.where if asked.where and "://" not in asked.where else None)
    keys = tuple(location.root / name for name in location.settings.trusted_keys)
    return {"trusted_keys": keys, "require_signed": location.settings.require_signed}


def _feedback(asked: Asked) -> Path | None:
    """Where feedback is kept beside a journal of its own."""
    return asked.journal / "feedback" if asked.journal is not None else None


def _project_of(asked: Asked) -> str:
    """Whose features and feedback they are; empty where the server of the workspace has said no more."""
    return asked.project or ("" if asked.is_remote else locate(asked.where).settings.project)


def _first(given: int | None, asked: int | None, default: Any) -> Any:
    return given if given is not None else asked if asked is not None else default


def _of_folder(asked: Asked, folder: Path, say: Say) -> Source:
    """The bundle in a folder, as version 1 of a model that is called as the folder is."""
    from loopwright.models import Bundle

    Bundle(folder)  # refuses a folder that holds none, before anything starts
    name = check_name("model", asked.name or folder.resolve().name)
    variant = Variant("v1", f"model:{name}@1", "0" * 64)
    log = LogPolicy(1.0 if asked.journal else 0.0)
    endpoint = ServedEndpoint(name, name, (variant,), log)
    plan = _plan(asked, 1, bundle=folder.resolve(), journal=asked.journal, feedback=_feedback(asked))
    return plan, lambda live: Served(lambda: endpoint, live, live.with_name("kept.json"), say)


def _of_workspace(asked: Asked, say: Say) -> Source:
    location = locate(asked.where)
    data, settings = location.data, location.settings
    plan = _plan(
        asked,
        settings.workers,
        objects=settings.objects or str(data / "objects"),
        journal=asked.journal or data / "journal" / "predictions",
        cache=data / "cache" / "bundles",
        feedback=_feedback(asked) or data / "journal" / "feedback",
        online=asked.online or online_place_of(location),
    )
    plan = msgspec.structs.replace(plan, storage_options=settings.storage_options)
    kept = kept_document(data / "serving" / "served", asked.project or settings.project, asked.what)
    return plan, lambda live: Served(Looker(asked), live, kept, say)


def tidier(asked: Asked) -> Callable[[], None]:
    """Moves the prediction log of a workspace into its tables when enough has gathered, so that the disk it takes is
    bounded where nobody else does that. A program of its own does it, so that its memory is not ours. To a workspace on
    a server it carries the feedback.

    The function raises Unavailable where that failed.
    """
    if asked.bundle is None and asked.is_remote and asked.journal is not None:
        return _carrier(asked, asked.journal / "feedback")
    if asked.bundle is not None or asked.is_remote or asked.journal is not None:
        return lambda: None
    location = locate(asked.where)
    data, journal = location.data, location.data / "journal" / "predictions"
    flush = [sys.executable, "-m", "loopwright", "predictions", "flush", "--json", "--workspace", str(location.root)]

    def tidy() -> None:
        if _size_of(journal) + _size_of(data / "journal" / "feedback") < _GATHERED_BYTES:
            return
        done = run_program(flush, timeout_s=_FLUSH_S)
        if done.exit_code:
            raise Unavailable(done.stderr.strip().rpartition("\n")[2] or f"exit code {done.exit_code}")

    return tidy


def _carrier(asked: Asked, folder: Path) -> Callable[[], None]:
    """Carries feedback to the server of the workspace."""

    def carry() -> None:
        from loopwright.monitor import Feedback
        from loopwright.serve import FeedbackRecord, deliver_feedback

        with connect(asked.where, project=asked.project) as ws:

            def send(record: FeedbackRecord) -> None:
                rows = [Feedback(row.prediction_id, row.value, row.known_at) for row in record.rows]
                ws.monitors.feedback(record.endpoint, rows)

            deliver_feedback(folder, send)

    return carry


def _size_of(folder: Path) -> int:
    with suppress(FileNotFoundError):
        return sum(file.stat().st_size for file in folder.glob("*.journal"))
    return 0


def _of_server(asked: Asked, say: Say) -> Source:
    """A workspace on a server: its bundles are fetched to this machine; a prediction log is kept here, if anywhere."""
    from loopwright.models import user_bundles

    address = asked.where or os.environ["LOOPWRIGHT_WORKSPACE"]
    folder = user_cache() / "loopwright" / "served" / quote(address, safe="")
    told = {"objects": str(folder / "objects"), "journal": asked.journal, "feedback": _feedback(asked)}
    plan = _plan(asked, 1, **told, cache=user_bundles())
    kept = kept_document(folder / "states", asked.project or "default", asked.what)
    return plan, lambda live: Served(FarLooker(asked), live, kept, say)


class Looker:
    """Looks up what is to be served, in a workspace that is opened when it answers for the first time."""

    def __init__(self, asked: Asked) -> None:
        self._asked = asked
        self._opened: Any = None
        self._ref: Any = None

    def __call__(self) -> ServedEndpoint:
        """What is to be served now.

        Raises:
            LoopwrightError: the workspace does not answer, or there is no such thing in it.
        """
        from loopwright.release import find_served, served_by

        if self._opened is None:
            self._opened = connect(self._asked.where, project=self._asked.project)
        ws = self._opened
        if self._ref is None:
            self._ref = find_served(self._asked.what, ws.models, ws.endpoints)
        found = served_by(self._ref, ws.models, ws.endpoints)
        return msgspec.structs.replace(found, project=_project_of(self._asked))


class FarLooker(Looker):
    """Looks in a workspace on a server, and has what is to be served on this machine before it tells of it."""

    def __call__(self) -> ServedEndpoint:
        """What is to be served now. Raises as Looker does."""
        from loopwright.models import holds_bundle, user_bundles

        found = super().__call__()
        for variant in found.variants:
            if not holds_bundle(user_bundles(), variant.bundle):
                self._opened.models.bundle(variant.model)
        # Signatures come with the bundles: the objects that a server would name them by are not on this machine.
        variants = tuple(msgspec.structs.replace(variant, signatures=()) for variant in found.variants)
        found = msgspec.structs.replace(found, variants=variants)
        return found if self._asked.journal else msgspec.structs.replace(found, log=LogPolicy(sample=0.0))
