"""Batch scoring: a model's answers for all rows of files or tables, streaming, in bounded memory, resumable."""

from loopwright.serve.batch.model import ScoringDone, ScoringOptions, ScoringOrder, ScoringReport
from loopwright.serve.batch.recorded import RecordedScoring
from loopwright.serve.batch.scoring import score, threads_of
from loopwright.serve.batch.service import ScoringService
from loopwright.serve.batch.slices import scorer_of
from loopwright.serve.batch.sources import open_rows
from loopwright.serve.batch.watching import profile_of

__all__ = [
    "RecordedScoring",
    "ScoringDone",
    "ScoringOptions",
    "ScoringOrder",
    "ScoringReport",
    "ScoringService",
    "open_rows",
    "profile_of",
    "score",
    "scorer_of",
    "threads_of",
]
