"""Outside file systems by URL, through fsspec. An unknown scheme is an error; it never becomes a local folder."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from loopwright.core import Invalid, missing_extra

_S3 = {"s3", "s3a"}
_ATOMIC = {"s3", "s3a", "gs", "gcs", "abfs", "abfss", "az", "memory"}
_S3_NAMES = {
    "aws_access_key_id": "key",
    "aws_secret_access_key": "secret",
    "aws_session_token": "token",
    "aws_endpoint_url": "endpoint_url",
    "aws_endpoint": "endpoint_url",
    "endpoint_url": "endpoint_url",
    "key": "key",
    "secret": "secret",
    "token": "token",
}
_S3_REGION = {"aws_region", "aws_default_region", "region"}
_DELTA_ONLY = {"aws_allow_http", "allow_http", "aws_conditional_put", "conditional_put", "aws_s3_allow_unsafe_rename"}


def is_url(place: str) -> bool:
    """Whether a place is written as a URL rather than as a path."""
    return "://" in place


def scheme_of(url: str) -> str:
    """The scheme of a URL, in lower case."""
    return url.split("://", 1)[0].lower()


def writes_are_atomic(scheme: str) -> bool:
    """Whether a file of this kind of store appears only when it is whole."""
    return scheme in _ATOMIC


def puts_are_conditional(scheme: str) -> bool:
    """Whether a put can be made to fail when the key is taken."""
    return scheme in _S3


def open_filesystem(url: str, options: Mapping[str, str] | None = None) -> tuple[Any, str]:
    """The fsspec file system behind a URL, and the root path inside it.

    Args:
        url: such as `s3://bucket/prefix` or `sftp://host/folder`.
        options: the storage options of the workspace. For S3 the names of AWS's variables, in lower or upper case.

    Raises:
        Invalid: an unknown scheme, or one whose library is not installed.
    """
    import fsspec

    scheme = scheme_of(url)
    arguments = _s3_arguments(options or {}) if scheme in _S3 else dict(options or {})
    try:
        filesystem, root = fsspec.core.url_to_fs(
            url, use_listings_cache=False, skip_instance_cache=scheme in _S3, **arguments
        )
    except ImportError:
        raise missing_extra("s3fs" if scheme in _S3 else f"fsspec[{scheme}]", "s3", f"the place {url}") from None
    except ValueError as error:
        raise Invalid(
            f"the place {url!r} cannot be opened: {error}", next_step="use a folder, s3://… or another fsspec URL"
        ) from None
    return filesystem, str(root).rstrip("/")


def _s3_arguments(options: Mapping[str, str]) -> dict[str, Any]:
    arguments: dict[str, Any] = {}
    for name, value in options.items():
        lower = name.lower()
        if lower in _S3_NAMES:
            arguments[_S3_NAMES[lower]] = value
        elif lower in _S3_REGION:
            arguments["client_kwargs"] = {"region_name": value}
        elif lower not in _DELTA_ONLY:
            raise Invalid(
                f"there is no storage option {name!r} for S3",
                next_step=f"known: {', '.join(sorted({*_S3_NAMES, *_S3_REGION, *_DELTA_ONLY}))}",
            )
    return arguments
