"""The data plane without any transport: batching, variants, shadows, limits, and the log before the answer."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.serve.conftest import Plane, adding_bundle, failing_bundle

from loopwright.core import Invalid, LoopwrightError, NotFound, Unavailable
from loopwright.models import Bundle, ModelFailed
from loopwright.serve import LogPolicy, Variant, read_predictions
from loopwright.serve.admission import Limits
from loopwright.serve.loaded import LoadedEndpoint
from loopwright.serve.query import Answer, Query

MakePlane = Callable[..., Plane]


def variant(name: str, version: int = 1, weight: float = 1.0, *, shadow: bool = False) -> Variant:
    return Variant(name, f"model:m@{version}", "0" * 64, weight, shadow)


@pytest.fixture(scope="session")
def plus(tmp_path_factory: pytest.TempPathFactory) -> Callable[[float], Bundle]:
    """A model that adds, made once per number."""
    made: dict[float, Bundle] = {}

    def make(amount: float) -> Bundle:
        if amount not in made:
            made[amount] = adding_bundle(amount, tmp_path_factory.mktemp("plus") / "bundle")
        return made[amount]

    return make


async def ask(
    plane: Plane, endpoint: LoadedEndpoint, values: Sequence[Any], **settings: Any
) -> Answer | LoopwrightError:
    """Submit one query and wait for its reply."""
    reply: asyncio.Future[Answer | LoopwrightError] = asyncio.get_running_loop().create_future()
    rows = endpoint.intake.rows([("x", list(values))])
    plane.plane.submit(Query("e", rows, reply.set_result, **settings), endpoint)
    return await reply


def run(work: Any) -> Any:
    return asyncio.run(work)


def test_queries_of_one_turn_are_one_run_of_the_model(make_plane: MakePlane, plus: Any) -> None:
    made = make_plane()
    endpoint = made.serve((variant("champion"), plus(1)))

    async def work() -> list[Any]:
        return await asyncio.gather(*(ask(made, endpoint, [float(n), n + 0.5]) for n in range(40)))

    answers = run(work())
    assert [answer.outputs["value"] for answer in answers] == [[n + 1.0, n + 1.5] for n in range(40)]
    assert (sum(made.metrics.batch.counts), made.metrics.batch.total) == (1, 80)
    assert made.metrics.queued_rows == 0


def test_the_log_has_the_answer_before_the_caller_has(make_plane: MakePlane, plus: Any) -> None:
    made = make_plane()
    endpoint = made.serve((variant("champion", 7), plus(1)))
    seen: list[list[str]] = []

    async def work() -> None:
        done = asyncio.Event()

        def reply(answer: Any) -> None:
            logged, _ = read_predictions(made.folder / "journal")
            seen.append([*answer.ids, *(item.id for item in logged)])
            done.set()

        rows = endpoint.intake.rows([("x", [4.0])])
        query = Query("e", rows, reply, keys=["N14228"], event_times=[1_357_034_400_000_000])
        made.plane.submit(query, endpoint)
        await done.wait()

    run(work())
    [[answered, logged]] = seen
    assert answered == logged
    [found], _ = read_predictions(made.folder / "journal")
    assert (found.model, found.variant, found.key, found.columns) == ("model:m@7", "champion", "N14228", ("x",))
    assert (found.event_time, found.features, found.outputs) == (1_357_034_400_000_000, [4.0], {"value": 5.0})


def test_rows_of_one_query_go_to_the_variants_of_their_keys(make_plane: MakePlane, plus: Any) -> None:
    made = make_plane()
    endpoint = made.serve((variant("champion", 1, 0.5), plus(100)), (variant("candidate", 2, 0.5), plus(200)))
    keys = [f"key{number % 10}" for number in range(60)]

    async def work() -> Any:
        return await ask(made, endpoint, [float(n) for n in range(60)], keys=keys)

    answer = run(work())
    by_key = dict(zip(keys, answer.variants, strict=True))
    assert set(by_key.values()) == {"champion", "candidate"}
    assert answer.variants == [by_key[key] for key in keys]
    amounts = {"champion": 100.0, "candidate": 200.0}
    assert answer.outputs["value"] == [n + amounts[name] for n, name in enumerate(answer.variants)]
    logged = {item.id: item for item in read_predictions(made.folder / "journal")[0]}
    assert [logged[identifier].variant for identifier in answer.ids] == answer.variants
    assert [logged[identifier].features for identifier in answer.ids] == [[float(n)] for n in range(60)]


def test_rows_without_a_key_are_spread_by_weight(make_plane: MakePlane, plus: Any) -> None:
    made = make_plane()
    endpoint = made.serve((variant("champion", 1, 0.75), plus(1)), (variant("candidate", 2, 0.25), plus(2)))
    answer = run(ask(made, endpoint, [0.0] * 4000))
    assert 0.21 < answer.variants.count("candidate") / 4000 < 0.29


def test_a_version_can_be_asked_for_whatever_the_traffic_says(make_plane: MakePlane, plus: Any) -> None:
    made = make_plane()
    endpoint = made.serve((variant("champion", 1, 1.0), plus(1)), (variant("next", 2, shadow=True), plus(2)))
    assert run(ask(made, endpoint, [0.0], version="2")).outputs["value"] == [2.0]
    with pytest.raises(NotFound, match="does not serve version '3'"):
        run(ask(made, endpoint, [0.0], version="3"))


def test_a_shadow_answers_into_the_log_only_and_points_at_the_answer_given(make_plane: MakePlane, plus: Any) -> None:
    made = make_plane()
    endpoint = made.serve((variant("champion"), plus(1)), (variant("dark", 2, shadow=True), plus(2)))

    async def work() -> Any:
        answer = await ask(made, endpoint, [1.0, 2.0])
        for _ in range(5):
            await asyncio.sleep(0)
        return answer

    answer = run(work())
    assert set(answer.variants) == {"champion"}
    logged, _ = read_predictions(made.folder / "journal")
    dark = [item for item in logged if item.shadow]
    assert [item.shadow_of for item in dark] == answer.ids
    assert [item.outputs["value"] for item in dark] == [3.0, 4.0]
    assert len({item.id for item in logged}) == 4


def test_a_row_that_a_model_fails_on_fails_alone_and_is_logged_as_an_error(
    make_plane: MakePlane, tmp_path: Path
) -> None:
    made = make_plane()
    endpoint = made.serve((variant("champion"), failing_bundle(tmp_path / "bundle")))

    async def work() -> list[Any]:
        return await asyncio.gather(*(ask(made, endpoint, [value]) for value in (0, 9, 2)))

    good, bad, other = run(work())
    assert (good.outputs["value"], other.outputs["value"]) == ([10.0], [30.0])
    assert isinstance(bad, ModelFailed)
    statuses = {tuple(item.features): item.status for item in read_predictions(made.folder / "journal")[0]}
    assert statuses == {(0,): "ok", (9,): "error", (2,): "ok"}


def test_a_number_beyond_float32_is_refused_and_its_neighbours_are_answered(make_plane: MakePlane, plus: Any) -> None:
    made = make_plane()
    endpoint = made.serve((variant("champion"), plus(1)))

    async def work() -> list[Any]:
        return await asyncio.gather(*(ask(made, endpoint, [value]) for value in (1.0, 1e39, -1e300, 2.0)))

    one, huge, low, two = run(work())
    assert (one.outputs["value"], two.outputs["value"]) == ([2.0], [3.0])
    assert isinstance(huge, Invalid)
    assert isinstance(low, Invalid)
    assert len(read_predictions(made.folder / "journal")[0]) == 2


def test_what_would_wait_too_long_is_shed_at_once(make_plane: MakePlane, plus: Any) -> None:
    made = make_plane(limits=Limits(queue_rows=10))
    endpoint = made.serve((variant("champion"), plus(1)))

    async def work() -> list[Any]:
        asks = [ask(made, endpoint, [0.0, 1.0, 2.0]) for _ in range(6)]
        return await asyncio.gather(*asks, return_exceptions=True)

    answers = run(work())
    assert [type(answer).__name__ for answer in answers] == ["Answer"] * 3 + ["Unavailable"] * 3
    assert made.metrics.shed == 3
    assert made.metrics.queued_rows == 0
    assert isinstance(run(ask(made, endpoint, [0.0] * 10)), Answer)


def test_what_would_wait_for_too_long_is_told_from_what_others_took(make_plane: MakePlane, plus: Any) -> None:
    made = make_plane(limits=Limits(turn_requests=3, turn_s=2.5, burst_s=0.0))
    made.plane.pace.answered(rows=10, requests=10, took_s=10.0, run_s=10.0)
    endpoint = made.serve((variant("champion"), plus(1)))

    async def refused() -> list[bool]:
        replies: list[Any] = []
        found = []
        for now_ns in range(4):
            try:
                made.plane.admit(now_ns)
            except Unavailable:
                found.append(True)
                continue
            found.append(False)
            made.plane.submit(Query("e", endpoint.intake.rows([("x", [1.0])]), replies.append), endpoint)
        await asyncio.sleep(0.01)
        made.plane.admit(4)
        assert len(replies) == 3, "those that were taken are answered"
        return found

    assert run(refused()) == [False, False, False, True]
    assert made.metrics.shed == 1


def test_of_very_much_the_first_is_answered_before_more_is_looked_at(make_plane: MakePlane, plus: Any) -> None:
    made = make_plane(
        limits=Limits(
            slice_requests=2,
            slice_s=60.0,
            shed_s=60.0,
            turn_requests=2,
            turn_s=0.0,
            patience_s=60.0,
            overload_s=60.0,
            burst_s=0.0,
        )
    )
    made.plane.pace.answered(rows=1, requests=1, took_s=1e-3, run_s=1e-3)
    endpoint = made.serve((variant("champion"), plus(1)))
    order: list[float] = []
    full: list[bool] = []

    async def work() -> None:
        for number in range(5):

            def reply(answer: Any) -> None:
                order.append(answer.outputs["value"][0])

            rows = endpoint.intake.rows([("x", [float(number)])])
            made.plane.submit(Query("e", rows, reply), endpoint)
        for _ in range(3):
            full.append(made.plane.is_full(time.monotonic_ns()))
            await asyncio.sleep(0)
            full.append(len(order) in (2, 4, 5))

    run(work())
    assert order == [1.0, 2.0, 3.0, 4.0, 5.0]
    assert full == [True, True, True, True, False, True]
    assert (made.metrics.queued_rows, made.plane._waiting, made.plane._turn_queries) == (0, 0, 0)


def test_more_rows_than_a_request_may_have_are_refused(make_plane: MakePlane, plus: Any) -> None:
    made = make_plane(limits=Limits(request_rows=100))
    endpoint = made.serve((variant("champion"), plus(1)))
    with pytest.raises(Invalid, match="has 101 rows"):
        run(ask(made, endpoint, [0.0] * 101))


@pytest.mark.slow
def test_a_small_request_need_not_wait_for_a_very_large_one(make_plane: MakePlane, plus: Any) -> None:
    made = make_plane(limits=Limits(inline_rows=1000))
    endpoint = made.serve((variant("champion"), plus(1)))
    order: list[str] = []

    async def tell(name: str, values: list[float]) -> Any:
        answer = await ask(made, endpoint, values)
        order.append(name)
        return answer

    async def work() -> Any:
        return await asyncio.gather(tell("large", [0.0] * 60_000), tell("small", [1.0]))

    large, _ = run(work())
    assert order == ["small", "large"]
    assert large.outputs["value"] == [1.0] * 60_000
    assert len(set(large.ids)) == 60_000
    assert made.metrics.queued_rows == 0


def test_answers_go_on_without_ids_when_the_log_cannot_be_written(make_plane: MakePlane, plus: Any) -> None:
    made = make_plane()
    endpoint = made.serve((variant("champion"), plus(1)))
    (made.folder / "journal").rename(made.folder / "gone")
    (made.folder / "journal").write_text("in the way")
    answer = run(ask(made, endpoint, [1.0, 2.0]))
    assert (answer.outputs["value"], answer.ids) == ([2.0, 3.0], ["", ""])
    assert made.metrics.unlogged == 2


def test_sampling_logs_a_share_and_gives_ids_to_what_is_logged(make_plane: MakePlane, plus: Any) -> None:
    made = make_plane()
    endpoint = made.serve((variant("champion"), plus(1)), log=LogPolicy(sample=0.3))
    answer = run(ask(made, endpoint, [0.0] * 3000))
    kept = [identifier for identifier in answer.ids if identifier]
    assert 0.25 < len(kept) / 3000 < 0.35
    assert {item.id for item in read_predictions(made.folder / "journal")[0]} == set(kept)


def test_queries_under_way_end_with_the_model_that_they_started_with(make_plane: MakePlane, plus: Any) -> None:
    made = make_plane()
    old = made.serve((variant("champion", 1), plus(1)))

    async def work() -> Any:
        first = asyncio.ensure_future(ask(made, old, [0.0]))
        await asyncio.sleep(0)
        new = made.serve((variant("champion", 2), plus(2)))
        return await first, await ask(made, new, [0.0])

    before, after = run(work())
    assert (before.outputs["value"], before.models) == ([1.0], ["model:m@1"])
    assert (after.outputs["value"], after.models) == ([2.0], ["model:m@2"])


def test_a_candidate_that_needs_a_new_input_refuses_only_rows_that_lack_it(
    make_plane: MakePlane, plus: Any, tmp_path: Path
) -> None:
    made = make_plane()
    endpoint = made.serve(
        (variant("champion", 1), plus(1)), (variant("candidate", 2, 1.0), adding_bundle(2, tmp_path / "b", "wind"))
    )
    assert endpoint.intake.names == ("x", "wind")

    async def work() -> list[Any]:
        asks = [ask(made, endpoint, [0.0], keys=[str(n)]) for n in range(40)]
        return await asyncio.gather(*asks, return_exceptions=True)

    answers = run(work())
    refused = [answer for answer in answers if isinstance(answer, Invalid)]
    assert 0 < len(refused) < 40
    assert "'wind', row 0: is not in the request" in str(refused[0])
    assert all(a.outputs["value"] == [1.0] for a in answers if isinstance(a, Answer))


def test_a_fault_in_one_turn_costs_nobody_else_an_answer_and_the_next_turn_comes(
    make_plane: MakePlane, plus: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A front that raises, a run that cannot even begin, a reply that fails, shadows out of order: each is reported."""
    made = make_plane()
    endpoint = made.serve((variant("champion"), plus(1)), (variant("shadow", 2, shadow=True), plus(2)))

    def broken(*_: Any) -> Any:
        raise RuntimeError("a fault of ours")

    async def work() -> None:
        made.plane.expect(broken)
        one = await asyncio.wait_for(ask(made, endpoint, [1.0]), 5)
        assert isinstance(one, Answer)
        assert one.outputs == {"value": [2.0]}
        bad = Query("e", endpoint.intake.rows([("x", [1.0])]), broken)
        made.plane.submit(bad, endpoint)
        with monkeypatch.context() as patch:
            patch.setattr(made.plane._shadows, "offer", broken)
            two = await asyncio.wait_for(asyncio.gather(*(ask(made, endpoint, [2.0]) for _ in range(3))), 5)
        assert [answer.outputs for answer in two if isinstance(answer, Answer)] == [{"value": [3.0]}] * 3
        with monkeypatch.context() as patch:
            patch.setattr("loopwright.serve.dataplane.Batch", broken)
            assert isinstance(await asyncio.wait_for(ask(made, endpoint, [1.0]), 5), ModelFailed)
        assert isinstance(await asyncio.wait_for(ask(made, endpoint, [4.0]), 5), Answer)

    run(work())
    assert made.metrics.queued_rows == 0
    assert capsys.readouterr().err.count("RuntimeError: a fault of ours") == 6


