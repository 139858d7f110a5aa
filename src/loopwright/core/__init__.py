"""The words that every room uses: ids, digests, refs, schemas, operations, errors, clock, settings, plug-ins."""

from loopwright.core.canonical import decode, encode
from loopwright.core.clock import Clock, ManualClock, SystemClock
from loopwright.core.compiled import WITHOUT, wants_compiled
from loopwright.core.digests import digest_bytes, digest_file, digest_stream, digest_value, is_digest
from loopwright.core.errors import (
    KINDS,
    Conflict,
    Corrupt,
    Forbidden,
    Invalid,
    LoopwrightError,
    NotFound,
    Unauthorized,
    Unavailable,
    missing_extra,
)
from loopwright.core.ids import id_bytes, id_seeds, ids_from, is_id, new_id, new_ids, time_of
from loopwright.core.names import check_model_name, check_name, check_path
from loopwright.core.operations import Effect, Operation, operation, operations_of
from loopwright.core.places import user_cache
from loopwright.core.plugins import Registry
from loopwright.core.processes import Finished, run_program
from loopwright.core.progress import Reporter, Task, progress, shown_by
from loopwright.core.refs import Ref, parse_ref
from loopwright.core.schemas import DType, Field, Schema
from loopwright.core.scope import Scope, new_request
from loopwright.core.settings import DATA_FOLDER, FILE_NAME, Location, Settings, load_settings, locate

__all__ = [
    "DATA_FOLDER",
    "FILE_NAME",
    "KINDS",
    "WITHOUT",
    "Clock",
    "Conflict",
    "Corrupt",
    "DType",
    "Effect",
    "Field",
    "Finished",
    "Forbidden",
    "Invalid",
    "Location",
    "LoopwrightError",
    "ManualClock",
    "NotFound",
    "Operation",
    "Ref",
    "Registry",
    "Reporter",
    "Schema",
    "Scope",
    "Settings",
    "SystemClock",
    "Task",
    "Unauthorized",
    "Unavailable",
    "check_model_name",
    "check_name",
    "check_path",
    "decode",
    "digest_bytes",
    "digest_file",
    "digest_stream",
    "digest_value",
    "encode",
    "id_bytes",
    "id_seeds",
    "ids_from",
    "is_digest",
    "is_id",
    "load_settings",
    "locate",
    "missing_extra",
    "new_id",
    "new_ids",
    "new_request",
    "operation",
    "operations_of",
    "parse_ref",
    "progress",
    "run_program",
    "shown_by",
    "time_of",
    "user_cache",
    "wants_compiled",
]
