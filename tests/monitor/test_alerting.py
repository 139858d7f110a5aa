"""When alerts open and close: the pure rule."""

from __future__ import annotations

from datetime import timedelta

from hypothesis import given
from hypothesis import strategies as st
from tests.monitor.conftest import START

from loopwright.monitor import Verdict
from loopwright.monitor.alerting import Change, Judgement, next_step

verdicts = st.lists(
    st.tuples(st.sampled_from(["a", "b"]), st.sampled_from([Verdict.FINE, Verdict.BAD])), min_size=1, max_size=40
)


def judged(history: list[tuple[str, Verdict]]) -> list[Judgement]:
    newest_first = reversed(list(enumerate(history)))
    return [Judgement(START + timedelta(days=day), model, verdict) for day, (model, verdict) in newest_first]


@given(verdicts, st.integers(1, 4))
def test_an_alert_opens_only_after_a_streak_and_closes_only_for_a_reason(
    history: list[tuple[str, Verdict]], consecutive: int
) -> None:
    """Replays a history window by window, as the service does."""
    open_for: str | None = None
    for end in range(1, len(history) + 1):
        seen = judged(history[:end])
        step = next_step(seen[:consecutive], consecutive, open_for)
        streak = [one for one in seen[:consecutive] if (one.model, one.verdict) == (seen[0].model, seen[0].verdict)]
        whole = len(streak) == consecutive
        if step.change is Change.OPEN:
            assert open_for is None
            assert whole
            assert seen[0].verdict is Verdict.BAD
            assert step.since == streak[-1].start
            open_for = seen[0].model
        elif step.change is Change.CLOSE:
            assert open_for is not None
            assert seen[0].model != open_for or (whole and seen[0].verdict is Verdict.FINE)
            assert step.reason
            open_for = None
        elif whole and seen[0].verdict is Verdict.BAD:
            assert open_for == seen[0].model


def test_nothing_judged_changes_nothing() -> None:
    assert next_step([], 2, None).change is Change.NONE
    assert next_step([], 2, "a").change is Change.NONE
