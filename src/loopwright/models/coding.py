"""Models that stay Python: what of them goes into the bundle, and how their answers are read.

Nothing here imports or runs a model's code, but for the class that the caller holds in its hands already.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from loopwright.core import Invalid, NotFound, check_path
from loopwright.models.custom import CustomPredictor
from loopwright.models.frames import columns_of
from loopwright.models.isolated.predictor import IsolatedPredictor
from loopwright.models.isolated.process import Limits
from loopwright.models.isolated.shaping import checked_columns
from loopwright.models.mlflow_folder import is_mlflow, native_file, pickle_of
from loopwright.models.model import Code, Input, Runner, Signature, Task
from loopwright.models.pickle_marks import is_pickle
from loopwright.models.predictor import ModelFailed

if TYPE_CHECKING:
    import numpy as np
    import polars as pl

    Array = np.ndarray[Any, Any]
    Answer = Callable[[pl.DataFrame], Mapping[str, Array]]

MAX_FILES = 10_000
_BATCH_ROWS = 100
_LONE_ROWS = 3
_CLOSE = 1e-3
_LIBRARIES_OWN = frozenset({".onnx", ".skops", ".keras"})  # archives that their libraries open without unpickling
_LEFT_OUT = frozenset({"__pycache__", ".git", ".venv", "node_modules"})


@dataclass(frozen=True)
class Source:
    """A model in Python: its files by their names in the bundle, and how to run it.

    `original` gives, for the signature's inputs, the model as this process holds it; None where only the worker may
    run it.
    """

    format: str
    runner: Runner
    entry: str
    content: Mapping[str, Path]
    classes: tuple[str | int, ...] = ()
    original: Callable[[tuple[Input, ...]], Answer] | None = None


def source_of(
    model: Any, files: Path | str | None, code: Path | str | None, allow_code: bool, allow_pickle: bool
) -> Source | None:
    """The source of a model that is Python; None for one that becomes a graph.

    Raises:
        Invalid: its source cannot be found, or it needs a leave that was not given.
        NotFound: a file or folder is not there.
    """
    if isinstance(model, CustomPredictor):
        raise Invalid("the model is an object; a bundle takes the class", next_step=f"pass {type(model).__name__}")
    source: Source | None
    if isinstance(model, type) and issubclass(model, CustomPredictor):
        source = _of_class(model, files, code)
    elif isinstance(model, str) and ":" in model and code is not None:
        source = Source("predictor", Runner.PREDICTOR, model, {**_code_files(Path(code)), **_files(files)})
    elif files is not None or code is not None:
        raise Invalid("`files` and `code` are for a CustomPredictor", next_step="leave them out")
    elif isinstance(model, str | Path):
        source = _of_path(Path(model), allow_code, allow_pickle)
    else:
        return None
    if source is not None:
        _check_pickles(source, allow_pickle)
    return source


def code_of(source: Source, limits: Limits) -> Code:
    """What the manifest says of it."""
    usual = Limits()
    return Code(
        source.runner,
        source.entry,
        tuple(sorted(name for name, path in source.content.items() if is_pickle(path))),
        limits.memory_bytes if limits.memory_bytes != usual.memory_bytes else 0,
        limits.call_timeout_s if limits.call_timeout_s != usual.call_timeout_s else 0.0,
    )


def answers_of(predictor: IsolatedPredictor, rows: pl.DataFrame, alone: bool = True) -> dict[str, Array]:
    """The worker's answers to the sample, in batches; with `alone`, some rows are asked once more by themselves.

    Raises:
        ModelFailed: it fails.
        Invalid: an answer depends on the other rows of its batch, or on chance.
    """
    import numpy as np

    signature = predictor.signature
    parts = [
        predictor.predict(columns_of(rows.slice(start, _BATCH_ROWS), signature))
        for start in range(0, rows.height, _BATCH_ROWS)
    ]
    if any(list(part) != list(parts[0]) for part in parts):
        raise ModelFailed("the model names its outputs differently from batch to batch")
    answers = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    for place in range(min(_LONE_ROWS, rows.height) if alone else 0):
        one = predictor.predict(columns_of(rows.slice(place, 1), signature))
        for name, values in answers.items():
            if not _same(one[name][0], values[place]):
                raise Invalid(
                    f"row {place} gets {name}={one[name][0]} alone and {values[place]} among others: the answer "
                    "depends on the other rows of its batch, or on chance",
                    next_step="answer each row by itself; a server batches rows of many requests",
                )
    return answers


def task_of(task: Task | None, answers: Mapping[str, Array]) -> Task:
    """The task that the outputs tell, or the one asked for if they fit it.

    Raises:
        Invalid: they do not.
    """
    names = set(answers)
    found = Task.OTHER
    if names == {"label", "probability"} and answers["probability"].ndim == 1:
        found = Task.BINARY
    elif names == {"label", "probabilities"} and answers["probabilities"].ndim == 2:
        found = Task.MULTICLASS
    elif names == {"value"} and answers["value"].ndim == 1 and answers["value"].dtype.kind in "fiu":
        found = Task.REGRESSION
    if task in (None, found, Task.OTHER):
        return task or found
    raise Invalid(
        f"a {task} model gives other outputs than {', '.join(sorted(names))}",
        next_step="binary: label and probability; multiclass: label and probabilities; regression: value, all per row",
    )


def classes_of(task: Task, answers: Mapping[str, Array], said: tuple[str | int, ...]) -> tuple[str | int, ...]:
    """The classes: those that the model's class names (`classes = (...)`), else whole numbers from 0.

    Raises:
        Invalid: the labels are text and nobody says in which order the classes stand.
    """
    if task not in (Task.BINARY, Task.MULTICLASS):
        return ()
    count = 2 if task is Task.BINARY else int(answers["probabilities"].shape[1])
    if said:
        if len(said) != count:
            raise Invalid(f"the model names {len(said)} classes and gives scores for {count}")
        return said
    if answers["label"].dtype.kind in "iub":
        return tuple(range(count))
    raise Invalid(
        "the labels are text, and the order of the classes is not said",
        next_step='name them in the class: classes = ("no", "yes")',
    )


def _of_class(model: type[CustomPredictor], files: Path | str | None, code: Path | str | None) -> Source:
    if "<locals>" in model.__qualname__:
        raise Invalid(f"{model.__qualname__} stands inside a function", next_step="move it to the top of a module")
    try:
        path = Path(inspect.getfile(model))
    except (TypeError, OSError):
        path = Path()
    if not path.is_file() or path.suffix != ".py":
        raise Invalid(
            f"the source of {model.__qualname__} is in no file",
            next_step="write it into a .py file and import it from there",
        )
    root = Path(code).resolve() if code is not None else path.parent.resolve()
    inside = path.resolve()
    if code is not None and root.is_file():
        root = root.parent
    if not inside.is_relative_to(root):
        raise Invalid(f"{path.name} with {model.__qualname__} does not lie in {root}")
    module = ".".join(inside.relative_to(root).with_suffix("").parts)
    content = _code_files(Path(code)) if code is not None else {f"code/{path.name}": path}
    held = {**content, **_files(files)}
    return Source(
        "predictor",
        Runner.PREDICTOR,
        f"{module}:{model.__qualname__}",
        held,
        tuple(getattr(model, "classes", ())),
        lambda inputs: _in_this_process(model, files, inputs),
    )


def _in_this_process(model: type[CustomPredictor], files: Path | str | None, inputs: tuple[Input, ...]) -> Answer:
    """The class as the caller holds it."""
    import tempfile

    signature = Signature(inputs, ())
    original = model()
    if files is None:
        with tempfile.TemporaryDirectory() as empty:
            original.load(Path(empty))
    else:
        path = Path(files)
        original.load(path if path.is_dir() else path.parent)

    def answer(rows: pl.DataFrame) -> Mapping[str, Array]:
        import numpy as np

        given = original.predict(checked_columns(signature, columns_of(rows, signature)))
        return {name: np.asarray(values) for name, values in given.items()}

    return answer


def _of_path(path: Path, allow_code: bool, allow_pickle: bool) -> Source | None:
    if (path / "config.json").is_file() and any(path.glob("*.safetensors")):
        return _hugging_face(path, allow_code)
    if not allow_code:
        return None
    if is_mlflow(path):
        held = pickle_of(path) if allow_pickle else None
        if held is None:
            return Source("mlflow", Runner.MLFLOW, "", _files(path)) if native_file(path) is None else None
        path = held
    if path.is_file() and path.suffix not in _LIBRARIES_OWN and is_pickle(path) and allow_pickle:
        return Source("pickle", Runner.PICKLE, path.name, {f"files/{path.name}": path})
    return None


def _hugging_face(folder: Path, allow_code: bool) -> Source:
    """A folder of weights as safetensors, whose `config.json` declares the class in `auto_map`, as `Predictor`."""
    from loopwright.models.safe_tensors import check_safetensors

    try:
        config = msgspec.json.decode((folder / "config.json").read_bytes())
        declared = str(config["auto_map"]["Predictor"])
    except (msgspec.MsgspecError, KeyError, TypeError):
        raise Invalid(
            f"{folder / 'config.json'} declares no predictor",
            next_step='add {"auto_map": {"Predictor": "module.Class"}}, with module.py beside it',
        ) from None
    if not allow_code:
        raise Invalid(
            f"the folder brings Python of its own ({declared}), which is run to answer",
            next_step="read it, then say allow_code=True; a worker process without network or your files will run it",
        )
    module, _, name = declared.rpartition(".")
    for path in sorted(folder.glob("*.safetensors")):
        check_safetensors(path)
    held = _files(folder)
    sources = {f"code/{key.removeprefix('files/')}": path for key, path in held.items() if path.suffix == ".py"}
    if f"code/{module.replace('.', '/')}.py" not in sources:
        raise NotFound(f"config.json declares {declared}, and the folder has no {module}.py")
    rest = {key: path for key, path in held.items() if path.suffix != ".py"}
    return Source("safetensors", Runner.PREDICTOR, f"{module}:{name}", {**sources, **rest})


def _check_pickles(source: Source, allow_pickle: bool) -> None:
    found = sorted(name for name, path in source.content.items() if is_pickle(path))
    if found and not allow_pickle:
        raise Invalid(
            f"{', '.join(found[:5])} {'is a pickle' if len(found) == 1 else 'are pickles'}: loading one runs whatever "
            "its maker put there",
            next_step="save the weights as safetensors, or say allow_pickle=True if you trust their maker",
        )


def _code_files(path: Path) -> dict[str, Path]:
    if path.is_file():
        return {f"code/{path.name}": path}
    return {f"code/{name}": item for name, item in _listed(path).items() if item.suffix in (".py", ".json", ".toml")}


def _files(path: Path | str | None) -> dict[str, Path]:
    if path is None:
        return {}
    path = Path(path)
    if path.is_file():
        return {f"files/{path.name}": path}
    return {f"files/{name}": item for name, item in _listed(path).items()}


def _listed(folder: Path) -> dict[str, Path]:
    """The files of a folder by their relative names.

    Raises:
        NotFound: there is no such folder.
        Invalid: it has a link, a name that cannot be kept, or too many files.
    """
    if not folder.is_dir():
        raise NotFound(f"there is no file or folder {folder}")
    found: dict[str, Path] = {}
    for path in sorted(folder.rglob("*")):
        parts = path.relative_to(folder).parts
        if _LEFT_OUT.intersection(parts):
            continue
        if path.is_symlink():
            raise Invalid(f"{path} is a link; a bundle holds files", next_step="put a copy in its place")
        if path.is_file():
            found[check_path(path.relative_to(folder).as_posix())] = path
        if len(found) > MAX_FILES:
            raise Invalid(f"{folder} has more than {MAX_FILES} files", next_step="name a smaller folder")
    return found


def _same(one: Any, other: Any) -> bool:
    import numpy as np

    left, right = np.asarray(one), np.asarray(other)
    if left.dtype.kind in "OUS":
        return bool((left == right).all())
    return bool(
        np.allclose(left.astype(np.float64), right.astype(np.float64), rtol=_CLOSE, atol=_CLOSE, equal_nan=True)
    )
