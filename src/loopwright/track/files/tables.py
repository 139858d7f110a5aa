"""The tables of files that hang on other things than runs, and of uploads in parts.

The files of runs are in `run_artifacts`. A part of an upload is an object like any other: until the upload is complete
nothing but its row here refers to it.
"""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Index, Integer, String, Table

from loopwright.store import UtcTime, metadata

kept_files = Table(
    "kept_files",
    metadata,
    Column("project", String(128), primary_key=True),
    Column("owner", String(64), primary_key=True),
    Column("path", String(1024), primary_key=True),
    Column("digest", String(64), nullable=False),
    Column("size_bytes", BigInteger, nullable=False),
    Column("created_at", UtcTime, nullable=False),
    Index("ix_kept_files_digest", "digest"),
    sqlite_with_rowid=False,
)

uploads = Table(
    "uploads",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("project", String(128), nullable=False),
    Column("owner", String(64), nullable=False),
    Column("path", String(1024), nullable=False),
    Column("parts", Integer, nullable=False),
    Column("secret", String(64), nullable=False),
    Column("actor", String(200), nullable=False),
    Column("created_at", UtcTime, nullable=False),
    Index("ix_uploads_created", "created_at"),
    sqlite_with_rowid=False,
)

upload_parts = Table(
    "upload_parts",
    metadata,
    Column("upload", String(32), primary_key=True),
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("digest", String(64), nullable=False),
    Column("size_bytes", BigInteger, nullable=False),
    Index("ix_upload_parts_digest", "digest"),
    sqlite_with_rowid=False,
)
