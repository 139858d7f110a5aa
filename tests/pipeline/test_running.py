"""Pipelines run in real processes: outputs, cache, retries, limits, failures, and what is kept of them."""

from __future__ import annotations

import os
import re
import time
from pathlib import Path

import polars as pl
import psutil
import pytest

from loopwright.core import Conflict, Invalid, NotFound, new_id
from loopwright.pipeline import PipelineRun, StepFailed, StepStatus
from loopwright.track import RunStatus

from .conftest import Project  # isort: skip

FLOW = """
import polars as pl
from marks import mark

@step
def load(rows: int) -> pl.DataFrame:
    mark("load")
    print("loading", rows, "rows")
    return pl.DataFrame({"a": range(rows)})

@step
def double(table: pl.DataFrame) -> pl.DataFrame:
    mark("double")
    return table.with_columns(b=pl.col("a") * 2)

@step
def total(table: pl.DataFrame, scale: float) -> dict:
    mark("total")
    context().log_metric("sum", table["b"].sum() * scale)
    context().set_tag("rows", table.height)
    context().log_artifact(b"made by total", "notes/total.txt")
    return {"sum": table["b"].sum() * scale, "table": table}

@step(effect=True)
def publish(value: float) -> str:
    mark("publish")
    return f"published {value}"

@pipeline
def main(rows: int = 4, scale: float = 1.0):
    result = total(double(load(rows)), scale)
    return {"sum": result["sum"], "table": result["table"], "published": publish(result["sum"])}
"""

# The same graph without tables: workers need not load a library of them, so that a run takes a fraction of a second.
PLAIN = """
from marks import mark

@step
def load(rows: int) -> list:
    mark("load")
    return list(range(rows))

@step
def double(values: list) -> list:
    mark("double")
    return [value * 2 for value in values]

@step
def total(values: list, scale: float) -> dict:
    mark("total")
    context().log_metric("sum", sum(values) * scale)
    context().set_tag("rows", len(values))
    context().log_artifact(b"made by total", "notes/total.txt")
    return {"sum": sum(values) * scale}

@step(effect=True)
def publish(value: float) -> str:
    mark("publish")
    return f"published {value}"

@pipeline
def main(rows: int = 4, scale: float = 1.0):
    result = total(double(load(rows)), scale)
    return {"sum": result["sum"], "published": publish(result["sum"])}
"""


def cached(run: PipelineRun) -> dict[str, bool]:
    return {step.name: step.cached for step in run.steps}


@pytest.mark.slow
def test_a_pipeline_hands_out_what_its_steps_made(project: Project) -> None:
    project.write("flow.py", FLOW)
    started = time.perf_counter()
    run = project.run(rows="5", scale=0.5)
    seconds = time.perf_counter() - started
    assert (run.status, run.outputs["sum"], run.outputs["published"]) == ("finished", 10.0, "published 10.0")
    assert run.outputs["table"]["codec"] == "polars"
    assert project.pipelines.load(run.run_id, "table").to_dict(as_series=False) == {
        "a": [0, 1, 2, 3, 4],
        "b": [0, 2, 4, 6, 8],
    }
    assert project.calls() == ["load", "double", "total", "publish"]
    assert project.pipelines.get(run.ref) == run
    assert seconds < 120

    kept = project.runs.get(run.run_id)
    assert (kept.kind, kept.experiment, kept.status) == ("pipeline", "main", "finished")
    assert kept.params == {"rows": "5", "scale": "0.5"}
    assert kept.metrics == {"sum": 10.0}
    assert kept.tags == {"pipeline": "flow:main", "seed": "0", "rows": "5"}
    assert project.runs.artifact(run.run_id, "notes/total.txt") == b"made by total"
    assert project.runs.artifact(run.run_id, "logs/load.txt") == b"loading 5 rows\n"
    kinds = [event.kind for event in project.stores.events.read(subject=run.ref)]
    assert kinds == ["run.started", "run.finished"]


@pytest.mark.slow
def test_steps_that_nothing_changed_for_are_not_run_again(project: Project) -> None:
    project.write("flow.py", FLOW)
    first = project.run()
    project.forget_calls()
    again = project.run()
    assert cached(again) == {"load": True, "double": True, "total": True, "publish": False}
    assert project.calls() == ["publish"]
    assert again.outputs == first.outputs
    assert {step.origin for step in again.steps[:3]} == {first.run_id}
    kept = project.runs.get(again.run_id)
    assert (kept.metrics, kept.tags["rows"]) == ({"sum": 12.0}, "4")
    assert project.runs.artifact(again.run_id, "notes/total.txt") == b"made by total"


