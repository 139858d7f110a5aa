"""Which door leads to an MLflow store."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote

from loopwright.connect.mlflow.model import Source
from loopwright.core import Invalid

if TYPE_CHECKING:
    from loopwright.connect.mlflow.api import MlflowApi


def open_mlflow_store(uri: str, artifacts: str = "", *, allow_http: bool = False) -> Source:
    """Open an MLflow store for reading.

    Args:
        uri: `sqlite:///mlflow.db` or the file itself, a folder such as `mlruns` or its `file:` address,
            `postgresql://…`, or a server's `https://…`.
        artifacts: where the files behind `mlflow-artifacts:` are, for a database.
        allow_http: speak in clear text to a server on another machine.

    Raises:
        NotFound: there is no such file.
        Invalid: the address leads to no MLflow store that can be read.
        Unavailable: it does not answer.
    """
    scheme = uri.partition("://")[0].partition("+")[0] if "://" in uri else ""
    if scheme in ("http", "https"):
        from loopwright.connect.mlflow.api import MlflowApi
        from loopwright.connect.mlflow.rest import RestSource

        return RestSource(MlflowApi(uri, allow_http=allow_http))
    if scheme in ("sqlite", "postgresql", "postgres"):
        from loopwright.connect.mlflow.sql import SqlSource

        return SqlSource(uri, artifacts)
    if uri.startswith("file:"):
        uri, scheme = unquote(uri.removeprefix("file:").removeprefix("//")), ""
    path = Path(uri)
    if not scheme and path.is_file():
        return open_mlflow_store(f"sqlite:///{path}", artifacts)
    if not scheme and path.is_dir():
        from loopwright.connect.mlflow.folder import FolderSource

        return FolderSource(path, artifacts)
    raise Invalid(
        f"{uri!r} leads to no MLflow store", next_step="give sqlite:///FILE, a folder, postgresql://… or https://…"
    )


def open_mlflow_server(uri: str, *, allow_http: bool = False) -> MlflowApi:
    """Open an MLflow server for writing.

    Raises:
        Invalid: it is no server's address.
    """
    if not uri.startswith(("http://", "https://")):
        raise Invalid(
            f"{uri!r} is no address of a server", next_step="start `mlflow server` on that store and give its address"
        )
    from loopwright.connect.mlflow.api import MlflowApi

    return MlflowApi(uri, allow_http=allow_http)
