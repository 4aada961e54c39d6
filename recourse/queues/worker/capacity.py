"""How many more messages may be received: as many as handlers have time for; and the counts."""

from __future__ import annotations

from dataclasses import dataclass
from threading import Condition, Event
from typing import Literal

from recourse.queues.worker.delivery import BATCH

LINGER = 0.01
"""Seconds for which a receive waits for more handlers to have time."""
MAX_UNDELETED = 100
"""How many messages may wait to be deleted before no more are received."""
Outcome = Literal["done", "failed", "dead_lettered", "given_back", "expired"]
"""How a message may have left the hands of its handler, or never come into them."""


@dataclass
class Counts:
    """What a worker has done.

    Attributes:
        received: Messages received.
        done: Messages that the handler has returned from.
        failed: Messages that the handler has raised for, and that come again.
        dead_lettered: Messages that went to the dead-letter queue, with their reason.
        given_back: Messages that had not begun, and are there again at once.
        expired: Messages whose visibility was not extended any more: the handler took too long, or
            they waited too long.
        deleted: Messages deleted.
    """

    received: int = 0
    done: int = 0
    failed: int = 0
    dead_lettered: int = 0
    given_back: int = 0
    expired: int = 0
    deleted: int = 0

    def add(self, outcome: Outcome, messages: int = 1) -> None:
        """Count what became of messages."""
        setattr(self, outcome, getattr(self, outcome) + messages)

    @property
    def log_fields(self) -> dict[str, int]:
        """The counts by the names that they have in the log, which those who parse it rely on."""
        return {
            "received": self.received,
            "done": self.done,
            "failed": self.failed,
            "set_aside": self.dead_lettered,
            "given_back": self.given_back,
            "left": self.expired,
            "deleted": self.deleted,
        }


class Capacity:
    """The places of messages in hand, and what became of those that had one.

    Those in use and those requested are together never more than there are handlers: what a receive
    may bring has its place before SQS is asked. A message keeps its place until its outcome is
    counted, and one whose handler hangs until that ends, if ever: Python cannot end its thread.

    Args:
        max_in_flight: How many places there are.
        stopping: Set when no more is to be received.

    Attributes:
        counts: What became of the messages so far.
    """

    def __init__(self, max_in_flight: int, stopping: Event) -> None:
        self.counts = Counts()
        self._max = max_in_flight
        self._stopping = stopping
        self._changed = Condition()
        self._in_use = 0
        self._requested = 0
        self._hung = 0
        self._undeleted = 0
        self._is_flowing = False

    def reserve(self, *, even_idle: bool) -> int:
        """Wait until handlers have time; for how many messages. 0 when the worker stops.

        Args:
            even_idle: Whether to ask though the last receive has brought nothing. One receiver
                does: an empty queue answers more of them no sooner.
        """

        def may() -> bool:
            return self._stopping.is_set() or (self._free() > 0 and (even_idle or self._is_flowing))

        def is_full_batch() -> bool:
            return self._stopping.is_set() or self._free() >= min(BATCH, self._max)

        with self._changed:
            room = 0
            # While this receiver lingers, another may reserve what was free.
            while not room:
                self._changed.wait_for(may)
                # Where some are at work, more will have time in a moment: one receive for them all.
                if self._in_use:
                    self._changed.wait_for(is_full_batch, timeout=LINGER)
                if self._stopping.is_set():
                    return 0
                room = min(BATCH, self._free())
            self._requested += room
        return room

    def admit(self, reserved: int, received: int) -> None:
        """Give places to what was received, and free what was reserved beyond it."""
        with self._changed:
            self._requested -= reserved
            self._in_use += received
            self._is_flowing = received > 0
            self.counts.received += received
            self._changed.notify_all()

    def release(self, outcome: Outcome, places: int = 1) -> None:
        """Free the places of messages, and count what became of them."""
        with self._changed:
            self._in_use -= places
            self.counts.add(outcome, places)
            self._changed.notify_all()

    def hang(self) -> None:
        """Count a message as expired whose handler runs on, in its place."""
        with self._changed:
            self._hung += 1
            self.counts.expired += 1
            self._changed.notify_all()

    def release_hung(self, outcome: Outcome | None) -> None:
        """Free the place of a handler that was taken to hang, and has ended after all.

        Where it ends in the moment in which it is taken to hang, this may come before `hang`. In
        between one hangs too few, so that the worker seems neither idle nor stuck before it is.
        """
        with self._changed:
            self._in_use -= 1
            self._hung -= 1
            if outcome:
                self.counts.add(outcome)
            self._changed.notify_all()

    def await_delete(self) -> None:
        """Note that a message waits to be deleted."""
        with self._changed:
            self._undeleted += 1

    def settle_deletes(self, messages: int, *, deleted: int) -> None:
        """Note how many messages do not wait any more, and how many of those were deleted."""
        with self._changed:
            self._undeleted -= messages
            self.counts.deleted += deleted
            self._changed.notify_all()

    def close(self) -> None:
        """Let receivers that wait for room see that the worker stops."""
        with self._changed:
            self._changed.notify_all()

    def wait_until_idle(self, timeout: float) -> None:
        """Wait until no receive is under way, and no handler runs but those that hang."""
        with self._changed:
            self._changed.wait_for(
                lambda: not self._requested and self._in_use == self._hung, timeout=timeout
            )

    @property
    def in_use(self) -> int:
        """How many messages wait for their turn or are with their handler, hanging or not."""
        with self._changed:
            return self._in_use

    @property
    def is_stuck(self) -> bool:
        """Whether every handler hangs."""
        with self._changed:
            return self._hung >= self._max

    @property
    def log_fields(self) -> dict[str, int]:
        """What the log says: the counts, and how many places were in use in that moment."""
        with self._changed:
            return self.counts.log_fields | {"in_flight": self._in_use}

    def _free(self) -> int:
        if self._in_use + self._undeleted >= self._max + MAX_UNDELETED:
            return 0
        return max(0, self._max - self._in_use - self._requested)
