"""Score rows part by part: the next part is read and the last one written while a model answers.

Memory holds a few parts, whatever the number of rows. A scoring that was killed goes on behind its last whole part.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from loopwright.core import Conflict, Invalid, digest_value, progress
from loopwright.serve.batch.answering import Answering, Here, Lanes, Part, Scorer, dtype_of
from loopwright.serve.batch.model import ALL, NONE, OTHERS, ScoringOptions, ScoringReport
from loopwright.serve.batch.outputs import check_output, publish
from loopwright.serve.batch.parts import Job, Parts
from loopwright.serve.batch.sources import Rows, check_types
from loopwright.store import Ahead

if TYPE_CHECKING:
    import polars as pl

    from loopwright.models import Signature


class Watch(Protocol):
    """Who looks at the rows and answers as they pass."""

    def look(self, part: Part) -> bytes:
        """What is to be remembered of a part; called in a thread of the scoring's, one part at a time."""
        ...

    def done(self, remembered: Sequence[bytes]) -> None:
        """All parts are scored, those before an interruption among them; called before the output appears."""
        ...


def score(
    scorer: Scorer,
    rows: Rows,
    output: Path,
    options: ScoringOptions | None = None,
    *,
    model: str,
    digest: str,
    source: str = "",
    format: str = "",
    begin: Callable[[str], str] | None = None,
    lanes: Lanes | None = None,
    watch: Watch | None = None,
) -> ScoringReport:
    """Write a model's answers for all rows, in the order of the rows; the output appears when it is whole.

    Args:
        scorer: the model.
        output: a file (`.parquet`, `.csv`, `.jsonl`), or a folder's name, which becomes a folder of Parquet files.
        model: what the report calls the model.
        digest: of the model's bundle: a restart goes on only with the same model.
        source: what the report calls the rows.
        format: `delta` appends to a Delta table, which is made if it is missing.
        begin: called before the first row is scored, with the id of the run as which an interrupted attempt was
            recorded, or none; gives the id of the run as which this one is.
        lanes: where the model answers; by default here. Of the scorer only the signature is used then.
        watch: who is shown the rows and the answers.

    Raises:
        Invalid: the rows lack a column, or a row lacks a value that the model needs: column and row are named.
        Conflict: the output is there, or an unfinished scoring of something else is in its place.
        Unavailable: the disk is full or read-only. Said again, the scoring goes on.
        ModelFailed: the model cannot answer.
    """
    options = options or ScoringOptions()
    options.check()
    check_output(output, format)
    began = time.monotonic()
    work = _Work(scorer.signature, rows, options, lanes or Here(scorer), watch)
    job = Job(rows.mark, digest, work.written, options.prefix, options.skip_bad, options.part_rows)
    with Parts(output, job, options.restart) as parts:
        run = begin(parts.run) if begin else ""
        parts.note_run(run)
        done = len(parts.files)
        resumed = _height(parts.files)
        try:
            bad = work.run(parts, done)
        except (Invalid, Conflict):  # the rows have to be others: parts of what they were are of no use
            parts.discard()
            raise
        total = _height(parts.files)
        if watch is not None:
            watch.done(parts.notes)
        publish(parts, output, format, digest_value([job.rows, job.model, list(job.columns)]))
    return ScoringReport(
        model=model,
        input=source,
        output=str(output),
        rows=total,
        bad_rows=bad,
        resumed_rows=resumed,
        seconds=time.monotonic() - began,
        run=run,
    )


def threads_of(options: ScoringOptions) -> int:
    """How many threads a model may use."""
    return options.threads or os.cpu_count() or 1


