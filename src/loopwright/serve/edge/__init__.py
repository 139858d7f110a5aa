"""Export to the edge: a folder that predicts with numpy and onnxruntime alone, held to a budget.

It goes to a device, into a browser, or into the layout of another server.
"""

from loopwright.serve.edge.exporting import EdgePlan, export_edge
from loopwright.serve.edge.hosts import export_mlserver, export_triton
from loopwright.serve.edge.model import Budget, EdgeReport, Precision

__all__ = [
    "Budget",
    "EdgePlan",
    "EdgeReport",
    "Precision",
    "export_edge",
    "export_mlserver",
    "export_triton",
]
