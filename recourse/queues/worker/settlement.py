"""The outcome of each message in flight, and why no two threads can disagree about it.

**Ownership.** A message has one owner at a time: the receiver thread that received it, then the
lane in which it waits, then the handler thread that got it from there. The owner settles it, and
no other thread touches it, with one exception: a running message may expire, by the heartbeat or
when the worker ends. `Leases` decides that race under its lock: of completing a message, ending its
lease and expiring it, the first wins, and the others learn that they are too late. So exactly one
thread advances or closes its lane, and exactly one frees its place. Only a message that its handler
completed in spite of its expiry is counted twice: as expired, and as done.

**Order.** What follows from an outcome (the change of visibility, the delete) is queued before the
place is freed. So once every place is free everything is queued, and the worker may close the
heartbeat and the deleter, which still do what is queued.

**Locks.** `Capacity`, `Lanes`, `Leases` and `Deleter` have one lock each, for their own state: none
is held while SQS, a handler, the log or another of these is called. No thread ever holds two, so
there is no lock order to keep and no deadlock. A test asserts it.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Literal

from recourse.queues.worker.capacity import Capacity
from recourse.queues.worker.deleter import Deleter
from recourse.queues.worker.delivery import Delivery
from recourse.queues.worker.lanes import Lanes
from recourse.queues.worker.leases import Leases

logger = logging.getLogger(__name__)


class Settlement:
    """Carries out the outcomes of messages; it has no state of its own.

    Args:
        capacity: Where each has its place.
        lanes: Where each waits for its turn.
        leases: Keep each invisible to others.
        deleter: Deletes what is done.
    """

    def __init__(self, capacity: Capacity, lanes: Lanes, leases: Leases, deleter: Deleter) -> None:
        self._capacity = capacity
        self._lanes = lanes
        self._leases = leases
        self._deleter = deleter

    def admit(self, reserved: int, received: Sequence[Delivery]) -> None:
        """Let what was received enter its lanes; when the worker stops, give it back."""
        self._capacity.admit(reserved, len(received))
        self._leases.acquire(received)
        self.give_back(self._lanes.enter(received))

    def begin(self, delivery: Delivery) -> bool:
        """Let a handler begin with a message; whether it may."""
        beginning = self._leases.begin(delivery)
        if beginning == "stopping":
            self.give_back([delivery, *self._lanes.close(delivery.lane)])
        elif beginning == "too_late":
            logger.warning("waited too long, will be redelivered", extra=delivery.log_fields)
            self.give_back(self._lanes.close(delivery.lane))
            self._capacity.release("expired")
        return beginning == "begun"

    def complete(self, delivery: Delivery, outcome: Literal["done", "dead_lettered"]) -> None:
        """Delete a processed message, even if it has expired before."""
        in_time = self._leases.complete(delivery)
        self._deleter.put(delivery)
        if in_time:
            self._lanes.advance(delivery.lane)
            self._capacity.release(outcome)
        else:
            self._capacity.release_hung(outcome)

    def retry(self, delivery: Delivery, pause: int) -> None:
        """Have a message redelivered after some seconds; give back what waits behind it."""
        if not self._leases.end(delivery):
            # Another worker may have it by now, and its lane was closed when it expired.
            self._capacity.release_hung(None)
            return
        # Closed before SQS may redeliver the message to this worker: it would enter the lane that
        # it holds up, and be given back with what waits there, untried.
        behind = self._lanes.close(delivery.lane)
        self._leases.release(delivery, pause)
        self.give_back(behind)
        self._capacity.release("failed")

    def expire(self, expired: Sequence[Delivery], why: str) -> None:
        """Leave expired messages to be redelivered; their handlers still run and keep places."""
        for one in expired:
            logger.error(why, extra=one.log_fields)
            self.give_back(self._lanes.close(one.lane))
            self._capacity.hang()

    def give_back(self, deliveries: Sequence[Delivery]) -> None:
        """Make messages visible again at once that no handler has begun."""
        for one in deliveries:
            self._leases.release(one, 0)
        if deliveries:
            self._capacity.release("given_back", len(deliveries))
