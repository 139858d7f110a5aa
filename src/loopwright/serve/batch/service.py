"""Batch scoring in a workspace of this machine: of files, tables and datasets, by hand and for declared jobs."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from loopwright.core import Conflict, Invalid, NotFound, Ref, Scope, digest_value, new_id, parse_ref
from loopwright.serve.batch.faults import Place
from loopwright.serve.batch.model import ScoringDone, ScoringOptions, ScoringOrder, ScoringReport
from loopwright.serve.batch.ray_lanes import lanes_on
from loopwright.serve.batch.recorded import DATASET, RecordedScoring, Task
from loopwright.serve.batch.sources import Rows, open_rows, rows_of
from loopwright.serve.batch.watching import Counting
from loopwright.store import TableStore

if TYPE_CHECKING:
    import polars as pl

    from loopwright.data import DatasetService
    from loopwright.models import ModelService, ModelVersion, Signature
    from loopwright.store import Stores
    from loopwright.track import RunService

TABLE = "table:"
_DONE, _ROWS = "done.json", "rows"


class ScoringService(RecordedScoring):
    """Scores files, tables and datasets with registered models."""

    def __init__(
        self, stores: Stores, scope: Scope, *, models: ModelService, runs: RunService, datasets: DatasetService
    ) -> None:
        compute = stores.location.settings.compute
        super().__init__(models, runs, lambda bundle, options: lanes_on(compute, bundle, options))
        self.stores, self.scope = stores, scope
        self._datasets = datasets

    def predict(
        self,
        model: str,
        source: str | Path,
        output: str | Path,
        options: ScoringOptions | None = None,
        format: str = "",
    ) -> ScoringReport:
        """As `RecordedScoring.predict`; the source may be `dataset:NAME@VERSION`, too, and the output `dataset:NAME`,
        of which the answers become a version.

        Raises:
            NotFound: there is no such model, version, dataset or file.
            Conflict: the output is there, or an unfinished scoring of something else is in its place.
            Invalid: the rows do not fit the model: column and row are named.
            Unavailable: the disk is full or read-only.
        """
        given, wanted = str(source), str(output)
        if not (given.startswith((DATASET, TABLE)) or wanted.startswith(DATASET)):
            return super().predict(model, source, output, options, format)
        task = self._task(model, given, wanted, options or ScoringOptions())
        if not wanted.startswith(DATASET):
            path = Path(wanted)
            report = self.carry_out(
                msgspec.structs.replace(task, output=path, told=str(path.absolute()), format=format)
            )
            self._runs.finish(report.run)
            return report
        with tempfile.TemporaryDirectory(dir=self._scratch(), prefix="scoring-") as folder:
            report = self.carry_out(msgspec.structs.replace(task, output=Path(folder) / new_id()))
            made = self._ingest(task.version, wanted, report, Path(report.output), append=False)
        self._runs.finish(report.run)
        return msgspec.structs.replace(report, output=made)

    def deliver(self, order: ScoringOrder) -> ScoringDone:
        """Carry out the order of a job. Given the same order again after any interruption, it goes on, and the answers
        are delivered once; `forget` removes what it keeps for that.

        Raises:
            NotFound, Conflict, Invalid, Unavailable: as `predict` says.
        """
        folder = self._folder(order.run)
        folder.mkdir(parents=True, exist_ok=True)
        told = folder / _DONE
        done = msgspec.json.decode(told.read_bytes(), type=ScoringDone) if told.exists() else None
        version = self._models.get(order.model)
        if done is None:
            done = self._score_order(order, version, folder)
            fresh = told.with_suffix(".new")
            fresh.write_bytes(msgspec.json.encode(done))
            fresh.replace(told)
        made = self._hand_out(order, version, done.report, folder / _ROWS)
        if self._runs.get(order.run).ended_at is None:
            self._runs.finish(order.run)
        return msgspec.structs.replace(done, report=msgspec.structs.replace(done.report, output=made))

    def forget(self, run: str) -> None:
        """Remove what `deliver` keeps of an order, now that nobody will give it again."""
        shutil.rmtree(self._folder(run), ignore_errors=True)

    def newest(self, source: str) -> str:
        """The newest version of a dataset or table that a job reads: `dataset:flights@12`, `table:rows@7`.

        Raises:
            NotFound: there is no such dataset or table.
            Invalid: it is neither.
        """
        ref = parse_ref(source)
        if ref.kind == "dataset":
            return self._datasets.get(source).ref
        return str(ref.at(self._tables.version(_table_name(ref))))

    def _score_order(self, order: ScoringOrder, version: ModelVersion, folder: Path) -> ScoringDone:
        if (folder / _ROWS).exists():  # written whole, but what was counted of it was not kept
            shutil.rmtree(folder / _ROWS)
        task = self._task(order.model, order.source, order.output, order.options, order.since)
        tags = {"scoring.job": order.job}
        counting = Counting(task.bundle, order.options.prefix) if order.watched else None
        named = msgspec.structs.replace(task, output=folder / _ROWS, run=order.run, tags=tags)
        report = self.carry_out(named, counting)
        return ScoringDone(report=report, counts=b"" if counting is None else counting.counts.to_bytes())

    def _hand_out(self, order: ScoringOrder, version: ModelVersion, report: ScoringReport, rows: Path) -> str:
        """Bring the answers to where the job wants them, once; the ref of what they became."""
        import polars as pl

        ref = parse_ref(order.output)
        if ref.kind == "dataset":
            return self._ingest(version, order.output, report, rows, append=order.append)
        frame, name, once = pl.scan_parquet(rows / "*.parquet"), _table_name(ref), (f"scoring {order.run}", 1)
        write = self._tables.append if order.append else self._tables.overwrite
        made = str(ref.at(write(name, frame, app_transaction=once)))
        self._runs.log_output(order.run, made)
        return made

    def _ingest(self, version: ModelVersion, output: str, report: ScoringReport, rows: Path, *, append: bool) -> str:
        run = f"run:{report.run}"
        name = parse_ref(output, "dataset").name
        made = self._datasets.ingest(
            name,
            rows,
            mode="append" if append and self._has(name) else "replace",
            message=f"answers of {version.ref} for {report.input}",
            once=run,
            derived_from=[run, version.ref],
        )
        self._runs.log_output(report.run, made.ref, made.digest)
        return made.ref

    def _task(self, model: str, source: str, output: str, options: ScoringOptions, since: int | None = None) -> Task:
        version = self._models.get(model)
        bundle = self._models.bundle(version.ref)
        rows, read, digest = self._open(source, since, bundle.signature)
        return Task(
            version=version,
            bundle=bundle,
            rows=rows,
            source=read,
            output=Path(),
            told=output,
            options=options,
            inputs=((read, digest),) if digest else (),
        )

    def follows(self, source: str, since: int) -> bool:
        """Whether the rows of a version are those of version `since` and others that were added to them."""
        return self._added(parse_ref(source), since) is not None

    def _open(self, source: str, since: int | None, signature: Signature) -> tuple[Rows, str, str]:
        """The rows, what they are called, and the digest of what they are a version of, if they are of one.

        Raises:
            Conflict: the rows after version `since` cannot be told from those before.
        """
        if not source.startswith((DATASET, TABLE)):
            return open_rows(Path(source), signature), source, ""
        ref = parse_ref(source)
        if ref.kind == "table":
            ref = ref if ref.version is not None else ref.at(self._tables.version(_table_name(ref)))
            frame, digest = self._tables.scan(_table_name(ref), ref.version), digest_value([str(ref)])
        else:
            version = self._datasets.get(source)
            ref, digest = parse_ref(version.ref), version.digest
            frame = self._datasets.scan(version.ref)
        if since is not None:
            added = self._added(ref, since)
            if added is None:
                raise Conflict(f"the rows of {ref} are not those of version {since} and more", next_step="score all")
            frame = added
        mark = f"{ref}:{digest}" + ("" if since is None else f" since {since}")
        return rows_of(frame, mark, Place(str(ref), ref.kind)), str(ref), digest

    def _added(self, ref: Ref, since: int) -> pl.LazyFrame | None:
        if ref.kind == "dataset":
            return self._datasets.added(str(ref), since)
        return self._tables.added(_table_name(ref), since, ref.version or 0)

    def _has(self, dataset: str) -> bool:
        try:
            self._datasets.get(dataset)
        except NotFound:
            return False
        return True

    @property
    def _tables(self) -> TableStore:
        """Delta tables in the project's folder."""
        return TableStore(self.stores.root)

    def _scratch(self) -> Path:
        found = self.stores.data / "scoring"
        found.mkdir(parents=True, exist_ok=True)
        return found

    def _folder(self, run: str) -> Path:
        return self._scratch() / parse_ref(run, "run").name


def _table_name(ref: Ref) -> str:
    """The path of a table in the project's folder.

    Raises:
        Invalid: it is hidden: there are the workspace's own.
    """
    if any(part.startswith((".", "_")) for part in ref.name.split("/")):
        raise Invalid(f"{ref.name!r} cannot be a table of a job", next_step="name a folder that is not hidden")
    return ref.name
