"""What one can ask of tracking."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

import msgspec
from sqlalchemy import select

from loopwright.core import Invalid, check_path, operation, parse_ref
from loopwright.store import NotAtAGlanceError
from loopwright.track.active import ActiveRun
from loopwright.track.artifacts import read_artifacts, store_source, the_artifact, write_artifacts
from loopwright.track.comparisons import RunComparisons
from loopwright.track.contents import RunContent
from loopwright.track.model import (
    Artifact,
    Experiment,
    Run,
    RunInput,
    RunPage,
    RunStatus,
    View,
)
from loopwright.track.reading import any_run, load_experiments, load_runs, the_run
from loopwright.track.rendering import Render, Renderings, rendered, renderings_of
from loopwright.track.search.held import HeldRuns, held_runs_of
from loopwright.track.search.query import Question, load_rows, search_found, search_rows
from loopwright.track.search.scanning import search_held
from loopwright.track.tables import experiments
from loopwright.track.vocabulary import KeysInUse, keys_in_use
from loopwright.track.writing import write_inputs

_MAX_PAGE = 50_000


class RunService(RunContent, RunComparisons):
    """Runs of one project. Every change is durable when the method returns."""

    @operation("runs.log_inputs", permission="runs:write", effect="write")
    def log_inputs(self, run: str, inputs: list[RunInput]) -> None:
        """Note what a run read, here and in the lineage.

        Raises:
            NotFound: there is no such run.
            Invalid: one of them is no ref.
        """
        inputs = [msgspec.structs.replace(item, ref=str(parse_ref(item.ref))) for item in inputs]
        with self.stores.db.begin() as tx:
            row = the_run(tx, self.scope.project, run)
            write_inputs(self.stores.db, tx, row.seq, inputs)
            for item in inputs:
                self.stores.lineage.node(tx, item.ref, digest=item.digest, project=self.scope.project)
                self.stores.lineage.edge(tx, item.ref, f"run:{row.id}", "input", self.scope.project)

    @operation("runs.log_output", permission="runs:write", effect="write")
    def log_output(self, run: str, ref: str, digest: str = "") -> None:
        """Note in the lineage what a run made, such as `dataset:predictions@4`.

        Raises:
            NotFound: there is no such run.
            Invalid: `ref` is no ref.
        """
        made = str(parse_ref(ref))
        with self.stores.db.begin() as tx:
            row = the_run(tx, self.scope.project, run)
            self.stores.lineage.node(tx, made, digest=digest, project=self.scope.project)
            self.stores.lineage.edge(tx, f"run:{row.id}", made, "output", self.scope.project)

    @operation("runs.get", permission="runs:read")
    def get(self, run: str) -> Run:
        """One run, by its id or `run:<id>`.

        Raises:
            NotFound: there is no such run.
        """
        with self.stores.db.read() as connection:
            return self._load(connection, run)

    @operation("runs.search", permission="runs:read")
    def search(
        self,
        filter: str = "",
        experiment: str = "",
        limit: int = 100,
        after: str = "",
        order_by: tuple[str, ...] = (),
        experiments: list[str] | None = None,
        view: View = View.ACTIVE,
    ) -> list[Run]:
        """Runs that match a filter, newest first unless ordered otherwise; `search_page` gives a page token, too.

        Args:
            filter: such as `metrics.auc > 0.9 and params.lr = '0.1'`; see `loopwright.track.search.language`.
            experiment: only runs of the experiment of this name.
            limit: runs on a page, at most 50,000.
            after: the page token, or the id of the last run, of the page before this one.
            order_by: such as `("metrics.auc DESC",)`; runs without the value come last.
            experiments: only runs of the experiments with these ids.
            view: active runs, deleted ones, or all.

        Raises:
            Invalid: the filter, the order, the page token or the limit is malformed.
            NotFound: there is no such experiment or no run `after`.
        """
        return self.search_page(filter, experiment, limit, after, order_by, experiments, view).runs

    @operation("runs.search_page", permission="runs:read")
    def search_page(
        self,
        filter: str = "",
        experiment: str = "",
        limit: int = 100,
        after: str = "",
        order_by: tuple[str, ...] = (),
        experiments: list[str] | None = None,
        view: View = View.ACTIVE,
    ) -> RunPage:
        """What `search` finds, with the token for the page after it, which is empty on the last page."""
        asked = self._asked(filter, experiment, limit, after, order_by, experiments, view)
        with self.stores.db.read() as connection:
            held = search_held(self._held, self.stores.db, connection, asked)
            if held is None:
                rows, following = search_rows(self.stores.db, connection, asked)
            else:
                rows, following = load_rows(connection, held[0]), held[1]
            return RunPage(load_runs(connection, rows), following)

    def search_rendered(
        self,
        kind: str,
        render: Render,
        filter: str = "",
        experiment: str = "",
        limit: int = 100,
        after: str = "",
        order_by: tuple[str, ...] = (),
        experiments: list[str] | None = None,
        view: View = View.ACTIVE,
    ) -> tuple[list[bytes], str]:
        """The same runs as texts of a kind, such as a protocol's JSON, and the token. A text is made once for each
        state of a run, and kept within the setting `search_memory_bytes`. No operation: a function is no value.

        Args:
            kind: the name of what `render` makes.
            render: makes the text of a run with what hangs on it, from nothing else.
        """
        asked = self._asked(filter, experiment, limit, after, order_by, experiments, view)
        kept = renderings_of(self.stores.db, self._memory_bytes)
        at_a_glance = self._rendered_at_a_glance(kept, kind, render, asked)
        if at_a_glance is not None:
            return at_a_glance
        with self.stores.db.read() as connection:
            held = search_held(self._held, self.stores.db, connection, asked)
            found, following = search_found(self.stores.db, connection, asked) if held is None else held
            return rendered(kept, connection, kind, found, render), following

    def _rendered_at_a_glance(
        self, kept: Renderings, kind: str, render: Render, asked: Question
    ) -> tuple[list[bytes], str] | None:
        """The page where nothing has changed and all of it is in memory, for one round trip to PostgreSQL."""
        if self.stores.db.dialect == "sqlite" or not self._held.is_quiet:
            return None
        with suppress(NotAtAGlanceError), self.stores.db.glance() as connection:
            held = search_held(self._held, self.stores.db, connection, asked, glance=True)
            return None if held is None else (rendered(kept, connection, kind, held[0], render), held[1])
        return None

    @property
    def _memory_bytes(self) -> int:
        """What each of the two may take: texts of runs, and arrays of what is compared."""
        return self.stores.location.settings.search_memory_bytes // 2

    @property
    def _held(self) -> HeldRuns:
        return held_runs_of(self.stores.db, self._memory_bytes)

    def _asked(
        self,
        filter: str,
        experiment: str,
        limit: int,
        after: str,
        order_by: tuple[str, ...],
        experiments: list[str] | None,
        view: View,
    ) -> Question:
        if not 0 < limit <= _MAX_PAGE:
            raise Invalid(f"a page of {limit} runs cannot be given", next_step=f"ask for 1 to {_MAX_PAGE:,}")
        ids = None if experiments is None else tuple(experiments)
        if experiment:
            with self.stores.db.read() as connection:
                found = self._experiment(connection, experiment).id
            ids = (found,) if ids is None or found in ids else ()
        return Question(self.scope.project, filter, ids, View(view), tuple(order_by), limit, after)

    @operation("runs.keys", permission="runs:read")
    def keys(self, experiment: str = "") -> KeysInUse:
        """The metrics, params and tags that runs of the project have, or those of one experiment.

        Raises:
            NotFound: there is no such experiment.
        """
        with self.stores.db.read() as connection:
            found = self._experiment(connection, experiment).id if experiment else ""
            return keys_in_use(connection, self.scope.project, found)

    @operation("runs.experiments", permission="runs:read")
    def experiments(self, limit: int = 100, after: str = "") -> list[Experiment]:
        """Experiments, newest first; `after` is the id of the last one of the page before."""
        query = select(experiments).where(
            experiments.c.project == self.scope.project, experiments.c.deleted_at.is_(None)
        )
        if after:
            query = query.where(experiments.c.id < after)
        with self.stores.db.read() as connection:
            rows = connection.execute(query.order_by(experiments.c.id.desc()).limit(min(limit, _MAX_PAGE)))
            return load_experiments(connection, list(rows))

    def log_artifact(self, run: str, source: Path | str | bytes, name: str = "") -> list[Artifact]:
        """Keep a file, a folder or bytes with a run; what is at the same path is replaced.

        Args:
            source: a path, or bytes.
            name: the path in the run; by default the file's own name. Needed for bytes.

        Raises:
            NotFound: there is no such run or file.
            Invalid: the name is no safe path.
        """
        with self.stores.db.read() as connection:
            seq = the_run(connection, self.scope.project, run).seq
        kept = source if isinstance(source, bytes) else Path(source)
        artifacts = store_source(self.stores.objects, kept, name, self.stores.clock.now())
        with self.stores.db.begin() as tx:
            write_artifacts(self.stores.db, tx, seq, artifacts)
        return artifacts

    def keep_artifacts(self, run: str, artifacts: list[Artifact]) -> None:
        """Note files that are in the object store already. No operation: a digest from outside proves no right to read.

        Raises:
            NotFound: there is no such run.
            Invalid: a path is not safe.
        """
        for item in artifacts:
            check_path(item.path)
        with self.stores.db.begin() as tx:
            write_artifacts(self.stores.db, tx, the_run(tx, self.scope.project, run).seq, artifacts)

    @operation("runs.artifacts", permission="runs:read")
    def artifacts(self, run: str, folder: str = "") -> list[Artifact]:
        """The files that a run keeps, or those of one folder, by path.

        Raises:
            NotFound: there is no such run.
        """
        with self.stores.db.read() as connection:
            return read_artifacts(connection, any_run(connection, self.scope.project, run).seq, folder.strip("/"))

    def artifact(self, run: str, path: str) -> bytes:
        """The bytes of one artifact.

        Raises:
            NotFound: there is no such run or artifact.
        """
        with self.open_artifact(run, path) as stream:
            return stream.read()

    def open_artifact(self, run: str, path: str) -> BinaryIO:
        """One artifact as a stream, which the caller closes.

        Raises:
            NotFound: there is no such run or artifact.
        """
        with self.stores.db.read() as connection:
            found = the_artifact(connection, any_run(connection, self.scope.project, run), path)
        return self.stores.objects.open(found.digest)

    @contextmanager
    def active(
        self,
        experiment: str = "default",
        name: str = "",
        params: dict[str, str] | None = None,
        tags: dict[str, str] | None = None,
        parent: str = "",
        run_id: str = "",
        kind: str = "run",
    ) -> Iterator[ActiveRun]:
        """A run for the length of a `with` block: finished at its end, failed if it raises, killed if interrupted."""
        started = self.start(experiment, name, params, tags, parent, run_id, kind)
        run = ActiveRun(self, started)
        try:
            yield run
        except (KeyboardInterrupt, SystemExit) as stop:
            self.finish(run.id, RunStatus.KILLED, type(stop).__name__)
            raise
        except BaseException as error:
            run.fail(error)
            raise
        self.finish(run.id)
