"""The same server and fixtures as for the newest client."""

from tests.interop.mlflow.conftest import client, up, uri

__all__ = ["client", "up", "uri"]
