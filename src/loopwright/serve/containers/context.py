"""A Dockerfile and its context, for those who build images with an engine."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from loopwright import __version__
from loopwright.core import Conflict, Invalid, new_id
from loopwright.models import Bundle
from loopwright.serve.containers.image import MODEL, PORT, USER, command_of, environment_of, health_of
from loopwright.serve.containers.runtime import look_up, pinned

_PYTHON = "/usr/local/bin/python3"


def write_context(bundle: Bundle, target: Path, *, name: str, ref: str, digest: str, base: str = "") -> Path:
    """Write a folder from which `docker build` makes the image that `write_image` writes without an engine.

    Args:
        target: a new folder.
        name: the model's name on the wire.
        ref, digest: of the model version, for the labels.
        base: what FROM names; by default the slim Python image of this version. Pin it by a digest.

    Raises:
        Conflict: the target is there already.
        Invalid: a text would break out of its line.
        Unavailable: the bundle cannot be loaded here.
    """
    if target.exists():
        raise Conflict(f"{target} is there already", next_step="name a new folder, or remove that one")
    bundle.verify()
    runtime = look_up(bundle.folder)
    labels = {"io.loopwright.model": ref, "io.loopwright.bundle": digest, "io.loopwright.version": __version__}
    env = dict(item.split("=", 1) for item in environment_of("")[1:])
    lines = [
        f"FROM {_plain(base or f'python:{runtime.python}-slim')}",
        "COPY requirements.txt /tmp/requirements.txt",
        'RUN ["python3", "-m", "pip", "install", "--no-cache-dir", "--no-deps", "-r", "/tmp/requirements.txt"]',
        f"COPY bundle {MODEL}",
        "ENV " + " ".join(f"{key}={_quoted(value)}" for key, value in env.items()),
        *(f"LABEL {key}={_quoted(value)}" for key, value in labels.items()),
        f"USER {USER}",
        f"EXPOSE {PORT}",
        "STOPSIGNAL SIGTERM",
        f"HEALTHCHECK --interval=10s --timeout=3s --start-period=10s CMD {json.dumps(health_of(_PYTHON))}",
        f"ENTRYPOINT {json.dumps(command_of(_PYTHON, name))}",
    ]
    fresh = target.with_name(f".{target.name}.{new_id()}")
    try:
        shutil.copytree(bundle.folder, fresh / "bundle")
        (fresh / "requirements.txt").write_text(pinned(runtime, [f"loopwright=={__version__}"]), encoding="utf-8")
        (fresh / "Dockerfile").write_text("\n".join(lines) + "\n", encoding="utf-8")
        fresh.replace(target)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
    return target


def _plain(text: str) -> str:
    if not text.isprintable() or " " in text:
        raise Invalid(f"{text[:80]!r} names no image")
    return text


def _quoted(text: str) -> str:
    """A value of a Dockerfile's line.

    Raises:
        Invalid: it holds a line break or a control character.
    """
    if not text.isprintable():
        raise Invalid(f"{text[:80]!r} holds a line break or a control character")
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"').replace("$", "\\$") + '"'