def test_an_unknown_endpoint_is_named_with_those_that_are_served(make_plane: MakePlane, plus: Any) -> None:
    made = make_plane()
    made.serve((variant("champion"), plus(1)))
    with pytest.raises(NotFound, match=r"no endpoint 'x' is served here \(served: e\)"):
        made.plane.endpoint("x")


def test_arrays_are_answered_as_lists_are_and_logged_the_same(make_plane: MakePlane, plus: Any) -> None:
    made = make_plane()
    endpoint = made.serve((variant("champion", 1, 0.5), plus(100)), (variant("candidate", 2, 0.5), plus(200)))
    keys = [f"key{number % 7}" for number in range(30)]
    block = endpoint.intake.block({"x": np.arange(30, dtype=np.float32)})

    async def both() -> Any:
        reply: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        made.plane.submit(Query("e", block, reply.set_result, keys=keys), endpoint)
        return await asyncio.gather(reply, ask(made, endpoint, list(range(30)), keys=keys))

    arrays, lists = run(both())
    assert arrays.outputs == lists.outputs
    assert arrays.variants == lists.variants
    np.testing.assert_array_equal(arrays.arrays()["value"], np.array(lists.outputs["value"], dtype=np.float32))
    logged = {item.id: item for item in read_predictions(made.folder / "journal")[0]}
    told = [[(logged[at].features, logged[at].outputs, logged[at].key) for at in one.ids] for one in (arrays, lists)]
    assert told[0] == told[1]


