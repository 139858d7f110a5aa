"""The exported folder inside the layout of another server: Triton's model repository, MLServer's model folder."""

from loopwright.serve.edge.hosts.mlserver import export_mlserver
from loopwright.serve.edge.hosts.triton import export_triton

__all__ = ["export_mlserver", "export_triton"]
