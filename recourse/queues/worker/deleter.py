"""Deletes the messages that were processed, ten at a time."""

from __future__ import annotations

import logging
import random
import time
from collections import deque
from collections.abc import Sequence
from threading import Condition, Event
from typing import TYPE_CHECKING, Any

from recourse.declare.limits import words
from recourse.queues.worker.capacity import Capacity
from recourse.queues.worker.delivery import BATCH, Delivery
from recourse.queues.worker.leases import Leases

if TYPE_CHECKING:
    from types_boto3_sqs import SQSClient

LINGER = 0.05
"""Seconds for which a delete waits for a full batch."""

logger = logging.getLogger(__name__)


class Deleter:
    """The messages to be deleted; several threads may run it.

    A delete that fails is retried until it succeeds, or until other workers may have the message.

    Args:
        sqs: An SQS client.
        queue_url: The queue.
        leases: Keep a message invisible until it is deleted.
        capacity: Bounds how many may wait to be deleted.
    """

    def __init__(self, sqs: SQSClient, queue_url: str, leases: Leases, capacity: Capacity) -> None:
        self._sqs = sqs
        self._url = queue_url
        self._leases = leases
        self._capacity = capacity
        self._changed = Condition()
        self._waiting: deque[Delivery] = deque()
        self._is_closed = False
        self._given_up = Event()
        self._noise = random.Random()

    def put(self, delivery: Delivery) -> None:
        """Queue a message to be deleted."""
        self._capacity.await_delete()
        with self._changed:
            self._waiting.append(delivery)
            self._changed.notify()

    def close(self) -> None:
        """Let `run` end once everything queued is deleted."""
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()

    def give_up(self) -> None:
        """Let `run` end at once: messages that SQS has not deleted are redelivered."""
        self._given_up.set()

    def run(self) -> None:
        """Delete what is queued, until closed or given up."""
        failures = 0
        while not self._given_up.is_set() and (batch := self._next_batch()):
            refused = self._delete(batch)
            failures = failures + 1 if refused else 0
            if refused:
                self._given_up.wait(self._noise.uniform(0, min(1, 0.05 * 2 ** min(failures, 10))))
                with self._changed:
                    self._waiting.extend(refused)

    def _next_batch(self) -> Sequence[Delivery]:
        """Wait for a full batch or for `LINGER`; empty when closed and nothing is queued."""
        with self._changed:
            while True:
                self._changed.wait_for(lambda: self._waiting or self._is_closed)
                self._changed.wait_for(
                    lambda: len(self._waiting) >= BATCH or self._is_closed, timeout=LINGER
                )
                # Another thread may have taken what there was.
                batch = [self._waiting.popleft() for _ in range(min(BATCH, len(self._waiting)))]
                if batch or self._is_closed:
                    return batch

    def _delete(self, batch: Sequence[Delivery]) -> Sequence[Delivery]:
        """Delete messages; returns those for which it has to be retried."""
        refused: dict[str, Any] = {}
        try:
            answer = self._sqs.delete_message_batch(
                QueueUrl=self._url,
                Entries=[
                    {"Id": str(index), "ReceiptHandle": one.receipt}
                    for index, one in enumerate(batch)
                ],
            )
            refused = {one["Id"]: one for one in answer.get("Failed", [])}
        except Exception as problem:
            refused = {str(index): {"Message": words(problem)} for index in range(len(batch))}
        again, ended, deleted = [], [], 0
        for index, one in enumerate(batch):
            why = refused.get(str(index))
            # Once it is visible to others its receipt handle is void, and they will delete it.
            if why and not why.get("SenderFault") and time.monotonic() < one.hidden_until:
                again.append(one)
                continue
            ended.append(one)
            if why is None:
                deleted += 1
            else:
                logger.warning("not deleted, will be redelivered: %s", why, extra=one.log_fields)
        self._leases.drop(ended)
        self._capacity.settle_deletes(len(ended), deleted=deleted)
        return again
