"""Container images of bundles, written without a container engine: an OCI layout, or a Dockerfile and its context."""

from loopwright.serve.containers.base import Base, open_base
from loopwright.serve.containers.context import write_context
from loopwright.serve.containers.image import ImageReport, write_image

__all__ = ["Base", "ImageReport", "open_base", "write_context", "write_image"]
