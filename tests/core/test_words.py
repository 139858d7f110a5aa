"""The words of core: ids, digests, names, refs, clock, settings, operations, errors, plug-ins."""

from __future__ import annotations

import io
import os
import threading
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from loopwright import core
from loopwright.core import Invalid, ManualClock, Ref, Registry, check_name, check_path, operation, parse_ref


def test_ids_sort_in_the_order_in_which_they_were_made():
    made = [core.new_id() for _ in range(2500)] + core.new_ids(2500) + [core.new_id()]
    assert made == sorted(made)
    assert len(set(made)) == len(made)
    assert all(core.is_id(identifier) and identifier[12] == "7" and identifier[16] in "89ab" for identifier in made)


def test_ids_made_by_many_threads_are_all_different():
    made: list[str] = []
    threads = [threading.Thread(target=lambda: made.extend(core.new_id() for _ in range(2000))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(made)) == 16000


@given(st.lists(st.integers(1, 700), min_size=1, max_size=4))
def test_ids_made_together_are_in_order_and_random_where_they_are_to_be(counts: list[int]):
    made = b"".join(core.id_bytes(count) for count in counts)
    numbers = [int.from_bytes(made[at : at + 16], "big") for at in range(0, len(made), 16)]
    ticks = [number >> 80 << 12 | number >> 64 & 0xFFF for number in numbers]
    assert len(numbers) == sum(counts)
    assert all(earlier < later for earlier, later in pairwise(ticks))
    assert {(number >> 76 & 15, number >> 62 & 3) for number in numbers} == {(7, 2)}
    assert len({number & (2**62 - 1) for number in numbers}) == len(numbers)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="processes are not copied on this system")
def test_a_copy_of_a_process_draws_other_random_numbers():
    core.new_id()
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(writer, core.id_bytes(1))
        os._exit(0)
    os.waitpid(child, 0)
    assert os.read(reader, 16)[9:] != core.id_bytes(1)[9:]


def test_an_id_tells_when_it_was_made():
    before = datetime.now(UTC) - timedelta(milliseconds=2)
    assert before <= core.time_of(core.new_id()) <= datetime.now(UTC) + timedelta(milliseconds=2)


@given(st.binary(max_size=3_000_000))
def test_bytes_streams_and_files_have_the_same_digest(data):
    digest, size = core.digest_stream(io.BytesIO(data))
    assert (digest, size) == (core.digest_bytes(data), len(data))


def test_a_file_has_the_digest_of_its_bytes(tmp_path: Path):
    for data in (b"", b"x", b"y" * 300_000):
        path = tmp_path / "file"
        path.write_bytes(data)
        assert core.digest_file(path) == core.digest_bytes(data)


@given(st.dictionaries(st.text(), st.integers(-(2**53), 2**53) | st.text() | st.none() | st.lists(st.booleans())))
def test_the_digest_of_a_value_does_not_depend_on_the_order_of_its_keys(value):
    assert core.digest_value(value) == core.digest_value(dict(reversed(list(value.items()))))
    assert core.decode(core.encode(value)) == value


@pytest.mark.parametrize("name", ["flights", "A", "weather_hourly", "v1.2-rc", "0", "a" * 128])
def test_plain_names_are_allowed(name):
    assert check_name("dataset", name) == name


@pytest.mark.parametrize(
    "name", ["", ".", "..", "a..b", "a/b", "a b", "-a", "_a", "ä", "a\n", "a" * 129, "a\x00", "a:b", "a@b"]
)
def test_other_names_are_refused(name):
    with pytest.raises(Invalid, match="cannot name a dataset"):
        check_name("dataset", name)


@pytest.mark.parametrize("path", ["a", "a/b.txt", "äöü/x y.csv", ".hidden/file", "a/..b"])
def test_safe_relative_paths_are_allowed(path):
    assert check_path(path) == path


@pytest.mark.parametrize(
    "path", ["", "/etc/passwd", "a//b", "../a", "a/../b", "a/.", "c:\\x", "a\\b", "a\x00", "a/", "x" * 2000, "a\n"]
)
def test_paths_that_escape_are_refused(path):
    with pytest.raises(Invalid, match="safe relative path"):
        check_path(path)


@given(st.text(max_size=60))
def test_an_allowed_path_stays_inside_its_folder(path):
    try:
        check_path(path)
    except Invalid:
        return
    folder = Path("/base/folder")
    assert folder in Path(folder, path).resolve().parents


@pytest.mark.parametrize(
    ("text", "ref"),
    [
        ("dataset:flights@12", Ref("dataset", "flights", "12")),
        ("model:delay@champion", Ref("model", "delay", "champion")),
        ("model:delay", Ref("model", "delay")),
        ("feature:weather_hourly", Ref("feature", "weather_hourly")),
        ("run:0197d1f0a0007a3e8f1122334455667f", Ref("run", "0197d1f0a0007a3e8f1122334455667f")),
        ("code:" + "a" * 64, Ref("code", "a" * 64)),
    ],
)
def test_refs_are_parsed_and_written_alike(text, ref):
    assert parse_ref(text) == ref
    assert str(ref) == text


def test_a_short_ref_needs_its_kind():
    assert parse_ref("delay@3", "model") == parse_ref("model:delay@3")
    assert parse_ref("delay@3", "model").version == 3
    assert parse_ref("delay@best", "model").alias == "best"
    with pytest.raises(Invalid, match="is not a ref"):
        parse_ref("delay@3")


