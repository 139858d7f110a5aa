"""The image that ours stands on: an OCI layout, or a file system with a Python of the right version."""

from __future__ import annotations

import gzip
import hashlib
import re
import shutil
import tarfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import msgspec

from loopwright.core import Corrupt, Invalid, NotFound
from loopwright.serve.containers.layers import TAR_GZIP, Blobs, Layer

_PYTHON = re.compile(r"^(?:\./)?(usr/(?:local/)?bin/python3\.(\d+))$")
_LAYERS = (TAR_GZIP, "application/vnd.docker.image.rootfs.diff.tar.gzip", "application/vnd.oci.image.layer.v1.tar")
_INDEXES = ("application/vnd.oci.image.index.v1+json", "application/vnd.docker.distribution.manifest.list.v2+json")


class Base(msgspec.Struct, frozen=True):
    """A base image, its blobs in a layout: layers, interpreters by version, and the configuration it brings."""

    layers: tuple[Layer, ...]
    pythons: dict[str, str]
    config: dict[str, Any]

    def python(self, version: str) -> str:
        """The path of the interpreter of that version.

        Raises:
            Invalid: the image has none; compiled packages work with no other.
        """
        if version not in self.pythons:
            held = ", ".join(sorted(self.pythons)) or "none"
            raise Invalid(
                f"the base image has no Python {version} (it has {held}), which the packages here are built for",
                next_step=f"give a base with Python {version}, such as an OCI copy of python:{version}-slim",
            )
        return self.pythons[version]


def open_base(path: Path, blobs: Blobs, machine: str) -> Base:
    """Bring a base image into a layout.

    Args:
        path: the folder of an OCI layout (`skopeo copy … oci:FOLDER`), or of a root file system, or an archive of one.
        machine: the kind of processor, as `platform.machine()` says it.

    Raises:
        NotFound: there is nothing.
        Invalid: it is neither, or for another kind of machine.
        Corrupt: a blob is not what its digest says.
    """
    if not path.exists():
        raise NotFound(f"there is no base image {str(path)!r}", next_step="skopeo copy docker://… oci:FOLDER makes one")
    if (path / "index.json").is_file():
        return _layout(path, blobs, machine)
    if path.is_dir():
        return _root(path, blobs)
    if tarfile.is_tarfile(path):
        return _archive(path, blobs)
    raise Invalid(f"{path} is no OCI layout, no folder and no archive of a root file system")


def _layout(path: Path, blobs: Blobs, machine: str) -> Base:
    index = msgspec.json.decode((path / "index.json").read_bytes())
    manifest = _manifest(path, index, machine)
    config = msgspec.json.decode(_blob(path, manifest["config"]["digest"]))
    layers = []
    for given, diff_id in zip(manifest["layers"], config["rootfs"]["diff_ids"], strict=True):
        if given["mediaType"] not in _LAYERS:
            raise Invalid(f"a layer of the base image has the type {given['mediaType']!r}", next_step="use a gzip base")
        _copy_blob(path, blobs, given["digest"])
        layers.append(Layer(given["digest"], given["size"], diff_id, given["mediaType"]))
    return Base(tuple(layers), _pythons(_names(blobs, layers)), config.get("config") or {})


def _manifest(path: Path, index: dict[str, Any], machine: str) -> dict[str, Any]:
    """The manifest for this kind of machine, through indexes of indexes."""
    wanted = _ARCHITECTURES.get(machine, machine)
    for item in index["manifests"]:
        platform = item.get("platform") or {}
        if platform.get("architecture", wanted) != wanted:
            continue
        found: dict[str, Any] = msgspec.json.decode(_blob(path, item["digest"]))
        return _manifest(path, found, machine) if item.get("mediaType") in _INDEXES else found
    raise Invalid(f"the base image is not made for {wanted}", where=str(path))


_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}


def architecture(machine: str) -> str:
    """A kind of processor in the words of images."""
    return _ARCHITECTURES.get(machine, machine)


def _blob(path: Path, digest: str) -> bytes:
    data = _place(path, digest).read_bytes()
    if f"sha256:{hashlib.sha256(data).hexdigest()}" != digest:
        raise Corrupt(f"the blob {digest} of the base image is not what its name says", where=str(path))
    return data


def _place(path: Path, digest: str) -> Path:
    if not re.fullmatch(r"sha256:[0-9a-f]{64}", digest):
        raise Invalid(f"{digest[:80]!r} is no digest", where=str(path))
    found = path / "blobs" / "sha256" / digest.removeprefix("sha256:")
    if not found.is_file():
        raise Corrupt(f"the base image lacks its blob {digest}", where=str(path))
    return found


def _copy_blob(path: Path, blobs: Blobs, digest: str) -> None:
    source = _place(path, digest)
    with source.open("rb") as file:
        if f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}" != digest:
            raise Corrupt(f"the blob {digest} of the base image is not what its name says", where=str(path))
    shutil.copyfile(source, blobs.folder / source.name)


def _root(path: Path, blobs: Blobs) -> Base:
    """A folder as one layer; links, owners and modes stay as they are, times do not."""
    fresh = blobs.folder / ".base"
    with (
        fresh.open("wb") as file,
        gzip.GzipFile(filename="", mode="wb", fileobj=file, mtime=0) as packed,
        tarfile.open(fileobj=packed, mode="w|", format=tarfile.PAX_FORMAT) as archive,
    ):
        for item in sorted(path.rglob("*")):
            if item.is_symlink() or item.is_file() or item.is_dir():  # devices and sockets are the engine's to make
                _add(archive, item, item.relative_to(path).as_posix())
    return _sealed(fresh, blobs)


def _add(archive: tarfile.TarFile, item: Path, name: str) -> None:
    entry = archive.gettarinfo(item, name)
    entry.mtime = 0
    if not entry.isreg():
        archive.addfile(entry)
        return
    with item.open("rb") as content:
        archive.addfile(entry, content)


def _archive(path: Path, blobs: Blobs) -> Base:
    """An archive as one layer, compressed anew where it is not."""
    fresh = blobs.folder / ".base"
    with path.open("rb") as source:
        packed = source.read(2) == b"\x1f\x8b"
        source.seek(0)
        if packed:
            with fresh.open("wb") as target:
                shutil.copyfileobj(source, target)
        else:
            with fresh.open("wb") as file, gzip.GzipFile(filename="", mode="wb", fileobj=file, mtime=0) as target:
                shutil.copyfileobj(source, target)
    return _sealed(fresh, blobs)


def _sealed(fresh: Path, blobs: Blobs) -> Base:
    with fresh.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    whole = hashlib.sha256()
    with gzip.open(fresh, "rb") as unpacked:
        while piece := unpacked.read(1 << 20):
            whole.update(piece)
    layer = Layer(f"sha256:{digest}", fresh.stat().st_size, f"sha256:{whole.hexdigest()}")
    fresh.replace(blobs.folder / digest)
    return Base((layer,), _pythons(_names(blobs, [layer])), {})


def _names(blobs: Blobs, layers: Sequence[Layer]) -> Iterable[str]:
    for layer in layers:
        with tarfile.open(blobs.folder / layer.digest.removeprefix("sha256:"), mode="r|*") as archive:
            for entry in archive:
                yield entry.name


def _pythons(names: Iterable[str]) -> dict[str, str]:
    found = {}
    for name in names:
        matched = _PYTHON.match(name)
        if matched:
            found[f"3.{matched[2]}"] = f"/{matched[1]}"
    return found
