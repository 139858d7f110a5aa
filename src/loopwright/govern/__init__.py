"""Access control: tokens, roles by project, and the judgement of permissions.

Names that need the database load it when they are first asked for.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from loopwright.govern.judgement import LEVELS, PUBLIC, allows, authorise, check_permission, role_in
from loopwright.govern.model import (
    EVERY_PROJECT,
    LOCAL_ACTOR,
    Identity,
    NewToken,
    Role,
    Session,
    Token,
    local_identity,
)

if TYPE_CHECKING:
    from loopwright.govern.authenticate import Authenticator
    from loopwright.govern.held import held_refs
    from loopwright.govern.history import HistoryService
    from loopwright.govern.service import TokenService
    from loopwright.govern.storage import Collection, Hold, StorageService
    from loopwright.govern.webhooks.formats import Format
    from loopwright.govern.webhooks.model import Message, Webhook
    from loopwright.govern.webhooks.sender import WebhookSender
    from loopwright.govern.webhooks.service import WebhookService

_LAZY = {"Authenticator": "authenticate", "HistoryService": "history", "TokenService": "service", "held_refs": "held"}
_LAZY |= dict.fromkeys(("Collection", "Hold", "StorageService"), "storage")
_LAZY |= {"Format": "webhooks.formats", "Message": "webhooks.model", "Webhook": "webhooks.model"}
_LAZY |= {"WebhookSender": "webhooks.sender", "WebhookService": "webhooks.service"}

__all__ = [
    "EVERY_PROJECT",
    "LEVELS",
    "LOCAL_ACTOR",
    "PUBLIC",
    "Authenticator",
    "Collection",
    "Format",
    "HistoryService",
    "Hold",
    "Identity",
    "Message",
    "NewToken",
    "Role",
    "Session",
    "StorageService",
    "Token",
    "TokenService",
    "Webhook",
    "WebhookSender",
    "WebhookService",
    "allows",
    "authorise",
    "check_permission",
    "held_refs",
    "local_identity",
    "role_in",
]


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_LAZY[name]}"), name)
