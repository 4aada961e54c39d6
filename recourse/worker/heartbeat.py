"""Keeps hidden what is in hand, and shows again what is not: every change of visibility."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from recourse.queues import words
from recourse.worker.delivery import BATCH
from recourse.worker.leases import Change, Leases
from recourse.worker.settlement import Settlement

if TYPE_CHECKING:
    from types_boto3_sqs import SQSClient

logger = logging.getLogger(__name__)


class Heartbeat:
    """Makes the changes of visibility that are due, one after another.

    One thread runs it. That the changes of a message are made in the order in which they were
    handed out, and that each has its answer before the next is asked for, is what `Leases` needs.

    Args:
        sqs: An SQS client.
        queue_url: The queue.
        leases: Where the changes come from.
        settlement: Is told which messages have expired.
        handler_timeout: Seconds after which they have, for the log.
    """

    def __init__(
        self,
        sqs: SQSClient,
        queue_url: str,
        leases: Leases,
        settlement: Settlement,
        *,
        handler_timeout: float,
    ) -> None:
        self._sqs = sqs
        self._url = queue_url
        self._leases = leases
        self._settlement = settlement
        self._handler_timeout = handler_timeout

    def run(self) -> None:
        """Make what is due until there is nothing any more."""
        while due := self._leases.due():
            why = f"took more than {self._handler_timeout:g} s, and comes again"
            self._settlement.expire(due.expired, why)
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
