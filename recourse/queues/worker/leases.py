"""What is hidden from others for us, until when, and who may still decide about it."""

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
    """A change of visibility that is to be made.

    Attributes:
        delivery: Of what.
        seconds: For how long it is hidden from now on; 0 gives it back.
    """

    delivery: Delivery
    seconds: int


class Due(NamedTuple):
    """What there is to do.

    Attributes:
        changes: Changes of visibility to be made, in this order.
        expired: Messages whose handlers have had their time; they are not renewed any more.
    """

    changes: Sequence[Change]
    expired: Sequence[Delivery]


class Leases:
    """The leases on messages: each is renewed until it is released, dropped or expired.

    Of a handler that completes or ends a message and those who let it expire, the first decides
    what becomes of it, and the others are told that they come too late.

    A renewal never overwrites a release: a message's lease has ended before its release is queued,
    and `due` hands out in one step what is queued and the renewals of the leases that are there. So
    whatever renewal of a message there was is handed out before its release; and one thread alone
    asks for what is due, and makes it before it asks again.

    Args:
        visibility_timeout: Seconds that a lease is renewed for.
        handler_timeout: Seconds after which a handler is taken to hang.
        stopping: Set when nothing is to begin any more.
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
        """Keep messages hidden that were received just now."""
        with self._changed:
            self._leased.update(deliveries)

    def begin(self, delivery: Delivery) -> Beginning:
        """Let a handler begin, unless it is too late; then the lease is over."""
        with self._changed:
            # Set before the worker lets what is running expire: whatever begins, begins before.
            if self._stopping.is_set():
                return "stopping"
            now = time.monotonic()
            # One interval is what a renewal needs to be in time, so no other worker has it yet.
            if now > delivery.hidden_until - self._interval:
                self._leased.discard(delivery)
                return "too_late"
            delivery.state, delivery.begun = "running", now
        return "begun"

    def complete(self, delivery: Delivery) -> bool:
        """Note that a message is done: hidden until it is deleted; whether it had not expired."""
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
        """Let a message come again after some seconds; it must not have expired."""
        with self._changed:
            # In one step: a renewal that is handed out from now on would come after the release.
            self._leased.discard(delivery)
            self._changes.append(Change(delivery, seconds))
            self._changed.notify()

    def drop(self, deliveries: Iterable[Delivery]) -> None:
        """End the leases of messages that were deleted, or never will be."""
        with self._changed:
            self._leased.difference_update(deliveries)

    def expire(self, running_for: float = 0) -> Sequence[Delivery]:
        """Leave messages to come again whose handlers have run for so many seconds; which."""
        with self._changed:
            return self._expire(running_for)

    def due(self) -> Due | None:
        """Wait until something is to be done; None where there will be nothing any more."""
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
        """Renew no more; changes that are queued are still handed out."""
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()

    @property
    def oldest_sent_at(self) -> float | None:
        """When the oldest message in hand was sent, in seconds since 1970; None without any."""
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

    One thread runs it. That the changes of a message are made in the order in which they were
    handed out, and that each has its answer before the next is asked for, is what `Leases` needs.

    Args:
        sqs: An SQS client.
        queue_url: The queue.
        leases: Where the changes come from.
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
        """Make what is due until there is nothing any more."""
        while due := self._leases.due():
            why = f"took more than {self._handler_timeout:g} s, and comes again"
            self._expire(due.expired, why)
            for first in range(0, len(due.changes), BATCH):
                self._make(due.changes[first : first + BATCH])

    def _make(self, changes: Sequence[Change]) -> None:
        # What SQS does takes effect after this, so nothing is hidden for less than we think.
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
                # What has been deleted meanwhile has no visibility.
                if delivery.state != "done":
                    logger.warning(
                        "visibility was not changed: %s", refused, extra=delivery.log_fields
                    )
            else:
                delivery.hidden_until = now + seconds
