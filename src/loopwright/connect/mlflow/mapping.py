"""From MLflow's words to ours and back. Pure functions."""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import msgspec

from loopwright.connect.mlflow.model import (
    ORIGIN_TAG,
    SourceExperiment,
    SourceLogged,
    SourceModel,
    SourceRun,
    SourceVersion,
)
from loopwright.core import LoopwrightError, Ref, check_path
from loopwright.models import AdoptedName, AdoptedVersion, Stage
from loopwright.track import AdoptedExperiment, AdoptedModel, AdoptedRun, LoggedStatus, RunStatus

OUR_DEFAULT, THEIR_DEFAULT = "default", "Default"
MAX_TEXT = 10_000
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
LAST_MS = 253_402_300_799_999  # the end of the year 9999
_DOUBLE_MAX = 1.7976931348623157e308
_PARENT = "mlflow.parentRunId"
_STATUSES = {
    "RUNNING": RunStatus.RUNNING,
    "SCHEDULED": RunStatus.RUNNING,
    "FINISHED": RunStatus.FINISHED,
    "FAILED": RunStatus.FAILED,
    "KILLED": RunStatus.KILLED,
}
_LOGGED = re.compile(r"models:/(m-[0-9a-f]{32})(?:/(.*))?")
_VERSION = re.compile(r"models:/([^/@]+)/(\d+)/?")


def time_of(millis: int) -> datetime:
    """A time in UTC; what is beyond any calendar becomes its end."""
    return _EPOCH + timedelta(milliseconds=min(max(millis, 0), LAST_MS))


def millis_of(at: datetime) -> int:
    """Unix milliseconds, rounded down."""
    return (at - _EPOCH) // timedelta(milliseconds=1)


def value_of(value: float | str | None, is_nan: bool = False) -> float:
    """A metric's value as it was logged. MLflow's SQL stores write an infinity as the greatest double."""
    if is_nan or value is None:
        return math.nan
    number = float(value)
    return math.copysign(math.inf, number) if abs(number) == _DOUBLE_MAX else number


def our_name(name: str) -> str:
    """What an experiment is called here."""
    return OUR_DEFAULT if name == THEIR_DEFAULT else name


def their_name(name: str) -> str:
    """What an experiment is called there."""
    return THEIR_DEFAULT if name == OUR_DEFAULT else name


def to_experiment(source: SourceExperiment, origin: str) -> AdoptedExperiment:
    """An experiment in our words."""
    created = time_of(source.created_ms)
    tags = {**source.tags, ORIGIN_TAG: f"{origin} experiment {source.id}"}
    return AdoptedExperiment(our_name(source.name), created, max(created, time_of(source.updated_ms)), tags)


def to_run(source: SourceRun, experiment_id: str, origin: str) -> AdoptedRun:
    """A run in our words. One without a known state counts as running, one without a name takes its id's end."""
    status = _STATUSES.get(source.status.upper(), RunStatus.RUNNING)
    started = time_of(source.start_ms)
    ended = time_of(source.end_ms) if source.end_ms else None
    return AdoptedRun(
        id=source.id,
        experiment_id=experiment_id,
        name=printable(source.name or source.tags.get("mlflow.runName", ""))[:500] or f"run-{source.id[-6:]}",
        status=status,
        started_at=started,
        ended_at=None if status is RunStatus.RUNNING else ended or started,
        actor=source.user[:256],
        parent=source.tags.get(_PARENT, ""),
        params=source.params,
        tags={**source.tags, ORIGIN_TAG: origin},
        datasets=source.datasets,
        models_read=source.models_read,
        models_made=source.models_made,
    )


def to_logged(source: SourceLogged, experiment_id: str, origin: str) -> AdoptedModel:
    """A logged model in our words."""
    status = source.status.upper().removeprefix("LOGGED_MODEL_")
    known = {"READY": LoggedStatus.READY, "FAILED": LoggedStatus.FAILED, "UPLOAD_FAILED": LoggedStatus.FAILED}
    return AdoptedModel(
        id=source.id,
        experiment_id=experiment_id,
        name=printable(source.name)[:500] or source.id,
        created_at=time_of(source.created_ms),
        updated_at=time_of(source.updated_ms or source.created_ms),
        model_type=source.model_type[:500],
        source_run=source.source_run,
        status=known.get(status, LoggedStatus.PENDING),
        status_message=source.status_message,
        params=source.params,
        tags={**source.tags, ORIGIN_TAG: origin},
        metrics=source.metrics,
    )


