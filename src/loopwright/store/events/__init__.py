"""Events: the append-only log that is audit trail, trigger source and live feed at once."""

from loopwright.store.events.log import EventLog
from loopwright.store.events.model import AuditReport, Event
from loopwright.store.events.sealer import Sealer

__all__ = ["AuditReport", "Event", "EventLog", "Sealer"]
