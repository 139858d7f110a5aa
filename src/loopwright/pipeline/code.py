"""The digest of a step's code: the step and every piece of the project's code that it can reach by name.

The walk is static. It starts at the function and follows each name that is bound at the top of a module of the project:
functions, classes, constants, imports. `from x import y` leads to `y` alone, `import x` to all of `x`. Statements that
run when a module is imported count for each module that is reached. Comments, formatting and the options of `@step`
do not count; libraries count through the environment. A module that looks names up by itself (`globals`, `eval`,
`importlib`) counts whole. What a step reads from files is not code; pass such a file's content as an input.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator, Sequence
from copy import copy
from functools import cached_property
from pathlib import Path

from loopwright.core import Invalid, NotFound, digest_value

_DYNAMIC = frozenset({"globals", "eval", "exec", "__import__", "importlib"})
_WHOLE = "*"
_Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef


class Module:
    """One parsed source file of the project."""

    def __init__(self, name: str, path: Path) -> None:
        self.name, self.path = name, path
        self.package = name if path.name == "__init__.py" else name.rpartition(".")[0]
        try:
            body = ast.parse(path.read_bytes()).body
        except SyntaxError as error:
            raise Invalid(f"not valid Python: {error.msg}", where=f"{path}:{error.lineno}") from None
        self.body = [single for item in body if not _never_runs(item) for single in _singles(item)]

    @cached_property
    def bindings(self) -> dict[str, list[ast.stmt]]:
        """The statements at the top that bind each name."""
        found: dict[str, list[ast.stmt]] = {}
        for item in self.body:
            for name in _bound_names(item):
                found.setdefault(name, []).append(item)
        return found

    @cached_property
    def effects(self) -> list[ast.stmt]:
        """The statements at the top that do something beyond binding a name."""
        return [item for item in self.body if not _bound_names(item) and not _is_docstring(item)]

    @cached_property
    def is_dynamic(self) -> bool:
        """Whether it looks names up in ways that a static walk cannot follow."""
        return any(not _DYNAMIC.isdisjoint(_names_in(item)) for item in self.body)


class Sources:
    """Finds the source files of modules below some folders. Nothing is imported."""

    def __init__(self, folders: Sequence[Path]) -> None:
        self._folders = [folder.resolve() for folder in folders]
        self._modules: dict[str, Module | None] = {}

    def find(self, name: str) -> Module | None:
        """The module of that dotted name, if it is the project's."""
        if name not in self._modules:
            path = self._path_of(name)
            self._modules[name] = Module(name, path) if path else None
        return self._modules[name]

    def _path_of(self, name: str) -> Path | None:
        if not all(part.isidentifier() for part in name.split(".")):
            return None
        for folder in self._folders:
            base = folder.joinpath(*name.split("."))
            for path in (base.with_suffix(".py"), base / "__init__.py"):
                if path.is_file() and not is_installed(path.relative_to(folder)):
                    return path
        return None


def source_folders(root: Path, search_path: Iterable[str]) -> list[Path]:
    """Where the project's modules can be: its root, `src` below it, and every entry of the search path below it."""
    root = root.resolve()
    found = [root, root / "src"]
    for entry in search_path:
        folder = Path(entry or ".").resolve()
        if folder.is_relative_to(root) and not is_installed(folder.relative_to(root)) and folder not in found:
            found.append(folder)
    return [folder for folder in found if folder.is_dir()]


def code_digest(sources: Sources, function: str) -> str:
    """The digest of a function `module:name` and of the project's code that it can reach.

    Raises:
        NotFound: the module is not one of the project, or has no such function.
        Invalid: a module on the way is not valid Python.
    """
    module_name, _, name = function.partition(":")
    module = sources.find(module_name)
    if module is None:
        raise NotFound(
            f"the source of module {module_name!r} is not in the project", next_step="move it below the root"
        )
    top = name.split(".", 1)[0]
    if top not in module.bindings:
        raise NotFound(f"module {module_name!r} has no function {name!r}")
    walk = _Walk(sources)
    walk.follow(module, top)
    return digest_value([function, sorted(walk.pieces)])


