"""The flights demo: a model's whole life over the year 2013, on a simulated clock, through the real server.

Nothing here decides anything. The driver brings data, requests and labels as the year goes by; alerts, retraining,
gates, canaries and rollbacks are the monitors' and the controller's own, by thresholds that the project fixed before.
"""

from __future__ import annotations

import shutil
import sys
import time
from datetime import date, timedelta
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from loopwright.core import Scope
from loopwright.demos.flights import source
from loopwright.demos.flights.replay import Replay
from loopwright.demos.narrator import DECISIONS, Narrator, Stage, decisions_in
from loopwright.demos.process import UpProcess

if TYPE_CHECKING:
    from loopwright.pipeline import Session
    from loopwright.store import Event
    from loopwright.workspace import Workspace

FIRST_DAY, LAST_DAY = date(2013, 4, 1), date(2013, 10, 31)
TRIALS = 5
# From this day on a colleague's new version is pushed, as soon as no other release is under way.
PUSH_FROM = date(2013, 10, 14)


class Decision(msgspec.Struct, frozen=True):
    """A decision as the summary lists it."""

    at: str
    kind: str
    subject: str
    cause: str
    evidence: dict[str, Any]


class Traced(msgspec.Struct, frozen=True):
    """A prediction and every ref that it comes from, nearest first."""

    id: str
    trace: list[str]


class Reproduced(msgspec.Struct, frozen=True):
    """The run that was repeated, and how the repetition compares."""

    run: str
    verdict: str


class Summary(msgspec.Struct, frozen=True):
    """What the demo did, as `--json` prints it."""

    workspace: str
    url: str
    seconds: float
    stages: list[Stage]
    decisions: list[Decision]
    predictions: int
    labels: int
    prediction: Traced
    reproduce: Reproduced
    report: str
    proceed: str


