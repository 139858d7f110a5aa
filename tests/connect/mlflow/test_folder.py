"""Reading a folder `mlruns`: what old and new releases of MLflow wrote, what was moved, cut off or damaged."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from loopwright.connect import Plan, import_mlflow, open_mlflow_store
from loopwright.core import Invalid, new_id
from loopwright.workspace import open_workspace


class Store:
    """A folder as MLflow writes it, with one experiment."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.write("7/meta.yaml", "experiment_id: '7'\nname: first\nartifact_location: /gone/7\ncreation_time: 1000\n")

    def write(self, path: str, text: str) -> None:
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(text.encode())

    def run(self, **meta: object) -> str:
        id = new_id()
        told = {"run_id": id, "status": 3, "start_time": 1_700_000_000_000, "lifecycle_stage": "active", **meta}
        self.write(f"7/{id}/meta.yaml", "".join(f"{key}: {value}\n" for key, value in told.items()))
        return id


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "mlruns")


def test_points_keep_value_step_and_time_whatever_release_wrote_their_lines(store: Store) -> None:
    run = store.run(end_time=1_700_000_060_000)
    lines = ["5 1.5", "6 nan 1", "7 -inf 2", "8 0.25 9007199254740993", "9 0.75 3 flights abc"]
    store.write(f"7/{run}/metrics/val/loss", "".join(f"{line}\n" for line in lines))
    source = open_mlflow_store(str(store.root))
    [[held]] = source.runs("7")
    assert (held.points, held.latest) == (5, [("val/loss", 0.75, 3, 9)])
    [piece] = source.points([held])
    columns = piece[run, "val/loss"]
    steps, values = [0, 1, 2, 2**53 + 1, 3], list(columns.values)
    assert list(columns.steps) == steps
    assert (values[0], values[2:]) == (1.5, [-math.inf, 0.25, 0.75])
    assert math.isnan(values[1])


def test_a_line_that_is_half_written_or_damaged_is_left_out_and_told(store: Store, tmp_path: Path) -> None:
    run = store.run()
    store.write(f"7/{run}/metrics/loss", "5 1.5 0\nnonsense\n6 2.5 1\n7 3.")
    with open_workspace(tmp_path / "ws") as ws:
        report = import_mlflow(ws, open_mlflow_store(str(store.root)), Plan())
        assert ws.runs.history(run, "loss").values == [1.5, 2.5]
    assert [item.what for item in report.omitted] == ["lines that are no points"]


def test_words_files_and_states_come_with_the_run(store: Store, tmp_path: Path) -> None:
    run = store.run(
        run_name="whole", user_id="ann", artifact_uri="file:///gone/7/artifacts", end_time=1_700_000_001_000
    )
    gone = store.run(lifecycle_stage="deleted", deleted_time=1_700_000_009_000, status=4)
    store.write(f"7/{run}/params/a/b", "1\n2")
    store.write(f"7/{run}/tags/note", "näive")
    store.write(f"7/{run}/artifacts/deep/file.txt", "here")
    store.write(f"7/{run}/inputs/x/meta.yaml", "source_type: DATASET\nsource_id: d1\ntags:\n  context: training\n")
    store.write("7/datasets/d1/meta.yaml", "name: flights\ndigest: abc\nsource: '{}'\nsource_type: local\n")
    store.write("7/traces/tr-1/meta.yaml", "trace_id: tr-1\n")
    with open_workspace(tmp_path / "ws") as ws:
        report = import_mlflow(ws, open_mlflow_store(str(store.root)), Plan())
        held = ws.runs.get(run)
        assert (held.name, held.actor, held.status) == ("whole", "ann", "finished")
        assert held.params == {"a/b": "1\n2"}
        assert held.tags["note"] == "näive"
        assert (ws.runs.get(gone).lifecycle, ws.runs.get(gone).status) == ("deleted", "failed")
        _, stream = ws.artifacts.open(f"run:{run}", "deep/file.txt")
        with stream:
            assert stream.read() == b"here"
    assert [(item.what, item.count) for item in report.omitted] == [("traces", 1)]


def test_a_deleted_experiment_is_read_from_the_trash(store: Store) -> None:
    store.write(".trash/8/meta.yaml", "experiment_id: '8'\nname: dropped\nlifecycle_stage: deleted\n")
    found = open_mlflow_store(store.root.as_uri()).experiments()
    assert [(item.id, item.name, item.deleted) for item in found] == [("7", "first", False), ("8", "dropped", True)]


def test_registered_models_keep_numbers_stages_and_aliases(store: Store) -> None:
    store.write("models/net/meta.yaml", "name: net\ndescription: null\ncreation_timestamp: 5\n")
    for number, stage in ((1, "Archived"), (2, "Deleted_Internal"), (10, "Production")):
        store.write(f"models/net/version-{number}/meta.yaml", f"name: net\nversion: {number}\ncurrent_stage: {stage}\n")
    store.write("models/net/aliases/champion", "10")
    [model] = open_mlflow_store(str(store.root)).models()
    assert [(item.version, item.stage) for item in model.versions] == [(1, "Archived"), (10, "Production")]
    assert (model.aliases, model.description) == ({"champion": 10}, "")


def test_yaml_that_would_make_objects_is_refused(store: Store) -> None:
    store.write("9/meta.yaml", "name: !!python/object/apply:os.system ['true']\n")
    with pytest.raises(Invalid, match="cannot be read"):
        open_mlflow_store(str(store.root)).experiments()


def test_links_out_of_the_store_are_not_followed(store: Store, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("token")
    run = store.run()
    store.write(f"7/{run}/params/plain", "1")
    (store.root / f"7/{run}/params/stolen").symlink_to(tmp_path / "secret")
    [[held]] = open_mlflow_store(str(store.root)).runs("7")
    assert held.params == {"plain": "1"}


def test_another_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Invalid, match="holds no MLflow store"):
        open_mlflow_store(str(tmp_path))
