"""Receives messages, as many as handlers are free."""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Sequence
from threading import Event
from typing import TYPE_CHECKING

from recourse.declare.limits import words
from recourse.queues.worker.capacity import Capacity
from recourse.queues.worker.delivery import Delivery
from recourse.queues.worker.settlement import Settlement

if TYPE_CHECKING:
    from types_boto3_sqs import SQSClient

MAX_PAUSE = 30
"""Seconds between two receives at the most, while they fail."""

logger = logging.getLogger(__name__)


class Receiver:
    """Polls SQS for messages; several threads may run it.

    Args:
        sqs: An SQS client.
        queue_url: The queue.
        capacity: Says how many may be received.
        settlement: Is given what was received.
        stopping: Set when no more messages are to be received.
        fifo: Whether the queue is FIFO.
        visibility_timeout: Seconds for which a message is invisible once received.
        receive_wait_time: Seconds that a receive waits for messages.
    """

    def __init__(
        self,
        sqs: SQSClient,
        queue_url: str,
        capacity: Capacity,
        settlement: Settlement,
        stopping: Event,
        *,
        fifo: bool,
        visibility_timeout: int,
        receive_wait_time: int,
    ) -> None:
        self._sqs = sqs
        self._url = queue_url
        self._capacity = capacity
        self._settlement = settlement
        self._stopping = stopping
        self._fifo = fifo
        self._visibility_timeout = visibility_timeout
        self._receive_wait_time = receive_wait_time
        self._noise = random.Random()

    def run(self, *, even_idle: bool) -> None:
        """Receive until the worker stops, with a back-off while SQS fails.

        Args:
            even_idle: Whether to poll while the queue is empty.
        """
        failures = 0
        while room := self._capacity.reserve(even_idle=even_idle):
            received: Sequence[Delivery] = ()
            try:
                received = self._receive(room)
                failures = 0
            except Exception as problem:
                failures += 1
                logger.warning("nothing was received: %s", words(problem))
            # Also after a failure: it frees the places that were reserved.
            self._settlement.admit(room, received)
            if failures:
                most = min(MAX_PAUSE, 0.1 * 2 ** min(failures, 10))
                self._stopping.wait(self._noise.uniform(most / 2, most))

    def _receive(self, room: int) -> Sequence[Delivery]:
        got = self._sqs.receive_message(
            QueueUrl=self._url,
            MaxNumberOfMessages=room,
            VisibilityTimeout=self._visibility_timeout,
            WaitTimeSeconds=self._receive_wait_time,
            AttributeNames=["ApproximateReceiveCount", "MessageGroupId", "SentTimestamp"],
            MessageAttributeNames=["All"],
        )
        hidden_until = time.monotonic() + self._visibility_timeout
        return [
            Delivery.of(one, fifo=self._fifo, hidden_until=hidden_until)
            for one in got.get("Messages", [])
        ]