class FlightsStory:
    """Tells the story in a workspace of its own. Use it in a `with`: the server ends with it."""

    def __init__(self, root: Path, narrator: Narrator, *, first: date = FIRST_DAY, last: date = LAST_DAY) -> None:
        """Args:
        root: the workspace's folder; the project's files are copied into it.
        first, last: the days that are replayed.
        """
        self.root, self.narrator, self.first, self.last = root, narrator, first, last
        self.up = UpProcess(root)
        self._begun = time.monotonic()
        self._position = 0
        self._pushed = ""
        self.features: Any = None
        self._ws: Workspace | None = None
        self._replay: Replay | None = None

    def __enter__(self) -> FlightsStory:
        return self

    def __exit__(self, *_: object) -> None:
        if self._replay is not None:
            self._replay.close()
        if self._ws is not None:
            self._ws.close()
        self.up.stop()

    @property
    def ws(self) -> Workspace:
        """The workspace, opened here as well as by the server."""
        assert self._ws is not None
        return self._ws

    @property
    def replay(self) -> Replay:
        """The replay of the year."""
        assert self._replay is not None
        return self._replay

    def tell(self) -> Summary:
        """The whole story.

        Raises:
            Unavailable: the server cannot be started, or stays away.
            Invalid: the data is not installed.
        """
        stage = self.narrator.stage
        with stage("a workspace, the server, the real data"):
            project = self._prepare()
        with stage("ingest and check"):
            self._ingest()
        with stage("features, known at the time"):
            self._bring_online()
        with stage("a baseline, a search, the first version"):
            params, model = self._train()
        with stage("gates and the first release"):
            self._first_release(project, params, model)
        with stage("the year goes by"):
            self._replay_year(params)
        with stage("one prediction, traced to its data"):
            traced, run = self._trace()
        with stage("the run behind it, reproduced"):
            reproduced = self._reproduce(run)
        with stage("the report"):
            report = self._report()
        return self._summary(traced, reproduced, report)

    def _prepare(self) -> Any:
        from loopwright.workspace import open_workspace

        project_files = Path(__file__).parent / "project"
        self.root.mkdir(parents=True, exist_ok=True)
        for file in ("loopwright.toml", "delay.py", "flight_features.py"):
            shutil.copy(project_files / file, self.root / file)
        sources = source.load(source.folder())
        sys.path.insert(0, str(self.root))
        self.features, project = import_module("flight_features"), import_module("delay")
        self._ws = open_workspace(self.root)
        self._replay = Replay(self.up, self._ws, sources, self.features)
        url = self.up.ensure()
        self.narrator.say(f"workspace {self.root}")
        self.narrator.say(f"live pages {url}")
        self.narrator.say(
            f"{sources.flights.height} flights, {sources.weather.height} hours of weather at three airports"
        )
        self.replay.ask(lambda remote: remote.loops.advance_clock(to=source.turn_of(self.first)))
        return project

    def _ingest(self) -> None:
        import polars as pl

        now, sources, datasets = source.turn_of(self.first), self.replay.sources, self.ws.datasets
        flown = datasets.ingest("flights", sources.flights.filter(pl.col("known_at") <= now))
        observed = sources.weather.filter(pl.col("observed_at") < now)
        weather = datasets.ingest("weather", observed)
        self.narrator.say(f"{flown.ref}: {flown.rows} flights flown so far; {weather.ref}: {weather.rows} observations")
        report = datasets.check(flown.ref, self.features.CHECKS)
        for result in report.results:
            mark = "ok  " if result.passed else str(result.severity)
            self.narrator.say(f"{mark}  {result.name}: {result.message}")

    def _bring_online(self) -> None:
        features = self.ws.features
        features.apply(*self.features.DEFINITIONS)
        for done in features.materialise_all([view.name for view in self.features.VIEWS]):
            self.narrator.say(f"{done.ref}: {done.rows} rows, the newest of {done.keys} keys online")

    def _train(self) -> tuple[dict[str, Any], str]:
        """The best parameters of a search, and the first version, made with them."""
        from loopwright.pipeline import RunRequest

        until = {"until": source.turn_of(self.first).isoformat()}
        pipelines = self.ws.pipelines
        with pipelines.session(workers=1) as session:
            base = pipelines.run_in(session, RunRequest("delay:baseline", until, experiment="train"))
            self.ws.runs.pin_baseline("train", base.run_id)
            self.narrator.say(f"baseline, a logistic regression: brier {base.outputs['scores']['brier']:.4f}")
            params = self._search(session, until)
            made = pipelines.run_in(session, RunRequest("delay:train", {**until, **params}))
        model = str(made.outputs["model"])
        self.narrator.say(f"{model}: brier {made.outputs['scores']['brier']:.4f}")
        return params, model

    def _search(self, session: Session, until: dict[str, str]) -> dict[str, Any]:
        from loopwright.train import Space, integer, uniform

        space: dict[str, Space] = {
            "leaves": integer(15, 63),
            "learning_rate": uniform(0.03, 0.15, log=True),
            "min_flights": integer(50, 400, log=True),
        }
        found = self.ws.train.search(
            "delay:candidate",
            space,
            metric="brier",
            direction="minimise",
            trials=TRIALS,
            seed=7,
            params=until,
            session=session,
        )
        pruned = sum(1 for trial in found.trials if trial.state == "pruned")
        best = ", ".join(f"{name} {value:.3g}" for name, value in found.best_params.items())
        self.narrator.say(f"search: {len(found.trials)} trials, {pruned} pruned early; best: {best}")
        return dict(found.best_params)

    def _first_release(self, project: Any, params: dict[str, Any], model: str) -> None:
        loop = msgspec.structs.replace(project.LOOP, params={**project.LOOP.params, **params})
        self.replay.ask(lambda remote: remote.loops.apply(loop))
        self.replay.ask(lambda remote: remote.monitors.apply(project.MONITOR))
        self.replay.ask(lambda remote: remote.loops.release(model))
        self.replay.ask(lambda remote: remote.loops.settle(60.0))
        self._tell_news()

    def _replay_year(self, params: dict[str, Any]) -> None:
        from loopwright.core import progress

        total = (self.last - self.first).days + 1
        with progress("2013", total) as task:

            def each_day(day: date) -> None:
                self._tell_news()
                self._maybe_push(day, params)
                task.advance(1, note=f"{day:%d %B}, {self.replay.counts.predictions} predictions")

            self.replay.run(self.first, self.last, each_day)
        counts = self.replay.counts
        self.narrator.say(
            f"{counts.predictions} predictions asked one by one, {counts.labels} labels a day later, "
            f"{counts.refused} refused, server restarts {self.up.restarts}"
        )

    def _maybe_push(self, day: date, params: dict[str, Any]) -> None:
        """A colleague pushes a version whose features were joined the wrong way; its own offline figures look great."""
        if self._pushed or day < PUSH_FROM:
            return
        if self.replay.ask(lambda remote: remote.loops.runs(active=True)):
            return
        until = source.turn_of(day + timedelta(days=1)).isoformat()
        colleague = self.ws.scoped(Scope(self.ws.scope.project, "user:colleague"))
        made = colleague.pipelines.run("delay:train", {"until": until, "joined": "by_date", **params})
        self._pushed = str(made.outputs["model"])
        self.narrator.say(
            f"{day:%Y-%m-%d}: user:colleague pushes {self._pushed}, offline brier {made.outputs['scores']['brier']:.4f}"
        )
        colleague.loops.release(self._pushed)
        self.replay.ask(lambda remote: remote.loops.settle(60.0))
        self._tell_news()

    def _tell_news(self) -> None:
        for event in self._news():
            if event.kind in DECISIONS:
                self.narrator.decision(event)

    def _news(self) -> list[Event]:
        page = list(self.ws.events.list(after=self._position, limit=10_000))
        self._position = page[-1].position or self._position if page else self._position
        return page

    def _trace(self) -> tuple[Traced, str]:
        identifier = self.replay.acknowledged[-1]
        found = self.replay.ask(lambda remote: remote.lineage.trace(f"prediction:{identifier}", "up"))
        refs = [node.ref for node in found.nodes]
        model = next(ref for ref in refs if ref.startswith("model:"))
        for ref in refs[:14]:
            self.narrator.say(ref)
        if len(refs) > 14:
            self.narrator.say(f"… and {len(refs) - 14} more: loopwright trace prediction:{identifier}")
        return Traced(identifier, refs), self.ws.models.get(model).run

    def _reproduce(self, run: str) -> Reproduced:
        done = self.ws.pipelines.reproduce(run)
        moved = f"; moved: {', '.join(done.moved)}" if done.moved else ""
        self.narrator.say(f"run:{run} again, as run:{done.new_run}: {done.verdict.value}{moved}")
        return Reproduced(run, done.verdict.value)

    def _report(self) -> Path:
        from loopwright.demos.flights.report import write_report

        path = self.root / "report.html"
        write_report(path, self.ws, self.narrator.stages, self.replay.counts)
        self.narrator.say(str(path))
        return path

    def _summary(self, traced: Traced, reproduced: Reproduced, report: Path) -> Summary:
        return Summary(
            workspace=str(self.root),
            url=self.up.url,
            seconds=round(time.monotonic() - self._begun, 2),
            stages=self.narrator.stages,
            decisions=[_decision(event) for event in decisions_in(self.ws)],
            predictions=self.replay.counts.predictions,
            labels=self.replay.counts.labels,
            prediction=traced,
            reproduce=reproduced,
            report=str(report),
            proceed=f"loopwright up --workspace {self.root} --port {self.up.port}",
        )


def _decision(event: Event) -> Decision:
    return Decision(event.at.isoformat(), event.kind, event.subject, event.cause, event.evidence)


__all__ = ["FIRST_DAY", "LAST_DAY", "FlightsStory", "Summary"]
