"""The package's source, parsed once: modules, their imports, functions and classes."""

from __future__ import annotations

import ast
import gc
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "src" / "loopwright"


class Module(NamedTuple):
    """One file of the package."""

    name: str
    path: Path
    tree: ast.Module
    nodes: tuple[ast.AST, ...]
    lines: int

    @property
    def room(self) -> str:
        """The room that it belongs to; empty for the package's own front files."""
        parts = self.name.split(".")
        return parts[1] if len(parts) > 1 else ""

    @property
    def shown(self) -> str:
        """Its path, as a message shows it."""
        return self.path.relative_to(ROOT).as_posix()


class Import(NamedTuple):
    """One import of ours by one of our modules."""

    importer: Module
    target: str
    line: int
    typing_only: bool


@cache
def modules() -> tuple[Module, ...]:
    """All modules of the package, by name. They stay to the end, so the collector leaves their million nodes alone."""
    gc.disable()
    found = tuple(_read(path) for path in sorted(PACKAGE.rglob("*.py")))
    gc.freeze()
    gc.enable()
    return found


@cache
def layers() -> tuple[str, ...]:
    """The rooms from the top down, as import-linter keeps them."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    contracts = settings["tool"]["importlinter"]["contracts"]
    [order] = [item["layers"] for item in contracts if item["type"] == "layers"]
    return tuple(name.strip("()").removeprefix("loopwright.") for name in order)  # in brackets: may be missing


@cache
def imports() -> tuple[Import, ...]:
    """All imports of ours, wherever in a file they stand."""
    names = {module.name for module in modules()}
    return tuple(found for module in modules() for found in _imports(module, names))


def functions() -> Iterator[tuple[Module, str, ast.FunctionDef | ast.AsyncFunctionDef]]:
    """All functions and methods, with their dotted name inside the module."""
    for module in modules():
        yield from _functions(module, module.tree, "")


def classes() -> Iterator[tuple[Module, ast.ClassDef]]:
    """All classes."""
    for module in modules():
        yield from ((module, node) for node in module.nodes if isinstance(node, ast.ClassDef))


def _read(path: Path) -> Module:
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
    text = path.read_text(encoding="utf-8")
    tree = ast.parse(text)
    return Module(name, path, tree, tuple(ast.walk(tree)), text.count("\n"))


def _imports(module: Module, names: set[str]) -> Iterator[Import]:
    typing_only = {id(node) for node in _typing_nodes(module)}
    for node in module.nodes:
        for target in _targets(module, node, names):
            yield Import(module, target, node.lineno, id(node) in typing_only)  # type: ignore[attr-defined]  # an import has a line


def _targets(module: Module, node: ast.AST, names: set[str]) -> Iterator[str]:
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names if alias.name.split(".")[0] == "loopwright")
    elif isinstance(node, ast.ImportFrom):
        source = _absolute(module, node)
        if source.split(".")[0] == "loopwright":
            for alias in node.names:
                inner = f"{source}.{alias.name}"
                is_module = inner in names and alias.name not in _handed_on(source)
                yield inner if is_module else source


@cache
def _handed_on(package: str) -> frozenset[str]:
    """The names in `__all__` of a package: a function may bear the name of the module that holds it."""
    face = PACKAGE.parent.joinpath(*package.split(".")) / "__init__.py"
    if not face.exists():
        return frozenset()
    for node in ast.parse(face.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            return frozenset(ast.literal_eval(node.value))
    return frozenset()


def _absolute(module: Module, node: ast.ImportFrom) -> str:
    if not node.level:
        return node.module or ""
    package = module.name.split(".")
    if module.path.name != "__init__.py":
        package = package[:-1]
    return ".".join([*package[: len(package) - node.level + 1], *filter(None, [node.module])])


def _typing_nodes(module: Module) -> Iterator[ast.AST]:
    for node in module.nodes:
        if isinstance(node, ast.If) and ast.unparse(node.test) in {"TYPE_CHECKING", "typing.TYPE_CHECKING"}:
            for child in node.body:
                yield from ast.walk(child)


def _functions(
    module: Module, node: ast.AST, prefix: str
) -> Iterator[tuple[Module, str, ast.FunctionDef | ast.AsyncFunctionDef]]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef)):
            yield module, prefix + child.name, child
            yield from _functions(module, child, f"{prefix}{child.name}.")
        elif isinstance(child, ast.ClassDef):
            yield from _functions(module, child, f"{prefix}{child.name}.")
        else:
            yield from _functions(module, child, prefix)
