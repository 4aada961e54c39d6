"""The outbox: the row that takes an event from a step's transaction to the relay."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

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


def message_group(owner: str) -> str:
    """The message group of an owner: 32 hexadecimal digits, the same each time.

    It is on every message about the owner's sagas. SQS's fair queues deliver those of other groups
    first where one group has many in flight; a group that is new to a queue costs nothing. It is a
    digest, for it is on queues that more people may look into than may know who an owner is.
    """
    return hashlib.sha256(f"group#{owner}".encode()).hexdigest()[:32]


def group_of(image: Mapping[str, Any]) -> str | None:
    """The message group of a row, as its stream has it; None where it names no owner."""
    if "group" in image:
        return str(image["group"]["S"])
    return message_group(image["owner"]["S"]) if "owner" in image else None


def outbox_row(event: Event, owner: str) -> Item:
    """The row that takes an event from a step's transaction to the relay.

    Args:
        event: The event.
        owner: Who started its saga; the row has their message group.

    Raises:
        ResultTooLargeError: The event is larger than what can be published.
    """
    text = event.to_json()
    if (found := len(text.encode())) > EVENT:
        raise ResultTooLargeError(
            f"step {event.step!r}: its event must be at most {EVENT} bytes, got {found}"
        )
    return {
        "pk": f"outbox#{event.id}",
        "event": text,
        "group": message_group(owner),
        "expires_at": expiry(),
    }
