"""The code in the how-to page does what the page says."""

from __future__ import annotations

import re
import textwrap
from pathlib import Path
from typing import Any

PAGE = Path(__file__).resolve().parents[3] / "docs" / "how-to" / "torch.md"


def test_the_pages_code_makes_a_bundle(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    [block] = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    names: dict[str, Any] = {}
    exec(textwrap.dedent("    " + block.lstrip()), names)
    assert names["bundle"].manifest.parity.passed
    assert names["bundle"].manifest.task == "binary"
