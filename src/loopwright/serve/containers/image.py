"""An OCI image of a bundle: base, packages and model as layers, with digests as labels."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import msgspec

from loopwright import __version__
from loopwright.core import Conflict, Invalid, new_id
from loopwright.models import Bundle
from loopwright.serve.containers.base import Base, architecture, open_base
from loopwright.serve.containers.layers import Blobs, Layer
from loopwright.serve.containers.runtime import Runtime, files_of, look_up

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"
PACKAGES, MODEL = "/opt/loopwright", "/model"
PORT = 8080
USER = "65532:65532"
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")
_SECOND = 1_000_000_000
_HEALTH = (
    "import os,urllib.request as r;"
    f"r.urlopen('http://127.0.0.1:'+os.environ.get('AIP_HTTP_PORT','{PORT}')+'/v2/health/ready',timeout=2)"
)


class ImageReport(msgspec.Struct, frozen=True, kw_only=True):
    """An image that was written: where, and what it holds. `digest` is that of its manifest."""

    path: str
    tag: str
    digest: str
    model: str
    bundle: str
    python: str
    machine: str
    size_bytes: int
    packages: dict[str, str]


def write_image(
    bundle: Bundle,
    target: Path,
    base: Path,
    *,
    name: str,
    ref: str,
    digest: str,
    tag: str = "latest",
    runtime: Runtime | None = None,
) -> ImageReport:
    """Write an OCI layout with one image: it serves the bundle as a user without rights, on a root that is never
    written to, and tells its health. The same bundle, packages and base give the same bytes.

    Args:
        target: a new folder.
        base: an OCI layout, or a root file system (a folder or an archive), with this version of Python.
        name: the model's name on the wire.
        ref, digest: of the model version, for the labels.
        tag: the name of the image in the layout.
        runtime: the packages; by default those that a process which serves the bundle loads here.

    Raises:
        Conflict: the target is there already.
        NotFound: there is no base.
        Invalid: the base does not fit this machine or this Python, or the tag is malformed.
        Unavailable: the disk is full, or the bundle cannot be loaded here.
    """
    if not _TAG.fullmatch(tag):
        raise Invalid(f"{tag[:60]!r} is no tag of an image", next_step="use letters, digits, dots and dashes")
    if target.exists():
        raise Conflict(f"{target} is there already", next_step="name a new folder, or remove that one")
    bundle.verify()
    runtime = runtime or look_up(bundle.folder)
    fresh = target.with_name(f".{target.name}.{new_id()}")
    try:
        blobs = Blobs(fresh)
        ground = open_base(base, blobs, runtime.machine)
        python = ground.python(runtime.python)
        packages = blobs.put_layer((f"{PACKAGES}/{path}", file) for path, file in files_of(runtime))
        model = blobs.put_layer(_model_files(bundle))
        labels = _labels(bundle, runtime, ref, digest)
        config = _config(bundle, ground, runtime, python, name, labels, (packages, model))
        manifest = _write(fresh, blobs, config, (*ground.layers, packages, model), labels, tag)
        size = sum(path.stat().st_size for path in blobs.folder.iterdir())
        fresh.replace(target)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
    return ImageReport(
        path=str(target),
        tag=tag,
        digest=manifest,
        model=ref,
        bundle=digest,
        python=runtime.python,
        machine=runtime.machine,
        size_bytes=size,
        packages=runtime.packages,
    )


def _model_files(bundle: Bundle) -> list[tuple[str, Path | bytes]]:
    names = ["bundle.json", *bundle.manifest.files]
    return [(f"{MODEL}/{name}", bundle.folder / name) for name in names]


def _labels(bundle: Bundle, runtime: Runtime, ref: str, digest: str) -> dict[str, str]:
    """Digests and origins; of one line each."""
    manifest = bundle.manifest
    labels = {
        "org.opencontainers.image.title": ref,
        "org.opencontainers.image.created": manifest.created_at.isoformat(),
        "io.loopwright.version": __version__,
        "io.loopwright.model": ref,
        "io.loopwright.bundle": digest,
        "io.loopwright.format": manifest.format,
        "io.loopwright.task": manifest.task.value,
        "io.loopwright.environment": manifest.environment,
        "io.loopwright.training-data": " ".join(manifest.training_data),
        "io.loopwright.packages": " ".join(f"{name}=={version}" for name, version in runtime.packages.items()),
    }
    for key, value in labels.items():
        if not value.isprintable():
            raise Invalid(f"the label {key} would hold a line break or a control character")
    return {key: value for key, value in labels.items() if value}


def command_of(python: str, name: str) -> list[str]:
    """What the container runs."""
    served = ["--bundle", MODEL, "--name", name, "--host", "0.0.0.0"]  # noqa: S104 - inside, where its own network ends
    return [python, "-m", "loopwright", "serve", *served, "--json"]


def environment_of(packages: str) -> list[str]:
    """The container's environment: nothing is written but below the temporary folder."""
    return [f"PYTHONPATH={packages}", "PYTHONDONTWRITEBYTECODE=1", "PYTHONUNBUFFERED=1", "HOME=/tmp", "TMPDIR=/tmp"]


