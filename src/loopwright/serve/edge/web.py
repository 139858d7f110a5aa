"""The page that predicts in a browser, and the files of onnxruntime-web that it brings; nothing is ever fetched."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import msgspec

from loopwright.core import Invalid, NotFound

PAGE_FILES = ("index.html", "page.mjs", "page.css")
WEB_FOLDER = "web"
_PACKAGE = "onnxruntime-web"
_FILES = ("ort.wasm.min.mjs", "ort-wasm-simd-threaded.mjs", "ort-wasm-simd-threaded.wasm")


def find_package(folder: Path) -> tuple[Path, str]:
    """The folder with the built files of an unpacked npm package onnxruntime-web, and its version.

    Args:
        folder: the package (what `npm pack` and `tar` give), or a folder with it in its `node_modules`.

    Raises:
        NotFound: it is in none of these places.
        Invalid: it lacks a file that the page needs.
    """
    for place in (folder, folder / "package", folder / "node_modules" / _PACKAGE):
        version = _version(place)
        if version:
            missing = [name for name in _FILES if not (place / "dist" / name).is_file()]
            if missing:
                raise Invalid(
                    f"{_PACKAGE} {version} lacks dist/{missing[0]}",
                    where=str(place),
                    next_step=f"unpack a newer one: npm pack {_PACKAGE}",
                )
            return place / "dist", version
    raise NotFound(
        f"there is no npm package {_PACKAGE} in {folder}",
        next_step=f"npm pack {_PACKAGE} && tar xzf {_PACKAGE}-*.tgz, then --web package",
    )


def _version(place: Path) -> str:
    try:
        about: Any = msgspec.json.decode((place / "package.json").read_bytes())
    except (OSError, msgspec.DecodeError):
        return ""
    return str(about.get("version", "")) if isinstance(about, dict) and about.get("name") == _PACKAGE else ""


def write_page(dist: Path, target: Path) -> None:
    """Put the page and its runtime beside an exported model."""
    source = Path(__file__).parent / "page"
    for name in PAGE_FILES:
        shutil.copyfile(source / name, target / name)
    (target / WEB_FOLDER).mkdir()
    for name in _FILES:
        shutil.copyfile(dist / name, target / WEB_FOLDER / name)
