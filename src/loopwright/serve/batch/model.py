"""The words of batch scoring."""

from __future__ import annotations

import msgspec

from loopwright.core import Invalid

ALL, NONE, OTHERS = "all", "none", "others"
PART_ROWS = 262_144


class ScoringOptions(msgspec.Struct, frozen=True, kw_only=True):
    """How rows are scored.

    Attributes:
        keep: the columns of the input that go into the output beside the answers: names, or `all`, `none`, or `others`
            for those that the model does not take (ids, times, labels).
        prefix: put before the names of the answers.
        skip_bad: a row without a value that the model needs gets empty answers; without it the scoring fails there.
        part_rows: rows of one part: what is scored at once, and what a restart repeats at most.
        threads: of the model; 0 for one a core.
        workers: on Ray, how many score at once; 0 for one for each CPU of the cluster.
        restart: begin anew although an unfinished scoring of other rows or of another model is there.
    """

    keep: tuple[str, ...] = (OTHERS,)
    prefix: str = ""
    skip_bad: bool = False
    part_rows: int = PART_ROWS
    threads: int = 0
    workers: int = 0
    restart: bool = False

    def check(self) -> None:
        """Refuse what makes no sense.

        Raises:
            Invalid: a part has no rows or too many, or there are fewer than no threads.
        """
        if not 1 <= self.part_rows <= 10_000_000:
            raise Invalid(
                f"a part of {self.part_rows:,} rows is none", next_step="give between 1 and 10,000,000 rows a part"
            )
        if self.threads < 0 or self.workers < 0:
            below = min(self.threads, self.workers)
            raise Invalid(f"{below} threads or workers cannot work", next_step="give 0 for one a core")


class ScoringReport(msgspec.Struct, frozen=True, kw_only=True):
    """What a scoring did.

    Attributes:
        model: the ref of the version that answered, or the folder of its bundle.
        rows: how many rows the output has.
        bad_rows: those of them that got no answers.
        resumed_rows: those of them that an earlier, interrupted attempt had scored.
        seconds: how long this attempt took.
        run: the id of the run that it is recorded as; empty where no workspace was asked.
    """

    model: str
    input: str
    output: str
    rows: int
    bad_rows: int = 0
    resumed_rows: int = 0
    seconds: float = 0.0
    run: str = ""


class ScoringOrder(msgspec.Struct, frozen=True, kw_only=True):
    """One scoring of a declared job, with everything pinned.

    Attributes:
        run: the id of the run as which it is recorded, and by which it is known.
        job: the job's name.
        model: a version's ref.
        source: a version's ref, of a dataset or a table.
        since: only the rows that were added after this version of it.
        output: `dataset:NAME` or `table:PATH`.
        append: to what is there; without it the answers replace that.
        watched: count inputs and answers for a monitor.
    """

    run: str
    job: str
    model: str
    source: str
    since: int | None = None
    output: str
    append: bool = False
    options: ScoringOptions = ScoringOptions()
    watched: bool = True


class ScoringDone(msgspec.Struct, frozen=True, kw_only=True):
    """What an order came to. `counts` are the inputs and answers in the bins of training, for a monitor."""

    report: ScoringReport
    counts: bytes = b""
