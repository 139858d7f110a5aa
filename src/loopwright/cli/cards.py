"""Cards as files: a page of HTML, and the author's own text that stays when a card is written again."""

from __future__ import annotations

from html import escape
from pathlib import Path

_START, _END = "<!-- author: what stands here stays -->", "<!-- /author -->"
_MOST_BYTES = 1 << 20
_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 56rem; margin: 2rem auto; padding: 0 1rem; color: #1b1f24; }}
table {{ border-collapse: collapse; margin: 1rem 0; }}
th, td {{ border-bottom: 1px solid #d8dee4; padding: .3rem .8rem .3rem 0; text-align: left; vertical-align: top; }}
code {{ font: .9em ui-monospace, monospace; overflow-wrap: anywhere; }}
</style>
</head>
<body>
{body}
</body>
</html>
"""


def as_page(card: str, title: str) -> str:
    """A card as a page that needs nothing else; what people wrote in it can do nothing."""
    from loopwright.ui import as_html

    return _PAGE.format(title=escape(title), body=as_html(card))


def keep_author(card: str, path: Path) -> str:
    """The card with a place for the author's own text, and what stands there in the file that it replaces."""
    held = ""
    if path.is_file() and path.stat().st_size <= _MOST_BYTES:
        _, started, rest = path.read_text(encoding="utf-8").partition(_START)
        text, ended, _ = rest.partition(_END)
        held = text.strip("\n") if started and ended else ""
    return f"{card}\n{_START}\n{held}\n{_END}\n"
