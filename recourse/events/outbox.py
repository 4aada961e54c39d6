"""The outbox: the row that takes an event from a step's transaction to the relay."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from recourse.declare.limits import EVENT
from recourse.errors import ResultTooLargeError
from recourse.events.event import Event
from recourse.store import retention

if TYPE_CHECKING:
    from recourse.declare.step import Item


def expiry() -> int:
    """When an outbox row that is written now expires, in seconds of the epoch."""
    return int(datetime.now(UTC).timestamp()) + retention.for_a_time("events")


def inbox_expiry(waits: float = 0) -> int:
    """When an inbox row that is written now expires, in seconds of the epoch.

    Args:
        waits: For how many seconds it may wait for another event.
    """
    return expiry() + retention.INBOX + math.ceil(waits)


def outbox_row(event: Event) -> Item:
    """The row that takes an event from a step's transaction to the relay.

    Raises:
        ResultTooLargeError: The event is larger than what can be published.
    """
    text = event.to_json()
    if (found := len(text.encode())) > EVENT:
        raise ResultTooLargeError(
            f"step {event.step!r}: its event must be at most {EVENT} bytes, got {found}"
        )
    return {"pk": f"outbox#{event.id}", "event": text, "expires_at": expiry()}
