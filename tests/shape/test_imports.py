"""What an import loads: the front is light, the inference process knows no SQL, nothing unpickles."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
from collections.abc import Iterator

import pytest
from tests.shape.source import Module, imports, modules

HEAVY = {
    "alembic",
    "deltalake",
    "duckdb",
    "fsspec",
    "httpx",
    "lightgbm",
    "msgspec",
    "numpy",
    "onnx",
    "onnxruntime",
    "optuna",
    "pandas",
    "plotly",
    "polars",
    "pyarrow",
    "rich",
    "scipy",
    "sklearn",
    "sqlalchemy",
    "starlette",
    "uvicorn",
}
UNSAFE = {"pickle", "cloudpickle", "dill", "joblib", "marshal", "shelve"}
WORKER = "loopwright.models.isolated.worker"
RUNS_CODE = "loopwright.models.isolated.runners"
UNPICKLES = "loopwright.models.isolated.unpickling"
NEEDS_NO_SQL = ("loopwright.serve", "loopwright.store.objects", "loopwright.store.journal", "loopwright.core")
SQL_AND_PAGES = {"sqlalchemy", "alembic", "polars", "jinja2", "loopwright.track", "loopwright.ui", "loopwright.server"}


def loaded(program: str) -> set[str]:
    """The modules that a fresh interpreter has loaded after `program`."""
    text = f"{program}\nimport json, sys\nprint(json.dumps(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, check=True)
    return set(json.loads(done.stdout.splitlines()[-1]))


def test_the_package_itself_loads_nothing_heavy() -> None:
    found = loaded("import loopwright")
    assert found & HEAVY == set()
    assert {name for name in found if name.startswith("loopwright.")} == set()


def test_the_package_is_imported_in_under_50_ms() -> None:
    """In processor time, and the best of five, so that a busy machine does not decide."""
    program = "import time; start = time.process_time(); import loopwright; print(time.process_time() - start)"
    seconds = [
        float(subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout)
        for _ in range(5)
    ]
    assert min(seconds) < 0.05


def test_help_loads_no_engine() -> None:
    found = loaded(
        "import sys; sys.argv = ['loopwright', '--help']\n"
        "from loopwright.cli import main\n"
        "try:\n    main()\nexcept SystemExit as end:\n    assert not end.code, end.code"
    )
    engines = HEAVY - {"msgspec", "rich"}
    assert found & engines == set()


@pytest.mark.parametrize("face", NEEDS_NO_SQL)
def test_what_the_inference_process_stands_on_loads_no_sql_and_no_pages(face: str) -> None:
    assert loaded(f"import {face}") & SQL_AND_PAGES == set()


def test_importing_the_stores_opens_no_engine() -> None:
    assert loaded("import loopwright.store") & (HEAVY - {"msgspec"}) == set()


def test_the_front_has_few_names_and_each_is_there() -> None:
    import loopwright

    names = [name for name in loopwright.__all__ if not name.startswith("__")]
    assert 0 < len(names) <= 25
    assert [name for name in names if not hasattr(loopwright, name)] == []


@pytest.mark.slow
def test_nothing_of_ours_imports_a_pickle_but_in_the_worker_process() -> None:
    """The worker's modules are loaded by no other process: see the next test."""
    found = [
        f"{module.shown}:{line} imports {name}"
        for module in modules()
        for name, line in _foreign(module)
        if name.split(".")[0] in UNSAFE and module.name != UNPICKLES
    ]
    assert found == []


@pytest.mark.slow
def test_what_unpickles_is_imported_by_the_worker_process_alone() -> None:
    importers = {UNPICKLES: {RUNS_CODE}, RUNS_CODE: {WORKER}, WORKER: set()}
    for target, allowed in importers.items():
        found = {item.importer.name for item in imports() if item.target.startswith(target) and not item.typing_only}
        assert found == allowed, target


@pytest.mark.slow
def test_nothing_of_ours_loads_code_from_data() -> None:
    calls = {"yaml.load", "yaml.unsafe_load", "yaml.full_load", "numpy.load", "np.load", "torch.load", "eval", "exec"}
    found = [
        f"{module.shown}:{node.lineno} calls {ast.unparse(node.func)}"
        for module in modules()
        for node in module.nodes
        if isinstance(node, ast.Call) and ast.unparse(node.func) in calls and not _refuses_pickle(node)
    ]
    assert found == []


@pytest.mark.slow
def test_every_exemption_in_the_package_gives_its_reason() -> None:
    exemption = re.compile(
        r"# (?:type: ignore\[[\w, -]+\]|noqa: [A-Z]+\d+(?:, [A-Z]+\d+)*)(.*)|# (?:type: ignore|noqa)(?!\w)"
    )
    bare = [
        f"{module.shown}:{number}"
        for module in modules()
        for number, line in enumerate(module.path.read_text(encoding="utf-8").splitlines(), 1)
        if (found := exemption.search(line)) and len((found.group(1) or "").strip(" #(-)")) < 8
    ]
    assert bare == []


def _foreign(module: Module) -> Iterator[tuple[str, int]]:
    for node in module.nodes:
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module, node.lineno


def _refuses_pickle(node: ast.Call) -> bool:
    return any(word.arg == "allow_pickle" and ast.unparse(word.value) == "False" for word in node.keywords)
