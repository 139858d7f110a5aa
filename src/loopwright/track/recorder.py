"""A run in the hands of the code that it records: what is logged goes to a spool, and the code goes on."""

from __future__ import annotations

import os
import shutil
import struct
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any
from zlib import crc32

import msgspec

from loopwright.core import Conflict, Invalid, NotFound, check_name, check_path, new_id, parse_ref
from loopwright.track.active import TRACEBACK_PATH
from loopwright.track.media import KeepsMedia
from loopwright.track.model import MetricPoint, RunInput, RunStatus, Value
from loopwright.track.showing import LiveLine, can_show_line, run_html
from loopwright.track.spool.layout import BODY, RECORD, SLOT_BYTES
from loopwright.track.spool.notes import FileKept, InputsRead, RunBegan, RunEnded, TextsSet
from loopwright.track.spool.spools import Spool
from loopwright.track.spool.system import SystemSampler
from loopwright.track.spool.trail import Traced
from loopwright.track.spool.writer import tell
from loopwright.track.values import check_key, check_step, check_text, check_value, to_micros

LOST_TAG = "loopwright.lost_points"
_MAX_TITLE = 500
_MANY = 4096
_TEXTS_A_NOTE = 50
_pack, _pack_into, _now_ns = BODY.pack, RECORD.pack_into, time.time_ns


def begin_run(
    run_id: str,
    experiment: str,
    name: str,
    params: Mapping[str, Any],
    tags: Mapping[str, Any],
    *,
    parent: str = "",
    kind: str = "run",
    resume: bool = False,
) -> RunBegan:
    """What a run starts with, checked here since no server may be there to do so.

    Raises:
        Invalid: a name, a key or a text cannot be stored.
    """
    return RunBegan(
        run_id,
        _title("experiment", experiment),
        _title("run", name or f"{kind}-{run_id[-6:]}"),
        _now_ns() // 1000,
        _texts("param", params),
        _texts("tag", tags),
        parent,
        check_name("kind of run", kind),
        resume,
    )


def _title(noun: str, name: str) -> str:
    if not name.isprintable() or not 0 < len(name) <= _MAX_TITLE:
        raise Invalid(
            f"{name[:60]!r} cannot name a run or its {noun}",
            next_step=f"use 1 to {_MAX_TITLE} characters without control characters",
        )
    return name


def _texts(noun: str, given: Mapping[str, Any]) -> dict[str, str]:
    return {check_key(noun, key): check_text(noun, key, str(value)) for key, value in given.items()}


class _Series:
    """One metric: its number in the spool, and the step that comes next."""

    __slots__ = ("next", "number")

    def __init__(self, number: int) -> None:
        self.number, self.next = number, 0


