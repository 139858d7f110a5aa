"""MLflow's REST protocol, for its unmodified clients: tracking, artifacts and the model registry.

Each handler decodes MLflow's JSON, asks one of our services and writes the answer in MLflow's words. Its paths answer
at the root, for the workspace's own project, and below `/projects/{project}/`.
"""

from loopwright.server.protocols.mlflow.errors import mlflow_error
from loopwright.server.protocols.mlflow.routes import REALMS, mlflow_routes

__all__ = ["REALMS", "mlflow_error", "mlflow_routes"]