class Blocking:
    """A predictor that may not be called on the event loop; it answers when it is let go."""

    inline = False

    def __init__(self, bundle: Bundle) -> None:
        self._inner = bundle.predictor()
        self.signature, self.manifest = self._inner.signature, self._inner.manifest
        self.go, self.threads, self.sizes = threading.Event(), set[str](), list[int]()

    def predict_rows(self, rows: list[Any]) -> Any:
        self.threads.add(threading.current_thread().name)
        self.sizes.append(len(rows))
        assert self.go.wait(10)
        return self._inner.predict_rows(rows)


def blocking(made: Plane, bundle: Bundle) -> tuple[LoadedEndpoint, Blocking]:
    """An endpoint `slow` whose model blocks."""
    endpoint = made.serve((variant("champion"), bundle), name="slow")
    predictor = endpoint.live[0].predictor = Blocking(bundle)  # type: ignore[assignment]  # of the same shape
    endpoint.inline = False
    return endpoint, predictor  # type: ignore[return-value]


async def ask_slow(made: Plane, endpoint: LoadedEndpoint, value: float, **settings: Any) -> Any:
    reply: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
    query = Query("slow", endpoint.intake.rows([("x", [value])]), reply.set_result, **settings)
    made.plane.submit(query, endpoint)
    return await reply