class Recorder(KeepsMedia):
    """Records one run. Thread-safe; a process that is forked may go on recording the same run.

    What was logged survives the death of the process at any moment, and reaches the workspace when that answers.
    Logging never fails for want of disk, network or server: what cannot be kept is counted and told. Wrong use (a
    value that is no number, a param that changes) is an error at once.

    Use it in a `with`: the run is finished at the end of the block, failed if the block raises, killed if it is
    interrupted.
    """

    def __init__(self, spool: Spool, began: RunBegan, on_end: Callable[[Recorder], None] = lambda run: None) -> None:
        """Args:
        spool: where to record.
        began: what the run starts with.
        on_end: called once, when the run has ended.
        """
        self.id, self.ref, self.experiment, self.name = began.run, f"run:{began.run}", began.experiment, began.name
        self.status, self.began = RunStatus.RUNNING, began
        self.spool = spool
        self._writer, self._pid, self._on_end = spool.writer, os.getpid(), on_end
        self._series: dict[str, _Series] = {}
        self._params = dict(began.params)
        self._sampler: SystemSampler | None = None
        self._line: LiveLine | None = None
        spool.writer.begin_run(msgspec.structs.replace(began, params={}, tags={}))
        for some in _parts(began.params):
            spool.writer.put(TextsSet(self.id, params=some))
        for some in _parts(began.tags):
            spool.writer.put(TextsSet(self.id, tags=some))

    def log_metric(self, key: str, value: Value, step: int | None = None) -> None:
        """Record one value of a metric. It returns in about a microsecond.

        Args:
            key: the metric, such as `loss` or `val/auc`.
            value: a number; NaN and the infinities are kept, too.
            step: where in training it belongs; by default one more than the step before, beginning with 0.

        Raises:
            Invalid: the key names no metric, or the value or step is no number. Nothing else is ever raised.
        """
        try:
            series = self._series[key]
        except (KeyError, TypeError):
            series = self._declare(key)
        writer = self._writer
        with writer.lock:
            if step is None:
                step = series.next
            try:
                body = _pack(series.number, step, _now_ns(), value)
            except (struct.error, TypeError):
                body = _pack(series.number, check_step(key, _whole(step)), _now_ns(), check_value(key, value))
            if writer.at >= writer.limit and not writer.make_room([body]):
                return
            # Between these two no signal's handler can run: the slot is ours before anybody else looks.
            at = writer.at
            writer.at = at + SLOT_BYTES
            _pack_into(writer.map, at, crc32(body, writer.seed ^ at), body)
            series.next = step + 1

    def log_metrics(self, metrics: Mapping[str, Value], step: int | None = None) -> None:
        """Record one value of each of these metrics, all at the same time.

        Raises:
            Invalid: a key names no metric, or a value or the step is no number; then none is recorded.
        """
        checked = None if step is None else check_step("", _whole(step))
        now_ns = _now_ns()
        for key in metrics.keys() - self._series.keys():
            self._declare(key)
        known = self._series
        with self._writer.lock:
            bodies = []
            for key, value in metrics.items():
                series = known[key]
                at_step = series.next if checked is None else checked
                bodies.append(_pack(series.number, at_step, now_ns, check_value(key, value)))
            if self._put(bodies):
                for key in metrics:
                    known[key].next = (known[key].next if checked is None else checked) + 1

    def log_points(self, points: Sequence[MetricPoint]) -> None:
        """Record many points, each with its own step and perhaps time.

        Raises:
            Invalid: one of them cannot be stored; then none is.
        """
        now_ns = _now_ns()
        for key in {point.key for point in points} - self._series.keys():
            self._declare(key)
        bodies = []
        for point in points:
            at_ns = now_ns if point.at is None else to_micros(point.at) * 1000
            step, value = check_step(point.key, point.step), check_value(point.key, point.value)
            bodies.append(_pack(self._series[point.key].number, step, at_ns, value))
        with self._writer.lock:
            self._put(bodies)

    def log_param(self, key: str, value: Any) -> None:
        """Record a param; its value is stored as text."""
        self.log_params({key: value})

    def log_params(self, params: Mapping[str, Any]) -> None:
        """Record params; their values are stored as text.

        Raises:
            Invalid: a key or a text cannot be stored; then none is.
            Conflict: a param was recorded here with another value.
        """
        texts = _texts("param", params)
        with self._writer.lock:
            for key, text in texts.items():
                if self._params.get(key, text) != text:
                    raise Conflict(
                        f"param {key!r} is {self._params[key][:60]!r} already and cannot become {text[:60]!r}",
                        next_step="start another run, or keep what changes as a metric or tag",
                    )
            fresh = {key: text for key, text in texts.items() if key not in self._params}
            self._params.update(fresh)
            for some in _parts(fresh):
                self._writer.put(TextsSet(self.id, params=some))

    def set_tag(self, key: str, value: Any) -> None:
        """Set a tag; its value is stored as text."""
        self.set_tags({key: value})

    def set_tags(self, tags: Mapping[str, Any]) -> None:
        """Set tags; their values are stored as text.

        Raises:
            Invalid: a key or a text cannot be stored; then none is.
        """
        texts = _texts("tag", tags)
        for some in _parts(texts):
            self._writer.put(TextsSet(self.id, tags=some))

    def log_input(self, ref: str, name: str = "", digest: str = "") -> None:
        """Record a pinned thing that the run read, such as `dataset:flights@12`.

        Raises:
            Invalid: `ref` is no ref.
        """
        self._writer.put(InputsRead(self.id, [RunInput(str(parse_ref(ref)), name, digest)]))

    def log_artifact(self, source: Path | str | bytes, name: str = "") -> None:
        """Keep a file, a folder or bytes as they are now; what is at the same path of the run is replaced.

        Args:
            source: a path, or bytes.
            name: the path in the run; by default the file's or folder's own name. Needed for bytes.

        Raises:
            NotFound: there is no such file or folder.
            Invalid: the name is no safe path, is missing, or the folder holds no file.
        """
        if isinstance(source, bytes):
            if not name:
                raise Invalid("an artifact made of bytes needs a name", next_step="give its path in the run")
            self._keep(_safe(name), source)
            return
        for file, path in _files(Path(source), name or Path(source).resolve().name):
            self._keep(path, file)

    def finish(self, status: RunStatus = RunStatus.FINISHED, error: str = "", *, wait: bool = True) -> bool:
        """End the run, and wait a bounded time for what is not delivered yet. Ending it again changes nothing.

        Args:
            status: how it ended.
            error: what ended it.
            wait: wait for the delivery; else that goes on behind, and what it cannot deliver is told at the next wait.

        Returns:
            whether everything has reached the workspace; if not, it is kept here, and `loopwright sync` delivers it.
        """
        if self.status is not RunStatus.RUNNING:
            return True
        if os.getpid() != self._pid:  # a forked process records, but the run is its parent's
            return self.flush()
        self.status = RunStatus(status)
        self._on_end(self)
        if self._sampler is not None:
            self._sampler.stop()
        with self._writer.lock:
            if self._writer.lost:
                self._writer.put(TextsSet(self.id, tags={LOST_TAG: str(self._writer.lost)}))
            self._series = {}
            self._writer.end_run(RunEnded(self.id, self.status, _told(error), _now_ns() // 1000))
        done = wait and self.flush()
        if self._line is not None:
            self._line.stop()
        self._tell_rest(done or not wait)
        return done

    def fail(self, error: BaseException, *, wait: bool = True) -> bool:
        """End the run as failed, as `finish` does; the traceback is kept as the artifact `error/traceback.txt`."""
        if self.status is RunStatus.RUNNING and os.getpid() == self._pid:
            text = "".join(traceback.format_exception(error))
            self.log_artifact(text.encode(errors="replace"), TRACEBACK_PATH)
        return self.finish(RunStatus.FAILED, f"{type(error).__name__}: {error}", wait=wait)

    def watch(self, *, system_metrics_s: float = 0.0, progress: bool | None = None) -> None:
        """Watch over the run until it ends.

        Args:
            system_metrics_s: seconds between two samples of how busy the machine is; 0 for none.
            progress: show a live line on stderr; by default where that is a terminal.
        """
        if system_metrics_s > 0:
            self._sampler = SystemSampler(self.log_metrics, system_metrics_s)
            self._sampler.start()
        if can_show_line() if progress is None else progress:
            self._line = LiveLine(self.name, self.traced)
            self._line.start()

    def traced(self) -> dict[str, Traced]:
        """What became of each metric that this process recorded, by key: its last point and the way there."""
        self.spool.trail.update()
        return self.spool.trail.of(self.id)

    def flush(self, timeout_s: float | None = None) -> bool:
        """Wait until everything up to now has reached the workspace; False if it does not answer, or takes longer."""
        return self.spool.flush(timeout_s)

    def __enter__(self) -> Recorder:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None or (isinstance(error, SystemExit) and not error.code):
            self.finish()
        elif isinstance(error, KeyboardInterrupt | SystemExit):
            self.finish(RunStatus.KILLED, type(error).__name__)
        else:
            self.fail(error)

    def __repr__(self) -> str:
        return f"<run {self.name or self.id} of experiment {self.experiment!r}: {self.status}>"

    def _repr_html_(self) -> str:
        return run_html(self.id, self.name, self.experiment, self.status, self._params, self.traced())

    def _declare(self, key: str) -> _Series:
        check_key("metric", key)
        with self._writer.lock:
            if key not in self._series:
                self._series[key] = _Series(self._writer.name_series(self.id, key))
            return self._series[key]

    def _put(self, bodies: list[bytes]) -> bool:
        """Write bodies, which were packed, into slots; call it with the lock held."""
        writer = self._writer
        for start in range(0, len(bodies), _MANY):
            some = bodies[start : start + _MANY]
            need = len(some) * SLOT_BYTES
            if writer.at + need > writer.limit and not writer.make_room(some):
                return False
            at, seed, buffer = writer.at, writer.seed, writer.map
            writer.at = at + need
            for body in some:
                _pack_into(buffer, at, crc32(body, seed ^ at), body)
                at += SLOT_BYTES
        return True

    def _keep(self, path: str, source: Path | bytes) -> None:
        """Copy a file into the spool, and note it."""
        try:
            name = new_id()
            place = self._writer.file_path(name, len(source) if isinstance(source, bytes) else source.stat().st_size)
            if isinstance(source, bytes):
                place.write_bytes(source)
            else:
                shutil.copyfile(source, place)
        except OSError as error:
            self._writer.lost_notes += 1
            tell(f"the artifact {path!r} of run {self.id} is LOST; the run goes on: {error}")
            return
        self._writer.put(FileKept(self.id, path, name, place.stat().st_size))

    def _tell_rest(self, delivered: bool) -> None:
        lost = self._writer.lost, self._writer.lost_notes
        if any(lost):
            tell(f"run {self.id} has lost {lost[0]:,} points and {lost[1]:,} other records for want of room")
        if not delivered and self._writer.id:
            tell(
                f"run {self.id} is kept in {self._writer.folder} ({self.spool.trouble or 'delivery goes on'}); "
                "'loopwright sync' delivers what is left"
            )


def _safe(path: str) -> str:
    """`path`, if it is a safe path and a text: a name on this disk may hold bytes that are none."""
    try:
        check_path(path).encode()
    except UnicodeEncodeError:
        raise Invalid(f"{path!r} is no text", next_step="give the artifact another name") from None
    return path


def _told(error: str) -> str:
    """An error's text as every database can store it."""
    return error[:2000].replace("\x00", "\ufffd").encode(errors="replace").decode()


def _parts(texts: Mapping[str, str]) -> Iterator[dict[str, str]]:
    """Texts in notes of which each is small enough to be sent at once."""
    items = list(texts.items())
    for start in range(0, len(items), _TEXTS_A_NOTE):
        yield dict(items[start : start + _TEXTS_A_NOTE])


def _whole(step: Any) -> Any:
    """A step of another library's type, or a float without a fraction, as an int; else as it is."""
    try:
        return int(step) if step == int(step) else step
    except (TypeError, ValueError, OverflowError):
        return step


def _files(source: Path, name: str) -> list[tuple[Path, str]]:
    if source.is_file():
        return [(source, _safe(name))]
    if not source.is_dir():
        raise NotFound(f"there is no file or folder {str(source)!r}")
    files = sorted(path for path in source.rglob("*") if path.is_file() and not path.is_symlink())
    if not files:
        raise Invalid(f"the folder {str(source)!r} holds no file")
    return [(file, _safe(f"{name}/{file.relative_to(source).as_posix()}")) for file in files]
