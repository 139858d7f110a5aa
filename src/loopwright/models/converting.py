"""Pickles become graphs in a confined process: it unpickles, converts and proves, and hands back the bundle's files.

This process reads what came back as data: a manifest, a graph within bounds, sketches. It unpickles nothing.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from loopwright.core import Corrupt, Invalid, check_path
from loopwright.models.bundle import Bundle
from loopwright.models.formats.graphs import check_graph
from loopwright.models.isolated.process import Died, Job, Limits, Refused, WorkerProcess
from loopwright.models.mlflow_folder import is_mlflow, native_file, pickle_of
from loopwright.models.model import Runner
from loopwright.models.pickle_marks import is_pickle
from loopwright.models.predictor import GRAPH_FILE
from loopwright.models.skops_files import untrusted_types

if TYPE_CHECKING:
    import polars as pl

    from loopwright.stats import TableSketch

CONVERTING = Limits(memory_bytes=6 << 30, call_timeout_s=600.0, scratch_bytes=2 << 30, answer_bytes=2 << 30)


def confined_file(model: Any, allow_pickle: bool) -> Path | None:
    """The file that only a confined process may open: a pickle, if that was asked for, or a skops file with types that
    skops does not vouch for. An MLflow folder is its model's file. None where there is no such file.

    Raises:
        Invalid: a skops file is damaged, or needs types of unknown libraries.
    """
    if not isinstance(model, str | Path):
        return None
    path = Path(model)
    if is_mlflow(path):
        held = native_file(path)
        path = held[0] if held else pickle_of(path) or path
    if path.is_file() and path.suffix == ".skops":
        return path if untrusted_types(path) else None
    return _pickle(path) if allow_pickle else None


def _pickle(path: Path) -> Path | None:
    if path.is_file() and path.suffix not in (".onnx", ".skops", ".keras") and is_pickle(path):
        return path
    return None


def convert_elsewhere(
    path: Path, sample: pl.DataFrame, profile: TableSketch, options: Mapping[str, Any], folder: Path
) -> Bundle:
    """The bundle that a confined process makes of a pickle, written into `folder`.

    Args:
        options: keyword arguments of `build_bundle` that JSON can hold.

    Raises:
        Invalid: the pickle cannot be loaded, has no ONNX form, or fails parity.
    """
    import numpy as np

    stream = io.BytesIO()
    sample.write_ipc(stream)
    question = {
        "sample": np.frombuffer(stream.getvalue(), dtype=np.uint8),
        "profile": np.frombuffer(profile.to_bytes(), dtype=np.uint8),
        "options": np.array([msgspec.json.encode(options).decode()], dtype=object),
    }
    try:
        worker = WorkerProcess(Job(Runner.CONVERT, path.name, str(path.parent.resolve())), CONVERTING)
        try:
            files = worker.predict(question)
        finally:
            worker.kill()
    except (Died, Refused) as error:
        raise Invalid(
            f"{path.name} does not become a graph: {error}",
            next_step="a pickle is kept as it is, for a confined process to answer, with allow_code=True as well",
        ) from None
    folder.mkdir(parents=True, exist_ok=True)
    for name, data in files.items():
        place = folder / check_path(name)
        if place.parent != folder:
            raise Corrupt(f"the conversion gave a file {name!r}, which a graph's bundle has not")
        place.write_bytes(data.tobytes())
    return _checked(Bundle(folder))


def _checked(bundle: Bundle) -> Bundle:
    import onnx

    if bundle.manifest.executes_code:
        raise Corrupt("the conversion gave Python in place of a graph")
    bundle.verify()
    graph = onnx.ModelProto()
    graph.ParseFromString((bundle.folder / GRAPH_FILE).read_bytes())
    check_graph(graph)
    return bundle
