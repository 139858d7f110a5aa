"""Batch scoring in a workspace: by the ref of a model, recorded as a run with its lineage."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from loopwright.core import Scope, new_id, parse_ref
from loopwright.serve.batch.faults import Place
from loopwright.serve.batch.model import ScoringOptions, ScoringReport
from loopwright.serve.batch.scoring import score, threads_of
from loopwright.serve.batch.sources import Rows, open_rows, rows_of

if TYPE_CHECKING:
    from loopwright.data import DatasetService
    from loopwright.models import Bundle, ModelService, ModelVersion
    from loopwright.store import Stores
    from loopwright.track import RunService

EXPERIMENT = "scoring"
_DATASET = "dataset:"


class ScoringService:
    """Scores files, tables and datasets with registered models."""

    def __init__(
        self, stores: Stores, scope: Scope, *, models: ModelService, runs: RunService, datasets: DatasetService
    ) -> None:
        self.stores, self.scope = stores, scope
        self._models, self._runs, self._datasets = models, runs, datasets

    def predict(
        self,
        model: str,
        source: str | Path,
        output: str | Path,
        options: ScoringOptions | None = None,
        format: str = "",
    ) -> ScoringReport:
        """Write a model's answers for all rows of a source, and record it as a run of the experiment `scoring`.

        Said again after it was interrupted, it goes on behind its last whole part, in the same run.

        Args:
            model: a version's ref, such as `model:delay@champion`.
            source: a file, a folder of files, a Delta table, or `dataset:NAME@VERSION`.
            output: a file (`.parquet`, `.csv`, `.jsonl`), the name of a folder, or `dataset:NAME`, of which the answers
                become a version.
            format: `delta` appends to the Delta table that `output` names.

        Raises:
            NotFound: there is no such model, version, dataset or file.
            Conflict: the output is there, or an unfinished scoring of something else is in its place.
            Invalid: the rows do not fit the model: column and row are named.
            Unavailable: the disk is full or read-only.
        """
        options = options or ScoringOptions()
        version = self._models.get(model)
        bundle = self._models.bundle(version.ref)
        rows, read = self._open(source, bundle)
        if str(output).startswith(_DATASET):
            return self._into_dataset(version, bundle, rows, read, str(output), options)
        return self._scored(version, bundle, rows, read, Path(output), options, format)

    def _open(self, source: str | Path, bundle: Bundle) -> tuple[Rows, str]:
        """The rows, and what they are called: a dataset by its version, a file by its path."""
        if not str(source).startswith(_DATASET):
            return open_rows(Path(source), bundle.signature), str(source)
        version = self._datasets.get(str(source))
        place = Place(version.ref, "dataset")
        return rows_of(self._datasets.scan(version.ref), f"{version.ref}:{version.digest}", place), version.ref

    def _begin(self, version: ModelVersion, read: str, output: str, known: str) -> str:
        """The id of the run as which a scoring is recorded: the known one goes on."""
        from loopwright.track import RunInput

        params = {"model": version.ref, "input": read, "output": output}
        run = self._runs.start(EXPERIMENT, params=params, kind="scoring", run_id=known).id
        inputs = [RunInput(version.ref, "model", version.bundle)]
        if read.startswith(_DATASET):
            inputs.append(RunInput(read, "rows", self._datasets.get(read).digest))
        self._runs.log_inputs(run, inputs)
        return run

    def _scored(
        self,
        version: ModelVersion,
        bundle: Bundle,
        rows: Rows,
        read: str,
        output: Path,
        options: ScoringOptions,
        format: str = "",
        told: str = "",
    ) -> ScoringReport:
        """Score, within a run that tells how it went. `told` is the output's name for people."""
        from loopwright.track import RunStatus

        begun: list[str] = []

        def begin(known: str) -> str:
            begun.append(self._begin(version, read, told or str(output.absolute()), known))
            return begun[0]

        try:
            report = score(
                bundle.predictor(threads_of(options)),
                rows,
                output,
                options,
                model=version.ref,
                digest=version.bundle,
                source=read,
                format=format,
                begin=begin,
            )
        except BaseException as error:
            for run in begun:
                self._runs.finish(run, RunStatus.FAILED, f"{type(error).__name__}: {error}"[:2000])
            raise
        figures = {"rows": report.rows, "bad_rows": report.bad_rows, "resumed_rows": report.resumed_rows}
        seconds = {"seconds": report.seconds}
        self._runs.log_metrics(report.run, {**{key: float(value) for key, value in figures.items()}, **seconds})
        if not told:
            self._runs.finish(report.run)
        return report

    def _into_dataset(
        self, version: ModelVersion, bundle: Bundle, rows: Rows, read: str, output: str, options: ScoringOptions
    ) -> ScoringReport:
        name = parse_ref(output, "dataset").name
        scratch = self.stores.location.root / "scratch"
        scratch.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=scratch, prefix="scoring-") as folder:
            place = Path(folder) / new_id()
            report = self._scored(version, bundle, rows, read, place, options, told=output)
            run = report.run
            made = self._datasets.ingest(
                name, place, message=f"answers of {version.ref} for {read}", derived_from=[f"run:{run}", version.ref]
            )
        self._runs.log_output(run, made.ref, made.digest)
        self._runs.finish(run)
        return msgspec.structs.replace(report, output=made.ref)
