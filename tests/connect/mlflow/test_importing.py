"""What an import does with a source, whichever door it came through: here one that is a list in memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import pytest

from loopwright.connect import Plan, Report, import_mlflow, open_mlflow_server, open_mlflow_store
from loopwright.connect.mlflow.files import FolderFiles, open_files
from loopwright.connect.mlflow.model import Files, SourceExperiment, SourceLogged, SourceModel, SourceRun, SourceVersion
from loopwright.core import Invalid, NotFound, Unavailable, new_id
from loopwright.track import Columns, columns_of
from loopwright.workspace import Workspace, open_workspace

if TYPE_CHECKING:
    from tests.servers_bytes import S3Place


class Listed:
    """A source whose runs have a hundred points of `loss` each, and a file."""

    origin = "mlflow list"

    def __init__(self, folder: Path, runs: Sequence[SourceRun], models: Sequence[SourceModel] = ()) -> None:
        self.folder, self.listed, self.registered = folder, list(runs), list(models)
        self.asked: list[str] = []

    def experiments(self) -> Sequence[SourceExperiment]:
        return [SourceExperiment("1", "first"), SourceExperiment("2", "dropped", deleted=True)]

    def runs(self, experiment_id: str) -> Iterator[list[SourceRun]]:
        yield [run for run in self.listed if run.experiment_id == experiment_id]

    def points(self, runs: Sequence[SourceRun]) -> Iterator[Mapping[tuple[str, str], Columns]]:
        for run in runs:
            self.asked.append(run.id)
            yield {(run.id, "loss"): columns_of(range(100), range(100), [0.5] * 100)}

    def logged_models(self, experiment_id: str) -> Iterator[SourceLogged]:
        yield from ()

    def models(self) -> Iterator[SourceModel]:
        yield from self.registered

    def files(self, owner: str, uri: str) -> Files:
        if uri == "nowhere":
            raise Unavailable("its files are nowhere")
        return FolderFiles(self.folder)

    def left_behind(self) -> dict[str, int]:
        return {"traces": 3}

    def close(self) -> None:
        pass


@pytest.fixture
def ws(tmp_path: Path, with_schema: Callable[[Path], Path]) -> Iterator[Workspace]:
    """An empty workspace."""
    with open_workspace(with_schema(tmp_path / "ws")) as opened:
        yield opened


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with one file of three bytes, and a link that leads out of it."""
    made = tmp_path / "files"
    (made / "model").mkdir(parents=True)
    (made / "model" / "MLmodel").write_bytes(b"abc")
    (tmp_path / "secret").write_text("secret")
    (made / "link").symlink_to(tmp_path / "secret")
    return made


def a_run(**more: object) -> SourceRun:
    """A finished run of the first experiment with a hundred points."""
    run = SourceRun(
        id=new_id(), experiment_id="1", status="FINISHED", start_ms=5, end_ms=9, artifact_uri="x", points=100
    )
    return msgspec.structs.replace(run, **more)


def omitted(report: Report) -> dict[str, str]:
    return {item.what: item.reason for item in report.omitted}


@pytest.mark.slow
def test_a_run_is_asked_for_once_and_again_only_when_it_has_changed(ws: Workspace, folder: Path) -> None:
    source = Listed(folder, [a_run(), a_run()])
    first, again = (import_mlflow(ws, source, Plan()) for _ in range(2))
    source.listed[1] = msgspec.structs.replace(source.listed[1], tags={"new": "yes"})
    third = import_mlflow(ws, source, Plan())
    ids = [run.id for run in source.listed]
    assert source.asked == [*ids, ids[1]]
    assert (first.counts["points"], first.counts["files"], first.bytes) == (200, 2, 6)
    assert (again.counts, again.there["runs"], third.there) == ({}, 2, {"experiments": 2, "runs": 1, "files": 1})
    assert ws.runs.get(ids[1]).tags["new"] == "yes"
    assert len(ws.runs.history(ids[1], "loss").steps) == 100


def test_deleted_things_arrive_deleted_and_whole(ws: Workspace, folder: Path) -> None:
    gone, with_experiment = a_run(deleted=True, deleted_ms=77_000), a_run(experiment_id="2")
    import_mlflow(ws, Listed(folder, [gone, with_experiment]), Plan())
    assert ws.runs.search() == []
    assert ws.experiments.get("dropped").lifecycle == "deleted"
    assert ws.runs.get(gone.id).lifecycle == "deleted"
    assert len(ws.runs.history(gone.id, "loss").steps) == 100
    ws.experiments.restore("dropped")
    assert [run.id for run in ws.runs.search()] == [with_experiment.id]


def test_a_run_whose_files_cannot_be_read_is_tried_again(ws: Workspace, folder: Path) -> None:
    source = Listed(folder, [a_run(artifact_uri="nowhere")])
    first = import_mlflow(ws, source, Plan())
    source.listed[0] = msgspec.structs.replace(source.listed[0], artifact_uri="x")
    second = import_mlflow(ws, source, Plan())
    third = import_mlflow(ws, source, Plan())
    assert omitted(first)[f"files of run:{source.listed[0].id}"] == "its files are nowhere"
    assert (second.counts["files"], third.there["runs"]) == (1, 1)


def test_what_cannot_be_kept_is_told_and_the_rest_is_kept(ws: Workspace, folder: Path) -> None:
    run = a_run(params={"ok": "1", "long": "x" * 10_001}, tags={"nul": "\x00"})
    report = import_mlflow(ws, Listed(folder, [run, a_run(id="not-an-id")]), Plan())
    told = omitted(report)
    assert f"param 'long' of run {run.id}" in told
    assert f"tag 'nul' of run {run.id}" in told
    assert "is not a run id" in told["run not-an-id"]
    assert told["traces"] == "an import carries no such thing"
    assert ws.runs.get(run.id).params == {"ok": "1"}


