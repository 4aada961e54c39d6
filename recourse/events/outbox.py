"""The outbox: the row that takes an event from a step's transaction to the relay."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from recourse.declare.limits import EVENT
from recourse.errors import ResultTooLargeError
from recourse.events.event import Event

if TYPE_CHECKING:
    from recourse.declare.step import Item

RETENTION = timedelta(days=14)
"""How long an outbox or inbox row is kept after it was written, for a relay that was down."""


def expiry() -> int:
    """When a row that is written now expires, in seconds of the epoch."""
    return int((datetime.now(UTC) + RETENTION).timestamp())


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
