"""The page on long metrics does what it says."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.docs.test_tutorial import DOCS, blocks


def test_the_page_on_long_metrics_is_right(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    program = "\n".join(blocks(DOCS / "how-to" / "long-metrics.md", "python"))
    assert program.count("assert ") == 3
    exec(compile(program, "long-metrics.md", "exec"), {})
