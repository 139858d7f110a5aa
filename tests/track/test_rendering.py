"""What is kept of runs for the next page is what stands in the database, whoever has written."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from sqlalchemy import select
from tests.track.test_processes import OPEN, start

from loopwright.core import Scope
from loopwright.core.operations import Effect, operations_of
from loopwright.store import Doomed, Stores
from loopwright.track import (
    DatasetUse,
    ExperimentService,
    MetricPoint,
    ModelUse,
    RunInput,
    RunService,
    RunStatus,
    View,
    WholeRun,
)
from loopwright.track.adopting import AdoptedRun, AdoptionService
from loopwright.track.collecting import forget_runs
from loopwright.track.contents import load_whole_runs
from loopwright.track.intake import MetricIntake
from loopwright.track.logged.collecting import forget_models
from loopwright.track.logged.service import LoggedModelService
from loopwright.track.logged.tables import logged_models
from loopwright.track.rendering import Renderings, rendered
from loopwright.track.search.held import HeldRuns
from loopwright.track.search.query import Found, Question, search_found
from loopwright.track.search.scanning import search_held
from loopwright.track.search.words import Entity
from loopwright.track.tables import runs as run_rows

AT = datetime(2026, 1, 1, tzinfo=UTC)
USE = DatasetUse("flights", "d1", tags={"mlflow.data.context": "train"})


def text_of(whole: WholeRun) -> bytes:
    return msgspec.json.encode(whole)


def stored(stores: Stores) -> dict[str, bytes]:
    """All runs as they stand in the database, by id."""
    with stores.db.read() as connection:
        wholes = load_whole_runs(connection, connection.execute(select(run_rows)).all())
    return {whole.run.id: text_of(whole) for whole in wholes}


def shown(runs: RunService) -> dict[str, bytes]:
    """All runs as a search shows them, by id."""
    texts, _ = runs.search_rendered("test", text_of, view=View.ALL, limit=1000)
    return {msgspec.json.decode(text)["run"]["id"]: text for text in texts}


def written(stores: Stores, run: str, model: str) -> dict[str, Callable[[], object]]:
    """Each way to change what a run shows, in an order in which each changes something; a name with a dot is that of
    an operation."""
    runs, experiments = RunService(stores, Scope()), ExperimentService(stores, Scope())
    moved = AdoptedRun(
        id=run, experiment_id=runs.get(run).experiment_id, name="moved", status=RunStatus.FAILED, started_at=AT
    )
    return {
        "runs.log_metrics": lambda: runs.log_metrics(run, {"m": 1.0}, at=AT),
        "runs.log_points": lambda: runs.log_points(run, [MetricPoint("m", 2.0, 1, AT)]),
        "runs.log_batch": lambda: runs.log_batch(run, [MetricPoint("n", "NaN", 1, AT)], {"p": "1"}, {"t": "1"}),
        "many points": lambda: runs.log_points(run, [MetricPoint("m", 0.5, step, AT) for step in range(2, 3000)]),
        "intake": lambda: hand_in(stores, run),
        "runs.log_params": lambda: runs.log_params(run, {"q": "2"}),
        "runs.set_tags": lambda: runs.set_tags(run, {"t": "2"}),
        "runs.delete_tag": lambda: runs.delete_tag(run, "t"),
        "runs.log_inputs": lambda: runs.log_inputs(run, [RunInput("dataset:flights@1")]),
        "runs.log_datasets": lambda: runs.log_datasets(run, [USE], [ModelUse("m-1", 1)]),
        "runs.log_models": lambda: runs.log_models(run, [ModelUse(model, 2)]),
        "models removed": lambda: remove_models(stores),
        "experiments.rename": lambda: experiments.rename("default", "renamed"),
        "runs.finish": lambda: runs.finish(run, RunStatus.FAILED, "why"),
        "runs.update": lambda: runs.update(run, name="another"),
        "runs.start": lambda: runs.start(run_id=run),
        "runs.delete": lambda: runs.delete(run),
        "runs.restore": lambda: runs.restore(run),
        "experiments.delete": lambda: experiments.delete("renamed"),
        "experiments.restore": lambda: experiments.restore("renamed"),
        "adopted": lambda: AdoptionService(stores, Scope()).runs([moved]),
        "settled": lambda: AdoptionService(stores, Scope()).settle({}, {run: AT}),
    }


SHOWN_NOWHERE = {"runs.log_output", "runs.pin_baseline", "experiments.create", "experiments.set_tag"}
SHOWN_NOWHERE |= {"experiments.delete_tag"}


def hand_in(stores: Stores, run: str) -> None:
    """Through the group commit, and on PostgreSQL through the statement of small groups, too."""
    intake = MetricIntake(stores)
    try:
        quick = intake.quick()
        for step in (5_000, 5_001):
            intake.submit("default", run, [MetricPoint("m", 1.0 + step, step, AT)]).result()
        if quick is not None:
            while not quick.is_open:  # the thread that stored opens it
                time.sleep(0.001)
            assert quick.begin([intake.batch("default", run, [MetricPoint("m", 9.0, 6_000, AT)], {}, {})])
            while not (quick.is_sent() and quick.outcome()):
                time.sleep(0.001)
    finally:
        intake.close()


def remove_models(stores: Stores) -> None:
    with stores.db.begin() as tx:
        forget_models(tx, select(logged_models.c.id))


def test_every_change_of_a_run_is_seen_by_the_next_search(stores: Stores) -> None:
    runs = RunService(stores, Scope())
    run = runs.start("default", tags={"k": "v"}).id
    model = LoggedModelService(stores, Scope()).create(runs.get(run).experiment_id, "m").id
    assert shown(runs) == stored(stores)
    ways = written(stores, run, model)
    operations = {*operations_of(RunService), *operations_of(ExperimentService)}
    declared = {item.name for item in operations if item.effect is Effect.WRITE}
    assert declared - SHOWN_NOWHERE == {name for name in ways if "." in name}
    for name, change in ways.items():
        before = stored(stores)
        change()
        after = stored(stores)
        assert after != before, f"{name} is to change something"
        assert shown(runs) == after, name


def test_a_run_that_takes_the_number_of_one_that_is_gone_is_shown_as_itself(stores: Stores) -> None:
    runs = RunService(stores, Scope())
    id = "1" * 32
    for name in ("first", "second"):
        runs.start(name=name, run_id=id)
        assert shown(runs) == stored(stores)
        with stores.db.begin() as tx:
            seq = tx.execute(select(run_rows.c.seq)).scalar_one()
            forget_runs(stores, tx, [Doomed(id, "default", seq)])


def test_what_is_kept_stays_within_its_bound_and_the_newest_stays() -> None:
    kept = Renderings(100_000)
    for seq in range(1000):
        kept.keep("test", Found(seq, 1, "e"), b"x" * 600)
        assert kept.size_bytes <= 100_000
    kept.keep("test", Found(5000, 1, "e"), b"x" * 50_000)
    found = kept.find("test", [Found(seq, 1, "e") for seq in (5000, 0, 999)])
    assert found == [None, None, b"x" * 600]
    assert kept.find("test", [Found(999, 2, "e")]) == [None]
    assert kept.find("test", [Found(999, 1, "renamed")]) == [None]
    assert kept.find("other", [Found(999, 1, "e")]) == [None]


NAMES = {(Entity.METRIC, "acc"), (Entity.PARAM, "lr"), (Entity.TAG, "t1"), (Entity.ATTRIBUTE, "status")}
ASKED = (
    Question("default", "metrics.acc > 0.5 and params.lr = '0.1'", order_by=("metrics.acc DESC",), limit=5),
    Question("default", "tags.t1 != '7' and status IN ('finished', 'killed')", view=View.ALL, limit=3),
    Question("default", "metrics.acc <= 0.5", view=View.DELETED, order_by=("start_time ASC",)),
)
WRITER = (
    OPEN
    + """
