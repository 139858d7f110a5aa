"""The receiver on the page about webhooks knows what we sign from what we do not."""

from __future__ import annotations

import re
import time
from typing import Any

from tests.shape.source import ROOT

from loopwright.govern.webhooks.formats import NativeFormat, sign


def test_the_receiver_that_is_shown_knows_our_signature() -> None:
    text = (ROOT / "docs/how-to/webhooks.md").read_text(encoding="utf-8")
    [block] = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    shown: dict[str, Any] = {}
    exec(block, shown)
    at = str(int(time.time()))
    headers = NativeFormat().headers("d1", at, sign("secret", "d1", at, "{}"))
    assert shown["is_genuine"](headers, "{}", "secret")
    assert not shown["is_genuine"](headers, "{ }", "secret")
    assert not shown["is_genuine"](headers, "{}", "other")
    old = str(int(time.time()) - 3600)
    assert not shown["is_genuine"](NativeFormat().headers("d1", old, sign("secret", "d1", old, "{}")), "{}", "secret")
