"""The project's code is imported from its source, never from bytecode that Python kept.

Python takes kept bytecode for current while the source's size and the second of its change are the same. A file that is
edited twice within a second would run as it was, under the digest of what it is now.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.abc import PathEntryFinder
from importlib.machinery import EXTENSION_SUFFIXES, SOURCE_SUFFIXES, ExtensionFileLoader, FileFinder, SourceFileLoader
from pathlib import Path
from types import CodeType

from loopwright.pipeline.code import is_installed


class _FromSource(SourceFileLoader):
    """Compiles a module each time that it is imported."""

    def get_code(self, fullname: str) -> CodeType:
        path = self.get_filename(fullname)
        return self.source_to_code(self.get_data(path), path)


def import_from_source(folders: Sequence[Path]) -> None:
    """Let modules below these folders, except installed libraries, be compiled whenever a process imports them."""
    roots = [folder.resolve() for folder in folders]
    open_folder = FileFinder.path_hook((ExtensionFileLoader, EXTENSION_SUFFIXES), (_FromSource, SOURCE_SUFFIXES))

    def hook(entry: str) -> PathEntryFinder:
        path = Path(entry).resolve()
        if not any(path.is_relative_to(root) and not is_installed(path.relative_to(root)) for root in roots):
            raise ImportError(f"{entry} is not the project's")
        return open_folder(entry)

    sys.path_hooks.insert(0, hook)
    sys.path_importer_cache.clear()
