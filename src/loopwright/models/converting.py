"""Files that this process does not open become graphs in a confined one: it opens, converts and proves, and hands back
the bundle's files.

Those are pickles; files that their libraries read in C++, where damaged bytes end the process; and TensorFlow's
SavedModels, which are programs. This process reads what came back as data: a manifest, a graph within bounds, sketches.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from loopwright.core import Corrupt, Invalid, check_path
from loopwright.models.bundle import Bundle
from loopwright.models.formats.graphs import check_graph
from loopwright.models.isolated.process import Died, Job, Limits, Refused, WorkerProcess
from loopwright.models.mlflow_folder import is_mlflow, native_file, pickle_of
from loopwright.models.model import Runner
from loopwright.models.opening import needs_confinement
from loopwright.models.pickle_marks import is_pickle
from loopwright.models.predictor import GRAPH_FILE
from loopwright.models.skops_files import untrusted_types

if TYPE_CHECKING:
    import numpy as np
    import polars as pl

    from loopwright.stats import TableSketch

    Array = np.ndarray[Any, Any]

REFUSED = "refused"
"""The only output of a conversion that was refused: its message, and the next step."""
_TEXT = 8_000
CONVERTING = Limits(memory_bytes=6 << 30, call_timeout_s=600.0, scratch_bytes=2 << 30, answer_bytes=2 << 30)


class Confined(NamedTuple):
    """A file or folder that only a confined process may open; `class_name` says what holds it, where that is known."""

    path: Path
    class_name: str = ""
    pickle: bool = False


def confined_file(model: Any, allow_pickle: bool) -> Confined | None:
    """What only a confined process may open: a pickle, if that was asked for; a skops file with types that skops does
    not vouch for; a file of LightGBM, XGBoost or CatBoost; a SavedModel. An MLflow folder is its model's file. None
    where there is no such file.

    Raises:
        Invalid: a skops file is damaged, or needs types of unknown libraries.
    """
    if not isinstance(model, str | Path):
        return None
    path, class_name = Path(model), ""
    if is_mlflow(path):
        path, class_name = native_file(path) or (pickle_of(path) or path, "")
    if path.is_file() and path.suffix == ".skops":
        return Confined(path) if untrusted_types(path) else None
    if needs_confinement(path):
        return Confined(path, class_name)
    return _pickle(path) if allow_pickle else None


def _pickle(path: Path) -> Confined | None:
    if path.is_file() and path.suffix not in (".onnx", ".skops", ".keras") and is_pickle(path):
        return Confined(path, pickle=True)
    return None


def convert_elsewhere(
    file: Confined, sample: pl.DataFrame, profile: TableSketch, options: Mapping[str, Any], folder: Path
) -> Bundle:
    """The bundle that a confined process makes of a file, written into `folder`.

    Args:
        options: keyword arguments of `build_bundle` that JSON can hold.

    Raises:
        Invalid: it cannot be loaded, has no ONNX form, or fails parity.
    """
    import numpy as np

    stream = io.BytesIO()
    sample.write_ipc(stream)
    question = {
        "sample": np.frombuffer(stream.getvalue(), dtype=np.uint8),
        "profile": np.frombuffer(profile.to_bytes(), dtype=np.uint8),
        "options": np.array([msgspec.json.encode(options).decode()], dtype=object),
        "class_name": np.array([file.class_name], dtype=object),
    }
    path = file.path.resolve()
    readable, entry = (path, "") if path.is_dir() else (path.parent, path.name)
    try:
        worker = WorkerProcess(Job(Runner.CONVERT, entry, str(readable)), CONVERTING)
        try:
            files = worker.predict(question)
        finally:
            worker.kill()
    except (Died, Refused) as error:
        raise Invalid(
            f"{path.name} does not become a graph: {error}",
            next_step="a pickle is kept as it is, for a confined process to answer, with allow_code=True as well"
            if file.pickle
            else "the file may be damaged: save the model, or fetch it, again",
        ) from None
    if REFUSED in files:
        raise _refusal(files[REFUSED])
    folder.mkdir(parents=True, exist_ok=True)
    for name, data in files.items():
        place = folder / check_path(name)
        if place.parent != folder:
            raise Corrupt(f"the conversion gave a file {name!r}, which a graph's bundle has not")
        place.write_bytes(data.tobytes())
    return _checked(Bundle(folder))


def _refusal(told: Array) -> Invalid:
    """The error that the confined process told of, in words that no terminal takes for commands."""
    message, next_step = ("".join(c if c.isprintable() else " " for c in str(part))[:_TEXT] for part in told.tolist())
    return Invalid(message, next_step=next_step)


def _checked(bundle: Bundle) -> Bundle:
    import onnx

    if bundle.manifest.executes_code:
        raise Corrupt("the conversion gave Python in place of a graph")
    bundle.verify()
    graph = onnx.ModelProto()
    graph.ParseFromString((bundle.folder / GRAPH_FILE).read_bytes())
    check_graph(graph)
    return bundle
