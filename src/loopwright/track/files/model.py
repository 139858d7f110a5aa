"""The words of kept files: who owns them, what a folder lists, an upload in parts."""

from __future__ import annotations

import re
from datetime import datetime
from enum import StrEnum

import msgspec

from loopwright.core import Invalid, is_id


class OwnerKind(StrEnum):
    RUN = "run"
    MODEL = "model"
    TRACE = "trace"


_FORMS = {OwnerKind.MODEL: re.compile(r"m-[0-9a-f]{32}"), OwnerKind.TRACE: re.compile(r"tr-[0-9a-f]{32}")}


class Owner(msgspec.Struct, frozen=True):
    """What files hang on: a run, a logged model (`m-…`) or a trace (`tr-…`)."""

    kind: OwnerKind
    id: str

    def __str__(self) -> str:
        return f"{self.kind}:{self.id}"


def parse_owner(text: str) -> Owner:
    """The owner in `run:<id>`, `model:m-<id>` or `trace:tr-<id>`.

    Raises:
        Invalid: it has another form.
    """
    kind, _, id = text.partition(":")
    if kind in OwnerKind._value2member_map_:
        owner = Owner(OwnerKind(kind), id)
        form = _FORMS.get(owner.kind)
        if is_id(id) if form is None else form.fullmatch(id):
            return owner
    raise Invalid(f"{text[:80]!r} owns no files", next_step="write run:ID, model:m-ID or trace:tr-ID")


class Entry(msgspec.Struct, frozen=True):
    """What a folder holds under one name: a file with its size, or a folder. `path` begins at the owner."""

    path: str
    is_folder: bool
    size_bytes: int = 0

    @property
    def name(self) -> str:
        """The last part of the path."""
        return self.path.rpartition("/")[2]


class Upload(msgspec.Struct, frozen=True):
    """A file that comes in parts. `secret` proves to be its uploader; it is told once."""

    id: str
    owner: str
    path: str
    parts: int
    created_at: datetime
    secret: str = ""


class Part(msgspec.Struct, frozen=True):
    """One part of an upload, as its uploader names it. `digest` is what the part's reply said."""

    number: int
    digest: str
