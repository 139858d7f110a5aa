"""Export to the edge: a folder that predicts with numpy and onnxruntime alone, or in a browser, held to a budget."""

from loopwright.serve.edge.exporting import EdgePlan, export_edge
from loopwright.serve.edge.model import Budget, EdgeReport, Precision

__all__ = ["Budget", "EdgePlan", "EdgeReport", "Precision", "export_edge"]
