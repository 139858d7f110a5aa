"""Bundles on their way: out of the registry into a folder or a file, and back with the same digest."""

from __future__ import annotations

import io
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from loopwright.core import Conflict, Invalid, NotFound, new_id
from loopwright.models.archive import is_archive, pack, unpack
from loopwright.models.bundle import Bundle
from loopwright.models.inspecting import SignatureText
from loopwright.models.model import BundleManifest
from loopwright.models.predictor import GRAPH_FILE, MANIFEST_FILE
from loopwright.models.signing import SIGNATURES_FOLDER

MAX_GRAPH_BYTES = 2 << 30


def export(folder: Path, signatures: Sequence[SignatureText], target: Path) -> Path:
    """Write what a version holds, with the signatures over it, to a new folder, or a file whose name ends with `.zip`.

    The target appears whole or not at all.

    Args:
        folder: the version's files, verified.

    Raises:
        Conflict: there is something at the target already.
    """
    if target.exists() and not (target.is_dir() and not any(target.iterdir())):
        raise Conflict(f"{target} exists already", next_step="name a new folder or file, or remove this one")
    target.absolute().parent.mkdir(parents=True, exist_ok=True)
    temporary = target.absolute().with_name(f".{target.name}.{new_id()}")
    try:
        if target.suffix.lower() == ".zip":
            with temporary.open("xb") as stream:
                pack(_all_files(folder, signatures), stream)
        else:
            shutil.copytree(folder, temporary)
            for name, data in _signature_files(signatures).items():
                (temporary / name).parent.mkdir(exist_ok=True)
                (temporary / name).write_bytes(data)
            if target.is_dir():
                target.rmdir()
        temporary.rename(target)
    finally:
        if temporary.is_dir():
            shutil.rmtree(temporary, ignore_errors=True)
        temporary.unlink(missing_ok=True)
    return target


@contextmanager
def opened_bundle(path: Path) -> Iterator[Bundle | None]:
    """The bundle in a folder or archive, verified, for the time of the block; None where the path holds another thing.

    Raises:
        NotFound: there is nothing at the path.
        Corrupt: the bundle or the archive is damaged.
        Invalid: the archive holds what no bundle does, or its graph is out of bounds.
    """
    if not path.exists():
        raise NotFound(f"there is no file or folder {path}", next_step="check the path")
    if path.is_dir() and (path / MANIFEST_FILE).is_file():
        yield check_outsider(path)
    elif is_archive(path):
        with tempfile.TemporaryDirectory(prefix="loopwright-") as scratch:
            unpack(path, Path(scratch))
            yield check_outsider(Path(scratch))
    else:
        yield None


def check_outsider(folder: Path) -> Bundle:
    """A bundle that came from outside: every byte is as its manifest says, and its graph within bounds.

    Raises:
        Corrupt: it is not what was built.
        Invalid: its graph reaches outside itself, or is of absurd size.
    """
    bundle = Bundle(folder)
    bundle.verify()
    check_graph_file(folder, bundle.manifest)
    return bundle


def check_graph_file(folder: Path, manifest: BundleManifest) -> None:
    """Judge the graph of a bundle from outside before ONNX Runtime sees it (graph_bounds).

    Raises:
        Invalid: it is no ONNX graph, or out of bounds.
    """
    path = folder / GRAPH_FILE
    if GRAPH_FILE not in manifest.files:
        return
    import onnx
    from google.protobuf.message import DecodeError

    from loopwright.models.graph_bounds import check_bounds

    if path.stat().st_size > MAX_GRAPH_BYTES:
        raise Invalid(f"the graph has {path.stat().st_size:,} bytes; at most {MAX_GRAPH_BYTES:,} are read")
    try:
        graph = onnx.load(str(path), load_external_data=False)
    except DecodeError as error:
        raise Invalid(f"the bundle's graph is no ONNX graph: {error}", where=GRAPH_FILE) from None
    check_bounds(graph)


def _signature_files(signatures: Sequence[SignatureText]) -> dict[str, bytes]:
    files: dict[str, bytes] = {}
    for item in signatures:
        files[f"{SIGNATURES_FOLDER}/{item.key[:16]}.sig"] = item.signature.encode()
        files[f"{SIGNATURES_FOLDER}/{item.key[:16]}.pub"] = item.public_key.encode()
    return files


def _all_files(folder: Path, signatures: Sequence[SignatureText]) -> Iterator[tuple[str, BinaryIO, int]]:
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        yield path.relative_to(folder).as_posix(), path.open("rb"), path.stat().st_size
    for name, data in _signature_files(signatures).items():
        yield name, io.BytesIO(data), len(data)