class _Walk:
    """One walk from a function; `pieces` are the statements reached: module, statement."""

    def __init__(self, sources: Sources) -> None:
        self._sources = sources
        self._seen: set[tuple[str, str]] = set()
        self._todo: list[tuple[Module, str]] = []
        self.pieces: set[tuple[str, str]] = set()

    def follow(self, module: Module, name: str) -> None:
        """Take in a name of a module and all that it leads to."""
        self._want(module, name)
        while self._todo:
            current, wanted = self._todo.pop()
            for item in _statements(current, wanted):
                self._take(current, item)

    def _want(self, module: Module, name: str) -> None:
        if module.is_dynamic:
            name = _WHOLE
        if (module.name, name) in self._seen:
            return
        self._seen.add((module.name, name))
        self._todo.append((module, name))
        self._take_effects(module)

    def _take_effects(self, module: Module) -> None:
        """Importing a module runs what stands at its top, and at the top of the packages that it is in."""
        parts = module.name.split(".")
        for length in range(1, len(parts) + 1):
            name = ".".join(parts[:length])
            if (name, "") in self._seen:
                continue
            self._seen.add((name, ""))
            found = self._sources.find(name)
            for item in found.effects if found else ():
                self._take(found or module, item)

    def _take(self, module: Module, item: ast.stmt) -> None:
        self.pieces.add((module.name, ast.dump(_without_step(item))))
        for nested in ast.walk(item):
            if isinstance(nested, ast.Import | ast.ImportFrom):
                self._follow_import(module, nested)
        for name in _names_in(item):
            if name in module.bindings or _WHOLE in module.bindings:
                self._want(module, name)

    def _follow_import(self, module: Module, item: ast.Import | ast.ImportFrom) -> None:
        for target, name in _imported(module, item):
            inner = self._sources.find(f"{target}.{name}") if name != _WHOLE else None
            found = self._sources.find(target)
            if inner is not None and (found is None or name not in found.bindings):
                self._want(inner, _WHOLE)
            elif found is not None:
                self._want(found, name)


def _statements(module: Module, name: str) -> list[ast.stmt]:
    if name == _WHOLE:
        return [item for item in module.body if not _is_docstring(item)]
    found = module.bindings.get(name)
    # A name that no statement binds comes from `from x import *`.
    return found if found is not None else module.bindings.get(_WHOLE, [])


def _imported(module: Module, item: ast.Import | ast.ImportFrom) -> Iterator[tuple[str, str]]:
    """Pairs of a module and the name taken from it; `*` for all of it."""
    if isinstance(item, ast.Import):
        yield from ((alias.name, _WHOLE) for alias in item.names)
        return
    source = _absolute(module.package, item.level, item.module or "")
    for alias in item.names:
        yield source, alias.name


def _absolute(package: str, level: int, module: str) -> str:
    if level == 0:
        return module
    parts = package.split(".")
    base = parts[: len(parts) - level + 1]
    return ".".join([*base, module] if module else base)


def _singles(item: ast.stmt) -> list[ast.stmt]:
    """An import of several names as several imports, so that each name leads to its own."""
    if isinstance(item, ast.Import):
        return [ast.Import(names=[alias]) for alias in item.names]
    if isinstance(item, ast.ImportFrom):
        return [ast.ImportFrom(module=item.module, names=[alias], level=item.level) for alias in item.names]
    return [item]


def _bound_names(item: ast.stmt) -> list[str]:
    if isinstance(item, _Definition):
        return [item.name]
    if isinstance(item, ast.Import):
        return [alias.asname or alias.name.split(".")[0] for alias in item.names]
    if isinstance(item, ast.ImportFrom):
        return [alias.asname or alias.name for alias in item.names]
    if isinstance(item, ast.Assign | ast.AnnAssign | ast.AugAssign):
        targets = item.targets if isinstance(item, ast.Assign) else [item.target]
        return [name for target in targets for name in _names_bound_by(target)]
    return []


def _names_bound_by(target: ast.expr) -> list[str]:
    """`a, (b, *c) = …` binds three names; `a[0] = …` and `a.b = …` bind none, but change something."""
    match target:
        case ast.Name(name):
            return [name]
        case ast.Tuple(items) | ast.List(items):
            return [name for item in items for name in _names_bound_by(item)]
        case ast.Starred(inner):
            return _names_bound_by(inner)
    return []


def _names_in(item: ast.stmt) -> set[str]:
    return {node.id for node in ast.walk(item) if isinstance(node, ast.Name)}


def _is_docstring(item: ast.stmt) -> bool:
    return isinstance(item, ast.Expr) and isinstance(item.value, ast.Constant)


def _never_runs(item: ast.stmt) -> bool:
    """`if TYPE_CHECKING:` and `if __name__ == "__main__":` do not run when a step's module is imported."""
    if not isinstance(item, ast.If) or item.orelse:
        return False
    test = item.test
    if isinstance(test, ast.Compare) and isinstance(test.left, ast.Name):
        return test.left.id == "__name__"
    name = test.id if isinstance(test, ast.Name) else getattr(test, "attr", "")
    return name == "TYPE_CHECKING"


def _without_step(item: ast.stmt) -> ast.stmt:
    """A step's options say how it is run, not what it computes."""
    if not isinstance(item, _Definition):
        return item
    kept = [node for node in item.decorator_list if not _is_step_decorator(node)]
    if len(kept) == len(item.decorator_list):
        return item
    copied = copy(item)
    copied.decorator_list = kept
    return copied


def _is_step_decorator(node: ast.expr) -> bool:
    target = node.func if isinstance(node, ast.Call) else node
    name = target.id if isinstance(target, ast.Name) else getattr(target, "attr", "")
    return name == "step"


def is_installed(path: Path) -> bool:
    return any(part in ("site-packages", "dist-packages", ".venv", "venv", "__pycache__") for part in path.parts)