def test_a_run_of_our_own_is_left_alone(ws: Workspace, folder: Path) -> None:
    own = ws.runs.start(name="ours")
    report = import_mlflow(ws, Listed(folder, [a_run(id=own.id)]), Plan())
    assert "that no import brought" in omitted(report)[f"run {own.id}"]
    assert ws.runs.get(own.id) == own


def test_versions_keep_numbers_files_and_aliases_and_clash_with_nothing(ws: Workspace, folder: Path) -> None:
    run = a_run()
    versions = [
        SourceVersion(version=number, source=f"runs:/{run.id}/model", run_id=run.id, stage="Staging")
        for number in (2, 5)
    ]
    source = Listed(folder, [run], [SourceModel(name="net", aliases={"best": 5, "lost": 4}, versions=versions)])
    report = import_mlflow(ws, source, Plan())
    held = ws.models.get("model:net@best")
    assert (held.version, held.stage, held.kind, held.run) == (5, "Staging", "mlflow", run.id)
    assert [item.version for item in ws.models.versions("net")] == [5, 2]
    assert "which is not here" in omitted(report)["alias @lost of model 'net'"]
    other = [msgspec.structs.replace(versions[0], source="s3://other/place")]
    clash = import_mlflow(ws, Listed(folder, [], [SourceModel(name="net", versions=other)]), Plan())
    assert "number 2 of 'net' was given to another version" in omitted(clash)["model 'net'"]


def test_a_model_of_our_own_is_left_alone(ws: Workspace, folder: Path) -> None:
    ws.models.create("net", description="ours")
    report = import_mlflow(ws, Listed(folder, [], [SourceModel(name="net", description="theirs")]), Plan())
    assert "that no import brought" in omitted(report)["model 'net'"]
    assert ws.models.named("net").description == "ours"


def test_an_import_is_told_in_the_log_of_events_and_starts_nothing(ws: Workspace, folder: Path) -> None:
    run = a_run()
    version = SourceVersion(version=1, source=f"runs:/{run.id}/model", run_id=run.id)
    import_mlflow(ws, Listed(folder, [run], [SourceModel(name="net", versions=[version])]), Plan())
    kinds = {event.kind for event in ws.events.list()}
    assert "mlflow.imported" in kinds
    assert kinds.isdisjoint({"run.started", "run.finished", "model.version_created"})
    assert f"run:{run.id}" in str(ws.lineage.trace("model:net@1"))


def test_a_dry_run_stores_nothing(ws: Workspace, folder: Path) -> None:
    report = import_mlflow(ws, Listed(folder, [a_run()]), Plan(dry_run=True))
    assert (report.counts["runs"], report.counts["points"], report.bytes) == (1, 100, 3)
    assert (ws.runs.search(), ws.experiments.find("first")) == ([], None)


def test_files_are_never_read_through_links_that_lead_out(folder: Path) -> None:
    files = FolderFiles(folder)
    assert [entry.path for entry in files.walk()] == ["model/MLmodel"]
    with pytest.raises(NotFound), files.open("link"):
        pass


def test_proxied_files_are_found_in_the_folder_that_is_named(folder: Path) -> None:
    found = open_files("mlflow-artifacts:/model", str(folder))
    assert [entry.size_bytes for entry in found.walk()] == [3]
    with pytest.raises(Unavailable, match="--artifacts"):
        open_files("mlflow-artifacts:/model")


@pytest.mark.s3
def test_files_in_an_object_store_are_read(s3_place: S3Place, monkeypatch: pytest.MonkeyPatch) -> None:
    import fsspec

    for name, value in s3_place.options.items():
        monkeypatch.setenv(name, value)
    fsspec.filesystem("s3", skip_instance_cache=True).pipe(
        {f"{s3_place.url}/run/a/b.bin": b"abc", f"{s3_place.url}/run/c": b""}
    )
    files = open_files(f"{s3_place.url}/run")
    assert [(entry.path, entry.size_bytes, entry.modified_ms > 0) for entry in files.walk()] == [
        ("a/b.bin", 3, True),
        ("c", 0, True),
    ]
    with files.open("a/b.bin") as stream:
        assert stream.read(10) == b"abc"
    with pytest.raises(NotFound):
        files.open("absent")
    assert list(open_files(f"{s3_place.url}/nothing").walk()) == []


@pytest.mark.parametrize(
    ("uri", "said"),
    [
        ("http://ml.example", "clear text"),
        ("ftp://ml.example", "leads to no MLflow store"),
        ("mysql://db/ml", "leads to no MLflow store"),
    ],
)
def test_an_address_that_leads_nowhere_is_refused(uri: str, said: str) -> None:
    with pytest.raises(Invalid, match=said):
        open_mlflow_store(uri)


def test_a_file_that_holds_no_store_is_refused(tmp_path: Path) -> None:
    (tmp_path / "mlruns").mkdir()
    (tmp_path / "empty.db").touch()
    with pytest.raises(NotFound, match="there is no file"):
        open_mlflow_store(f"sqlite:///{tmp_path}/absent.db")
    with pytest.raises(Invalid, match="holds no MLflow store"):
        open_mlflow_store(str(tmp_path / "empty.db"))
    with pytest.raises(Invalid, match=r"0/meta\.yaml"):
        open_mlflow_store(str(tmp_path / "mlruns"))
    with pytest.raises(Invalid, match="mlflow server"):
        open_mlflow_server("sqlite:///x.db")
