"""Batch scoring: a model's answers for all rows of files or tables, streaming, in bounded memory, resumable."""

from loopwright.serve.batch.model import ScoringOptions, ScoringReport
from loopwright.serve.batch.scoring import score, threads_of
from loopwright.serve.batch.service import ScoringService
from loopwright.serve.batch.sources import open_rows

__all__ = ["ScoringOptions", "ScoringReport", "ScoringService", "open_rows", "score", "threads_of"]