import random
from loopwright.core import LoopwrightError
from loopwright.track import RunInput, RunStatus
chance, ids = random.Random(worker), run.split(",")
print("ready", flush=True)
sys.stdin.readline()
for turn in range(int(sys.argv[6])):
    one = chance.choice(ids)
    try:
        match chance.randrange(9):
            case 0: runs.set_tags(one, {f"t{chance.randrange(3)}": str(turn)})
            case 1: runs.log_params(one, {f"p{chance.randrange(99)}": str(worker)})
            case 2: runs.log_inputs(one, [RunInput(f"dataset:d@{turn + 1}")])
            case 3: runs.update(one, status=chance.choice(list(RunStatus)))
            case 4: runs.start(run_id=f"{worker}{turn:031x}", params={"lr": "0.1"})
            case 5: (runs.delete if chance.randrange(2) else runs.restore)(one)
            case _: runs.log_metrics(one, {"acc": chance.random(), f"m{worker}": 1.0}, turn)
    except LoopwrightError:
        pass
print("done", flush=True)
"""
)


@pytest.mark.slow
def test_two_processes_write_and_a_third_shows_what_stands_in_its_snapshot(
    stores: Stores, migrations: tuple[str, ...]
) -> None:
    runs = RunService(stores, Scope())
    ids = [runs.start(params={"lr": "0.1"}).id for _ in range(12)]
    writers = [start(WRITER, stores, migrations, ",".join(ids), str(number), "150") for number in range(2)]
    for writer in writers:
        assert writer.stdout is not None
        assert writer.stdin is not None
        assert writer.stdout.readline() == "ready\n"
        writer.stdin.write("go\n")
        writer.stdin.flush()
    kept, asked, states = Renderings(1_000_000), Question("default", view=View.ALL, limit=100), set[Any]()
    held, pages = HeldRuns(stores.db, 1_000_000), list(ASKED)
    held.load(NAMES)
    while any(writer.poll() is None for writer in writers) or not states:
        with stores.db.read() as connection:
            found, _ = search_found(stores.db, connection, asked)
            texts = rendered(kept, connection, "test", found, text_of)
            assert texts == rendered(Renderings(0), connection, "test", found, text_of)
        assert len(texts) >= len(ids)
        states.update(texts)
        with stores.db.read() as connection:
            page = search_held(held, stores.db, connection, pages[0])
            assert page == search_found(stores.db, connection, pages[0])
        pages.append(pages.pop(0))
    assert [writer.communicate(timeout=60)[0] for writer in writers] == ["done\n"] * 2
    assert len(states) > 30
    assert shown(runs) == stored(stores)
