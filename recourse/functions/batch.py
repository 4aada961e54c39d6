"""A batch of SQS messages: what can never be processed is dead-lettered at once."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from aws_lambda_powertools import Logger

from recourse.declare.limits import words
from recourse.errors import PoisonError, TransientError, UnreadableError
from recourse.events import Event
from recourse.queues.deadletters import FIFO_SUFFIX
from recourse.queues.message import Handler, Message
from recourse.queues.sources import SourceQueue, backoff, log_fields

if TYPE_CHECKING:
    from aws_lambda_powertools.utilities.typing import LambdaContext

LEAST_TIME_LEFT = 10_000
"""Milliseconds that must be left before another message is begun: a transaction's, and a margin."""

logger = Logger()
Record = Mapping[str, Any]


class Batch:
    """A batch of SQS records, as Lambda receives them.

    In a FIFO queue the messages of a group keep their order: once one is to be retried, the rest of
    its group is retried as well, unprocessed.

    ::

        batch = Batch(event["Records"], kit.queue)
        for record, event in batch.events():
            try:
                ...
            except Exception as problem:
                batch.failed(record, problem)
        return batch.answer()

    Args:
        records: The records.
        queue: Finds the queue that messages come from, by its ARN.
    """

    def __init__(
        self,
        records: Sequence[Record],
        queue: Callable[[str], SourceQueue],
    ) -> None:
        self._records = records
        self._queue = queue
        self._retried: list[str] = []
        self._waiting: set[str] = set()

    def messages(self) -> Iterator[Record]:
        """Each record, but those behind one of their group that is to be retried."""
        for record in self._records:
            if _lane(record) in self._waiting:
                self.retry(record, 0)
            else:
                yield record

    def events(self) -> Iterator[tuple[Record, Event]]:
        """Each record with its event; what is not an event is dead-lettered."""
        for record in self.messages():
            try:
                event = Event.parse(record["body"], checked=True)
            except UnreadableError as problem:
                self.dead_letter(record, problem)
            else:
                yield record, event

    def dead_letter(
        self, record: Record, problem: Exception, also: Mapping[str, Any] = MappingProxyType({})
    ) -> None:
        """Dead-letter a message that no retry can help; if that fails, retry it.

        Args:
            record: The message.
            problem: Why no retry can help.
            also: What the log has of it beside the message and its event.
        """
        about = {**log_fields(record), **also}
        try:
            self._queue(record["eventSourceARN"]).dead_letter(record, words(problem))
            logger.error("dead-lettered: %s", words(problem), extra=about)
        except TransientError as another:
            logger.warning(str(another), extra=about)
            self.retry(record)

    def failed(self, record: Record, problem: Exception, seconds: int | None = None) -> None:
        """Retry a message that failed; at its last receive dead-letter it, with the reason.

        Args:
            record: The message.
            problem: Why it failed.
            seconds: The delay; by default it is retried when its visibility timeout ends.
        """
        with suppress(TransientError):
            if self._queue(record["eventSourceARN"]).is_last_receive(record):
                self.dead_letter(record, problem)
                return
        self.retry(record, seconds)

    def retry(self, record: Record, seconds: int | None = None) -> None:
        """Retry a message, after some seconds or else when its visibility timeout ends."""
        self._retried.append(record["messageId"])
        if seconds is not None:
            with suppress(TransientError):
                self._queue(record["eventSourceARN"]).delay(record, seconds)
        if lane := _lane(record):
            self._waiting.add(lane)

    def answer(self) -> dict[str, Any]:
        """Which messages are to be retried, as Lambda's partial batch response."""
        return {"batchItemFailures": [{"itemIdentifier": one} for one in self._retried]}


def handle_each(
    handle: Handler,
    records: Sequence[Record],
    queue: Callable[[str], SourceQueue],
    context: LambdaContext,
) -> dict[str, Any]:
    """Call a handler for each message of a batch, as `recourse worker` does.

    What fails is retried after a back-off; poison is dead-lettered at once. What there is no time
    left for is retried at once: a function that times out has its whole batch retried.

    Args:
        handle: The handler.
        records: The records.
        queue: Finds the queue that messages come from, by its ARN.
        context: Knows how much time the function has left.

    Returns:
        Which messages are to be retried, as Lambda's partial batch response.
    """
    batch = Batch(records, queue)
    for record in batch.messages():
        if context.get_remaining_time_in_millis() < LEAST_TIME_LEFT:
            batch.retry(record, 0)
            continue
        message = Message.of(record)
        try:
            handle(message)
        except PoisonError as problem:
            batch.dead_letter(record, problem)
        except Exception as problem:
            logger.exception("failed", extra=log_fields(record))
            batch.failed(record, problem, backoff(message.receives))
    return batch.answer()


def _lane(record: Record) -> str | None:
    """The group in which a message keeps its order; None where the queue is not FIFO."""
    fifo = record["eventSourceARN"].endswith(FIFO_SUFFIX)
    return record["attributes"]["MessageGroupId"] if fifo else None
