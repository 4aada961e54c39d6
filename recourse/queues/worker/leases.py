"""Until when each message in flight is invisible to others, and who may still settle it."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Sequence
from threading import Condition, Event
from typing import TYPE_CHECKING, Literal, NamedTuple

from recourse.declare.limits import words
from recourse.queues.worker.delivery import BATCH, Delivery

if TYPE_CHECKING:
    from types_boto3_sqs import SQSClient

logger = logging.getLogger(__name__)

Beginning = Literal["begun", "stopping", "too_late"]


class Change(NamedTuple):
    """A change of a message's visibility timeout that is to be made.

    Attributes:
        delivery: The message.
        seconds: For how long it is invisible from now on; 0 makes it visible at once.
    """

    delivery: Delivery
    seconds: int


class Due(NamedTuple):
    """What the heartbeat has to do now.

    Attributes:
        changes: Changes of visibility to be made, in this order.
        expired: Messages whose handlers took too long; their leases are not renewed any more.
    """

    changes: Sequence[Change]
    expired: Sequence[Delivery]


class Leases:
    """The leases on messages: each is renewed until it is released, dropped or expired.

    A handler that completes or ends a message may race with its expiry. The first decides the
    outcome, and the other learns that it is too late.

    A renewal never overwrites a release: a message's lease has ended before its release is queued,
    and `due` returns in one step what is queued and the renewals of the leases that exist. So any
    renewal of a message is returned before its release; and only one thread calls `due`, and makes
    those changes before it calls again.

    Args:
        visibility_timeout: Seconds for which a lease is renewed.
        handler_timeout: Seconds after which a handler counts as hanging.
        stopping: Set when no message may begin any more.
    """

    def __init__(self, visibility_timeout: int, handler_timeout: float, stopping: Event) -> None:
        self._visibility_timeout = visibility_timeout
        self._handler_timeout = handler_timeout
        self._stopping = stopping
        self._changed = Condition()
        self._leased: set[Delivery] = set()
        self._changes: list[Change] = []
        self._is_closed = False
        self._interval = visibility_timeout / 6
        self._next_renewal = time.monotonic() + self._interval

    def acquire(self, deliveries: Iterable[Delivery]) -> None:
        """Lease messages that were received just now."""
        with self._changed:
            self._leased.update(deliveries)

    def begin(self, delivery: Delivery) -> Beginning:
        """Let a handler begin, unless it is too late: then the lease ends."""
        with self._changed:
            # The worker sets it before it expires what is running, so that nothing begins after.
            if self._stopping.is_set():
                return "stopping"
            now = time.monotonic()
            # A renewal is due within one interval. With less than that left it may come too late,
            # and another worker would handle the message at the same time.
            if now > delivery.hidden_until - self._interval:
                self._leased.discard(delivery)
                return "too_late"
            delivery.state, delivery.begun = "running", now
        return "begun"

    def complete(self, delivery: Delivery) -> bool:
        """Mark a message as done, leased until it is deleted; whether it had not expired."""
        with self._changed:
            in_time = delivery.state != "expired"
            delivery.state = "done"
        return in_time

    def end(self, delivery: Delivery) -> bool:
        """End the lease of a message whose handler has failed; whether it had not expired."""
        with self._changed:
            self._leased.discard(delivery)
            return delivery.state != "expired"

    def release(self, delivery: Delivery, seconds: int) -> None:
        """End a lease, and have the message visible after some seconds; it must be unexpired."""
        with self._changed:
            # In one step: a renewal returned by `due` from now on would overwrite the release.
            self._leased.discard(delivery)
            self._changes.append(Change(delivery, seconds))
            self._changed.notify()

    def drop(self, deliveries: Iterable[Delivery]) -> None:
        """End the leases of messages that were deleted, or never will be."""
        with self._changed:
            self._leased.difference_update(deliveries)

    def expire(self, running_for: float = 0) -> Sequence[Delivery]:
        """End the leases of messages whose handlers have run for so many seconds; which."""
        with self._changed:
            return self._expire(running_for)

    def due(self) -> Due | None:
        """Wait until something is due; None when closed and nothing is queued."""
        with self._changed:
            self._changed.wait_for(
                lambda: self._changes or self._is_closed,
                timeout=max(0.0, self._next_renewal - time.monotonic()),
            )
            changes, self._changes = self._changes, []
            if not changes and self._is_closed:
                return None
            expired: Sequence[Delivery] = ()
            now = time.monotonic()
            if now >= self._next_renewal:
                self._next_renewal = now + self._interval
                expired = self._expire(self._handler_timeout)
                changes += [
                    Change(one, self._visibility_timeout)
                    for one in self._leased
                    if one.hidden_until - now < self._visibility_timeout * 2 / 3
                ]
        return Due(changes, expired)

    def close(self) -> None:
        """Renew no more; `due` still returns changes that are queued."""
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()

    @property
    def oldest_sent_at(self) -> float | None:
        """When the oldest leased message was sent, in seconds since 1970; None without any."""
        with self._changed:
            return min((one.sent_at for one in self._leased), default=None)

    def _expire(self, running_for: float) -> Sequence[Delivery]:
        now = time.monotonic()
        expired = [
            one for one in self._leased if one.state == "running" and now - one.begun >= running_for
        ]
        for one in expired:
            one.state = "expired"
            self._leased.discard(one)
        return expired


class Heartbeat:
    """Makes the changes of visibility that are due, one after another.

    One thread runs it, so that the changes of a message are made in the order of `Leases.due`, each
    one answered before the next is requested: `Leases` relies on that.

    Args:
        sqs: An SQS client.
        queue_url: The queue.
        leases: Says which changes are due.
        expire: Settles messages that have expired, with the reason for the log.
        handler_timeout: Seconds after which they have, for the log.
    """

    def __init__(
        self,
        sqs: SQSClient,
        queue_url: str,
        leases: Leases,
        expire: Callable[[Sequence[Delivery], str], None],
        *,
        handler_timeout: float,
    ) -> None:
        self._sqs = sqs
        self._url = queue_url
        self._leases = leases
        self._expire = expire
        self._handler_timeout = handler_timeout

    def run(self) -> None:
        """Make the changes that are due, until the leases are closed."""
        while due := self._leases.due():
            why = f"took more than {self._handler_timeout:g} s, will be redelivered"
            self._expire(due.expired, why)
            for first in range(0, len(due.changes), BATCH):
                self._make(due.changes[first : first + BATCH])

    def _make(self, changes: Sequence[Change]) -> None:
        # Taken before the call: SQS counts from later, so a message is invisible for at least this.
        now = time.monotonic()
        try:
            answer = self._sqs.change_message_visibility_batch(
                QueueUrl=self._url,
                Entries=[
                    {
                        "Id": str(index),
                        "ReceiptHandle": change.delivery.receipt,
                        "VisibilityTimeout": change.seconds,
                    }
                    for index, change in enumerate(changes)
                ],
            )
        except Exception as problem:
            logger.warning("visibility was not changed: %s", words(problem))
            return
        failed = {one["Id"]: one for one in answer.get("Failed", [])}
        for index, (delivery, seconds) in enumerate(changes):
            if refused := failed.get(str(index)):
                # A message that has been deleted meanwhile has no visibility timeout.
                if delivery.state != "done":
                    logger.warning(
                        "visibility was not changed: %s", refused, extra=delivery.log_fields
                    )
            else:
                delivery.hidden_until = now + seconds
