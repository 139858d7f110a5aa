"""Where a model version comes from, in MLflow's URIs, as what the registry takes. No URI is ever followed."""

from __future__ import annotations

import re
from typing import NoReturn
from urllib.parse import unquote_plus, urlsplit

import msgspec

from loopwright.core import Invalid, Ref
from loopwright.server.protocols.mlflow.places import artifact_path_of, place_of, safe

_MODELS = re.compile(r"models:/{1,3}([^/@]+)(?:/([^/@]+)|@([^/@]+))?/?")
_LOGGED = re.compile(r"m-[0-9a-f]{32}")
_MAX_DECODES = 8


class Source(msgspec.Struct, frozen=True):
    """What a URI means here: files of an owner, a version, or nothing that is here (all empty)."""

    owner: str = ""
    folder: str = ""
    copy_of: str = ""


def source_of(uri: str, run: str, model: str) -> Source:
    """What a version's source means here.

    Args:
        uri: such as `runs:/<run>/model`, `models:/m-<id>`, `models:/delay@champion`, `mlflow-artifacts:/…`, `s3://…`.
        run, model: the run and the logged model that it is said to come from; the source must be theirs.

    Raises:
        Invalid: it is a path of some machine, unsafe, or another's than is said.
    """
    parsed = urlsplit(uri)
    if parsed.scheme in ("", "file") or re.match(r"[A-Za-z]:[\\/]", uri):
        raise Invalid(
            f"Invalid model version source: '{uri[:200]}'. To use a local path as a model version source, the run_id "
            "request parameter has to be specified and the local path has to be contained within the artifact "
            "directory of the run specified by the run_id."
        )
    _refuse_climbing(uri)
    if parsed.scheme == "models":
        return _of_model(uri, parsed.netloc, model)
    if parsed.scheme == "runs":
        return _of_run(uri, parsed.netloc, parsed.path, model)
    path = artifact_path_of(uri)
    return Source() if path is None else _of_artifacts(uri, path, run, model)


def _of_model(uri: str, host: str, model: str) -> Source:
    match = _MODELS.fullmatch(uri)
    if match is None or host:
        wrong(uri, "model_id")
    name, version, alias = match.groups()
    if _LOGGED.fullmatch(name) and not version and not alias:
        if model and model != name:
            wrong(uri, "model_id")
        return Source(owner=f"model:{name}")
    if not (version or alias):
        wrong(uri, "model_id")
    return Source(copy_of=str(Ref("model", unquote_plus(name), version or alias)))


def _of_run(uri: str, host: str, path: str, model: str) -> Source:
    named, _, folder = path.strip("/").partition("/")
    if host or model:
        wrong(uri, "model_id" if model else "run_id")
    return Source(owner=f"run:{named}", folder=safe(folder) if folder.strip("/") else "")


def _of_artifacts(uri: str, path: str, run: str, model: str) -> Source:
    place = place_of(path)
    if place is None or place.bundle:
        wrong(uri, "model_id" if model else "run_id")
    kind, _, id = place.owner.partition(":")
    said = model if kind == "model" else run
    if said != id or (model and kind == "run"):
        wrong(uri, "model_id" if model or kind == "model" else "run_id")
    return Source(place.owner, place.path)


def _refuse_climbing(uri: str) -> None:
    form = uri
    for _ in range(_MAX_DECODES):
        decoded = unquote_plus(form)
        if decoded == form:
            break
        form = decoded
    path = urlsplit(form).path
    if ".." in form.split("/") or "\x00" in form or "%" in form[-3:] or "/./" in f"{path}/" or path.endswith("/."):
        raise Invalid(
            f"Invalid model version source: '{uri[:200]}'. If supplying a source as an http, https, local file path, "
            "ftp, objectstore, or mlflow-artifacts uri, an absolute path must be provided without relative path "
            "references present. Please provide an absolute path."
        )


def wrong(uri: str, parameter: str) -> NoReturn:
    """Refuse a source that is not of the run or model that it is said to be of.

    Raises:
        Invalid: always.
    """
    raise Invalid(
        f"Invalid model version source: '{uri[:200]}'. The {parameter} request parameter must identify the resource "
        "that contains the source."
    )
