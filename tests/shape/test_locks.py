"""The lock files hold what pyproject asks for, agree with each other, and name no address."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from tests.shape.source import ROOT

LOCKS = ("requirements.lock", "requirements-demo.lock", "requirements-uv.lock")
LOCKED = re.findall(r"^LOCKED := (.*)$", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)[0].split()
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def pins(lock: str) -> dict[str, set[str]]:
    """The versions that a lock file pins, by name; a name may have several, for different platforms."""
    found: dict[str, set[str]] = {}
    for name, version in re.findall(r"^([\w.\-]+)==([^ ;]+)", (ROOT / lock).read_text(encoding="utf-8"), re.MULTILINE):
        found.setdefault(canonicalize_name(name), set()).add(version)
    return found


def asked(*extras: str, groups: tuple[str, ...] = ()) -> list[Requirement]:
    """What pyproject asks for."""
    project = PROJECT["project"]
    texts = list(project["dependencies"])
    for extra in extras:
        texts += project["optional-dependencies"][extra]
    for group in groups:
        texts += PROJECT["dependency-groups"][group]
    return [Requirement(text) for text in texts]


@pytest.mark.parametrize(
    ("lock", "requirements"),
    [
        ("requirements.lock", asked(*LOCKED, groups=("dev", "docs"))),
        ("requirements-demo.lock", asked("demo")),
    ],
)
def test_a_lock_holds_what_is_asked_for(lock: str, requirements: list[Requirement]) -> None:
    held = pins(lock)
    wrong = [
        str(item)
        for item in requirements
        if not any(item.specifier.contains(version) for version in held.get(canonicalize_name(item.name), ()))
    ]
    assert wrong == [], "run make lock"


def test_an_extra_is_locked_or_proved_apart() -> None:
    apart = {path.parent.name for path in (ROOT / "tests" / "interop").glob("*/requirements.txt")}
    extras = set(PROJECT["project"]["optional-dependencies"])
    assert set(LOCKED) <= extras
    assert extras - set(LOCKED) <= apart


def test_the_demo_is_pinned_as_everything_else_is() -> None:
    everything = pins("requirements.lock")
    assert {
        name for name, versions in pins("requirements-demo.lock").items() if not versions <= everything[name]
    } == set()


@pytest.mark.parametrize("lock", LOCKS)
def test_a_lock_names_hashes_and_no_address(lock: str) -> None:
    text = (ROOT / lock).read_text(encoding="utf-8")
    assert "://" not in text
    assert "index-url" not in text
    assert text.count("--hash=sha256:") >= len(pins(lock)) > 0


@pytest.mark.slow
def test_nothing_tracked_names_a_machine_or_an_index() -> None:
    done = subprocess.run([sys.executable, ROOT / ".ci" / "tracked.py"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
