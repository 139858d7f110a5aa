"""Settings: `loopwright.toml`, read once, overridden by `LOOPWRIGHT_*` variables."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import msgspec

from loopwright.core.errors import Invalid

FILE_NAME = "loopwright.toml"
DATA_FOLDER = ".loopwright"
_LISTS = ("trusted_keys", "outgoing_allow", "secret_keys")


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A workspace's settings. An empty URL means the embedded default inside the workspace's folder."""

    project: str = "default"
    path: str = DATA_FOLDER
    db: str = ""
    objects: str = ""
    tables: str = ""
    online: str = ""
    compute: str = "local"
    clock: Literal["system", "simulated"] = "system"
    auth: Literal["local", "required"] = "local"
    workers: int = 1
    serving_memory: str = ""
    access_log: str = ""
    otlp: str = ""
    tick_s: float = 1.0
    search_memory_bytes: int = 67_108_864
    max_spool_bytes: int = 4_294_967_296
    system_metrics_s: float = 10.0
    require_signed: bool = False
    trusted_keys: tuple[str, ...] = ()
    outgoing_allow: tuple[str, ...] = ()
    secret_keys: tuple[str, ...] = ()
    storage_options: dict[str, str] = {}


class Location(msgspec.Struct, frozen=True):
    """Where a workspace is: `root` holds the project's code and `loopwright.toml`, `data` holds the stores."""

    root: Path
    data: Path
    settings: Settings


def locate(given: str | Path | None = None, environ: Mapping[str, str] = os.environ) -> Location:
    """Find the workspace: the given folder, else `LOOPWRIGHT_WORKSPACE`, else the nearest `loopwright.toml` upwards,
    else the present folder. Nothing is created.

    Raises:
        Invalid: the settings file is malformed.
    """
    chosen = given or environ.get("LOOPWRIGHT_WORKSPACE")
    root = Path(chosen).absolute() if chosen else _nearest(Path.cwd())
    if root.name == DATA_FOLDER and not (root / FILE_NAME).exists():
        root = root.parent
    settings = load_settings(root / FILE_NAME, environ)
    return Location(root, root / settings.path, settings)


def load_settings(path: Path, environ: Mapping[str, str] = os.environ) -> Settings:
    """The settings in a file (all defaults if there is none), with `LOOPWRIGHT_<NAME>` variables on top.

    Raises:
        Invalid: not TOML, an unknown setting, or a value of the wrong type.
    """
    values: dict[str, Any] = {}
    if path.exists():
        try:
            values = tomllib.loads(path.read_text(encoding="utf-8"))
        except tomllib.TOMLDecodeError as error:
            raise Invalid(f"not valid TOML: {error}", where=str(path)) from None
    for field in Settings.__struct_fields__:
        variable = environ.get(f"LOOPWRIGHT_{field.upper()}")
        if variable is not None and field != "storage_options":
            values[field] = _listed(variable) if field in _LISTS else variable
    try:
        return msgspec.convert(values, Settings, strict=False)
    except msgspec.ValidationError as error:
        raise Invalid(str(error), where=str(path), next_step="see docs/reference/settings.md") from None


def _listed(text: str) -> list[str]:
    """What stands between commas."""
    return [item.strip() for item in text.split(",") if item.strip()]


def _nearest(folder: Path) -> Path:
    for candidate in (folder, *folder.parents):
        if (candidate / FILE_NAME).exists():
            return candidate
    return folder
