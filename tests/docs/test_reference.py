"""The reference says what the code does: no setting and no kind of event is missing, or too many."""

from __future__ import annotations

import ast
import importlib.util
import json
import re
import tomllib
from pathlib import Path

import msgspec
import pytest
from tests.shape.source import ROOT, modules

from loopwright.core import KINDS, Settings, load_settings

DOCS = ROOT / "docs"
PAGES = sorted([*DOCS.rglob("*.md"), ROOT / "README.md", ROOT / "CONTRIBUTING.md"])


def table(page: str) -> list[list[str]]:
    """The cells of the rows of a page's tables, of which the first cell is code."""
    rows = re.findall(r"^\| (`.*) \|$", (DOCS / page).read_text(encoding="utf-8"), re.MULTILINE)
    return [[cell.strip() for cell in row.split(" | ")] for row in rows]


def test_every_setting_is_explained_with_its_default_and_its_variable() -> None:
    rows = {cells[0].strip("`"): cells for cells in table("reference/settings.md")}
    assert list(rows) == list(Settings.__struct_fields__)
    defaults = msgspec.to_builtins(Settings())
    for name, cells in rows.items():
        assert cells[1] == f"`{json.dumps(defaults[name])}`"
        if name != "storage_options":
            assert f"`LOOPWRIGHT_{name.upper()}`" in cells[2]


@pytest.mark.slow
def test_every_kind_of_event_is_explained_and_every_explained_kind_is_raised() -> None:
    explained = {cells[0].strip("`") for cells in table("reference/events.md")}
    nouns = {kind.split(".")[0] for kind in explained}
    assert appended_kinds() - explained == set()
    assert {kind for kind in named_kinds() if kind.split(".")[0] in nouns} - explained == set()
    assert explained - named_kinds() == set()


PAST = re.compile(r"[a-z][a-z_]*\.[a-z_]*(ed|held|_set|rolled_back)")


def named_kinds() -> set[str]:
    """All texts in the package that are written like a kind of event: a noun and a verb in the past."""
    texts = (
        node.value
        for module in modules()
        for node in module.nodes
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    )
    return {text for text in texts if PAST.fullmatch(text)}


def appended_kinds() -> set[str]:
    """The kinds that are given to `events.append` as they stand."""
    return {
        argument.value
        for module in modules()
        for node in module.nodes
        if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("events.append")
        for argument in node.args[1:2]
        if isinstance(argument, ast.Constant)
    }


def test_every_settings_example_is_valid(tmp_path: Path) -> None:
    examples = [
        block
        for page in PAGES
        for block in re.findall(r"```toml\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
        if "[tool" not in block
    ]
    assert examples
    for number, block in enumerate(examples):
        path = tmp_path / f"{number}.toml"
        path.write_text(block.replace("\n    ", "\n"), encoding="utf-8")
        assert tomllib.loads(path.read_text(encoding="utf-8"))
        load_settings(path, {})


@pytest.mark.parametrize("picture", ["house", "loop"])
def test_the_pictures_are_those_that_their_programs_draw(picture: str) -> None:
    program = DOCS / "pictures" / f"draw_{picture}.py"
    spec = importlib.util.spec_from_file_location(program.stem, program)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    drawn = (program.parent / f"{picture}.svg").read_text(encoding="utf-8")
    assert drawn == module.draw(), f"run python docs/pictures/draw_{picture}.py"


def test_every_error_maps_to_one_exit_code_and_one_status() -> None:
    assert {code: kind.exit_code for code, kind in KINDS.items()} == {
        "invalid": 2,
        "unauthorized": 2,
        "forbidden": 2,
        "not_found": 3,
        "conflict": 3,
        "unavailable": 4,
        "corrupt": 5,
    }


def test_links_between_pages_lead_somewhere() -> None:
    broken = [
        f"{page.relative_to(ROOT)}: {target}"
        for page in PAGES
        for target in re.findall(r"\]\((?!https?://|#|mailto:)([^)#\s]+)", page.read_text(encoding="utf-8"))
        if not (page.parent / target).exists()
    ]
    assert broken == []