@pytest.mark.parametrize(
    ("text", "kind", "message"),
    [
        ("house:x", "", "there is no kind 'house'"),
        ("run:xyz", "", "is not an id"),
        ("dataset:a@", "", "ends in '@'"),
        ("endpoint:a@3", "", "has no versions"),
        ("model:a", "dataset", "a dataset ref is needed"),
        ("dataset:../x", "", "cannot name a dataset"),
        ("dataset:x@../y", "", "cannot name a version"),
        ("bundle:12", "", "is not a digest"),
    ],
)
def test_bad_refs_say_what_is_wrong(text, kind, message):
    with pytest.raises(Invalid, match=message):
        parse_ref(text, kind)


def test_a_manual_clock_only_goes_forward():
    clock = ManualClock(datetime(2013, 4, 1, tzinfo=UTC))
    clock.advance(datetime(2013, 4, 2, tzinfo=UTC))
    assert clock.now() == datetime(2013, 4, 2, tzinfo=UTC)
    with pytest.raises(Invalid, match="cannot go back"):
        clock.advance(datetime(2013, 4, 1, tzinfo=UTC))
    with pytest.raises(Invalid, match="no zone"):
        clock.advance(datetime(2014, 4, 1))  # noqa: DTZ001  a naive time is the point


def test_the_workspace_is_the_nearest_settings_file_upwards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "loopwright.toml").write_text('project = "air"\n')
    deep = tmp_path / "a" / "b"
    deep.mkdir(parents=True)
    monkeypatch.chdir(deep)
    found = core.locate(environ={})
    assert (found.root, found.data, found.settings.project) == (tmp_path, tmp_path / ".loopwright", "air")


def test_a_given_folder_and_the_environment_win(tmp_path: Path):
    assert core.locate(tmp_path / "x", environ={"LOOPWRIGHT_WORKSPACE": "/y"}).root == tmp_path / "x"
    assert core.locate(environ={"LOOPWRIGHT_WORKSPACE": str(tmp_path / "y")}).root == tmp_path / "y"
    assert core.locate(tmp_path / ".loopwright", environ={}).data == tmp_path / ".loopwright"


@pytest.mark.parametrize(
    ("text", "message"),
    [("project = [", "not valid TOML"), ("colour = 1", "unknown field `colour`"), ("tick_s = 'soon'", "tick_s")],
)
def test_bad_settings_name_the_file_and_the_setting(tmp_path: Path, text, message):
    path = tmp_path / "loopwright.toml"
    path.write_text(text)
    with pytest.raises(Invalid, match=message) as caught:
        core.load_settings(path, environ={})
    assert str(path) in str(caught.value)


def test_variables_override_the_file(tmp_path: Path):
    path = tmp_path / "loopwright.toml"
    path.write_text("tick_s = 5.0\n")
    assert core.load_settings(path, environ={"LOOPWRIGHT_TICK_S": "0.2"}).tick_s == 0.2


class _Rooms:
    @operation("rooms.find", permission="rooms:read")
    def find(self, name: str, limit: int = 10, tags: dict[str, str] | None = None) -> list[str]:
        """Find rooms by name.

        More text.
        """
        return [f"{name}-{index}-{sorted(tags or {})}" for index in range(limit)]

    def inner(self) -> None:
        """Not an operation."""


def test_an_operation_is_derived_from_its_function():
    (found,) = core.operations_of(_Rooms)
    assert (found.name, found.room, found.verb, found.permission) == ("rooms.find", "rooms", "find", "rooms:read")
    assert found.summary == "Find rooms by name."
    assert found.result_type == list[str]
    request = msgspec.json.decode(b'{"name": "a", "limit": 2, "tags": {"x": "y"}}', type=found.request_type)
    assert found.call(_Rooms(), request) == ["a-0-['x']", "a-1-['x']"]


@pytest.mark.parametrize("body", [b'{"limit": 2}', b'{"name": 3}', b'{"name": "a", "more": 1}'])
def test_an_operation_refuses_missing_wrong_and_unknown_parameters(body):
    (found,) = core.operations_of(_Rooms)
    with pytest.raises(msgspec.ValidationError):
        msgspec.json.decode(body, type=found.request_type)


def test_a_malformed_operation_is_refused_when_it_is_declared():
    with pytest.raises(Invalid, match="malformed"):
        operation("find", permission="rooms:read")


def test_errors_say_fact_place_and_next_step():
    error = core.NotFound(
        "dataset 'flights' has no version 12; the newest is 9", next_step="loopwright data log flights"
    )
    assert str(error) == "dataset 'flights' has no version 12; the newest is 9 (loopwright data log flights)"
    assert (error.exit_code, error.http_status, error.code) == (3, 404, "not_found")
    assert str(Invalid("expected a number", where="a.csv:3")) == "a.csv:3: expected a number"


def test_a_registry_names_what_it_knows():
    formats: Registry[type] = Registry("formats", "format")
    formats.register("csv")(int)
    assert formats.get("csv") is int
    with pytest.raises(Invalid, match=r"no format 'xml'.*known: csv"):
        formats.get("xml")
    with pytest.raises(Invalid, match="registered twice"):
        formats.register("csv")(float)


def test_a_program_that_is_missing_or_slow_is_reported():
    assert core.run_program(["echo", "hello"]).stdout == "hello\n"
    with pytest.raises(core.Unavailable, match="not installed"):
        core.run_program(["no-such-program"])
    with pytest.raises(core.Unavailable, match="did not end"):
        core.run_program(["sleep", "5"], timeout_s=0.1)


def test_progress_reaches_the_reporter_that_is_set_from_above():
    seen: list[tuple[str, float]] = []

    class Bar:
        def __init__(self, title: str) -> None:
            self.title = title

        def advance(self, amount: float = 1.0, *, note: str = "") -> None:
            seen.append((self.title, amount))

    def report(title, total):
        yield Bar(title)

    with core.progress("quiet") as task:
        task.advance(1)
    with core.shown_by(report), core.progress("loud", 3) as task:
        task.advance(2)
    assert seen == [("loud", 2)]
