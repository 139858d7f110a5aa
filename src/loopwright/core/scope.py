"""On whose behalf, in which project and because of what a service acts."""

from __future__ import annotations

import msgspec


class Scope(msgspec.Struct, frozen=True):
    """Bound to a service when it is made; recorded on each event that the service raises.

    `cause` is the ref of the event, or the id of the request, that led here.
    """

    project: str = "default"
    actor: str = "user:local"
    cause: str = ""

    def because(self, cause: str) -> Scope:
        """The same scope with another cause."""
        return Scope(self.project, self.actor, cause)