def to_name(source: SourceModel, origin: str) -> AdoptedName:
    """A registered name in our words."""
    created = time_of(source.created_ms)
    return AdoptedName(
        name=source.name,
        created_at=created,
        updated_at=max(created, time_of(source.updated_ms)),
        description=source.description,
        tags={**source.tags, ORIGIN_TAG: origin},
        aliases=source.aliases,
    )


def to_version(source: SourceVersion, owner: str, folder: str) -> AdoptedVersion:
    """A version in our words, whose files are those of `owner` in `folder`."""
    created = time_of(source.created_ms)
    stages = {str(stage): stage for stage in Stage}
    return AdoptedVersion(
        version=source.version,
        created_at=created,
        updated_at=max(created, time_of(source.updated_ms)),
        source=source.source,
        owner=owner,
        folder=folder,
        run=source.run_id,
        run_link=source.run_link,
        model_id=source.model_id or logged_id(source.source),
        actor=source.user[:200],
        description=source.description,
        stage=stages.get(source.stage, Stage.NONE),
        tags=source.tags,
    )


def logged_id(uri: str) -> str:
    """The logged model that a version's source names, or nothing."""
    found = _LOGGED.fullmatch(uri)
    return found[1] if found else ""


def copied_ref(uri: str) -> str:
    """The ref of the version that a version's source names, or nothing."""
    found = _VERSION.fullmatch(uri)
    return str(Ref("model", found[1], found[2])) if found else ""


def files_of(version: SourceVersion, run_uri: str, model_uris: Mapping[str, str]) -> tuple[str, str]:
    """Which of the files that were carried over a version consists of: their owner and folder; empty where none.

    Args:
        run_uri: the artifact location of the version's run.
        model_uris: those of logged models, by id.
    """
    source = version.source.rstrip("/")
    found = _LOGGED.fullmatch(source)
    if found:
        return _safe(f"model:{found[1]}", found[2] or "")
    if source.startswith("runs:/"):
        run, _, folder = source.removeprefix("runs:/").partition("/")
        return _safe(f"run:{run}", folder)
    for id, uri in model_uris.items():
        if uri and _is_below(source, uri):
            return _safe(f"model:{id}", _rest(source, uri))
    if run_uri and version.run_id and _is_below(source, run_uri):
        return _safe(f"run:{version.run_id}", _rest(source, run_uri))
    return "", ""


def _plain(uri: str) -> str:
    return uri.removeprefix("file://").rstrip("/")


def _is_below(uri: str, place: str) -> bool:
    return f"{_plain(uri)}/".startswith(f"{_plain(place)}/")


def _rest(uri: str, place: str) -> str:
    return _plain(uri)[len(_plain(place)) :].strip("/")


def _safe(owner: str, folder: str) -> tuple[str, str]:
    try:
        return owner, check_path(folder) if folder else ""
    except LoopwrightError:
        return "", ""


def printable(text: str) -> str:
    """The text without characters that cannot stand in a name."""
    return "".join(sign if sign.isprintable() else " " for sign in text).strip()


def storable(texts: Mapping[str, str], limit: int = MAX_TEXT) -> tuple[dict[str, str], dict[str, str]]:
    """The texts that can be kept here as params or tags, and why the others cannot, by key."""
    good: dict[str, str] = {}
    bad: dict[str, str] = {}
    for key, text in texts.items():
        if not 0 < len(key) <= 250 or not key.isprintable():
            bad[key[:60]] = "its key is longer than 250 characters, or cannot be printed"
        elif len(text) > limit:
            bad[key] = f"its value has more than {limit:,} characters"
        elif "\x00" in text:
            bad[key] = "its value holds a NUL character"
        else:
            good[key] = text
    return good, bad


def state_of(record: Any) -> str:
    """A mark that changes when a record does: 16 hex digits."""
    return hashlib.blake2b(msgspec.msgpack.encode(_finite(record)), digest_size=8).hexdigest()


def _finite(record: Any) -> Any:
    # NaN has many forms in bytes and one in text.
    return repr(msgspec.to_builtins(record))


def shown_address(uri: str) -> str:
    """An address without the user and password in it, and of a file only its name."""
    parsed = urlsplit(uri)
    if parsed.scheme.startswith("sqlite"):
        return f"sqlite:///{parsed.path.rpartition('/')[2]}"
    host = parsed.netloc.rpartition("@")[2]
    return urlunsplit((parsed.scheme.partition("+")[0], host, parsed.path.rstrip("/"), "", ""))
