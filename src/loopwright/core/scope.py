"""On whose behalf, in which project and because of what a service acts."""

from __future__ import annotations

import msgspec

from loopwright.core.ids import new_id


class Scope(msgspec.Struct, frozen=True):
    """Bound to a service when it is made; recorded on each event that the service raises.

    `cause` is the ref of what led here: an event's, such as `event:0197…`, or a request's (`new_request`).
    """

    project: str = "default"
    actor: str = "user:local"
    cause: str = ""

    def because(self, cause: str) -> Scope:
        """The same scope with another cause."""
        return Scope(self.project, self.actor, cause)

    @property
    def follows_event(self) -> bool:
        """Whether an event led here, and not only somebody's request."""
        return bool(self.cause) and not self.cause.startswith(_REQUEST)


_REQUEST = "request:"


def new_request(request_id: str = "") -> str:
    """The cause of what somebody asks for, by a command, a program or over HTTP: `request:<id>`, with a new id unless
    one is given. One command, one opened workspace and one HTTP request each are one request."""
    return _REQUEST + (request_id or new_id())
