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
        restart: begin anew although an unfinished scoring of other rows or of another model is there.
    """

    keep: tuple[str, ...] = (OTHERS,)
    prefix: str = ""
    skip_bad: bool = False
    part_rows: int = PART_ROWS
    threads: int = 0
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
        if self.threads < 0:
            raise Invalid(f"{self.threads} threads cannot work", next_step="give 0 for one a core")


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
