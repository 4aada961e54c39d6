"""A batch off a queue: what can never be taken is dead-lettered at once, and the rest is done."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from aws_lambda_powertools import Logger

from recourse.declare.limits import words
from recourse.declare.saga import Saga
from recourse.errors import PoisonError, TransientError, UnreadableError
from recourse.events import Event
from recourse.queues.deadletters import FIFO_SUFFIX
from recourse.queues.message import Handler, Message
from recourse.queues.sources import SourceQueue, backoff

if TYPE_CHECKING:
    from aws_lambda_powertools.utilities.typing import LambdaContext

LAST_START = 10_000
"""Milliseconds that have to be left for another message: those of a transaction, and more."""

logger = Logger()
Record = Mapping[str, Any]


class Batch:
    """A batch of SQS records, as Lambda gets them.

    In a FIFO queue the messages of a group wait for each other: behind one that has to come again
    nothing of its group is taken, and all of it comes again.

    Args:
        records: The records.
        sagas: Every declaration, by name, where the messages are events.
        queue: Finds the queue that messages come from, by its ARN.
    """

    def __init__(
        self,
        records: Sequence[Record],
        sagas: Mapping[str, Saga],
        queue: Callable[[str], SourceQueue],
    ) -> None:
        self._records = records
        self._sagas = sagas
        self._queue = queue
        self._again: list[str] = []
        self._waiting: set[str] = set()

    def messages(self) -> Iterator[Record]:
        """Each record, without those that wait for one before them."""
        for record in self._records:
            if _lane(record) in self._waiting:
                self.again(record, 0)
            else:
                yield record

    def events(self) -> Iterator[tuple[Record, Event]]:
        """Each record with the event that it is; those that are none are dead-lettered."""
        for record in self.messages():
            try:
                event = Event.parse(record["body"], self._sagas)
            except UnreadableError as problem:
                self.dead_letter(record, problem)
            else:
                yield record, event

    def dead_letter(self, record: Record, problem: Exception) -> None:
        """Dead-letter a message, for no further try can do better; if that fails, try again."""
        about = {"message_id": record["messageId"]}
        try:
            self._queue(record["eventSourceARN"]).dead_letter(record, words(problem))
            logger.error("dead-lettered: %s", words(problem), extra=about)
        except TransientError as another:
            logger.warning(str(another), extra=about)
            self.again(record)

    def failed(self, record: Record, problem: Exception, seconds: int | None = None) -> None:
        """Let a message that failed come again; dead-letter it at its last receive.

        Args:
            record: The message.
            problem: Why it failed.
            seconds: After how many it comes; when its visibility ends where it is absent.
        """
        with suppress(TransientError):
            if self._queue(record["eventSourceARN"]).is_last_receive(record):
                self.dead_letter(record, problem)
                return
        self.again(record, seconds)

    def again(self, record: Record, seconds: int | None = None) -> None:
        """Let a message come again, after some seconds or else when its visibility ends."""
        self._again.append(record["messageId"])
        if seconds is not None:
            with suppress(TransientError):
                self._queue(record["eventSourceARN"]).delay(record, seconds)
        if lane := _lane(record):
            self._waiting.add(lane)

    def answer(self) -> dict[str, Any]:
        """Which messages have to come again, as Lambda wants to hear it."""
        return {"batchItemFailures": [{"itemIdentifier": one} for one in self._again]}


def handle_each(
    handle: Handler,
    records: Sequence[Record],
    queue: Callable[[str], SourceQueue],
    context: LambdaContext,
) -> dict[str, Any]:
    """Give each message of a batch to a handler, as `recourse worker` does.

    What fails comes again after a back-off; what is poison is dead-lettered at once. What there is
    no more time for comes again at once: a function that is cut off answers for none of its batch.

    Args:
        handle: The handler.
        records: The records.
        queue: Finds the queue that messages come from, by its ARN.
        context: Knows how much time the function has left.

    Returns:
        Which messages have to come again, as Lambda wants to hear it.
    """
    batch = Batch(records, {}, queue)
    for record in batch.messages():
        if context.get_remaining_time_in_millis() < LAST_START:
            batch.again(record, 0)
            continue
        message = Message.of(record)
        try:
            handle(message)
        except PoisonError as problem:
            batch.dead_letter(record, problem)
        except Exception as problem:
            logger.exception("failed", extra={"message_id": message.id})
            batch.failed(record, problem, backoff(message.receives))
    return batch.answer()


def _lane(record: Record) -> str | None:
    """The group within which a message has its place; None where the queue keeps no order."""
    fifo = record["eventSourceARN"].endswith(FIFO_SUFFIX)
    return record["attributes"]["MessageGroupId"] if fifo else None
