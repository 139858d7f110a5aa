"""`loopwright init`: a project for one's own data, ready to run."""

from __future__ import annotations

import keyword
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import click

from loopwright.cli.command import Session, command

if TYPE_CHECKING:
    import polars as pl

_TEMPLATE = Path(__file__).parent / "template"
_MAX_CLASSES = 30
_CLASSES = "chances = model.predict_proba(inputs_of(holdout))\n    known = list(model.classes_)\n    "
_SCORES = {
    "binary": "classification_metrics([known.index(v) for v in holdout[TARGET]], chances[:, 1])",
    "multiclass": "multiclass_metrics([known.index(v) for v in holdout[TARGET]], chances)",
    "regression": "regression_metrics(holdout[TARGET].to_numpy(), model.predict(inputs_of(holdout)))",
}
_IMPORTS = {
    "binary": "classification_metrics",
    "multiclass": "multiclass_metrics",
    "regression": "regression_metrics",
}


@command("init")
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path), default=".")
@click.option(
    "--data", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="A CSV, Parquet or JSON-lines file."
)
@click.option("--target", metavar="COLUMN", help="The column to predict.")
@click.option(
    "--name", metavar="NAME", help="What to call the dataset, the model and the endpoint; by default as the file."
)
@click.option("--ignore", multiple=True, metavar="COLUMN", help="A column that is no input, such as an id; repeatable.")
def init(
    session: Session, folder: Path, data: Path | None, target: str | None, name: str | None, ignore: tuple[str, ...]
) -> None:
    """Start a project in FOLDER: settings, and with --data and --target a pipeline, a loop and a monitor."""
    from loopwright.core import FILE_NAME, Conflict, Invalid

    root = folder.absolute()
    if (root / FILE_NAME).exists():
        raise Conflict(f"{root} is a project already", next_step="name another folder")
    if (data is None) != (target is None):
        raise Invalid("--data and --target go together", next_step="give both, or neither")
    if data is None or target is None:
        _write(root / FILE_NAME, _settings())
        session.emit({"workspace": str(root), "next": "loopwright data ingest NAME FILE"})
        return
    title = _module_name(name or data.name.split(".")[0])
    _make_project(session, root, data, target, title, ignore)
    session.emit(
        {
            "workspace": str(root),
            "dataset": f"dataset:{title}@1",
            "next": [
                f"cd {folder}",
                f"loopwright pipeline run {title}:train",
                "loopwright loops apply loop.yaml",
                "loopwright monitors apply @monitor.json",
                "loopwright up",
            ],
        }
    )


def _make_project(session: Session, root: Path, data: Path, target: str, name: str, ignored: tuple[str, ...]) -> None:
    from loopwright.core import FILE_NAME
    from loopwright.workspace import open_workspace

    files = {
        root / f"{name}.py": "project.py.txt",
        root / "loop.yaml": "loop.yaml.txt",
        root / "monitor.json": "monitor.json.txt",
    }
    _refuse_taken(*files)
    with _nothing_left_behind(root), session.progress(), open_workspace(root) as ws:
        version = ws.datasets.ingest(name, data)
        task = _task(ws.datasets.scan(version.ref), target, ignored, data)
    scores = _SCORES[task]
    values = {
        "name": name,
        "target": target,
        "ignored": tuple(ignored),
        "imports": _IMPORTS[task],
        "estimator": "LGBMRegressor" if task == "regression" else "LGBMClassifier",
        "scores": scores,
        "before": "" if task == "regression" else _CLASSES,
        "metric": "mae" if task == "regression" else "log_loss",
    }
    for file, template in files.items():
        _write(file, (_TEMPLATE / template).read_text(encoding="utf-8").format(**values))
    _write(root / FILE_NAME, _settings())


@contextmanager
def _nothing_left_behind(root: Path) -> Iterator[None]:
    """Make the project's folder; where the block fails, take away what was not there before."""
    from loopwright.core import DATA_FOLDER

    made = [path for path in (root, *root.parents) if not path.exists()]
    fresh = not (root / DATA_FOLDER).exists()
    root.mkdir(parents=True, exist_ok=True)
    try:
        yield
    except BaseException:
        if fresh:
            shutil.rmtree(root / DATA_FOLDER, ignore_errors=True)
        for folder in made:
            with suppress(OSError):
                folder.rmdir()
        raise


def _task(rows: pl.LazyFrame, target: str, ignored: tuple[str, ...], data: Path) -> str:
    from loopwright.core import Invalid

    schema = rows.collect_schema()
    for column in (target, *ignored):
        if column not in schema:
            raise Invalid(
                f"there is no column {column!r}",
                where=str(data),
                next_step=f"the columns are {', '.join(schema.names())}",
            )
    values = rows.select(target).drop_nulls().unique().head(_MAX_CLASSES + 1).collect().height
    if values < 2:
        raise Invalid(f"the column {target!r} holds {values} value", where=str(data), next_step="choose another target")
    if values == 2:
        return "binary"
    discrete = not schema[target].is_float()
    return "multiclass" if discrete and values <= _MAX_CLASSES else "regression"


def _module_name(given: str) -> str:
    from loopwright.core import Invalid

    name = given.replace("-", "_").replace(" ", "_").lower()
    if not name.isidentifier() or keyword.iskeyword(name):
        raise Invalid(
            f"{given!r} cannot name a Python module", next_step="choose a name of letters, digits and '_' with --name"
        )
    return name


def _settings() -> str:
    return '# The settings of this workspace; all have defaults (docs/reference/settings.md).\nproject = "default"\n'


def _refuse_taken(*paths: Path) -> None:
    from loopwright.core import Conflict

    for path in paths:
        if path.exists():
            raise Conflict(f"{path} is there already", next_step="name another folder, or another --name")


def _write(path: Path, text: str) -> None:
    _refuse_taken(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
