"""What makes a project hard to change shows in sizes first: files, functions, interfaces."""

from __future__ import annotations

import ast
import re
from functools import cache

from tests.shape.source import classes, functions, modules

FILE_LINES = 450
FUNCTION_LINES = 45
USUAL_FUNCTION_LINES = 25
PROTOCOL_METHODS = 12
CLASS_METHODS = 25


def test_a_file_has_one_job() -> None:
    assert [f"{module.shown}: {module.lines} lines" for module in modules() if module.lines > FILE_LINES] == []


def test_no_function_is_long_and_few_are_longer_than_usual() -> None:
    lengths = [(_body_lines(node), f"{module.shown}: {name}") for module, name, node in functions()]
    assert [item for item in lengths if item[0] > FUNCTION_LINES] == []
    usual = sum(length <= USUAL_FUNCTION_LINES for length, _ in lengths)
    assert usual / len(lengths) > 0.95


def test_contracts_and_classes_stay_narrow() -> None:
    wide = []
    for module, node in classes():
        contract = any(re.fullmatch(r"Protocol(\[.*\])?", ast.unparse(base)) for base in node.bases)
        methods = [item.name for item in node.body if isinstance(item, (ast.FunctionDef, ast.AsyncFunctionDef))]
        public = [name for name in methods if not name.startswith("_")]
        if len(public) > (PROTOCOL_METHODS if contract else CLASS_METHODS):
            wide.append(f"{module.shown}: {node.name} has {len(public)} public methods")
    assert wide == []


def test_every_module_and_every_class_that_acts_says_what_it_is() -> None:
    silent = [module.shown for module in modules() if not ast.get_docstring(module.tree) and module.tree.body]
    silent += [
        f"{module.shown}: {node.name}"
        for module, node in classes()
        if node in module.tree.body
        and not node.name.startswith("_")
        and not ast.get_docstring(node)
        and not _is_plain(node)
    ]
    assert silent == []


def _body_lines(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """The lines of a function's body without its docstring."""
    body = node.body[1:] if ast.get_docstring(node, clean=False) is not None else node.body
    return (body[-1].end_lineno or 0) - body[0].lineno + 1 if body else 0


def _is_plain(node: ast.ClassDef) -> bool:
    """Errors are explained at the top of their file; the names of an enum and the fields of a struct often suffice."""
    bases = [ast.unparse(base) for base in node.bases]
    said = any(word in base for base in bases for word in ("Error", "Enum", "Struct"))
    return said or any(base.rpartition(".")[2] in _records() for base in bases)


@cache
def _records() -> tuple[str, ...]:
    """Structs that others extend by fields alone: those whose names say what they are, such as a protocol's Request."""
    return tuple(
        node.name
        for _, node in classes()
        if any("Struct" in ast.unparse(base) for base in node.bases)
        and not any(isinstance(item, ast.FunctionDef) for item in node.body)
        and ast.get_docstring(node)
    )
