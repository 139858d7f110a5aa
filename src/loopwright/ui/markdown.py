"""Markdown of people and of cards as HTML that can do nothing: no HTML of its own, no pictures, only web links."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from markdown_it import MarkdownIt

_MAX = 200_000


@lru_cache(maxsize=1)
def _reader() -> MarkdownIt:
    from markdown_it import MarkdownIt

    reader = MarkdownIt("commonmark", {"html": False}).enable("table").disable(["image", "html_block", "html_inline"])
    reader.validateLink = _is_web  # type: ignore[method-assign,assignment]  # so the library says
    return reader


def _is_web(address: str) -> bool:
    """Whether a link may be one: to the web, or inside this site; never a script or data."""
    return address.startswith(("https://", "http://", "/", "#", "mailto:"))


def markdown(text: str) -> Any:
    """Markdown as markup; what is too long for that as text."""
    from markupsafe import Markup, escape

    if len(text) > _MAX:
        return Markup("<pre>{}</pre>").format(escape(text))
    return Markup(_reader().render(text))  # noqa: S704  the reader escapes all but its own few elements


def as_html(text: str) -> str:
    """The same as plain text, for files outside of the pages."""
    return str(markdown(text))
