"""The parts of a scoring under way: files of a folder beside the output, from which a restart goes on.

A part appears under its name only when it is whole. `job.json` says which rows, which model and which options the
parts are of.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import filelock
import msgspec

from loopwright.core import Conflict, Unavailable

if TYPE_CHECKING:
    import polars as pl

_JOB, _RUN, _NOTE = "job.json", "run", ".note"


class Job(msgspec.Struct, frozen=True):
    """What the parts are of."""

    rows: str
    model: str
    columns: tuple[str, ...]
    prefix: str
    skip_bad: bool
    part_rows: int


class Parts:
    """A scoring's folder, held by one process at a time. Use it in a `with`."""

    def __init__(self, output: Path, job: Job, restart: bool) -> None:
        """Args:
        output: what the parts will become; their folder is beside it.
        restart: begin anew where the folder holds parts of another job.

        Raises:
            Conflict: another process works on the same output, or the folder holds parts of another job.
            Unavailable: the folder cannot be written.
        """
        self.folder = output.with_name(f".{output.name}.scoring")
        self._job = job
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._lock = filelock.FileLock(self.folder.with_suffix(".lock"), timeout=0)
            self._lock.acquire()
        except filelock.Timeout:
            raise Conflict(
                f"another process is writing {output}", next_step="wait for it, or name another output"
            ) from None
        except OSError as error:
            raise Unavailable(f"{self.folder} cannot be written: {error.strerror or error}") from error
        try:
            self._claim(output, restart)
        except BaseException:
            self._lock.release()
            raise

    def _claim(self, output: Path, restart: bool) -> None:
        path = self.folder / _JOB
        if path.exists():
            try:
                found: Job | None = msgspec.json.decode(path.read_bytes(), type=Job)
            except msgspec.MsgspecError:
                found = None
            if found != self._job:
                if not restart:
                    raise Conflict(
                        f"an unfinished scoring of other rows, of another model or with other options is at {output}",
                        next_step="add --restart to begin anew, or name another output",
                    )
                shutil.rmtree(self.folder)
                self.folder.mkdir()
        if not path.exists():
            fresh = path.with_suffix(".new")
            fresh.write_bytes(msgspec.json.encode(self._job))
            fresh.replace(path)

    @property
    def run(self) -> str:
        """The id of the run as which the scoring is recorded; empty where it is not."""
        path = self.folder / _RUN
        return path.read_text(encoding="ascii") if path.exists() else ""

    def note_run(self, run: str) -> None:
        """Say as which run the scoring is recorded, for the next attempt."""
        (self.folder / _RUN).write_text(run, encoding="ascii")

    @property
    def files(self) -> list[Path]:
        """The parts that are whole, from the first one on without a gap."""
        found = sorted(self.folder.glob("part-*.parquet"))
        return [path for number, path in enumerate(found) if path.name == _name(number)]

    @property
    def notes(self) -> list[bytes]:
        """What was noted of each whole part."""
        return [note.read_bytes() for path in self.files if (note := path.with_suffix(_NOTE)).exists()]

    def write(self, number: int, frame: pl.DataFrame, note: bytes = b"") -> None:
        """Keep a part, and what is noted of it; when this returns it outlives the process.

        Raises:
            Unavailable: the disk is full or read-only.
        """
        import polars as pl

        path = self.folder / _name(number)
        fresh = path.with_suffix(".new")
        try:
            if note:
                path.with_suffix(_NOTE).write_bytes(note)
            frame.write_parquet(fresh, statistics=True)
            with fresh.open("rb") as file:
                os.fsync(file.fileno())
            fresh.replace(path)
        except (OSError, pl.exceptions.PolarsError) as error:
            fresh.unlink(missing_ok=True)
            said = getattr(error, "strerror", "") or str(error).strip().splitlines()[0]
            raise Unavailable(
                f"a part of the answers cannot be written: {said}",
                where=str(path),
                next_step="free some space and say the same again: it goes on where it stopped",
            ) from error

    def discard(self) -> None:
        """Remove what is left of the folder: the output is whole."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self) -> Parts:
        return self

    def __exit__(self, *_: object) -> None:
        self._lock.release()
        if not self.folder.exists():
            self.folder.with_suffix(".lock").unlink(missing_ok=True)


def _name(number: int) -> str:
    return f"part-{number:06}.parquet"
