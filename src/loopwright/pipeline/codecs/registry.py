"""The contract of a codec, and the codecs by name."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

from loopwright.core import Registry


class Codec(Protocol):
    """Writes values of some types to a file or folder, and reads them back as equal values.

    Reading never executes code from the file. Equal values give equal bytes on one environment, so that a step whose
    input did not change is not run again. Stateless, thread-safe. `accepts` looks at the type only, and imports no
    library: a value of a library's type cannot be there before the library is.
    """

    def accepts(self, value: Any) -> bool:
        """Whether `save` can write this value."""
        ...

    def save(self, value: Any, path: Path) -> None:
        """Write the value to a new file at `path`, or to a new folder.

        Raises:
            Invalid: this very value cannot be kept.
        """
        ...

    def load(self, path: Path) -> Any:
        """Read the value; `path` stays as long as the step runs."""
        ...


codecs: Registry[type[Codec]] = Registry("codecs", "codec")
codec = codecs.register


def is_from(value: Any, library: str, *names: str) -> bool:
    """Whether a value's type, or one that it derives from, is `library`'s and has one of these names."""
    return any(
        base.__name__ in names and (base.__module__ == library or base.__module__.startswith(f"{library}."))
        for base in type(value).__mro__
    )
