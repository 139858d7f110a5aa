"""Run tests; where few fail, run those once more, alone, and name them.

    python .ci/twice.py [what pytest takes...]

One unsteady test among thousands says nothing about a change, but it is a fault of ours, so it is told loudly. Many
failures, a file that cannot be collected, a missing server and a run that was broken off fail at once.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from xml.etree import ElementTree

MOST = 5
PYTEST = [sys.executable, "-m", "pytest"]
# One after the other: without the options of pytest-xdist that the first run had.
ALONE = ["-p", "no:xdist", "--last-failed"]
SOME_FAILED = 1
MISSING = "missing: "  # how tests/servers.py begins the reason of a test that could not run


def failed(cache: Path) -> list[str]:
    """What pytest noted as failed in its last run: ids of tests, and of files that could not be collected."""
    noted = cache / "v" / "cache" / "lastfailed"
    return sorted(json.loads(noted.read_text(encoding="utf-8"))) if noted.exists() else []


def outcomes(report: Path) -> list[dict[str, str]]:
    """What a JUnit report says of each test: the parts that tell of a failure, an error or a skip, with the reason."""
    cases = ElementTree.parse(report).getroot().iter("testcase")  # noqa: S314  (pytest wrote it a moment ago)
    told = ("failure", "error", "skipped")
    return [{part.tag: part.get("message", "") for part in case if part.tag in told} for case in cases]


def could_run(report: Path) -> bool:
    """Whether no test was skipped for want of a server."""
    return not any(each.get("skipped", "").startswith(MISSING) for each in outcomes(report))


def few_tests(names: list[str]) -> bool:
    """Whether these are tests, and few enough to look at once more."""
    return 0 < len(names) <= MOST and all("::" in name for name in names)


def again(names: list[str], folder: Path, tests: list[str]) -> int:
    """Run these tests alone; 0 only if each of them ran and passed."""
    say(f"{len(names)} failed; once more, alone and one after the other:", names)
    report = folder / "again.xml"
    options = [*ALONE, "-o", f"cache_dir={folder / 'cache'}", f"--junitxml={report}"]
    status = subprocess.run([*PYTEST, *options, *tests], check=False).returncode
    if status or failed(folder / "cache") or outcomes(report) != [{}] * len(names):
        say("failed twice, or did not run the second time:", failed(folder / "cache") or names)
        return status or SOME_FAILED
    say(f"UNSTEADY: {len(names)} failed beside others and passed alone; their verdict is chance, mend them:", names)
    return 0


def say(line: str, names: list[str]) -> None:
    """A line and the names below it, where nobody overlooks them."""
    rule = "=" * 100
    sys.stdout.write("\n".join([f"\n{rule}", line, *(f"    {name}" for name in names), rule, ""]))
    sys.stdout.flush()


def main(arguments: list[str]) -> int:
    """Exit status: pytest's, or 0 where few failed and all of them passed alone."""
    tests = [one for one in arguments if Path(one.partition("::")[0]).exists()]
    with tempfile.TemporaryDirectory(prefix="loopwright-twice-") as name:
        folder = Path(name)
        report = folder / "first.xml"
        options = ["-o", f"cache_dir={folder / 'cache'}", f"--junitxml={report}"]
        status = subprocess.run([*PYTEST, *options, *arguments], check=False).returncode
        names = failed(folder / "cache")
        if status != SOME_FAILED or not few_tests(names) or not could_run(report):
            return status
        return again(names, folder, tests)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
