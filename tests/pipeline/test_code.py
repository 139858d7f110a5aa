"""The digest of a step's code changes when what it runs changes, and only then."""

from __future__ import annotations

import textwrap
from pathlib import Path

import pytest

from loopwright.core import Invalid, NotFound
from loopwright.pipeline.code import Sources, code_digest, source_folders


class Code:
    """Modules in a folder, and the digest of a function in them."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def write(self, **modules: str) -> Code:
        for name, text in modules.items():
            path = self.root.joinpath(*name.split("__")).with_suffix(".py")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(textwrap.dedent(text))
        return self

    def package(self, name: str, text: str = "") -> Code:
        folder = self.root / name
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "__init__.py").write_text(text)
        return self

    def digest(self, function: str = "flow:fit") -> str:
        return code_digest(Sources(source_folders(self.root, [])), function)


@pytest.fixture
def code(tmp_path: Path) -> Code:
    return Code(tmp_path)


FLOW = """
    import helpers
    from other import scale, unused
    from loopwright.pipeline import step
    LIMIT = 3
    NOBODY = 1

    @step(timeout_s=5)
    def fit(x):
        return scale(x) + LIMIT

    def bystander(x):
        return x
"""
OTHER = """
    FACTOR = 2
    def scale(x):
        return inner(x) * FACTOR
    def inner(x):
        return x
    def unused(x):
        return x
"""


@pytest.fixture
def base(code: Code) -> str:
    return code.write(flow=FLOW, other=OTHER, helpers="def aid(): pass").digest()


@pytest.mark.parametrize(
    ("module", "old", "new"),
    [
        ("flow", "return scale(x) + LIMIT", "return scale(x) + LIMIT  # why"),
        ("flow", "return scale(x) + LIMIT", "return (\n            scale(x) + LIMIT)"),
        ("flow", "@step(timeout_s=5)", "@step(retries=2)"),
        ("flow", "def bystander(x):\n        return x", "def bystander(x):\n        return -x"),
        ("flow", "NOBODY = 1", "NOBODY = 2"),
        ("other", "def unused(x):\n        return x", "def unused(x):\n        return -x"),
    ],
)
def test_what_the_step_does_not_run_does_not_count(code: Code, base: str, module: str, old: str, new: str) -> None:
    text = {"flow": FLOW, "other": OTHER}[module]
    assert old in text
    assert code.write(**{module: text.replace(old, new)}).digest() == base


@pytest.mark.parametrize(
    ("module", "old", "new"),
    [
        ("flow", "scale(x) + LIMIT", "scale(x) - LIMIT"),
        ("flow", "LIMIT = 3", "LIMIT = 4"),
        ("flow", "from other import scale, unused", "from other import unused as scale"),
        ("other", "FACTOR = 2", "FACTOR = 3"),
        ("other", "def inner(x):\n        return x", "def inner(x):\n        return -x"),
        ("flow", "LIMIT = 3", "LIMIT = 3\n    print('side effect')"),
        ("other", "FACTOR = 2", "FACTOR = 2\n    globals()['FACTOR'] = 3"),
    ],
)
def test_what_the_step_runs_counts(code: Code, base: str, module: str, old: str, new: str) -> None:
    text = {"flow": FLOW, "other": OTHER}[module]
    assert old in text
    assert code.write(**{module: text.replace(old, new)}).digest() != base


def test_the_place_of_the_project_does_not_count(code: Code, base: str, tmp_path: Path) -> None:
    moved = Code(tmp_path / "elsewhere").write(flow=FLOW, other=OTHER, helpers="def aid(): pass")
    assert moved.digest() == base


def test_a_module_imported_whole_counts_whole(code: Code) -> None:
    flow = "import other\ndef fit(x):\n    return other.scale(x)\n"
    before = code.write(flow=flow, other=OTHER).digest()
    assert (
        code.write(other=OTHER.replace("def unused(x):\n        return x", "def unused(x):\n        return 1")).digest()
        != before
    )


def test_an_import_inside_a_function_is_followed(code: Code) -> None:
    flow = "def fit(x):\n    from other import scale\n    return scale(x)\n"
    before = code.write(flow=flow, other=OTHER).digest()
    assert code.write(other=OTHER.replace("FACTOR = 2", "FACTOR = 9")).digest() != before


def test_relative_imports_and_submodules_are_followed(code: Code) -> None:
    code.package("app").package("app/deep")
    code.write(app__flow="from .deep import tools\nfrom ..app.lib import go\ndef fit(x):\n    return tools.f(go(x))\n")
    code.write(app__deep__tools="def f(x):\n    return x\n", app__lib="def go(x):\n    return x\n")
    before = code.digest("app.flow:fit")
    changed = code.write(app__deep__tools="def f(x):\n    return -x\n").digest("app.flow:fit")
    again = code.write(app__lib="def go(x):\n    return -x\n").digest("app.flow:fit")
    assert len({before, changed, again}) == 3


def test_star_imports_are_followed(code: Code) -> None:
    flow = "from other import *\ndef fit(x):\n    return scale(x)\n"
    before = code.write(flow=flow, other=OTHER).digest()
    assert code.write(other=OTHER.replace("FACTOR = 2", "FACTOR = 9")).digest() != before


def test_what_a_package_does_when_imported_counts(code: Code) -> None:
    code.package("app").write(app__flow="def fit(x):\n    return x\n")
    before = code.digest("app.flow:fit")
    code.package("app", "import os\nos.environ['X'] = '1'\n")
    assert code.digest("app.flow:fit") != before


def test_modules_that_import_each_other_come_to_an_end(code: Code) -> None:
    code.write(
        flow="from other import g\ndef fit(x):\n    return g(x)\n",
        other="from flow import fit\ndef g(x):\n    return fit(x)\n",
    )
    assert len(code.digest()) == 64


def test_code_that_never_runs_does_not_count(code: Code) -> None:
    flow = "def fit(x):\n    return x\n"
    before = code.write(flow=flow).digest()
    typing = "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import polars\n"
    script = 'if __name__ == "__main__":\n    fit(1)\n'
    assert code.write(flow=typing + flow + script).digest() == before


def test_a_method_and_its_class_count(code: Code) -> None:
    flow = "class Model:\n    def go(self):\n        return 1\ndef fit(x):\n    return Model().go()\n"
    before = code.write(flow=flow).digest()
    assert code.write(flow=flow.replace("return 1", "return 2")).digest() != before


def test_what_is_not_there_or_not_python_is_named(code: Code) -> None:
    code.write(flow="def fit(x):\n    return x\n", broken="def f(:\n")
    with pytest.raises(NotFound, match="'nowhere' is not in the project"):
        code.digest("nowhere:fit")
    with pytest.raises(NotFound, match="no function 'gone'"):
        code.digest("flow:gone")
    with pytest.raises(Invalid, match=r"broken\.py:1: not valid Python"):
        code.digest("broken:f")


def test_installed_packages_below_the_root_are_not_the_projects(code: Code) -> None:
    inside = code.root / ".venv" / "lib" / "site-packages"
    inside.mkdir(parents=True)
    (inside / "library.py").write_text("def go(x):\n    return x\n")
    assert source_folders(code.root, [str(inside), str(code.root / "missing")]) == [code.root.resolve()]
