"""Objects in the project's own code, named `module:attribute`."""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path
from typing import Any

from loopwright.core import Invalid, NotFound


def load_object(root: Path, reference: str) -> Any:
    """The object that `module:attribute` names, with the project's folder first on the path.

    Raises:
        Invalid: not of that form, or the module fails to import: the error is told.
        NotFound: there is no such module or attribute.
    """
    module_name, colon, attribute = reference.partition(":")
    if not colon or not attribute:
        raise Invalid(f"{reference!r} names nothing", next_step="write module:name, such as pipeline:train")
    if str(root) not in sys.path:
        sys.path.insert(0, str(root))
    try:
        module = import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name and module_name.split(".")[0] == error.name.split(".")[0]:
            raise NotFound(
                f"there is no module {module_name!r} in {root}", next_step="run this in the project's folder"
            ) from None
        raise Invalid(
            f"{module_name} needs the package {error.name!r}, which is not installed", where=module_name
        ) from error
    except SyntaxError as error:
        raise Invalid(f"{error.msg}", where=f"{error.filename}:{error.lineno}") from error
    if not hasattr(module, attribute):
        raise NotFound(f"{module_name} has no {attribute!r}", where=str(module.__file__))
    return getattr(module, attribute)
