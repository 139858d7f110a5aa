"""Storage options of a URL, in the forms that delta-rs and Polars take."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

_DELTA_ONLY = {"aws_conditional_put", "conditional_put", "aws_s3_allow_unsafe_rename"}
_SHORT = {
    "key": "aws_access_key_id",
    "secret": "aws_secret_access_key",
    "token": "aws_session_token",
    "region": "aws_region",
    "endpoint_url": "aws_endpoint_url",
}
_ROW_GROUP_ROWS = 131_072
_CHECKPOINT_COMMITS = 10


def delta_options(given: Mapping[str, str]) -> dict[str, str]:
    """For delta-rs: lower-case names, commits by conditional put, plain HTTP where the endpoint says so."""
    options = {_SHORT.get(name.lower(), name.lower()): value for name, value in given.items()}
    options.setdefault("aws_conditional_put", "etag")
    if options.get("aws_endpoint_url", "").startswith("http://"):
        options.setdefault("aws_allow_http", "true")
    return options


def polars_options(options: Mapping[str, str] | None) -> dict[str, str] | None:
    """The same for Polars, which only reads."""
    if options is None:
        return None
    return {name: value for name, value in options.items() if name not in _DELTA_ONLY}


def table_properties() -> dict[str, str | None]:
    """What a new table is told about itself: who opens it reads the log from the last checkpoint on, not all of it."""
    return {"delta.checkpointInterval": str(_CHECKPOINT_COMMITS)}


def writer_properties() -> Any:
    """How Parquet is written: zstd, and row groups small enough to bound the writer's memory."""
    from deltalake import WriterProperties

    return WriterProperties(compression="ZSTD", compression_level=1, max_row_group_size=_ROW_GROUP_ROWS)


def commit_properties(info: Mapping[str, str] | None, transaction: tuple[str, int] | None) -> Any:
    """What is recorded with a commit."""
    from deltalake import CommitProperties, Transaction

    transactions: Sequence[Any] = [Transaction(*transaction)] if transaction else []
    return CommitProperties(custom_metadata=dict(info or {}), app_transactions=list(transactions))
