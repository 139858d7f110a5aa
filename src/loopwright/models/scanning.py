"""Which files of a model can run code when they are loaded, and what that code would be. Nothing is loaded.

Formats are told by their bytes, not by their names. Archives and compressed files are opened in bounded space, since
a pickle hides in them: .pt and .npz are zip archives, joblib compresses.
"""

from __future__ import annotations

import bz2
import gzip
import lzma
import re
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, Any, BinaryIO, cast

from loopwright.core import Forbidden, Invalid
from loopwright.models.findings import Finding, Level, Scan
from loopwright.models.judging import judge, picklescan, tools
from loopwright.models.pickles import Reading, Used, read_pickles
from loopwright.models.saved_model import MAX_BYTES, PROGRAM, SAVED_MODEL, needless_operators

MAX_UNPACKED_BYTES = 16 << 30
MAX_RATIO = 300
MAX_MEMBERS = 100_000
SOURCE = "Python source"
_MAX_DEPTH = 6
_IN_MEMORY_BYTES = 32 << 20
_CHUNK_BYTES = 1 << 20
_SECOND_OPINION_BYTES = 64 << 20
_NAMES = {
    ".pkl": "pickle", ".pickle": "pickle", ".pck": "pickle", ".p": "pickle", ".joblib": "joblib", ".dill": "dill",
    ".cloudpickle": "cloudpickle", ".pt": "PyTorch", ".pth": "PyTorch", ".ckpt": "PyTorch", ".bin": "PyTorch",
    ".py": SOURCE, ".pyc": "Python code", ".so": "native code", ".dll": "native code",
    ".dylib": "native code", ".keras": "Keras",
}  # fmt: skip
_PLAIN_PICKLES = frozenset({".pkl", ".pickle", ".pck", ".p", ".joblib", ".dill", ".cloudpickle"})
_LAMBDA = re.compile(rb'"class_name"\s*:\s*"(Lambda|TFOpLambda)"')
_ARRAYS = (b"\x93NUMPY", b"\x89HDF")
_NATIVE = (b"\x7fELF", b"MZ", b"\xcf\xfa\xed\xfe", b"\xca\xfe\xba\xbe")


def formats_by_name(paths: Iterable[str]) -> tuple[str, ...]:
    """The executable formats that files have by their names alone, for what is kept and never loaded here."""
    ends = {Path(path).suffix.lower() for path in paths}
    return tuple(sorted({_NAMES[end] for end in ends & _NAMES.keys() - {".keras", ".bin"}}))


def scan(path: Path) -> Scan:
    """Scan a file, or every file of a folder.

    Raises:
        Invalid: a file hides code in data and picklescan is not installed; an archive is a bomb, or too deep; the path
            is a pipe or device.
    """
    if path.exists() and not path.is_file() and not path.is_dir():
        raise Invalid(f"{path} is neither a file nor a folder", next_step="name a model's file or folder")
    walk = _Walk()
    files = sorted(item for item in path.rglob("*") if item.is_file()) if path.is_dir() else [path]
    for item in files:
        name = item.relative_to(path).as_posix() if path.is_dir() else item.name
        with item.open("rb") as stream:
            walk.file(name, stream, item.stat().st_size)
    if not walk.executable:
        return Scan()
    if walk.executable - {SOURCE, PROGRAM}:  # no scanner judges Python source, our own judges TensorFlow's programs
        picklescan()
    findings = sorted(set(walk.findings), key=lambda found: (-found.level.weight, found.file, found.what))
    return Scan(tuple(sorted(walk.executable)), tuple(findings), tools())


def refuse_code(found: Scan, what: str, *, allow_pickle: bool = False, allow_code: bool = False) -> None:
    """Refuse a model that can run code unless its owner asked for that by name, and a dangerous one always.

    Args:
        what: what it is called in the message.
        allow_pickle: pickles, and other formats that hide code in data, were asked for.
        allow_code: Python source was asked for.

    Raises:
        Forbidden: it is refused; the worst findings are named.
    """
    hidden = [kind for kind in found.executable if kind not in (SOURCE, PROGRAM)]
    if hidden and not allow_pickle:
        raise Forbidden(
            f"{what} can run code when it is loaded ({', '.join(hidden)})",
            next_step="save it as ONNX, skops or safetensors; or add --allow-pickle if you trust whoever made it",
        )
    if SOURCE in found.executable and not allow_code:
        raise Forbidden(
            f"{what} brings Python source, which is run to answer",
            next_step="read it, then add --allow-code if you trust it",
        )
    dangerous = found.of(Level.DANGEROUS)
    if dangerous:
        shown = "; ".join(f"{item.file}: {item.what}" for item in dangerous[:5])
        more = f" and {len(dangerous) - 5} more" if len(dangerous) > 5 else ""
        raise Forbidden(
            f"{what} would do what no model needs: {shown}{more}", next_step="do not load this file anywhere"
        )


