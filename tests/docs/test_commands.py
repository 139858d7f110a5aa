"""Every command in the documentation exists, with the options that are shown."""

from __future__ import annotations

import contextlib
import io
import re
from functools import cache

import pytest
from tests.docs.test_reference import PAGES
from tests.shape.source import ROOT

from loopwright.cli.main import main

pytestmark = pytest.mark.slow

TARGET = re.compile(r"^([a-z-]+):", re.MULTILINE)


def shown(program: str) -> list[str]:
    """The lines of console blocks, and the texts set as code, that call `program`."""
    found: set[str] = set()
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        blocks = re.findall(r"```(?:console|bash|sh)\n(.*?)```", text, re.DOTALL)
        lines = [line.strip().removeprefix("$ ") for block in blocks for line in block.splitlines()]
        lines += re.findall(rf"`({program} [^`\n]+)`", text)
        found.update(line.split("#")[0].split(">")[0].strip() for line in lines if line.startswith(f"{program} "))
    return sorted(found)


@pytest.mark.parametrize("line", shown("loopwright"))
def test_a_command_that_is_shown_is_there_with_its_options(line: str) -> None:
    words = line.split()[1:]
    command = []
    for word in words:
        if not re.fullmatch(r"[a-z][a-z-]*", word):
            break
        command.append(word)
    text = _help_of(command)
    options = {word.split("=")[0] for word in words if word.startswith("--")}
    assert [option for option in options if option not in text] == []


@pytest.mark.parametrize("line", shown("make"))
def test_a_make_target_that_is_shown_is_there(line: str) -> None:
    targets = set(TARGET.findall((ROOT / "Makefile").read_text(encoding="utf-8")))
    assert line.split()[1].strip("`,.") in targets


def _help_of(command: list[str]) -> str:
    """The help of the longest part of `command` that is a command: what follows it are arguments."""
    for length in range(len(command), 0, -1):
        code, text = _asked(tuple(command[:length]))
        if code == 0:
            return text
    raise AssertionError(f"there is no command {command[0]}")


@cache
def _asked(command: tuple[str, ...]) -> tuple[int, str]:
    """How a command ends that is asked for its help, and what it prints."""
    shown, wrong = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(shown), contextlib.redirect_stderr(wrong):
        return main([*command, "--help"]), shown.getvalue()
