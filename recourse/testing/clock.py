"""Gap: moto's queues go by the machine's clock, so a message that is put off is waited for.

Here they go by a clock that a test moves on, and a poll of a queue that has nothing waits for
nothing: nobody sends meanwhile. And a message may be hidden for 12 hours from when it is received,
where moto counts from when it was sent: one that is older could not even be put back.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from moto.sqs import models

from recourse.testing.patching import replaced


class Clock:
    """A clock that runs with the machine's, or stands still, and can be moved on."""

    def __init__(self) -> None:
        self._ahead = 0.0
        self._stands_at: float | None = None

    def millis(self) -> float:
        """Milliseconds of the epoch."""
        return (self._stands_at or time.time() * 1000) + self._ahead

    @contextmanager
    def standing(self) -> Iterator[None]:
        """Stand still but for what it is moved on, for the length of a block."""
        self._stands_at = time.time() * 1000
        yield
        self._stands_at = None

    def seconds(self) -> float:
        """Seconds of the epoch."""
        return self.millis() / 1000

    def sleep(self, seconds: float) -> None:
        """Move on by so much."""
        self._ahead += seconds * 1000

    def reset(self) -> None:
        """Go by the machine's clock again."""
        self._ahead = 0.0

    def skip(self, moments: Iterable[float]) -> bool:
        """Move on to the first of these moments that is still to come; whether there is one."""
        now = self.millis()
        coming = [moment for moment in moments if moment >= now]
        if coming:
            self._ahead += min(coming) - now + 1
        return bool(coming)


@contextmanager
def virtual() -> Iterator[Clock]:
    """Let queues go by a clock of their own."""
    clock = Clock()
    receive = models.SQSBackend.receive_message

    def at_once(backend: models.SQSBackend, name: str, count: int, _: int, *more: Any) -> Any:
        return receive(backend, name, count, 0, *more)

    hide = models.SQSBackend.change_message_visibility

    def from_now(
        backend: models.SQSBackend, queue_name: str, receipt_handle: str, visibility_timeout: int
    ) -> None:
        messages = backend.get_queue(queue_name)._messages
        found: list[Any] = [one for one in messages if one.had_receipt_handle(receipt_handle)]
        sent = [message.sent_timestamp for message in found]
        for message in found:
            message.sent_timestamp = clock.millis()
        try:
            hide(backend, queue_name, receipt_handle, visibility_timeout)
        finally:
            for message, at in zip(found, sent, strict=True):
                message.sent_timestamp = at

    with (
        replaced(models, "unix_time_millis", clock.millis),
        replaced(models.SQSBackend, "receive_message", at_once),
        replaced(models.SQSBackend, "change_message_visibility", from_now),
    ):
        yield clock