def refuse_dangerous(paths: Iterable[str | Path]) -> None:
    """Refuse files of which a pickle would do what no model needs; whether pickles were asked for is judged elsewhere.

    Raises:
        Forbidden: one of them would.
    """
    for path in map(Path, paths):
        if path.exists():
            refuse_code(scan(path), path.name, allow_pickle=True, allow_code=True)


class _Walk:
    """Goes through files and what they contain; collects formats and findings."""

    def __init__(self) -> None:
        self.executable: set[str] = set()
        self.findings: list[Finding] = []
        self._unpacked = self._members = 0

    def file(self, name: str, stream: BinaryIO, size: int, depth: int = 0) -> None:
        """One file, given as a stream that can seek."""
        if depth > _MAX_DEPTH:
            raise Invalid(f"archives are nested more than {_MAX_DEPTH} deep", where=name)
        head = stream.read(16)
        opener = _opener(head)
        stream.seek(0)
        if zipfile.is_zipfile(stream):
            self._zip(name, stream, size, depth)
        elif self._is_tar(stream):
            self._tar(name, stream, size, depth)
        elif opener is not None:
            stream.seek(0)
            self._packed(name, opener(stream), size, depth)
        elif head.startswith(_ARRAYS[0]):
            self._numpy(name, stream)
        elif _last(name).name == SAVED_MODEL:
            self._tensorflow(name, stream, size)
        elif head.startswith(_ARRAYS[1]) or _last(name).name == "config.json":
            self._keras(name, stream)
        else:
            self._code(name, head)
        if not head.startswith((b"PK\x03\x04", b"PK\x05\x06")):
            self._pickle(name, stream, size)  # an archive may have one before it

    def _code(self, name: str, head: bytes) -> None:
        kind = _NAMES.get(_last(name).suffix.lower(), "")
        if head.startswith(_NATIVE) or kind == "native code":
            self._add("native code", name, "machine code", Level.DANGEROUS)
        elif kind.startswith("Python"):
            self._add(kind, name, "Python code that is run by whoever imports it", Level.SUSPICIOUS)

    def _pickle(self, name: str, stream: BinaryIO, size: int) -> None:
        stream.seek(0)
        found = read_pickles(stream)
        ends = _last(name).suffix.lower()
        named = ends in _PLAIN_PICKLES and not self._is_packed(stream)
        if not named and not found.used and not (found.pickles and _starts_as_pickle(stream)):
            return  # text, numbers, or a few bytes that happen to read as a pickle of plain values
        self.executable.add("joblib" if ends == ".joblib" else "pickle")
        data = b""
        if size <= _SECOND_OPINION_BYTES:
            stream.seek(0)
            data = stream.read(size)
        self._judge(name, found, data)

    def _judge(self, name: str, found: Reading, data: bytes) -> None:
        for used, level in judge(found.used, data, name).items():
            self.findings.append(Finding(name, str(used), level, _tool(used, found)))
        if found.fault and not (found.pickles and not found.used):
            self.findings.append(Finding(name, found.fault, Level.SUSPICIOUS))

    def _add(self, kind: str, name: str, what: str, level: Level) -> None:
        self.executable.add(kind)
        self.findings.append(Finding(name, what, level))

    def _numpy(self, name: str, stream: BinaryIO) -> None:
        """An array; one of objects is a pickle behind a header."""
        from numpy.lib import format as layout

        try:
            version = layout.read_magic(stream)
            reader: Any = layout.read_array_header_1_0 if version == (1, 0) else layout.read_array_header_2_0
            _, _, dtype = reader(stream)
        except ValueError as error:
            self._add("pickle", name, f"an array whose header cannot be read: {error}", Level.SUSPICIOUS)
            return
        if dtype.hasobject:
            rest = stream.read(_SECOND_OPINION_BYTES)
            stream.seek(-len(rest), 1)
            self.executable.add("pickle")
            self._judge(name, read_pickles(stream), rest)

    def _keras(self, name: str, stream: BinaryIO) -> None:
        stream.seek(0)
        tail = b""
        while chunk := stream.read(_CHUNK_BYTES):
            if match := _LAMBDA.search(tail + chunk):
                what = f"a {match[1].decode()} layer: Python code that nobody can judge from outside"
                self._add("Keras Lambda", name, what, Level.SUSPICIOUS)
                return
            tail = chunk[-200:]

    def _tensorflow(self, name: str, stream: BinaryIO, size: int) -> None:
        if size > MAX_BYTES:
            raise Invalid(f"it has {size:,} bytes; at most {MAX_BYTES:,} are read", where=name)
        stream.seek(0)
        for operator in needless_operators(stream.read(size)):
            self._add(PROGRAM, name, f"the operator {operator}: files, Python or other machines", Level.DANGEROUS)

    def _zip(self, name: str, stream: BinaryIO, size: int, depth: int) -> None:
        try:
            with zipfile.ZipFile(stream) as archive:
                for info in archive.infolist():
                    if not info.is_dir():
                        if "/code/" in f"/{info.filename}" and info.filename.endswith(".py"):
                            self._add("TorchScript", f"{name}!{info.filename}", "TorchScript code", Level.NOTE)
                            continue
                        with archive.open(info) as member:
                            self._packed(f"{name}!{info.filename}", member, size, depth)
        except (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError, zlib.error) as error:
            self._add("pickle", name, f"an archive that cannot be read whole: {error}", Level.DANGEROUS)

    def _tar(self, name: str, stream: BinaryIO, size: int, depth: int) -> None:
        stream.seek(0)
        try:
            with tarfile.open(fileobj=stream, mode="r:") as archive:
                for member in archive:
                    inner = archive.extractfile(member) if member.isfile() else None
                    if inner is not None:
                        self._packed(f"{name}!{member.name}", inner, size, depth)
        except (tarfile.TarError, EOFError) as error:
            self._add("pickle", name, f"an archive that cannot be read whole: {error}", Level.DANGEROUS)

    def _packed(self, name: str, source: IO[bytes], packed_bytes: int, depth: int) -> None:
        """What stands inside a file, unpacked into bounded space."""
        self._members += 1
        if self._members > MAX_MEMBERS:
            raise Invalid(f"it contains more than {MAX_MEMBERS:,} files", where=name)
        with tempfile.SpooledTemporaryFile(_IN_MEMORY_BYTES) as target:
            written = 0
            for chunk in _chunks(source, name):
                written += len(chunk)
                self._unpacked += len(chunk)
                if self._unpacked > min(MAX_UNPACKED_BYTES, max(MAX_RATIO * packed_bytes, _IN_MEMORY_BYTES)):
                    raise Invalid(
                        f"it unpacks to more than {MAX_RATIO} times its size, or {MAX_UNPACKED_BYTES:,} bytes",
                        where=name,
                    )
                target.write(chunk)
            target.seek(0)
            self.file(name, cast("BinaryIO", target), written, depth + 1)

    @staticmethod
    def _is_packed(stream: BinaryIO) -> bool:
        stream.seek(0)
        head = stream.read(16)
        return _opener(head) is not None or head.startswith(_ARRAYS)

    @staticmethod
    def _is_tar(stream: BinaryIO) -> bool:
        stream.seek(257)
        found = stream.read(5) == b"ustar"
        stream.seek(0)
        return found


