"""What an inference process is told when it starts, as a record and as a command line."""

from __future__ import annotations

import argparse
import os
import re
from collections.abc import Sequence
from pathlib import Path

import msgspec

from loopwright.core import Invalid
from loopwright.serve.workers.member import Membership

_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([KMGT]?)(?:i?B)?", re.IGNORECASE)
_PLAIN = (  # what stands on the command line under the name of its field
    "state",
    "objects",
    "journal",
    "cache",
    "host",
    "port",
    "grpc_port",
    "threads",
    "bundle",
    "memory_bytes",
    "access_log",
    "otlp",
    "feedback",
    "tls_cert",
    "tls_key",
)
ONLINE_VARIABLE = "LOOPWRIGHT_SERVING_ONLINE"
OPTIONS_VARIABLE = "LOOPWRIGHT_STORAGE_OPTIONS"  # secrets among them: a command line can be read by others


class ProcessSettings(msgspec.Struct, frozen=True):
    """What the process is told when it starts.

    Attributes:
        state: the document to follow.
        objects: the URL or folder of the object store.
        journal: the folder of the prediction log; none for no log.
        cache: where bundles are kept on this machine.
        host, port: where it listens, if it is no member; port 0 for any that is free.
        grpc_port: where it answers gRPC; 0 for any that is free, none for nowhere.
        threads: per prediction.
        watch_parent: end when standard input is closed, or the parent is gone.
        bundle: a folder that holds the one bundle that is served, whatever digest the state names.
        await_state: be ready only when there is a state and all that it names is loaded; end if it cannot be.
        memory_bytes: what models may take in memory; none for no bound.
        access_log: a file for a line per response; `-` for stderr, none for no such log.
        otlp: the address of an OpenTelemetry collector for traces; none for no traces.
        member: its place among the workers of one address.
        online: the online store, where features are looked up; handed over in the environment, as its address may
            hold a password.
        feedback: the folder of the feedback journal; none where no feedback is taken.
        trusted_keys: PEM files of the public keys whose signatures over bundles count.
        require_signed: load no bundle that none of them has signed.
        tls_cert, tls_key: PEM files; with them both doors speak TLS alone.
    """

    state: Path
    objects: str = ""
    journal: Path | None = None
    cache: Path | None = None
    host: str = "127.0.0.1"
    port: int = 0
    grpc_port: int | None = None
    threads: int = 1
    watch_parent: bool = False
    bundle: Path | None = None
    await_state: bool = False
    memory_bytes: int | None = None
    access_log: str = ""
    otlp: str = ""
    member: Membership | None = None
    online: str = ""
    feedback: Path | None = None
    trusted_keys: tuple[Path, ...] = ()
    require_signed: bool = False
    tls_cert: Path | None = None
    tls_key: Path | None = None

    @property
    def bundles(self) -> Path:
        """Where bundles are kept on this machine."""
        return self.cache or self.state.parent / "bundles"


def bytes_of(text: str) -> int | None:
    """A size as people write it: `512M`, `1.5GiB`, `2000000`; None for none. Units are powers of 1024.

    Raises:
        Invalid: it is no size.
    """
    if not text:
        return None
    found = _SIZE.fullmatch(text.strip())
    if found is None or not float(found[1]):
        raise Invalid(f"{text!r} is no size", next_step="write it as 512M, 2G or a number of bytes")
    return int(float(found[1]) * 1024 ** " KMGT".index(found[2].upper() or " "))


def to_arguments(settings: ProcessSettings) -> list[str]:
    """The command line, without the program, that `from_arguments` reads."""
    given: list[str] = []
    for name in _PLAIN:
        value = getattr(settings, name)
        if value is not None and value != "":
            given += [f"--{name.replace('_', '-')}", str(value)]
    if settings.member is not None:
        member = settings.member
        given += ["--workers-folder", str(member.folder), "--place", f"{member.place}/{member.places}"]
        given += ["--listen-fd", str(member.listener)]
    for key in settings.trusted_keys:
        given += ["--trusted-key", str(key)]
    flags = {"--await-state": settings.await_state, "--fd-parent-watch": settings.watch_parent}
    flags["--require-signed"] = settings.require_signed
    return given + [flag for flag, on in flags.items() if on]


def from_arguments(arguments: Sequence[str] | None) -> ProcessSettings:
    """The settings in a command line; by default this process's own."""
    found = _parser().parse_args(arguments)
    member = None
    if found.workers_folder is not None:
        place, places = map(int, found.place.split("/"))
        member = Membership(found.workers_folder, place, places, found.listen_fd)
    return ProcessSettings(
        state=found.state,
        objects=found.objects,
        journal=found.journal,
        cache=found.cache,
        host=found.host,
        port=found.port,
        grpc_port=found.grpc_port,
        threads=found.threads,
        watch_parent=found.fd_parent_watch,
        bundle=found.bundle,
        await_state=found.await_state,
        memory_bytes=found.memory_bytes,
        access_log=found.access_log,
        otlp=found.otlp,
        member=member,
        online=os.environ.get(ONLINE_VARIABLE, ""),
        feedback=found.feedback,
        trusted_keys=tuple(found.trusted_key),
        require_signed=found.require_signed,
        tls_cert=found.tls_cert,
        tls_key=found.tls_key,
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m loopwright.serve", description="The inference process.")
    add = parser.add_argument
    add("--state", type=Path, required=True, help="the serving state to follow")
    add("--objects", default="", help="URL or folder of the object store")
    add("--trusted-key", type=Path, action="append", default=[], help="PEM file of a public key; repeatable")
    add("--require-signed", action="store_true", help="load no bundle that none of these keys has signed")
    add("--journal", type=Path, help="folder of the prediction log; none for no log")
    add("--cache", type=Path, help="folder for bundles; beside the state by default")
    add("--host", default="127.0.0.1")
    add("--port", type=int, default=0, help="0 takes any that is free")
    add("--grpc-port", type=int, help="answer gRPC there; 0 takes any that is free")
    add("--threads", type=int, default=1, help="threads per prediction")
    add("--bundle", type=Path, help="serve the bundle in this folder, whatever digest the state names")
    add("--memory-bytes", type=int, help="what models may take in memory; those that do not fit are loaded on demand")
    add("--access-log", default="", help="write a line of JSON per response to this file; - for stderr")
    add("--otlp", default="", help="send traces to this OpenTelemetry collector")
    add("--feedback", type=Path, help="folder of the feedback journal; none takes no feedback")
    add("--tls-cert", type=Path, help="PEM file of a certificate; with its key, both ports speak TLS alone")
    add("--tls-key", type=Path, help="PEM file of its private key, without a password")
    add("--await-state", action="store_true", help="be ready when all that the state names is loaded, or end")
    add("--fd-parent-watch", action="store_true", help="end when standard input is closed")
    add("--workers-folder", type=Path, help="where the workers of one address meet")
    add("--place", default="0/1", help="the place among them, and how many they are")
    add("--listen-fd", type=int, default=-1, help="the descriptor of the socket that they share")
    return parser