class _Work:
    """The scoring of rows that is the same for each part."""

    def __init__(
        self, signature: Signature, rows: Rows, options: ScoringOptions, lanes: Lanes, watch: Watch | None
    ) -> None:
        self._signature, self._rows, self._options, self._lanes, self._watch = signature, rows, options, lanes, watch
        names = signature.names
        missing = [name for name in names if name not in rows.columns]
        if missing:
            raise Invalid(
                f"the rows lack the column(s) {', '.join(missing)}",
                where=rows.place.name,
                next_step=f"the model takes {', '.join(names)}; the rows have {', '.join(rows.columns)}",
            )
        self._kept = _kept(options.keep, rows.columns, names)
        self._answers = tuple(options.prefix + item.name for item in signature.outputs)
        doubled = sorted(set(self._answers) & set(self._kept))
        if doubled:
            raise Invalid(
                f"the answers and the kept columns share the name(s) {', '.join(doubled)}",
                next_step="keep other columns, or give the answers a prefix",
            )
        self.written = (*self._kept, *self._answers)
        wanted = {*names, *self._kept, rows.sentinel}
        self._read = [name for name in rows.columns if name in wanted]
        check_types(rows, signature)

    def run(self, parts: Parts, done: int) -> int:
        """Score what is missing behind the first `done` parts; how many rows were bad."""
        size, bad = self._options.part_rows, 0
        total = None if self._rows.count is None else float(self._rows.count)
        frames = _of_size(self._batches(done * size), size)
        answering = Answering(self._rows.place.name, self._kept, self._options.prefix, self._options.skip_bad)
        with (
            progress("scoring rows", total) as task,
            closing(Ahead(frames)) as ahead,
            ThreadPoolExecutor(1, thread_name_prefix="loopwright-scoring-writer") as writer,
        ):
            task.advance(float(min(done * size, self._rows.count or done * size)))
            written: Future[None] | None = None
            number = done
            numbered = ((place * size, frame) for place, frame in enumerate(ahead.items(), start=done))
            for part in self._lanes.answer(answering, numbered):
                bad += part.bad
                if written is not None:
                    written.result()
                written = writer.submit(self._keep, parts, number, part)
                task.advance(float(part.rows.height))
                number += 1
            if written is not None:
                written.result()
            if number == 0:
                parts.write(0, self._empty())
        return bad + _bad_before(parts.files[:done], self._answers)

    def _keep(self, parts: Parts, number: int, part: Part) -> None:
        parts.write(number, part.answers, b"" if self._watch is None else self._watch.look(part))

    def _batches(self, skipped: int) -> Iterator[pl.DataFrame]:
        """What is read of the rows behind the first `skipped`.

        Raises:
            Invalid: a file is malformed or damaged: it, the line and the column are named.
        """
        import polars as pl

        rows, suspect = self._rows, False
        chosen = rows.frame.select(self._read)
        chosen = chosen.slice(skipped) if skipped else chosen
        try:
            for frame in chosen.collect_batches(chunk_size=min(self._options.part_rows, 65_536), maintain_order=True):
                if rows.sentinel and not suspect and frame[rows.sentinel].null_count():
                    suspect = True
                    rows.place.check_shape()
                yield frame
        except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError) as error:
            raise rows.place.fault(error) from error
        rows.check_unchanged()

    def _empty(self) -> pl.DataFrame:
        """No rows, of the columns that are written."""
        import polars as pl

        kept = self._rows.frame.select(self._kept).collect_schema() if self._kept else {}
        types = {self._options.prefix + item.name: dtype_of(item) for item in self._signature.outputs}
        return pl.DataFrame(schema={**dict(kept), **types})


def _kept(keep: Sequence[str], columns: Sequence[str], inputs: Sequence[str]) -> tuple[str, ...]:
    chosen = {ALL: tuple(columns), NONE: (), OTHERS: tuple(name for name in columns if name not in set(inputs))}
    if len(keep) == 1 and keep[0] in chosen and keep[0] not in columns:
        return chosen[keep[0]]
    unknown = [name for name in keep if name not in columns]
    if unknown:
        raise Invalid(f"the rows have no column(s) {', '.join(unknown)}", next_step=f"they have {', '.join(columns)}")
    return tuple(keep)


def _of_size(frames: Iterator[pl.DataFrame], size: int) -> Iterator[pl.DataFrame]:
    """The same rows in frames of `size`, but for the last."""
    import polars as pl

    held: list[pl.DataFrame] = []
    count = 0
    for frame in frames:
        held.append(frame)
        count += frame.height
        while count >= size:
            whole = pl.concat(held, rechunk=True)
            yield whole.head(size)
            rest = whole.tail(count - size) if count > size else None
            held, count = ([] if rest is None else [rest]), count - size
    if count:
        yield pl.concat(held, rechunk=True)


def _height(files: Sequence[Path]) -> int:
    import polars as pl

    return int(pl.scan_parquet(list(files)).select(pl.len()).collect().item()) if files else 0


def _bad_before(files: Sequence[Path], answers: Sequence[str]) -> int:
    """How many rows of whole parts have no answers."""
    import polars as pl

    if not files or not answers:
        return 0
    found = pl.scan_parquet(list(files)).select(pl.col(answers[0]).is_null().sum())
    return int(found.collect().item())