def test_a_model_that_blocks_has_a_thread_of_its_own_and_the_others_go_on(make_plane: MakePlane, plus: Any) -> None:
    made = make_plane()
    quick = made.serve((variant("champion"), plus(1)))
    slow, predictor = blocking(made, plus(2))

    async def work() -> Any:
        waiting = [asyncio.ensure_future(ask_slow(made, slow, float(n))) for n in range(5)]
        while not predictor.sizes:
            await asyncio.sleep(0.001)
        answer = await ask(made, quick, [1.0])
        held = [one.done() for one in waiting]
        predictor.go.set()
        return answer, held, await asyncio.gather(*waiting)

    answer, held, answers = run(work())
    assert answer.outputs["value"] == [2.0]
    assert not any(held)
    assert [one.outputs["value"] for one in answers] == [[n + 2.0] for n in range(5)]
    assert predictor.threads == {"loopwright-model:m@1"}
    assert sum(predictor.sizes) == 5
    assert len(predictor.sizes) <= 2, "what waits behind a run is answered by the next one, together"
    assert made.metrics.queued_rows == 0
    assert {item.id for item in read_predictions(made.folder / "journal")[0]} >= {one.ids[0] for one in answers}


def test_what_waits_for_a_model_that_hangs_is_answered_at_its_deadline_and_never_run(
    make_plane: MakePlane, plus: Any
) -> None:
    made = make_plane(limits=Limits(wait_s=1.0, lane_rows=4))
    slow, predictor = blocking(made, plus(2))

    async def work() -> Any:
        hanging = [asyncio.ensure_future(ask_slow(made, slow, 0.0))]
        while not predictor.sizes:
            await asyncio.sleep(0.001)
        soon = time.monotonic_ns() + 500_000_000
        hanging += [asyncio.ensure_future(ask_slow(made, slow, 1.0, deadline_ns=soon)) for _ in range(3)]
        await asyncio.sleep(0)
        shed = await asyncio.gather(ask_slow(made, slow, 2.0), return_exceptions=True)
        answers = await asyncio.gather(*hanging)
        predictor.go.set()
        await asyncio.sleep(0.1)
        return answers, shed, await ask_slow(made, slow, 3.0)

    answers, shed, after = run(work())
    assert [isinstance(one, Unavailable) and "deadline" in str(one) for one in answers] == [True] * 4
    assert "4 rows wait already" in str(shed[0])
    assert after.outputs["value"] == [5.0]
    assert predictor.sizes == [1, 1], "those whose time was up were not run"
    assert made.metrics.queued_rows == 0
    assert [item.features for item in read_predictions(made.folder / "journal")[0]] == [[3.0]]


