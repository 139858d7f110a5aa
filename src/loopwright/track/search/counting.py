"""How many runs each experiment has, from the arrays that are held of them."""

from __future__ import annotations

import numpy as np

from loopwright.track.model import ExperimentCounts
from loopwright.track.search.arrays import Name, Texts
from loopwright.track.search.held import HeldRuns
from loopwright.track.search.words import Entity
from loopwright.track.values import from_micros

STATUS: Name = (Entity.ATTRIBUTE, "status")


def count_held(held: HeldRuns, project: str) -> list[ExperimentCounts]:
    """The counts of a project's experiments that have runs, by their ids; deleted runs are left out."""
    column = held.named[STATUS]
    assert isinstance(column, Texts)
    mine = np.flatnonzero((held.projects.codes == held.projects.words.get(project, -2)) & ~held.deleted)
    experiments, statuses = held.experiments.codes[mine], column.codes[mine]
    kinds = len(column.words)
    many = np.bincount(experiments.astype(np.int64) * kinds + statuses, minlength=len(held.experiments.words) * kinds)
    newest = np.full(len(held.experiments.words), np.iinfo(np.int64).min)
    np.maximum.at(newest, experiments, held.started[mine])
    found = []
    for id, code in sorted(held.experiments.words.items()):
        counted = many[code * kinds : (code + 1) * kinds].tolist()
        by_status = {word: counted[number] for word, number in sorted(column.words.items()) if counted[number]}
        if by_status:
            found.append(ExperimentCounts(id, by_status, from_micros(int(newest[code]))))
    return found