def _chunks(source: IO[bytes], name: str) -> Iterator[bytes]:
    try:
        while chunk := source.read(_CHUNK_BYTES):
            yield chunk
    except (OSError, EOFError, zlib.error, lzma.LZMAError) as error:
        raise Invalid(f"it is compressed and cannot be unpacked: {error}", where=name) from error


def _opener(head: bytes) -> Any:
    """What opens a compressed file, by its first bytes; None where it is not one that joblib or Python knows."""
    if head.startswith(b"\x1f\x8b"):
        return lambda stream: gzip.GzipFile(fileobj=stream)
    if head.startswith(b"BZh"):
        return bz2.BZ2File
    if head.startswith((b"\xfd7zXZ\x00", b"\x5d\x00\x00")):
        return lzma.LZMAFile
    if head[:1] == b"\x78" and len(head) > 1 and (head[0] * 256 + head[1]) % 31 == 0:
        return _ZlibFile
    return None


class _ZlibFile:
    """A bare zlib stream, as joblib writes it with `compress=`, to be read from."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream, self._inflate = stream, zlib.decompressobj()

    def read(self, size: int) -> bytes:
        """Up to `size` bytes; none at the end."""
        while True:
            data = self._inflate.unconsumed_tail or self._stream.read(size)
            if not data:
                return self._inflate.flush()
            if found := self._inflate.decompress(data, size):
                return found
            if self._inflate.eof:
                return b""


def _starts_as_pickle(stream: BinaryIO) -> bool:
    stream.seek(0)
    head = stream.read(2)
    return len(head) == 2 and head[0] == 0x80 and head[1] <= 5


def _tool(used: Used, found: Reading) -> str:
    return "loopwright" if used in found.used else "picklescan"


def _last(name: str) -> Path:
    """The path of a file inside the archive that it lies in."""
    return Path(name.rpartition("!")[2])