def test_what_would_wait_too_long_for_a_model_of_its_own_process_is_refused_before_it_is_read(
    make_plane: MakePlane, plus: Any
) -> None:
    made = make_plane(limits=Limits(turn_requests=2, turn_s=0.0, burst_s=0.0, worth_s=0.0))
    slow, predictor = blocking(made, plus(2))

    async def work() -> Any:
        predictor.go.set()
        await ask_slow(made, slow, 0.0)  # tells how long one takes
        predictor.go.clear()
        waiting = [asyncio.ensure_future(ask_slow(made, slow, float(n))) for n in (1, 2)]
        await asyncio.sleep(0)
        with pytest.raises(Unavailable, match="more requests arrive"):
            made.plane.admit_to(slow, time.monotonic_ns())
        with pytest.raises(Unavailable, match="2 rows wait already"):
            await ask_slow(made, slow, 3.0)
        predictor.go.set()
        answers = await asyncio.gather(*waiting)
        made.plane.admit_to(slow, time.monotonic_ns())
        return answers

    assert [one.outputs["value"] for one in run(work())] == [[3.0], [4.0]]
    assert made.metrics.shed == 2


def test_a_deadline_that_has_passed_when_its_turn_comes_is_told(make_plane: MakePlane, plus: Any) -> None:
    made = make_plane()
    endpoint = made.serve((variant("champion"), plus(1)))

    async def work() -> Any:
        return await asyncio.gather(ask(made, endpoint, [1.0], deadline_ns=1), ask(made, endpoint, [2.0]))

    late, good = run(work())
    assert isinstance(late, Unavailable)
    assert good.outputs["value"] == [3.0]
