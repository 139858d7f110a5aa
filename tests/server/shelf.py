"""A small, real service: books on shelves, kept in memory, per project. It exercises every kind of operation."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum

import msgspec

from loopwright.core import Conflict, Corrupt, Forbidden, Invalid, NotFound, Scope, Unavailable, operation


class Genre(StrEnum):
    PROSE = "prose"
    VERSE = "verse"


class Book(msgspec.Struct, frozen=True):
    title: str
    pages: int
    genre: Genre = Genre.PROSE
    printed: datetime | None = None


class ShelfService:
    """Books of the scope's project."""

    kept: dict[tuple[str, str], Book] = {}

    def __init__(self, scope: Scope) -> None:
        self.scope = scope

    @operation("shelf.put", permission="shelf:write", effect="write")
    def put(self, book: Book) -> Book:
        """Put a book on the shelf."""
        self.kept[(self.scope.project, book.title)] = book
        return book

    @operation("shelf.get", permission="shelf:read")
    def get(self, title: str) -> Book:
        """One book."""
        try:
            return self.kept[(self.scope.project, title)]
        except KeyError:
            raise NotFound(f"there is no book {title!r}", where="title", next_step="see shelf.find") from None

    @operation("shelf.find", permission="shelf:read")
    def find(
        self,
        genre: Genre | None = None,
        pages: int = 0,
        thick: bool = False,
        words: tuple[str, ...] = (),
        since: datetime | None = None,
    ) -> list[Book]:
        """Books with at least so many pages."""
        least = 500 if thick else pages
        found = [book for (project, _), book in self.kept.items() if project == self.scope.project]
        found = [book for book in found if book.pages >= least and genre in (None, book.genre)]
        if since is not None:
            found = [book for book in found if book.printed is not None and book.printed >= since]
        return [book for book in found if all(word in book.title for word in words)]

    @operation("shelf.weigh", permission="shelf:read")
    def weigh(self, books: list[Book]) -> dict[str, float]:
        """The weight of each book, in grams."""
        return {book.title: book.pages * 2.5 for book in books}

    @operation("shelf.burn", permission="shelf:admin", effect="write")
    def burn(self) -> None:
        """Remove all books of the project."""
        for key in [key for key in self.kept if key[0] == self.scope.project]:
            del self.kept[key]

    @operation("shelf.fail", permission="shelf:read")
    def fail(self, how: str) -> str:
        """Fail in the named way."""
        where = "/home/someone/project/.loopwright/loopwright.db"
        kinds = {kind.code: kind for kind in (Invalid, Forbidden, NotFound, Conflict, Unavailable, Corrupt)}
        if how in kinds:
            raise kinds[how](f"the file {where} is odd", where=f"{where}:12", next_step=f"look at {where}")
        raise RuntimeError(f"SELECT secret FROM tokens; see {where}")

    @operation("shelf.scope", permission="shelf:read")
    def who(self) -> Scope:
        """Who asks, in which project, because of what."""
        return self.scope

    def scan(self) -> None:
        """Not an operation: it works on this machine only."""
