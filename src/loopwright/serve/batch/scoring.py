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
from typing import TYPE_CHECKING, Any, Protocol

from loopwright.core import Conflict, DType, Invalid, digest_value, progress
from loopwright.models import Output, Signature, columns_of, outputs_frame
from loopwright.serve.batch.model import ALL, NONE, OTHERS, ScoringOptions, ScoringReport
from loopwright.serve.batch.outputs import check_output, publish
from loopwright.serve.batch.parts import Job, Parts
from loopwright.serve.batch.sources import Rows, check_types
from loopwright.store import Ahead

if TYPE_CHECKING:
    import numpy as np
    import polars as pl


class Scorer(Protocol):
    """What answers rows: a predictor, whatever runs it."""

    @property
    def signature(self) -> Signature:
        """What it takes and gives."""
        ...

    def predict(self, columns: Any) -> dict[str, np.ndarray[Any, Any]]:
        """An array per output for an array per input."""
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
    work = _Work(scorer, rows, options)
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

    def __init__(self, scorer: Scorer, rows: Rows, options: ScoringOptions) -> None:
        self._scorer, self._rows, self._options = scorer, rows, options
        names = scorer.signature.names
        missing = [name for name in names if name not in rows.columns]
        if missing:
            raise Invalid(
                f"the rows lack the column(s) {', '.join(missing)}",
                where=rows.place.name,
                next_step=f"the model takes {', '.join(names)}; the rows have {', '.join(rows.columns)}",
            )
        self._kept = _kept(options.keep, rows.columns, names)
        self._answers = tuple(options.prefix + item.name for item in scorer.signature.outputs)
        doubled = sorted(set(self._answers) & set(self._kept))
        if doubled:
            raise Invalid(
                f"the answers and the kept columns share the name(s) {', '.join(doubled)}",
                next_step="keep other columns, or give the answers a prefix",
            )
        self.written = (*self._kept, *self._answers)
        wanted = {*names, *self._kept, rows.sentinel}
        self._read = [name for name in rows.columns if name in wanted]
        check_types(rows, scorer.signature)

    def run(self, parts: Parts, done: int) -> int:
        """Score what is missing behind the first `done` parts; how many rows were bad."""
        size, bad = self._options.part_rows, 0
        total = None if self._rows.count is None else float(self._rows.count)
        frames = _of_size(self._batches(done * size), size)
        with (
            progress("scoring rows", total) as task,
            closing(Ahead(frames)) as ahead,
            ThreadPoolExecutor(1, thread_name_prefix="loopwright-scoring-writer") as writer,
        ):
            task.advance(float(min(done * size, self._rows.count or done * size)))
            written: Future[None] | None = None
            number = done
            for frame in ahead.items():
                answers, failed = self._answered(frame, number * size)
                bad += failed
                if written is not None:
                    written.result()
                written = writer.submit(parts.write, number, answers)
                task.advance(float(frame.height))
                number += 1
            if written is not None:
                written.result()
            if number == 0:
                parts.write(0, self._empty())
        return bad + _bad_before(parts.files[:done], self._answers)

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

    def _answered(self, frame: pl.DataFrame, first: int) -> tuple[pl.DataFrame, int]:
        """A part with its answers, and how many of its rows are bad."""
        import polars as pl

        good = self._good(frame, first)
        asked = frame if good is None else frame.filter(good)
        if asked.height:
            outputs = self._predicted(asked, first)
        else:
            outputs = pl.DataFrame(schema={item.name: _dtype(item) for item in self._scorer.signature.outputs})
        answers = outputs.select(
            pl.col(item.name).cast(_dtype(item)).alias(self._options.prefix + item.name)
            for item in self._scorer.signature.outputs
        )
        if good is None:
            return pl.concat([frame.select(self._kept), answers], how="horizontal"), 0
        places = frame.select(self._kept).with_row_index("__place")
        found = answers.with_columns(pl.Series("__place", good.arg_true(), dtype=pl.UInt32))
        whole = places.join(found, on="__place", how="left", maintain_order="left").drop("__place")
        return whole, frame.height - asked.height

    def _predicted(self, asked: pl.DataFrame, first: int) -> pl.DataFrame:
        try:
            return outputs_frame(self._scorer.predict(columns_of(asked, self._scorer.signature)))
        except Invalid as error:
            where = f"{self._rows.place.name}, rows {first:,} and after"
            raise Invalid(error.message, where=where, next_step=error.next_step) from error

    def _good(self, frame: pl.DataFrame, first: int) -> pl.Series | None:
        """Which rows can be answered; None for all of them.

        Raises:
            Invalid: one cannot, and bad rows are not to be skipped.
        """
        import polars as pl

        needed = [item.name for item in self._scorer.signature.inputs if not item.nullable]
        holes = [name for name in needed if _has_holes(frame[name])]
        if not holes:
            return None
        bad = frame.select(pl.any_horizontal(_is_hole(frame[name]) for name in holes)).to_series()
        if not self._options.skip_bad:
            place = int(bad.arg_true()[0])
            name = next(name for name in holes if _has_holes(frame[name].slice(place, 1)))
            raise Invalid(
                f"row {first + place:,} has no value in column {name!r}, and training never saw it missing",
                where=self._rows.place.name,
                next_step="mend the rows, or skip such rows: they get empty answers",
            )
        return ~bad

    def _empty(self) -> pl.DataFrame:
        """No rows, of the columns that are written."""
        import polars as pl

        kept = self._rows.frame.select(self._kept).collect_schema() if self._kept else {}
        types = {self._options.prefix + item.name: _dtype(item) for item in self._scorer.signature.outputs}
        return pl.DataFrame(schema={**dict(kept), **types})


def _dtype(output: Output) -> pl.DataType:
    """The type of an answer's column."""
    import polars as pl

    one = {
        DType.BOOL: pl.Boolean(),
        DType.INT64: pl.Int64(),
        DType.FLOAT32: pl.Float32(),
        DType.FLOAT64: pl.Float64(),
        DType.STRING: pl.String(),
    }[output.dtype]
    return pl.List(one) if output.shape else one


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


def _has_holes(column: pl.Series) -> bool:
    return bool(column.null_count()) or (column.dtype.is_float() and bool(column.is_nan().any()))


def _is_hole(column: pl.Series) -> pl.Series:
    return column.is_null() | column.is_nan().fill_null(True) if column.dtype.is_float() else column.is_null()


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
