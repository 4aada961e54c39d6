"""What becomes of each message in hand; why no two threads can disagree about it.

**Ownership.** A message belongs to one thread at a time, or to the lane in which it waits: to the
receiver that received it, to its lane, to the handler that took it from there. Whoever owns it
settles it, and nobody else touches it, but for one case: a running message may be let expire, by
the heartbeat or at the end. `Leases` decides that race under its lock: of who completes it, who
ends its lease and who lets it expire, the first has it, and the others learn that they come too
late. So each message has one who moves its lane on or closes it, and one who frees its place. Only
what a handler has done in spite of its expiry is counted twice: as expired, and as done.

**Order.** What follows from an outcome is arranged before the place is free: the change of
visibility is queued, the delete too. So once every place is free all of it is queued, and the
worker may close the heartbeat and the deletes, which still do what is queued.

**Locks.** `Capacity`, `Lanes`, `Leases` and `Deleter` have one lock each, for their bookkeeping:
none is held while SQS, a handler, the log or another of these is called. No thread ever holds two,
so there is no order of locks to be kept, and nothing that could deadlock. A test watches it.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Literal

from recourse.worker.capacity import Capacity
from recourse.worker.deleter import Deleter
from recourse.worker.delivery import Delivery
from recourse.worker.lanes import Lanes
from recourse.worker.leases import Leases

logger = logging.getLogger(__name__)


class Settlement:
    """Carries out what becomes of messages; it has no state of its own.

    Args:
        capacity: Where each has its place.
        lanes: Where each waits for its turn.
        leases: What hides each from others.
        deleter: Deletes what is done.
    """

    def __init__(self, capacity: Capacity, lanes: Lanes, leases: Leases, deleter: Deleter) -> None:
        self._capacity = capacity
        self._lanes = lanes
        self._leases = leases
        self._deleter = deleter

    def admit(self, reserved: int, received: Sequence[Delivery]) -> None:
        """Take in what was received; when the worker stops, give it back."""
        self._capacity.admit(reserved, len(received))
        self._leases.acquire(received)
        self.give_back(self._lanes.enter(received))

    def begin(self, delivery: Delivery) -> bool:
        """Let a handler begin with a message; whether it may."""
        beginning = self._leases.begin(delivery)
        if beginning == "stopping":
            self.give_back([delivery, *self._lanes.close(delivery.lane)])
        elif beginning == "too_late":
            logger.warning("waited too long, and comes again", extra=delivery.log_fields)
            self.give_back(self._lanes.close(delivery.lane))
            self._capacity.release("expired")
        return beginning == "begun"

    def complete(self, delivery: Delivery, outcome: Literal["done", "dead_lettered"]) -> None:
        """Delete what is done with, though it may have expired before."""
        in_time = self._leases.complete(delivery)
        self._deleter.put(delivery)
        if in_time:
            self._lanes.advance(delivery.lane)
            self._capacity.release(outcome)
        else:
            self._capacity.release_hung(outcome)

    def retry(self, delivery: Delivery, pause: int) -> None:
        """Let a message come again after some seconds, and give back what waits behind it."""
        if not self._leases.end(delivery):
            # Somebody else may have it by now, and its lane was closed when it expired.
            self._capacity.release_hung(None)
            return
        # Closed before SQS may give the message to us again: it would enter the lane that it holds
        # up, and be given back with what waits there, untried.
        behind = self._lanes.close(delivery.lane)
        self._leases.release(delivery, pause)
        self.give_back(behind)
        self._capacity.release("failed")

    def expire(self, expired: Sequence[Delivery], why: str) -> None:
        """Leave messages to come again that have expired, while their handlers run on."""
        for one in expired:
            logger.error(why, extra=one.log_fields)
            self.give_back(self._lanes.close(one.lane))
            self._capacity.hang()

    def give_back(self, deliveries: Sequence[Delivery]) -> None:
        """Let messages come again at once that have not begun."""
        for one in deliveries:
            self._leases.release(one, 0)
        if deliveries:
            self._capacity.release("given_back", len(deliveries))
