"""MLflow's artifact paths and model sources as our owners and paths. A client names a thing, never a location."""

from __future__ import annotations

import re
from urllib.parse import unquote, urlsplit

import msgspec

from loopwright.core import Invalid, check_path, is_digest, is_id

SCHEME = "mlflow-artifacts"
BUNDLES = "bundles"
_MODEL, _TRACE = re.compile(r"m-[0-9a-f]{32}"), re.compile(r"tr-[0-9a-f]{32}")
_PLAIN = "use a relative path without '..', control characters and any of \\ : * ? \" < > |"
_MAX_DECODES = 8
_PROXY = "/api/2.0/mlflow-artifacts/artifacts/"


class Place(msgspec.Struct, frozen=True):
    """What an artifact path leads to: a file or folder of an owner (`run:…`, `model:…`, `trace:…`), or of what a model
    version holds, by the digest of that."""

    path: str
    owner: str = ""
    bundle: str = ""


def place_of(path: str) -> Place | None:
    """The place behind an artifact path; None where such a path leads to nothing of anybody's.

        <experiment>/<run>/artifacts/<path>                 <experiment>/models/<model>/artifacts/<path>
        <experiment>/traces/<trace>/artifacts/<path>        bundles/<digest>/<path>

    Raises:
        Invalid: the path is unsafe, however it is written.
    """
    parts = safe(path).split("/") if path.strip("/") else []
    if len(parts) >= 2 and parts[0] == BUNDLES and is_digest(parts[1]):
        return Place("/".join(parts[2:]), bundle=parts[1])
    if len(parts) >= 3 and parts[2] == "artifacts" and is_id(parts[1]):
        return Place("/".join(parts[3:]), owner=f"run:{parts[1]}")
    if len(parts) >= 4 and parts[3] == "artifacts":
        if parts[1] == "models" and _MODEL.fullmatch(parts[2]):
            return Place("/".join(parts[4:]), owner=f"model:{parts[2]}")
        if parts[1] == "traces" and _TRACE.fullmatch(parts[2]):
            return Place("/".join(parts[4:]), owner=f"trace:{parts[2]}")
    return None


def the_place(path: str) -> Place:
    """The place behind an artifact path.

    Raises:
        Invalid: the path is unsafe, or leads to nothing of anybody's.
    """
    found = place_of(path)
    if found is None:
        raise Invalid(
            f"Invalid path: {path[:200]!r} is no place of artifacts",
            next_step="use <experiment>/<run>/artifacts/… or <experiment>/models/<model>/artifacts/…",
        )
    return found


def safe(path: str) -> str:
    """The path without slashes at its end, if it is safe however often it is decoded.

    Raises:
        Invalid: it is absolute, climbs, or holds a character that some file system refuses, encoded or not.
    """
    found = path.rstrip("/")
    form = found
    for _ in range(_MAX_DECODES):
        try:
            check_path(form)
        except Invalid:
            raise Invalid(f"Invalid path: {path[:200]!r}", next_step=_PLAIN) from None
        decoded = unquote(form)
        if decoded == form:
            return found
        form = decoded
    raise Invalid(f"Invalid path: {path[:200]!r} is encoded too often", next_step=_PLAIN)


def artifact_path_of(uri: str) -> str | None:
    """The artifact path in a URI of the `mlflow-artifacts` scheme or of such a proxy; None for any other URI."""
    parsed = urlsplit(uri)
    if parsed.scheme == SCHEME:
        inner = unquote(parsed.path)
        return inner[len(_PROXY) :] if inner.startswith(_PROXY) else inner.lstrip("/")
    if parsed.scheme in ("http", "https") and _PROXY in unquote(parsed.path):
        return unquote(parsed.path).partition(_PROXY)[2]
    return None