@pytest.mark.slow
def test_a_cached_step_is_not_on_record_before_its_notes_are(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    from loopwright.pipeline.notes import NoteTaker

    project.write("flow.py", PLAIN)
    project.run()
    run_id = new_id()

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(NoteTaker, "_write", killed)
        with pytest.raises(KeyboardInterrupt):
            project.pipelines.run("flow:main", run_id=run_id)
    assert project.runs.get(run_id).metrics == {}
    project.pipelines.run("flow:main", run_id=run_id)
    assert project.runs.get(run_id).metrics == {"sum": 12.0}


@pytest.mark.parametrize(
    ("old", "new", "ran"),
    [
        ("value * 2 for", "value * 3 for", ["double", "total", "publish"]),
        ("in values]", "in values]  # twice", ["publish"]),
        ("value * 2 for", "2 * value for", ["double", "publish"]),
        pytest.param("rows: int = 4", "rows: int = 5", ["load", "double", "total", "publish"], marks=pytest.mark.slow),
        ("scale: float = 1.0", "scale: float = 2.0", ["total", "publish"]),
    ],
)
def test_a_change_runs_what_depends_on_it(project: Project, old: str, new: str, ran: list[str]) -> None:
    """`2 * value` is other code with the same outcome: `double` runs again, what follows from its output does not."""
    project.write("flow.py", PLAIN)
    project.run()
    project.forget_calls()
    assert old in PLAIN
    project.write("flow.py", PLAIN.replace(old, new))
    project.run()
    assert project.calls() == ran


@pytest.mark.slow
def test_a_file_that_is_edited_twice_in_a_second_runs_as_it_is_now(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Python would take the bytecode that it kept for current: neither the source's size nor its second has changed."""
    monkeypatch.delenv("PYTHONDONTWRITEBYTECODE", raising=False)
    path = project.write("flow.py", PLAIN)
    os.utime(path, (1_700_000_000, 1_700_000_000))
    assert project.run().outputs["sum"] == 12.0
    project.write("flow.py", PLAIN.replace("value * 2 for", "value * 3 for"))
    os.utime(path, (1_700_000_000, 1_700_000_000))
    assert project.run().outputs["sum"] == 18.0


@pytest.mark.slow
def test_the_cache_can_be_left_aside_and_needs_its_objects(project: Project) -> None:
    project.write("flow.py", PLAIN)
    first = project.run()
    project.forget_calls()
    assert not any(cached(project.pipelines.run("flow:main", use_cache=False)).values())
    assert len(project.calls()) == 4
    [load] = [step for step in first.steps if step.name == "load"]
    assert load.output is not None
    project.stores.objects.delete(load.output.digest)
    assert cached(project.run())["load"] is False


@pytest.mark.slow
def test_a_seed_is_a_part_of_the_run(project: Project) -> None:
    project.write(
        "flow.py",
        """
        import random
        @step
        def draw(n: int) -> list:
            import numpy
            return [random.random(), float(numpy.random.rand()), context().seed, list({"a", "b", "c"})]
        @pipeline
        def main():
            return {"x": draw(1), "y": draw(2)}
        """,
    )
    runs = [project.pipelines.run("flow:main", use_cache=False, seed=seed) for seed in (1, 1, 2)]
    draws = [run.outputs for run in runs]
    assert draws[0] == draws[1]
    assert draws[0]["x"][:3] != draws[2]["x"][:3]
    assert draws[0]["x"][:3] != draws[0]["y"][:3]
    assert [project.runs.get(run.run_id).tags["seed"] for run in runs] == ["1", "1", "2"]


FAILING = """
from marks import mark

@step
def good():
    mark("good")
    return 1

@step
def bad(value):
    rows = []
    return helper(rows)

def helper(rows):
    if not Path(os.environ["LOOPWRIGHT_WORKSPACE"], "mended").exists():
        raise ValueError(f"no rows in {rows}")
    return "mended"

@pipeline
def main():
    return bad(good())
"""


def test_a_step_that_raises_fails_the_run_and_keeps_the_users_traceback(project: Project) -> None:
    path = project.write("flow.py", FAILING)
    with pytest.raises(StepFailed) as caught:
        project.run()
    failed = caught.value
    line = path.read_text().split("\n").index('        raise ValueError(f"no rows in {rows}")') + 1
    assert failed.where == f"{path}:{line}"
    assert "step 'bad' of flow:main failed: ValueError: no rows in []" in str(failed)
    assert failed.run_id in str(failed)
    run = project.runs.get(failed.run_id)
    assert (run.status, run.error) == ("failed", "step 'bad' of flow:main failed: ValueError: no rows in []")
    kept = project.runs.artifact(run.id, "error/traceback.txt").decode()
    assert "in bad" in kept
    assert "in helper" in kept
    assert "ValueError: no rows in []" in kept
    assert "worker.py" not in kept
    steps = {step.name: step.status for step in project.pipelines.get(run.id).steps}
    assert steps == {"good": StepStatus.FINISHED, "bad": StepStatus.FAILED}
    assert [event.kind for event in project.stores.events.read(subject=run.ref)][-1] == "run.failed"


@pytest.mark.slow
def test_a_failed_run_goes_on_under_its_id(project: Project) -> None:
    project.write("flow.py", FAILING)
    run_id = new_id()
    with pytest.raises(StepFailed):
        project.pipelines.run("flow:main", run_id=run_id)
    (project.root / "mended").touch()
    run = project.pipelines.run("flow:main", run_id=run_id)
    assert (run.run_id, run.outputs) == (run_id, {"result": "mended"})
    assert project.calls() == ["good"]
    assert cached(run) == {"good": True, "bad": False}
    with pytest.raises(Conflict, match="has finished"):
        project.pipelines.run("flow:main", run_id=run_id)


@pytest.mark.slow
def test_a_run_that_goes_on_must_be_the_same_run(project: Project) -> None:
    project.write("flow.py", FAILING.replace("def main():", "def main(x: int = 1):") + "\nother = main\n")
    run_id = new_id()
    with pytest.raises(StepFailed):
        project.pipelines.run("flow:main", run_id=run_id)
    with pytest.raises(Conflict, match="other parameters"):
        project.pipelines.run("flow:main", {"x": 2}, run_id=run_id)
    with pytest.raises(Conflict, match="is one of flow:main"):
        project.pipelines.run("flow:other", run_id=run_id)
    with pytest.raises(Invalid, match="is not a run id"):
        project.pipelines.run("flow:main", run_id="mine")


@pytest.mark.slow
def test_an_effect_is_had_once_in_a_run_that_goes_on(project: Project) -> None:
    project.write(
        "flow.py",
        """
        from marks import mark
        @step(effect=True)
        def register():
            mark("register")
            return "model:x@1"
        @step
        def after(ref):
            if not Path(os.environ["LOOPWRIGHT_WORKSPACE"], "mended").exists():
                os._exit(7)
            return ref
        @pipeline
        def main():
            return after(register())
        """,
    )
    run_id = new_id()
    with pytest.raises(StepFailed, match=r"ended with exit code 7"):
        project.pipelines.run("flow:main", run_id=run_id)
    (project.root / "mended").touch()
    assert project.pipelines.run("flow:main", run_id=run_id).outputs == {"result": "model:x@1"}
    assert project.calls() == ["register"]
    project.run()
    assert project.calls() == ["register", "register"]


@pytest.mark.slow
def test_a_step_is_tried_again_as_often_as_it_may(project: Project) -> None:
    project.write(
        "flow.py",
        """
        from marks import mark
        def count():
            mark("try")
            return len(Path(os.environ["LOOPWRIGHT_WORKSPACE"], "calls.log").read_text().split())
        @step(retries=2)
        def flaky():
            if count() < 3:
                raise OSError("not yet")
            return "done"
        @step(retries=1)
        def hopeless():
            count()
            raise OSError("never")
        @pipeline
        def main():
            return flaky()
        @pipeline
        def never():
            return hopeless()
        """,
    )
    run = project.run()
    assert (run.outputs, run.steps[0].attempts) == ({"result": "done"}, 3)
    project.forget_calls()
    with pytest.raises(StepFailed, match="OSError: never"):
        project.run("never")
    assert len(project.calls()) == 2


@pytest.mark.slow
def test_a_step_that_takes_too_long_is_killed_with_what_it_started(project: Project) -> None:
    project.write(
        "flow.py",
        """
        import subprocess, sys
        @step(timeout_s=5)
        def slow():
            child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
            Path(os.environ["LOOPWRIGHT_WORKSPACE"], "pids").write_text(f"{os.getpid()} {child.pid}")
            time.sleep(600)
        @pipeline
        def main():
            return slow()
        """,
    )
    with pytest.raises(StepFailed, match="did not end within its 5 s"):
        project.run()
    for pid in (project.root / "pids").read_text().split():
        assert not _alive(int(pid))


def test_a_worker_that_dies_is_named_with_its_last_words(project: Project) -> None:
    project.write(
        "flow.py",
        """
        import signal
        @step
        def crash():
            os.kill(os.getpid(), signal.SIGSEGV)
        @pipeline
        def main():
            return crash()
        """,
    )
    with pytest.raises(StepFailed, match=r"was ended by signal 11"):
        project.run()


def test_independent_steps_run_at_once_and_are_stopped_when_one_fails(project: Project) -> None:
    project.write(
        "flow.py",
        """
        @step
        def wait(name: str):
            root = Path(os.environ["LOOPWRIGHT_WORKSPACE"])
            (root / f"started-{name}").write_text(str(os.getpid()))
            deadline = time.monotonic() + 100
            while not all((root / f"started-{other}").exists() for other in ("a", "b")):
                if time.monotonic() > deadline:
                    raise TimeoutError("the other never began")
                time.sleep(0.01)
            if name == "b":
                raise ValueError("b fails")
            time.sleep(600)
        @step
        def after(a, b):
            return 1
        @pipeline
        def main():
            return after(wait("a"), wait("b"))
        """,
    )
    started = time.monotonic()
    with pytest.raises(StepFailed, match="b fails") as caught:
        project.pipelines.run("flow:main", workers=2)
    assert time.monotonic() - started < 200  # not for the 600 s of the step that is stopped
    steps = {step.name: step.status for step in project.pipelines.get(caught.value.run_id).steps}
    assert steps == {"wait": StepStatus.STOPPED, "wait-2": StepStatus.FAILED, "after": StepStatus.STOPPED}
    assert not _alive(int((project.root / "started-a").read_text()))


def test_nothing_is_left_behind(project: Project) -> None:
    project.write("flow.py", FAILING)
    with pytest.raises(StepFailed):
        project.run()
    assert list((project.root / ".loopwright" / "scratch").iterdir()) == []
    assert [
        child for child in psutil.Process().children() if "loopwright.pipeline.worker" in " ".join(child.cmdline())
    ] == []


def test_folders_of_dead_processes_are_swept(project: Project) -> None:
    project.write("flow.py", PLAIN)
    scratch = project.root / ".loopwright" / "scratch"
    dead, mine = scratch / "999999999-x", scratch / f"{os.getpid()}-x"
    for folder in (dead, mine):
        folder.mkdir(parents=True)
    project.run()
    assert (dead.exists(), mine.exists()) == (False, True)


@pytest.mark.slow
def test_refs_of_datasets_are_pinned_for_the_run(project: Project) -> None:
    project.datasets.ingest("flights", pl.DataFrame({"a": [1, 2]}))
    project.datasets.ingest("weather", pl.DataFrame({"t": [1.0]}))
    project.write(
        "flow.py",
        """
        from marks import mark
        @step
        def load(flights: str, weather: str) -> dict:
            mark("load")
            ws = context().ws
            return {"refs": [flights, weather], "rows": ws.datasets.read(flights).height, "actor": ws.scope.cause}
        @pipeline
        def main(flights: str = "dataset:flights"):
            return load(flights, "dataset:weather")
        """,
    )
    first = project.run()
    assert first.outputs["result"]["refs"] == ["dataset:flights@1", "dataset:weather@1"]
    assert first.outputs["result"]["actor"] == first.ref
    assert first.outputs["result"]["rows"] == 2
    run = project.runs.get(first.run_id)
    assert run.params == {"flights": "dataset:flights@1"}
    assert {item.ref for item in run.inputs} == {"dataset:flights@1", "dataset:weather@1"}
    assert all(item.digest for item in run.inputs)
    up = {edge.source: edge.role for edge in project.stores.lineage.trace(first.ref, "up").edges}
    assert up["dataset:flights@1"] == "input"

    assert cached(project.run()) == {"load": True}
    project.datasets.ingest("flights", pl.DataFrame({"a": [1, 2, 3]}))
    assert project.run().outputs["result"]["refs"] == ["dataset:flights@2", "dataset:weather@1"]
    assert project.run(flights="dataset:flights@1").steps[0].cached
    with pytest.raises(NotFound):
        project.run(flights="dataset:nothing")


@pytest.mark.slow
def test_a_run_that_goes_on_keeps_its_versions(project: Project) -> None:
    project.datasets.ingest("d", pl.DataFrame({"a": [1]}))
    project.write("flow.py", FAILING.replace("def main():", 'def main(d: str = "dataset:d"):'))
    run_id = new_id()
    with pytest.raises(StepFailed):
        project.pipelines.run("flow:main", run_id=run_id)
    project.datasets.ingest("d", pl.DataFrame({"a": [2]}))
    (project.root / "mended").touch()
    project.pipelines.run("flow:main", run_id=run_id)
    assert project.pipelines.record(run_id).params == {"d": "dataset:d@1"}


@pytest.mark.parametrize(
    ("ref", "problem"),
    [
        ("flow", "names no function"),
        ("nowhere:main", "no module 'nowhere'"),
        ("flow:nothing", "has no 'nothing'"),
        ("flow:good", "is not a pipeline"),
        ("broken:main", "not_there"),
        ("syntax:main", r"syntax\.py:\d+: SyntaxError"),
    ],
)
def test_a_pipeline_that_cannot_be_built_makes_no_run(project: Project, ref: str, problem: str) -> None:
    project.write("flow.py", FAILING)
    project.write("broken.py", "import not_there\n")
    project.write("syntax.py", "def main(:\n")
    with pytest.raises((Invalid, NotFound), match=problem):
        project.pipelines.run(ref)
    assert project.runs.search() == []


def test_an_output_that_cannot_be_kept_fails_its_step(project: Project) -> None:
    project.write(
        "flow.py",
        """
        @step
        def odd():
            return {"fine": 1, "odd": object()}
        @pipeline
        def main():
            return odd()
        """,
    )
    with pytest.raises(StepFailed, match=r"the output\['odd'\] is a builtins.object, which no codec can keep"):
        project.run()


def test_a_bad_note_does_not_stop_a_step(project: Project) -> None:
    project.write(
        "flow.py",
        """
        @step
        def noisy():
            context().log_metric("", 1.0)
            context().log_metric("fine", float("nan"))
            context().log_output("no ref")
            return 1
        @pipeline
        def main():
            return noisy()
        """,
    )
    run = project.run()
    assert (run.status, project.runs.get(run.run_id).not_finite) == ("finished", {"fine": "NaN"})


def test_an_interrupt_kills_the_run_and_its_workers(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    from loopwright.pipeline import execution

    project.write(
        "flow.py",
        """
        @step
        def slow():
            Path(os.environ["LOOPWRIGHT_WORKSPACE"], "pid").write_text(str(os.getpid()))
            time.sleep(600)
        @pipeline
        def main():
            return slow()
        """,
    )

    def interrupted(*_: object, **__: object) -> object:
        while not (project.root / "pid").exists():
            time.sleep(0.01)
        raise KeyboardInterrupt

    monkeypatch.setattr(execution, "wait", interrupted)
    with pytest.raises(KeyboardInterrupt):
        project.run()
    [run] = project.runs.search()
    assert run.status is RunStatus.KILLED
    assert not _alive(int((project.root / "pid").read_text()))


def test_a_long_parameter_is_cut_in_the_runs_params_only(project: Project) -> None:
    project.write("flow.py", PLAIN.replace("scale: float = 1.0", 'scale: float = 1.0, text: str = ""'))
    text = "x" * 20_000
    run = project.run(text=text)
    assert re.fullmatch(
        r"x{200}… \(20000 characters, digest [0-9a-f]{16}\)", project.runs.get(run.run_id).params["text"]
    )
    assert project.pipelines.record(run.run_id).params["text"] == text


def test_a_folder_output_is_read_where_the_reader_says(project: Project, tmp_path: Path) -> None:
    project.write(
        "flow.py",
        """
        @step
        def make() -> Path:
            folder = context().folder / "out"
            folder.mkdir()
            (folder / "a.txt").write_text("hello")
            return folder
        @step
        def read(folder: Path) -> str:
            return (folder / "a.txt").read_text()
        @pipeline
        def main():
            folder = make()
            return {"folder": folder, "text": read(folder)}
        """,
    )
    run = project.run()
    assert run.outputs["text"] == "hello"
    target = tmp_path / "read"
    target.mkdir()
    assert (project.pipelines.load_into(run.run_id, "folder", target) / "a.txt").read_text() == "hello"
    with pytest.raises(Invalid, match="its outputs: folder, text"):
        project.pipelines.load(run.run_id, "nothing")


def _alive(pid: int) -> bool:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        if not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
            return False
        time.sleep(0.05)
    return True