def health_of(python: str) -> list[str]:
    """The command that fails while the model cannot answer."""
    return [python, "-c", _HEALTH]


def _config(
    bundle: Bundle,
    base: Base,
    runtime: Runtime,
    python: str,
    name: str,
    labels: dict[str, str],
    added: tuple[Layer, ...],
) -> bytes:
    kept = [
        item for item in base.config.get("Env") or ["PATH=/usr/local/bin:/usr/bin:/bin"] if item.startswith("PATH=")
    ]
    created = bundle.manifest.created_at.isoformat()
    config: dict[str, Any] = {
        "created": created,
        "architecture": architecture(runtime.machine),
        "os": "linux",
        "config": {
            "User": USER,
            "Env": [*kept, *environment_of(PACKAGES)],
            "Entrypoint": command_of(python, name),
            "WorkingDir": "/",
            "ExposedPorts": {f"{PORT}/tcp": {}},
            "StopSignal": "SIGTERM",
            "Labels": labels,
            "Healthcheck": {
                "Test": ["CMD", *health_of(python)],
                "Interval": 10 * _SECOND,
                "Timeout": 3 * _SECOND,
                "StartPeriod": 10 * _SECOND,
                "Retries": 3,
            },
        },
        "rootfs": {"type": "layers", "diff_ids": [layer.diff_id for layer in (*base.layers, *added)]},
        "history": [
            *({"created": created, "created_by": "base"} for _ in base.layers),
            {"created": created, "created_by": f"loopwright {__version__}: packages"},
            {"created": created, "created_by": f"loopwright {__version__}: model"},
        ],
    }
    return msgspec.json.encode(config, order="deterministic")


def _write(
    layout: Path, blobs: Blobs, config: bytes, layers: tuple[Layer, ...], labels: dict[str, str], tag: str
) -> str:
    """Write what names the blobs; the manifest's digest."""
    digest, size = blobs.put(config)
    manifest = {
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": {"mediaType": CONFIG, "digest": digest, "size": size},
        "layers": [{"mediaType": item.media_type, "digest": item.digest, "size": item.size} for item in layers],
        "annotations": {key: value for key, value in labels.items() if key.startswith("org.opencontainers.")},
    }
    digest, size = blobs.put(msgspec.json.encode(manifest))
    named = {"org.opencontainers.image.ref.name": tag}
    described = {"mediaType": MANIFEST, "digest": digest, "size": size, "annotations": named}
    index = {"schemaVersion": 2, "mediaType": INDEX, "manifests": [described]}
    (layout / "index.json").write_bytes(msgspec.json.encode(index))
    (layout / "oci-layout").write_bytes(b'{"imageLayoutVersion":"1.0.0"}')
    return digest
