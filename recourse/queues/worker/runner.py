"""Calls the handler for each message, and decides what a failure means."""

from __future__ import annotations

import logging

from recourse.declare.limits import words
from recourse.errors import PoisonError, TransientError
from recourse.queues.message import Handler
from recourse.queues.sources import SourceQueue, backoff
from recourse.queues.worker.delivery import Delivery
from recourse.queues.worker.lanes import Lanes
from recourse.queues.worker.settlement import Settlement

logger = logging.getLogger(__name__)


class Runner:
    """Calls the handler; as many threads run it as messages may be handled at once.

    Args:
        handler: Processes a message; raises where it could not.
        lanes: Where the messages come from.
        settlement: Carries out the outcome of each.
        source: Their queue, which knows its dead-letter queue.
        max_receives: How often the queue delivers a message; None where it has no dead-letter
            queue, and delivers it without limit.
        retry_backoff_initial: Seconds, at the most, before a message that failed is retried.
        retry_backoff_cap: Seconds to which this grows.
    """

    def __init__(
        self,
        handler: Handler,
        lanes: Lanes,
        settlement: Settlement,
        source: SourceQueue,
        *,
        max_receives: int | None,
        retry_backoff_initial: float,
        retry_backoff_cap: float,
    ) -> None:
        self._handler = handler
        self._lanes = lanes
        self._settlement = settlement
        self._source = source
        self._max_receives = max_receives
        self._retry_backoff_initial = retry_backoff_initial
        self._retry_backoff_cap = retry_backoff_cap

    def run(self) -> None:
        """Handle messages until there are no more."""
        while delivery := self._lanes.next():
            if self._settlement.begin(delivery):
                self._handle(delivery)

    def _handle(self, delivery: Delivery) -> None:
        problem: BaseException | None = None
        try:
            self._handler(delivery.message)
        except BaseException as raised:  # even SystemExit ends a message, not a thread
            problem = raised
        if problem is None:
            self._settlement.complete(delivery, "done")
        # After its expiry another worker may have it, which will process or dead-letter it.
        elif delivery.state != "expired" and self._dead_letter(delivery, problem):
            self._settlement.complete(delivery, "dead_lettered")
        else:
            self._retry(delivery, problem)

    def _dead_letter(self, delivery: Delivery, problem: BaseException) -> bool:
        """Dead-letter what is poison or failed at its last receive; whether it was."""
        most = self._max_receives
        is_last_receive = most is not None and delivery.message.receives >= most
        if most is None or not (is_last_receive or isinstance(problem, PoisonError)):
            return False
        try:
            self._source.dead_letter(delivery.record, words(problem))
        except TransientError as another:
            logger.warning(str(another), extra=delivery.log_fields)
            return False
        logger.error(
            "dead-lettered: %s", words(problem), extra=delivery.log_fields, exc_info=problem
        )
        return True

    def _retry(self, delivery: Delivery, problem: BaseException) -> None:
        pause = backoff(
            delivery.message.receives, self._retry_backoff_initial, self._retry_backoff_cap
        )
        logger.warning(
            "failed: %s",
            words(problem),
            extra=delivery.log_fields | {"pause": pause},
            exc_info=problem,
        )
        self._settlement.retry(delivery, pause)
